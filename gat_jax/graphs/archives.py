"""Reading arrays out of `.npz` and `.npy` files that may be anything at all.

`numpy.load` trusts what a file claims: it takes the memory that a header asks for, and raises what
its libraries raise. Here the claims are compared with each other and with the machine's memory
before any is taken, nothing is unpickled, and every failure is one line that names the file.
"""

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gat_jax.runtime.arrays import memory_limit, shown
from gat_jax.runtime.named_files import check_regular, reason_of

GRAPH = "a graph as .npz"
MAX_HEADER = 10_000  # bytes, as in NumPy; the header of a plain array has about 100


def read_arrays(
    path: Path, names: Sequence[str], *, optional: Sequence[str] = (), what: str = GRAPH
) -> dict[str, np.ndarray]:
    """Read some arrays of an `.npz` file; others are not looked at.

    Args:
      path: of a regular file.
      names: of the arrays that are needed.
      optional: of those that are read if they are there.
      what: the file is expected to be, in the words of an error.

    Returns:
      The arrays by name, of numbers, truth values or text, as they are stored.

    Raises:
      ValueError: one line that begins with the file's name: it is not there, not readable, no
        `.npz`, encrypted, cut off, damaged or of an unknown compression; an array is missing, holds
        objects, or would not fit into memory.
    """
    # Whatever the reader of a damaged file raises (EOFError, zlib.error, NotImplementedError for a
    # compression, RuntimeError for a password, SyntaxError for a header, ...) says the same: this
    # is no graph. Nothing but reading happens in here, so no error of another kind is hidden.
    try:
        with _open(path) as archive:
            return _read(archive, names, optional)
    except Exception as error:
        raise ValueError(f"{path}: expected {what}, got {reason_of(error)}") from error


def array_names(path: Path, *, what: str = GRAPH) -> list[str]:
    """Return the names of the arrays in an `.npz` file, in their order; none of them is read.

    Raises:
      ValueError: as `read_arrays`, if it is no such file.
    """
    try:
        with _open(path) as archive:
            members = archive.namelist()
    except Exception as error:  # as above
        raise ValueError(f"{path}: expected {what}, got {reason_of(error)}") from error
    # A name may have folders, such as the "conv1/kernel" of a tree of parameters.
    return [name.removesuffix(".npy") for name in members if name.endswith(".npy")]


def read_array(path: Path, *, what: str) -> np.ndarray:
    """Read the array of an `.npy` file: of numbers, truth values or text, as it is stored.

    Args:
      path: of a regular file.
      what: the file is expected to be, in the words of an error.

    Raises:
      ValueError: one line that begins with the file's name, as for `read_arrays`.
    """
    try:
        check_regular(path)
        with path.open("rb") as file:
            num_bytes = _check_claim(file, "the array", path.stat().st_size)
            if num_bytes > memory_limit():
                raise ValueError(f"{num_bytes / 2**30:.3g} GiB, over a quarter of the memory")
            file.seek(0)
            return np.lib.format.read_array(file, allow_pickle=False, max_header_size=MAX_HEADER)
    except Exception as error:  # as above
        raise ValueError(f"{path}: expected {what}, got {reason_of(error)}") from error


def _open(path: Path) -> zipfile.ZipFile:
    check_regular(path)
    with path.open("rb") as file:
        start = file.read(len(np.lib.format.MAGIC_PREFIX))
    if start == np.lib.format.MAGIC_PREFIX:
        raise ValueError("a single array (.npy); numpy.savez writes several into one .npz")
    if not zipfile.is_zipfile(path):
        raise ValueError("another format" if start else "an empty file")
    return zipfile.ZipFile(path)


def _read(
    archive: zipfile.ZipFile, names: Sequence[str], optional: Sequence[str]
) -> dict[str, np.ndarray]:
    stored = [info.filename for info in archive.infolist()]
    for name in names:
        if f"{name}.npy" not in stored:
            raise ValueError(f"no array {name!r}")
    wanted = [*names, *(name for name in optional if f"{name}.npy" in stored)]
    num_bytes = 0
    for name in wanted:
        if stored.count(f"{name}.npy") > 1:
            raise ValueError(f"two arrays {name!r}")
        num_bytes += _check_header(archive, name)
    if num_bytes > memory_limit():
        raise ValueError(f"{num_bytes / 2**30:.3g} GiB of arrays, over a quarter of the memory")
    return {name: _read_array(archive, name) for name in wanted}


def _check_header(archive: zipfile.ZipFile, name: str) -> int:
    """Compare what the header of an array claims with what there is; return its bytes."""
    with archive.open(f"{name}.npy") as member:
        return _check_claim(member, repr(name), archive.getinfo(f"{name}.npy").file_size)


def _check_claim(member: Any, name: str, size: int) -> int:
    """Compare the claims of the header of an open `.npy` file with the size of the file."""
    version = np.lib.format.read_magic(member)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"{name} in version {version} of .npy")
    shape, _, dtype = _reader_of(version)(member, max_header_size=MAX_HEADER)
    if dtype.hasobject:
        raise ValueError(f"{name} with Python objects, which are not read")
    if dtype.kind not in "biufcSU":
        raise ValueError(f"{name} of {shown(dtype)}")
    num_bytes = dtype.itemsize
    for length in shape:
        if length < 0:
            raise ValueError(f"{name} of shape {shape}")
        num_bytes *= length
    held = size - member.tell()
    if num_bytes != held:
        raise ValueError(f"{held} bytes for {name}, whose shape {shape} needs {num_bytes}")
    return num_bytes


def _reader_of(version: tuple[int, int]):
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0
    return np.lib.format.read_array_header_2_0


def _read_array(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    with archive.open(f"{name}.npy") as member:
        array = np.lib.format.read_array(member, allow_pickle=False, max_header_size=MAX_HEADER)
        if member.read(1):  # zipfile compares the checksum at the end, which has to be reached
            raise ValueError(f"more bytes than {name!r} needs")
    return array
