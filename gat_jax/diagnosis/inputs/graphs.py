"""The graph of a user: edges, features and labels from files, and which node each name is.

Rows of features belong to nodes, so it has to be known which. `read_graph` says how it is decided.
"""

import os
from pathlib import Path
from typing import Any, NamedTuple

import jraph
import numpy as np
from jaxtyping import Int

from gat_jax.diagnosis.inputs import edges as inputs_edges
from gat_jax.diagnosis.inputs import networks as inputs_networks
from gat_jax.diagnosis.inputs.edges import Source
from gat_jax.diagnosis.inputs.values import (
    Features,
    Labels,
    Rows,
    labels_of_array,
    read_features,
    read_labels,
)
from gat_jax.graphs import (
    GRAPH_NAMES,
    NodeTask,
    archives,
    build,
    load_directory,
    load_task,
    read_node_ids,
)
from gat_jax.graphs.csv_lines import suffix_of
from gat_jax.graphs.datasets import SELF_LOOPS
from gat_jax.graphs.files import ARRAYS
from gat_jax.graphs.tables import EDGES
from gat_jax.runtime.arrays import as_array, as_ids, check_features, shown

PLAIN = ("edge_index", "senders", "receivers", "x", "features", "edge_attr", "y", "labels")
SUFFIXES = (
    *inputs_edges.DELIMITERS,
    *inputs_edges.WORDS,
    *inputs_edges.PARQUET,
    *inputs_networks.NETWORKS,
    ".npz",
)


class NamedGraph(NamedTuple):
    """A graph with what its nodes and classes are called."""

    graph: jraph.GraphsTuple
    node_names: tuple[str, ...] | None  # None: nodes are called by their ids
    labels: Int[np.ndarray, " nodes"] | None  # -1 = unlabelled
    label_names: tuple[str, ...] | None  # None: classes are called by their numbers
    notes: tuple[str, ...]  # one sentence for each thing that was decided for the user


def read_graph(edges: Path, features: Path | None = None, labels: Path | None = None) -> NamedGraph:
    """Read the graph that is diagnosed.

    Which node is which: a table of features with a column of ids gives the nodes their order. For
    features without ids, ids in an edge list have to be whole numbers from 0 on, and are the rows;
    files that list their nodes (`.npz`, a folder of tables, GraphML and the like) give the rows
    their order. An edge list without features has ids from 0 to N-1 in any order, which are the
    nodes, or else names, numbered as they appear. Names 0 to N-1 are always the nodes themselves.

    Args:
      edges: an edge list (`inputs.edges`), a graph in a format of networkx (`inputs.networks`), an
        `.npz` (docs/data_format.md; or `edge_index` or `senders` and `receivers`, and if there are
        some `x`, `edge_attr` and `y`), a folder (`graphs.load_task`, or with one `.npz` in it), or
        one of `GRAPH_NAMES`.
      features: as `inputs.values.read_features`; None: those of the graph's file, or where it has
        none the identity matrix, which is said in a note.
      labels: as `inputs.values.read_labels`; None: those of the graph's file, if there are some. A
        node whose id has no row there is unlabelled.

    Returns:
      The graph, its edges directed as they were given, without further self-loops.

    Raises:
      ValueError: one line with the file, the line, what was expected and what came.
    """
    source = _read_source(edges)
    table = None if features is None else read_features(features)
    classes = None if labels is None else read_labels(labels)
    source = _with_order(edges, source, table, classes)
    if table is not None:
        order = _order(edges, source, table.rows, len(table.values), is_complete=True)
        source = source._replace(nodes=table.values[order])
    if classes is not None:
        order = _order(edges, source, classes.rows, len(classes.classes), is_complete=False)
        padded = np.append(classes.classes, -1)  # where there is no row
        source = source._replace(labels=padded[order], label_names=classes.names)
    return _named_graph(edges, source)


def _named_graph(path: Path, source: Source) -> NamedGraph:
    notes = source.notes
    nodes = source.nodes
    if nodes is None:
        notes = (*notes, "No features were given: every node has a column of its own (one-hot).")
        nodes = _identity(source.num_nodes)
    try:
        graph = build.from_edges(source.senders, source.receivers, nodes=nodes, edges=source.edges)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    labels = None if source.labels is None else source.labels.astype(np.int32)
    return NamedGraph(graph, source.names, labels, source.label_names, notes)


def _identity(num_nodes: int) -> Any:
    try:
        return build.identity_features(num_nodes)
    except ValueError as error:
        raise ValueError(f"features: expected a file of features for so many nodes, {error}") from (
            error
        )


# --- files --------------------------------------------------------------------------------------


def _read_source(path: Path) -> Source:
    if str(path).removesuffix(SELF_LOOPS) in GRAPH_NAMES:
        return _source_of(load_task(str(path)), None)
    if os.path.isdir(path):
        return _read_folder(path)
    if path.suffix == ".npz":
        return _read_archive(path)
    if path.suffix in inputs_networks.NETWORKS:
        return inputs_networks.read_network(path)
    kind = suffix_of(path)
    if kind in SUFFIXES:
        return inputs_edges.read_edge_list(path)
    names = ", ".join(GRAPH_NAMES)
    raise ValueError(
        f"edges: expected {names}, a folder or a file {', '.join(SUFFIXES)}, got {path}"
    )


def _source_of(task: NodeTask, names: tuple[str, ...] | None) -> Source:
    graph = task.graph
    return Source(
        senders=np.asarray(graph.senders, np.int64),
        receivers=np.asarray(graph.receivers, np.int64),
        num_nodes=len(graph.nodes),
        names=names,
        nodes=np.asarray(graph.nodes),
        labels=None if task.labels is None else np.asarray(task.labels, np.int64),
    )


def _read_folder(path: Path) -> Source:
    if (path / EDGES).exists():
        return _source_of(load_task(path), tuple(read_node_ids(path)))
    if any(path.glob("*.npz")):
        tasks = load_directory(path)
        if len(tasks) > 1:
            raise ValueError(f"edges: expected a folder with one graph, got {len(tasks)} in {path}")
        return _source_of(tasks[0], None)
    return _source_of(load_task(path), None)


def _read_archive(path: Path) -> Source:
    stored = archives.array_names(path)
    if ARRAYS[2] in stored:  # features as data files have them
        return _source_of(load_task(path), None)
    has_index = "edge_index" in stored
    ends = ["edge_index"] if has_index else ["senders", "receivers"]
    found = archives.read_arrays(path, ends, optional=[x for x in PLAIN if x not in ends])
    if has_index and (found["edge_index"].ndim != 2 or len(found["edge_index"]) != 2):
        got = list(found["edge_index"].shape)
        raise ValueError(f"{path}: edge_index: expected shape [2, E], got {got}")
    senders, receivers = found["edge_index"] if has_index else (found[end] for end in ends)
    nodes = found.get("x", found.get("features"))
    try:
        nodes = None if nodes is None else check_features("x", nodes)
        num_nodes = 2**31 - 1 if nodes is None else len(nodes)
        senders = as_ids(ends[0], senders, num_nodes).astype(np.int64)
        receivers = as_ids(ends[-1], receivers, num_nodes).astype(np.int64)
        if nodes is None:
            num_nodes = int(max(senders.max(initial=0), receivers.max(initial=0))) + 1
        edges = found.get("edge_attr")
        if edges is not None:
            edges = as_array("edge_attr", edges)
            edges = check_features("edge_attr", edges[:, None] if edges.ndim == 1 else edges)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    source = Source(senders, receivers, num_nodes, edges=edges, nodes=nodes)
    field = next((name for name in ("y", "labels") if name in found), None)
    if field is None:
        return source
    labels = labels_of_array(path, found[field])
    if len(labels.classes) != num_nodes:
        raise ValueError(f"{path}: {field}: expected {num_nodes} labels, got {len(labels.classes)}")
    return source._replace(labels=labels.classes, label_names=labels.names)


# --- which node is which ------------------------------------------------------------------------


def _with_order(
    path: Path, source: Source, features: Features | None, labels: Labels | None
) -> Source:
    """Give the nodes of an edge list their numbers, as `read_graph` says."""
    names = source.names
    if source.places is None or names is None:
        return source
    if features is not None and features.rows.ids is not None:
        return _by_ids(path, source, features.rows)
    known = [features.values if features else None]
    known += [labels.classes if labels and labels.rows.ids is None else None]
    num_rows = next((len(rows) for rows in known if rows is not None), None)
    numbers = np.array([_number_of(name) for name in names])
    if num_rows is None:
        if not _is_permutation(numbers):
            return source
        num_rows = len(names)
    is_bad = (numbers < 0) | (numbers >= num_rows)
    if is_bad.any():
        node = int(np.argmax(is_bad))
        hint = "" if _number_of(names[node]) >= 0 else "; a column id in the features takes names"
        raise ValueError(
            f"{path}: {_place(path, source, node)}: expected ids in [0, {num_rows}), as there are "
            f"rows of {'features' if features else 'labels'}, got {shown(names[node])}{hint}"
        )
    return _renumbered(source, numbers, num_rows, None)


def _by_ids(path: Path, source: Source, rows: Rows) -> Source:
    assert source.names is not None
    assert rows.ids is not None
    index = {name: k for k, name in enumerate(rows.ids)}
    for node, name in enumerate(source.names):
        if name not in index:
            raise ValueError(
                f"{path}: {_place(path, source, node)}: expected an id that {rows.path} has, got "
                f"{shown(name)}"
            )
    own = np.array([_number_of(name) for name in rows.ids])
    if _is_permutation(own):
        numbers = np.array([int(name) for name in source.names])
        return _renumbered(source, numbers, len(own), None)
    numbers = np.array([index[name] for name in source.names])
    return _renumbered(source, numbers, len(rows.ids), tuple(rows.ids))


def _renumbered(
    source: Source,
    numbers: Int[np.ndarray, " names"],
    num_nodes: int,
    names: tuple[str, ...] | None,
) -> Source:
    return source._replace(
        senders=numbers[source.senders],
        receivers=numbers[source.receivers],
        num_nodes=num_nodes,
        names=names,
        places=None,
    )


def _number_of(name: str) -> int:
    """Return the number that a name is, written without zeros at its front; -1 if it is none."""
    is_number = name.isascii() and name.isdecimal() and len(name) < 19
    return int(name) if is_number and str(int(name)) == name else -1


def _is_permutation(numbers: Int[np.ndarray, " names"]) -> bool:
    """Return whether these are the numbers from 0 on, in any order."""
    return bool((np.sort(numbers) == np.arange(len(numbers))).all())


def _place(path: Path, source: Source, node: int) -> str:
    assert source.places is not None
    unit = "row" if path.suffix in inputs_edges.PARQUET else "line"
    return f"{unit} {source.places[node]}"


def _order(
    path: Path, source: Source, rows: Rows, num_rows: int, *, is_complete: bool
) -> Int[np.ndarray, " nodes"]:
    """Return the row of each node, -1 where there is none and `is_complete` does not demand one."""
    if rows.ids is None:
        if num_rows != source.num_nodes:
            raise ValueError(
                f"{rows.path}: expected {source.num_nodes} rows, one for each node of {path}, got "
                f"{num_rows}"
            )
        return np.arange(num_rows)
    known = None if source.names is None else {name: k for k, name in enumerate(source.names)}
    order = np.full(source.num_nodes, -1)
    for row, name in enumerate(rows.ids):
        node = _number_of(name) if known is None else known.get(name, -1)
        if not 0 <= node < source.num_nodes:
            raise ValueError(
                f"{rows.path}: line {row + rows.first_line}: expected the id of a node of {path}, "
                f"got {shown(name)}"
            )
        order[node] = row
    if is_complete and (order < 0).any():
        node = int(np.argmax(order < 0))
        name = node if source.names is None else source.names[node]
        raise ValueError(f"{rows.path}: expected a row for every node, got none for {shown(name)}")
    return order
