"""Changed models: what is kept of their weights, and what PyG makes of them."""

from typing import Any

import numpy as np
import pytest
from helpers import assert_close, fields, messy_graph, oracle_layer, random_params

from gat_jax.diagnosis.models.from_weights import observe_weights
from gat_jax.diagnosis.models.observed import ImportedLayer, ObservedLayer, ObservedModel
from gat_jax.diagnosis.remedies import changes
from gat_jax.layers import LAYERS, LayerConfig

remedy: Any = changes.remedy  # parameters are of several kinds
GRAPH = messy_graph(0)
OPTIONS = {"use_bias": False, "use_output_bias": True, "initializer": "pyg"}
CONFIGS = (
    LayerConfig(layer="gat", heads=2, channels=2, **OPTIONS),
    LayerConfig(layer="gat", heads=1, channels=3, **OPTIONS),
)


def a_layer(config=CONFIGS[0], width=3, name="conv1", system="PyG GATConv"):
    params = random_params(1, config, width)
    return ImportedLayer(name, system, config, params, replaces_self_loops=True)


def a_model(layers=None, graph=GRAPH):
    """A model that has been observed; its numbers between the layers are not looked at."""
    layers = layers or [a_layer(), a_layer(CONFIGS[1], 4, "conv2")]
    inputs = [graph.nodes] + [np.ones((8, len(one.params[0])), np.float32) for one in layers[1:]]
    calls = [
        ObservedLayer(one, graph._replace(nodes=x)) for one, x in zip(layers, inputs, strict=True)
    ]
    return ObservedModel(graph, tuple(calls))


MODEL: Any = a_model()


def heads_of(layer, graph=GRAPH):
    kind, p = LAYERS[layer.config.layer].params, fields(layer.params)
    return oracle_layer(kind, p, graph, config=layer.config)["heads"]


def test_more_heads_keep_those_that_there_are():
    change = remedy("more_heads", MODEL)
    before, after = MODEL.layers[0].layer, change.layers[0]
    assert after.config.heads == 4
    assert_close(heads_of(after)[:, :2], heads_of(before), 1e-6)
    assert np.all(np.asarray(after.params.kernel)[:, 2:] != 0)
    first, then = (
        np.asarray(one.params.kernel) for one in (MODEL.layers[1].layer, change.layers[1])
    )
    np.testing.assert_array_equal(then[:4], first)
    assert then.shape == (8, 1, 3)
    assert np.all(then[4:] != 0)
    assert "conv1 returns 8 numbers for each node, 4 more" in change.notes[0]


def test_a_single_head_becomes_several_that_are_averaged():
    change = remedy("eight_heads", MODEL, layer="conv2")
    config = change.layers[1].config
    assert (config.heads, config.concat, config.num_outputs) == (8, False, 3)
    assert_close(
        heads_of(change.layers[1], MODEL.layers[1].graph)[:, :1],
        heads_of(MODEL.layers[1].layer, MODEL.layers[1].graph),
        1e-6,
    )
    np.testing.assert_array_equal(
        change.layers[1].params.output_bias, MODEL.layers[1].layer.params.output_bias
    )
    assert change.layers[0] is MODEL.layers[0].layer


def test_gatv2_keeps_the_values():
    change = remedy("gatv2", MODEL)
    assert change.layers[0].config.layer == "gatv2"
    before, after = MODEL.layers[0].layer.params, change.layers[0].params
    np.testing.assert_array_equal(after.kernel_send, before.kernel)
    np.testing.assert_array_equal(after.output_bias, before.output_bias)
    assert np.asarray(after.a).any()


def test_a_residual_path_is_small_and_goes_on_to_the_end():
    change = remedy("residual", MODEL)
    for before, after in zip(MODEL.layers, change.layers, strict=True):
        path = np.asarray(after.params.residual_kernel)
        rows, columns = path.shape
        # Glorot's bound, a tenth of it
        assert 0 < np.abs(path).max() <= 0.1 * np.sqrt(6 / (rows + columns))
        np.testing.assert_array_equal(after.params.kernel, before.layer.params.kernel)
    assert remedy("residual", MODEL, layer="conv2").layers[0] is MODEL.layers[0].layer


def test_standardised_features_get_a_fresh_layer():
    change = remedy("standardised_features", MODEL)
    nodes = np.asarray(change.graph.nodes, np.float64)
    np.testing.assert_allclose(nodes.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(nodes.std(0), 1, rtol=1e-6)
    assert np.abs(np.asarray(change.layers[0].params.kernel)).max() <= np.sqrt(6 / (3 + 4))
    assert change.layers[1] is MODEL.layers[1].layer
    assert remedy("standardised_features", MODEL, layer="conv2").graph is GRAPH


def test_the_other_self_loops_come_and_go():
    without = remedy("self_loops", MODEL)
    stays = GRAPH.senders != GRAPH.receivers
    assert len(without.graph.senders) == stays.sum()
    assert not np.any(without.graph.senders == without.graph.receivers)
    assert not any(layer.replaces_self_loops for layer in without.layers)
    plain = [one._replace(replaces_self_loops=False) for one in without.layers]
    again = remedy("self_loops", a_model(plain, without.graph))
    loops = again.graph.senders[again.graph.senders == again.graph.receivers]
    np.testing.assert_array_equal(loops, np.arange(8))


def test_new_loops_have_features_as_the_layer_says():
    config = LayerConfig(heads=1, channels=2, num_edge_features=2, **OPTIONS)
    graph = messy_graph(1, num_edge_features=2)
    stays = graph.senders != graph.receivers
    layer = a_layer(config)._replace(replaces_self_loops=False, loop_features=0.5)
    bare = graph._replace(
        senders=graph.senders[stays],
        receivers=graph.receivers[stays],
        edges=graph.edges[stays],
        n_edge=np.array([stays.sum()]),
    )
    looped = changes.change_graph("self_loops", bare, layer)
    np.testing.assert_array_equal(looped.edges[looped.senders == looped.receivers], 0.5)
    assert len(looped.edges) == stays.sum() + 8


def test_a_positional_feature_tells_all_nodes_apart():
    graph = GRAPH._replace(nodes=np.ones((8, 3), np.float32))
    change = remedy("positional_feature", a_model(graph=graph))
    assert change.graph.nodes.shape == (8, 3 + changes.NUM_POSITIONAL)
    assert len(np.unique(change.graph.nodes, axis=0)) == 8
    kernel = np.asarray(change.layers[0].params.kernel)
    np.testing.assert_array_equal(kernel[:3], MODEL.layers[0].layer.params.kernel)
    assert kernel.shape[0] == 3 + changes.NUM_POSITIONAL
    assert np.all(kernel[3:] != 0)


@pytest.mark.parametrize("name", changes.REMEDIES)
def test_changed_models_run(name):
    change = remedy(name, MODEL)
    outputs = np.asarray(observe_weights(change.layers, change.graph).outputs)
    assert outputs.shape == (8, 3)
    assert change.state_dict.keys() >= {"conv1.bias", "conv2.bias"}


def test_calls_of_one_layer_are_changed_alike():
    config = LayerConfig(heads=2, channels=2, **OPTIONS)
    calls = [a_layer(config, 4, f"conv#{k}") for k in (1, 2)]
    graph = GRAPH._replace(nodes=np.ones((8, 4), np.float32))
    change = remedy("gatv2", a_model(calls, graph))
    for name, value in fields(change.layers[0].params).items():
        np.testing.assert_array_equal(value, getattr(change.layers[1].params, name))
    assert set(change.state_dict) >= {"conv.att"}
    with pytest.raises(ValueError, match="layer: expected one that is called once"):
        remedy("more_heads", a_model(calls, graph))


def test_what_pyg_has_no_layer_for_is_said():
    config = LayerConfig(
        layer="gcn", channels=2, use_bias=False, gcn_normalization="symmetric", initializer="pyg"
    )
    model = a_model([a_layer(config, 3, "gcn", "PyG GCNConv")])
    assert remedy("gatv2", model).state_dict is not None
    change = remedy("residual", model)
    assert change.state_dict is None
    assert "GCNConv has none" in change.notes[0]
    assert remedy("residual", a_model([a_layer(system="DGL GATConv")])).state_dict is None


@pytest.mark.parametrize(
    ("match", "name", "layer"),
    [
        ("name: expected one of fresh, .*, got 'prayer'", "prayer", None),
        ("layer: expected one of conv1, conv2, got 'conv3'", "gatv2", "conv3"),
        ("name: expected one of .* for conv1", "gatv2", "conv1"),
    ],
)
def test_what_cannot_be_changed_is_refused(match, name, layer):
    model = MODEL
    if layer == "conv1":
        model = a_model([a_layer(LayerConfig(layer="gatv2", heads=2, **OPTIONS))])
    with pytest.raises(ValueError, match=match):
        remedy(name, model, layer=layer)


@pytest.mark.torch
@pytest.mark.parametrize("name", ["eight_heads", "residual", "gatv2"])
def test_pyg_computes_the_changed_layer(name):
    import torch
    from torch_geometric.nn import GATConv, GATv2Conv

    change = remedy(name, MODEL)
    config = change.layers[0].config
    kind = GATv2Conv if name == "gatv2" else GATConv
    options = {"heads": config.heads, "concat": config.concat, "residual": config.use_residual}
    model = torch.nn.ModuleDict({"conv1": kind(3, 2, **options)})
    state = {key: torch.from_numpy(array) for key, array in change.state_dict.items()}
    assert not model.load_state_dict(state, strict=False).missing_keys
    edges = torch.as_tensor(np.stack([GRAPH.senders, GRAPH.receivers]).astype(np.int64))
    outputs = model["conv1"](torch.as_tensor(GRAPH.nodes), edges).detach().numpy()
    assert_close(observe_weights(change.layers[:1], GRAPH).outputs, outputs, 1e-5)
