"""Checks of node ids outside of `jit`: a sum follows an id wherever it points, without a word.

Arrays in the memory of the host may change in place, so they are looked at with every call. JAX's
are no exception: on a CPU `jax.device_put` may take the memory of a NumPy array as it is. What was
found of an array on an accelerator is kept for as long as the array lives, so that ids are fetched
from there once.
"""

import weakref
from collections.abc import Callable
from typing import Any

import jax
import jax.core
import numpy as np

from gat_jax.runtime.arrays import check_range
from gat_jax.runtime.jax_arrays import check_array

# What was found of arrays on an accelerator, by their ids: references tell whether they live still.
_ranges: dict[tuple[int, ...], tuple[tuple[weakref.ref, ...], Any]] = {}
_equal: dict[tuple[int, ...], tuple[tuple[weakref.ref, ...], Any]] = {}


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
    check_vectors(senders=senders, receivers=receivers)
    _check_range("senders", senders, num_senders)
    _check_range("receivers", receivers, num_receivers)


def check_vectors(**vectors: Any) -> None:
    """Check that things are vectors of whole numbers of one length; they may be traced.

    Args:
      **vectors: by the names that errors call them.

    Raises:
      ValueError: if they are not.
    """
    for field, array in vectors.items():
        check_array(field, array, "whole numbers")
    shapes = [array.shape for array in vectors.values()]
    if len(shapes[0]) != 1 or len(set(shapes)) != 1:
        fields, found = ", ".join(vectors), " and ".join(map(str, shapes))
        raise ValueError(f"{fields}: expected two vectors of one length, got {found}")


def check_pairs(num_nodes: int, **vectors: Any) -> None:
    """Check that things are vectors of one length of ids of one set of nodes, unless traced.

    Args:
      num_nodes: ids are in [0, num_nodes).
      **vectors: by the names that errors call them.

    Raises:
      ValueError: if they are not.
    """
    check_vectors(**vectors)
    for field, array in vectors.items():
        _check_range(field, array, num_nodes)


def check_node_ids(field: str, array: Any, num_nodes: int) -> None:
    """Check that something is a vector of ids in [0, num_nodes); of a traced one not the range.

    Raises:
      ValueError: if it is not.
    """
    check_array(field, array, "whole numbers")
    if array.ndim != 1:
        raise ValueError(f"{field}: expected a vector of node ids, got shape {array.shape}")
    _check_range(field, array, num_nodes)


def _check_range(field: str, array: Any, num_nodes: int) -> None:
    if _is_known(array) and array.size:
        check_range(field, _ends_of(array), num_nodes, "ids")


def are_equal(first: Any, second: Any) -> bool:
    """Return whether two vectors of ids are equal; of traced ones nothing is known but that."""
    if first is second or not (_is_known(first) and _is_known(second)):
        return True
    return _kept(
        _equal, (first, second), lambda: np.array_equal(_numbers_of(first), _numbers_of(second))
    )


def _ends_of(array: Any) -> np.ndarray:
    """Return the smallest and the largest id."""

    def find() -> np.ndarray:
        numbers = _numbers_of(array)  # where a program is traced, JAX's own sums would be too
        return np.array([numbers.min(), numbers.max()])

    return _kept(_ranges, (array,), find)


def _is_known(array: Any) -> bool:
    """Return whether numbers can be looked at: not traced, and all of them on this process."""
    if isinstance(array, jax.core.Tracer):
        return False
    return not isinstance(array, jax.Array) or array.is_fully_addressable


def _numbers_of(array: Any) -> np.ndarray:
    """Return what an array holds now: JAX keeps a copy of an array that is on several devices."""
    if not isinstance(array, jax.Array) or len(array.addressable_shards) == 1:
        return np.asarray(array)
    numbers = np.empty(array.shape, array.dtype)
    for shard in array.addressable_shards:
        numbers[shard.index] = np.asarray(shard.data)
    return numbers


def _is_of_the_host(array: Any) -> bool:
    """Return whether an array may be in memory that NumPy writes to."""
    if not isinstance(array, jax.Array):
        return True
    return any(device.platform == "cpu" for device in array.devices())


def _kept(table: dict, arrays: tuple, find: Callable[[], Any]) -> Any:
    """Return what is found of arrays; of arrays on an accelerator it is found once."""
    if any(_is_of_the_host(array) for array in arrays):
        return find()
    key = tuple(id(array) for array in arrays)
    known = table.get(key)
    if known is None or any(
        reference() is not array for reference, array in zip(known[0], arrays, strict=True)
    ):
        # Where one of the arrays ends, so does the entry.
        references = tuple(weakref.ref(array, lambda _: table.pop(key, None)) for array in arrays)
        known = table[key] = references, find()
    return known[1]
