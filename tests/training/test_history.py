import functools

import jax
import numpy as np
import pytest
from helpers import messy_graph, random_params

from gat_jax.graphs import TwinPairs, from_edges
from gat_jax.layers import GATParams, GATv2Params, GCNParams, LayerConfig, apply_layer, init_network
from gat_jax.symmetry import CAUSES, normalised_entropy
from gat_jax.training import TrainConfig, gradient_norms, make_task, measure_layer, train_run

GRAPH = messy_graph(0)
PAIRS = TwinPairs(np.array([0, 0], np.int32), np.array([1, 2], np.int32), np.array([False, False]))


def measured(pairs, slope=0.2):
    params = random_params(0, LayerConfig(heads=3), 3)
    _, info = jax.jit(lambda p: apply_layer(p, GRAPH))(params)
    measure = jax.jit(functools.partial(measure_layer, slope=slope))
    return info, measure(info, GRAPH, pairs)


@pytest.mark.slow
def test_twin_entropy_is_over_the_twins_rows_alone():
    info, found = measured(PAIRS)
    entropy = np.asarray(normalised_entropy(info.attention, GRAPH.receivers, len(GRAPH.nodes)))
    np.testing.assert_allclose(found.entropy, np.nanmean(entropy), rtol=1e-5)
    np.testing.assert_allclose(found.twin_entropy, np.nanmean(entropy[:3]), rtol=1e-5)
    assert abs(found.entropy - found.twin_entropy) > 1e-3


def test_the_gap_is_the_largest_of_all_pairs():
    info, found = measured(PAIRS)
    out = np.asarray(info.head_outputs)
    gaps = [np.abs(out[0] - out[1]).max(), np.abs(out[0] - out[2]).max()]
    np.testing.assert_allclose(found.twin_gap, max(gaps), rtol=1e-6)


def test_a_pair_counts_as_collided_where_all_heads_are_equal():
    _, found = measured(PAIRS, slope=1.0)
    assert found.collided == 1.0
    np.testing.assert_array_equal(np.flatnonzero(found.cause_share), [CAUSES.index("linear")])
    _, found = measured(PAIRS)
    assert found.collided < 1.0
    np.testing.assert_allclose(found.cause_share.sum(), 1.0, rtol=1e-6)


def test_without_pairs_there_is_no_gap_and_no_share():
    nobody = TwinPairs(*(np.zeros(0, dtype) for dtype in (np.int32, np.int32, bool)))
    _, found = measured(nobody)
    assert found.twin_gap == 0.0
    assert np.isnan([found.collided, found.twin_entropy]).all()
    assert np.isfinite(found.entropy)


@pytest.mark.parametrize(
    ("grads", "norms"),
    [
        (GATParams(np.full((2, 1, 2), 3.0), np.ones((1, 1)), np.full((1, 4), 2.0)), (1, 4, 6)),
        (
            GATv2Params(np.full((2, 1, 2), 3.0), np.ones((1, 1)), np.full((4, 1, 4), 2.0)),
            (np.nan, 1, 10),
        ),
        (GATv2Params(np.full((2, 1, 2), 3.0), np.ones((1, 1))), (np.nan, 1, 6)),
        (GCNParams(np.full((2, 1, 2), 3.0), bias=np.ones((1, 2))), (np.nan, np.nan, 6)),
    ],
)
def test_gradient_norms_go_by_the_names_of_parameters(grads, norms, unchecked):
    np.testing.assert_allclose(gradient_norms(grads), norms)


def planned_bytes(function, *arguments) -> int:
    """What XLA plans for temporary arrays of a function; it is compiled, not run."""
    program = jax.jit(function).lower(*arguments).compile()
    return program.memory_analysis().temp_size_in_bytes


@pytest.mark.slow
def test_recording_needs_no_array_of_edges_and_channels():
    """On a million edges with 8 heads of 16 channels one such array alone takes 488 MiB."""
    num_nodes, num_edges, num_pairs = 65_000, 1_000_000, 100
    rng = np.random.default_rng(0)
    nodes = rng.standard_normal((num_nodes, 32), np.float32)
    ids = rng.integers(num_nodes, size=(2, num_edges), dtype=np.int32)
    first = np.arange(num_pairs, dtype=np.int32)
    task = make_task(
        from_edges(*ids, nodes=nodes),
        np.zeros(num_nodes, np.int32),
        np.ones(num_nodes, bool),
        TwinPairs(first, first + num_pairs, np.zeros(num_pairs, bool)),
        layout="bucketed",
    )
    configs = (LayerConfig(layer="gatv2", heads=8, channels=16),)
    params = init_network(jax.random.key(0), configs, 32)
    config = TrainConfig("adam", 4, record_every=2)
    train = functools.partial(train_run, configs=configs, config=config)
    recorded = planned_bytes(lambda p, task: train(p, task=task), params, task)
    plain = planned_bytes(lambda p, task: train(p, task=task)[0], params, task)
    assert recorded < 3 * plain, f"{recorded / 2**20:.0f} MiB, {plain / 2**20:.0f} without records"
