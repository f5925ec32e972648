"""The UvA tutorial's layer in PyTorch and in JAX, against its formulas and its printed outputs."""

import numpy as np
import oracle
import pytest
from helpers import assert_close, fields, messy_graph, oracle_layer

from gat_jax import graphs
from gat_jax.diagnosis.weights import FormOptions, uva
from gat_jax.layers import GATParams

TORCH, JAX = uva.FORMS


def outputs_of(layer, graph):
    slope = float(layer.settings.slope)
    return oracle_layer(GATParams, fields(layer.params), graph, config=layer.config, slope=slope)


def tutorial(a):
    """The tutorial's check: W = I and b = 0."""
    return {"projection.weight": np.eye(2), "projection.bias": np.zeros(2), "a": np.array(a)}


def test_two_heads_give_the_outputs_that_the_tutorial_prints():
    layer = TORCH.read("layer", tutorial([[-0.2, 0.3], [0.1, -0.1]]), FormOptions())
    assert (layer.config.heads, layer.config.channels) == (2, 1)
    found = outputs_of(layer, graphs.tutorial_graph())["nodes"]
    np.testing.assert_allclose(found, oracle.PRINTED_OUTPUTS, atol=1e-4)


def test_one_head_gives_the_articles_outputs():
    layer = TORCH.read("layer", tutorial([[-0.2, 0.3, 0.1, -0.1]]), FormOptions())
    assert (layer.config.heads, layer.config.channels) == (1, 2)
    found = outputs_of(layer, graphs.tutorial_graph())["nodes"]
    np.testing.assert_allclose(found, oracle.ONE_HEAD_OUTPUTS, atol=1e-6)


def test_the_slope_is_the_one_that_is_given():
    layer = TORCH.read("layer", tutorial([[-0.2, 0.3, 0.1, -0.1]]), FormOptions(slope=0.05))
    assert layer.settings.slope == 0.05


def tutorial_layer(state, x, adjacency, heads, concat):
    """The layer as the tutorial writes it, in torch: every pair of nodes, masked by adjacency."""
    import torch

    projection = torch.nn.Linear(*state["projection.weight"].T.shape).double()
    projection.load_state_dict({key: state[f"projection.{key}"] for key in ("weight", "bias")})
    z = projection(x).view(len(x), heads, -1)
    a_recv, a_send = state["a"].chunk(2, dim=1)
    rows = (z * a_recv).sum(-1)[:, None] + (z * a_send).sum(-1)[None]
    scores = torch.nn.functional.leaky_relu(rows, 0.2)
    scores = scores.masked_fill(adjacency[..., None] == 0, -9e15)
    attention = torch.softmax(scores, dim=1)
    out = torch.einsum("ijh,jhc->ihc", attention, z)
    return out.flatten(1) if concat else out.mean(1)


@pytest.mark.torch
@pytest.mark.parametrize("form", uva.FORMS, ids=lambda form: form.system)
@pytest.mark.parametrize("concat", [True, False])
@pytest.mark.parametrize("heads", [1, 3])
def test_random_weights_compute_what_the_tutorials_layer_does(heads, concat, form):
    import torch

    rng = np.random.default_rng(heads)
    graph = messy_graph(2)
    # An adjacency has each edge once, and every row has one in the tutorial.
    nodes = np.arange(len(graph.nodes))
    senders = np.concatenate([graph.senders, nodes])
    receivers = np.concatenate([graph.receivers, nodes])
    pairs = np.unique(np.stack([receivers, senders]), axis=1)
    graph = graphs.from_edges(pairs[1], pairs[0], nodes=graph.nodes)
    adjacency = torch.zeros(len(nodes), len(nodes))
    adjacency[tuple(pairs)] = 1  # row i attends to column j
    shapes = {"projection.weight": (2 * heads, 3), "projection.bias": (2 * heads,), "a": (heads, 4)}
    state = {key: rng.normal(size=shape) for key, shape in shapes.items()}
    tensors = {key: torch.as_tensor(array) for key, array in state.items()}
    x = torch.as_tensor(np.asarray(graph.nodes, np.float64))
    expected = tutorial_layer(tensors, x, adjacency, heads, concat).detach().numpy()
    if form is JAX:
        state["projection.kernel"] = state.pop("projection.weight").T
    layer = form.read("layer", state, FormOptions(concat=concat))
    assert_close(outputs_of(layer, graph)["nodes"], expected, 1e-6)
    assert (layer.config.initializer, layer.replaces_self_loops) == ("tutorial", False)


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ({"a": (2, 3)}, {}, r"layer\.a: expected an even number of columns, got 3"),
        ({"a": (4,)}, {}, r"layer\.a: expected shape \[any, any\], got \[4\]"),
        ({"a": (2, 4)}, {}, r"projection\.weight: expected shape \[4, any\], got \[2, 2\]"),
        ({"projection.bias": (3,)}, {}, r"projection\.bias: expected shape \[2\], got \[3\]"),
        ({}, {"heads": 2}, "heads: expected 1, as layer has them, got 2"),
    ],
)
def test_what_does_not_fit_is_refused(changes, options, message):
    state = tutorial([[-0.2, 0.3, 0.1, -0.1]])
    state |= {key: np.ones(shape) for key, shape in changes.items()}
    with pytest.raises(ValueError, match=message):
        TORCH.read("layer", state, FormOptions(**options))
