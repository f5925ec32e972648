"""Which pairs of twins are compared one by one: all of them, or a fixed sample.

A class of m twins has m (m - 1) / 2 pairs. What is counted of a pair's causes, outputs and gap is
counted of all pairs while these are few, and of a sample of `NUM_SAMPLED_PAIRS` otherwise.
Collisions are counted of all pairs in any case (`class_facts`).
"""

import numpy as np
from jaxtyping import Int

from gat_jax.graphs import TwinClasses, twin_samples, twins
from gat_jax.runtime.threefry import threefry

# Every pair is compared where there are no more than so many, or no more than so many a twin.
MAX_COMPARED_PAIRS = 1024
MAX_PAIRS_PER_TWIN = 4
NUM_SAMPLED_PAIRS = 1024
# The key of the sample. It is the same for every cell of a graph and every seed of a sweep, so that
# they speak of the same pairs and share their programs.
SAMPLE_KEY = np.array([0x7415, 0x5EED], np.uint32)


def are_all_compared(classes: TwinClasses) -> bool:
    """Whether every pair of a graph's non-trivial twins is compared."""
    counts = twins.count_twins(classes)
    return counts.pairs <= max(MAX_COMPARED_PAIRS, MAX_PAIRS_PER_TWIN * counts.nodes)


def num_compared_pairs(classes: TwinClasses) -> int:
    """Return how many pairs of a graph's non-trivial twins are compared one by one."""
    return twins.count_twins(classes).pairs if are_all_compared(classes) else NUM_SAMPLED_PAIRS


def sample_pairs(classes: Int[np.ndarray, " receivers"], number: int) -> Int[np.ndarray, "pairs 2"]:
    """Draw pairs within classes, as `twin_samples.one_of_each_part` does.

    Args:
      classes: number of each receiver's class, from 0 on.
      number: how many pairs; at most as many as there are.

    Returns:
      Positions of the receivers, the first before the second.
    """
    counter = np.arange(number, dtype=np.uint32)
    high, low = threefry(SAMPLE_KEY, counter, np.zeros_like(counter))
    words = (np.asarray(high).astype(np.int64) >> 1) << 32 | np.asarray(low).astype(np.int64)
    pairs, _ = twin_samples.one_of_each_part(classes, words)
    return pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
