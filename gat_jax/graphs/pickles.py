"""Planetoid's pickles, read without trusting them.

A pickle is a program: it may call any function that Python can import. Here it may call none. Only
the instructions that stack numbers, text and lists are let through, and every class that a file of
Planetoid's names has a stand-in, which writes down what it is given and does nothing. Arrays are
made of that afterwards, once their claims are compared with the bytes that are there.
"""

import io
import math
import pickle
import pickletools
import re
from pathlib import Path
from typing import Any

import numpy as np

from gat_jax.runtime.arrays import check_size, shown
from gat_jax.runtime.named_files import check_regular, reason_of
from gat_jax.runtime.text import visible

MAX_NAME = 100  # letters of a name in a message

# Those of Planetoid's files, and what Python 3 writes for the same things. None reads from outside
# of the file (EXT1, PERSID) or makes an object by name in another way (INST, OBJ).
OPCODES = frozenset(
    [
        *("PROTO", "FRAME", "STOP", "MARK", "NONE", "NEWTRUE", "NEWFALSE"),
        *("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"),
        *("BINSTRING", "SHORT_BINSTRING", "BINUNICODE", "SHORT_BINUNICODE"),
        *("BINBYTES", "SHORT_BINBYTES"),
        *("EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"),
        *("EMPTY_LIST", "APPEND", "APPENDS", "EMPTY_DICT", "SETITEM", "SETITEMS"),
        *("BINPUT", "LONG_BINPUT", "BINGET", "LONG_BINGET", "MEMOIZE"),
        *("GLOBAL", "STACK_GLOBAL", "NEWOBJ", "REDUCE", "BUILD"),
    ]
)


class _Name:
    """A class that is only named, as an argument: `numpy.ndarray` and `list`."""

    __slots__ = ()

    def __setstate__(self, state: Any):
        raise ValueError("a state for a class that has none")


class _Table(dict):
    """An empty `defaultdict`, which is filled later."""

    __slots__ = ()

    def __init__(self, *_: Any):
        super().__init__()

    def __setstate__(self, state: Any):
        raise ValueError("a state for a dictionary")


class _Record:
    """What an array, a matrix or a dtype is made of: arguments, and a state that is set later."""

    __slots__ = ("args", "state")

    args: tuple
    state: Any

    def __new__(cls, *args: Any):
        record = super().__new__(cls)
        record.args, record.state = args, None
        return record

    def __setstate__(self, state: Any):
        self.state = state


class _Array(_Record):
    __slots__ = ()


class _Dtype(_Record):
    __slots__ = ()


class _Matrix(_Record):
    __slots__ = ()


# The six names of Planetoid's files, and where Python 3, NumPy 2 and SciPy have the same today.
GLOBALS: dict[tuple[str, str], type] = {
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
    ("numpy", "ndarray"): _Name,
    ("numpy", "dtype"): _Dtype,
    ("scipy.sparse.csr", "csr_matrix"): _Matrix,
    ("scipy.sparse._csr", "csr_matrix"): _Matrix,
    ("collections", "defaultdict"): _Table,
    ("__builtin__", "list"): _Name,
    ("builtins", "list"): _Name,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str) -> type:
        found = GLOBALS.get((module_name, global_name))
        if found is None:
            name = visible(f"{module_name}.{global_name}")[:MAX_NAME]
            raise ValueError(f"a reference to {name}, which is not read")
        return found


def read_pickle(path: Path) -> Any:
    """Read one of Planetoid's pickles; nothing that it names is imported or called.

    Args:
      path: of the file.

    Returns:
      An array of numbers, a CSR array of SciPy's whose indices are checked, or a dictionary.

    Raises:
      ValueError: one line that begins with the file's name: it is not there or not readable, is no
        pickle or a damaged one, names anything but the six names of Planetoid's files, or claims
        sizes that it does not hold.
    """
    # Whatever an unpickler raises for bytes that are no pickle says the same (KeyError for a number
    # that was not noted, IndexError for an empty stack, ...). Nothing but reading happens in here.
    try:
        check_regular(path)
        check_size("the file", path.stat().st_size)
        data = path.read_bytes()
        _check_instructions(data)
        # Python 2 wrote bytes as text; Latin-1 gives each of them back.
        return _built(_Unpickler(io.BytesIO(data), encoding="latin1").load())
    except Exception as error:
        raise ValueError(
            f"{path}: expected a pickle of Planetoid's, got {reason_of(error)}"
        ) from error


def _check_instructions(data: bytes) -> None:
    """Look at every instruction before any is followed; `genops` fails where bytes are missing."""
    if not data:
        raise ValueError("an empty file")
    for opcode, argument, _ in pickletools.genops(data):
        if opcode.name not in OPCODES:
            raise ValueError(f"the instruction {opcode.name}, which is not read")
        # Python makes a list as long as the largest number under which something is noted.
        if opcode.name == "LONG_BINPUT" and (argument or 0) > len(data):
            raise ValueError(f"a note {argument} in {len(data)} bytes")


def _built(value: Any) -> Any:
    if isinstance(value, _Array):
        return _array(value)
    if isinstance(value, _Matrix):
        return _matrix(value)
    if isinstance(value, _Table):
        return dict(value)
    raise ValueError(f"{type(value).__name__} in place of an array, a matrix or a dictionary")


def _array(record: Any) -> np.ndarray:
    """Return an array of its own memory, if shape, dtype and bytes fit each other."""
    state = record.state if isinstance(record, _Array) else None
    if not isinstance(state, tuple) or len(state) != 5:
        raise ValueError("an array without its numbers")
    _, shape, record, is_fortran, data = state
    dtype = _dtype(record)
    if not isinstance(shape, tuple) or not all(type(x) is int and 0 <= x < 2**63 for x in shape):
        raise ValueError(f"an array of shape {shown(shape)}")
    data = data.encode("latin1") if isinstance(data, str) else data
    if not isinstance(data, bytes) or len(data) != math.prod(shape) * dtype.itemsize:
        held = len(data) if isinstance(data, bytes) else type(data).__name__
        raise ValueError(f"{shown(held)} bytes for an array of shape {shown(shape)} of {dtype}")
    array = np.frombuffer(data, dtype).reshape(shape, order="F" if is_fortran else "C")
    return array.astype(dtype.newbyteorder("="))


def _dtype(record: Any) -> np.dtype:
    args = record.args if isinstance(record, _Dtype) else ()
    name = args[0] if args else None
    if not isinstance(name, str) or not re.fullmatch("b1|[iu][1248]|f[248]", name, re.ASCII):
        raise ValueError(f"an array of dtype {shown(name)}")
    state = record.state
    order = state[1] if isinstance(state, tuple) and len(state) > 1 else None
    if order not in ("<", ">", "|", "="):
        raise ValueError(f"an array of byte order {shown(order)}")
    return np.dtype(name).newbyteorder(order)


def _matrix(record: _Matrix) -> Any:
    import scipy.sparse  # as this import takes long

    from gat_jax.runtime.sparse_matrices import checked_csr

    state = record.state
    fields = ("data", "indices", "indptr", "_shape")
    missing = next((x for x in fields if not isinstance(state, dict) or x not in state), None)
    if missing is not None:
        raise ValueError(f"a matrix without {missing}")
    data, indices, starts = (_array(state[field]) for field in fields[:3])
    shape = state["_shape"]
    is_pair = isinstance(shape, tuple) and len(shape) == 2
    if not is_pair or not all(type(x) is int and 0 <= x < 2**31 for x in shape):
        raise ValueError(f"a matrix of shape {shown(shape)}")
    if data.dtype.kind == "f" and data.dtype.itemsize == 2:
        data = data.astype(np.float32)  # SciPy computes with no float16
    return checked_csr("matrix", scipy.sparse.csr_array((data, indices, starts), shape=shape))
