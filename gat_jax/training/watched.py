"""What measurements read: a layer at one moment, and what of its graph is the same at all moments.

`watch` looks at the graph once, on the host: which rows have an entropy, where self-loops are, who
is a twin, and which pairs of twins are compared. `measures` computes with it on the device.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jraph
import numpy as np
from jaxtyping import Array, Float, Int

from gat_jax.graphs import TwinClasses, TwinCounts, padding_masks, twin_samples, twins
from gat_jax.kernels import Layout, Scalar, SparseFeatures, layouts
from gat_jax.layers import AttentionInfo, EdgeMask, LayerParams, LayerShape, check_edge_mask


class Seen(NamedTuple):
    """One layer at one moment, without dropout; N nodes, padding among them."""

    info: AttentionInfo
    inputs: Float[Array | np.ndarray, "nodes features"] | SparseFeatures  # what it was given
    outputs: Float[Array, "nodes outputs"]  # merged heads, with output bias and residual
    # Of the whole network, as far as each layer reads the outputs of the one before through nothing
    # but an activation. Where there is a norm or the like between them, this layer's alone.
    params: tuple[LayerParams, ...]
    depth: int  # static: which of them is this layer's
    config: LayerShape  # of the layer; static


class TwinGroup(NamedTuple):
    """The trivial or the non-trivial twins of a graph; host arrays, or traced ones.

    R twins, P compared pairs, L twins in K large classes.
    """

    nodes: Any  # [R] ids, class by class
    classes: Any  # [R] number of each one's class
    first: Any  # [P] and the next two: `twin_samples.ComparedPairs`
    second: Any
    weight: Any
    large_nodes: Any  # [L] ids, class by class; of pairs of these but a sample is compared
    large_classes: Any  # [L] number of each one's class among the large ones
    large_names: Any  # [K] smallest id of each large class


# Fields that are `Any` hold arrays, or what a transformation of JAX puts in their place.
@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=[
        *("graph", "layout", "edge_mask", "slope", "entropy_rows", "choosing_rows", "loops"),
        *("twins", "trivial_twins"),
    ],
    meta_fields=["counts", "num_nodes", "hides_edges"],
)
@dataclasses.dataclass(frozen=True)
class Watched:
    """What is the same at every moment; made by `watch`, passed to compiled functions whole."""

    graph: Any  # jraph.GraphsTuple
    layout: Any  # Layout of its edges
    edge_mask: Any  # [E], True = real; None: all are
    slope: Any  # of the layers' LeakyReLU
    entropy_rows: Any  # ids of the receivers with at least two edges
    choosing_rows: Any  # ids of the receivers with at least two distinct senders
    loops: Any  # [S, M] edges of a receiver with self-loops, in every row; -1 where there is none
    twins: Any  # TwinGroup of the non-trivial twins
    trivial_twins: Any  # TwinGroup of the trivial ones
    counts: TwinCounts  # how many twins there are
    num_nodes: int  # that are real; they come first
    hides_edges: bool  # whether an edge that is no self-loop is masked


def watch(
    graph: jraph.GraphsTuple,
    *,
    layout: Layout | None = None,
    edge_mask: EdgeMask | None = None,
    slope: Scalar = 0.2,
    classes: TwinClasses | None = None,
) -> Watched:
    """Look at a graph once, on the host, for all that is measured of layers on it.

    Args:
      graph: one set of nodes, padded or not; it may not be traced.
      layout: of its edges; None stands for the edge list.
      edge_mask: [E], True = real; padding is masked in any case.
      slope: of the layers' LeakyReLU; `dataclasses.replace` puts a traced one in its place.
      classes: of the twins, by `graphs.twin_classes`. None: found here, in the graph of the real
        edges. Of a batch of several graphs they have to be given.

    Raises:
      ValueError: if there are two sets of nodes, if layout or mask do not fit, or as
        `graphs.twin_classes`.
    """
    layouts.one_set_of(graph, "in measurements")
    if layout is None:
        layout = layouts.segment_layout(graph)
    else:
        layouts.check_layout(layout, graph)
    num_edges = len(graph.receivers)
    check_edge_mask(edge_mask, num_edges)
    is_real_n, is_real_e = padding_masks(graph)
    if edge_mask is not None:
        is_real_e &= np.asarray(edge_mask)
    classes = twins.twin_classes(_with_edges(graph, is_real_e)) if classes is None else classes
    senders, receivers = np.asarray(graph.senders), np.asarray(graph.receivers)
    is_loop = senders == receivers
    real_senders, real_receivers = senders[is_real_e], receivers[is_real_e]
    distinct = np.unique(np.stack([real_receivers, real_senders]), axis=1)[0]
    return Watched(
        graph=graph,
        layout=layout,
        edge_mask=None if is_real_e.all() else is_real_e,
        slope=slope,
        entropy_rows=_ids_with_two(real_receivers),
        choosing_rows=_ids_with_two(distinct),
        loops=_by_receiver(np.flatnonzero(is_loop & is_real_e), receivers),
        twins=_twin_group(classes, is_trivial=False),
        trivial_twins=_twin_group(classes, is_trivial=True),
        counts=twins.count_twins(classes),
        num_nodes=int(is_real_n.sum()),
        hides_edges=bool(np.any(~is_real_e & ~is_loop)),
    )


def _with_edges(graph: jraph.GraphsTuple, is_kept: np.ndarray) -> jraph.GraphsTuple:
    """Return a graph without the other edges; features stay only where padding is told by them."""
    if len(graph.n_node) == 1:
        graph = graph._replace(nodes=np.zeros((len(graph.nodes), 1), np.float32))
    n_edge = np.asarray(graph.n_edge)
    number = np.repeat(np.arange(len(n_edge)), n_edge)[is_kept]
    return graph._replace(
        senders=np.asarray(graph.senders)[is_kept],
        receivers=np.asarray(graph.receivers)[is_kept],
        edges=None if graph.edges is None else np.asarray(graph.edges)[is_kept],
        n_edge=np.bincount(number, minlength=len(n_edge)).astype(n_edge.dtype),
    )


def _ids_with_two(ids: Int[np.ndarray, " entries"]) -> Int[np.ndarray, " nodes"]:
    """Return the ids that stand there at least twice."""
    return np.flatnonzero(np.bincount(ids) >= 2).astype(np.int32)


def _by_receiver(
    edges: Int[np.ndarray, " loops"], receivers: Int[np.ndarray, " edges"]
) -> Int[np.ndarray, "rows places"]:
    """Return the edges of every receiver that has some of them, one row each, filled with -1."""
    edges = edges[np.argsort(receivers[edges], kind="stable")]
    _, first, row, counts = np.unique(
        receivers[edges], return_index=True, return_inverse=True, return_counts=True
    )
    table = np.full((len(first), np.max(counts, initial=1)), -1, np.int32)
    table[row, np.arange(len(edges)) - first[row]] = edges
    return table


def _twin_group(classes: TwinClasses, *, is_trivial: bool) -> TwinGroup:
    """Return the trivial or the non-trivial twins of classes of at least two nodes."""
    is_twin = (twins.class_sizes(classes) >= 2) & (classes.is_trivial == is_trivial)
    nodes = np.flatnonzero(is_twin)
    nodes = nodes[np.argsort(classes.twin[nodes], kind="stable")]
    large = twin_samples.large_classes(classes, is_trivial=is_trivial)
    names, numbers = np.unique(classes.twin[large], return_inverse=True)
    ids = nodes, np.unique(classes.twin[nodes], return_inverse=True)[1], large, numbers, names
    nodes, by_twin, large, numbers, names = (array.astype(np.int32) for array in ids)
    pairs = twin_samples.compare_pairs(classes, is_trivial=is_trivial)
    return TwinGroup(nodes, by_twin, *pairs, large, numbers, names)
