"""Graphs as `jraph.GraphsTuple`: how they are built, checked and padded.

Everything here runs on the host in NumPy, before tracing. Two conventions hold for every graph:

* An edge runs sender -> receiver; attention is normalised over a receiver's incoming edges;
  self-loops are ordinary edges.
* Edges are sorted by (receiver, sender, edge features), so that equal supports are summed in the
  same order and twins in a linear regime come out equal to the last bit.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import jraph
import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import ArrayLike

if TYPE_CHECKING:  # for the annotation alone: importing networkx takes long, and few need it
    import networkx

# --- checks ---------------------------------------------------------------------------------


def check_ids(field: str, ids: ArrayLike, num_nodes: int) -> Int[np.ndarray, " edges"]:
    """Return node ids as an int32 copy.

    Args:
      field: what an error calls the ids.
      ids: [E] integers in [0, num_nodes).
      num_nodes: N.

    Raises:
      ValueError: unless `ids` is a vector of integers in that range.
    """
    ids = np.asarray(ids)
    if ids.size == 0:
        ids = ids.astype(np.int32)
    if ids.ndim != 1:
        raise ValueError(f"{field}: expected a vector of node ids, got shape {ids.shape}")
    if not np.issubdtype(ids.dtype, np.integer):
        raise ValueError(f"{field}: expected an integer dtype, got {ids.dtype}")
    if ids.size and (ids.min() < 0 or ids.max() >= num_nodes):
        bad = ids[(ids < 0) | (ids >= num_nodes)][0]
        raise ValueError(f"{field}: expected ids in [0, {num_nodes}), got {bad}")
    return ids.astype(np.int32)


def check_features(field: str, features: ArrayLike) -> Float[np.ndarray, "rows columns"]:
    """Return features as floating numbers: whole numbers become float32, others stay as they are.

    Args:
      field: what an error calls the features.
      features: [rows, columns] finite real numbers, of nodes or of edges.

    Raises:
      ValueError: unless `features` is a matrix of finite real numbers.
    """
    features = np.asarray(features)
    if features.ndim != 2:
        raise ValueError(f"{field}: expected an array [rows, columns], got shape {features.shape}")
    if not np.issubdtype(features.dtype, np.number) and features.dtype != np.bool_:
        # bfloat16 is a number to JAX, but not to NumPy.
        if str(features.dtype) != "bfloat16":
            raise ValueError(f"{field}: expected numbers, got dtype {features.dtype}")
    elif np.issubdtype(features.dtype, np.complexfloating):
        raise ValueError(f"{field}: expected real numbers, got dtype {features.dtype}")
    elif not np.issubdtype(features.dtype, np.floating):
        features = features.astype(np.float32)
    is_finite = np.isfinite(features)
    if not is_finite.all():
        row, column = np.argwhere(~is_finite)[0]
        value = features[row, column]
        raise ValueError(f"{field}: expected finite numbers, got {value} at [{row}, {column}]")
    return features


def validate(graph: jraph.GraphsTuple) -> None:
    """Check everything that the layers rely on and cannot check under `jit`.

    The time grows linearly with the graph: edges that are sorted are not sorted again.

    Args:
      graph: host arrays, or JAX arrays that are not traced; one graph, or several in one tuple,
        as `pad` and `jraph.batch` make them.

    Raises:
      ValueError: names the field, what was expected and what came.
    """
    nodes = check_features("nodes", graph.nodes)
    if nodes.shape[0] < 1:
        raise ValueError("nodes: expected at least one node, got 0")
    senders = check_ids("senders", graph.senders, nodes.shape[0])
    receivers = check_ids("receivers", graph.receivers, nodes.shape[0])
    if senders.shape != receivers.shape:
        raise ValueError(
            f"receivers: expected as many as senders ({len(senders)}), got {len(receivers)}"
        )
    edges = None if graph.edges is None else check_features("edges", graph.edges)
    if edges is not None and len(edges) != len(senders):
        raise ValueError(f"edges: expected {len(senders)} rows, got {len(edges)}")
    for field, counts, total in (
        ("n_node", graph.n_node, len(nodes)),
        ("n_edge", graph.n_edge, len(senders)),
    ):
        if np.sum(counts) != total:
            raise ValueError(f"{field}: expected a sum of {total}, got {np.sum(counts)}")
    if not _is_sorted(senders, receivers, edges):
        raise ValueError(
            "edges: expected to be sorted by (receiver, sender, edge features), got another order; "
            "build the graph with graphs.from_edges"
        )


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
    nodes = check_features("nodes", nodes)
    senders = check_ids("senders", senders, len(nodes))
    receivers = check_ids("receivers", receivers, len(nodes))
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


def from_adjacency(adjacency: ArrayLike, *, nodes: ArrayLike) -> jraph.GraphsTuple:
    """Build a graph from a matrix of zeros and ones; row i receives from its columns.

    Args:
      adjacency: [N, N], 1 in row i and column j for an edge j -> i.
      nodes: [N, F] finite node features; whole numbers become float32.

    Returns:
      One graph, as `from_edges`.

    Raises:
      ValueError: if the matrix is not square, holds other numbers, or does not fit `nodes`.
    """
    adjacency = np.asarray(adjacency)
    if adjacency.ndim != 2 or adjacency.shape[0] != adjacency.shape[1]:
        raise ValueError(f"adjacency: expected a square matrix, got shape {adjacency.shape}")
    if not np.isin(adjacency, (0, 1)).all():
        bad = adjacency[~np.isin(adjacency, (0, 1))][0]
        raise ValueError(f"adjacency: expected zeros and ones, got {bad}")
    nodes = check_features("nodes", nodes)
    if len(nodes) != len(adjacency):
        raise ValueError(f"nodes: expected {len(adjacency)} rows, got {len(nodes)}")
    receivers, senders = np.nonzero(adjacency)
    return from_edges(senders, receivers, nodes=nodes)


def from_networkx(
    graph: "networkx.Graph",
    *,
    nodes: ArrayLike | None = None,
    edge_attributes: Sequence[str] = (),
) -> jraph.GraphsTuple:
    """Build a graph from networkx, nodes in the order of `graph.nodes`.

    An undirected edge runs both ways (a self-loop once); parallel edges of a multigraph stay.

    Args:
      graph: any networkx graph.
      nodes: [N, F] features; None gives the identity matrix.
      edge_attributes: names of numeric edge attributes, one column of edge features each.

    Returns:
      One graph, as `from_edges`; self-loops are not added.

    Raises:
      ValueError: an edge lacks a named attribute, or as `from_edges`.
    """
    index = {node: i for i, node in enumerate(graph.nodes)}
    triples = [
        (index[a], index[b], attributes)
        for u, v, attributes in graph.edges(data=True)
        for a, b in ([(u, v)] if graph.is_directed() or u == v else [(u, v), (v, u)])
    ]
    edges = None
    if edge_attributes:
        for name in edge_attributes:
            if not all(name in attributes for _, _, attributes in triples):
                raise ValueError(f"edge_attributes: expected {name!r} on every edge, got one bare")
        edges = np.array(
            [[float(attributes[name]) for name in edge_attributes] for *_, attributes in triples],
            np.float32,
        ).reshape(len(triples), len(edge_attributes))
    return from_edges(
        np.array([a for a, _, _ in triples], np.int32),
        np.array([b for _, b, _ in triples], np.int32),
        nodes=identity_features(len(index)) if nodes is None else nodes,
        edges=edges,
    )


def identity_features(num_nodes: int) -> Float[np.ndarray, "nodes nodes"]:
    """Return one-hot node ids [N, N], float32: features that tell all nodes apart."""
    return np.eye(num_nodes, dtype=np.float32)


# --- padding --------------------------------------------------------------------------------


def pad(graph: jraph.GraphsTuple, *, num_nodes: int, num_edges: int) -> jraph.GraphsTuple:
    """Pad to a fixed shape; the rows of real nodes do not depend on what is in the padding.

    Padding edges run among padding nodes alone, which come last, so no real row sees them: not a
    bit, nor a gradient. Beside the graph without padding, only the rounding of matrix products may
    differ, as XLA picks their arithmetic by shape.

    Args:
      graph: one graph.
      num_nodes: nodes of the result; at least one more than the graph has.
      num_edges: edges of the result; at least as many as the graph has.

    Raises:
      ValueError: if the graph does not fit (one padding node is always needed).
    """
    for field, wanted, least in (
        ("num_nodes", num_nodes, len(graph.nodes) + 1),
        ("num_edges", num_edges, len(graph.senders)),
    ):
        if wanted < least:
            raise ValueError(f"{field}: expected at least {least}, got {wanted}")
    return jraph.pad_with_graphs(graph, n_node=num_nodes, n_edge=num_edges, n_graph=2)


def padding_masks(
    graph: jraph.GraphsTuple,
) -> tuple[Bool[np.ndarray, " nodes"], Bool[np.ndarray, " edges"]]:
    """Return the masks of a padded graph: nodes [N] and edges [E], True = real."""
    return (
        np.asarray(jraph.get_node_padding_mask(graph)),
        np.asarray(jraph.get_edge_padding_mask(graph)),
    )
