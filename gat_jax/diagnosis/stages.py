"""From which outputs are equal to which inputs are, whatever a model does between two layers.

A norm or an activation keeps equal rows equal, to rounding; a skip path separates them; an
activation that cuts off can merge others. So rows as they were observed decide: nodes that an
earlier stage made equal stay so where their rows agree to rounding, and rows that are equal to the
last bit are equal whoever made them so.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from gat_jax.graphs import equal_rows
from gat_jax.graphs.supports import by_smallest
from gat_jax.graphs.twins import join_classes

# What norms and float32 sums make of a difference that is none: of the spread of all rows, or of
# the largest number where rows hardly differ, as float32 rounds it whatever the spread is.
TOLERANCE = 2e-6
PROJECTION_SEED = 0  # of the direction along which the rows of a class are sorted


def carry(
    stages: Sequence[Int[np.ndarray, " nodes"]], rows: Float[np.ndarray, "nodes features"]
) -> Int[np.ndarray, " nodes"]:
    """Give every node the smallest id of a node whose row is equal.

    Args:
      stages: classes of nodes, each named by its smallest member, that were equal at some time: by
        the features of the graph, and by the outputs of each earlier layer.
      rows: finite numbers that a model has of the nodes now.

    Returns:
      [N]. Rows of one class of a stage are equal if they differ by at most 2e-6 of the spread of
      all rows, or of their largest number; rows of no common class if they do not differ at all.
    """
    found = equal_rows(rows)
    wide = np.asarray(rows, np.float64)
    tolerance = tolerance_of(wide)
    places = along_a_line(wide)
    for classes in stages:
        order = np.lexsort((places, classes))
        first, second = order[:-1], order[1:]
        is_link = classes[first] == classes[second]
        is_link[is_link] = are_close(wide, first[is_link], second[is_link], tolerance)
        run = np.cumsum(np.concatenate([[True], ~is_link]))[: len(order)]
        groups = np.empty_like(order)
        groups[order] = run
        found = join_classes(found, by_smallest(groups))
    return found


def along_a_line(rows: Float[np.ndarray, "nodes features"]) -> Float[np.ndarray, " nodes"]:
    """Return places of rows such that close rows have close places, in float64."""
    direction = np.random.default_rng(PROJECTION_SEED).normal(size=rows.shape[1])
    return rows.astype(np.float64, copy=False) @ direction


def tolerance_of(rows: Float[np.ndarray, "nodes features"]) -> float:
    """Return by how much rows may differ that are equal but for rounding."""
    return TOLERANCE * float(max(np.ptp(rows), np.abs(rows).max())) if rows.size else 0.0


def are_close(
    rows: Float[np.ndarray, "nodes features"],
    first: Int[np.ndarray, " pairs"],
    second: Int[np.ndarray, " pairs"],
    tolerance: float,
) -> np.ndarray:
    """Whether the rows of pairs differ by no more than the tolerance, in pieces of the pairs."""
    size = max(1, 2**22 // max(1, rows.shape[1]))
    parts = [
        np.max(np.abs(rows[first[k : k + size]] - rows[second[k : k + size]]), axis=1, initial=0.0)
        <= tolerance
        for k in range(0, len(first), size)
    ]
    return np.concatenate([np.zeros(0, bool), *parts])
