"""Building and refusing graphs."""

import jax.numpy as jnp
import jraph
import numpy as np
import pytest
from helpers import edge_rows, messy_graph
from hypothesis import given, settings
from hypothesis import strategies as st

from gat_jax import graphs

NODES = np.arange(6.0).reshape(3, 2)


# --- building -------------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None, derandomize=True)
@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 3), st.sampled_from([-1.0, 0.0, 0.5, 1.0])),
        max_size=12,
    ),
    st.randoms(),
)
def test_from_edges_sorts_any_order_the_same_way(edges, random):
    shuffled = random.sample(edges, len(edges))
    built = []
    for listed in (edges, shuffled):
        table = np.array(listed).reshape(-1, 3)
        ids = table[:, :2].astype(int)
        built.append(graphs.from_edges(ids[:, 0], ids[:, 1], nodes=np.eye(4), edges=table[:, 2:]))
    np.testing.assert_array_equal(edge_rows(built[0]), edge_rows(built[1]))
    assert edge_rows(built[0]).tolist() == sorted([r, s, f] for s, r, f in edges)
    graphs.validate(built[0])


def test_from_edges_keeps_duplicates_and_says_how_many_there_are():
    graph = graphs.from_edges([1, 0, 1], [0, 2, 0], nodes=NODES)
    assert edge_rows(graph).tolist() == [[0, 1], [0, 1], [2, 0]]
    assert graph.n_node.tolist() == [3]
    assert graph.n_edge.tolist() == [3]
    assert graph.senders.dtype == graph.receivers.dtype == np.int32


@pytest.mark.parametrize("dtype", [np.float32, np.float64, jnp.bfloat16])
def test_from_edges_keeps_floating_dtypes(dtype):
    assert graphs.from_edges([], [], nodes=NODES.astype(dtype)).nodes.dtype == dtype


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.bool_])
def test_from_edges_turns_whole_numbers_into_float32(dtype):
    graph = graphs.from_edges([0], [1], nodes=np.ones((2, 2), dtype))
    assert graph.nodes.dtype == np.float32


# --- checking -------------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    st.lists(
        st.tuples(st.integers(0, 1), st.integers(0, 1), st.sampled_from([-1.0, -0.0, 0.0, 2.0])),
        max_size=5,
    ),
    st.booleans(),
)
def test_validate_takes_an_order_if_and_only_if_it_is_sorted(edges, has_features):
    receivers, senders, features = np.array(edges).reshape(-1, 3).T
    graph = jraph.GraphsTuple(
        nodes=np.eye(2),
        edges=features[:, None] if has_features else None,
        senders=senders.astype(int),
        receivers=receivers.astype(int),
        globals=None,
        n_node=np.array([2]),
        n_edge=np.array([len(edges)]),
    )
    keys = edges if has_features else [edge[:2] for edge in edges]
    if keys == sorted(keys):
        graphs.validate(graph)
    else:
        with pytest.raises(ValueError, match="edges: expected to be sorted"):
            graphs.validate(graph)


def test_validate_sorts_nothing(monkeypatch):
    graph = messy_graph(0, num_edge_features=2)
    monkeypatch.setattr(np, "lexsort", None)
    monkeypatch.setattr(np, "argsort", None)
    graphs.validate(graph)


# --- bad input ------------------------------------------------------------------------------------


def bad_graph(**changes):
    return graphs.from_edges([0, 1], [1, 2], nodes=NODES, edges=[[1.0], [2.0]])._replace(**changes)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"senders": [0, 3]}, r"senders: expected ids in \[0, 3\), got 3"),
        ({"receivers": [0, -1]}, r"receivers: expected ids in \[0, 3\), got -1"),
        ({"senders": [0.0, 1.0]}, "senders: expected an integer dtype, got float64"),
        ({"senders": [True, False]}, "senders: expected an integer dtype, got bool"),
        ({"senders": [[0, 1]]}, r"senders: expected a vector of node ids, got shape \(1, 2\)"),
        ({"senders": [0]}, r"receivers: expected as many as senders \(1\), got 2"),
        ({"edges": [[1.0]]}, "edges: expected 2 rows, got 1"),
        ({"edges": [1.0, 2.0]}, r"edges: expected an array \[rows, columns\], got shape \(2,\)"),
        ({"edges": [[1.0], [np.inf]]}, r"edges: expected finite numbers, got inf at \[1, 0\]"),
        ({"nodes": NODES * np.nan}, r"nodes: expected finite numbers, got nan at \[0, 0\]"),
        ({"nodes": NODES + 1j}, "nodes: expected real numbers, got dtype complex128"),
        ({"nodes": NODES.astype(str)}, "nodes: expected numbers, got dtype <U"),
        ({"nodes": NODES[0]}, r"nodes: expected an array \[rows, columns\], got shape \(2,\)"),
        ({"nodes": (NODES, NODES[:2])}, "nodes: expected one set of nodes, got two"),
        ({"nodes": [NODES, NODES]}, "nodes: expected one set of nodes, got two"),
        ({"nodes": np.array(3.0)}, r"nodes: expected an array \[rows, columns\], got shape \(\)"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_from_edges_names_what_is_wrong(arguments, message):
    good = {"senders": [0, 1], "receivers": [1, 2], "nodes": NODES, "edges": None}
    with pytest.raises(ValueError, match=message):
        graphs.from_edges(**{**good, **arguments})


def test_from_edges_refuses_a_graph_without_nodes():
    with pytest.raises(ValueError, match="nodes: expected at least one node, got 0"):
        graphs.from_edges([], [], nodes=np.zeros((0, 2)))


@pytest.mark.parametrize(
    ("num_nodes", "message"),
    [
        (-1, "expected at least 0, got -1"),
        ("3", "expected a whole number, got '3'"),
        (True, "expected a whole number, got True"),
        (3.0, "expected a whole number, got 3.0"),
        (np.ones(3, int), "expected a whole number, got array"),
        (10**9, "expected at most .* GiB, a quarter of the memory, got"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_identity_features_take_whole_numbers_that_fit(num_nodes, message):
    with pytest.raises(ValueError, match=f"^num_nodes: {message}"):
        graphs.identity_features(num_nodes)
    np.testing.assert_array_equal(graphs.identity_features(np.int8(2)), np.eye(2))
    assert graphs.identity_features(0).shape == (0, 0)


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        (bad_graph(n_node=np.array([4])), "n_node: expected a sum of 3, got 4"),
        (bad_graph(n_edge=np.array([1])), "n_edge: expected a sum of 2, got 1"),
        (bad_graph(receivers=np.array([2, 1])), "edges: expected to be sorted"),
        (
            bad_graph(receivers=np.array([1, 1]), senders=np.array([1, 0])),
            "edges: expected to be sorted",
        ),
        (
            bad_graph(
                receivers=np.array([1, 1]),
                senders=np.array([0, 0]),
                edges=np.array([[2.0], [1.0]]),
            ),
            "edges: expected to be sorted",
        ),
    ],
)
def test_validate_refuses_what_from_edges_would_not_build(graph, message):
    assert isinstance(graph, jraph.GraphsTuple)
    with pytest.raises(ValueError, match=message):
        graphs.validate(graph)
