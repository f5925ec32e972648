"""Rows of attention in the plane of their scores, for a picture: a few hundred of each layer.

In this plane it is seen why twins are equal: a row that lies on one side of the line where a logit
is 0 does not depend on its receiver.
"""

import jraph
import numpy as np
from jaxtyping import Bool, Float, Int

from gat_jax.diagnosis.results import RegimeRows
from gat_jax.graphs.supports import sizes_of
from gat_jax.layers import AttentionInfo

MAX_PANELS = 8
# Rows that are drawn: of equal nodes, of twins and their like that differ, and of all others.
MAX_EQUAL, MAX_DIFFERENT, MAX_OTHERS = 200, 150, 50


def regime_rows(
    info: AttentionInfo,
    graph: jraph.GraphsTuple,
    candidates: Int[np.ndarray, " nodes"],
    is_alike: Bool[np.ndarray, " nodes"],
    outputs: Int[np.ndarray, " nodes"],
) -> RegimeRows:
    """Return the scores of some rows of a layer, those of equal nodes first.

    Args:
      info: of a layer with attention on `graph`.
      graph: edges sorted by receiver, as `graphs.from_edges` has them.
      candidates: [N] classes of nodes that are equal as soon as their attention is.
      is_alike: [N] nodes of one distinct sender, of senders that are all alike, or of none, which
        are left out: they have no row to speak of.
      outputs: [N] classes of nodes with equal outputs.

    Returns:
      At most 400 rows, spread evenly over the classes, in at most 8 panels: the first heads, or the
      first channels of GATv2's heads, where the rule of signs holds for each channel.
    """
    parts = np.asarray(info.receiver_scores)
    panels = _panel_names(parts.shape[1:])
    is_equal, is_candidate = sizes_of(outputs) > 1, sizes_of(candidates) > 1
    has_row = ~is_alike
    rows = np.concatenate(
        [
            _spread(np.flatnonzero(has_row & is_equal), outputs, MAX_EQUAL),
            _spread(np.flatnonzero(has_row & ~is_equal & is_candidate), candidates, MAX_DIFFERENT),
            _spread(np.flatnonzero(has_row & ~is_equal & ~is_candidate), candidates, MAX_OTHERS),
        ]
    )
    lowest, highest = _ends_of(info, graph, rows)
    return RegimeRows(
        panels=tuple(panels[:MAX_PANELS]),
        num_panels=len(panels),
        nodes=rows,
        num_nodes=int(has_row.sum()),
        is_equal=is_equal[rows],
        is_candidate=is_candidate[rows],
        receiver_parts=_first(parts[rows]),
        lowest=lowest,
        highest=highest,
    )


def _ends_of(
    info: AttentionInfo, graph: jraph.GraphsTuple, rows: Int[np.ndarray, " rows"]
) -> tuple[Float[np.ndarray, "rows panels"], Float[np.ndarray, "rows panels"]]:
    """Return the lowest and the highest part of the senders of each row, which has some."""
    senders, receivers = np.asarray(graph.senders), np.asarray(graph.receivers)
    is_drawn = np.zeros(len(graph.nodes), bool)
    is_drawn[rows] = True
    edges = np.flatnonzero(is_drawn[receivers])
    scores = _first(np.asarray(info.sender_scores)[senders[edges]])
    if info.edge_scores is not None:
        scores = scores + _first(np.asarray(info.edge_scores)[edges])
    nodes, starts = np.unique(receivers[edges], return_index=True)
    places = np.searchsorted(nodes, rows)
    return (
        np.minimum.reduceat(scores, starts, axis=0)[places],
        np.maximum.reduceat(scores, starts, axis=0)[places],
    )


def _panel_names(shape: tuple[int, ...]) -> list[str]:
    """Name what there is a plane for: [H], or [H, C] for GATv2."""
    if len(shape) == 1:
        return [f"head {h}" for h in range(shape[0])]
    return [f"head {h}, channel {c}" for h in range(shape[0]) for c in range(shape[1])]


def _first(scores: np.ndarray) -> Float[np.ndarray, "rows panels"]:
    flat = scores.reshape(len(scores), int(np.prod(scores.shape[1:])))
    return flat[:, :MAX_PANELS].astype(np.float64)


def _spread(
    nodes: Int[np.ndarray, " some"], classes: Int[np.ndarray, " nodes"], most: int
) -> Int[np.ndarray, " rows"]:
    """Return at most so many nodes, evenly out of those that are sorted by their class."""
    ordered = nodes[np.argsort(classes[nodes], kind="stable")]
    return ordered[np.linspace(0, len(ordered) - 1, min(most, len(ordered))).astype(int)]
