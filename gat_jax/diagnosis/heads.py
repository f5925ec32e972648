"""What each head of a layer does: how flat its attention is, in which regime, and whether it lives.

On the host, in NumPy: an edge list of a million edges is read once for each fact.
"""

import jraph
import numpy as np
from jaxtyping import Float, Int

from gat_jax.diagnosis.results import HeadFacts
from gat_jax.layers import AttentionInfo
from gat_jax.symmetry import RowSigns

SATURATED = 0.999  # attention on one sender above this leaves the others nothing
NUM_BINS = 40  # of the histogram of entropies
QUANTILES = (0.0, 0.05, 0.5, 0.95, 1.0)
# Attention of two heads is the same within this, and a head is dead whose outputs vary by less.
SAME = 1e-6


def head_facts(
    info: AttentionInfo,
    graph: jraph.GraphsTuple,
    signs: RowSigns,
    entropy: Float[np.ndarray, "nodes heads"],
) -> HeadFacts:
    """Return the facts of every head of a layer.

    Args:
      info: of the layer on `graph`.
      graph: edges sorted by receiver, as `graphs.from_edges` has them.
      signs: of its rows, by `symmetry.row_signs`.
      entropy: of its rows, by `symmetry.normalised_entropy`.
    """
    attention = np.asarray(info.attention, np.float64)
    receivers = np.asarray(graph.receivers)
    nodes, starts, degree = np.unique(receivers, return_index=True, return_counts=True)
    is_row = np.asarray(degree >= 2)
    rows = nodes[is_row]
    entropy = np.clip(entropy[rows].astype(np.float64), 0.0, 1.0)
    peak = attention[:0]
    if len(nodes):
        peak = np.maximum.reduceat(attention, starts, axis=0)[is_row]
    positive, negative = (
        _share(np.all(np.asarray(x), axis=-1)[rows]) for x in (signs.is_positive, signs.is_negative)
    )
    return HeadFacts(
        entropy=_mean(entropy),
        entropy_quantiles=_quantiles(entropy),
        positive=positive,
        negative=negative,
        saturated=_share(peak > SATURATED),
        is_dead=_are_constant(np.asarray(info.head_outputs)[nodes]),
        same_as=_first_same(attention, is_row[np.searchsorted(nodes, receivers)]),
        entropy_counts=_histogram(entropy),
    )


def _mean(values: Float[np.ndarray, "rows heads"]) -> Float[np.ndarray, " heads"]:
    return values.mean(axis=0) if len(values) else np.full(values.shape[1], np.nan)


def _share(values: np.ndarray) -> Float[np.ndarray, " heads"]:
    return _mean(values.astype(np.float64))


def _quantiles(entropy: Float[np.ndarray, "rows heads"]) -> Float[np.ndarray, "heads 5"]:
    if len(entropy) == 0:
        return np.full((entropy.shape[1], len(QUANTILES)), np.nan)
    return np.quantile(entropy, QUANTILES, axis=0).T


def _histogram(entropy: Float[np.ndarray, "rows heads"]) -> Int[np.ndarray, "heads bins"]:
    places = np.minimum((entropy * NUM_BINS).astype(np.int64), NUM_BINS - 1)
    return np.stack([np.bincount(column, minlength=NUM_BINS) for column in places.T])


def _are_constant(outputs: Float[np.ndarray, "rows heads channels"]) -> np.ndarray:
    """Whether all rows of a head are one row, to rounding."""
    if len(outputs) < 2:
        return np.zeros(outputs.shape[1], bool)
    spread = np.ptp(outputs, axis=0).max(axis=-1, initial=0.0)
    return spread <= SAME * np.abs(outputs).max(axis=(0, 2), initial=0.0)


def _first_same(
    attention: Float[np.ndarray, "edges heads"], is_counted: np.ndarray
) -> Int[np.ndarray, " heads"]:
    """Return for each head the first one whose attention is the same."""
    columns = attention[is_counted].T
    same_as = np.arange(len(columns))
    if columns.shape[1] == 0:
        return same_as
    for head in range(1, len(columns)):
        for other in range(head):
            if same_as[other] == other and np.all(np.abs(columns[head] - columns[other]) <= SAME):
                same_as[head] = other
                break
    return same_as
