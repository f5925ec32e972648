"""Ids are looked at with every call: what is in the memory of the host may change in place."""

import jax
import numpy as np
import pytest

from gat_jax.kernels import ids


def aliased(values):
    """A NumPy array, and an array of JAX in the same memory: CPUs take what begins at 64 bytes."""
    raw = np.zeros(4 * len(values) + 64, np.uint8)
    start = -raw.ctypes.data % 64
    ours = raw[start : start + 4 * len(values)].view(np.int32)
    ours[:] = values
    theirs = jax.device_put(ours)
    assert theirs.unsafe_buffer_pointer() == ours.ctypes.data
    return ours, theirs


def test_ids_that_jax_shares_with_numpy_are_looked_at_again():
    ours, theirs = aliased([0, 1, 2, 3])
    ids.check_ends(theirs, theirs, 4, 4)
    ids.check_node_ids("nodes", theirs, 4)
    ours[2] = 99
    for check in (
        lambda: ids.check_ends(theirs, np.zeros(4, np.int32), 4, 4),
        lambda: ids.check_node_ids("senders", theirs, 4),
    ):
        with pytest.raises(ValueError, match=r"senders: expected ids in \[0, 4\), got 99"):
            check()


def test_ids_that_jax_shares_with_numpy_are_compared_again():
    (ours, theirs), (_, others) = aliased([0, 1, 2]), aliased([0, 1, 2])
    assert ids.are_equal(theirs, others)
    ours[:] = ours[::-1].copy()
    assert not ids.are_equal(theirs, others)
    ours[:] = ours[::-1].copy()
    assert ids.are_equal(theirs, others)


def test_what_is_found_on_an_accelerator_is_kept_as_long_as_the_array(monkeypatch):
    monkeypatch.setattr(ids, "_is_of_the_host", lambda array: isinstance(array, np.ndarray))
    fetched = []
    fetch = ids._numbers_of
    monkeypatch.setattr(ids, "_numbers_of", lambda array: fetched.append(1) or fetch(array))
    array, other = (jax.device_put(np.array([5, 1])) for _ in range(2))
    for _ in range(3):
        ids.check_node_ids("nodes", array, 6)
        with pytest.raises(ValueError, match=r"nodes: expected ids in \[0, 4\), got 5"):
            ids.check_node_ids("nodes", array, 4)
    assert len(fetched) == 1
    for _ in range(3):
        assert ids.are_equal(array, other)
    assert len(fetched) == 3
    before = len(ids._ranges), len(ids._equal)
    del array
    assert (len(ids._ranges), len(ids._equal)) == (before[0] - 1, before[1] - 1)


@pytest.mark.parametrize("first", [np.zeros((2, 1), int), np.zeros((), int), np.zeros(3, int)])
def test_check_vectors_names_both_shapes(first):
    with pytest.raises(ValueError, match=r"^a, b: expected two vectors of one length, got .* and "):
        ids.check_vectors(a=first, b=np.zeros(2, int))
