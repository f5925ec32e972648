"""Checks of node ids outside of `jit`: a sum follows an id wherever it points, without a word.

NumPy's arrays may change in place, so they are looked at with every call. JAX's do not: what was
found of one is kept for as long as the array lives, so that ids on an accelerator are fetched once.
"""

import weakref
from typing import Any

import jax
import jax.core
import numpy as np

# What was found of JAX's arrays, by their ids: references that tell whether they are still those.
_ranges: dict[int, tuple[weakref.ref, int, int]] = {}
_equal: dict[tuple[int, int], tuple[weakref.ref, weakref.ref, bool]] = {}


def check_ends(senders: Any, receivers: Any, num_senders: int, num_receivers: int) -> None:
    """Check both ends of the edges.

    Args:
      senders: [E] ids in [0, num_senders); arrays of NumPy or JAX, or traced ones.
      receivers: [E] ids in [0, num_receivers).
      num_senders: M.
      num_receivers: N.

    Raises:
      ValueError: unless they are two vectors of whole numbers of one length, and, where they are
        not traced, in their range.
    """
    for field, array in (("senders", senders), ("receivers", receivers)):
        check_dtype(field, array)
    if senders.ndim != 1 or senders.shape != receivers.shape:
        shapes = senders.shape, receivers.shape
        raise ValueError(
            "senders, receivers: expected two vectors of one length, got {} and {}".format(*shapes)
        )
    _check_range("senders", senders, num_senders)
    _check_range("receivers", receivers, num_receivers)


def check_ids(field: str, array: Any, num_nodes: int) -> None:
    """Check that something is an array of ids in [0, num_nodes); of a traced one only the dtype.

    Raises:
      ValueError: if it is not.
    """
    check_dtype(field, array)
    _check_range(field, array, num_nodes)


def check_dtype(field: str, array: Any) -> None:
    """Check that something is an array of whole numbers; it may be traced.

    Raises:
      ValueError: if it is not.
    """
    if not isinstance(array, np.ndarray | jax.Array) or array.dtype.kind not in "iu":
        kind = getattr(array, "dtype", type(array).__name__)
        raise ValueError(f"{field}: expected an array of whole numbers, got {kind}")


def _check_range(field: str, array: Any, num_nodes: int) -> None:
    if _is_known(array) and array.size:
        low, high = _range_of(array)
        if low < 0 or high >= num_nodes:
            bad = low if low < 0 else high
            raise ValueError(f"{field}: expected ids in [0, {num_nodes}), got {bad}")


def are_equal(first: Any, second: Any) -> bool:
    """Return whether two vectors of ids are equal; of traced ones nothing is known but that."""
    if first is second or not (_is_known(first) and _is_known(second)):
        return True
    if not (isinstance(first, jax.Array) and isinstance(second, jax.Array)):
        return np.array_equal(first, second)
    key = id(first), id(second)
    known = _equal.get(key)
    if known is None or known[0]() is not first or known[1]() is not second:
        known = (
            _reference(first, _equal, key),
            _reference(second, _equal, key),
            np.array_equal(first, second),
        )
        _equal[key] = known
    return known[2]


def _is_known(array: Any) -> bool:
    """Return whether numbers can be looked at: not traced, and all of them on this process."""
    if isinstance(array, jax.core.Tracer):
        return False
    return not isinstance(array, jax.Array) or array.is_fully_addressable


def _range_of(array: Any) -> tuple[int, int]:
    if not isinstance(array, jax.Array):
        return int(array.min()), int(array.max())
    known = _ranges.get(id(array))
    if known is None or known[0]() is not array:
        numbers = np.asarray(array)  # where a program is traced, JAX's own sums would be too
        known = (_reference(array, _ranges, id(array)), int(numbers.min()), int(numbers.max()))
        _ranges[id(array)] = known
    return known[1:]


def _reference(array: jax.Array, table: dict, key: Any) -> weakref.ref:
    """Return a reference whose end removes the entry of the table."""
    return weakref.ref(array, lambda _: table.pop(key, None))
