import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from flax.nnx import bridge
from helpers import fields, messy_graph, oracle_layer

from gat_jax import graphs
from gat_jax.layers import gat_layer as layers
from gat_jax.layers import networks as models

CONFIGS = models.gat_configs(3, heads=2, channels=4, initializer="tutorial")


def test_gat_configs_concatenates_and_averages():
    hidden, last = models.gat_configs(7, heads=8, channels=5)
    assert (hidden.num_outputs, hidden.concat) == (40, True)
    assert (last.num_outputs, last.concat, last.heads) == (7, False, 8)
    with pytest.raises(ValueError, match="num_layers: expected at least 1, got 0"):
        models.gat_configs(7, num_layers=0)


def test_apply_network_is_the_oracle_layer_after_layer(x64):
    graph = messy_graph(0)
    params = models.init_network(jax.random.key(0), CONFIGS, 3)
    params = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), params)
    out, infos = models.apply_network(params, graph, CONFIGS)
    x = graph.nodes
    for layer, config, info in zip(params, CONFIGS, infos, strict=True):
        expected = oracle_layer(
            type(layer), fields(layer), graph._replace(nodes=x), concat=config.concat
        )
        np.testing.assert_allclose(info.attention, expected["attention"], atol=1e-12)
        x = np.where(expected["nodes"] > 0, expected["nodes"], np.expm1(expected["nodes"]))
    np.testing.assert_allclose(out, expected["nodes"], atol=1e-12)


def test_flax_module_calls_the_pure_network():
    graph = messy_graph(1)
    module = models.GraphNetwork(CONFIGS)
    variables = module.init(jax.random.key(3), graph)
    out, infos = module.apply(variables, graph)
    pure, pure_infos = models.apply_network(variables["params"]["layers"], graph, CONFIGS)
    np.testing.assert_array_equal(out, pure)
    assert len(infos) == 2
    chex.assert_trees_all_equal(infos, pure_infos)


def test_flax_module_maps_over_initialisations():
    graph = graphs.tutorial_graph()
    module = models.GraphNetwork(CONFIGS)
    keys = jax.random.split(jax.random.key(0), 3)

    @jax.jit
    def outputs(key):
        return module.apply(module.init(key, graph), graph)[0]

    many = jax.jit(jax.vmap(outputs))(keys)
    np.testing.assert_allclose(many, np.stack([outputs(key) for key in keys]), rtol=1e-5)


def test_flax_module_draws_dropout_from_its_stream():
    graph = messy_graph(2)
    settings = layers.LayerSettings(feature_dropout=0.5, attention_dropout=0.5)
    module = models.GraphNetwork(CONFIGS, settings)
    variables = module.init(jax.random.key(0), graph)

    def train(seed):
        rngs = {"dropout": jax.random.key(seed)}
        return np.asarray(module.apply(variables, graph, is_training=True, rngs=rngs)[0])

    assert np.array_equal(train(1), train(1))
    assert not np.array_equal(train(1), train(2))
    assert not np.array_equal(train(1), np.asarray(module.apply(variables, graph)[0]))


def test_flax_module_works_from_nnx():
    graph = graphs.tutorial_graph()
    module = bridge.ToNNX(models.GraphNetwork(CONFIGS), rngs=nnx.Rngs(0))
    bridge.lazy_init(module, graph)
    out, _ = module(graph)
    grads = nnx.grad(lambda m: m(graph)[0].sum())(module)
    leaves = jax.tree.leaves(grads)
    assert out.shape == (4, 3)
    assert len(leaves) == 8  # kernel, bias and two halves of a, in two layers
    assert all(np.isfinite(leaf).all() for leaf in leaves)
    assert max(float(jnp.abs(leaf).max()) for leaf in leaves) > 0
