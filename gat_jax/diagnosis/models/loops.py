"""Edges as the attention of a layer runs over them: some layers make the self-loops anew."""

from typing import NamedTuple

import jraph
import numpy as np
from jaxtyping import Float, Int

from gat_jax.diagnosis.models.observed import ImportedLayer, LoopFeatures
from gat_jax.graphs import from_edges
from gat_jax.report.numbers import count
from gat_jax.runtime.arrays import check_features

# What a reduction gives a node that receives nothing is what PyTorch Geometric gives it.
REDUCTIONS = {
    "add": (np.add, 0.0),
    "mean": (np.add, 0.0),
    "min": (np.minimum, 0.0),
    "max": (np.maximum, 0.0),
    "mul": (np.multiply, 1.0),
}


class EdgeList(NamedTuple):
    """Edges, in any order."""

    senders: Int[np.ndarray, " edges"]
    receivers: Int[np.ndarray, " edges"]
    edges: Float[np.ndarray, "edges features"] | None = None


def edge_list_of(graph: jraph.GraphsTuple) -> EdgeList:
    """Return the edges of a graph."""
    edges = None if graph.edges is None else np.asarray(graph.edges)
    return EdgeList(np.asarray(graph.senders), np.asarray(graph.receivers), edges)


def attended_graph(layer: ImportedLayer, graph: jraph.GraphsTuple) -> jraph.GraphsTuple:
    """Return the graph whose edges are those that a layer attends over.

    A layer that replaces self-loops drops those that there are, and gives every node one. Edge
    features that the layer does not read are dropped.

    Args:
      layer: of which the configuration, and what it does about self-loops, are read.
      graph: one graph, nodes [N, F]; edges [E, D] if the layer reads features of edges.

    Returns:
      One graph with the same nodes, its edges sorted as by `graphs.from_edges`.

    Raises:
      ValueError: if the layer reads edge features and the graph has none, or others; if the
        features of its loops are not known; or as `graphs.from_edges`.
    """
    senders, receivers = np.asarray(graph.senders), np.asarray(graph.receivers)
    edges = _read_edges(layer, graph)
    if layer.replaces_self_loops:
        ends = EdgeList(senders, receivers, edges)
        senders, receivers, edges = with_loops(ends, len(graph.nodes), layer.loop_features)
    return from_edges(senders, receivers, nodes=graph.nodes, edges=edges)


def without_loops(ends: EdgeList) -> EdgeList:
    """Return the edges between different nodes, in their order."""
    stays = ends.senders != ends.receivers
    edges = None if ends.edges is None else ends.edges[stays]
    return EdgeList(ends.senders[stays], ends.receivers[stays], edges)


def with_loops(ends: EdgeList, num_nodes: int, how: LoopFeatures) -> EdgeList:
    """Return the edges between different nodes, and after them a self-loop at every node.

    Args:
      ends: of all edges; their self-loops are dropped.
      num_nodes: N.
      how: features of the loops, as `loop_features` takes it, where edges have features.
    """
    senders, receivers, edges = without_loops(ends)
    loops = np.arange(num_nodes)
    if edges is not None:
        edges = np.concatenate([edges, loop_features(edges, receivers, num_nodes, how)])
    return EdgeList(np.append(senders, loops), np.append(receivers, loops), edges)


def _read_edges(
    layer: ImportedLayer, graph: jraph.GraphsTuple
) -> Float[np.ndarray, "edges features"] | None:
    """Return the edge features that a layer reads, None if it reads none."""
    wanted = layer.config.num_edge_features
    if wanted == 0:
        return None
    if graph.edges is None:
        raise ValueError(
            f"edges: expected {count(wanted, 'feature')}, as {layer.name} reads them, got none"
        )
    edges = check_features("edges", graph.edges)
    if edges.shape != (len(graph.senders), wanted):
        expected = f"[{len(graph.senders)}, {wanted}]"
        raise ValueError(
            f"edges: expected shape {expected}, as {layer.name} reads them, got {list(edges.shape)}"
        )
    return edges


def loop_features(
    edges: Float[np.ndarray, "edges features"],
    receivers: np.ndarray,
    num_nodes: int,
    how: LoopFeatures,
) -> Float[np.ndarray, "nodes features"]:
    """Return the features of a loop at every node.

    Args:
      edges: [E, D] features of the edges, without loops.
      receivers: [E] ids in [0, N).
      num_nodes: N.
      how: a number for every column, or a reduction of the features of the edges that a node
        receives. Without any, "mul" gives 1 and the others 0.

    Returns:
      [N, D], in the dtype of the edges; sums are taken in float64.

    Raises:
      ValueError: if `how` is neither a number nor a reduction.
    """
    shape = (num_nodes, edges.shape[1])
    if not isinstance(how, str):
        return np.full(shape, how, edges.dtype)
    if how not in REDUCTIONS:
        raise ValueError(
            f"loop_features: expected a number or one of {', '.join(REDUCTIONS)}, got {how!r}"
        )
    reduction, empty = REDUCTIONS[how]
    reduced = np.full(shape, empty)
    counts = np.bincount(receivers, minlength=num_nodes)
    is_some = counts > 0
    if is_some.any():
        by_receiver = edges[np.argsort(receivers, kind="stable")].astype(np.float64)
        starts = (np.cumsum(counts) - counts)[is_some]
        reduced[is_some] = reduction.reduceat(by_receiver, starts, axis=0)
    if how == "mean":
        reduced /= np.maximum(counts, 1)[:, None]
    return reduced.astype(edges.dtype)
