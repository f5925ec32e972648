import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest

from gat_jax import graphs, sampling
from gat_jax.graphs import twins
from gat_jax.layers import LayerConfig, initializers
from gat_jax.runtime.devices import default_devices
from gat_jax.sampling import Cell, counts, sampler
from gat_jax.sampling.cells import BATCHES_PER_TILE
from gat_jax.sampling.random_bits import draw_bits, from_bits
from gat_jax.studies import tutorial_init
from gat_jax.symmetry import CAUSES

GRAPH, PAIRS = tutorial_init.tutorial_twins()
CELL = Cell("tutorial", LayerConfig(initializer="tutorial"))


def sample(cell=CELL, graph=GRAPH, pairs=PAIRS, *, num_inits=20_000, seed=0, **options):
    return sampling.sample(cell, graph, pairs, num_inits=num_inits, seed=seed, **options)


def test_identity_leaves_out_what_only_scales_the_numbers():
    same = dataclasses.replace(CELL, slope=0.5, gain=3.0)
    assert same.identity == CELL.identity
    other = dataclasses.replace(CELL, features="standardised")
    prepared, again, differing = (
        sampling.prepare_cell(cell, GRAPH, PAIRS, seed=0) for cell in (CELL, same, other)
    )
    np.testing.assert_array_equal(prepared.inputs.key, again.inputs.key)
    assert not np.array_equal(prepared.inputs.key, differing.inputs.key)
    assert not np.array_equal(prepared.inputs.key, prepared.inputs.feature_key)
    assert prepared.shape == again.shape  # one program for both
    # A stable hash: the numbers must be the same in every process and version.
    assert prepared.inputs.key.tolist() == STABLE_KEY


STABLE_KEY = [2801135065, 3112958809]


@pytest.mark.parametrize("graph", [GRAPH, graphs.karate_club()])
def test_what_is_counted_in_many_ways_is_computed_once(graph):
    """XLA for CPUs would compute each pair anew for each of its counts, over any barrier."""
    pairs = graphs.twin_pairs(graphs.twin_classes(graph))
    cell = Cell("a graph", LayerConfig(heads=4, channels=2))
    prepared = sampling.prepare_cell(cell, graph, pairs, seed=0)
    (tile,) = sampling.split_into_tiles(0, 1, prepared.shape)
    run = jax.jit(functools.partial(sampler.run_tile, prepared.shape))
    lowered = run.lower(prepared.inputs, tile)
    traced, compiled = lowered.as_text(), lowered.compile().as_text()
    for name in ("is-finite", "abs"):  # of rows, and of the differences of pairs
        number = len(re.findall(f" {name}\\(", compiled))
        assert number == traced.count(f"stablehlo.{name.replace('-', '_')} ")
        assert number > 0


@pytest.mark.parametrize("heads", [1, 2])
def test_counts_are_what_numpy_counts(heads):
    """A tile and a half, its parameters drawn again and counted with the oracle's criterion."""
    cell = Cell("tutorial", LayerConfig(initializer="tutorial", heads=heads))
    prepared = sampling.prepare_cell(cell, GRAPH, PAIRS, seed=5)
    size = prepared.shape.batch_size
    num_inits = BATCHES_PER_TILE * size + size // 2
    found = sample(cell, num_inits=num_inits, seed=5)
    is_equal, is_regime = [], []
    for batch in range(BATCHES_PER_TILE + 1):
        bits = draw_bits(prepared.inputs.key, jnp.uint32(batch), num=10 * heads, size=size)
        numbers = from_bits(bits, "uniform").reshape(10, heads * size)
        head = dataclasses.replace(cell.layer, heads=1)
        scales = initializers.draw_scales(cell.layer, 2)
        params = initializers.assemble(numbers, scales, head, 2, axis=0)
        kernel, bias, recv, send = (
            np.asarray(x, np.float64)
            for x in (params.kernel[:, 0], params.bias[0], params.a_recv[0], params.a_send[0])
        )
        z = np.einsum("nf,fcl->lnc", oracle.FEATURES, kernel) + bias.T[:, None]
        c, n = (np.einsum("lnc,cl->ln", z, a) for a in (recv, send))
        collided, causes = oracle.gat_equal_by_signs(c[:, 2], c[:, 3], n[:, 1:], 0.2)
        is_equal.append(collided.reshape(heads, size))
        is_regime.append((causes["positive"] | causes["negative"]).reshape(heads, size))
    is_equal, is_regime = (np.concatenate(x, axis=1)[:, :num_inits] for x in (is_equal, is_regime))
    assert found.num_inits == num_inits
    # Float32 signs may differ at a logit of 0.
    np.testing.assert_allclose(found.collisions, is_equal.all(axis=0).sum(), atol=2)
    np.testing.assert_allclose(found.regime_collisions, is_regime.all(axis=0).sum(), atol=2)
    np.testing.assert_allclose(found.head_collisions, is_equal.sum(axis=1), atol=2)


@pytest.mark.parametrize("only_signs", [False, True])
def test_counts_agree_with_each_other(only_signs):
    found = sample(dataclasses.replace(CELL, layer=LayerConfig(heads=2)), only_signs=only_signs)
    assert found.num_inits == found.joint_causes.sum() == 20_000
    np.testing.assert_array_equal(found.head_causes.sum(axis=1), 20_000)
    mixed = found.joint_causes[counts.JOINT_CAUSES.index("mixed")]
    assert 0 < mixed < found.collisions == mixed + found.joint_causes[:7].sum()
    assert found.all_pairs_collided == found.class_collisions == found.squared_shares
    assert found.all_pairs_collided == found.collisions
    if only_signs:
        assert found.gap_histogram.sum() == found.entropy_histogram.sum() == 0
        return
    assert found.entropy_histogram.sum() == 2 * 2 * 20_000  # rows and heads
    assert found.gap_histogram.sum() == 20_000
    assert found.gap_histogram[0] == found.equal_outputs >= found.regime_collisions
    assert found.equal_outputs <= found.matching_outputs
    assert found.uniform_attention <= found.collisions
    # Moments lie within what the histograms allow.
    width = 1 / counts.NUM_ENTROPY_BINS
    low = np.sum(found.entropy_histogram * np.arange(counts.NUM_ENTROPY_BINS) * width)
    entropy_sum = 80_000 - found.deficit_sum
    assert low - 1 < entropy_sum < low + width * found.entropy_histogram.sum() + 1
    mean = found.deficit_sum / 80_000
    assert mean**2 < found.deficit_squares / 80_000 < mean
    edges = np.linspace(*counts.GAP_RANGE, counts.GAP_STEPS + 1)
    inside = found.gap_histogram[2:-1]
    assert np.sum(inside * edges[:-1]) - 1 < found.log_gap_sum < np.sum(inside * edges[1:]) + 1


def test_a_prefix_is_a_prefix_and_every_initialisation_counts_once():
    collisions = [sample(num_inits=n).collisions for n in (1, 999, 1000, 20_000)]
    assert collisions == sorted(collisions)
    assert collisions[0] <= 1
    assert collisions[2] - collisions[1] <= 1
    kept = sampling.prepare_cell(CELL, GRAPH, PAIRS, seed=0, keep_values=True)
    tiles = sampling.split_into_tiles(0, 1000, kept.shape)
    (result,) = sampling.measure_tiles(kept, tiles, devices=default_devices()[:1])
    values = result.kept()
    assert values is not None
    assert values.collided_pairs.shape == (1000,)
    assert values.collided_pairs.sum() == collisions[2]
    assert np.sum(values.largest_gap == 0) >= collisions[2]
    assert np.all((values.mean_entropy > 0) & (values.mean_entropy < 1 + 1e-6))


@pytest.mark.parametrize("at_once", [8, pytest.param(128, marks=pytest.mark.slow)])
@pytest.mark.parametrize("graph", ["tutorial", "karate_club"])
def test_tiles_at_once_change_no_bit(graph, at_once):
    """Counts and sums of every tile; more of them than a call computes, the last one not full."""
    source = graphs.load_graph(graph)
    pairs = twins.twin_pairs(twins.twin_classes(source))
    cell = Cell(graph, LayerConfig(heads=2))
    prepared = sampling.prepare_cell(cell, source, pairs, seed=0, keep_values=True)
    num_inits = (at_once + 2) * prepared.shape.tile_size - 7
    tiles = list(sampling.split_into_tiles(0, num_inits, prepared.shape))
    tiles = tiles[:2] + tiles[-3:] if at_once == 128 else tiles

    def measure(at_once):
        devices = default_devices()[:1]
        calls = sampling.measure_tiles(prepared, tiles, devices=devices, tiles_at_once=at_once)
        by_call = [(x.tally, x.kept()) for x in calls]
        return jax.tree.leaves(jax.tree.map(lambda *x: np.concatenate(x), *by_call))

    found, expected = measure(at_once), measure(1)
    assert {len(x) for x in found} == {len(tiles), sum(int(x.num_inits) for x in tiles)}
    assert [x.tobytes() for x in found] == [x.tobytes() for x in expected]


def test_pairs_and_classes_of_larger_graphs():
    graph = graphs.add_self_loops(graphs.les_miserables())
    pairs = twins.twin_pairs(twins.twin_classes(graph))
    layer = LayerConfig(heads=2, initializer="tutorial")
    found = sample(Cell("miserables", layer), graph, pairs, num_inits=2000, only_signs=True)
    trials = found.num_inits * len(pairs.first)
    num_classes = len(np.unique(twins.twin_classes(graph).smallest[pairs.first]))
    assert 1 < num_classes < len(pairs.first)
    assert found.head_causes.sum() == 2 * trials
    assert 0 < found.collisions < found.head_collisions.min() < trials
    assert found.squared_shares < found.collisions / len(pairs.first)
    assert found.all_pairs_collided < found.class_collisions < found.num_inits * num_classes
    # Members of a class are equal if all its pairs are: counted again from every initialisation.
    assert found.class_collisions < found.collisions


@pytest.mark.few(1)
@pytest.mark.parametrize(
    ("features", "low", "high"),
    [("uniform01", 0.60, 0.68), ("normal", 0.24, 0.32), ("standardised", 0.35, 0.43)],
)
def test_features_are_drawn_or_scaled(features, low, high):
    found = sample(Cell("tutorial", CELL.layer, features))
    assert low < found.collisions / found.num_inits < high


@pytest.mark.slow
def test_slope_and_gain_are_arguments():
    half = sample(dataclasses.replace(CELL, slope=0.5))
    one = sample(dataclasses.replace(CELL, slope=1.0))
    negative = sample(dataclasses.replace(CELL, slope=-0.5))
    plain = sample()
    assert half.collisions == plain.collisions  # signs do not depend on the slope
    assert half.deficit_sum != plain.deficit_sum
    assert negative.collisions == plain.collisions
    assert one.collisions == one.head_causes[0, CAUSES.index("linear")] == one.num_inits
    unbiased = Cell("tutorial", LayerConfig(initializer="tutorial", use_bias=False))
    gained = sample(dataclasses.replace(unbiased, gain=30.0))
    assert gained.collisions == sample(unbiased).collisions
    assert gained.deficit_sum > 1.5 * sample(unbiased).deficit_sum


def test_balanced_initialisation_is_uniform_attention():
    found = sample(Cell("tutorial", LayerConfig(initializer="balanced")))
    assert found.collisions == found.uniform_attention == found.equal_outputs == found.num_inits
    assert found.head_causes[0, CAUSES.index("equal_query")] == found.num_inits


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_inits": 0}, "num_inits: expected at least 1, got 0"),
        ({"pairs": twins.TwinPairs(*(x[:0] for x in PAIRS))}, "pairs: expected at least one"),
        (
            {"cell": Cell("any", LayerConfig(initializer="gaussian", channels=3))},
            "channels: expected 2, one per feature",
        ),
    ],
)
def test_sample_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        sample(**options)
