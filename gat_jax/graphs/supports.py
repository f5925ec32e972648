"""Grouping receivers by what they receive: the sorting behind classes of twins.

A support is a row of a few whole numbers, one for each distinct (sender, edge class); rows of one
width are compared as bytes.
"""

from typing import NamedTuple

import jraph
import numpy as np
from jaxtyping import Bool, Float, Int

WEIGHT_BITS = 36  # sums of symmetric weights are compared to as many binary places


class OutputClasses(NamedTuple):
    """Every node's class of equal outputs; host arrays."""

    smallest: Int[np.ndarray, " nodes"]  # smallest id of the class: its name
    is_trivial: Bool[np.ndarray, " nodes"]


def group(
    graph: jraph.GraphsTuple, senders, edge_class, *, is_average: bool = False
) -> OutputClasses:
    """Group receivers by their multisets of (sender, edge class), up to a factor for averages."""
    num_nodes = len(graph.nodes)
    token = pair_numbers(senders, edge_class)
    if graph.edges is not None:  # small numbers again, so that the pairs below fit into int64
        token = np.unique(token, return_inverse=True)[1]
    num_tokens = np.max(token, initial=0) + 1
    entries, counts = np.unique(pair_numbers(graph.receivers, token), return_counts=True)
    receivers, token = np.divmod(entries, num_tokens)
    if is_average:
        divisor = np.zeros(num_nodes, np.int64)
        np.gcd.at(divisor, receivers, counts)
        counts = counts // divisor[receivers]
    # One integer for each distinct (sender, edge class, count); a row is a sorted run of them.
    words = pair_numbers(token, counts)
    return _group_rows(receivers, words, num_nodes)


def group_sums(
    graph: jraph.GraphsTuple, senders, edge_class, weights: Float[np.ndarray, " edges"]
) -> OutputClasses:
    """Group receivers by the sums of the weights of each (sender, edge class).

    Sums are equal that differ by less than what rounding in float64 may make of them.
    """
    num_nodes = len(graph.nodes)
    token = np.unique(pair_numbers(senders, edge_class), return_inverse=True)[1]
    num_tokens = np.max(token, initial=0) + 1
    entries, which = np.unique(pair_numbers(graph.receivers, token), return_inverse=True)
    receivers, token = entries // num_tokens, entries % num_tokens
    sums = np.bincount(which, weights, minlength=len(entries))
    steps = np.rint(sums * 2.0**WEIGHT_BITS).astype(np.int64)
    words = pair_numbers(token, np.unique(steps, return_inverse=True)[1])
    is_counted = steps != 0  # weights that cancel leave nothing
    classes = _group_rows(receivers[is_counted], words[is_counted], num_nodes)
    num_distinct = np.bincount(receivers, minlength=num_nodes)
    return OutputClasses(classes.smallest, num_distinct <= 1)


def _group_rows(
    receivers: Int[np.ndarray, " entries"], words: Int[np.ndarray, " entries"], num_nodes: int
) -> OutputClasses:
    """Group receivers by their words, which are sorted by receiver and then by word."""
    num_distinct = np.bincount(receivers, minlength=num_nodes)
    starts = np.cumsum(num_distinct) - num_distinct
    group = np.empty(num_nodes, np.int64)
    num_groups = 0
    for width in np.unique(num_distinct):
        nodes = np.flatnonzero(num_distinct == width)
        rows = words[starts[nodes][:, None] + np.arange(width)[None]]
        group[nodes] = num_groups + row_classes(rows)
        num_groups = group[nodes].max() + 1
    return OutputClasses(by_smallest(group), num_distinct <= 1)


def symmetric_weights(graph: jraph.GraphsTuple) -> Float[np.ndarray, " edges"]:
    """Return 1 / sqrt(d_i d_j) of every edge, where d is the in-degree and at least 1."""
    degree = np.maximum(np.bincount(graph.receivers, minlength=len(graph.nodes)), 1)
    return 1.0 / np.sqrt(degree[graph.receivers] * degree[graph.senders])


def alone_from(num_real: int, classes: OutputClasses) -> OutputClasses:
    """Make a class of its own of every padding node: those from `num_real` on."""
    ids = np.arange(len(classes.smallest))
    is_padding = ids >= num_real
    return OutputClasses(
        np.where(is_padding, ids, classes.smallest), classes.is_trivial | is_padding
    )


def pair_numbers(first, second: np.ndarray | int) -> Int[np.ndarray, " pairs"]:
    """Return one number for each pair of numbers >= 0, in the order of the pairs."""
    return np.asarray(first, np.int64) * (np.max(second, initial=0) + 1) + second


def row_classes(rows: np.ndarray) -> Int[np.ndarray, " rows"]:
    """Return a number for each row, equal for equal rows (as are all rows without columns)."""
    if rows.shape[1] == 0:
        return np.zeros(len(rows), np.int64)
    # Equal by bytes, which sort far faster; adding 0 makes one number of both zeros.
    rows = np.ascontiguousarray(rows + rows.dtype.type(0))
    as_bytes = rows.view(np.dtype((np.void, rows.itemsize * rows.shape[1])))
    return np.unique(as_bytes, return_inverse=True)[1].reshape(-1)


def sizes_of(classes: Int[np.ndarray, " nodes"]) -> Int[np.ndarray, " nodes"]:
    """Return for every node how many nodes its class has, itself among them.

    Args:
      classes: [N] class of each node, named by one of its members.
    """
    return np.bincount(classes, minlength=len(classes))[classes]


def by_smallest(classes: np.ndarray) -> Int[np.ndarray, " nodes"]:
    """Name every class by its smallest member."""
    _, first, inverse = np.unique(classes, return_index=True, return_inverse=True)
    return first[inverse.reshape(-1)]
