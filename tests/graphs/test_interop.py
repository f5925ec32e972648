"""Graphs as other packages hold them: matrices, PyTorch Geometric's objects, networkx."""

import fractions
from types import SimpleNamespace

import jax.numpy as jnp
import networkx as nx
import numpy as np
import pytest
import scipy.sparse
from helpers import edge_rows
from hypothesis import given, settings
from hypothesis import strategies as st

from gat_jax import graphs

NODES = np.arange(6.0).reshape(3, 2)
FORMATS = ("bsr", "coo", "csc", "csr", "dia", "dok", "lil")
explore = settings(max_examples=50, deadline=None, derandomize=True)


# --- adjacency matrices ---------------------------------------------------------------------------


def test_from_adjacency_gives_row_i_its_columns_as_senders():
    graph = graphs.from_adjacency([[0, 1, 0], [0, 0, 0], [1, 1, 0]], nodes=NODES)
    assert edge_rows(graph).tolist() == [[0, 1], [2, 0], [2, 1]]


@explore
@given(
    st.lists(st.booleans(), min_size=9, max_size=9),
    st.sampled_from([np.bool_, np.int8, np.uint64, np.float32, np.float64]),
    st.sampled_from([*FORMATS, "dense"]),
    st.booleans(),
)
def test_from_adjacency_takes_any_matrix_of_zeros_and_ones(entries, dtype, form, is_matrix):
    dense = np.array(entries).reshape(3, 3).astype(dtype)
    expected = [[int(i), int(j)] for i, j in zip(*np.nonzero(dense), strict=True)]
    if form == "dense":
        matrix = dense
    elif is_matrix:
        matrix = scipy.sparse.coo_matrix(dense).asformat(form)
    else:
        matrix = scipy.sparse.coo_array(dense).asformat(form)
    assert edge_rows(graphs.from_adjacency(matrix, nodes=NODES)).tolist() == expected


def stored(entries, *, dtype=np.float64, make=scipy.sparse.coo_array):
    """A sparse matrix of (row, column, value), as it is stored."""
    rows, columns, values = np.array(entries, float).T
    return make((values.astype(dtype), (rows.astype(int), columns.astype(int))), shape=(3, 3))


def test_from_adjacency_leaves_out_zeros_that_are_stored():
    graph = graphs.from_adjacency(stored([(0, 1, 1), (2, 0, 0)]), nodes=NODES)
    assert edge_rows(graph).tolist() == [[0, 1]]


@pytest.mark.parametrize(
    ("adjacency", "message"),
    [
        ([[0, 1]], r"adjacency: expected a square matrix, got shape \(1, 2\)"),
        (scipy.sparse.csr_array(np.ones((2, 3))), r"a square matrix, got shape \(2, 3\)"),
        ([[0, 2], [0, 0]], "zeros and ones, got 2 in row 0, column 1; from_edges takes weights"),
        ([[0, np.nan], [0, 0]], "adjacency: expected zeros and ones, got nan"),
        ([[0, 1j], [0, 0]], "adjacency: expected zeros and ones, got dtype complex128"),
        ([["0", "1"], ["0", "0"]], "adjacency: expected zeros and ones, got dtype <U1"),
        (stored([(0, 1, 0.5)]), "zeros and ones, got 0.5 in row 0, column 1"),
        (stored([(0, 1, -1)]), "zeros and ones, got -1.0"),
        (stored([(0, 1, np.nan)]), "zeros and ones, got nan"),
        (stored([(0, 1, 1), (0, 1, 1)]), "zeros and ones, got 2.0 in row 0, column 1"),
        (stored([(0, 1, 1)] * 257, dtype=np.uint8), "zeros and ones, got 257"),
        ([[0, 1], [0, 0]], "nodes: expected 2 rows, got 3"),
        ([0, 1], r"adjacency: expected a square matrix, got shape \(2,\)"),
        (None, "adjacency: expected an array of numbers, got dtype object, such as None"),
    ],
)
def test_from_adjacency_names_what_is_wrong(adjacency, message):
    with pytest.raises(ValueError, match=message):
        graphs.from_adjacency(adjacency, nodes=NODES)


def test_from_adjacency_names_nodes_that_are_no_matrix():
    with pytest.raises(ValueError, match=r"nodes: expected an array \[rows, columns\]"):
        graphs.from_adjacency([[0, 1], [0, 0]], nodes=np.array(3.0))


# --- edge indices ---------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [np.array, jnp.array, list])
def test_from_edge_index_lets_the_first_row_send(make):
    graph = graphs.from_edge_index(make([[2, 0], [1, 1]]), nodes=NODES, edges=[[5.0], [6.0]])
    assert edge_rows(graph).tolist() == [[1, 0, 6.0], [1, 2, 5.0]]


@pytest.mark.torch
def test_from_edge_index_sums_what_pyg_sums():
    import torch
    from torch_geometric.nn import SimpleConv

    rng = np.random.default_rng(0)
    edge_index, x = (
        torch.tensor(rng.integers(5, size=(2, 12))),
        torch.tensor(rng.normal(size=(5, 3))),
    )
    graph = graphs.from_edge_index(edge_index, nodes=x)
    sums = np.zeros((5, 3))
    np.add.at(sums, graph.receivers, graph.nodes[graph.senders])
    np.testing.assert_allclose(sums, SimpleConv(aggr="sum")(x, edge_index), rtol=1e-12)


@pytest.mark.parametrize(
    ("edge_index", "message"),
    [
        (np.zeros((5, 2), int), r"edge_index: expected shape \[2, E\], got \[5, 2\]; transpose it"),
        (np.zeros((3, 4), int), r"edge_index: expected shape \[2, E\], got \[3, 4\]$"),
        (np.zeros(4, int), r"edge_index: expected shape \[2, E\], got \[4\]$"),
        (np.zeros((2, 3)), "senders: expected an integer dtype, got float64"),
        (np.array([[0, 1], [0, 3]]), r"receivers: expected ids in \[0, 3\), got 3"),
    ],
)
def test_from_edge_index_names_what_is_wrong(edge_index, message):
    with pytest.raises(ValueError, match=message):
        graphs.from_edge_index(edge_index, nodes=NODES)


# --- networkx -------------------------------------------------------------------------------------


def test_from_networkx_runs_undirected_edges_both_ways_and_loops_once():
    source = nx.Graph([("a", "b"), ("b", "b")])
    assert edge_rows(graphs.from_networkx(source)).tolist() == [[0, 1], [1, 0], [1, 1]]
    directed = graphs.from_networkx(nx.DiGraph([(0, 1)]))
    assert edge_rows(directed).tolist() == [[1, 0]]


def test_from_networkx_keeps_parallel_edges_and_their_attributes():
    source = nx.MultiDiGraph()
    source.add_edge(0, 1, weight=2.0, age=1)
    source.add_edge(0, 1, weight=1.0, age=3)
    graph = graphs.from_networkx(source, edge_attributes=["weight", "age"])
    assert edge_rows(graph).tolist() == [[1, 0, 1.0, 3.0], [1, 0, 2.0, 1.0]]
    np.testing.assert_array_equal(graph.nodes, np.eye(2))


@explore
@given(
    st.lists(st.tuples(st.text("abc", max_size=2), st.text("abc", max_size=2)), max_size=8),
    st.sampled_from([nx.Graph, nx.DiGraph, nx.MultiGraph, nx.MultiDiGraph]),
)
def test_from_networkx_keeps_the_order_of_named_nodes(edges, kind):
    source = kind()
    source.add_node("first", size=0)
    for number, (u, v) in enumerate(edges, 1):
        source.add_node(u, size=len(u))
        source.add_node(v, size=len(v))
        source.add_edge(u, v, weight=number)
    graph = graphs.from_networkx(source, node_attributes=["size"], edge_attributes=["weight"])
    names = list(source.nodes)
    assert graph.nodes[:, 0].tolist() == [source.nodes[name]["size"] for name in names]
    expected = set()
    for u, v, weight in source.edges(data="weight"):
        expected |= {(names.index(v), names.index(u), weight)}
        if not source.is_directed():
            expected |= {(names.index(u), names.index(v), weight)}
    assert {tuple(row) for row in edge_rows(graph).tolist()} == expected
    assert len(graph.senders) == len(expected)


@pytest.mark.parametrize(
    "value",
    [
        *("red", "3.5", b"1", None, True, np.True_, [1.0], {"a": 1}, 1j, np.array([1.0, 2.0])),
        *(np.nan, np.inf, -np.inf, np.float32("nan"), 1e39, -(10**39), 10**400, 2**24 + 1),
        *(10**5000, fractions.Fraction(10**400), np.int64(2**24 + 1), "x\ny" * 1000),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("owner", ["node", "edge"])
def test_from_networkx_names_an_attribute_that_is_no_number(value, owner):
    source = nx.Graph()
    source.add_node("a", w=1.0)
    source.add_node("b", w=value if owner == "node" else 2)
    source.add_edge("a", "b", w=value if owner == "edge" else 2)
    where = r"on 'b'$" if owner == "node" else r"on \('a', 'b'\)$"
    message = (
        rf"^{owner}_attributes: expected 'w' to be a finite number of float32 on every {owner}, "
        rf"got .*{where}"
    )
    with pytest.raises(ValueError, match=message) as error:
        graphs.from_networkx(source, **{f"{owner}_attributes": ["w"]})
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 250


@pytest.mark.parametrize(
    "value", [1, 2**24, 2**30, -3, 0.1, 3e38, np.float16(2), np.uint8(7), fractions.Fraction(1, 3)]
)
def test_from_networkx_takes_every_number_that_float32_holds(value):
    source = nx.Graph()
    source.add_edge("a", "b", w=value)
    graph = graphs.from_networkx(source, edge_attributes=["w"])
    assert graph.edges.tolist() == [[np.float32(float(value))]] * 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"edge_attributes": ["w"]}, r"^edge_attributes: expected 'w' on every edge, got none on"),
        ({"node_attributes": ["w"]}, "^node_attributes: expected 'w' on every node, got none on 0"),
        ({"edge_attributes": "w"}, "^edge_attributes: expected a list of names, got 'w'"),
        (
            {"node_attributes": ["w"], "nodes": np.eye(2)},
            "^node_attributes: expected none beside nodes, got both",
        ),
        ({"nodes": np.eye(3)[:1]}, r"nodes: expected 2 rows, got 1"),
    ],
)
def test_from_networkx_names_what_is_wrong(options, message):
    with pytest.raises(ValueError, match=message):
        graphs.from_networkx(nx.Graph([(0, 1)]), **options)


@pytest.mark.parametrize("field", ["node_attributes", "edge_attributes"])
@pytest.mark.parametrize(
    ("make", "got"),
    [
        (set, r"\{'"),
        (frozenset, r"frozenset\(\{'"),
        (dict.fromkeys, r"\{'"),
        (iter, "<list_iter"),
        (lambda names: (name for name in names), "<generator"),
        (lambda names: [names], r"\[\['v', 'w'\]\]"),
        (lambda names: names[0], "'v'"),
        (lambda names: None, "None"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_from_networkx_takes_names_in_an_order_alone(field, make, got):
    source = nx.Graph()
    source.add_nodes_from([0, 1], v=1.0, w=2.0)
    source.add_edge(0, 1, v=1.0, w=2.0)
    names = ["v", "w"]
    with pytest.raises(ValueError, match=rf"^{field}: expected a list of names, got {got}"):
        graphs.from_networkx(source, **{field: make(names)})
    graph = graphs.from_networkx(source, **{field: tuple(names)})
    found = graph.nodes if field == "node_attributes" else graph.edges
    assert found.tolist() == [[1.0, 2.0]] * 2


@pytest.mark.parametrize("num_rows", [0, 2, 4])
@pytest.mark.parametrize("edges", [[], [(0, 1)], [(0, 1), (1, 2)]])
def test_from_networkx_takes_one_row_of_features_for_each_node(num_rows, edges):
    source = nx.empty_graph(3)
    source.add_edges_from(edges)
    with pytest.raises(ValueError, match=rf"^nodes: expected 3 rows, got {num_rows}$"):
        graphs.from_networkx(source, nodes=np.ones((num_rows, 4)))


@pytest.mark.parametrize("source", [[(0, 1)], None, {0: [1]}, np.eye(2), graphs.karate_club()])
@pytest.mark.usefixtures("unchecked")
def test_from_networkx_refuses_what_is_none_of_its_graphs(source):
    kind = type(source).__name__
    with pytest.raises(ValueError, match=f"^graph: expected one of networkx, got {kind}$"):
        graphs.from_networkx(source)


@pytest.mark.parametrize("form", ["coo", "dok", "dia"])
def test_from_adjacency_converts_no_matrix_that_nodes_do_not_fit(form):
    matrix = scipy.sparse.coo_array((10**10, 10**10)).asformat(form)
    with pytest.raises(ValueError, match=r"^nodes: expected 10000000000 rows, got 3$"):
        graphs.from_adjacency(matrix, nodes=NODES)


def test_from_networkx_refuses_a_graph_without_nodes():
    with pytest.raises(ValueError, match="nodes: expected at least one node, got 0"):
        graphs.from_networkx(nx.Graph())


# --- tasks of PyTorch Geometric -------------------------------------------------------------------


EYE = np.eye(3, dtype=bool)


def data_of(**changes):
    """What has the fields of a `Data`: a path of three nodes, one in each part of the split."""
    fields = {
        "x": NODES,
        "edge_index": np.array([[0, 1], [1, 2]]),
        "edge_attr": None,
        "y": np.array([0, 2, 1]),
        "train_mask": EYE[1],
        "val_mask": EYE[2],
        "test_mask": EYE[0],
    }
    return SimpleNamespace(**(fields | changes))


class Hetero:
    """What has the fields of a `HeteroData`, with any number of types."""

    def __init__(self, kinds, relations, **stores):
        self.node_types, self.edge_types, self.stores = kinds, relations, stores

    def __getitem__(self, kind):
        return self.stores["nodes" if isinstance(kind, str) else "edges"]


def assert_is_the_path(task, name="pyg"):
    assert task.name == name
    assert edge_rows(task.graph).tolist() == [[1, 0], [2, 1]]
    np.testing.assert_array_equal(task.graph.nodes, NODES)
    assert task.labels.tolist() == [0, 2, 1]
    assert [np.flatnonzero(mask[0]).tolist() for mask in task.splits] == [[1], [2], [0]]


def test_task_from_pyg_reads_data_and_heterogeneous_data_of_one_type():
    assert_is_the_path(graphs.task_from_pyg(data_of()))
    assert_is_the_path(graphs.task_from_pyg(data_of(y=np.array([[0], [2], [1]])), name="a"), "a")
    nodes, edges = data_of(edge_index=None), data_of(x=None)
    assert_is_the_path(
        graphs.task_from_pyg(Hetero(["a"], [("a", "to", "a")], nodes=nodes, edges=edges))
    )


@pytest.mark.torch
def test_task_from_pyg_reads_what_pyg_makes():
    import torch
    from torch_geometric.data import Data, HeteroData

    fields = {k: torch.tensor(v) for k, v in vars(data_of()).items() if v is not None}
    assert_is_the_path(graphs.task_from_pyg(Data(**fields)))
    hetero = HeteroData()
    hetero["a", "to", "a"].edge_index = fields.pop("edge_index")
    for field, value in fields.items():
        hetero["a"][field] = value
    assert_is_the_path(graphs.task_from_pyg(hetero))
    hetero["b"].x = fields["x"]
    with pytest.raises(ValueError, match=r"^data: expected one type .* got \['a', 'b'\] and \[\("):
        graphs.task_from_pyg(hetero)
    bare = graphs.task_from_pyg(Data(x=fields["x"], edge_index=torch.tensor([[0], [1]])))
    assert (bare.labels, bare.splits) == (None, None)


def test_task_from_pyg_reads_masks_of_several_splits():
    columns = np.stack([EYE[1], EYE[2]], axis=1)
    task = graphs.task_from_pyg(data_of(train_mask=columns, val_mask=columns[:, ::-1]))
    assert [mask.shape for mask in task.splits] == [(2, 3)] * 3
    assert np.argmax(task.splits.train, axis=1).tolist() == [1, 2]
    assert np.argmax(task.splits.test, axis=1).tolist() == [0, 0]


def test_task_from_pyg_takes_edge_features_and_nodes_without_labels():
    few = dict.fromkeys(("train_mask", "val_mask", "test_mask"))
    task = graphs.task_from_pyg(data_of(y=np.array([0.0, -1.0, 1.0]), edge_attr=[[5], [6]], **few))
    assert edge_rows(task.graph).tolist() == [[1, 0, 5], [2, 1, 6]]
    assert task.labels.tolist() == [0, -1, 1]
    assert task.splits is None


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([1], r"^data: expected a Data or HeteroData .*, got list without edge_index$"),
        (data_of(x=None), "^data: expected a Data .*, got SimpleNamespace without x$"),
        (Hetero(["a", "b"], []), r"^data: expected one type .*, got \['a', 'b'\] and \[\]$"),
        (Hetero(["a"], [("a", "b", "c")] * 2), "^data: expected one type of nodes and one of edg"),
        (data_of(y=np.eye(3)), r"^y: expected shape \[3\], got \[3, 3\]$"),
        (data_of(y=np.array([0, 1])), r"^y: expected shape \[3\], got \[2\]$"),
        (data_of(y=np.array([0, 0.5, 1])), "^y: expected whole numbers, got 0.5"),
        (data_of(y=np.array([0, -2, 1])), r"^y: expected class ids in \[0, 65536\), got -2$"),
        (data_of(y=None), "^labels: expected some for the nodes of splits, got none$"),
        (data_of(val_mask=None), "^val_mask: expected it beside train_mask, got none$"),
        (data_of(train_mask=None), "^train_mask: expected it beside val_mask, got none$"),
        (data_of(val_mask=EYE[1]), "^val_mask: expected no node of train_mask, got node 1 in"),
        (data_of(val_mask=EYE[:2]), r"^val_mask: expected shape \[splits, 3\], got \[3, 2\]$"),
        (data_of(edge_index=np.array([[0], [3]])), r"^receivers: expected ids in \[0, 3\), got 3$"),
    ],
)
def test_task_from_pyg_names_what_is_wrong(data, message):
    with pytest.raises(ValueError, match=message):
        graphs.task_from_pyg(data)


# --- tasks of networkx ----------------------------------------------------------------------------


def named(**labels):
    """A path whose nodes have names, and labels where they are given."""
    source = nx.path_graph(["zoe", "ann", "bob"])
    nx.set_node_attributes(source, labels, "kind")
    return source


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ({"zoe": 3, "ann": 0, "bob": np.int64(1)}, [3, 0, 1]),
        ({"zoe": "b", "ann": "a", "bob": "b"}, [1, 0, 1]),
        ({"zoe": "b", "ann": None}, [0, -1, -1]),
        ({}, [-1, -1, -1]),
    ],
)
def test_task_from_networkx_reads_labels_in_the_order_of_nodes(labels, expected):
    source = named(**labels)
    task = graphs.task_from_networkx(source, label="kind", name="mine")
    assert task.name == "mine"
    assert task.labels.tolist() == expected
    assert task.labels.dtype == np.int32
    np.testing.assert_array_equal(edge_rows(task.graph), edge_rows(graphs.from_networkx(source)))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"zoe": "b", "ann": 1}, "^kind: expected names alone, got 1 on 'ann'$"),
        ({"zoe": 0.5}, r"^kind: expected class ids in \[0, 65536\) or names, got 0\.5 on 'zoe'$"),
        ({"zoe": True}, "or names, got True on 'zoe'$"),
        ({"zoe": -1}, "or names, got -1 on 'zoe'$"),
        ({"zoe": 65536}, "or names, got 65536 on 'zoe'$"),
        ({"zoe": [1]}, r"or names, got \[1\] on 'zoe'$"),
    ],
)
def test_task_from_networkx_names_a_label_that_is_none(labels, message):
    with pytest.raises(ValueError, match=message):
        graphs.task_from_networkx(named(**labels), label="kind")


def test_task_from_networkx_passes_features_on():
    source = named(zoe=0)
    nx.set_node_attributes(source, 2.5, "age")
    nx.set_edge_attributes(source, 3.5, "weight")
    options = {"node_attributes": ["age"], "edge_attributes": ["weight"]}
    task = graphs.task_from_networkx(source, label="kind", **options)
    assert task.graph.nodes.tolist() == [[2.5]] * 3
    assert task.graph.edges.tolist() == [[3.5]] * 4
    task = graphs.task_from_networkx(source, label="kind", nodes=NODES)
    np.testing.assert_array_equal(task.graph.nodes, NODES)
