"""Graphs in folders of tables (CSV): edge lists with named nodes, and the layout of OGB.

How their lines are read, and what is said of a wrong one, is in `csv_lines`.
"""

import contextlib
import os
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from gat_jax.graphs import build
from gat_jax.graphs.csv_lines import (
    VALUE_BYTES,
    append_numbers,
    check_classes,
    check_memory,
    check_width,
    held_features,
    read_header,
    read_ids,
    read_lines,
    read_numbers,
)
from gat_jax.graphs.files import NodeTask, check_name
from gat_jax.graphs.splits import Splits, check_splits, splits_from_ids
from gat_jax.runtime.arrays import memory_limit, shown

EDGES, NODES = "edges.csv", "nodes.csv"
ENDS = (("sender", "receiver"), ("source", "target"))
OGB_EDGES, OGB_COUNT = "edge.csv.gz", "num-node-list.csv.gz"
OGB_FEATURES, OGB_LABELS = "node-feat.csv.gz", "node-label.csv.gz"
OGB_PARTS = ("train.csv.gz", "valid.csv.gz", "test.csv.gz")
NAME_BYTES = 100  # of a name, at least


class _Nodes(NamedTuple):
    """What `nodes.csv` says."""

    numbers: dict[str, int]  # a node's number by its id
    labels: Int[np.ndarray, " nodes"] | None
    features: Float[np.ndarray, "nodes features"] | None


# --- a folder ---------------------------------------------------------------------------------


def read_tables(folder: Path) -> NodeTask:
    """Read a graph from a folder of tables.

    Either `edges.csv`, whose columns are `sender` and `receiver` or `source` and `target`, with or
    without `nodes.csv`, whose columns are `id`, where there are classes `label`, and the features.
    Ids are any text. Nodes are numbered in the order of `nodes.csv`, or else of their first
    appearance in `edges.csv`, line by line (`read_node_ids` gives the ids). Or else the layout of
    OGB: `edge.csv.gz`, `num-node-list.csv.gz`, `node-feat.csv.gz`, `node-label.csv.gz`, in the
    folder or in `raw` below it, and splits in `split/*/`. Each line of an edge list is one directed
    edge; `symmetrise` adds the other directions.

    Args:
      folder: its path.

    Returns:
      The task, whose name is the folder's. Without features the nodes have the identity matrix;
      labels that are no whole numbers are classes in the order of their names; splits are None, or
      those of OGB's layout, one for each folder, in the order of their names.

    Raises:
      ValueError: names the file, the line and the fault.
    """
    name = folder.resolve().name
    check_name(name)
    if os.path.exists(folder / EDGES):
        nodes, senders, receivers = _read_named(folder)
        num_nodes = len(nodes.numbers)
        with _named(folder):
            features = nodes.features
            features = build.identity_features(num_nodes) if features is None else features
            graph = build.from_edges(senders, receivers, nodes=features)
        return NodeTask(name, graph, nodes.labels)
    for place in (folder, folder / "raw"):
        if os.path.exists(place / OGB_EDGES):
            return _read_ogb(name, folder, place)
    raise ValueError(f"{folder}: expected {EDGES} or {OGB_EDGES}, got neither")


def read_node_ids(folder: Path) -> list[str]:
    """Return the ids of the nodes of a folder with `edges.csv`: node k of the graph is the k-th.

    Raises:
      ValueError: as `read_tables`.
    """
    return list(_read_named(folder)[0].numbers)


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """Have errors in the body begin with a path."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


# --- edges.csv and nodes.csv ------------------------------------------------------------------


def _read_named(
    folder: Path,
) -> tuple[_Nodes, Int[np.ndarray, " edges"], Int[np.ndarray, " edges"]]:
    nodes = _Nodes({}, None, None)
    is_complete = os.path.exists(folder / NODES)
    if is_complete:
        nodes = _read_nodes(folder / NODES)
    path, index = folder / EDGES, nodes.numbers
    lines = read_lines(path)
    header = read_header(path, lines)
    columns = next((x for x in ENDS if set(x) <= set(header)), None)
    if columns is None or len(header) != 2:
        raise ValueError(
            f"{path}: line 1: expected the columns sender,receiver or source,target, got "
            f"{shown(','.join(header))}"
        )
    places = [header.index(column) for column in columns]
    ends, limit = array("q"), memory_limit()
    for number, row in lines:
        check_width(path, number, row, 2)
        for place in places:
            node = index.get(row[place])
            if node is None:
                if is_complete:
                    raise ValueError(
                        f"{path}: line {number}: expected ids of {NODES}, got {shown(row[place])}"
                    )
                node = index[row[place]] = len(index)
            ends.append(node)
        check_memory(path, VALUE_BYTES * len(ends) + NAME_BYTES * len(index), limit)
    pairs = np.array(ends, np.int64).reshape(-1, 2)
    return nodes, pairs[:, 0], pairs[:, 1]


def _read_nodes(path: Path) -> _Nodes:
    lines = read_lines(path)
    header = read_header(path, lines)
    if "id" not in header:
        raise ValueError(f"{path}: line 1: expected a column id, got {shown(','.join(header))}")
    id_place = header.index("id")
    label_place = header.index("label") if "label" in header else None
    places = [k for k in range(len(header)) if k not in (id_place, label_place)]
    index: dict[str, int] = {}
    values, words, limit = array("d"), [], memory_limit()
    for number, row in lines:
        check_width(path, number, row, len(header))
        if row[id_place] in index:
            raise ValueError(
                f"{path}: line {number}: expected every id once, got {shown(row[id_place])} again"
            )
        index[row[id_place]] = len(index)
        if label_place is not None:
            words.append(row[label_place].strip())
        append_numbers(path, number, values, [row[k] for k in places])
        check_memory(path, VALUE_BYTES * len(values) + NAME_BYTES * len(index), limit)
    if not index:
        raise ValueError(f"{path}: expected at least one node, got none")
    features = None
    if places:
        table = np.array(values).reshape(len(index), len(places))
        features = held_features(path, table, first_line=2)
    labels = None if label_place is None else _classes(path, words)
    return _Nodes(index, labels, features)


def _classes(path: Path, words: list[str]) -> Int[np.ndarray, " nodes"]:
    """Return class ids, -1 for an empty word; words that are no numbers are counted by name."""
    names = sorted({word for word in words if word})
    classes = {word: k for k, word in enumerate(names)}
    if all(word.isascii() and word.isdecimal() and len(word) < 19 for word in names):
        classes = {word: int(word) for word in names}
    found = np.array([classes.get(word, -1) for word in words], np.int64)
    return check_classes(path, found, found, first_line=2)


# --- the layout of OGB ------------------------------------------------------------------------


def _read_ogb(name: str, folder: Path, place: Path) -> NodeTask:
    path = place / OGB_COUNT
    counts = read_numbers(path, 1)
    if counts.size != 1 or not 1 <= counts[0, 0] < 2**31 or counts[0, 0] % 1:
        got = f"{len(counts)} lines" if len(counts) > 1 else counts[0, 0]
        raise ValueError(f"{path}: expected the number of nodes of one graph, got {got}")
    num_nodes = int(counts[0, 0])
    ends = read_ids(place / OGB_EDGES, 2, num_nodes)
    features = labels = None
    if os.path.exists(place / OGB_FEATURES):
        features = _ogb_features(place / OGB_FEATURES, num_nodes)
    if os.path.exists(place / OGB_LABELS):
        labels = _ogb_labels(place / OGB_LABELS, num_nodes)
    with _named(folder):
        features = build.identity_features(num_nodes) if features is None else features
        graph = build.from_edges(ends[:, 0], ends[:, 1], nodes=features)
    return NodeTask(name, graph, labels, _ogb_splits(folder / "split", labels, num_nodes))


def _ogb_features(path: Path, num_nodes: int) -> Float[np.ndarray, "nodes features"]:
    table = read_numbers(path, None)
    _check_rows(path, table, num_nodes)
    return held_features(path, table, first_line=1)


def _ogb_labels(path: Path, num_nodes: int) -> Int[np.ndarray, " nodes"]:
    """Return class ids; `nan` is how OGB writes that there is none."""
    column = read_numbers(path, 1)[:, 0]
    _check_rows(path, column, num_nodes)
    is_class = (column >= 0) & (column < 2**53) & (np.trunc(column) == column)
    classes = np.where(is_class, column, np.where(np.isnan(column), -1, -2)).astype(np.int64)
    return check_classes(path, classes, column, first_line=1)


def _ogb_splits(
    folder: Path, labels: Int[np.ndarray, " nodes"] | None, num_nodes: int
) -> Splits | None:
    places = sorted(path for path in folder.glob("*") if path.is_dir())
    if not places:
        return None
    found = []
    for place in places:
        ids = [read_ids(place / part, 1, num_nodes)[:, 0] for part in OGB_PARTS]
        with _named(place):
            found.append(splits_from_ids(ids, labels, fields=OGB_PARTS))
    return check_splits([np.concatenate(part) for part in zip(*found, strict=True)], labels)


def _check_rows(path: Path, table: np.ndarray, num_nodes: int) -> None:
    if len(table) != num_nodes:
        raise ValueError(
            f"{path}: expected {num_nodes} lines as {OGB_COUNT} says, got {len(table)}"
        )
