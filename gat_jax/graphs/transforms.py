"""Graphs and features made of others: self-loops, structural and standardised features.

Everything here runs on the host in NumPy, before tracing.
"""

import jraph
import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from gat_jax.graphs import build


def add_self_loops(
    graph: jraph.GraphsTuple, *, edge_features: ArrayLike | None = None
) -> jraph.GraphsTuple:
    """Give every node one self-loop.

    Args:
      graph: one graph without self-loops.
      edge_features: [D] features of each loop; needed if and only if the graph has edge features.

    Returns:
      The graph with N edges more, sorted as by `from_edges`.

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
    return build.from_edges(
        np.concatenate([senders, loops]),
        np.concatenate([receivers, loops]),
        nodes=graph.nodes,
        edges=edges,
    )


def structural_features(graph: jraph.GraphsTuple) -> Float[np.ndarray, "nodes 4"]:
    """Describe every node by its neighbourhood alone.

    Twins of an undirected graph have equal structural features: what depends on the
    neighbourhood alone can never tell them apart.

    Args:
      graph: one graph; the last three features see its edges without direction, duplicates and
        self-loops.

    Returns:
      [N, 4] float32: in-degree, core number, clustering coefficient and mean neighbour degree.
    """
    import networkx as nx  # here, as the import takes long and little else of the package needs it

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
    """Shift and scale every column to mean 0 and standard deviation 1; constant columns give 0.

    Args:
      features: [N, F] finite numbers; whole numbers become float32.

    Returns:
      [N, F] of the same floating dtype.

    Raises:
      ValueError: unless `features` is a matrix of finite real numbers.
    """
    features = build.check_features("features", features)
    centred = features - features.mean(axis=0, keepdims=True)
    scale = centred.std(axis=0, keepdims=True)
    return np.divide(centred, scale, out=np.zeros_like(centred), where=scale > 0)
