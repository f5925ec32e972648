"""What layers in modules of Flax saw: real inputs, real outputs, nothing of training."""

from typing import Any

import flax.linen as nn
import jax
import numpy as np
import pytest
from flax import nnx
from helpers import assert_close, messy_graph
from observations import assert_as_the_oracle

from gat_jax import graphs
from gat_jax.diagnosis.models.flax import observe_flax
from gat_jax.layers import (
    LayerConfig,
    LayerSettings,
    apply_network,
    flax_linen,
    flax_nnx,
    gat_configs,
    jraph_gat,
)

HIDDEN = LayerConfig(heads=2, channels=3, use_output_bias=True)
LAST = LayerConfig(layer="gatv2", heads=2, channels=2, concat=False, num_edge_features=1)
SETTINGS = LayerSettings(slope=0.1, feature_dropout=0.5, attention_dropout=0.5)


class Linen(nn.Module):
    """Everything that may stand between layers; one layer is called twice."""

    is_training: bool = False

    @nn.compact
    def __call__(self, graph, scale=1.0):
        shared = flax_linen.GAT(HIDDEN, SETTINGS, name="shared")
        x = nn.Dropout(0.5, deterministic=True)(nn.Dense(6)(graph.nodes))
        bare = graph._replace(edges=None)
        for _ in range(2):
            y, _ = shared(bare._replace(nodes=x), is_training=self.is_training)
            x = x + nn.LayerNorm()(nn.relu(y)) * scale
        outputs, _ = flax_linen.GATv2(LAST, SETTINGS)(graph._replace(nodes=x))
        return outputs


class NNX(nnx.Module):
    """The same kind of model in NNX, with statistics, random streams and a layer never called."""

    def __init__(self, rngs):
        self.dense = nnx.Linear(3, 6, rngs=rngs)
        self.norm = nnx.BatchNorm(6, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        options = {"settings": SETTINGS, "rngs": rngs}
        self.convs = nnx.List([flax_nnx.GAT(HIDDEN, 6, **options)])
        self.spare = flax_nnx.GAT(HIDDEN, 6, **options)
        self.last = flax_nnx.GATv2(LAST, 6, **options)

    def __call__(self, graph):
        x = self.dense(graph.nodes)
        bare = graph._replace(edges=None)
        for _ in range(2):
            x = self.norm(x + self.convs[0](bare._replace(nodes=self.dropout(x)))[0])
        return self.last(graph._replace(nodes=x))


def test_a_module_of_linen_is_read_in_place():
    graph = messy_graph(3, num_edge_features=1)
    variables = Linen().init(jax.random.key(0), graph)
    model = observe_flax(Linen(), variables, graph, scale=0.5)
    assert [x.layer.name for x in model.layers] == ["shared#1", "shared#2", "GATv2_0"]
    assert [x.layer.system for x in model.layers] == 2 * ["gat_jax GAT"] + ["gat_jax GATv2"]
    for call in model.layers:
        assert_as_the_oracle(call)
    assert [x.graph.edges is None for x in model.layers] == [True, True, False]
    assert np.abs(model.layers[0].graph.nodes - model.layers[1].graph.nodes).max() > 0.01
    expected = Linen().apply(variables, graph, scale=0.5)
    np.testing.assert_array_equal(model.outputs, expected)
    np.testing.assert_array_equal(model.outputs, model.layers[-1].outputs)


def test_a_module_of_nnx_is_read_in_evaluation_and_left_as_it_was():
    graph = messy_graph(4, num_edge_features=1)
    module = NNX(nnx.Rngs(0))
    before = jax.tree.leaves(nnx.state(module))
    calls = [cls.__call__ for cls in (flax_nnx.GraphLayer, flax_nnx.GraphNetwork)]
    model = observe_flax(module, None, graph)
    assert [x.layer.name for x in model.layers] == ["convs.0#1", "convs.0#2", "last"]
    for call in model.layers:
        assert_as_the_oracle(call)
    assert model.notes == (
        "'spare' was not read: the model does not call it, or inside of a transformation.",
    )
    after = jax.tree.leaves(nnx.state(module))
    for one, other in zip(before, after, strict=True):
        assert (one == other).all()  # keys of random streams too
    assert not module.last.deterministic
    assert not module.norm.use_running_average
    assert calls == [cls.__call__ for cls in (flax_nnx.GraphLayer, flax_nnx.GraphNetwork)]
    module.eval()
    np.testing.assert_array_equal(model.outputs, module(graph)[0])


@pytest.mark.parametrize("is_linen", [True, False])
def test_a_network_as_a_module_shows_all_of_its_layers(is_linen):
    graph = messy_graph(5)
    configs = gat_configs(3, heads=2, channels=4)
    mask = np.arange(16) != 5
    if is_linen:
        module, variables = flax_linen.GraphNetwork(configs), None
        variables = module.init(jax.random.key(0), graph)
        params: Any = variables["params"]["layers"]
    else:
        module, variables = flax_nnx.GraphNetwork(configs, 3, rngs=nnx.Rngs(0)), None
        params = nnx.as_pure(module.params)
    model = observe_flax(module, variables, graph, edge_mask=mask)
    assert [x.layer.name for x in model.layers] == ["layers.0", "layers.1"]
    assert [len(x.graph.senders) for x in model.layers] == [15, 15]
    for call in model.layers:
        assert_as_the_oracle(call)
    expected, _ = apply_network(params, graph, configs, edge_mask=mask)
    assert_close(model.outputs, expected, 1e-6)


def test_a_layer_alone_and_a_model_of_graphs_are_read_too():
    graph = messy_graph(6)
    layer = flax_linen.GAT(HIDDEN)
    variables = layer.init(jax.random.key(0), graph)
    (call,) = observe_flax(layer, variables, graph).layers
    assert call.layer.name == "GAT"
    assert_as_the_oracle(call)

    class OfGraphs(nn.Module):
        @nn.compact
        def __call__(self, graph):
            return graph._replace(nodes=flax_linen.GAT(HIDDEN)(graph)[0])

    padded = graphs.pad(graph, num_nodes=10, num_edges=18)
    variables = OfGraphs().init(jax.random.key(0), padded)
    model = observe_flax(OfGraphs(), variables, padded)
    np.testing.assert_array_equal(model.outputs, model.layers[0].outputs)


class Other(flax_linen.GAT):
    """A layer that computes something else with the same parameters."""

    @nn.compact
    def __call__(self, graph, **options):
        outputs, info = super().__call__(graph, **options)
        return 2 * outputs, info


class OtherNNX(flax_nnx.GAT):
    """Likewise."""

    def __call__(self, graph, **options):
        outputs, info = super().__call__(graph, **options)
        return 2 * outputs, info


def test_what_cannot_be_read_is_refused_in_one_line():
    graph = messy_graph(7)
    dense = nn.Dense(2)
    inner = nn.Sequential([lambda graph: graph.nodes, dense])
    variables = inner.init(jax.random.key(0), graph)
    with pytest.raises(ValueError, match=r"expected a call of a layer .* a model of Dense, Seq"):
        observe_flax(inner, variables, graph)
    query = jraph_gat.gat(lambda x: x[:, None], lambda s, r, e: (s + r).sum(-1, keepdims=True))
    with pytest.raises(
        ValueError, match=r"one of Flax .* got function; .*drop-in layers.jraph_gat"
    ):
        observe_flax(query, None, graph)
    training = Linen(is_training=True)
    graph_with_edges = messy_graph(7, num_edge_features=1)
    variables = Linen().init(jax.random.key(0), graph_with_edges)
    with pytest.raises(ValueError, match=r"shared: expected is_training=False, .*, got True"):
        observe_flax(training, variables, graph_with_edges)
    with pytest.raises(ValueError, match="variables: expected those of a Linen module, got None"):
        observe_flax(Linen(), None, graph_with_edges)
    with pytest.raises(ValueError, match="variables: expected None"):
        observe_flax(flax_nnx.GAT(HIDDEN, 3, rngs=nnx.Rngs(0)), variables, graph)
    jitted = nn.jit(flax_linen.GAT)(HIDDEN)
    of_jitted = jitted.init(jax.random.key(0), graph)
    with pytest.raises(ValueError, match="expected a call with numbers, got one inside of a trans"):
        observe_flax(jitted, of_jitted, graph)


@pytest.mark.parametrize("is_linen", [True, False])
def test_a_subclass_with_a_forward_of_its_own_is_refused(is_linen):
    graph = messy_graph(8)
    if is_linen:
        module = Other(HIDDEN)
        variables = module.init(jax.random.key(0), graph)
    else:
        module, variables = OtherNNX(HIDDEN, 3, rngs=nnx.Rngs(0)), None
    with pytest.raises(ValueError, match="expected the forward of GraphLayer, got one of its own"):
        observe_flax(module, variables, graph)


def test_methods_come_back_after_an_error():
    calls = [cls.__call__ for cls in (flax_nnx.GraphLayer, flax_nnx.GraphNetwork)]
    module = flax_nnx.GAT(HIDDEN, 5, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="expected"):
        observe_flax(module, None, messy_graph(9))
    assert calls == [cls.__call__ for cls in (flax_nnx.GraphLayer, flax_nnx.GraphNetwork)]
