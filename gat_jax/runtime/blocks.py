"""Blocks of a sweep on disk: whole or absent, whatever kills the process.

In `blocks/` of a sweep's store lie the finished blocks that its summary is computed from: one array
of records per cell, one chunk per block, and what the numbers of a record mean in the array's
attributes. A chunk carries its own CRC-32C and comes into being by a rename; a flipped bit is found
when it is read. Values of single initialisations, where kept, are written before the record, so
that the record marks a block. What the blocks are blocks of stands in the attributes of the folder,
the *header*.
"""

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import zarr
import zarr.codecs
import zarr.errors
from jaxtyping import Float

from gat_jax.runtime.store import METADATA, staged

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


class Blocks:
    """The finished blocks of a sweep: records of numbers, and values of single initialisations."""

    def __init__(self, path: Path, *, schema: int, is_read_only: bool = False):
        """Open the blocks of a store, or start with none.

        Args:
          path: of the store.
          schema: number of what the records hold; one store has one schema.
          is_read_only: write nothing, not even what is missing.

        Raises:
          ValueError: if the store is of another schema, or damaged.
        """
        self.path = path / "blocks"
        self._schema = schema
        self._is_read_only = is_read_only
        if not self.path.exists() and not is_read_only:
            with staged(path) as folder:
                zarr.create_group(folder / "blocks", zarr_format=3, attributes={"schema": schema})
        self._header = self._read_header(path)
        self._group = zarr.open_group(self.path, mode="r" if is_read_only else "r+")
        self._arrays: dict[tuple[str, str], zarr.Array] = {}

    def _read_header(self, path: Path) -> dict[str, Any]:
        file = self.path / METADATA
        try:
            group = json.loads(file.read_text(encoding="utf-8"))
            is_group = group["zarr_format"] == 3 and group["node_type"] == "group"
            found = dict(group.get("attributes", {}))
        except FileNotFoundError:
            raise ValueError(f"store: expected a sweep's store, got one without {file}") from None
        # JSON that is damaged, or that is something else.
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"damaged file {file}: {error}") from error
        if not is_group or set(group) - {"attributes", "zarr_format", "node_type"}:
            raise ValueError(f"damaged file {file}: expected the metadata of a group of Zarr 3")
        number = found.pop("schema", None)
        if number != self._schema or isinstance(number, bool):
            raise ValueError(
                f"out: expected a store of schema {self._schema}, got schema {number} in {path}, "
                "written by another version of gat_jax; choose a new path"
            )
        return found

    @property
    def header(self) -> dict[str, Any]:
        """What the blocks were computed for; empty before the first `set_header`."""
        return dict(self._header)

    def set_header(self, header: Mapping[str, Any]) -> None:
        """Replace the header."""
        self._group.attrs.put({"schema": self._schema, **header})
        self._header = dict(header)

    def present(self, cell: str) -> list[int]:
        """Return the numbers of the blocks of a cell that are there, ascending."""
        folder = self.path / cell / RECORD / "c"
        if not folder.is_dir():
            return []
        return sorted(
            int(x.name)
            for x in folder.iterdir()
            if x.name.isascii() and x.name.isdecimal() and (x / "0").is_file()
        )

    def attributes(self, cell: str, name: str) -> dict[str, Any]:
        """Return what the numbers of an array mean, as its first block said; empty: no array."""
        array = self._opened(cell, name)
        return {} if array is None else array.attrs.asdict()

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
          DamagedBlockError: if they are damaged and nothing may be written.
          ValueError: if there is one of another form.
        """
        if (cell, name) not in self._arrays:
            array = self._opened(cell, name) or self._made(cell, name, form)
            found = Form(array.shape[-1], array.dtype, array.attrs.asdict())
            if found != form._replace(dtype=np.dtype(form.dtype)):
                raise ValueError(
                    f"out: expected the fields of schema {self._schema}, got others in "
                    f"{self.path / cell / name}"
                )
            self._arrays[cell, name] = array
        return self._arrays[cell, name]

    def _opened(self, cell: str, name: str) -> zarr.Array | None:
        """Return an array that is there and has the layout of blocks."""
        mode = "r" if self._is_read_only else "r+"
        try:
            # A block of zeros must have a file as well, or it would not be there.
            with zarr.config.set({"array.write_empty_chunks": True}):
                array = zarr.open_array(self.path / cell / name, mode=mode)
        # Zarr says in many ways that metadata are missing, or damaged.
        except (ValueError, LookupError, TypeError, AttributeError, FileNotFoundError):
            return None
        length = array.shape[-1] if array.shape else 0
        is_ours = array.shape == (MAX_BLOCKS, length) and array.chunks == (1, length)
        return array if is_ours else None

    def _made(self, cell: str, name: str, form: Form) -> zarr.Array:
        file = self.path / cell / name / METADATA
        if self._is_read_only:
            raise DamagedBlockError(f"damaged file {file}: expected the metadata of blocks")
        file.unlink(missing_ok=True)
        with (
            zarr.config.set({"array.write_empty_chunks": True}),
            contextlib.suppress(zarr.errors.ContainsArrayError),  # another process was faster
        ):
            return self._group.create_array(
                f"{cell}/{name}",
                shape=(MAX_BLOCKS, form.length),
                chunks=(1, form.length),
                dtype=form.dtype,
                attributes=dict(form.attributes),
                compressors=zarr.codecs.Crc32cCodec(),
                fill_value=0,
            )
        return zarr.open_array(self.path / cell / name, mode="r+")
