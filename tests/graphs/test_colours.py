"""Colour refinement against refining as often as there are nodes."""

import numpy as np
import oracle_diagnosis as oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gat_jax import graphs


@settings(deadline=None)  # the machine may be busy
@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(0, 30))
def test_refine_colours_agrees_with_plain_refinement(seed, num_nodes, num_edges):
    rng = np.random.default_rng(seed)
    senders, receivers = rng.integers(0, num_nodes, (2, num_edges))
    x = rng.integers(0, 2, (num_nodes, 1)).astype(np.float32)
    graph = graphs.from_edges(senders, receivers, nodes=x)
    edges = list(zip(senders.tolist(), receivers.tolist(), strict=True))
    np.testing.assert_array_equal(graphs.refine_colours(graph), oracle.colours_of(x, edges))


def test_refine_colours_reads_edge_features():
    graph = graphs.from_edges(
        [0, 0, 0], [1, 2, 3], nodes=np.ones((4, 1)), edges=np.array([[1.0], [1.0], [2.0]])
    )
    assert graphs.refine_colours(graph).tolist() == [0, 1, 1, 3]
    assert graphs.refine_colours(graph._replace(edges=None)).tolist() == [0, 1, 1, 1]


def test_refine_colours_follows_a_path_to_its_middle():
    """A class that splits at its ends alone, again and again."""
    num = 101
    steps = np.arange(num - 1)
    graph = graphs.from_edges(
        np.concatenate([steps, steps + 1]),
        np.concatenate([steps + 1, steps]),
        nodes=np.ones((num, 1)),
    )
    assert graphs.refine_colours(graph).tolist() == [min(i, num - 1 - i) for i in range(num)]


def test_refine_colours_of_a_regular_graph():
    ring = np.arange(6)
    graph = graphs.from_edges(ring, (ring + 1) % 6, nodes=np.ones((6, 1)))
    assert graphs.refine_colours(graph).tolist() == [0] * 6


def test_refine_colours_refuses_padding():
    graph = graphs.from_edges([0], [1], nodes=np.ones((2, 1)))
    with pytest.raises(ValueError, match="graph: expected one without padding, got 2 nodes of it"):
        graphs.refine_colours(graphs.pad(graph, num_nodes=4, num_edges=4))
