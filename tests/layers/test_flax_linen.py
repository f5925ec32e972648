"""Linen modules hold parameters and draw keys; all else is the pure functions."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import messy_graph

from gat_jax.graphs import tutorial_graph
from gat_jax.kernels import make_layout
from gat_jax.layers import (
    GATParams,
    GATv2Params,
    GCNParams,
    LayerConfig,
    LayerSettings,
    apply_layer,
    apply_network,
    flax_linen,
    gat_configs,
    init_layer,
    init_network,
)

CONFIGS = gat_configs(3, heads=2, channels=4, initializer="tutorial")
WITH_EDGES = LayerConfig(heads=2, concat=False, num_edge_features=1, use_output_bias=True)


@pytest.mark.few(2)
@pytest.mark.parametrize(
    ("module", "kind", "config"),
    [
        (flax_linen.GraphLayer(WITH_EDGES), GATParams, WITH_EDGES),
        (flax_linen.GAT(WITH_EDGES), GATParams, WITH_EDGES),
        (flax_linen.GATv2(WITH_EDGES), GATv2Params, WITH_EDGES),
        (flax_linen.GCN(LayerConfig()), GCNParams, LayerConfig(layer="gcn")),
        (
            flax_linen.GCN(LayerConfig(gcn_normalization="symmetric")),
            GCNParams,
            LayerConfig(layer="gcn", gcn_normalization="symmetric"),
        ),
    ],
)
def test_layers_call_the_pure_ones(module, kind, config):
    graph = messy_graph(1, num_edge_features=config.num_edge_features)
    mask = np.arange(16) != 5
    variables = module.init(jax.random.key(3), graph)
    params = variables["params"]["layer"]
    assert type(params) is kind
    config = module.config
    chex.assert_trees_all_equal_shapes(params, init_layer(jax.random.key(0), config, 3))
    expected = apply_layer(params, graph, config=config, edge_mask=mask)
    chex.assert_trees_all_equal(module.apply(variables, graph, edge_mask=mask), expected)


def test_the_class_decides_the_layer_of_a_config():
    assert flax_linen.GATv2(LayerConfig(layer="gcn")).config == LayerConfig(layer="gatv2")
    with pytest.raises(ValueError, match="layer: expected one head and no edge features for gcn"):
        flax_linen.GCN(LayerConfig(heads=2))


def test_network_calls_the_pure_one():
    graph = messy_graph(1)
    module = flax_linen.GraphNetwork(CONFIGS, LayerSettings(slope=0.1))
    params = init_network(jax.random.key(3), CONFIGS, 3)
    variables = module.init(jax.random.key(0), graph)
    chex.assert_trees_all_equal_shapes(variables["params"]["layers"], params)
    settings = LayerSettings(slope=0.1)
    expected = apply_network(params, graph, CONFIGS, settings=settings)
    chex.assert_trees_all_equal(module.apply({"params": {"layers": params}}, graph), expected)


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["segment", "bucketed"])
def test_network_maps_over_initialisations(layout):
    graph = tutorial_graph()
    prepared = make_layout(graph, layout)
    module = flax_linen.GraphNetwork(CONFIGS)
    keys = jax.random.split(jax.random.key(0), 3)

    @jax.jit
    def outputs(key):
        return module.apply(module.init(key, graph), graph, layout=prepared)[0]

    many = jax.jit(jax.vmap(outputs))(keys)
    np.testing.assert_allclose(many, np.stack([outputs(key) for key in keys]), rtol=1e-5)
    assert float(jnp.abs(many[0] - many[1]).max()) > 0.1


@pytest.mark.parametrize(
    ("module", "params_of"),
    [
        (flax_linen.GraphNetwork, lambda p: p["layers"][0]),
        (flax_linen.GAT, lambda p: p["layer"]),
    ],
)
def test_dropout_is_drawn_from_its_stream(module, params_of):
    graph = messy_graph(2)
    settings = LayerSettings(feature_dropout=0.5, attention_dropout=0.5)
    module = module(CONFIGS if module is flax_linen.GraphNetwork else CONFIGS[0], settings)
    variables = module.init(jax.random.key(0), graph)
    assert type(params_of(variables["params"])) is GATParams

    def train(seed):
        rngs = {"dropout": jax.random.key(seed)}
        return np.asarray(module.apply(variables, graph, is_training=True, rngs=rngs)[0])

    assert np.array_equal(train(1), train(1))
    assert not np.array_equal(train(1), train(2))
    assert not np.array_equal(train(1), np.asarray(module.apply(variables, graph)[0]))
