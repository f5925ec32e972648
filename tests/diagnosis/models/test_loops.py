"""Edges as attention runs over them: self-loops are made anew, as PyTorch Geometric makes them."""

import time

import numpy as np
import pytest
from helpers import messy_graph

from gat_jax.diagnosis.models.loops import attended_graph, loop_features
from gat_jax.diagnosis.models.observed import ImportedLayer
from gat_jax.graphs import from_edges
from gat_jax.layers import GATParams, LayerConfig


def layer_of(num_edge_features=0, **options):
    """A layer of which only the configuration is read."""
    kernel, half = np.zeros((3, 1, 2)), np.zeros((1, 2))
    config = LayerConfig(num_edge_features=num_edge_features, use_bias=False)
    return ImportedLayer("conv1", "PyG GATConv", config, GATParams(kernel, half, half), **options)


def rows_of(senders, receivers, edges):
    """Edges with their features, in one order whatever the order was."""
    return sorted(zip(receivers, senders, map(tuple, np.round(edges, 5)), strict=True))


@pytest.mark.torch
@pytest.mark.parametrize("how", [0.0, 2.5, "mean", "add", "min", "max", "mul"])
def test_attended_graph_makes_the_loops_of_pyg(how):
    import torch
    from torch_geometric.utils import add_self_loops, remove_self_loops

    graph = messy_graph(3, num_edge_features=2)
    assert (graph.senders == graph.receivers).any()
    assert 7 not in graph.receivers  # a node that receives nothing
    ids = torch.tensor(np.stack([graph.senders, graph.receivers]).astype(np.int64))
    ids, edges = remove_self_loops(ids, torch.tensor(graph.edges))
    ids, edges = add_self_loops(ids, edges, fill_value=how, num_nodes=8)
    found = attended_graph(layer_of(2, replaces_self_loops=True, loop_features=how), graph)
    assert rows_of(found.senders, found.receivers, found.edges) == rows_of(
        *ids.numpy(), edges.numpy()
    )
    assert found.edges.dtype == np.float32
    np.testing.assert_array_equal(found.nodes, graph.nodes)


def test_attended_graph_leaves_edges_alone_where_the_layer_does():
    graph = messy_graph(3, num_edge_features=2)
    found = attended_graph(layer_of(2), graph)
    np.testing.assert_array_equal(found.senders, graph.senders)
    np.testing.assert_array_equal(found.receivers, graph.receivers)
    np.testing.assert_array_equal(found.edges, graph.edges)


def test_attended_graph_drops_edge_features_that_are_not_read():
    graph = messy_graph(3, num_edge_features=2)
    assert attended_graph(layer_of(), graph).edges is None
    looped = attended_graph(layer_of(replaces_self_loops=True), graph)
    assert looped.edges is None
    assert (looped.senders == looped.receivers).sum() == len(graph.nodes)
    num_others = (graph.senders != graph.receivers).sum()
    assert len(looped.senders) == num_others + len(graph.nodes)


def test_attended_graph_without_edges_has_its_loops():
    nothing = np.zeros(0, int)
    graph = from_edges(nothing, nothing, nodes=np.eye(3), edges=np.zeros((0, 2)))
    found = attended_graph(layer_of(2, replaces_self_loops=True), graph)
    np.testing.assert_array_equal(found.senders, [0, 1, 2])
    np.testing.assert_array_equal(found.edges, np.zeros((3, 2)))


def test_attended_graph_refuses_edge_features_that_do_not_fit():
    message = r"edges: expected 2 features, as conv1 reads them, got none"
    with pytest.raises(ValueError, match=message):
        attended_graph(layer_of(2), messy_graph(3))
    message = r"edges: expected shape \[16, 3\], as conv1 reads them, got \[16, 2\]"
    with pytest.raises(ValueError, match=message):
        attended_graph(layer_of(3), messy_graph(3, num_edge_features=2))


@pytest.mark.usefixtures("unchecked")
def test_loop_features_refuse_an_unknown_reduction():
    message = "loop_features: expected a number or one of add, mean, min, max, mul, got 'median'"
    with pytest.raises(ValueError, match=message):
        loop_features(np.ones((1, 1)), np.zeros(1, int), 1, "median")  # pyright: ignore


def test_attended_graph_takes_a_million_edges_in_seconds():
    rng = np.random.default_rng(0)
    senders, receivers = rng.integers(100_000, size=(2, 1_000_000))
    graph = from_edges(senders, receivers, nodes=np.zeros((100_000, 1)))
    start = time.perf_counter()
    found = attended_graph(layer_of(replaces_self_loops=True), graph)
    assert time.perf_counter() - start < 5
    assert len(found.senders) == 100_000 + (graph.senders != graph.receivers).sum()
