"""Several graphs in one tuple: padding to a fixed shape, and what of a tuple is real."""

from typing import NamedTuple

import jraph
import numpy as np
from jaxtyping import Bool

from gat_jax.graphs import build
from gat_jax.runtime.arrays import as_array, check_count


class RealPart(NamedTuple):
    """How much of a tuple is real; padding comes last."""

    num_graphs: int  # that have nodes
    num_nodes: int
    num_edges: int


def real_part(graph: jraph.GraphsTuple) -> RealPart:
    """Return how much of a tuple of graphs is no padding.

    Padding is a graph that stands behind others, is the last that has nodes, and has no edges but
    loops at its first node: so `pad` and `jraph.pad_with_graphs` make it. (jraph's own masks take
    the last graph for padding, whatever is in it.) A graph of a batch that has no edges of its own
    looks the same when it is the last, so features decide: those of padding are 0. Others may be
    those of nodes, or of padding that has gone through a layer: that is refused, unless several
    edges at one node, and none elsewhere, say that it is padding.

    Args:
      graph: one graph or several, with or without padding.

    Raises:
      ValueError: if `n_node` or `n_edge` do not fit, or if the last graph may be padding or not.
    """
    n_node, n_edge = build.check_counts(graph)
    has_nodes = np.flatnonzero(n_node)
    if len(has_nodes) == 0:
        return RealPart(0, 0, 0)
    last = has_nodes[-1]
    first_node, first_edge = int(n_node[:last].sum()), int(n_edge[:last].sum())
    is_padding = (
        last > 0
        and (np.asarray(graph.senders)[first_edge:] == first_node).all()
        and (np.asarray(graph.receivers)[first_edge:] == first_node).all()
    )
    if is_padding:
        is_evident = len(graph.senders) - first_edge > 1
        if not is_evident and graph.nodes is not None:
            _check_zeros(as_array("nodes", graph.nodes)[first_node:])
        return RealPart(len(has_nodes) - 1, first_node, first_edge)
    return RealPart(len(has_nodes), int(n_node.sum()), int(n_edge.sum()))


def _check_zeros(features: np.ndarray) -> None:
    if np.any(features):
        raise ValueError(
            "graph: expected zeros as features of padding, got others in a last graph without "
            "edges of its own; set them to 0 if it is padding, and if it is none take the batch "
            "apart (jraph.unbatch_np)"
        )


def check_one_graph(graph: jraph.GraphsTuple) -> RealPart:
    """Check a graph as `validate`, and that it is one, padded or not; return its real part.

    Args:
      graph: what a function of one graph was given.

    Raises:
      ValueError: if it is a batch, or as `validate`.
    """
    build.validate(graph)
    part = real_part(graph)
    if part.num_graphs > 1:
        raise ValueError(
            f"graph: expected one graph, got a batch of {part.num_graphs}; jraph.unbatch_np takes "
            "it apart"
        )
    return part


def pad(graph: jraph.GraphsTuple, *, num_nodes: int, num_edges: int) -> jraph.GraphsTuple:
    """Pad to a fixed shape; the rows of real nodes do not depend on what is in the padding.

    Padding edges run among padding nodes alone, which come last, so no real row sees them: not a
    bit, nor a gradient. Beside the graph without padding, only the rounding of matrix products may
    differ, as XLA picks their arithmetic by shape.

    Args:
      graph: one graph, or a batch, without padding.
      num_nodes: nodes of the result; at least one more than the graph has.
      num_edges: edges of the result; at least as many as the graph has.

    Returns:
      The graph with one graph of padding behind it.

    Raises:
      ValueError: if the graph does not fit (one padding node is always needed), is padded already,
        or as `validate`.
    """
    build.validate(graph)
    num_nodes, num_edges = (
        check_count(field, size)
        for field, size in (("num_nodes", num_nodes), ("num_edges", num_edges))
    )
    if real_part(graph).num_nodes < len(graph.nodes):
        raise ValueError(
            "graph: expected one without padding, got a last graph without edges of its own"
        )
    for field, wanted, least in (
        ("num_nodes", num_nodes, len(graph.nodes) + 1),
        ("num_edges", num_edges, len(graph.senders)),
    ):
        if wanted < least:
            raise ValueError(f"{field}: expected at least {least}, got {wanted}")
    num_graphs = len(graph.n_node) + 1
    return jraph.pad_with_graphs(graph, n_node=num_nodes, n_edge=num_edges, n_graph=num_graphs)


def padding_masks(
    graph: jraph.GraphsTuple,
) -> tuple[Bool[np.ndarray, " nodes"], Bool[np.ndarray, " edges"]]:
    """Return what is real of a graph: masks of its nodes [N] and edges [E], True = real.

    In a graph without padding, or a batch, everything is real. Padding is a last graph of several
    whose features are 0, and whose edges, if it has any, are loops at its first node.

    Args:
      graph: one graph or several, with or without padding; as layers are given it, for a layer
        changes the features of padding too.

    Raises:
      ValueError: if `n_node` or `n_edge` do not fit, or if a last graph without edges of its own
        has features, so that it may be padding or not.
    """
    part = real_part(graph)
    return (
        np.arange(np.sum(graph.n_node)) < part.num_nodes,
        np.arange(len(graph.senders)) < part.num_edges,
    )
