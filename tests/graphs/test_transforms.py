"""Self-loops, both directions, structural features and scaled ones."""

import jax.numpy as jnp
import jraph
import networkx as nx
import numpy as np
import pytest
from helpers import edge_rows
from hypothesis import given, settings
from hypothesis import strategies as st

from gat_jax import graphs

NODES = np.arange(6.0).reshape(3, 2)


def test_add_self_loops_gives_every_node_one():
    graph = graphs.add_self_loops(graphs.from_edges([0, 2], [1, 1], nodes=NODES))
    assert edge_rows(graph).tolist() == [[0, 0], [1, 0], [1, 1], [1, 2], [2, 2]]
    featured = graphs.from_edges([0], [1], nodes=NODES, edges=[[5.0]])
    looped = graphs.add_self_loops(featured, edge_features=[7.0])
    assert edge_rows(looped).tolist() == [[0, 0, 7], [1, 0, 5], [1, 1, 7], [2, 2, 7]]


def test_add_self_loops_turns_closed_twins_into_twins_and_open_ones_apart():
    complete, star = (graphs.from_networkx(g) for g in (nx.complete_graph(4), nx.star_graph(3)))
    count = {
        name: graphs.count_twins(graphs.twin_classes(graph))
        for name, graph in {
            "complete": complete,
            "complete with loops": graphs.add_self_loops(complete),
            "star": star,
            "star with loops": graphs.add_self_loops(star),
        }.items()
    }
    assert [c.pairs + c.trivial_pairs for c in count.values()] == [0, 6, 3, 0]


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


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, jnp.bfloat16])
@pytest.mark.parametrize("share", [-0.9, 0.0, 0.9])
def test_standardise_takes_numbers_of_any_size(dtype, share):
    exponent = int(share * np.log2(float(jnp.finfo(dtype).max)))
    column = np.ldexp(np.array([1.0, -1.0, 1.0, -1.0]), exponent).astype(dtype)
    standard = graphs.standardise(column[:, None])
    assert standard.dtype == dtype
    assert standard[:, 0].tolist() == [1.0, -1.0, 1.0, -1.0]


@pytest.mark.parametrize(("dtype", "expected"), [(np.int8, np.float32), (np.float64, np.float64)])
def test_standardise_of_no_rows_is_no_rows(dtype, expected):
    for shape in ((0, 3), (0, 0), (3, 0)):
        standard = graphs.standardise(np.zeros(shape, dtype))
        assert (standard.shape, standard.dtype) == (shape, expected)


def test_standardise_rounds_as_without_the_scaling():
    features = np.random.default_rng(0).normal(3.0, 2.0, size=(50, 4)).astype(np.float32)
    centred = features - features.mean(axis=0, keepdims=True)
    expected = centred / centred.std(axis=0, keepdims=True)
    np.testing.assert_array_equal(graphs.standardise(features), expected)


@pytest.mark.parametrize(
    ("edges", "loop", "message"),
    [
        (None, [1.0], "edge_features: expected .* got some for edges without features"),
        ([[1.0], [2.0]], None, "edge_features: expected .* got none"),
        ([[1.0], [2.0]], [1.0, 2.0], r"edge_features: expected shape \(1,\), got \(2,\)"),
        ([[1.0], [2.0]], [np.nan], "edge_features: expected finite numbers, got nan"),
    ],
)
def test_add_self_loops_names_what_is_wrong(edges, loop, message):
    graph = graphs.from_edges([0, 1], [1, 2], nodes=NODES, edges=edges)
    with pytest.raises(ValueError, match=message):
        graphs.add_self_loops(graph, edge_features=loop)


def test_add_self_loops_refuses_to_double():
    with pytest.raises(ValueError, match=r"no self-loops yet, got 4 \(the first at node 0\)"):
        graphs.add_self_loops(graphs.tutorial_graph())


# --- both directions ------------------------------------------------------------------------------


IDS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 1)), max_size=10)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(IDS, st.booleans())
def test_symmetrise_gives_every_edge_and_its_other_direction_once(edges, has_features):
    table = np.array(edges, np.int64).reshape(-1, 3)
    features = table[:, 2:].astype(np.float32) if has_features else None
    graph = graphs.from_edges(table[:, 0], table[:, 1], nodes=np.eye(4), edges=features)
    rows = {tuple(row[: 3 if has_features else 2]) for row in table.tolist()}
    rows |= {(b, a, *rest) for a, b, *rest in rows}
    both = graphs.symmetrise(graph._replace(globals=np.ones((1, 2))))
    assert sorted((s, r, *rest) for r, s, *rest in edge_rows(both).tolist()) == sorted(rows)
    assert both.globals.shape == (1, 2)
    graphs.validate(both)


def test_symmetrise_takes_one_graph_without_padding():
    graph = graphs.from_edges([0, 2], [1, 1], nodes=NODES)
    with pytest.raises(ValueError, match="graph: expected one without padding, got 2 nodes of pad"):
        graphs.symmetrise(graphs.pad(graph, num_nodes=5, num_edges=4))
    batch = jraph.batch_np([graph, graph])
    with pytest.raises(ValueError, match="graph: expected one graph, got a batch of 2"):
        graphs.symmetrise(batch)


# --- rows -----------------------------------------------------------------------------------------


def test_normalise_rows_divides_by_sums_and_leaves_zeros():
    features = np.array([[1, 3], [0, 0], [0, 5], [2, -2]], np.int64)
    rows = graphs.normalise_rows(features)
    assert rows.tolist() == [[0.25, 0.75], [0, 0], [0, 1], [2, -2]]
    assert rows.dtype == np.float32
    assert features.tolist() == [[1, 3], [0, 0], [0, 5], [2, -2]]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, jnp.bfloat16])
@pytest.mark.parametrize("share", [-0.9, 0.0, 0.999])
def test_normalise_rows_takes_numbers_of_any_size(dtype, share):
    exponent = int(share * np.log2(float(jnp.finfo(dtype).max)))
    rows = np.ldexp(np.array([[0.5, 0.5, 1.0, 0.0]]), exponent).astype(dtype)
    before = rows.copy()
    normalised = graphs.normalise_rows(rows)
    assert normalised.dtype == dtype
    assert normalised.tolist() == [[0.25, 0.25, 0.5, 0.0]]
    np.testing.assert_array_equal(rows, before)


def test_normalise_rows_of_no_rows_is_no_rows():
    for shape in ((0, 3), (3, 0)):
        assert graphs.normalise_rows(np.zeros(shape, np.float32)).shape == shape


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ([[1.0, np.nan]], "features: expected finite numbers, got nan"),
        ([1.0, 2.0], r"features: expected an array \[rows, columns\], got shape \(2,\)"),
        ([["a"]], "features: expected numbers, got dtype <U1"),
    ],
)
def test_normalise_rows_names_what_is_wrong(features, message):
    with pytest.raises(ValueError, match=message):
        graphs.normalise_rows(features)
