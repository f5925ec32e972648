"""What one call of a layer saw, in packages whose layers are spelled as PyTorch Geometric's are."""

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import ArrayLike

from gat_jax.diagnosis.models.loops import EdgeList
from gat_jax.diagnosis.models.observed import ImportedLayer, ObservedLayer
from gat_jax.diagnosis.weights.forms import FormOptions
from gat_jax.diagnosis.weights.pyg import FORMS
from gat_jax.graphs import from_edges
from gat_jax.runtime.arrays import as_array, check_features, check_integers

KINDS = ("GATConv", "GATv2Conv", "GCNConv")  # the layers that are diagnosed
Ends = tuple[Int[np.ndarray, " edges"], Int[np.ndarray, " edges"]]  # senders and receivers
TWO_SETS = (
    "x: expected one set of nodes, got features of senders and of receivers; graphs of two sets "
    "are not diagnosed"
)


def read_parameters(name: str, module: Any, arrays: dict[str, np.ndarray]) -> ImportedLayer:
    """Return a layer of one of `KINDS` in our terms.

    Args:
      name: its place in its model.
      module: the layer, which says how many heads it has, and what it does with them.
      arrays: its parameters, by their names in a state dict of PyTorch Geometric.

    Raises:
      ValueError: as the form in which they are read.
    """
    options = FormOptions(
        heads=getattr(module, "heads", 1),
        concat=getattr(module, "concat", None),
        slope=getattr(module, "negative_slope", 0.2),
    )
    [form] = [f for f in FORMS if f.required <= set(arrays) <= f.required | f.optional]
    return form.read(name, arrays, options)


def ends_of_ids(edge_index: ArrayLike) -> Ends:
    """Return the two rows of an `edge_index`, an array [2, E] of whole numbers.

    Raises:
      ValueError: if its shape or its dtype is another.
    """
    ids = as_array("edge_index", edge_index)
    if ids.ndim != 2 or len(ids) != 2:
        raise ValueError(f"edge_index: expected shape [2, E], got {list(ids.shape)}")
    check_integers("edge_index", ids)
    return ids[0], ids[1]


def nodes_of_model(x: ArrayLike, num_nodes: int) -> Float[np.ndarray, "nodes features"]:
    """Return the inputs of a layer, if there is a row for each node of the model's graph.

    Raises:
      ValueError: if there is not, or numbers are not finite.
    """
    nodes = check_features("x", x)
    if len(nodes) != num_nodes:
        raise ValueError(
            f"x: expected {num_nodes} rows, one for each node of the model's graph, got "
            f"{len(nodes)}; layers on other nodes are not diagnosed"
        )
    return nodes


def features_read(
    imported: ImportedLayer, features: Float[np.ndarray, "edges features"] | None
) -> tuple[ImportedLayer, Float[np.ndarray, "edges features"] | None]:
    """Return a layer and the features of edges that it reads in a call.

    It ignores those that it has no parameters for, and parameters for which it is given none.

    Raises:
      ValueError: if features that are read are not finite.
    """
    if imported.config.num_edge_features == 0:
        return imported, None
    if features is not None:
        return imported, check_features("edge_attr", features)
    parts = {key: None for key in ("edge_kernel", "a_edge") if hasattr(imported.params, key)}
    config = dataclasses.replace(imported.config, num_edge_features=0)
    return imported._replace(config=config, params=imported.params._replace(**parts)), None


def attended(
    imported: ImportedLayer,
    nodes: Float[np.ndarray, "nodes features"],
    ends: EdgeList,
    *,
    is_against: bool = False,
) -> ObservedLayer:
    """Return the call of a layer with attention.

    Args:
      imported: the layer.
      nodes: its inputs.
      ends: all edges that it attends over, its loops among them.
      is_against: whether messages run from receivers to senders.
    """
    senders, receivers, features = ends
    if is_against:
        senders, receivers = receivers, senders
    return ObservedLayer(imported, from_edges(senders, receivers, nodes=nodes, edges=features))


def convolved(
    imported: ImportedLayer,
    nodes: Float[np.ndarray, "nodes features"],
    ends: EdgeList,
    *,
    loop_weight: float | None,
    is_against: bool = False,
) -> ObservedLayer:
    """Return the call of a GCN with symmetric weights.

    Args:
      imported: the layer.
      nodes: its inputs.
      ends: the edges as they were given, with weights [E, 1], or None for 1 each.
      loop_weight: of the loop that each node is given; loops that there are keep their own. None:
        no loops are added.
      is_against: whether messages run from receivers to senders.

    Raises:
      ValueError: for weights of another shape, or whose sum at a node is negative.
    """
    senders, receivers, weights = ends
    if weights is None:
        weights = np.ones((len(senders), 1), np.float32)
    if weights.shape != (len(senders), 1):
        raise ValueError(f"edge_weight: expected one number an edge, got {list(weights.shape)}")
    if loop_weight is not None:
        stays = senders != receivers
        looped = np.full((len(nodes), 1), loop_weight, weights.dtype)
        looped[senders[~stays]] = weights[~stays]
        loops = np.arange(len(nodes))
        weights = np.concatenate([weights[stays], looped])
        senders, receivers = np.append(senders[stays], loops), np.append(receivers[stays], loops)
    if is_against:
        senders, receivers = receivers, senders
    # Edges are sorted by their weights too, so that twins have theirs in the same order.
    graph = from_edges(senders, receivers, nodes=nodes, edges=weights)
    multiplier = _multiplier(graph.senders, graph.receivers, np.asarray(graph.edges)[:, 0], nodes)
    return ObservedLayer(imported, graph._replace(edges=None), edge_weight=multiplier)


def _multiplier(
    senders: Int[np.ndarray, " edges"],
    receivers: Int[np.ndarray, " edges"],
    weights: Float[np.ndarray, " edges"],
    nodes: Float[np.ndarray, "nodes features"],
) -> Float[np.ndarray, " edges"] | None:
    """Return what makes our symmetric weights theirs, None if they are equal.

    Ours are 1 / sqrt(d_i d_j) with the numbers d of edges that nodes receive, at least 1. Theirs
    are w_ij / sqrt(D_i D_j) with the sums D of their weights, and 0 for a node where D is 0.
    """
    sums = np.bincount(receivers, weights.astype(np.float64), minlength=len(nodes))
    if sums.size and sums.min() < 0:
        raise ValueError(
            "edge_weight: expected weights whose sum at each node is at least 0, got "
            f"{sums.min():.6g} at node {np.argmin(sums)}"
        )
    counts = np.bincount(receivers, minlength=len(nodes))
    ratio = np.divide(np.maximum(counts, 1), sums, out=np.zeros(len(nodes)), where=sums > 0)
    multiplier = weights * np.sqrt(ratio[senders] * ratio[receivers])
    return None if np.all(multiplier == 1.0) else multiplier
