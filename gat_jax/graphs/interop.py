"""Graphs as other packages hold them: matrices, PyTorch Geometric's objects, networkx.

An edge that these write as u -> v is an edge from sender u to receiver v here. Only matrices are
read the other way round, as everywhere in the literature on graph networks: row i of an adjacency
matrix says whom node i hears.
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import jraph
import numpy as np
from jaxtyping import Float, Int
from numpy.typing import ArrayLike

from gat_jax.graphs.build import check_nodes, from_edges, identity_features
from gat_jax.graphs.files import MAX_CLASSES, NodeTask
from gat_jax.graphs.splits import Splits, check_splits
from gat_jax.runtime.arrays import (
    as_array,
    check_range,
    check_whole_numbers,
    is_number_of_float32,
    shown,
)

if TYPE_CHECKING:  # for the annotation alone: importing networkx takes long, and few need it
    import networkx

MASKS = ("train_mask", "val_mask", "test_mask")  # of PyTorch Geometric


def from_adjacency(adjacency: Any, *, nodes: ArrayLike) -> jraph.GraphsTuple:
    """Build a graph from a matrix of zeros and ones; row i receives from its columns.

    A matrix whose row i says to whom node i *sends* has to be transposed; for an undirected graph
    it makes no difference.

    Args:
      adjacency: [N, N], 1 in row i and column j for an edge j -> i: an array, or a sparse matrix or
        array of SciPy's, in any format; truth values too. Entries that a sparse one stores twice
        are added up, as SciPy means them.
      nodes: [N, F] finite node features; whole numbers become float32.

    Returns:
      One graph, as `from_edges`.

    Raises:
      ValueError: if the matrix is not square, holds other numbers, or does not fit `nodes`.
    """
    is_sparse = hasattr(adjacency, "tocsr")
    matrix: Any = adjacency if is_sparse else as_array("adjacency", adjacency)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"adjacency: expected a square matrix, got shape {matrix.shape}")
    if is_sparse:
        nodes = _check_rows(nodes, matrix.shape[0])  # a shape may claim more than there is
        from gat_jax.runtime.sparse_matrices import checked_csr  # importing SciPy's takes long

        matrix = checked_csr("adjacency", adjacency)
        rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
        columns, entries = matrix.indices, matrix.data
    else:
        rows, columns = np.nonzero(matrix)  # NaN is among them
        entries = matrix[rows, columns]
    if entries.dtype.kind not in "biuf":
        raise ValueError(f"adjacency: expected zeros and ones, got dtype {entries.dtype}")
    if not (entries == 1).all():
        place = np.argmax(entries != 1)
        raise ValueError(
            f"adjacency: expected zeros and ones, got {entries[place]} in row {rows[place]}, "
            f"column {columns[place]}; from_edges takes weights as edge features"
        )
    return from_edges(columns, rows, nodes=_check_rows(nodes, matrix.shape[0]))


def from_edge_index(
    edge_index: ArrayLike, *, nodes: ArrayLike, edges: ArrayLike | None = None
) -> jraph.GraphsTuple:
    """Build a graph from an edge index as PyTorch Geometric has it.

    Its first row sends and its second row receives (`flow="source_to_target"`, PyG's default).

    Args:
      edge_index: [2, E] integer ids, a tensor or an array.
      nodes: [N, F] finite node features (PyG's `x`); whole numbers become float32.
      edges: [E, D] finite edge features (PyG's `edge_attr`), or None.

    Returns:
      One graph, as `from_edges`; self-loops are not added.

    Raises:
      ValueError: names the field, what was expected and what came.
    """
    ids = as_array("edge_index", edge_index)
    if ids.ndim != 2 or len(ids) != 2:
        hint = "; transpose it" if ids.ndim == 2 and ids.shape[1] == 2 else ""
        raise ValueError(f"edge_index: expected shape [2, E], got {list(ids.shape)}{hint}")
    return from_edges(ids[0], ids[1], nodes=nodes, edges=edges)


def task_from_pyg(data: Any, *, name: str = "pyg") -> NodeTask:
    """Read a graph with labels and splits from an object of PyTorch Geometric's.

    Args:
      data: a `Data`, or a `HeteroData` with one type of nodes and one of edges, on the CPU. Read
        are `x`, `edge_index`, and what is there of `edge_attr`, `y` ([N] or [N, 1], -1 where a node
        has no label) and `train_mask`, `val_mask`, `test_mask` ([N], or [N, S] for S splits).
      name: of the task.

    Returns:
      The task; self-loops are not added.

    Raises:
      ValueError: if there are several types of nodes or edges, there are some masks but not all of
        them, or as `from_edge_index` and `check_splits`.
    """
    nodes = edges = data
    if hasattr(data, "node_types") and hasattr(data, "edge_types"):
        kinds, relations = list(data.node_types), list(data.edge_types)
        if len(kinds) != 1 or len(relations) != 1:
            raise ValueError(
                "data: expected one type of nodes and one of edges, got "
                f"{shown(kinds)} and {shown(relations)}"
            )
        nodes, edges = data[kinds[0]], data[relations[0]]
    for field, holder in (("edge_index", edges), ("x", nodes)):
        if getattr(holder, field, None) is None:
            raise ValueError(
                f"data: expected a Data or HeteroData of PyTorch Geometric, got "
                f"{type(data).__name__} without {field}"
            )
    graph = from_edge_index(
        edges.edge_index, nodes=nodes.x, edges=getattr(edges, "edge_attr", None)
    )
    labels = _pyg_labels(getattr(nodes, "y", None), len(graph.nodes))
    return NodeTask(name, graph, labels, _pyg_splits(nodes, labels))


def _pyg_labels(y: Any, num_nodes: int) -> Int[np.ndarray, " nodes"] | None:
    if y is None:
        return None
    array = as_array("y", y)
    if array.shape not in ((num_nodes,), (num_nodes, 1)):
        raise ValueError(f"y: expected shape [{num_nodes}], got {list(array.shape)}")
    labels = check_whole_numbers("y", array.reshape(-1))
    check_range("y", labels[labels != -1], max(num_nodes, MAX_CLASSES), "class ids")
    return labels.astype(np.int32)


def _pyg_splits(nodes: Any, labels: Int[np.ndarray, " nodes"] | None) -> Splits | None:
    """Return the splits of three masks; one that has no axis of splits is the same in each."""
    found = {field: getattr(nodes, field, None) for field in MASKS}
    missing = [field for field, mask in found.items() if mask is None]
    if len(missing) == len(MASKS):
        return None
    if missing:
        there = next(field for field in MASKS if field not in missing)
        raise ValueError(f"{missing[0]}: expected it beside {there}, got none")
    masks = [as_array(field, mask) for field, mask in found.items()]
    masks = [mask[None] if mask.ndim == 1 else mask.T for mask in masks]
    num_splits = max(len(mask) for mask in masks)
    masks = [np.repeat(m, num_splits, axis=0) if len(m) == 1 else m for m in masks]
    return check_splits(masks, labels, fields=MASKS)


def from_networkx(
    graph: "networkx.Graph",
    *,
    nodes: ArrayLike | None = None,
    node_attributes: Sequence[str] = (),
    edge_attributes: Sequence[str] = (),
) -> jraph.GraphsTuple:
    """Build a graph from networkx, nodes in the order of `graph.nodes`.

    Node k of the result is `list(graph.nodes)[k]`, whatever networkx calls it. An undirected edge
    runs both ways (a self-loop once); parallel edges of a multigraph stay.

    Args:
      graph: any networkx graph.
      nodes: [N, F] features; None gives the attributes, or where none are named the identity
        matrix.
      node_attributes: names of numeric node attributes, one column of node features each.
      edge_attributes: names of numeric edge attributes, one column of edge features each.

    Returns:
      One graph, as `from_edges`; self-loops are not added.

    Raises:
      ValueError: names an attribute that is missing or no number, and where; if there is not one
        row of features for each node; or as `from_edges`.
    """
    if not all(hasattr(graph, name) for name in ("nodes", "edges", "is_directed")):
        raise ValueError(f"graph: expected one of networkx, got {type(graph).__name__}")
    _check_names("node_attributes", node_attributes)
    _check_names("edge_attributes", edge_attributes)
    index = {node: i for i, node in enumerate(graph.nodes)}
    triples = [
        (index[a], index[b], (u, v), attributes)
        for u, v, attributes in graph.edges(data=True)
        for a, b in ([(u, v)] if graph.is_directed() or u == v else [(u, v), (v, u)])
    ]
    if node_attributes:
        if nodes is not None:
            raise ValueError("node_attributes: expected none beside nodes, got both")
        nodes = _columns("node_attributes", node_attributes, "node", graph.nodes(data=True))
    edges = None
    if edge_attributes:
        named = ((edge, attributes) for *_, edge, attributes in triples)
        edges = _columns("edge_attributes", edge_attributes, "edge", named)
    nodes = identity_features(len(index)) if nodes is None else nodes
    return from_edges(
        np.array([a for a, *_ in triples], np.int32),
        np.array([b for _, b, *_ in triples], np.int32),
        nodes=_check_rows(nodes, len(index)),
        edges=edges,
    )


def task_from_networkx(
    graph: "networkx.Graph",
    *,
    label: str,
    name: str = "networkx",
    nodes: ArrayLike | None = None,
    node_attributes: Sequence[str] = (),
    edge_attributes: Sequence[str] = (),
) -> NodeTask:
    """Build a graph from networkx, with the classes of its nodes.

    Args:
      graph: any networkx graph.
      label: the attribute that holds a node's class: class ids, counted from 0, or names, which are
        numbered in their order. A node without the attribute, or with None, has no label.
      name: of the task.
      nodes: as `from_networkx`.
      node_attributes: as `from_networkx`.
      edge_attributes: as `from_networkx`.

    Returns:
      The task. Node k is `list(graph.nodes)[k]`, so the names of nodes are not lost.

    Raises:
      ValueError: if labels are something else, or some are ids and others names, or as
        `from_networkx`.
    """
    built = from_networkx(
        graph, nodes=nodes, node_attributes=node_attributes, edge_attributes=edge_attributes
    )
    limit = max(len(built.nodes), MAX_CLASSES)
    values = dict(graph.nodes(data=label))
    known = {node: value for node, value in values.items() if value is not None}
    is_named = any(isinstance(value, str) for value in known.values())
    for node, value in known.items():
        is_id = isinstance(value, int | np.integer) and not isinstance(value, bool)
        if not (isinstance(value, str) if is_named else is_id and 0 <= value < limit):
            wanted = "names alone" if is_named else f"class ids in [0, {limit}) or names"
            raise ValueError(f"{label}: expected {wanted}, got {shown(value)} on {shown(node)}")
    classes = {value: k for k, value in enumerate(sorted(set(known.values())))}
    if not is_named:
        classes = {value: int(value) for value in classes}
    labels = [-1 if value is None else classes[value] for value in values.values()]
    return NodeTask(name, built, np.array(labels, np.int32))


def _check_rows(nodes: ArrayLike, num_nodes: int) -> Float[np.ndarray, "nodes features"]:
    """Return features of nodes, if there is one row for each."""
    nodes = check_nodes(nodes)
    if len(nodes) != num_nodes:
        raise ValueError(f"nodes: expected {num_nodes} rows, got {len(nodes)}")
    return nodes


def _check_names(field: str, names: Sequence[str]) -> None:
    """Refuse what is no list of names: a set has no order of columns, text consists of letters."""
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{field}: expected a list of names, got {shown(names)}")


def _columns(
    field: str, names: Sequence[str], what: str, owners: Iterable[tuple[Any, dict]]
) -> Float[np.ndarray, "owners names"]:
    """Return the named attributes of nodes or edges, one column each, as float32."""
    rows = []
    for owner, attributes in owners:
        for name in names:
            if name not in attributes:
                raise ValueError(
                    f"{field}: expected {name!r} on every {what}, got none on {shown(owner)}"
                )
            if not is_number_of_float32(attributes[name]):
                raise ValueError(
                    f"{field}: expected {name!r} to be a finite number of float32 on every {what}, "
                    f"got {shown(attributes[name])} on {shown(owner)}"
                )
        rows.append([float(attributes[name]) for name in names])
    return np.array(rows, np.float32).reshape(len(rows), len(names))
