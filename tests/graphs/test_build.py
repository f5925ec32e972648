"""Building, refusing and padding graphs; the built-in ones."""

import jax.numpy as jnp
import jraph
import networkx as nx
import numpy as np
import oracle
import pytest
from helpers import messy_graph
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import distance

from gat_jax.graphs import build as graphs
from gat_jax.graphs import twins

NODES = np.arange(6.0).reshape(3, 2)


def edge_rows(graph):
    """One row (receiver, sender, features) for each edge."""
    edges = np.zeros((len(graph.senders), 0)) if graph.edges is None else graph.edges
    return np.column_stack([graph.receivers, graph.senders, edges])


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


def test_from_adjacency_gives_row_i_its_columns_as_senders():
    graph = graphs.from_adjacency([[0, 1, 0], [0, 0, 0], [1, 1, 0]], nodes=NODES)
    assert edge_rows(graph).tolist() == [[0, 1], [2, 0], [2, 1]]


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


def test_add_self_loops_gives_every_node_one():
    graph = graphs.add_self_loops(graphs.from_edges([0, 2], [1, 1], nodes=NODES))
    assert edge_rows(graph).tolist() == [[0, 0], [1, 0], [1, 1], [1, 2], [2, 2]]
    featured = graphs.from_edges([0], [1], nodes=NODES, edges=[[5.0]])
    looped = graphs.add_self_loops(featured, edge_features=[7.0])
    assert edge_rows(looped).tolist() == [[0, 0, 7], [1, 0, 5], [1, 1, 7], [2, 2, 7]]


def test_add_self_loops_turns_closed_twins_into_twins_and_open_ones_apart():
    complete, star = graphs.complete_graph(4), graphs.star_graph(3)
    count = {
        name: twins.count_twins(twins.twin_classes(graph))
        for name, graph in {
            "complete": complete,
            "complete with loops": graphs.add_self_loops(complete),
            "star": star,
            "star with loops": graphs.add_self_loops(star),
        }.items()
    }
    assert [c.pairs + c.trivial_pairs for c in count.values()] == [0, 6, 3, 0]


def test_in_neighbourhood_keeps_the_rows_asked_for():
    graph = messy_graph(0, num_edge_features=1)
    receivers = np.array([2, 5])
    part, kept = graphs.in_neighbourhood(graph, receivers)
    rows, part_rows = edge_rows(graph), edge_rows(part)
    part_rows[:, :2] = kept[part_rows[:, :2].astype(int)]
    np.testing.assert_array_equal(part_rows, rows[np.isin(rows[:, 0], receivers)])
    np.testing.assert_array_equal(part.nodes, graph.nodes[kept])
    assert set(receivers) <= set(kept)


# --- padding --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("num_nodes", "num_edges"), [(9, 16), (20, 50)])
def test_pad_appends_a_graph_of_its_own(num_nodes, num_edges):
    graph = messy_graph(1, num_edge_features=2)
    padded = graphs.pad(graph, num_nodes=num_nodes, num_edges=num_edges)
    node_mask, edge_mask = graphs.padding_masks(padded)
    assert node_mask.tolist() == [True] * 8 + [False] * (num_nodes - 8)
    assert edge_mask.tolist() == [True] * 16 + [False] * (num_edges - 16)
    np.testing.assert_array_equal(edge_rows(padded)[:16], edge_rows(graph))
    np.testing.assert_array_equal(padded.nodes[:8], graph.nodes)
    assert (np.concatenate([padded.senders[16:], padded.receivers[16:]]) >= 8).all()
    graphs.validate(padded)


# --- features -------------------------------------------------------------------------------------


def test_structural_features_by_hand_and_equal_for_twins():
    path = graphs.from_networkx(nx.Graph([(0, 1), (1, 2), (0, 2), (2, 3)]))
    expected = [[2, 2, 1, 2.5], [2, 2, 1, 2.5], [3, 2, 1 / 3, 5 / 3], [1, 1, 0, 3]]
    np.testing.assert_allclose(graphs.structural_features(path), expected, rtol=1e-6)


def test_standardise_gives_mean_0_and_deviation_1_and_constant_columns_0():
    features = np.column_stack([np.arange(5.0), np.full(5, 3.0), [1.0, 1, 1, 1, 6]])
    standard = graphs.standardise(features)
    np.testing.assert_allclose(standard.mean(0), 0.0, atol=1e-15)
    np.testing.assert_allclose(standard.std(0), [1.0, 0.0, 1.0])
    assert graphs.standardise(np.full((7, 1), 0.1, np.float32)).tolist() == [[0.0]] * 7


# --- built-in graphs ------------------------------------------------------------------------------


def test_tutorial_graph_is_the_oracles():
    graph = graphs.tutorial_graph()
    np.testing.assert_array_equal(graph.senders, oracle.SENDERS)
    np.testing.assert_array_equal(graph.receivers, oracle.RECEIVERS)
    np.testing.assert_array_equal(graph.nodes, oracle.FEATURES)


@pytest.mark.parametrize(
    ("graph", "num_nodes", "num_edges"),
    [
        (graphs.karate_club(), 34, 78),
        (graphs.les_miserables(), 77, 254),
        (graphs.complete_graph(5), 5, 10),
        (graphs.star_graph(4), 5, 4),
    ],
)
def test_built_in_graphs_have_their_sizes_and_run_both_ways(graph, num_nodes, num_edges):
    assert (len(graph.nodes), len(graph.senders)) == (num_nodes, 2 * num_edges)
    ones = set(zip(graph.senders.tolist(), graph.receivers.tolist(), strict=True))
    assert ones == {(r, s) for s, r in ones}
    assert all(s != r for s, r in ones)
    assert np.array_equal(graph.nodes, np.eye(num_nodes))


@pytest.mark.parametrize("num_edge_features", [0, 2])
def test_random_graph_plants_twins_and_repeats_itself(num_edge_features):
    size = {"num_nodes": 12, "num_edges": 30, "num_features": 3}
    options = {**size, "num_edge_features": num_edge_features, "num_twins": 4}
    graph = graphs.random_graph(3, **options)
    pairs = oracle.twin_pairs(graph.senders, graph.receivers, 12, graph.edges)
    assert {(i, i + 4) for i in range(4, 8)} <= {pair[:2] for pair in pairs}
    np.testing.assert_array_equal(edge_rows(graph), edge_rows(graphs.random_graph(3, **options)))
    other = graphs.random_graph(4, **options)
    assert distance.cdist(graph.nodes, other.nodes).min() > 0


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
        ({"nodes": np.array(3.0)}, r"nodes: expected an array \[rows, columns\], got shape \(\)"),
    ],
)
def test_from_edges_names_what_is_wrong(arguments, message):
    good = {"senders": [0, 1], "receivers": [1, 2], "nodes": NODES, "edges": None}
    with pytest.raises(ValueError, match=message):
        graphs.from_edges(**{**good, **arguments})


def test_from_edges_refuses_a_graph_without_nodes():
    with pytest.raises(ValueError, match="nodes: expected at least one node, got 0"):
        graphs.from_edges([], [], nodes=np.zeros((0, 2)))


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


@pytest.mark.parametrize(
    ("adjacency", "nodes", "message"),
    [
        ([[0, 1]], NODES, r"adjacency: expected a square matrix, got shape \(1, 2\)"),
        ([[0, 2], [0, 0]], NODES[:2], "adjacency: expected zeros and ones, got 2"),
        ([[0, np.nan], [0, 0]], NODES[:2], "adjacency: expected zeros and ones, got nan"),
        ([[0, 1], [0, 0]], NODES, "nodes: expected 2 rows, got 3"),
        (
            [[0, 1], [0, 0]],
            np.array(3.0),
            r"nodes: expected an array \[rows, columns\], got shape \(\)",
        ),
    ],
)
def test_from_adjacency_names_what_is_wrong(adjacency, nodes, message):
    with pytest.raises(ValueError, match=message):
        graphs.from_adjacency(adjacency, nodes=nodes)


def test_from_networkx_names_the_missing_attribute():
    with pytest.raises(ValueError, match="edge_attributes: expected 'weight' on every edge"):
        graphs.from_networkx(nx.Graph([(0, 1)]), edge_attributes=["weight"])


@pytest.mark.parametrize(
    ("edges", "loop", "message"),
    [
        (None, [1.0], "edge_features: expected .* got some for edges without features"),
        ([[1.0], [2.0]], None, "edge_features: expected .* got none"),
        ([[1.0], [2.0]], [1.0, 2.0], r"edge_features: expected shape \(1,\), got \(2,\)"),
        ([[1.0], [2.0]], [np.nan], "edges: expected finite numbers, got nan"),
    ],
)
def test_add_self_loops_names_what_is_wrong(edges, loop, message):
    graph = graphs.from_edges([0, 1], [1, 2], nodes=NODES, edges=edges)
    with pytest.raises(ValueError, match=message):
        graphs.add_self_loops(graph, edge_features=loop)


def test_add_self_loops_refuses_to_double():
    with pytest.raises(ValueError, match=r"no self-loops yet, got 4 \(the first at node 0\)"):
        graphs.add_self_loops(graphs.tutorial_graph())


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"num_nodes": 8, "num_edges": 16}, "num_nodes: expected at least 9, got 8"),
        ({"num_nodes": 9, "num_edges": 15}, "num_edges: expected at least 16, got 15"),
    ],
)
def test_pad_refuses_what_does_not_fit(sizes, message):
    with pytest.raises(ValueError, match=message):
        graphs.pad(messy_graph(0), **sizes)


def test_random_graph_refuses_more_twins_than_pairs_of_nodes():
    with pytest.raises(ValueError, match="num_twins: expected 0 to 2, got 3"):
        graphs.random_graph(0, num_nodes=5, num_edges=4, num_features=1, num_twins=3)


def test_in_neighbourhood_refuses_ids_out_of_range():
    with pytest.raises(ValueError, match=r"receivers: expected ids in \[0, 4\), got 4"):
        graphs.in_neighbourhood(graphs.tutorial_graph(), [4])
