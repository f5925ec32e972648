"""Results on disk: labelled arrays, folders replaced entry by entry, blocks that survive kills.

A sweep's store is a Zarr group. Its arrays are the summary, one labelled dataset. Below it, in
`blocks/`, lie the finished blocks it is computed from: one array of records per cell, one chunk
per block. A chunk carries its own CRC-32C and comes into being by a rename, so a block is whole or
absent, whatever kills the process; a flipped bit is found when it is read. Values of single
initialisations, where kept, are written before the record, so that the record marks a block.
"""

import contextlib
import fcntl
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import xarray as xr
import zarr
import zarr.codecs
import zarr.errors
from jaxtyping import Float

SCHEMA = 1
# As many blocks as a cell can ever have: what is not written takes no space.
MAX_BLOCKS = 2**31


class StoreInUseError(ValueError):
    """Another sweep is writing to the store."""


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
    if {x for x in entries if x != ".lock" and not x.startswith(".new-")} and not (
        path / "blocks" / "zarr.json"
    ).is_file():
        raise ValueError(f"out: expected a sweep's store or a new path, got {path}")


def remove_scratch(path: Path) -> None:
    """Remove what a killed process left of a summary; the store has to be locked."""
    for folder in path.glob(".new-*"):
        shutil.rmtree(folder, ignore_errors=True)


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


@contextlib.contextmanager
def locked(path: Path, *, is_member: bool = False) -> Iterator[IO[bytes]]:
    """Hold the store's lock, which the operating system drops with the process.

    Args:
      path: of the store, a folder.
      is_member: share the lock with the other processes of one distributed sweep.

    Yields:
      The lock's file; `share` lets members in.

    Raises:
      StoreInUseError: if another sweep holds the lock.
    """
    with open(path / ".lock", "a+b") as file:  # NFS shares a lock only on readable files
        try:
            fcntl.flock(file, (fcntl.LOCK_SH if is_member else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StoreInUseError(f"out: expected no other sweep on {path}, got one") from None
        yield file


@contextlib.contextmanager
def one_at_a_time(path: Path) -> Iterator[None]:
    """Wait until no other process of this sweep replaces the summary."""
    with open(path / ".summary-lock", "a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def share(lock: IO[bytes]) -> None:
    """Let the other processes of this sweep share the lock, and still nobody else."""
    fcntl.flock(lock, fcntl.LOCK_SH)


class Blocks:
    """The finished blocks of a sweep."""

    def __init__(self, path: Path):
        """Open the blocks of the store at `path`, or start with none.

        Raises:
          ValueError: if the store is of another schema, or damaged.
        """
        self.path = path / "blocks"
        if not self.path.exists():
            with staged(path) as folder:
                zarr.create_group(folder / "blocks", zarr_format=3, attributes={"schema": SCHEMA})
        try:
            self._group = zarr.open_group(self.path, mode="r+")
        except ValueError as error:
            raise ValueError(f"damaged file {self.path / 'zarr.json'}: {error}") from error
        schema = self._group.attrs.get("schema")
        if schema != SCHEMA:
            raise ValueError(f"out: expected a store of schema {SCHEMA}, got schema {schema}")
        self._arrays: dict[tuple[str, str], zarr.Array] = {}

    @property
    def header(self) -> dict[str, Any]:
        """What the blocks were computed for; empty before the first `set_header`."""
        return {key: value for key, value in self._group.attrs.items() if key != "schema"}

    def set_header(self, header: Mapping[str, Any]) -> None:
        """Replace the header."""
        self._group.attrs.put({"schema": SCHEMA, **header})

    def present(self, cell: str) -> list[int]:
        """Return the numbers of the blocks of a cell that are there, ascending."""
        folder = self.path / cell / "record" / "c"
        if not folder.is_dir():
            return []
        return sorted(int(x.name) for x in folder.iterdir() if (x / "0").is_file())

    def read(self, cell: str, block: int, length: int) -> Float[np.ndarray, " length"]:
        """Return the record of a block that is there.

        Raises:
          ValueError: names the file if it is damaged.
        """
        return self.read_values(cell, "record", block, length, np.float64)

    def read_values(self, cell: str, name: str, block: int, length: int, dtype) -> np.ndarray:
        """Return an array of a block: its record, or kept values of its initialisations.

        Raises:
          ValueError: names the file if it is damaged or missing.
        """
        file = self.path / cell / name / "c" / str(block) / "0"
        if not file.is_file():
            raise ValueError(f"damaged block: expected a file {file}, got none")
        try:
            return np.asarray(self._array(cell, name, (length,), dtype)[block])
        except ValueError as error:
            raise ValueError(f"damaged block {file}: {error}") from error

    def write(
        self,
        cell: str,
        block: int,
        record: Float[np.ndarray, " length"],
        init_values: Mapping[str, np.ndarray],
    ) -> None:
        """Store a block: values of single initialisations first, the record last."""
        for name, values in {**init_values, "record": record}.items():
            self._array(cell, name, values.shape, values.dtype)[block] = values

    def _array(self, cell: str, name: str, shape: tuple[int, ...], dtype) -> zarr.Array:
        if (cell, name) not in self._arrays:
            with contextlib.suppress(zarr.errors.ContainsArrayError):
                self._group.create_array(
                    f"{cell}/{name}",
                    shape=(MAX_BLOCKS, *shape),
                    chunks=(1, *shape),
                    dtype=dtype,
                    compressors=zarr.codecs.Crc32cCodec(),
                    fill_value=0,
                    config={"write_empty_chunks": True},  # no file would mean no block
                )
            self._arrays[cell, name] = zarr.open_array(self.path / cell / name, mode="r+")
        return self._arrays[cell, name]
