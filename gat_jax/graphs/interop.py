"""Graphs as other packages hold them: matrices, PyTorch Geometric's edge index, networkx.

An edge that these write as u -> v is an edge from sender u to receiver v here. Only matrices are
read the other way round, as everywhere in the literature on graph networks: row i of an adjacency
matrix says whom node i hears.
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import jraph
import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from gat_jax.graphs.build import from_edges, identity_features
from gat_jax.runtime.arrays import as_array, check_features, is_number_of_float32, shown

if TYPE_CHECKING:  # for the annotation alone: importing networkx takes long, and few need it
    import networkx


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
    if is_sparse:
        from gat_jax.runtime.sparse_matrices import checked_csr  # importing SciPy's takes long

        matrix: Any = checked_csr("adjacency", adjacency)
    else:
        matrix = as_array("adjacency", adjacency)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"adjacency: expected a square matrix, got shape {matrix.shape}")
    if is_sparse:
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
    nodes = check_features("nodes", nodes)
    if len(nodes) != matrix.shape[0]:
        raise ValueError(f"nodes: expected {matrix.shape[0]} rows, got {len(nodes)}")
    return from_edges(columns, rows, nodes=nodes)


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
      ValueError: names an attribute that is missing or no number, and where; or as `from_edges`.
    """
    index = {node: i for i, node in enumerate(graph.nodes)}
    triples = [
        (index[a], index[b], (u, v), attributes)
        for u, v, attributes in graph.edges(data=True)
        for a, b in ([(u, v)] if graph.is_directed() or u == v else [(u, v), (v, u)])
    ]
    if node_attributes:
        if nodes is not None:
            raise ValueError("node_attributes: expected none beside nodes, got both")
        nodes = _attributes("node_attributes", node_attributes, "node", graph.nodes(data=True))
    edges = None
    if edge_attributes:
        named = ((edge, attributes) for *_, edge, attributes in triples)
        edges = _attributes("edge_attributes", edge_attributes, "edge", named)
    return from_edges(
        np.array([a for a, *_ in triples], np.int32),
        np.array([b for _, b, *_ in triples], np.int32),
        nodes=identity_features(len(index)) if nodes is None else nodes,
        edges=edges,
    )


def _attributes(
    field: str, names: Sequence[str], what: str, owners: Iterable[tuple[Any, dict]]
) -> Float[np.ndarray, "owners names"]:
    """Return the named attributes of nodes or edges, one column each, as float32."""
    if isinstance(names, str):  # a sequence of letters otherwise
        raise ValueError(f"{field}: expected a list of names, got {names!r}")
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
