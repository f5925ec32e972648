import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import fields, messy_graph, oracle_layer

from gat_jax.layers import gat_configs
from gat_jax.layers import networks as models

CONFIGS = gat_configs(3, heads=2, channels=4, initializer="tutorial")


def test_gat_configs_concatenates_and_averages():
    hidden, last = gat_configs(7, heads=8, channels=5)
    assert (hidden.num_outputs, hidden.concat) == (40, True)
    assert (last.num_outputs, last.concat, last.heads) == (7, False, 8)
    with pytest.raises(ValueError, match="num_layers: expected at least 1, got 0"):
        gat_configs(7, num_layers=0)


def test_apply_network_is_the_oracle_layer_after_layer(x64):
    graph = messy_graph(0)
    params = models.init_network(jax.random.key(0), CONFIGS, 3)
    params = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), params)
    out, infos = models.apply_network(params, graph, CONFIGS)
    x = graph.nodes
    for layer, config, info in zip(params, CONFIGS, infos, strict=True):
        expected = oracle_layer(type(layer), fields(layer), graph._replace(nodes=x), config=config)
        np.testing.assert_allclose(info.attention, expected["attention"], atol=1e-12)
        x = np.where(expected["nodes"] > 0, expected["nodes"], np.expm1(expected["nodes"]))
    np.testing.assert_allclose(out, expected["nodes"], atol=1e-12)
