"""Graphs as `jraph.GraphsTuple`: how they are built from edges, and checked.

Everything here runs on the host in NumPy, before tracing. Two conventions hold for every graph:

* An edge runs sender -> receiver; attention is normalised over a receiver's incoming edges;
  self-loops are ordinary edges.
* Edges are sorted by (receiver, sender, edge features), so that equal supports are summed in the
  same order and twins in a linear regime come out equal to the last bit.
"""

from typing import Any

import jraph
import numpy as np
from jaxtyping import Float, Int
from numpy.typing import ArrayLike

from gat_jax.runtime.arrays import (
    as_array,
    as_ids,
    check_count,
    check_features,
    check_graph,
    check_size,
)

# --- checks ---------------------------------------------------------------------------------


def validate(graph: jraph.GraphsTuple) -> None:
    """Check everything that the layers rely on and cannot check under `jit`.

    The time grows linearly with the graph: edges that are sorted are not sorted again.

    Args:
      graph: host arrays, or JAX arrays that are not traced; one graph, or several in one tuple,
        as `pad` and `jraph.batch` make them.

    Raises:
      ValueError: names the field, what was expected and what came.
    """
    check_graph(graph)
    nodes = check_nodes(graph.nodes)
    if nodes.shape[0] < 1:
        raise ValueError("nodes: expected at least one node, got 0")
    senders = as_ids("senders", graph.senders, nodes.shape[0])
    receivers = as_ids("receivers", graph.receivers, nodes.shape[0])
    if senders.shape != receivers.shape:
        raise ValueError(
            f"receivers: expected as many as senders ({len(senders)}), got {len(receivers)}"
        )
    edges = None if graph.edges is None else check_features("edges", graph.edges)
    if edges is not None and len(edges) != len(senders):
        raise ValueError(f"edges: expected {len(senders)} rows, got {len(edges)}")
    check_counts(graph)
    if not _is_sorted(senders, receivers, edges):
        raise ValueError(
            "edges: expected to be sorted by (receiver, sender, edge features), got another order; "
            "build the graph with graphs.from_edges"
        )


def check_counts(
    graph: jraph.GraphsTuple,
) -> tuple[Int[np.ndarray, " graphs"], Int[np.ndarray, " graphs"]]:
    """Return `n_node` and `n_edge`, if they divide nodes and edges into graphs without a rest.

    Args:
      graph: one graph, or several in one tuple.

    Raises:
      ValueError: names the field, what was expected and what came.
    """
    check_graph(graph)
    _check_one_set(graph.nodes)
    num_nodes = None if graph.nodes is None else _num_rows(graph.nodes)
    senders, receivers = as_array("senders", graph.senders), as_array("receivers", graph.receivers)
    if senders.shape != receivers.shape or senders.ndim != 1:
        raise ValueError(
            "senders, receivers: expected two vectors of one length, got shapes "
            f"{senders.shape} and {receivers.shape}"
        )
    found = []
    for field, values, total in (
        ("n_node", graph.n_node, num_nodes),
        ("n_edge", graph.n_edge, len(senders)),
    ):
        counts = as_array(field, values)
        if counts.ndim != 1 or counts.dtype.kind not in "iu":
            raise ValueError(
                f"{field}: expected a vector of integers, one for each graph, got shape "
                f"{counts.shape} of {counts.dtype}"
            )
        if counts.size and counts.min() < 0:
            raise ValueError(f"{field}: expected counts >= 0, got {counts.min()}")
        if total is not None and counts.sum() != total:
            raise ValueError(f"{field}: expected a sum of {total}, got {counts.sum()}")
        found.append(counts.astype(np.int64))
    n_node, n_edge = found
    if len(n_node) != len(n_edge):
        raise ValueError(f"n_edge: expected {len(n_node)} counts, got {len(n_edge)}")
    if len(n_node) > 1:
        senders, receivers = (
            as_ids(field, ids, int(n_node.sum()))
            for field, ids in (("senders", senders), ("receivers", receivers))
        )
        graph_of_node = np.repeat(np.arange(len(n_node)), n_node)
        graph_of_edge = np.repeat(np.arange(len(n_edge)), n_edge)
        is_outside = graph_of_node[senders] != graph_of_edge
        is_outside |= graph_of_node[receivers] != graph_of_edge
        if is_outside.any():
            edge = np.argmax(is_outside)
            raise ValueError(
                f"n_edge: expected the edges of graph {graph_of_edge[edge]} among its own nodes, "
                f"got {senders[edge]} -> {receivers[edge]}"
            )
    return n_node, n_edge


def check_nodes(nodes: ArrayLike) -> Float[np.ndarray, "nodes features"]:
    """Return features of one set of nodes, as `check_features`.

    Raises:
      ValueError: also for two sets, which layers take and functions of `graphs` do not.
    """
    _check_one_set(nodes)
    return check_features("nodes", nodes)


def _num_rows(nodes: Any) -> int:
    """Return how many rows there are of what stands for the features of nodes.

    Raises:
      ValueError: if it has no rows, such as a number.
    """
    shape = getattr(nodes, "shape", None)
    shape = as_array("nodes", nodes).shape if shape is None else shape
    if not shape:
        raise ValueError("nodes: expected an array [rows, columns], got shape ()")
    return int(shape[0])


def _check_one_set(nodes: Any) -> None:
    """Refuse a pair of arrays; a list of two rows is told from it, for a row has no columns."""
    is_pair = isinstance(nodes, tuple | list) and len(nodes) == 2
    if is_pair and all(len(getattr(side, "shape", ())) == 2 for side in nodes):
        raise ValueError("nodes: expected one set of nodes, got two")


def _is_sorted(senders: np.ndarray, receivers: np.ndarray, edges: np.ndarray | None) -> bool:
    """Return whether no edge is before its predecessor, by one look at each pair of neighbours."""
    # A column orders only those neighbours that are tied in all columns before it.
    is_tied = np.ones_like(receivers[1:], bool)
    for column in (receivers, senders, *(() if edges is None else edges.T)):
        before, after = column[:-1], column[1:]
        if np.any(is_tied & (before > after)):
            return False
        is_tied &= before == after
        if not is_tied.any():
            break
    return True


# --- building -------------------------------------------------------------------------------


def from_edges(
    senders: ArrayLike, receivers: ArrayLike, *, nodes: ArrayLike, edges: ArrayLike | None = None
) -> jraph.GraphsTuple:
    """Build a graph from an edge list, in any order; duplicates count as often as they stand.

    The pair that `graph.edges()` of DGL returns is (senders, receivers).

    Args:
      senders: [E] integer ids of the nodes that send.
      receivers: [E] integer ids of the nodes that receive.
      nodes: [N, F] finite node features; whole numbers become float32.
      edges: [E, D] finite edge features, or None.

    Returns:
      One graph (host arrays, ids int32), its edges sorted by (receiver, sender, edge features).

    Raises:
      ValueError: names the field, what was expected and what came.
    """
    nodes = check_nodes(nodes)
    senders = as_ids("senders", senders, len(nodes))
    receivers = as_ids("receivers", receivers, len(nodes))
    if senders.shape == receivers.shape:
        if edges is not None:
            edges = check_features("edges", edges)
        if edges is None or len(edges) == len(senders):
            order = _edge_order(senders, receivers, edges, num_nodes=len(nodes))
            senders, receivers = senders[order], receivers[order]
            edges = None if edges is None else edges[order]
    graph = jraph.GraphsTuple(
        nodes=nodes,
        edges=edges,
        senders=senders,
        receivers=receivers,
        globals=None,
        n_node=np.array([len(nodes)], np.int32),
        n_edge=np.array([len(senders)], np.int32),
    )
    validate(graph)  # what the sort above could not use is refused here, with its one message
    return graph


def _edge_order(
    senders: np.ndarray, receivers: np.ndarray, edges: np.ndarray | None, *, num_nodes: int
) -> Int[np.ndarray, " edges"]:
    """Return the stable order by (receiver, sender, edge features)."""
    if edges is None:
        # One number for each pair of ids: a third of the time of two columns.
        return np.argsort(receivers.astype(np.int64) * num_nodes + senders, kind="stable")
    return np.lexsort((*edges.T[::-1], senders, receivers))


def identity_features(num_nodes: int) -> Float[np.ndarray, "nodes nodes"]:
    """Return one-hot node ids [N, N], float32: features that tell all nodes apart.

    Args:
      num_nodes: N, at least 0.

    Raises:
      ValueError: if N is no whole number, or so large that they do not fit into memory.
    """
    num_nodes = check_count("num_nodes", num_nodes)
    check_size("num_nodes", 4 * num_nodes**2)
    return np.eye(num_nodes, dtype=np.float32)
