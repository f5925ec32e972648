"""Which pairs of twins are compared one by one, where a graph has too many to list them all.

A class of m twins has m (m - 1) / 2 pairs. Those of small classes are all compared. Of the pairs
of large classes, numbered class by class, a fixed sample is; each of its pairs stands for as many
as it was drawn from, so that weighted means over the compared pairs speak of all pairs.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from gat_jax.graphs import twins

# All pairs of classes of at most so many nodes are compared: at most 7.5 for each twin.
MAX_SMALL_CLASS = 16
NUM_SAMPLED_PAIRS = 4096  # of all large classes of a graph together
SAMPLE_SEED = 15  # of the sample, which is the same in every run and on every machine


class ComparedPairs(NamedTuple):
    """Pairs of twins, first < second, and how many pairs each of them stands for."""

    first: Int[np.ndarray, " pairs"]
    second: Int[np.ndarray, " pairs"]
    weight: Float[np.ndarray, " pairs"]  # float32; 1 where all pairs are compared


def compare_pairs(classes: twins.TwinClasses, *, is_trivial: bool) -> ComparedPairs:
    """Choose the pairs of trivial or of non-trivial twins that are compared.

    Args:
      classes: of a graph, by `twin_classes`.
      is_trivial: which twins.

    Returns:
      All pairs of small classes, then those of the sample, of which none comes twice. The weights
      add up to the number of all pairs, but for rounding. The time grows with the number of twins.
    """
    large = large_classes(classes, is_trivial=is_trivial)
    nodes = np.arange(len(classes.twin))
    is_small = (classes.is_trivial == is_trivial) & ~np.isin(nodes, large)
    small = twins.twin_pairs(
        classes._replace(twin=np.where(is_small, classes.twin, nodes)), include_trivial=is_trivial
    )
    pairs, weight = _sample(large, classes.twin[large])
    return ComparedPairs(
        np.concatenate([small.first, pairs[:, 0]]).astype(np.int32),
        np.concatenate([small.second, pairs[:, 1]]).astype(np.int32),
        np.concatenate([np.ones(len(small.first)), weight]).astype(np.float32),
    )


def large_classes(classes: twins.TwinClasses, *, is_trivial: bool) -> Int[np.ndarray, " nodes"]:
    """Return the trivial or non-trivial twins of large classes, class by class, by ascending id."""
    is_large = twins.class_sizes(classes) > MAX_SMALL_CLASS
    nodes = np.flatnonzero(is_large & (classes.is_trivial == is_trivial))
    return nodes[np.argsort(classes.twin[nodes], kind="stable")]


def pairs_by_number(
    classes: Int[np.ndarray, " nodes"], numbers: Int[np.ndarray, " pairs"]
) -> Int[np.ndarray, "pairs 2"]:
    """Return pairs within classes by their numbers, which run through class after class.

    Args:
      classes: number of each node's class, from 0 on.
      numbers: from 0 on, below the number of all pairs.

    Returns:
      Positions of the nodes in `classes`, the first before the second.
    """
    sizes = np.bincount(classes)
    members = np.argsort(classes, kind="stable")  # class by class
    first_member = np.cumsum(sizes) - sizes
    ends = np.cumsum(sizes * (sizes - 1) // 2)
    number_of_class = np.searchsorted(ends, numbers, side="right")
    within = numbers - (ends - sizes * (sizes - 1) // 2)[number_of_class]
    # Pair k (k - 1) / 2 + i of a class is that of its members i < k; the root may round.
    k = ((1.0 + np.sqrt(1.0 + 8.0 * within)) / 2.0).astype(np.int64)
    k -= k * (k - 1) // 2 > within
    k += k * (k + 1) // 2 <= within
    i = within - k * (k - 1) // 2
    start = first_member[number_of_class]
    return np.stack([members[start + i], members[start + k]], axis=1)


def parts_of(number: int, total: int) -> Int[np.ndarray, " parts_and_one"]:
    """Cut 0 to total into a number of parts, of equal sizes to one; return where they begin."""
    return np.array([k * total // number for k in range(number + 1)])


def num_pairs_within(classes: Int[np.ndarray, " nodes"]) -> int:
    """Return how many pairs there are within classes, given by the number of each node's class."""
    sizes = np.bincount(classes)
    return int(np.sum(sizes * (sizes - 1) // 2))


def one_of_each_part(
    classes: Int[np.ndarray, " nodes"], words: Int[np.ndarray, " pairs"]
) -> tuple[Int[np.ndarray, "pairs 2"], Int[np.ndarray, " pairs"]]:
    """Draw pairs within classes, each of all pairs with the same probability.

    The pairs, class by class, are cut into as many parts as are drawn, of equal sizes to one, and
    one pair is drawn of each: none comes twice, and a class has its share.

    Args:
      classes: number of each node's class, from 0 on.
      words: a random one of 63 bits for each pair that is drawn; at most as many as there are
        pairs. What is left over when they are divided makes no pair likelier by more than 2^-30.

    Returns:
      Positions of the nodes in `classes`, the first before the second, and the sizes of the parts.
    """
    starts = parts_of(len(words), num_pairs_within(classes))
    sizes = np.diff(starts)
    return pairs_by_number(classes, starts[:-1] + words % sizes), sizes


def _sample(
    nodes: Int[np.ndarray, " nodes"], names: Int[np.ndarray, " nodes"]
) -> tuple[Int[np.ndarray, "pairs 2"], Float[np.ndarray, " pairs"]]:
    """Draw one pair of each part of all pairs of nodes of one name; return weights, too."""
    if len(nodes) == 0:
        return np.empty((0, 2), np.int64), np.empty(0)
    numbers = np.unique(names, return_inverse=True)[1]
    number = min(num_pairs_within(numbers), NUM_SAMPLED_PAIRS)
    # Raw words, whose stream stays from version to version.
    words = np.random.PCG64(SAMPLE_SEED).random_raw(number) >> np.uint64(1)
    pairs, weight = one_of_each_part(numbers, words.astype(np.int64))
    return nodes[pairs], weight.astype(float)
