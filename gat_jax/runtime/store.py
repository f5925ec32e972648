"""Results on disk: labelled arrays, folders replaced entry by entry, blocks that survive kills.

A sweep's store is a Zarr group. Its arrays are the summary, one labelled dataset. Below it, in
`blocks/`, lie the finished blocks it is computed from: one array of records per cell, one chunk
per block, and what the numbers of a record mean in the array's attributes. A chunk carries its own
CRC-32C and comes into being by a rename, so a block is whole or absent, whatever kills the process;
a flipped bit is found when it is read. Values of single initialisations, where kept, are written
before the record, so that the record marks a block.
"""

import contextlib
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
import zarr
import zarr.codecs
import zarr.errors
from jaxtyping import Float

from gat_jax.runtime import locks

# As many blocks as a cell can ever have: what is not written takes no space.
MAX_BLOCKS = 2**31
RECORD = "record"  # the name of the array that marks a block


class Form(NamedTuple):
    """What an array of blocks looks like."""

    length: int  # numbers of one block
    dtype: Any  # of NumPy
    attributes: Mapping[str, Any] = {}  # JSON: what the numbers mean


class DamagedBlockError(ValueError):
    """A block cannot be read; computing it again replaces it."""


def check_writable(directory: Path) -> None:
    """Create the folder of results, or fail before any work is done.

    Raises:
      ValueError: if nothing can be written there.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        reason = error.strerror or error
        raise ValueError(
            f"out: expected a folder to write to, got {directory} ({reason})"
        ) from None


def check_store(path: Path) -> None:
    """Check that a folder is a sweep's store, or empty, before anything is written into it.

    Raises:
      ValueError: if it holds something else.
    """
    check_writable(path)
    entries = {entry.name for entry in path.iterdir()}
    ours = (locks.STORE_LOCK, ".new-")
    if {x for x in entries if not x.startswith(ours)} and not (
        path / "blocks" / "zarr.json"
    ).is_file():
        raise ValueError(f"out: expected a sweep's store or a new path, got {path}")


def remove_scratch(path: Path) -> None:
    """Remove what a killed process left of a summary; the store has to be locked."""
    for folder in path.glob(".new-*"):
        shutil.rmtree(folder, ignore_errors=True)
    locks.remove_stale(path)


@contextlib.contextmanager
def staged(directory: Path) -> Iterator[Path]:
    """Give a scratch folder whose entries replace those of `directory` when all is well.

    If the body fails, `directory` is left as it was. Entries are replaced one by one: each changes
    at once, a kill in between leaves some old and some new.
    """
    scratch = Path(tempfile.mkdtemp(prefix=".new-", dir=directory))
    try:
        yield scratch
        for entry in sorted(scratch.iterdir()):
            target = directory / entry.name
            if target.is_dir():
                # A folder cannot be replaced in one step: move the old one aside first.
                os.replace(target, scratch / f".old-{entry.name}")
            os.replace(entry, target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def save(dataset: xr.Dataset, path: Path) -> None:
    """Write a dataset as a Zarr store; `xarray.open_zarr(path)` opens it."""
    # Zarr 3 specifies strings of variable length, and none of fixed length.
    names = [name for name, coord in dataset.coords.items() if coord.dtype.kind == "U"]
    dataset = dataset.assign_coords({name: dataset[name].astype(object) for name in names})
    with warnings.catch_warnings():
        # Consolidated metadata is what `open_zarr` looks for first, and not yet in the standard.
        warnings.filterwarnings("ignore", message="Consolidated metadata", category=UserWarning)
        dataset.to_zarr(path, mode="w", zarr_format=3, consolidated=True)


def load(path: Path) -> xr.Dataset:
    """Open a store that `save` wrote.

    Raises:
      ValueError: if there is none.
    """
    if not (path / "zarr.json").is_file():
        raise ValueError(f"store: expected a Zarr store, got {path}")
    return xr.open_zarr(path)


class Blocks:
    """The finished blocks of a sweep: records of numbers, and values of single initialisations."""

    def __init__(self, path: Path, *, schema: int):
        """Open the blocks of a store, or start with none.

        Args:
          path: of the store.
          schema: number of what the records hold; one store has one schema.

        Raises:
          ValueError: if the store is of another schema, or damaged.
        """
        self.path = path / "blocks"
        self._schema = schema
        if not self.path.exists():
            with staged(path) as folder:
                zarr.create_group(folder / "blocks", zarr_format=3, attributes={"schema": schema})
        try:
            self._group = zarr.open_group(self.path, mode="r+")
        except ValueError as error:
            raise ValueError(f"damaged file {self.path / 'zarr.json'}: {error}") from error
        found = self._group.attrs.get("schema")
        if found != schema:
            raise ValueError(
                f"out: expected a store of schema {schema}, got schema {found} in {path}, "
                "written by another version of gat_jax; choose a new path"
            )
        self._arrays: dict[tuple[str, str], zarr.Array] = {}

    @property
    def header(self) -> dict[str, Any]:
        """What the blocks were computed for; empty before the first `set_header`."""
        return {key: value for key, value in self._group.attrs.items() if key != "schema"}

    def set_header(self, header: Mapping[str, Any]) -> None:
        """Replace the header."""
        self._group.attrs.put({"schema": self._schema, **header})

    def present(self, cell: str) -> list[int]:
        """Return the numbers of the blocks of a cell that are there, ascending."""
        folder = self.path / cell / RECORD / "c"
        if not folder.is_dir():
            return []
        return sorted(int(x.name) for x in folder.iterdir() if (x / "0").is_file())

    def read(self, cell: str, name: str, block: int, form: Form) -> np.ndarray:
        """Return an array of a block: its record, or kept values of its initialisations.

        Args:
          cell: the cell's folder.
          name: of the array; the record's is `RECORD`.
          block: its number.
          form: of the array.

        Raises:
          DamagedBlockError: names the file if it is damaged or missing.
          ValueError: if the store holds this array in another form.
        """
        file = self.path / cell / name / "c" / str(block) / "0"
        if not file.is_file():
            raise DamagedBlockError(f"damaged block: expected a file {file}, got none")
        array = self._array(cell, name, form)
        try:
            return np.asarray(array[block])
        except ValueError as error:
            raise DamagedBlockError(f"damaged block {file}: {error}") from error

    def write(
        self,
        cell: str,
        block: int,
        record: Float[np.ndarray, " length"],
        attributes: Mapping[str, Any],
        init_values: Mapping[str, np.ndarray],
    ) -> None:
        """Store a block: values of single initialisations first, the record last.

        Args:
          cell: the cell's folder.
          block: its number.
          record: its numbers.
          attributes: what they mean, the same for all blocks of a cell.
          init_values: an array for each kind of value, of the same length in all blocks.
        """
        for name, values in init_values.items():
            self._array(cell, name, Form(len(values), values.dtype))[block] = values
        self._array(cell, RECORD, Form(len(record), record.dtype, attributes))[block] = record

    def _array(self, cell: str, name: str, form: Form) -> zarr.Array:
        """Return the array of all blocks of a cell, made where there is none.

        Metadata that are damaged count as none: they are written anew, and the blocks stay.

        Raises:
          ValueError: if there is one of another form.
        """
        if (cell, name) not in self._arrays:
            # A block of zeros must have a file as well, or it would not be there.
            with zarr.config.set({"array.write_empty_chunks": True}):
                with contextlib.suppress(zarr.errors.ContainsArrayError):
                    self._group.create_array(
                        f"{cell}/{name}",
                        shape=(MAX_BLOCKS, form.length),
                        chunks=(1, form.length),
                        dtype=form.dtype,
                        attributes=dict(form.attributes),
                        compressors=zarr.codecs.Crc32cCodec(),
                        fill_value=0,
                    )
                array = zarr.open_array(self.path / cell / name, mode="r+")
            found = Form(array.shape[1], array.dtype, array.attrs.asdict())
            if found != form._replace(dtype=np.dtype(form.dtype)):
                raise ValueError(
                    f"out: expected the fields of schema {self._schema}, got others in "
                    f"{self.path / cell / name}"
                )
            self._arrays[cell, name] = array
        return self._arrays[cell, name]
