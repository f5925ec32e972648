"""Blocks of a sweep on disk: whole or absent, whatever kills the process.

In `blocks/` of a sweep's store lie the finished blocks that its summary is computed from: one array
of records per cell, one chunk per block, and what the numbers of a record mean in the array's
attributes. A chunk carries its own CRC-32C and comes into being by a rename; a flipped bit is found
when it is read. Values of single initialisations, where kept, are written before the record, so
that the record marks a block. What the blocks are blocks of stands in the attributes of the folder,
the *header*.

Zarr reads and writes the metadata. Chunks are written and read here, as its standard says (numbers
in little-endian order, then their CRC-32C): on its way through Zarr's event loop a chunk of a
kilobyte takes ten times as long, and an accelerator finishes thousands of blocks in a second.
"""

import contextlib
import json
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import google_crc32c
import numpy as np
import zarr
import zarr.codecs
import zarr.errors
from jaxtyping import Float

from gat_jax.runtime.store import METADATA, staged

# As many blocks as a cell can ever have: what is not written takes no space.
MAX_BLOCKS = 2**31
CHECKSUM_BYTES = 4  # of a CRC-32C, at the end of a chunk
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
        self._sound: set[tuple[str, str]] = set()  # cells' arrays whose form was compared

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
        known = {"attributes", "zarr_format", "node_type", "consolidated_metadata"}
        if not is_group or set(group) - known:
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
        with os.scandir(folder) as entries:
            return sorted(
                int(x.name)
                for x in entries
                if x.name.isdecimal()
                and x.name == str(int(x.name))
                and os.path.isfile(f"{x.path}/0")
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
        file = self._chunk(cell, name, block)
        try:
            with open(file, "rb") as opened:
                chunk = opened.read()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise DamagedBlockError(f"damaged block: expected a file {file}, got none") from None
        self._check_form(cell, name, form)
        try:
            return _decoded(chunk, form)
        except ValueError as error:
            raise DamagedBlockError(f"damaged block {file}: {error}") from None

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
        assert not self._is_read_only
        for name, values in init_values.items():
            self._check_form(cell, name, Form(len(values), values.dtype))
            _replace(self._chunk(cell, name, block), _encoded(values))
        self._check_form(cell, RECORD, Form(len(record), record.dtype, attributes))
        _replace(self._chunk(cell, RECORD, block), _encoded(record))

    def _chunk(self, cell: str, name: str, block: int) -> str:
        return os.path.join(self.path, cell, name, "c", str(block), "0")

    def _check_form(self, cell: str, name: str, form: Form) -> None:
        """See, once, that the array of all blocks of a cell is there, or make it.

        Metadata that are damaged count as none: they are written anew, and the blocks stay.

        Raises:
          DamagedBlockError: if they are damaged and nothing may be written.
          ValueError: if there is one of another form.
        """
        if (cell, name) in self._sound:
            return
        array = self._opened(cell, name) or self._made(cell, name, form)
        found = Form(array.shape[-1], array.dtype, array.attrs.asdict())
        if found != form._replace(dtype=np.dtype(form.dtype)):
            raise ValueError(
                f"out: expected the fields of schema {self._schema}, got others in "
                f"{self.path / cell / name}"
            )
        self._sound.add((cell, name))

    def _opened(self, cell: str, name: str) -> zarr.Array | None:
        """Return an array that is there and has the layout of blocks."""
        mode = "r" if self._is_read_only else "r+"
        try:
            array = zarr.open_array(self.path / cell / name, mode=mode)
            if not array.attrs.asdict() and name == RECORD:  # which says what its numbers mean
                return None
        # Zarr says in many ways that metadata are missing, or damaged.
        except (ValueError, LookupError, TypeError, AttributeError, OSError, RecursionError):
            return None
        length = array.shape[-1] if array.shape else 0
        is_ours = array.shape == (MAX_BLOCKS, length) and array.chunks == (1, length)
        return array if is_ours and _is_encoded_as_here(array) else None

    def _made(self, cell: str, name: str, form: Form) -> zarr.Array:
        file = self.path / cell / name / METADATA
        if self._is_read_only or file.is_dir():
            raise DamagedBlockError(f"damaged file {file}: expected the metadata of blocks")
        file.unlink(missing_ok=True)
        with contextlib.suppress(zarr.errors.ContainsArrayError):  # another process was faster
            return self._group.create_array(
                f"{cell}/{name}",
                shape=(MAX_BLOCKS, form.length),
                chunks=(1, form.length),
                dtype=form.dtype,
                attributes=dict(form.attributes),
                serializer=zarr.codecs.BytesCodec(endian="little"),
                compressors=zarr.codecs.Crc32cCodec(),
                fill_value=0,
            )
        return zarr.open_array(self.path / cell / name, mode="r+")


# --- chunks -------------------------------------------------------------------------------------


def _is_encoded_as_here(array: zarr.Array) -> bool:
    """Whether the metadata say what `_encoded` and `Blocks._chunk` do."""
    metadata: dict[str, Any] = array.metadata.to_dict()
    codecs = [
        {"name": "bytes", "configuration": {"endian": "little"}},
        {"name": "crc32c"},
    ]
    names = {"name": "default", "configuration": {"separator": "/"}}
    return [*metadata["codecs"]] == codecs and metadata["chunk_key_encoding"] == names


def _encoded(values: np.ndarray) -> bytes:
    """Return the bytes of a chunk: numbers in little-endian order, then their CRC-32C."""
    data = values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes()
    return data + google_crc32c.value(data).to_bytes(CHECKSUM_BYTES, "little")


def _decoded(chunk: bytes, form: Form) -> np.ndarray:
    """Undo `_encoded`.

    Raises:
      ValueError: if the chunk has another length, or another checksum than its numbers.
    """
    dtype = np.dtype(form.dtype)
    expected = form.length * dtype.itemsize + CHECKSUM_BYTES
    if len(chunk) != expected:
        raise ValueError(f"expected {expected} bytes, got {len(chunk)}")
    data, checksum = chunk[:-CHECKSUM_BYTES], chunk[-CHECKSUM_BYTES:]
    if google_crc32c.value(data) != int.from_bytes(checksum, "little"):
        raise ValueError("expected numbers that their checksum fits, got others")
    return np.frombuffer(data, dtype.newbyteorder("<")).astype(dtype)


def _replace(file: str, data: bytes) -> None:
    """Write a file that is whole or absent, and make its folder.

    Raises:
      OSError: if the disk refuses; the file is then as it was.
    """
    os.makedirs(os.path.dirname(file), exist_ok=True)
    scratch = f"{file}.{uuid.uuid4().hex}.partial"  # as Zarr calls its own
    try:
        with open(scratch, "xb") as opened:
            opened.write(data)
        os.replace(scratch, file)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(scratch)
        raise
