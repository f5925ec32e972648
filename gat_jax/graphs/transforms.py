"""Graphs and features made of others: self-loops, both directions, structural and scaled features.

Everything here runs on the host in NumPy, before tracing.
"""

import jraph
import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from gat_jax.graphs import build, padding
from gat_jax.runtime.arrays import as_array, check_features, check_matrix, check_real


def add_self_loops(
    graph: jraph.GraphsTuple, *, edge_features: ArrayLike | None = None
) -> jraph.GraphsTuple:
    """Give every node one self-loop.

    Args:
      graph: one graph without self-loops, or several in one tuple. Padding gets none.
      edge_features: [D] features of each loop; needed if and only if the graph has edge features.

    Returns:
      The same graphs, each with one edge more for each of its nodes, sorted as by `from_edges`.

    Raises:
      ValueError: if there is a self-loop already (a second one would count twice), if
        `edge_features` is missing or superfluous, if padding cannot be told from a graph without
        edges, or as `validate`.
    """
    build.validate(graph)
    part = padding.real_part(graph)
    senders, receivers = np.asarray(graph.senders), np.asarray(graph.receivers)
    is_loop = (senders == receivers)[: part.num_edges]
    if is_loop.any():
        raise ValueError(
            f"graph: expected no self-loops yet, got {is_loop.sum()} (the first at node "
            f"{senders[np.argmax(is_loop)]})"
        )
    if (graph.edges is None) != (edge_features is None):
        raise ValueError(
            "edge_features: expected features of the loops if and only if the edges have some, got "
            + ("none" if edge_features is None else "some for edges without features")
        )
    loops = np.arange(part.num_nodes, dtype=np.int32)
    edges = graph.edges
    if edges is not None:
        row = as_array("edge_features", edge_features)
        if row.shape != np.shape(edges)[1:]:
            raise ValueError(
                f"edge_features: expected shape {np.shape(edges)[1:]}, got {row.shape}"
            )
        row = check_features("edge_features", row[None]).astype(np.asarray(edges).dtype)
        edges = np.concatenate([edges, np.broadcast_to(row, (len(loops), row.shape[1]))])
    looped = build.from_edges(
        np.concatenate([senders, loops]),
        np.concatenate([receivers, loops]),
        nodes=graph.nodes,
        edges=edges,
    )
    # Sorting by receiver keeps the edges of one graph of several together, and padding last.
    n_node = np.asarray(graph.n_node, np.int32)
    is_real = np.cumsum(n_node) <= part.num_nodes
    return looped._replace(
        globals=graph.globals,
        n_node=n_node,
        n_edge=np.asarray(graph.n_edge, np.int32) + np.where(is_real, n_node, 0),
    )


def symmetrise(graph: jraph.GraphsTuple) -> jraph.GraphsTuple:
    """Add the other direction of every edge, so that the graph is undirected.

    Args:
      graph: one graph without padding. An edge's features are those of its other direction too.

    Returns:
      The same nodes; every edge and its other direction once, self-loops and edges that were there
      several times too. Edges between the same nodes whose features differ all stay.

    Raises:
      ValueError: if it is a batch or padded, or as `validate`.
    """
    part = padding.check_one_graph(graph)
    if part.num_nodes < len(graph.nodes):
        raise ValueError(
            f"graph: expected one without padding, got {len(graph.nodes) - part.num_nodes} nodes "
            "of padding"
        )
    senders, receivers = np.asarray(graph.senders), np.asarray(graph.receivers)
    edges = None if graph.edges is None else np.asarray(graph.edges)
    both = build.from_edges(
        np.concatenate([senders, receivers]),
        np.concatenate([receivers, senders]),
        nodes=graph.nodes,
        edges=None if edges is None else np.concatenate([edges, edges]),
    )
    columns = [both.senders, both.receivers, *(() if edges is None else np.asarray(both.edges).T)]
    is_first = np.ones(len(both.senders), bool)  # equal edges lie side by side
    is_first[1:] = np.any([column[1:] != column[:-1] for column in columns], axis=0)
    return build.from_edges(
        both.senders[is_first],
        both.receivers[is_first],
        nodes=graph.nodes,
        edges=None if edges is None else both.edges[is_first],
    )._replace(globals=graph.globals)


def structural_features(graph: jraph.GraphsTuple) -> Float[np.ndarray, "nodes 4"]:
    """Describe every node by its neighbourhood alone.

    Twins of an undirected graph have equal structural features: what depends on the
    neighbourhood alone can never tell them apart.

    Args:
      graph: one graph, or several in one tuple; the last three features see its edges without
        direction, duplicates and self-loops.

    Returns:
      [N, 4] float32: in-degree, core number, clustering coefficient and mean neighbour degree; all
      of them 0 for padding.

    Raises:
      ValueError: as `validate`.
    """
    import networkx as nx  # here, as the import takes long and little else of the package needs it

    build.validate(graph)
    part = padding.real_part(graph)
    senders, receivers = (
        np.asarray(ids)[: part.num_edges] for ids in (graph.senders, graph.receivers)
    )
    simple = nx.Graph()
    simple.add_nodes_from(range(len(graph.nodes)))
    is_loop = senders == receivers
    simple.add_edges_from(
        zip(senders[~is_loop].tolist(), receivers[~is_loop].tolist(), strict=True)
    )
    in_degree = np.bincount(receivers, minlength=len(graph.nodes))
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
    """Shift and scale every column to mean 0 and standard deviation 1; constant columns give 0.

    Args:
      features: [N, F] finite numbers, also some that float32 would not hold.

    Returns:
      [N, F] of the same floating dtype; float32 for whole numbers.

    Raises:
      ValueError: unless `features` is a matrix of finite real numbers.
    """
    wide, dtype = _widened(features)
    if len(wide) == 0:  # no rows have no mean
        return wide.astype(dtype)
    scaled = _scaled(wide, axis=0)
    centred = scaled - scaled.mean(axis=0, keepdims=True)
    deviation = centred.std(axis=0, keepdims=True)
    standard = np.divide(centred, deviation, out=np.zeros_like(centred), where=deviation > 0)
    return standard.astype(dtype)


def normalise_rows(features: ArrayLike) -> Float[np.ndarray, "nodes features"]:
    """Divide every row by its sum, as is usual for words of documents; rows of sum 0 stay.

    Args:
      features: [N, F] finite numbers, as a rule none of them negative.

    Returns:
      [N, F] of the same floating dtype; float32 for whole numbers.

    Raises:
      ValueError: unless `features` is a matrix of finite real numbers.
    """
    wide, dtype = _widened(features)
    scaled = _scaled(wide, axis=1)
    sums = scaled.sum(axis=1, keepdims=True)
    return np.divide(scaled, sums, out=wide, where=sums != 0).astype(dtype)


def _widened(features: ArrayLike) -> tuple[Float[np.ndarray, "nodes features"], np.dtype]:
    """Return a copy of features in a dtype to compute in, and the dtype of the result."""
    features = check_real("features", check_matrix("features", features))
    if features.dtype.kind in "biu":
        return features.astype(np.float64), np.dtype(np.float32)
    return features.astype(np.promote_types(features.dtype, np.float32)), features.dtype


def _scaled(
    values: Float[np.ndarray, "nodes features"], *, axis: int
) -> Float[np.ndarray, "nodes features"]:
    """Scale by a power of two, which rounds nothing, so that the largest along an axis is near 1.

    The sum and the square of large numbers would be infinite, the square of a small one 0.
    """
    _, exponents = np.frexp(np.abs(values).max(axis=axis, keepdims=True, initial=0.0))
    return np.ldexp(values, -exponents)
