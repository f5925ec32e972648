"""A jraph user's layer, with one line changed."""

import jax
import jax.numpy as jnp
import jraph
import numpy as np
import pytest
from helpers import assert_close, messy_graph

from gat_jax.kernels import layouts
from gat_jax.layers import jraph_gat

HEADS, CHANNELS = 2, 5
GRAPH = messy_graph(0, num_edge_features=2)


def draw_weights(seed=0, dtype=jnp.float32):
    rng = np.random.default_rng(seed)
    shapes = {"w": (3, HEADS, CHANNELS), "send": (HEADS, CHANNELS), "receive": (HEADS, CHANNELS)}
    shapes |= {"edge": (2, HEADS)}
    return {k: jnp.asarray(rng.normal(size=s), dtype) for k, s in shapes.items()}


def make_layer(gat, weights, **options):
    def logits(sent, received, edges):
        scores = (sent * weights["send"][None] + received * weights["receive"][None]).sum(-1)
        return jax.nn.leaky_relu(scores + edges @ weights["edge"])[..., None]

    return gat(lambda x: jnp.einsum("nf,fhc->nhc", x, weights["w"]), logits, **options)


def shuffled(graph, seed=1):
    order = np.random.default_rng(seed).permutation(len(graph.senders))
    return graph._replace(
        senders=graph.senders[order], receivers=graph.receivers[order], edges=graph.edges[order]
    )


@pytest.mark.slow
def test_gat_outside_of_jit_compiles_once(caplog):
    net = make_layer(jraph_gat.gat, draw_weights())
    gradient = jax.grad(lambda x: jnp.sum(net(GRAPH._replace(nodes=x)).nodes ** 2))
    nodes = jnp.asarray(GRAPH.nodes)
    gradient(nodes)
    with jax.log_compiles():
        gradient(nodes)
    assert not [r for r in caplog.records if "Finished XLA compilation" in r.getMessage()]


@pytest.mark.few(1)
@pytest.mark.parametrize("graph", [GRAPH, shuffled(GRAPH)], ids=["sorted", "any order"])
def test_gat_is_jraphs(graph):
    weights = draw_weights()
    expected = make_layer(jraph.GAT, weights)(graph)
    found = make_layer(jraph_gat.gat, weights)(graph)
    assert_close(found.nodes, expected.nodes, 1e-6)
    assert found.edges is graph.edges

    def loss(weights, gat):
        return jnp.sum(jnp.sin(make_layer(gat, weights, node_update_fn=lambda x: x)(graph).nodes))

    found, expected = (jax.grad(loss)(weights, gat) for gat in (jraph_gat.gat, jraph.GAT))
    for name, grad in expected.items():
        assert_close(found[name], grad, 1e-5)


@pytest.mark.slow
def test_gat_maps_and_compiles_with_its_layout_as_an_argument(x64):
    layout = layouts.make_layout(GRAPH, "bucketed")
    weights = [draw_weights(s, jnp.float64) for s in range(3)]
    many = jax.tree.map(lambda *x: jnp.stack(x), *weights)

    @jax.jit
    def run(weights, graph, layout):
        layer = make_layer(jraph_gat.gat, weights, layout=layout)
        return jnp.sum(layer(graph).nodes ** 2)

    mapped = jax.vmap(jax.grad(run), in_axes=(0, None, None))(many, GRAPH, layout)
    for s in range(3):
        single = jax.grad(run)(weights[s], GRAPH, layout)
        for name, grad in single.items():
            assert_close(mapped[name][s], grad, 1e-10)


def test_gat_refuses_what_does_not_fit(unchecked):
    weights = draw_weights()
    other = layouts.make_layout(messy_graph(1, num_nodes=9), "bucketed")
    with pytest.raises(ValueError, match=r"layout: expected one made for 8 nodes and 16 edges"):
        make_layer(jraph_gat.gat, weights, layout=other)(GRAPH)
    with pytest.raises(ValueError, match=r"queries: expected shape .* N = 8, got \(8, 3\)"):
        jraph_gat.gat(lambda x: x, lambda *_: None)(GRAPH)
    for rows in (4, 12):  # which would be read as other nodes' queries
        wrong = jraph_gat.gat(lambda x, rows=rows: jnp.ones((rows, 2, 3)), lambda *_: None)
        with pytest.raises(ValueError, match=rf"queries: .* N = 8, got \({rows}, 2, 3\)"):
            wrong(GRAPH)
    flat = jraph_gat.gat(lambda x: x[:, None], lambda sent, *_: sent[..., 0])
    with pytest.raises(ValueError, match=r"logits: expected shape \(16, 1, 1\), got \(16, 1\)"):
        flat(GRAPH)
    with pytest.raises(ValueError, match="layout: expected a bucketed or fused one, got segment"):
        make_layer(jraph_gat.gat, weights, layout=layouts.segment_layout(GRAPH))(GRAPH)


def test_gat_without_edges_gives_zeros_as_jraph_does():
    none = GRAPH._replace(
        senders=GRAPH.senders[:0], receivers=GRAPH.receivers[:0], edges=GRAPH.edges[:0]
    )
    weights = draw_weights()
    np.testing.assert_array_equal(make_layer(jraph.GAT, weights)(none).nodes, 0.0)
    np.testing.assert_array_equal(make_layer(jraph_gat.gat, weights)(none).nodes, 0.0)


@pytest.mark.slow
def test_gat_takes_float32_logits_of_bfloat16_queries():
    def loss(weights, gat):
        layer = gat(
            lambda x: (x[:, None] * weights["w"][0, :1, :3][None]).astype(jnp.bfloat16),
            lambda sent, received, _: (sent + 2 * received).astype(jnp.float32).sum(-1)[..., None],
        )
        return jnp.sum(layer(GRAPH).nodes.astype(jnp.float32) ** 2)

    weights = draw_weights()
    found, expected = (jax.grad(loss)(weights, gat) for gat in (jraph_gat.gat, jraph.GAT))
    assert_close(found["w"], expected["w"], 0.05)  # jraph adds up in bfloat16
