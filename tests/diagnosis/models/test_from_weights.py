"""Layers without their model, run on a graph: against the oracle and against PyG's modules."""

import numpy as np
import oracle
import pytest
from helpers import assert_close, fields, messy_graph, oracle_layer, random_params

from gat_jax import graphs
from gat_jax.diagnosis.models.from_weights import observe_weights
from gat_jax.diagnosis.models.observed import ImportedLayer
from gat_jax.layers import LAYERS, LayerConfig, LayerSettings

GRAPH = messy_graph(0)
# One of each kind, with few shapes, so that few programs are compiled.
CONFIGS = (
    LayerConfig(layer="gat", heads=2, channels=2),
    LayerConfig(layer="gatv2", heads=2, channels=4, concat=False),
)
ACTIVATIONS = {
    "elu": oracle.elu,
    "relu": lambda x: np.maximum(x, 0),
    "leaky_relu": lambda x: oracle.leaky_relu(x, 0.01),
    "none": lambda x: x,
}


def imported(configs=CONFIGS, *, replaces=False):
    widths = [3, *(config.num_outputs for config in configs)]
    return [
        ImportedLayer(
            f"conv{k}",
            "a system",
            config,
            random_params(k, config, widths[k]),
            LayerSettings(slope=0.1 * (k + 1)),
            replaces_self_loops=replaces,
        )
        for k, config in enumerate(configs)
    ]


def expected_outputs(layers, graph, activation):
    outputs, x = [], graph.nodes
    for k, layer in enumerate(layers):
        x = ACTIVATIONS[activation](x) if k else x
        kind, slope = LAYERS[layer.config.layer].params, layer.settings.slope
        p, given = fields(layer.params), graph._replace(nodes=x)
        x = oracle_layer(kind, p, given, config=layer.config, slope=slope)["nodes"]
        outputs.append(x)
    return outputs


def with_loops(graph):
    nodes = np.arange(len(graph.nodes))
    stays = graph.senders != graph.receivers
    senders = np.concatenate([graph.senders[stays], nodes])
    receivers = np.concatenate([graph.receivers[stays], nodes])
    return graphs.from_edges(senders, receivers, nodes=graph.nodes)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_layer_gets_what_the_one_before_made(activation):
    layers = imported()
    model = observe_weights(layers, GRAPH, activation=activation)
    expected = expected_outputs(layers, GRAPH, activation)
    for observed, layer, outputs in zip(model.layers, layers, expected, strict=True):
        assert observed.layer is layer
        assert isinstance(observed.outputs, np.ndarray)
        assert_close(observed.outputs, outputs, 1e-5)
    assert model.graph is GRAPH
    np.testing.assert_array_equal(model.outputs, model.layers[-1].outputs)
    np.testing.assert_array_equal(model.layers[0].graph.nodes, GRAPH.nodes)
    assert_close(model.layers[1].graph.nodes, ACTIVATIONS[activation](expected[0]), 1e-5)


@pytest.mark.parametrize(
    ("replaces", "self_loops", "has_loops"),
    [(True, None, True), (False, None, False), (True, False, False), (False, True, True)],
)
def test_self_loops_are_those_of_the_system_or_as_said(replaces, self_loops, has_loops):
    layers = imported(CONFIGS[:1], replaces=replaces)
    model = observe_weights(layers, GRAPH, self_loops=self_loops)
    graph = with_loops(GRAPH) if has_loops else GRAPH
    assert len(model.layers[0].graph.senders) == len(graph.senders)
    assert_close(model.outputs, expected_outputs(layers, graph, "none")[0], 1e-5)
    assert model.layers[0].layer.replaces_self_loops is has_loops


def test_notes_say_what_was_assumed():
    one, two = imported(CONFIGS[:1]), imported()
    assert observe_weights(one, GRAPH).notes == ()
    (note,) = observe_weights(two, GRAPH, activation="leaky_relu").notes
    assert note.startswith("A file of weights does not say what stands between layers: LeakyReLU")
    (note,) = observe_weights(one, GRAPH, self_loops=False).notes
    assert "the self-loops of the graph alone" in note


@pytest.mark.torch
def test_a_model_of_pyg_gives_the_outputs_of_its_weights():
    import torch
    from torch_geometric.nn import GATConv

    from gat_jax.diagnosis.weights import read_layers

    torch.manual_seed(0)
    first, second = GATConv(3, 2, heads=2), GATConv(4, 4, heads=2, concat=False)
    model = torch.nn.ModuleDict({"conv1": first, "conv2": second})
    state = {key: tensor.numpy() for key, tensor in model.state_dict().items()}
    edges = torch.as_tensor(np.stack([GRAPH.senders, GRAPH.receivers]).astype(np.int64))
    hidden = torch.nn.functional.elu(first(torch.as_tensor(GRAPH.nodes), edges))
    outputs = second(hidden, edges).detach().numpy()
    assert_close(observe_weights(read_layers(state), GRAPH).outputs, outputs, 1e-5)


# --- what is refused ------------------------------------------------------------------------------


def refuses(match, layers, graph=GRAPH, **options):
    with pytest.raises(ValueError, match=match):
        observe_weights(layers, graph, **options)


def test_widths_that_do_not_fit_are_refused_by_layer():
    first, second = imported()
    refuses("conv1: expected 4 features of a node, got 3 of the graph", [second])
    wide = second._replace(params=random_params(0, CONFIGS[1], 5), name="la\x1bst")
    refuses(r"la\\x1bst: expected 5 features of a node, got 4 of conv0", [first, wide])


def test_what_cannot_be_run_is_refused(unchecked):
    layers = imported(CONFIGS[:1])
    refuses("layers: expected at least one, got none", [])
    refuses("activation: expected one of elu, relu, .*, got 'gelu'", layers, activation="gelu")
    refuses("graph: expected a jraph.GraphsTuple, got list", layers, [])
    bad = np.asarray(GRAPH.nodes).copy()
    bad[0, 0] = np.nan
    refuses("nodes: expected finite numbers, got nan", layers, GRAPH._replace(nodes=bad))


def test_a_layer_with_two_sets_of_nodes_is_refused():
    config = LayerConfig(heads=2, num_receiver_features=5)
    refuses("conv0: expected one set of nodes, got a layer with 3 features", imported([config]))


def test_edge_features_that_are_missing_are_refused():
    config = LayerConfig(heads=2, num_edge_features=2)
    refuses("edges: expected 2 features, as conv0 reads them", imported([config]))


def test_outputs_that_are_not_finite_are_refused():
    (layer,) = imported(CONFIGS[:1])
    huge = layer.params._replace(kernel=layer.params.kernel * np.float32(1e38))
    refuses("conv0: expected finite outputs", [layer._replace(params=huge)])
