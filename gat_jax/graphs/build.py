"""Graphs as `jraph.GraphsTuple`: build, validate, pad, add self-loops, built-in examples.

Everything here runs on the host in NumPy, before tracing. Two conventions hold for every graph:

* An edge runs sender -> receiver; attention is normalised over a receiver's incoming edges;
  self-loops are ordinary edges.
* Edges are sorted by (receiver, sender, edge features), so that equal supports are summed in the
  same order and twins in a linear regime come out equal to the last bit.
"""

from collections.abc import Sequence

import jraph
import networkx as nx
import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import ArrayLike

# --- validation -----------------------------------------------------------------------------


def _check_ids(field: str, ids: ArrayLike, num_nodes: int) -> Int[np.ndarray, " edges"]:
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


def _check_features(field: str, features: ArrayLike) -> Float[np.ndarray, "rows columns"]:
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
    if not np.isfinite(features.astype(np.float64)).all():
        row, column = np.argwhere(~np.isfinite(features.astype(np.float64)))[0]
        value = features[row, column]
        raise ValueError(f"{field}: expected finite numbers, got {value} at [{row}, {column}]")
    return features


def validate(graph: jraph.GraphsTuple) -> None:
    """Check everything the layers rely on and cannot check under `jit`.

    Raises:
      ValueError: names the field, what was expected and what came.
    """
    nodes = _check_features("nodes", graph.nodes)
    if nodes.shape[0] < 1:
        raise ValueError("nodes: expected at least one node, got 0")
    senders = _check_ids("senders", graph.senders, nodes.shape[0])
    receivers = _check_ids("receivers", graph.receivers, nodes.shape[0])
    if senders.shape != receivers.shape:
        raise ValueError(
            f"receivers: expected as many as senders ({len(senders)}), got {len(receivers)}"
        )
    if graph.edges is not None:
        edges = _check_features("edges", graph.edges)
        if len(edges) != len(senders):
            raise ValueError(f"edges: expected {len(senders)} rows, got {len(edges)}")
    for field, counts, total in (
        ("n_node", graph.n_node, len(nodes)),
        ("n_edge", graph.n_edge, len(senders)),
    ):
        if np.sum(counts) != total:
            raise ValueError(f"{field}: expected a sum of {total}, got {np.sum(counts)}")
    order = _edge_order(senders, receivers, graph.edges)
    is_sorted = np.array_equal(senders[order], senders) and np.array_equal(
        receivers[order], receivers
    )
    if graph.edges is not None:
        edges = np.asarray(graph.edges)
        is_sorted = is_sorted and np.array_equal(edges[order], edges)
    if not is_sorted:
        raise ValueError(
            "edges: expected to be sorted by (receiver, sender, edge features), got another order; "
            "build the graph with graphs.from_edges"
        )


def _edge_order(senders: np.ndarray, receivers: np.ndarray, edges) -> Int[np.ndarray, " edges"]:
    columns = [] if edges is None else list(np.asarray(edges).T[::-1])
    return np.lexsort((*columns, senders, receivers))


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
    nodes = _check_features("nodes", nodes)
    senders = _check_ids("senders", senders, len(nodes))
    receivers = _check_ids("receivers", receivers, len(nodes))
    if senders.shape == receivers.shape:
        if edges is not None:
            edges = _check_features("edges", edges)
        if edges is None or len(edges) == len(senders):
            order = _edge_order(senders, receivers, edges)
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


def from_adjacency(adjacency: ArrayLike, *, nodes: ArrayLike) -> jraph.GraphsTuple:
    """Build a graph from a matrix [N, N] of zeros and ones; row i receives from its columns.

    Raises:
      ValueError: if the matrix is not square, holds other numbers, or does not fit `nodes`.
    """
    adjacency = np.asarray(adjacency)
    if adjacency.ndim != 2 or adjacency.shape[0] != adjacency.shape[1]:
        raise ValueError(f"adjacency: expected a square matrix, got shape {adjacency.shape}")
    if not np.isin(adjacency, (0, 1)).all():
        bad = adjacency[~np.isin(adjacency, (0, 1))][0]
        raise ValueError(f"adjacency: expected zeros and ones, got {bad}")
    nodes = _check_features("nodes", nodes)
    if len(nodes) != len(adjacency):
        raise ValueError(f"nodes: expected {len(adjacency)} rows, got {len(nodes)}")
    receivers, senders = np.nonzero(adjacency)
    return from_edges(senders, receivers, nodes=nodes)


def from_networkx(
    graph: nx.Graph, *, nodes: ArrayLike | None = None, edge_attributes: Sequence[str] = ()
) -> jraph.GraphsTuple:
    """Build a graph from networkx, nodes in the order of `graph.nodes`.

    An undirected edge runs both ways (a self-loop once); parallel edges of a multigraph stay.

    Args:
      graph: any networkx graph.
      nodes: [N, F] features; None gives the identity matrix.
      edge_attributes: names of numeric edge attributes, one column of edge features each.

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


def add_self_loops(
    graph: jraph.GraphsTuple, *, edge_features: ArrayLike | None = None
) -> jraph.GraphsTuple:
    """Give every node one self-loop.

    Args:
      graph: one graph without self-loops.
      edge_features: [D] features of each loop; needed if and only if the graph has edge features.

    Raises:
      ValueError: if there is a self-loop already (a second one would count twice), or if
        `edge_features` is missing or superfluous.
    """
    senders, receivers = np.asarray(graph.senders), np.asarray(graph.receivers)
    num_nodes = len(graph.nodes)
    if (senders == receivers).any():
        raise ValueError(
            "graph: expected no self-loops yet, got "
            f"{np.sum(senders == receivers)} (the first at node {senders[senders == receivers][0]})"
        )
    if (graph.edges is None) != (edge_features is None):
        raise ValueError(
            "edge_features: expected features of the loops if and only if the edges have some, got "
            + ("none" if edge_features is None else "some for edges without features")
        )
    loops = np.arange(num_nodes, dtype=np.int32)
    edges = graph.edges
    if edges is not None:
        row = np.asarray(edge_features, np.asarray(edges).dtype)
        if row.shape != np.shape(edges)[1:]:
            raise ValueError(
                f"edge_features: expected shape {np.shape(edges)[1:]}, got {row.shape}"
            )
        edges = np.concatenate([edges, np.broadcast_to(row, (num_nodes, len(row)))])
    return from_edges(
        np.concatenate([senders, loops]),
        np.concatenate([receivers, loops]),
        nodes=graph.nodes,
        edges=edges,
    )


def in_neighbourhood(
    graph: jraph.GraphsTuple, receivers: ArrayLike
) -> tuple[jraph.GraphsTuple, Int[np.ndarray, " kept"]]:
    """Cut out what one layer needs to compute the rows of `receivers`, nothing else.

    Returns:
      The graph of `receivers`, their senders and the edges into `receivers`, renumbered in
      ascending order of the old ids; and the old ids of its nodes. Rows of the other nodes kept
      lack their incoming edges and mean nothing.
    """
    receivers = np.unique(_check_ids("receivers", receivers, len(graph.nodes)))
    edge_mask = np.isin(graph.receivers, receivers)
    kept = np.union1d(receivers, np.asarray(graph.senders)[edge_mask])
    subgraph = from_edges(
        np.searchsorted(kept, np.asarray(graph.senders)[edge_mask]),
        np.searchsorted(kept, np.asarray(graph.receivers)[edge_mask]),
        nodes=np.asarray(graph.nodes)[kept],
        edges=None if graph.edges is None else np.asarray(graph.edges)[edge_mask],
    )
    return subgraph, kept


def pad(graph: jraph.GraphsTuple, *, num_nodes: int, num_edges: int) -> jraph.GraphsTuple:
    """Pad to a fixed shape; the rows of real nodes do not depend on what is in the padding.

    Padding edges run among padding nodes alone, which come last, so no real row sees them: not a
    bit, nor a gradient. Beside the graph without padding, only the rounding of matrix products may
    differ, as XLA picks their arithmetic by shape.

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


# --- features -------------------------------------------------------------------------------


def identity_features(num_nodes: int) -> Float[np.ndarray, "nodes nodes"]:
    """Return one-hot node ids, float32: they tell all nodes apart."""
    return np.eye(num_nodes, dtype=np.float32)


def structural_features(graph: jraph.GraphsTuple) -> Float[np.ndarray, "nodes 4"]:
    """Return in-degree, core number, clustering coefficient and mean neighbour degree, float32.

    Twins of an undirected graph have equal structural features: what depends on the
    neighbourhood alone can never tell them apart.
    """
    simple = nx.Graph()
    simple.add_nodes_from(range(len(graph.nodes)))
    simple.add_edges_from(
        (int(s), int(r)) for s, r in zip(graph.senders, graph.receivers, strict=True) if s != r
    )
    in_degree = np.bincount(graph.receivers, minlength=len(graph.nodes))
    clustering = nx.clustering(simple)
    assert isinstance(clustering, dict)  # networkx gives a number for a single node only
    columns = (
        dict(enumerate(in_degree)),
        nx.core_number(simple),
        clustering,
        nx.average_neighbor_degree(simple),
    )
    return np.array([[column[i] for column in columns] for i in simple], np.float32)


def standardise(features: ArrayLike) -> Float[np.ndarray, "nodes features"]:
    """Shift and scale every column to mean 0 and standard deviation 1; constant columns give 0."""
    features = _check_features("features", features)
    centred = features - features.mean(axis=0, keepdims=True)
    scale = centred.std(axis=0, keepdims=True)
    return np.divide(centred, scale, out=np.zeros_like(centred), where=scale > 0)


# --- built-in graphs --------------------------------------------------------------------------


def tutorial_graph() -> jraph.GraphsTuple:
    """Return the four nodes of the tutorial the article discusses; nodes 2 and 3 are twins.

    Features 0..7 in rows of two; self-loops included. Source: UvA deep learning notebooks, 7.
    """
    adjacency = [[1, 1, 0, 0], [1, 1, 1, 1], [0, 1, 1, 1], [0, 1, 1, 1]]
    return from_adjacency(adjacency, nodes=np.arange(8, dtype=np.float32).reshape(4, 2))


def karate_club() -> jraph.GraphsTuple:
    """Return Zachary's karate club (34 nodes, 78 edges both ways), identity features."""
    return from_networkx(nx.karate_club_graph())


def les_miserables() -> jraph.GraphsTuple:
    """Return Knuth's Les Miserables (77 nodes, 254 edges both ways), identity features."""
    return from_networkx(nx.les_miserables_graph())


def complete_graph(num_nodes: int) -> jraph.GraphsTuple:
    """Return the complete graph without self-loops, identity features; closed twins throughout."""
    return from_networkx(nx.complete_graph(num_nodes))


def star_graph(num_leaves: int) -> jraph.GraphsTuple:
    """Return a hub (node 0) with `num_leaves` leaves, identity features, without self-loops."""
    return from_networkx(nx.star_graph(num_leaves))


def random_graph(
    seed: int,
    *,
    num_nodes: int,
    num_edges: int,
    num_features: int,
    num_edge_features: int = 0,
    num_twins: int = 0,
) -> jraph.GraphsTuple:
    """Draw a directed multigraph with planted twins; Gaussian features, float32.

    Endpoints are uniform, so duplicate edges, self-loops and isolated nodes occur. Afterwards
    each of the last `num_twins` nodes gives up its incoming edges for a copy of those of its
    partner, `num_twins` ids before it, so the final number of edges varies.

    Raises:
      ValueError: if there are not two nodes for every planted twin.
    """
    if not 0 <= 2 * num_twins <= num_nodes:
        raise ValueError(f"num_twins: expected 0 to {num_nodes // 2}, got {num_twins}")
    rng = np.random.default_rng(seed)
    senders = rng.integers(num_nodes, size=num_edges)
    receivers = rng.integers(num_nodes, size=num_edges)
    edges = rng.standard_normal((num_edges, num_edge_features)).astype(np.float32)
    kept = receivers < num_nodes - num_twins
    copied = kept & (receivers >= num_nodes - 2 * num_twins)
    edges = np.concatenate([edges[kept], edges[copied]])
    return from_edges(
        np.concatenate([senders[kept], senders[copied]]),
        np.concatenate([receivers[kept], receivers[copied] + num_twins]),
        nodes=rng.standard_normal((num_nodes, num_features)).astype(np.float32),
        edges=edges if num_edge_features else None,
    )
