"""Layers on every layout, against the same layers on the edge list."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import messy_graph, random_params

from gat_jax import graphs, layers, symmetry
from gat_jax.graphs import twins
from gat_jax.kernels import layouts
from gat_jax.layers import LayerConfig, LayerSettings


@pytest.mark.few(1)
@pytest.mark.parametrize(
    ("layout", "has_all"),
    [
        ("bucketed", False),
        ("bucketed", True),
        pytest.param("fused", True, marks=pytest.mark.slow),
        pytest.param("fused", False, marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("layer", ["gat", "gatv2", "gcn"])
def test_layouts_agree_with_segments(layer, layout, has_all, x64):
    num_edge_features = 2 if has_all and layer != "gcn" else 0
    graph = messy_graph(3, num_edge_features=num_edge_features)
    config = LayerConfig(
        layer=layer,
        heads=1 if layer == "gcn" else 3,
        channels=4,
        concat=not has_all,
        use_residual=has_all,
        gcn_normalization="symmetric" if has_all and layer == "gcn" else "mean",
        num_edge_features=num_edge_features,
    )
    params = random_params(4, config, 3, dtype=np.float64)
    mask = np.arange(16) % 3 > 0 if has_all else None
    key = jax.random.key(5) if has_all else None
    rates = {"feature_dropout": 0.3, "attention_dropout": 0.4}

    def loss(params, slope, temperature, layout):
        settings = LayerSettings(slope, temperature, **rates)
        nodes, info = layers.apply_layer(
            params,
            graph,
            config=config,
            settings=settings,
            key=key,
            edge_mask=mask,
            layout=layout,
        )
        return jnp.sum(jnp.sin(nodes)), (nodes, info)

    run = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True))
    prepared = layouts.make_layout(graph, layout)
    for slope in (0.2, -0.5) if layer == "gat" else (0.2,):
        expected = run(params, slope, 0.7, layouts.segment_layout(graph))
        found = run(params, slope, 0.7, prepared)
        pairs = zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True)
        for one, other in pairs:
            np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-11)


def test_a_layout_is_that_of_the_graph(unchecked):
    graph, config = messy_graph(0), LayerConfig(heads=2)
    params = random_params(0, config, 3)
    with pytest.raises(ValueError, match="layout: expected one of make_layout, or None, got str"):
        layers.gat(params, graph, layout="bucketed")
    other = layouts.make_layout(messy_graph(0, num_nodes=9), "bucketed")
    with pytest.raises(ValueError, match="expected one made for 8 nodes and 16 edges, got"):
        layers.gat(params, graph, layout=other)


@pytest.mark.few(1)
@pytest.mark.parametrize("layout", ["bucketed", "fused"])
@pytest.mark.parametrize("layer", ["gat", "gatv2", "gcn"])
def test_layers_outside_of_jit_compile_once(layer, layout, caplog):
    graph, config = messy_graph(0), LayerConfig(layer=layer, heads=1, channels=3)
    params, prepared = random_params(0, config, 3), layouts.make_layout(graph, layout)
    gradient = jax.grad(
        lambda params: jnp.sum(layers.apply_layer(params, graph, layout=prepared)[0] ** 2)
    )

    # Parts of JAX that the first call imports may add settings that programs are compiled for.
    gradient(params)
    with jax.log_compiles():
        gradient(params)
        caplog.clear()
        gradient(params)
    assert not [r for r in caplog.records if "Finished XLA compilation" in r.getMessage()]


@pytest.mark.few(1)
@pytest.mark.parametrize("layout", ["bucketed", "fused"])
@pytest.mark.parametrize("is_mapped", [False, True], ids=["single", "mapped"])
def test_twins_in_a_regime_are_bit_equal_in_every_layout(layout, is_mapped):
    graph = graphs.random_graph(0, num_nodes=40, num_edges=250, num_features=3, num_twins=20)
    pairs = twins.twin_pairs(twins.twin_classes(graph))
    prepared = layouts.make_layout(graph, layout)
    config = LayerConfig(heads=2, channels=4)

    @jax.jit
    def run(params, layout):
        _, info = layers.gat(params, graph, layout=layout)
        causes = symmetry.pair_causes(info, graph, pairs, layout=layout)
        gap = info.head_outputs[pairs.first] - info.head_outputs[pairs.second]
        return symmetry.equal_by_signs(causes), jnp.all(gap == 0, axis=-1)

    count = 0
    if is_mapped:
        params = layers.init_layer(jax.random.key(0), config, 3, batch_shape=(50,))
        by_signs, by_bits = jax.vmap(run, in_axes=(0, None))(params, prepared)
        assert np.all(by_bits[by_signs])
        count = by_signs.sum()
    else:
        for seed in range(20):
            params = layers.init_layer(jax.random.key(seed), config, 3)
            by_signs, by_bits = run(params, prepared)
            assert np.all(by_bits[by_signs])
            count += by_signs.sum()
    assert count > 50


@pytest.mark.slow
@pytest.mark.parametrize("layer", ["gat", "gatv2"])
def test_gradients_have_the_dtype_of_what_they_are_of(layer, x64):
    graph, config = messy_graph(0), LayerConfig(layer=layer, heads=2, channels=3)
    params = random_params(0, config, 3)
    layout = layouts.make_layout(graph, "bucketed")

    def loss(params, slope):
        nodes, _ = layers.apply_layer(params, graph, settings=LayerSettings(slope), layout=layout)
        return jnp.sum(nodes**2)

    for dtype in (jnp.float64, jnp.bfloat16):
        slope = jnp.asarray(0.25, dtype)
        of_params, of_slope = jax.grad(loss, argnums=(0, 1))(params, slope)
        assert of_slope.dtype == dtype
        assert all(x.dtype == jnp.float32 for x in jax.tree.leaves(of_params))


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["bucketed", "fused"])
def test_layers_accumulate_bfloat16_in_float32(layout):
    senders = np.arange(1, 401, dtype=np.int32)  # a sum in bfloat16 stalls at 256
    graph = graphs.from_edges(senders, np.zeros(400, int), nodes=np.ones((401, 1), np.float32))
    graph = graph._replace(nodes=jnp.asarray(graph.nodes, jnp.bfloat16))
    config = LayerConfig(heads=1, channels=1, use_bias=False)
    params = jax.tree.map(
        lambda x: jnp.ones_like(x, jnp.bfloat16), random_params(0, config, 1, dtype=np.float32)
    )
    nodes, _ = layers.gat(params, graph, layout=layouts.make_layout(graph, layout))
    assert nodes.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.asarray(nodes[0], np.float32), 1.0, rtol=1e-6)
