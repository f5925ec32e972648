"""Twins: receivers with the same support, found on the host in near-linear time.

The support of a receiver is the multiset of its incoming edges as the layer sees them: senders
with their multiplicity and edge features. Self-loops are edges, so adding them changes who is a
twin. A support of at most one distinct (sender, edge features) is trivial: its twins are equal in
every layer for all parameters. On real graphs trivial twins are by far the most; count them apart.

Features count as the layer sees them: what float32 rounds to one number is one.

The functions of a graph take one graph, padded or not; every padding node is a class of its own, so
that it is nobody's twin and counts nowhere. A batch is refused.
"""

from typing import NamedTuple

import jraph
import numpy as np
from jaxtyping import Bool, Float, Int, Num
from numpy.typing import ArrayLike

from gat_jax.graphs import padding
from gat_jax.graphs.supports import (
    OutputClasses,
    alone_from,
    by_smallest,
    group,
    group_sums,
    pair_numbers,
    row_classes,
    sizes_of,
    symmetric_weights,
)
from gat_jax.runtime.arrays import (
    as_array,
    as_held,
    check_features,
    check_matrix,
    check_size,
    check_whole_numbers,
)

BYTES_OF_A_PAIR = 64  # while pairs are listed: both ids, their order, and what sorts them


class TwinClasses(NamedTuple):
    """Who is a twin of whom, and who is equal as long as all twins are; host arrays.

    Twins are equal if and only if parameters make them so. Beside them are *inseparable* nodes,
    which one layer cannot tell apart whatever its parameters (docs/theory.md, section 5). While all
    twins stay equal, so does every node of `smallest`: the finest classes that hold both.
    """

    smallest: Int[np.ndarray, " nodes"]  # smallest id of those equal while twins are: for floors
    is_trivial: Bool[np.ndarray, " nodes"]  # whether the support is
    twin: Int[np.ndarray, " nodes"]  # smallest id with the same support: names a class of twins


class TwinPairs(NamedTuple):
    """All pairs of twins, first < second; host arrays."""

    first: Int[np.ndarray, " pairs"]
    second: Int[np.ndarray, " pairs"]
    is_trivial: Bool[np.ndarray, " pairs"]


class TwinCounts(NamedTuple):
    """How many twins there are, the trivial ones apart."""

    nodes: int  # in a class of at least two
    classes: int  # of at least two
    pairs: int
    trivial_nodes: int
    trivial_classes: int
    trivial_pairs: int


def twin_classes(graph: jraph.GraphsTuple, *, edge_weight: ArrayLike | None = None) -> TwinClasses:
    """Group the receivers of one graph by support; nodes without incoming edges are trivial.

    Args:
      graph: one graph, padded or not.
      edge_weight: [E] of layers that are given weights; receivers whose edges differ in weight are
        no twins then.

    Raises:
      ValueError: if it is a batch, if weights do not fit, or as `validate`.
    """
    num_real = padding.check_one_graph(graph).num_nodes
    edge_class = 0 if graph.edges is None else row_classes(as_held(np.asarray(graph.edges)))
    senders = _weighted(np.asarray(graph.senders), edge_weight)
    twins = alone_from(num_real, group(graph, senders, edge_class))
    stay_equal = join_classes(twins.smallest, _inseparable_classes(graph, num_real, edge_weight))
    return TwinClasses(stay_equal, twins.is_trivial, twins.smallest)


def output_classes(
    graph: jraph.GraphsTuple,
    input_classes: ArrayLike,
    *,
    is_average: bool = True,
    edge_weight: ArrayLike | None = None,
) -> OutputClasses:
    """Group receivers whose outputs are equal as soon as their attention rows are.

    This is coarser than `twin_classes`: senders with equal inputs count as one, and where the
    layer averages, a support and its double have the same average, and a receiver whose senders
    are all equal gets that sender's value whatever its edge features are (is trivial). Where it
    does not, as in GCN with symmetric weights 1 / sqrt(d_i d_j), what counts is the sum of the
    weights of the senders of each class: one sender of degree 1 is as good as two of degree 2 are
    to a receiver of degree 2.

    Args:
      graph: one graph, padded or not.
      input_classes: [N] equal entries for nodes with equal inputs to the layer.
      is_average: whether weights sum to 1 (attention and mean do, symmetric GCN does not).
      edge_weight: [E] as `twin_classes`; of senders with equal inputs only those of one weight
        count as one.

    Raises:
      ValueError: if it is a batch, if classes or weights do not fit, or as `validate`.
    """
    num_real = padding.check_one_graph(graph).num_nodes
    input_classes = as_array("input_classes", input_classes)
    if input_classes.shape != (len(graph.nodes),):
        raise ValueError(
            f"input_classes: expected shape {(len(graph.nodes),)}, got {input_classes.shape}"
        )
    return _output_classes(graph, input_classes, num_real, edge_weight, is_average=is_average)


def _output_classes(
    graph: jraph.GraphsTuple,
    input_classes: np.ndarray,
    num_real: int,
    edge_weight: ArrayLike | None = None,
    *,
    is_average: bool = True,
) -> OutputClasses:
    """Group as `output_classes`, in a graph that has been checked."""
    senders = np.unique(input_classes, return_inverse=True)[1][graph.senders]
    edge_class = np.zeros(len(senders), np.int64)
    if graph.edges is not None:
        edge_class = 1 + row_classes(as_held(np.asarray(graph.edges)))
    if not is_average:
        weights = symmetric_weights(graph)
        if edge_weight is not None:
            weights = weights * _checked_weights(senders, edge_weight)
        return alone_from(num_real, group_sums(graph, senders, edge_class, weights))
    senders = _weighted(senders, edge_weight)
    if graph.edges is not None:
        receivers = np.asarray(graph.receivers)
        lowest = np.full(len(graph.nodes), np.iinfo(np.int64).max)
        highest = np.full(len(graph.nodes), -1)
        np.minimum.at(lowest, receivers, senders)
        np.maximum.at(highest, receivers, senders)
        edge_class[(lowest == highest)[receivers]] = 0
    return alone_from(num_real, group(graph, senders, edge_class, is_average=True))


def inseparable_classes(
    graph: jraph.GraphsTuple, *, edge_weight: ArrayLike | None = None
) -> Int[np.ndarray, " nodes"]:
    """Give every node the smallest id of those that one layer cannot tell it from.

    Twins with a trivial support, or with equal features; a residual path tells the former apart.

    Args:
      graph: one graph, padded or not.
      edge_weight: [E] as `twin_classes`.

    Raises:
      ValueError: if it is a batch, if weights do not fit, or as `validate`.
    """
    return _inseparable_classes(graph, padding.check_one_graph(graph).num_nodes, edge_weight)


def _inseparable_classes(
    graph: jraph.GraphsTuple, num_real: int, edge_weight: ArrayLike | None = None
) -> Int[np.ndarray, " nodes"]:
    """Group as `inseparable_classes`, in a graph that has been checked."""
    inputs = equal_rows(np.asarray(graph.nodes))
    classes = _output_classes(graph, inputs, num_real, edge_weight)
    return equal_rows(np.stack([classes.smallest, np.where(classes.is_trivial, -1, inputs)], 1))


def twin_pairs(classes: TwinClasses, *, include_trivial: bool = False) -> TwinPairs:
    """List the pairs within each class; a class of m nodes has m (m - 1) / 2.

    Args:
      classes: of a graph, by `twin_classes`.
      include_trivial: whether trivial twins are listed too.

    Returns:
      The pairs, class by class, each class in the order of its nodes.

    Raises:
      ValueError: if there are so many that they do not fit into memory; `count_twins` does not list
        them.
    """
    counts = count_twins(classes)
    num_pairs = counts.pairs + (counts.trivial_pairs if include_trivial else 0)
    check_size(f"the list of {num_pairs:,} pairs of twins", num_pairs * BYTES_OF_A_PAIR)
    sizes = class_sizes(classes)
    is_listed = (sizes >= 2) & (include_trivial | ~classes.is_trivial)
    pairs = [np.empty((0, 2), np.int64)]
    for size in np.unique(sizes[is_listed]):
        nodes = np.flatnonzero(is_listed & (sizes == size))
        members = nodes[np.argsort(classes.twin[nodes], kind="stable")].reshape(-1, size)
        pairs.append(members[:, np.stack(np.triu_indices(size, 1), axis=1)].reshape(-1, 2))
    first, second = np.concatenate(pairs).T
    order = np.lexsort((second, first, classes.twin[first]))
    first, second = first[order].astype(np.int32), second[order].astype(np.int32)
    return TwinPairs(first, second, classes.is_trivial[first])


def class_sizes(classes: TwinClasses) -> Int[np.ndarray, " nodes"]:
    """Return for every node how many nodes its class of twins has, itself among them."""
    return sizes_of(classes.twin)


def count_twins(classes: TwinClasses) -> TwinCounts:
    """Count twins from the sizes of the classes, without listing pairs."""
    sizes = np.bincount(classes.twin, minlength=len(classes.twin))
    counts = []
    for is_trivial in (False, True):
        m = sizes[(sizes >= 2) & (classes.is_trivial == is_trivial)]
        counts += [int(m.sum()), len(m), int((m * (m - 1) // 2).sum())]
    return TwinCounts(*counts)


def loss_floor(labels: ArrayLike, groups: ArrayLike) -> float:
    """Lowest mean cross-entropy, in nats, that is possible while nodes of a group stay equal.

        floor = (1/N) sum_groups sum_labels -m log(m / group size)

    Args:
      labels: [N] whole numbers; negative = unlabelled, and left out.
      groups: [N] equal entries for nodes that stay equal: `twin_classes(graph).smallest` while all
        twins do, `inseparable_classes(graph)` whatever the parameters of one layer are. The first
        floor is never below the second.

    Raises:
      ValueError: when no node has a label, the lengths differ, or something is no whole number.
    """
    labels, groups = (
        check_whole_numbers(field, values)
        for field, values in (("labels", labels), ("groups", groups))
    )
    if labels.shape != groups.shape or labels.ndim != 1:
        raise ValueError(f"labels: expected shape {groups.shape}, got {labels.shape}")
    is_labelled = labels >= 0
    if not is_labelled.any():
        raise ValueError("labels: expected at least one label >= 0, got none")
    labels, groups = labels[is_labelled], groups[is_labelled]
    cells, m = np.unique(np.stack([groups, labels]), axis=1, return_counts=True)
    group_size = np.bincount(np.unique(groups, return_inverse=True)[1])
    size = group_size[np.searchsorted(np.unique(groups), cells[0])]
    return float(np.sum(m * np.log(size / m)) / len(labels))


def equal_rows(values: Num[np.ndarray, "nodes features"]) -> Int[np.ndarray, " nodes"]:
    """Give every node the smallest id with the same row of values.

    Args:
      values: [N, F] numbers; floating ones count as layers see them, in float32.

    Raises:
      ValueError: if they are no matrix, or hold NaN, which equals nothing.
    """
    rows = check_matrix("values", values)
    if rows.dtype.kind not in "biu":  # classes of nodes stay whole: float32 would merge large ids
        rows = as_held(rows)
    if np.any(rows != rows):
        raise ValueError(
            f"values: expected numbers, got nan in row {np.argwhere(rows != rows)[0, 0]}"
        )
    return by_smallest(row_classes(rows))


def _weighted(
    senders: Int[np.ndarray, " edges"], edge_weight: ArrayLike | None
) -> Int[np.ndarray, " edges"]:
    """Return numbers of the senders, or of the pairs of sender and weight where there are weights.

    Raises:
      ValueError: unless weights are finite numbers, one for each edge.
    """
    if edge_weight is None:
        return senders
    classes = row_classes(_checked_weights(senders, edge_weight)[:, None])
    return np.unique(pair_numbers(senders, classes), return_inverse=True)[1]


def _checked_weights(
    senders: Int[np.ndarray, " edges"], edge_weight: ArrayLike
) -> Float[np.ndarray, " edges"]:
    """Return weights as layers see them.

    Raises:
      ValueError: unless they are finite numbers, one for each edge.
    """
    weights = as_array("edge_weight", edge_weight)
    if weights.shape != senders.shape:
        raise ValueError(f"edge_weight: expected shape {senders.shape}, got {weights.shape}")
    return as_held(check_features("edge_weight", weights[:, None]))[:, 0]


def join_classes(
    first: Int[np.ndarray, " nodes"], second: Int[np.ndarray, " nodes"]
) -> Int[np.ndarray, " nodes"]:
    """Return the finest classes that are coarser than two; all three by their smallest ids."""
    for fine, coarse in ((second, first), (first, second)):
        if np.array_equal(coarse[fine], coarse):  # as on most graphs: nothing to join
            return coarse
    import scipy.sparse.csgraph  # here, as the import takes long and few graphs need it

    # Nodes are in one class when steps to the names of their classes lead from one to the other.
    ids = np.arange(len(first))
    steps = np.tile(ids, 2), np.concatenate([first, second])
    links = scipy.sparse.coo_array((np.ones(len(steps[0]), np.int8), steps), shape=(len(ids),) * 2)
    return by_smallest(scipy.sparse.csgraph.connected_components(links, directed=False)[1])
