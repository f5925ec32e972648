"""The kernel of a tile, interpreted, against XLA's programs; and that it lowers for CUDA."""

import dataclasses
import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import cuda_export

from gat_jax import graphs, sampling
from gat_jax.graphs import twins
from gat_jax.layers import LayerConfig
from gat_jax.runtime.devices import default_devices
from gat_jax.sampling import Cell, Tile, fused_tile, prepare_cell, sampler
from gat_jax.studies import tutorial_init

GRAPH, PAIRS = tutorial_init.tutorial_twins()
# Three twins that hear 5 and 6, and two that hear 5 and 0.
ENDS = np.array([(5, 0), (6, 0), (5, 1), (6, 1), (5, 2), (6, 2), (5, 3), (0, 3), (5, 4), (0, 4)])
TWO_CLASSES = graphs.from_edges(
    *ENDS.T, nodes=np.random.default_rng(0).normal(size=(7, 2)).astype(np.float32)
)
CASES = {
    "gat": Cell("g", LayerConfig(initializer="tutorial")),
    "heads": Cell("g", LayerConfig(heads=2, initializer="dgl")),
    "gatv2": Cell("g", LayerConfig(layer="gatv2", heads=2, initializer="pyg")),
    "gcn": Cell("g", LayerConfig(layer="gcn")),
    "averaged": Cell("g", LayerConfig(concat=False), slope=1.0),
    "drawn features": Cell("g", LayerConfig(initializer="glorot_normal"), "uniform01", slope=-0.3),
    "W = I": Cell("g", LayerConfig(initializer="gaussian"), "normal"),
}


def prepared(name, *, batch_size=256, **options):
    source = TWO_CLASSES if name == "gat" else GRAPH
    classes = twins.twin_classes(source)
    cell = prepare_cell(CASES[name], source, classes, seed=3, **options)
    assert fused_tile.is_fusable(cell.shape)
    return cell._replace(shape=dataclasses.replace(cell.shape, batch_size=batch_size))


def tallies(cell, tile):
    """The kernel's tally of a tile, and that of XLA's programs."""
    kernel = functools.partial(fused_tile.run_tile, interpret=True)
    return [
        jax.jit(run, static_argnums=0)(cell.shape, cell.inputs, tile)[0]
        for run in (kernel, sampler.run_tile)
    ]


def near(found, expected, share=2e-3):
    """Whether two histograms are equal but for a few that lie within rounding of a border."""
    found, expected = (np.asarray(x, np.int64) for x in (found, expected))
    assert np.sum(found) == np.sum(expected) or found.ndim == 0
    return np.sum(np.abs(found - expected)) <= 2 + share * np.sum(expected)


@pytest.mark.few(1)
@pytest.mark.parametrize(
    "name", ["gat", "heads", "gatv2", "drawn features", "W = I", "gcn", "averaged"]
)
def test_counts_are_those_of_xla(name):
    cell, num_inits = prepared(name), 6 * 256 + 100  # not all of the last batches count
    found, expected = tallies(cell, Tile(np.uint32(5), np.int32(num_inits)))
    for field in (
        "joint_causes",
        "regime_collisions",
        "head_causes",
        "all_pairs_collided",
        "class_collisions",
        "uniform_attention",
        "entropy_histogram",
    ):
        assert near(getattr(found, field), getattr(expected, field)), field
    for field in ("squared_shares", "deficit_sum", "deficit_squares"):
        one, other = getattr(found, field), getattr(expected, field)
        np.testing.assert_allclose(one, other, rtol=1e-3, err_msg=field)
    num_heads = len(found.head_causes)
    assert np.sum(found.head_causes) == len(cell.shape.layout.pairs) * num_heads * num_inits
    # Rounding to 4 decimals parts one pair in a hundred that rounding in float32 moved.
    assert near(found.matching_outputs, expected.matching_outputs, share=0.05)
    check_gaps(found, expected)


def check_gaps(found, expected):
    """Hold the gaps of two tallies against each other, and each against its own histogram.

    Gaps below 1e-5 are rounding altogether: 0 in one program is as good as 1e-7 in another.
    """
    (low, high), num_below = sampling.GAP_RANGE, 2  # gaps of 0, and those below the range
    step = (high - low) / sampling.GAP_STEPS
    num_rounded = num_below + round((-5.0 - low) / step)
    assert near(found.gap_histogram[num_rounded:], expected.gap_histogram[num_rounded:])
    edges = np.append(-12.0, np.linspace(low, high, sampling.GAP_STEPS + 1))
    ends = np.sort(np.square([edges[:-1], edges[1:]]), axis=0)
    for tally in (found, expected):
        histogram = np.asarray(tally.gap_histogram)
        assert np.sum(histogram) == np.sum(tally.joint_causes)
        assert histogram[0] == tally.equal_outputs
        assert histogram[-1] == 0  # none above the range
        in_range, slack = histogram[1:-1], 1e-3 * np.sum(histogram)
        lowest, highest = in_range @ edges[:-1], in_range @ edges[1:]
        assert lowest - slack <= tally.log_gap_sum <= highest + slack
        lowest, highest = ends @ in_range
        assert lowest - 9 * slack <= tally.log_gap_squares <= highest + 9 * slack


@pytest.mark.few(1)
@pytest.mark.parametrize("name", ["gat", "gatv2"])
def test_signs_alone_are_those_of_xla(name):
    cell = prepared(name, only_signs=True)
    found, expected = tallies(cell, Tile(np.uint32(0), np.int32(8 * 256)))
    assert np.sum(found.joint_causes) > 0
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_bytes_are_emptied_before_they_overflow():
    # With `balanced` all attention is uniform: each step of a lane counts both rows in one bin.
    cell = prepare_cell(Cell("g", LayerConfig(initializer="balanced")), GRAPH, PAIRS, seed=0)
    size = 128 * 256
    cell = cell._replace(shape=dataclasses.replace(cell.shape, batch_size=size))
    found, _ = tallies(cell, Tile(np.uint32(0), np.int32(size)))
    assert found.entropy_histogram[-1] == 2 * size
    assert found.joint_causes.sum() == found.joint_causes.max() == size
    assert found.squared_shares == size


@pytest.mark.parametrize("name", ["gat", "gatv2", "W = I"])
def test_the_kernel_lowers_for_cuda(name):
    cell = prepared(name)
    leaves, structure = jax.tree.flatten(cell.inputs)

    def tally(first_batches, *leaves):
        inputs = jax.tree.unflatten(structure, leaves)

        def one(first_batch):
            return fused_tile.run_tile(cell.shape, inputs, Tile(first_batch, jnp.int32(100)))[0]

        return jax.vmap(one)(first_batches)

    text = cuda_export(tally, jnp.arange(4, dtype=jnp.uint32), *leaves)
    assert text.count("sample_tile") >= 1
    assert "stablehlo.scatter" not in text
    assert "stablehlo.while" not in text  # nothing is interpreted


def test_what_has_a_kernel():
    def shape_of(layer, **options):
        return prepare_cell(Cell("g", layer), GRAPH, PAIRS, seed=0, **options).shape

    assert fused_tile.is_fusable(shape_of(LayerConfig(heads=8)))
    assert fused_tile.is_fusable(shape_of(LayerConfig(heads=1, concat=False)))
    assert not fused_tile.is_fusable(shape_of(LayerConfig(heads=2, concat=False)))
    assert not fused_tile.is_fusable(shape_of(LayerConfig(use_residual=True)))
    assert not fused_tile.is_fusable(shape_of(LayerConfig(), keep_values=True))
    assert not fused_tile.is_fusable(shape_of(LayerConfig(heads=100)))  # takes minutes to compile
    karate = graphs.karate_club()
    cell = prepare_cell(Cell("k", LayerConfig()), karate, twins.twin_classes(karate), seed=0)
    assert not fused_tile.is_fusable(cell.shape)


def test_everything_is_counted():
    """A new field of a tally would stay 0 on GPUs."""
    for only_signs in (False, True):
        cell = prepared("gat", only_signs=only_signs)
        plan = fused_tile._Plan.of(cell.shape)
        tile = Tile(np.uint32(0), np.int32(2048))
        run = jax.jit(sampler.run_tile, static_argnums=0)
        tally = run(cell.shape, cell.inputs, tile)[0]
        counted = {
            name
            for name, x in tally._asdict().items()
            if x is not None and (np.any(x) or not only_signs)
        }
        assert {*plan.counts, *plan.sums} >= counted


def test_gpus_of_nvidia_run_it():
    cell = prepared("gat")
    assert cell.work_on(default_devices()).function is sampler.run_tile
    for version, capability, function in (
        ("cuda 13000", "9.0", fused_tile.run_tile),
        ("cuda 13000", "8.0", fused_tile.run_tile),
        ("cuda 12090", "7.5", sampler.run_tile),  # a T4, for which Triton has no programs
        ("rocm 7", "gfx942", sampler.run_tile),
    ):
        client = types.SimpleNamespace(platform_version=version)
        gpu = types.SimpleNamespace(platform="gpu", client=client, compute_capability=capability)
        assert cell.work_on((gpu,)).function is function
