"""What the layers of our own networks saw, compared with the oracle layer by layer."""

import jax
import numpy as np
import pytest
from helpers import assert_close, messy_graph
from observations import assert_as_the_oracle

from gat_jax import graphs
from gat_jax.diagnosis.models.networks import observe_network
from gat_jax.layers import (
    LayerConfig,
    LayerSettings,
    PlainConfig,
    apply_network,
    blocks_config,
    gat_configs,
    init_network,
)

SETTINGS = LayerSettings(slope=0.1, feature_dropout=0.5, attention_dropout=0.5)


@pytest.mark.parametrize("kind", ["tuple", "norms", "blocks"])
def test_observe_network_returns_what_each_layer_saw(kind):
    graph = messy_graph(1)
    options = {"heads": 2, "initializer": "tutorial"}
    config = {
        "tuple": gat_configs(3, channels=4, **options),
        "norms": PlainConfig(gat_configs(3, channels=4, **options), norm="layer"),
        "blocks": blocks_config(3, width=6, depth=2, **options),
    }[kind]
    params = init_network(jax.random.key(0), config, 3)
    model = observe_network(params, config, graph, settings=SETTINGS)
    expected, _ = apply_network(params, graph, config, settings=SETTINGS)
    assert_close(model.outputs, expected, 1e-6)
    assert model.notes == ()
    name = "blocks.{}.attention" if kind == "blocks" else "layers.{}"
    assert [call.layer.name for call in model.layers] == [name.format(0), name.format(1)]
    for call in model.layers:
        assert_as_the_oracle(call)
        assert call.layer.system == "gat_jax GAT"
    if kind != "blocks":
        np.testing.assert_array_equal(model.layers[0].graph.nodes, graph.nodes)


def test_observe_network_leaves_padding_out_and_keeps_weights():
    graph = messy_graph(2)
    config = (LayerConfig(layer="gcn", channels=2), LayerConfig(channels=3))
    params = init_network(jax.random.key(1), config, 3)
    weight = np.linspace(0.5, 1.5, len(graph.senders)).astype(np.float32)
    model = observe_network(params, config, graph, edge_weight=weight)
    padded = graphs.pad(graph, num_nodes=11, num_edges=20)
    weights = np.concatenate([weight, np.full(4, 7, np.float32)])
    of_padded = observe_network(params, config, padded, edge_weight=weights)
    for one, other in zip(model.layers, of_padded.layers, strict=True):
        np.testing.assert_array_equal(one.outputs, other.outputs)
        np.testing.assert_array_equal(other.edge_weight, weight)
        assert (*other.graph.n_node, *other.graph.n_edge) == (8, 16)
    assert len(of_padded.graph.nodes) == 8


def test_a_graph_that_fits_nothing_is_refused():
    graph = messy_graph(10)
    config = gat_configs(3, heads=1, channels=2)
    params = init_network(jax.random.key(0), config, 4)
    with pytest.raises(ValueError, match=r"kernel: expected shape \(3, 1, 2\), got \(4, 1, 2\)"):
        observe_network(params, config, graph)
    with pytest.raises(ValueError, match=r"nodes: expected .*finite"):
        observe_network(params, config, graph._replace(nodes=np.full((8, 4), np.nan, np.float32)))
