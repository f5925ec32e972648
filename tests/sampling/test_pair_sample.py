import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gat_jax.graphs import TwinClasses
from gat_jax.sampling import num_compared_pairs
from gat_jax.sampling.pair_sample import (
    MAX_COMPARED_PAIRS,
    MAX_PAIRS_PER_TWIN,
    NUM_SAMPLED_PAIRS,
    are_all_compared,
    sample_pairs,
)


def classes_of(sizes) -> TwinClasses:
    twin = np.repeat(np.cumsum([0, *sizes])[:-1], sizes)
    return TwinClasses(twin, np.zeros(len(twin), bool), twin)


@given(st.lists(st.integers(1, 12), min_size=1, max_size=8).filter(lambda x: max(x) > 1))
def test_as_many_as_there_are_are_all_pairs_each_once(sizes):
    classes = np.random.default_rng(0).permutation(np.repeat(np.arange(len(sizes)), sizes))
    expected = {
        (i, k)
        for i in range(len(classes))
        for k in range(i + 1, len(classes))
        if classes[i] == classes[k]
    }
    found = sample_pairs(classes, len(expected))
    assert len(found) == len(expected)
    assert {*map(tuple, found.tolist())} == expected


@pytest.mark.parametrize("sizes", [[100_000], [2] * 500 + [3_000], [1_000, 2_000, 4_000]])
def test_a_sample_has_no_pair_twice_and_of_every_class_its_share(sizes):
    classes = np.repeat(np.arange(len(sizes)), sizes)
    found = sample_pairs(classes, 1024)
    assert len({*map(tuple, found.tolist())}) == 1024
    first, second = found.T
    assert np.all(first < second)
    np.testing.assert_array_equal(classes[first], classes[second])
    pairs = np.array([m * (m - 1) // 2 for m in sizes])
    share = 1024 * pairs / pairs.sum()
    counts = np.bincount(classes[first], minlength=len(sizes))
    assert np.all(np.abs(counts - share) <= 2)
    # Members of all of the largest class, and not the first ones alone.
    largest = np.argmax(sizes)
    second = second[classes[second] == largest]
    place = (second - np.cumsum([0, *sizes])[largest]) / sizes[largest]
    assert np.quantile(place, 0.5) == pytest.approx(0.5**0.5, abs=0.03)


def test_the_sample_never_changes():
    # A store goes on with the pairs that it was begun with, in every version of NumPy and JAX.
    found = sample_pairs(np.zeros(100_000, int), 1024)
    assert found[:2].tolist() == FIRST_PAIRS
    assert found.sum(axis=0).tolist() == SUMS


FIRST_PAIRS = [[63, 92071], [104, 61632]]
SUMS = [34164314, 68265647]


def test_pairs_are_all_compared_while_they_are_few_or_few_for_each_twin():
    for sizes, are_all in (
        ([46], False),  # 1,035 pairs
        ([45], True),  # 990 pairs
        ([9] * 1000, True),  # 36,000 pairs, four for each twin
        ([9] * 1000 + [11], False),
        ([100_000], False),
    ):
        classes = classes_of(sizes)
        pairs = sum(m * (m - 1) // 2 for m in sizes)
        assert are_all_compared(classes) == are_all, sizes
        assert num_compared_pairs(classes) == (pairs if are_all else NUM_SAMPLED_PAIRS)
    assert (MAX_COMPARED_PAIRS, MAX_PAIRS_PER_TWIN) == (1024, 4)
