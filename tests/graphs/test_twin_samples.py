"""Which pairs are compared: all of small classes, and a fixed sample of large ones."""

import itertools

import numpy as np
import pytest

from gat_jax import graphs
from gat_jax.graphs import twin_samples, twins
from gat_jax.graphs.twin_samples import compare_pairs, large_classes, pairs_by_number

PINNED = ([2, 4, 2], [3, 5, 7])  # of a class of 200


def leaves(*sizes, senders=(0, 1)):
    """Classes of these sizes, each of which receives from two nodes, or one, of its own."""
    edges, node = [], 2 * len(sizes)
    for number, size in enumerate(sizes):
        for _ in range(size):
            edges += [(2 * number + sender, node) for sender in senders]
            node += 1
    return graphs.from_edges(*np.array(edges).T, nodes=np.ones((node, 1), np.float32))


def as_set(pairs):
    return set(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True))


@pytest.mark.parametrize("sizes", [(3, 2), (3, 17, 20), (16, 90)])
def test_all_pairs_are_compared_where_large_classes_have_few(sizes):
    classes = twins.twin_classes(leaves(*sizes))
    found = compare_pairs(classes, is_trivial=False)
    listed = twins.twin_pairs(classes)
    assert as_set(found) == as_set(listed)
    assert len(found.first) == len(listed.first)
    assert (found.weight == 1).all()
    large = [size for size in sizes if size > 16]
    assert len(large_classes(classes, is_trivial=False)) == sum(large)


def test_a_sample_of_large_classes_stands_for_all_pairs():
    sizes = (3, 100, 200)
    classes = twins.twin_classes(leaves(*sizes))
    found = compare_pairs(classes, is_trivial=False)
    pairs = as_set(found)
    assert len(pairs) == len(found.first) == 3 + 4096
    assert (found.first < found.second).all()
    np.testing.assert_array_equal(classes.twin[found.first], classes.twin[found.second])
    for size in sizes:
        is_of = twins.class_sizes(classes)[found.first] == size
        # Parts are cut across the border between two classes.
        expected = size * (size - 1) / 2
        assert found.weight[is_of].sum() == pytest.approx(expected, abs=7 * (size > 16))
    # A uniform sample: the two halves of a class are met as they should be.
    is_large = twins.class_sizes(classes)[found.first] == 200
    nodes = np.concatenate([found.first[is_large], found.second[is_large]])
    share = np.mean(nodes < np.median(np.flatnonzero(twins.class_sizes(classes) == 200)))
    assert share == pytest.approx(0.5, abs=0.03)


def test_the_sample_is_the_same_every_time_and_everywhere():
    classes = twins.twin_classes(leaves(200))
    one, other = (compare_pairs(classes, is_trivial=False) for _ in range(2))
    np.testing.assert_array_equal(one.first, other.first)
    assert (one.first[:3].tolist(), one.second[:3].tolist()) == PINNED


def test_trivial_twins_have_pairs_of_their_own():
    classes = twins.twin_classes(leaves(4, 20, senders=(0, 0)))
    found = compare_pairs(classes, is_trivial=True)
    assert len(found.first) == 6 + 190 + 6  # the four nodes without edges are twins, too
    assert len(compare_pairs(classes, is_trivial=False).first) == 0
    both = twins.twin_classes(leaves(4))
    assert as_set(compare_pairs(both, is_trivial=True)) == {(0, 1)}
    assert len(compare_pairs(both, is_trivial=False).first) == 6


def test_pairs_by_number_run_through_class_after_class():
    classes = np.array([1, 0, 1, 2, 0, 1, 1])
    expected = [
        pair
        for number in range(3)
        for k in np.flatnonzero(classes == number)
        for pair in [(i, k) for i in np.flatnonzero(classes == number) if i < k]
    ]
    found = pairs_by_number(classes, np.arange(len(expected)))
    np.testing.assert_array_equal(found, expected)
    assert len(expected) == len(list(itertools.combinations(range(4), 2))) + 1


def test_numbers_of_pairs_that_int32_does_not_hold_are_exact():
    size = 100_000
    last = size * (size - 1) // 2 - 1
    numbers = np.array([0, last - size + 2, last])
    found = pairs_by_number(np.zeros(size, int), numbers)
    np.testing.assert_array_equal(found, [[0, 1], [0, size - 1], [size - 2, size - 1]])
    assert twin_samples.parts_of(3, last)[-1] == last
