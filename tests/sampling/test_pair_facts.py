"""The rows of twins against the layers: two implementations with the same words for a cause."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from row_params import NUM_INITS, QUICKLY, draw_params

from gat_jax import graphs, layers, symmetry
from gat_jax.graphs import twins
from gat_jax.layers import LayerConfig, LayerSettings
from gat_jax.sampling.pair_facts import measure_pairs
from gat_jax.sampling.twin_layout import make_twin_layout
from gat_jax.studies import tutorial_init
from gat_jax.symmetry import CAUSES, metrics


def twins_of(graph):
    return graph, twins.twin_pairs(twins.twin_classes(graph))


TUTORIAL = tutorial_init.tutorial_twins()
RANDOM = twins_of(graphs.random_graph(3, num_nodes=24, num_edges=60, num_features=3, num_twins=10))


def measure(params, nodes, layout, config, **options):
    def function(params, nodes):
        return measure_pairs(params, nodes, layout, config, **options)

    return jax.jit(function, compiler_options=QUICKLY)(params, nodes)


def facts_of_layers(batch, graph, pairs, config, slope):
    """Return causes [P, H, T], merged outputs' gap [P, T], entropy deficit [N, H, T]."""

    def one(params):
        out, info = layers.apply_layer(
            params,
            graph,
            config=config,
            settings=LayerSettings(slope=slope),
        )
        causes = symmetry.pair_causes(info, graph, pairs, slope=slope)
        deficit = metrics.normalised_entropy_deficit(info.attention, graph.receivers, len(out))
        gap = metrics.twin_gap(out, pairs.first, pairs.second)
        return symmetry.primary_cause(causes), gap, deficit, out

    causes, gap, deficit, out = jax.jit(jax.vmap(one), compiler_options=QUICKLY)(batch)
    return np.moveaxis(causes, 0, -1), np.moveaxis(gap, 0, -1), np.moveaxis(deficit, 0, -1), out


@pytest.mark.few(3)
@pytest.mark.parametrize("graph", ["tutorial", pytest.param("random", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("options", "slope"),
    [
        ({}, 0.2),
        ({"heads": 3, "channels": 4}, 0.2),
        ({"heads": 3, "concat": False, "use_residual": True}, 0.2),
        ({"heads": 2, "use_residual": True, "use_output_bias": True}, 0.0),
        ({"use_bias": False}, -0.5),
        ({"heads": 2}, 1.0),
        ({"layer": "gatv2", "heads": 2, "channels": 2}, 0.2),
        ({"layer": "gatv2", "channels": 3, "share_weights": True}, 0.2),
        ({"layer": "gcn", "use_residual": True}, 0.2),
        ({"layer": "gcn", "gcn_normalization": "symmetric"}, 0.2),
    ],
)
def test_measure_pairs_finds_what_the_layers_find(graph, options, slope):
    source, pairs = TUTORIAL if graph == "tutorial" else RANDOM
    config = LayerConfig(initializer="tutorial", **options)
    layout, ids = make_twin_layout(source, pairs)
    assert layout.is_unrolled(source.nodes.shape[1], config.channels) == (graph == "tutorial")
    params, batch = draw_params(config, source.nodes.shape[1])
    found = measure(
        params,
        jnp.asarray(source.nodes)[ids][..., None],
        layout,
        config,
        slope=slope,
        is_monotone=slope >= 0,
    )
    causes, gap, deficit, out = facts_of_layers(batch, source, pairs, config, slope)
    # Logits within rounding of 0 may fall to either side, and gaps to either side of 4 ulp.
    assert np.mean(np.asarray(found.causes) != causes) < 0.01
    if slope != 1 and config.layer == "gat":
        assert len(np.unique(causes)) >= 3
    scale = np.abs(out).max()
    np.testing.assert_allclose(np.asarray(found.gap).max(axis=1), gap, atol=2e-5 * scale, rtol=1e-4)
    twin_ids = ids[layout.receivers]
    if config.layer != "gcn":
        np.testing.assert_allclose(found.deficit, deficit[twin_ids], atol=2e-5)
    is_regime = np.isin(causes, [CAUSES.index("positive"), CAUSES.index("negative")])
    assert np.all(np.asarray(found.in_regime)[is_regime & (np.asarray(found.causes) == causes)])
    first, second = out[:, pairs.first], out[:, pairs.second]
    rounds_equal = np.all(np.round(first * 1e4) == np.round(second * 1e4), axis=-1).T
    assert np.mean(np.all(found.is_matching, axis=1) != rounds_equal) < 0.05


@pytest.mark.few(1)
@pytest.mark.parametrize("graph", [TUTORIAL, RANDOM], ids=["tutorial", "random"])
def test_only_signs_decides_the_same_pairs(graph):
    config = LayerConfig(heads=2, initializer="tutorial")
    layout, ids = make_twin_layout(*graph)
    params, _ = draw_params(config, graph[0].nodes.shape[1])
    nodes = jnp.asarray(graph[0].nodes)[ids][..., None]
    whole, signs = (
        measure(params, nodes, layout, config, slope=0.2, only_signs=only_signs)
        for only_signs in (False, True)
    )
    rounding = CAUSES.index("rounding")
    np.testing.assert_array_equal(
        np.minimum(whole.causes, rounding), np.minimum(signs.causes, rounding)
    )
    assert not np.any(signs.causes == rounding)
    assert signs.gap is None
    assert signs.deficit is None


def test_collided_twins_of_gat_are_bit_equal():
    config = LayerConfig(heads=2, initializer="tutorial")
    for source, pairs in (TUTORIAL, RANDOM):
        layout, ids = make_twin_layout(source, pairs)
        params, _ = draw_params(config, source.nodes.shape[1], seed=1)
        nodes = jnp.asarray(source.nodes)[ids][..., None]
        found = measure(params, nodes, layout, config, slope=0.2)
        is_regime = np.asarray(found.in_regime)
        assert is_regime.sum() > 20
        assert np.all(np.asarray(found.gap)[is_regime] == 0)


@pytest.mark.slow
def test_features_of_each_initialisation_are_used():
    config = LayerConfig(heads=2, initializer="tutorial")
    source, pairs = TUTORIAL
    layout, ids = make_twin_layout(source, pairs)
    params, batch = draw_params(config, 2)
    nodes = jax.random.normal(jax.random.key(3), (len(ids), 2, NUM_INITS))
    found = measure(params, nodes, layout, config, slope=0.2)
    for init in range(0, NUM_INITS, 16):
        features = np.zeros((4, 2), np.float32)
        features[ids] = nodes[..., init]
        one = jax.tree.map(lambda x, init=init: x[init : init + 1], batch)
        causes, gap, *_ = facts_of_layers(one, source._replace(nodes=features), pairs, config, 0.2)
        np.testing.assert_array_equal(found.causes[..., init], causes[..., 0])
        np.testing.assert_allclose(found.gap[..., init].max(axis=1), gap[:, 0], atol=1e-5)
