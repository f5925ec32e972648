"""Arrays from outside: checked, and made NumPy's, before anything computes with them.

Whatever has numbers in rows is taken: lists, arrays of NumPy and JAX, tensors, data frames. What it
holds is looked at here, in NumPy, since compiled code would read and write other memory for an id
out of range, and since a number that float32 does not hold changes without a word.
"""

import math
import numbers
import operator
import reprlib
from typing import Any

import jax
import jax.core
import numpy as np
from jaxtyping import Float, Int
from numpy.typing import ArrayLike

from gat_jax.runtime import devices

FLOAT_DTYPES = ("float16", "bfloat16", "float32", "float64")
MEMORY_SHARE = 4  # of the host's memory a graph may take a quarter, as a sweep may
# Of `jraph.GraphsTuple`: whatever has them is a graph.
GRAPH_FIELDS = ("nodes", "edges", "senders", "receivers", "globals", "n_node", "n_edge")


def as_array(field: str, values: Any) -> np.ndarray:
    """Return what a user calls an array as one of NumPy's, in this machine's byte order.

    Args:
      field: what an error calls the values.
      values: an array, or what NumPy makes one of.

    Raises:
      ValueError: if NumPy makes none of it, or one of objects, or if entries are masked.
    """
    if isinstance(values, jax.core.Tracer):
        raise ValueError(f"{field}: expected an array outside of jit, got a traced one")
    if np.ma.is_masked(values):
        raise ValueError(f"{field}: expected a number in every place, got masked entries")
    wanted = f"{field}: expected an array of numbers, got"
    try:
        array = np.asarray(values)
    # What others' classes raise when they cannot be an array: a tensor with a gradient or on a GPU,
    # rows of different lengths.
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise ValueError(f"{wanted} {type(values).__name__} ({reason})") from error
    if array.dtype == object:
        if hasattr(values, "toarray"):
            raise ValueError(f"{wanted} {type(values).__name__}; its toarray() gives one")
        first = array.reshape(-1)[0] if array.size else None
        raise ValueError(f"{wanted} dtype object, such as {shown(first)}")
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def shown(value: Any) -> str:
    """Return an object of a user's as Python writes it, on one line and cut where it is long."""
    try:
        return " ".join(reprlib.repr(value).split())
    except ValueError:  # an integer of thousands of digits, in Python 3.11
        return f"one of type {type(value).__name__}"


def check_graph(graph: Any) -> None:
    """Refuse what has not the fields of a graph; what is in them is not looked at.

    Args:
      graph: what a user calls a graph; it may be traced.

    Raises:
      ValueError: names the type, and the first field that is missing.
    """
    missing = next((field for field in GRAPH_FIELDS if not hasattr(graph, field)), None)
    if missing is not None:
        raise ValueError(
            f"graph: expected a jraph.GraphsTuple, got {type(graph).__name__} without {missing}"
        )


def check_count(field: str, value: Any, least: int = 0) -> int:
    """Return a whole number of a user's as Python's int; truth values and text are none.

    Args:
      field: what an error calls it.
      value: an integer of Python's, NumPy's or JAX's.
      least: the smallest that is taken.

    Raises:
      ValueError: names what came.
    """
    try:
        count = None if isinstance(value, bool | np.bool_) else operator.index(value)
    except TypeError:  # whatever has no `__index__`: a fraction, text, several numbers
        count = None
    if count is None:
        raise ValueError(f"{field}: expected a whole number, got {shown(value)}")
    if count < least:
        raise ValueError(f"{field}: expected at least {least}, got {shown(count)}")
    return count


def memory_limit() -> int:
    """Return the bytes that one graph may take: a quarter of the host's memory."""
    return devices.host_memory() // MEMORY_SHARE


def check_size(field: str, num_bytes: int) -> None:
    """Refuse what would take more than a quarter of the host's memory, before it is taken.

    Args:
      field: what an error calls it.
      num_bytes: how much it would take.

    Raises:
      ValueError: names both numbers.
    """
    limit = memory_limit()
    if num_bytes > limit:
        raise ValueError(
            f"{field}: expected at most {limit / 2**30:.3g} GiB, a quarter of the memory, got "
            f"{num_bytes / 2**30:.3g} GiB"
        )


def as_ids(field: str, ids: ArrayLike, num_nodes: int) -> Int[np.ndarray, " edges"]:
    """Return node ids as an int32 copy.

    Args:
      field: what an error calls the ids.
      ids: [E] integers in [0, num_nodes).
      num_nodes: N.

    Raises:
      ValueError: unless `ids` is a vector of integers in that range.
    """
    ids = as_array(field, ids)
    if ids.ndim != 1:
        raise ValueError(f"{field}: expected a vector of node ids, got shape {ids.shape}")
    if ids.size == 0:  # an empty list has no integer dtype
        return np.zeros(0, np.int32)
    check_integers(field, ids)
    check_range(field, ids, num_nodes, "ids")
    return ids.astype(np.int32)


def check_integers(field: str, values: np.ndarray) -> None:
    """Refuse an array of any dtype but the integers.

    Raises:
      ValueError: names the dtype.
    """
    if values.dtype.kind not in "iu":
        raise ValueError(f"{field}: expected an integer dtype, got {values.dtype}")


def check_range(field: str, values: np.ndarray, stop: int, what: str) -> None:
    """Refuse integers outside of [0, stop).

    Args:
      field: what an error calls the array.
      values: integers.
      stop: the end of the range.
      what: what the integers are, in the plural.

    Raises:
      ValueError: names the first of them.
    """
    if values.size and (values.min() < 0 or values.max() >= stop):
        bad = values[(values < 0) | (values >= stop)].reshape(-1)[0]
        raise ValueError(f"{field}: expected {what} in [0, {stop}), got {bad}")


def check_features(field: str, features: ArrayLike) -> Float[np.ndarray, "rows columns"]:
    """Return features as floating numbers: whole numbers become float32, others stay as they are.

    Args:
      field: what an error calls the features.
      features: [rows, columns] finite real numbers, of nodes or of edges.

    Raises:
      ValueError: unless `features` is a matrix of finite real numbers that the layers can hold, as
        `check_values`.
    """
    return check_values(field, check_matrix(field, features))


def check_matrix(field: str, values: ArrayLike) -> np.ndarray:
    """Return an array, if it has rows and columns.

    Raises:
      ValueError: names the shape.
    """
    array = as_array(field, values)
    if array.ndim != 2:
        raise ValueError(f"{field}: expected an array [rows, columns], got shape {array.shape}")
    return array


def check_values(field: str, values: ArrayLike) -> Float[np.ndarray, "..."]:
    """Return numbers as floating ones: whole numbers become float32, others stay as they are.

    Layers compute in float32, unless `jax_enable_x64` is on. A number that overflows there is
    refused, and so is a whole number that float32 rounds: identifiers or times that differ would
    become equal without a word. Fractions are rounded, as everywhere.

    Args:
      field: what an error calls the values.
      values: finite real numbers.

    Raises:
      ValueError: names the first entry that cannot be taken, and its place.
    """
    array = check_real(field, values)
    check_held(field, array)
    return array.astype(np.float32) if array.dtype.kind in "biu" else array


def check_held(field: str, array: np.ndarray) -> None:
    """Refuse numbers that are others in the dtype that layers compute in (`as_held`).

    That is a number which overflows there, and a whole number which float32 rounds. Infinities and
    NaN stay what they are, and so are not refused here.

    Args:
      field: what an error calls the array.
      array: real numbers.

    Raises:
      ValueError: names the first of them, and its place.
    """
    if array.dtype.kind in "biu":
        _refuse(
            field,
            "whole numbers that float32 holds (it keeps 24 bits; shift or scale them)",
            array,
            ~_is_exact(array),
        )
        return
    held = as_held(array)
    if held.dtype != array.dtype:
        is_lost = np.isfinite(array) & ~np.isfinite(held)
        _refuse(field, f"numbers that {held.dtype} holds", array, is_lost)


def as_held(values: np.ndarray) -> np.ndarray:
    """Return numbers as the layers see them.

    That is float64 as float32, unless `jax_enable_x64` is on, and whole numbers as float32.
    """
    dtype = np.dtype(np.float32)
    if values.dtype.kind not in "biu":
        dtype = jax.dtypes.canonicalize_dtype(values.dtype)
    with np.errstate(over="ignore"):
        return values.astype(dtype, copy=False)


def check_real(field: str, values: ArrayLike) -> np.ndarray:
    """Return finite real numbers as an array of their own dtype, whole or floating.

    Args:
      field: what an error calls the values.
      values: numbers or truth values.

    Raises:
      ValueError: names the dtype, or the first entry that is not finite, and its place.
    """
    array = as_array(field, values)
    if array.dtype.kind == "c":
        raise ValueError(f"{field}: expected real numbers, got dtype {array.dtype}")
    if array.dtype.kind not in "biu":
        if str(array.dtype) not in FLOAT_DTYPES:
            raise ValueError(f"{field}: expected numbers, got dtype {array.dtype}")
        _refuse(field, "finite numbers", array, ~np.isfinite(array))
    return array


def check_whole_numbers(field: str, values: ArrayLike) -> Int[np.ndarray, "..."]:
    """Return whole numbers of any dtype, floating ones and truth values among them, as int64.

    Args:
      field: what an error calls the values.
      values: such as class ids.

    Raises:
      ValueError: names the first entry that is no whole number, and its place.
    """
    array = as_array(field, values)
    if array.size == 0:
        return np.zeros(array.shape, np.int64)
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{field}: expected whole numbers, got dtype {array.dtype}")
    is_whole = np.isfinite(array) & (np.trunc(array) == array)
    _refuse(field, "whole numbers", array, ~is_whole)
    if array.dtype.kind in "uf":
        _refuse(
            field, "whole numbers of 63 bits", array, np.abs(array.astype(np.float64)) >= 2.0**63
        )
    return array.astype(np.int64)


def is_number_of_float32(value: Any) -> bool:
    """Return whether a single object is a finite real number that float32 holds.

    As in `check_values`, a whole number has to be exact. Truth values are no numbers here: among
    attributes of nodes and edges they stand beside text, and one may be meant for the other.
    """
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        return False
    if isinstance(value, numbers.Integral):
        whole = abs(int(value))
        return whole >> 128 == 0 and whole // (whole & -whole or 1) < 2**24
    try:
        size = abs(float(value))
    except OverflowError:  # of a fraction
        return False
    # NaN is not below anything. What lies beyond halfway to the next power of two is infinite.
    return size < math.ldexp(2 - 2**-24, 127)


def _is_exact(values: np.ndarray) -> np.ndarray:
    """Return which whole numbers float32 holds: those of 24 bits, but for zeros at the end."""
    if values.dtype.itemsize <= 2:
        return np.ones(values.shape, bool)
    # In uint64, where the most negative number has a magnitude too, and 0 - x wraps as it should.
    magnitude = values.astype(np.uint64)
    if values.dtype.kind == "i":
        magnitude = np.where(values < 0, np.uint64(0) - magnitude, magnitude)
    lowest_bit = magnitude & (np.uint64(0) - magnitude)
    return magnitude // np.maximum(lowest_bit, 1) < 2**24


def _refuse(field: str, wanted: str, values: np.ndarray, is_bad: ArrayLike) -> None:
    """Raise a ValueError that names the first bad entry and its place, if there is one."""
    if np.any(is_bad):
        place = tuple(np.argwhere(is_bad)[0].tolist())
        at = f" at {list(place)}" if place else ""
        raise ValueError(f"{field}: expected {wanted}, got {values[place]}{at}")
