"""Weights of edges, which multiply attention after the softmax."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import messy_graph, random_params

from gat_jax.graphs import from_edges, twin_classes
from gat_jax.kernels import make_layout
from gat_jax.layers import (
    LayerConfig,
    LayerSettings,
    apply_layer,
    apply_network,
    flax_linen,
    gat,
    init_network,
)
from gat_jax.symmetry import equal_nodes

GRAPH = messy_graph(2)
CONFIGS = {
    "gat": LayerConfig("gat", heads=2, channels=3),
    "gatv2": LayerConfig("gatv2", heads=2, channels=3),
    "gcn": LayerConfig("gcn", channels=3),
}
WEIGHT = np.random.default_rng(0).normal(size=len(GRAPH.senders)).astype(np.float32)
WEIGHT[3] = 0.0
MASK = np.arange(len(WEIGHT)) % 5 > 0


def by_hand(info, params, mask, weight):
    """Outputs [N, H, C] from the layer's own attention, edge by edge."""
    values = np.einsum("nf,fhc->nhc", GRAPH.nodes, params[0])
    bias = getattr(params, "bias_send", getattr(params, "bias", None))
    values = values + np.asarray(bias)
    out = np.zeros_like(values)
    attention = np.asarray(info.attention)
    for e, (j, i) in enumerate(zip(GRAPH.senders, GRAPH.receivers, strict=True)):
        if mask is None or mask[e]:
            out[i] += weight[e] * attention[e][:, None] * values[j]
    return out


@pytest.mark.parametrize("mask", [None, MASK], ids=["all", "masked"])
@pytest.mark.parametrize("name", CONFIGS)
def test_weights_multiply_attention_after_the_softmax(name, mask):
    params = random_params(0, CONFIGS[name], 3)
    plain = jax.jit(lambda p: apply_layer(p, GRAPH, edge_mask=mask))
    weighted = jax.jit(lambda p, w: apply_layer(p, GRAPH, edge_mask=mask, edge_weight=w))
    _, expected = plain(params)
    out, info = weighted(params, WEIGHT)
    np.testing.assert_allclose(info.attention, expected.attention, atol=1e-6)
    expected_out = by_hand(info, params, mask, WEIGHT)
    np.testing.assert_allclose(info.head_outputs, expected_out, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(out, expected_out.reshape(len(out), -1), rtol=1e-4, atol=1e-5)
    ones, _ = weighted(params, np.ones_like(WEIGHT))
    np.testing.assert_allclose(ones, plain(params)[0], rtol=1e-5, atol=1e-6)


@pytest.mark.few(2)
@pytest.mark.parametrize("layout", ["segment", "bucketed", "fused"])
@pytest.mark.parametrize("name", CONFIGS)
def test_weights_have_gradients_on_every_layout(name, layout):
    params = random_params(0, CONFIGS[name], 3)

    def loss(weight, params, layout):
        out, _ = apply_layer(params, GRAPH, edge_weight=weight, layout=layout)
        return jnp.sum(jnp.sin(out))

    gradient = jax.jit(jax.grad(loss, argnums=(0, 1)))
    expected = gradient(WEIGHT, params, None)
    found = gradient(WEIGHT, params, make_layout(GRAPH, layout))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), found, expected
    )
    _, info = apply_layer(params, GRAPH, edge_weight=WEIGHT)
    cosine = np.cos(np.asarray(info.head_outputs))
    values = by_hand(info, params, None, np.eye(len(WEIGHT))[5]) * cosine  # of edge 5 alone
    np.testing.assert_allclose(expected[0][5], values.sum(), rtol=1e-4)


def test_dropout_and_weights_multiply():
    settings = LayerSettings(attention_dropout=0.5)
    params = random_params(0, CONFIGS["gat"], 3)
    options = {"settings": settings, "key": jax.random.key(3)}
    twice, _ = gat(params, GRAPH, edge_weight=np.full_like(WEIGHT, 2.0), **options)
    once, _ = gat(params, GRAPH, **options)
    assert np.abs(once).max() > 0.1
    np.testing.assert_allclose(twice, 2 * once, rtol=1e-5, atol=1e-6)


def test_networks_and_modules_pass_weights_on():
    configs = (CONFIGS["gat"], CONFIGS["gatv2"])
    params = init_network(jax.random.key(0), configs, 3)
    out, _ = apply_network(params, GRAPH, configs, edge_weight=WEIGHT)
    hidden, _ = apply_layer(params[0], GRAPH, edge_weight=WEIGHT)
    second = GRAPH._replace(nodes=jax.nn.elu(hidden))
    expected, _ = apply_layer(params[1], second, edge_weight=WEIGHT)
    np.testing.assert_allclose(out, expected, rtol=1e-6)
    module = flax_linen.GraphNetwork(configs)
    found, _ = module.apply({"params": {"layers": params}}, GRAPH, edge_weight=WEIGHT)
    np.testing.assert_allclose(found, out, rtol=1e-6)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (WEIGHT[:-1], r"expected an array of shape \(16,\), got \(15,\)"),
        (WEIGHT[:, None], r"expected an array of shape \(16,\), got \(16, 1\)"),
        (list(WEIGHT), "expected an array of real numbers, got list"),
        (WEIGHT.astype(complex), "expected an array of real numbers, got complex128"),
        (np.full(16, 1e300), "expected numbers that float32 holds, got 1e"),
    ],
)
def test_weights_that_do_not_fit_are_refused(weight, message):
    with pytest.raises(ValueError, match=f"edge_weight: {message}"):
        gat(random_params(0, CONFIGS["gat"], 3), GRAPH, edge_weight=weight)


def test_weights_change_who_is_a_twin_and_which_nodes_are_equal():
    # Nodes 3, 4 and 5 hear 0, 1 and 2; node 4 with another weight, 5 with the same as 3.
    senders, receivers = np.tile([0, 1, 2], 3), np.repeat([3, 4, 5], 3)
    rng = np.random.default_rng(1)
    graph = from_edges(senders, receivers, nodes=rng.normal(size=(6, 3)).astype(np.float32))
    weight = np.array([1.0, 2.0, 3.0, 1.0, 2.0, 4.0, 1.0, 2.0, 3.0], np.float32)
    assert twin_classes(graph).twin[3:].tolist() == [3, 3, 3]
    assert twin_classes(graph, edge_weight=weight).twin[3:].tolist() == [3, 4, 3]
    params = random_params(0, CONFIGS["gat"], 3)._replace(a_recv=jnp.zeros((2, 3)))
    assert equal_nodes(params, graph)[3:].tolist() == [3, 3, 3]
    assert equal_nodes(params, graph, edge_weight=weight)[3:].tolist() == [3, 4, 3]
    out, _ = gat(params, graph, edge_weight=weight)
    np.testing.assert_array_equal(out[3], out[5])
    assert np.abs(out[3] - out[4]).max() > 0.1
    for wrong in (weight[1:], np.full(9, np.nan), ["a"] * 9):
        with pytest.raises(ValueError, match="edge_weight: expected "):
            twin_classes(graph, edge_weight=wrong)


def test_senders_that_are_equal_count_as_one_only_with_equal_weights():
    nodes = np.array([[1.0], [1.0], [0.5], [2.0], [3.0]], np.float32)  # 0 and 1 are equal
    graph = from_edges([0, 1, 2, 0, 1, 2], [3, 3, 3, 4, 4, 4], nodes=nodes)
    params = random_params(0, LayerConfig(use_bias=False), 1)
    params = params._replace(a_recv=jnp.zeros_like(params.a_recv))
    swapped = np.array([1.0, 2.0, 3.0, 2.0, 1.0, 3.0], np.float32)
    other = np.array([1.0, 2.0, 3.0, 2.0, 2.0, 3.0], np.float32)
    for weight, are_equal in ((swapped, True), (other, False)):
        found = equal_nodes(params, graph, edge_weight=weight)
        assert (found[3] == found[4]) == are_equal
        out, _ = gat(params, graph, edge_weight=weight)
        assert np.allclose(out[3], out[4], atol=1e-6) == are_equal
