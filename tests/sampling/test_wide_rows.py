"""Supports as an axis against supports that are spelled out, and sums of very many numbers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from row_params import QUICKLY, draw_params

from gat_jax import graphs
from gat_jax.graphs import twins
from gat_jax.layers import LayerConfig
from gat_jax.sampling import Cell, Tile, prepare_cell, wide_rows
from gat_jax.sampling.pair_facts import measure_pairs
from gat_jax.sampling.sampler import run_tile
from gat_jax.sampling.twin_layout import make_twin_layout
from gat_jax.sampling.twin_rows import _average
from gat_jax.sampling.wide_rows import AllPlaces, block_sum, max_spelled_degree, wide_groups


def twins_of_degrees(*degrees: int):
    """Two twins of each degree, with neighbours of which some are shared, and one edge is twice."""
    rng = np.random.default_rng(0)
    num_senders = max(degrees)
    edges = [(s, num_senders + k) for k, d in enumerate(np.repeat(degrees, 2)) for s in range(d)]
    edges += [(0, num_senders + k) for k in range(2)]
    nodes = rng.normal(size=(num_senders + 2 * len(degrees), 3)).astype(np.float32)
    senders, receivers = np.array(edges).T
    return graphs.from_edges(senders, receivers, nodes=nodes)


@pytest.fixture
def always_wide(monkeypatch):
    monkeypatch.setattr(wide_rows, "MAX_SPELLED_BYTES", 0)
    monkeypatch.setattr(wide_rows, "MAX_BLOCK_SIZE", 1)  # one row at a time
    return monkeypatch


@pytest.mark.few(3)
@pytest.mark.parametrize(
    ("options", "slope"),
    [
        ({"heads": 2, "use_residual": True, "concat": False}, 0.2),
        ({"heads": 2}, -0.5),
        ({"layer": "gatv2", "channels": 3}, 0.2),
        ({"layer": "gcn", "gcn_normalization": "symmetric", "use_residual": True}, 0.2),
        ({"layer": "gcn"}, 0.2),
    ],
)
def test_wide_rows_are_the_rows_that_are_spelled_out(always_wide, options, slope):
    graph = twins_of_degrees(3, 5, 7, 7, 9, 20)
    layout, ids = make_twin_layout(graph, twins.twin_classes(graph))
    config = LayerConfig(initializer="tutorial", **options)
    params, _ = draw_params(config, 3)
    nodes = jnp.asarray(graph.nodes)[ids][..., None]

    def measure():
        function = functools.partial(
            measure_pairs, layout=layout, config=config, slope=slope, is_monotone=slope >= 0
        )
        return jax.jit(function, compiler_options=QUICKLY)(params, nodes)

    assert max_spelled_degree(layout, config, only_signs=False) == 0
    wide = measure()
    always_wide.setattr(wide_rows, "MAX_SPELLED_BYTES", 2**40)
    assert max_spelled_degree(layout, config, only_signs=False) == 20
    spelled = measure()
    # Logits within rounding of 0, and gaps within rounding of 4 ulp, may fall to either side.
    assert np.mean(np.asarray(wide.causes != spelled.causes)) < 0.01
    np.testing.assert_array_equal(wide.in_regime, spelled.in_regime)
    np.testing.assert_allclose(wide.gap, spelled.gap, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(wide.deficit, spelled.deficit, atol=5e-6)


def test_groups_hold_every_receiver_in_its_order_with_its_own_support():
    graph = twins_of_degrees(2, 3, 5, 6, 7, 8, 9, 30, 33)
    layout, _ = make_twin_layout(graph, twins.twin_classes(graph))
    groups = wide_groups(layout, 3)
    is_wide = layout.degrees > 3
    np.testing.assert_array_equal(
        np.concatenate([group.receivers for group in groups]), layout.receivers[is_wide]
    )
    assert [group.senders.shape[1] for group in groups] == [8, 9, 30, 33]
    wide = iter(np.flatnonzero(is_wide))
    for group in groups:
        for number in group.classes:
            receiver, degree = next(wide), group.degrees[number]
            senders = group.senders[number]
            np.testing.assert_array_equal(senders[:degree], layout.support(receiver))
            assert np.all(senders[degree:] == senders[0])
            np.testing.assert_allclose(
                group.gcn_weights[number, :degree], layout.gcn_weights_of(receiver), rtol=1e-6
            )


def test_degrees_are_spelled_out_while_their_programs_are_small():
    def largest(*degrees, **options):
        graph = twins_of_degrees(*degrees)
        layout, _ = make_twin_layout(graph, twins.twin_classes(graph))
        config = LayerConfig(**{"channels": 2} | options)
        return max_spelled_degree(layout, config, only_signs=False)

    assert largest(2, 13, 40) == 40  # as in the graphs that come with the package
    assert largest(2, 13, 60) == 13
    assert largest(2, 13, 40, layer="gatv2", channels=8) == 13
    assert largest(*range(2, 60)) < 40  # together they count


@pytest.mark.parametrize("number", [1, 31, 32, 33, 1000, 1_000_000])
def test_sums_of_very_many_numbers_keep_their_digits(number):
    values = np.random.default_rng(0).random((number, 1)).astype(np.float32)
    found = float(jax.jit(block_sum)(values)[0, 0])
    assert found == pytest.approx(values.astype(np.float64).sum(), rel=1e-6)
    same = float(jax.jit(block_sum)(np.full((number, 1), 0.1, np.float32))[0, 0])
    assert same == pytest.approx(number * float(np.float32(0.1)), rel=2e-6)


@pytest.mark.parametrize("spread", [1.0, 1e-3])
def test_a_softmax_over_a_hundred_thousand_senders_is_accurate(spread):
    """Its average and its entropy, near uniform attention too, against float64."""
    rng = np.random.default_rng(0)
    degree, width = 100_000, 131_072
    shifted, z = rng.normal(size=(2, width, 1, 2)).astype(np.float32)
    shifted = np.minimum(np.float32(spread) * (shifted - 4.0), 0.0)
    is_place = jnp.arange(width)[:, None, None] < degree
    places = AllPlaces(is_place, jnp.full((1, 1, 1), degree, jnp.float32))
    outputs, deficit = jax.jit(lambda s, z: _average(places, [s], [[z]]))(shifted, z)
    weights = np.exp(shifted[:degree].astype(np.float64))
    weights /= weights.sum(axis=0)
    exact = 1.0 + np.sum(weights * np.log(weights), axis=0) / np.log(degree)
    np.testing.assert_allclose(outputs[0][0], np.sum(weights * z[:degree], axis=0), atol=1e-6)
    np.testing.assert_allclose(deficit[0], exact, rtol=1e-3, atol=2e-7)


def test_programs_do_not_grow_with_the_degree():
    def lines(degree: int) -> int:
        graph = twins_of_degrees(degree)
        cell = Cell("hubs", LayerConfig())
        prepared = prepare_cell(cell, graph, twins.twin_classes(graph), seed=0)
        tile = Tile(jnp.uint32(0), jnp.int32(1))
        function = functools.partial(run_tile, prepared.shape)
        return len(jax.jit(function).lower(prepared.inputs, tile).as_text().splitlines())

    few, many = lines(1100), lines(30_000)  # sums have passes by the number of digits
    assert many < 1.25 * few
    assert max(few, many) < lines(40)
