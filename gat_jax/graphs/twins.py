"""Twins: receivers with the same support, found on the host in near-linear time.

The support of a receiver is the multiset of its incoming edges as the layer sees them: senders
with their multiplicity and edge features. Self-loops are edges, so adding them changes who is a
twin. A support of at most one distinct (sender, edge features) is trivial: its twins are equal in
every layer for all parameters. On real graphs trivial twins are by far the most; count them apart.
"""

from typing import NamedTuple

import jraph
import numpy as np
from jaxtyping import Bool, Int, Num
from numpy.typing import ArrayLike

from gat_jax.graphs import build


class TwinClasses(NamedTuple):
    """Every node's class; host arrays."""

    smallest: Int[np.ndarray, " nodes"]  # smallest id of the class: its name
    is_trivial: Bool[np.ndarray, " nodes"]


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


def twin_classes(graph: jraph.GraphsTuple) -> TwinClasses:
    """Group the receivers of one graph by support; nodes without incoming edges are trivial.

    Raises:
      ValueError: as `validate`.
    """
    build.validate(graph)
    edge_class = 0 if graph.edges is None else _row_classes(np.asarray(graph.edges))
    return _group(graph, np.asarray(graph.senders), edge_class)


def output_classes(
    graph: jraph.GraphsTuple, input_classes: ArrayLike, *, is_average: bool = True
) -> TwinClasses:
    """Group receivers whose outputs are equal as soon as their attention rows are.

    This is coarser than `twin_classes`: senders with equal inputs count as one, and where the
    layer averages, a support and its double have the same average, and a receiver whose senders
    are all equal gets that sender's value whatever its edge features are (is trivial). Where it
    does not, as in GCN with symmetric weights, senders count as one if their in-degrees agree too.

    Args:
      graph: one graph.
      input_classes: [N] equal entries for nodes with equal inputs to the layer.
      is_average: whether weights sum to 1 (attention and mean do, symmetric GCN does not).
    """
    build.validate(graph)
    input_classes = np.asarray(input_classes)
    if not is_average:
        degree = np.maximum(np.bincount(graph.receivers, minlength=len(graph.nodes)), 1)
        input_classes = equal_rows(np.stack([input_classes, degree], axis=1))
    senders = np.unique(input_classes, return_inverse=True)[1][graph.senders]
    edge_class = np.zeros(len(senders), np.int64)
    if graph.edges is not None:
        edge_class = 1 + _row_classes(np.asarray(graph.edges))
        if is_average:
            receivers = np.asarray(graph.receivers)
            lowest = np.full(len(graph.nodes), np.iinfo(np.int64).max)
            highest = np.full(len(graph.nodes), -1)
            np.minimum.at(lowest, receivers, senders)
            np.maximum.at(highest, receivers, senders)
            edge_class[(lowest == highest)[receivers]] = 0
    return _group(graph, senders, edge_class, is_average=is_average)


def inseparable_classes(graph: jraph.GraphsTuple) -> Int[np.ndarray, " nodes"]:
    """Give every node the smallest id of those that one layer cannot tell it from.

    Twins with a trivial support, or with equal features; a residual path tells the former apart.
    """
    classes = output_classes(graph, inputs := equal_rows(np.asarray(graph.nodes)))
    return equal_rows(np.stack([classes.smallest, np.where(classes.is_trivial, -1, inputs)], 1))


def twin_pairs(classes: TwinClasses, *, include_trivial: bool = False) -> TwinPairs:
    """List the pairs within each class; a class of m nodes has m (m - 1) / 2."""
    order = np.argsort(classes.smallest, kind="stable")
    starts = np.flatnonzero(np.diff(classes.smallest[order], prepend=-1))
    pairs = [
        (members[i], members[j])
        for members in np.split(order, starts[1:])
        if include_trivial or not classes.is_trivial[members[0]]
        for i, j in zip(*np.triu_indices(len(members), 1), strict=True)
    ]
    first, second = np.array(pairs, np.int32).reshape(-1, 2).T
    return TwinPairs(first, second, classes.is_trivial[first])


def count_twins(classes: TwinClasses) -> TwinCounts:
    """Count twins from the sizes of the classes, without listing pairs."""
    sizes = np.bincount(classes.smallest, minlength=len(classes.smallest))
    counts = []
    for is_trivial in (False, True):
        m = sizes[(sizes >= 2) & (classes.is_trivial == is_trivial)]
        counts += [int(m.sum()), len(m), int((m * (m - 1) // 2).sum())]
    return TwinCounts(*counts)


def loss_floor(labels: ArrayLike, groups: ArrayLike) -> float:
    """Lowest mean cross-entropy, in nats, that is possible while nodes of a group stay equal.

        floor = (1/N) sum_groups sum_labels -m log(m / group size)

    Args:
      labels: [N] integers; negative = unlabelled, and left out.
      groups: [N] equal entries for nodes that stay equal.

    Raises:
      ValueError: when no node has a label or the lengths differ.
    """
    labels, groups = np.asarray(labels), np.asarray(groups)
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
    """Give every node the smallest id with the same row of values."""
    return _smallest(_row_classes(np.asarray(values)))


def _group(
    graph: jraph.GraphsTuple, senders, edge_class, *, is_average: bool = False
) -> TwinClasses:
    """Group receivers by their multisets of (sender, edge class), up to a factor for averages."""
    num_nodes = len(graph.nodes)
    token = _pair_numbers(senders, edge_class)
    if graph.edges is not None:  # small numbers again, so that the pairs below fit into int64
        token = np.unique(token, return_inverse=True)[1]
    num_tokens = np.max(token, initial=0) + 1
    entries, counts = np.unique(_pair_numbers(graph.receivers, token), return_counts=True)
    receivers, token = np.divmod(entries, num_tokens)
    if is_average:
        divisor = np.zeros(num_nodes, np.int64)
        np.gcd.at(divisor, receivers, counts)
        counts = counts // divisor[receivers]
    # One integer for each distinct (sender, edge class, count); a row is a sorted run of them.
    words = _pair_numbers(token, counts)
    num_distinct = np.bincount(receivers, minlength=num_nodes)
    starts = np.cumsum(num_distinct) - num_distinct
    group = np.empty(num_nodes, np.int64)
    num_groups = 0
    for width in np.unique(num_distinct):
        nodes = np.flatnonzero(num_distinct == width)
        rows = words[starts[nodes][:, None] + np.arange(width)[None]]
        group[nodes] = num_groups + _run_classes(rows)
        num_groups = group[nodes].max() + 1
    return TwinClasses(_smallest(group), num_distinct <= 1)


def _pair_numbers(first, second: np.ndarray | int) -> Int[np.ndarray, " pairs"]:
    """Return one number for each pair of numbers >= 0, in the order of the pairs."""
    return np.asarray(first, np.int64) * (np.max(second, initial=0) + 1) + second


def _run_classes(words: Int[np.ndarray, "rows words"]) -> Int[np.ndarray, " rows"]:
    """Return as `_row_classes`, for whole numbers: equal by bytes, which sort far faster."""
    if words.shape[1] == 0:
        return np.zeros(len(words), np.int64)
    as_bytes = words.view(np.dtype((np.void, words.itemsize * words.shape[1])))
    return np.unique(as_bytes, return_inverse=True)[1].reshape(-1)


def _row_classes(rows: np.ndarray) -> Int[np.ndarray, " rows"]:
    """Return a number for each row, equal for equal rows (as are all rows without columns)."""
    if rows.shape[1] == 0:
        return np.zeros(len(rows), np.int64)
    return np.unique(rows, axis=0, return_inverse=True)[1].reshape(-1)


def _smallest(classes: np.ndarray) -> Int[np.ndarray, " nodes"]:
    """Name every class by its smallest member."""
    _, first, inverse = np.unique(classes, return_index=True, return_inverse=True)
    return first[inverse.reshape(-1)]
