"""Networks of residual blocks against the oracle; dropout, padding, seeds, twins."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from helpers import assert_close, messy_graph, oracle_layer

from gat_jax import graphs, kernels
from gat_jax.layers import (
    BlocksConfig,
    LayerConfig,
    LayerSettings,
    apply_layer,
    apply_network,
    blocks_config,
    check_network_params,
    init_network,
    trace_network,
)

CONFIGS = {
    "gat": blocks_config(3, width=6, heads=2, depth=2, norm="layer"),
    "gat_sep": blocks_config(3, width=4, heads=2, depth=2, norm="batch", sep=True, expansion=2),
    "gatv2": blocks_config(3, layer="gatv2", width=4, heads=2, norm="none", sep=True),
    "gcn": blocks_config(
        3, layer="gcn", width=4, heads=1, norm="layer", gcn_normalization="symmetric"
    ),
    "gat_edges": blocks_config(
        3, width=4, heads=1, norm="batch", num_edge_features=2, use_residual=True
    ),
}
trace = jax.jit(trace_network, static_argnames="configs")
layer_alone = jax.jit(apply_layer, static_argnames="config")


def random_network(config, seed=0, *, dtype=np.float32, num_features=3):
    """Gaussian float32 numbers in every parameter, biases and norms too."""
    rng = np.random.default_rng(seed)
    params = init_network(jax.random.key(0), config, num_features)
    return jax.tree.map(
        lambda x: jnp.asarray(0.6 * rng.normal(size=x.shape).astype(np.float32), dtype), params
    )


def by_name(params):
    """Every array in float64, by its path, such as `blocks.0.hidden.kernel`."""
    leaves = jax.tree_util.tree_flatten_with_path(params)[0]
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): np.asarray(x, np.float64)
        for path, x in leaves
    }


def oracle_network(arrays, graph, config, kind, *, slope=0.2):
    """The oracle's outputs, and the attention of every block."""
    attention = []

    def attend(depth, y):
        prefix = f"blocks.{depth}.attention."
        p = {name.removeprefix(prefix): x for name, x in arrays.items() if name.startswith(prefix)}
        layer = oracle_layer(kind, p, graph._replace(nodes=y), config=config.layer, slope=slope)
        attention.append(layer["attention"])
        return layer["nodes"]

    options = {"depth": config.depth, "norm_kind": config.norm, "sep": config.sep}
    x = np.asarray(graph.nodes, np.float64)
    return oracle.residual_blocks(x, arrays, attend, **options), attention


@pytest.mark.few(3)
@pytest.mark.parametrize("name", CONFIGS)
def test_outputs_and_gradients_agree_with_the_oracle(x64, name):
    config = CONFIGS[name]
    graph = messy_graph(1, num_edge_features=config.layer.num_edge_features)
    params = random_network(config, dtype=np.float64)
    weights = np.random.default_rng(2).normal(size=(8, 3))

    def total(params):
        logits, traces = trace_network(params, graph, config, settings=LayerSettings(slope=0.3))
        return jnp.sum(weights * logits), (logits, traces)

    (_, (logits, traces)), gradient = jax.jit(jax.value_and_grad(total, has_aux=True))(params)
    kind = type(params.blocks[0].attention)

    def expected(arrays):
        return oracle_network(arrays, graph, config, kind, slope=0.3)

    arrays = by_name(params)
    wanted, attention = expected(arrays)
    assert_close(logits, wanted, 1e-12)
    assert len(traces) == config.depth
    for layer, alpha in zip(traces, attention, strict=True):
        assert_close(layer.info.attention, alpha, 1e-12)
    exact = oracle.complex_step_gradient(lambda p: np.sum(weights * expected(p)[0]), arrays)
    scale = max(np.abs(array).max() for array in exact.values())
    for path, value in by_name(gradient).items():
        assert np.abs(value - exact[path]).max() <= 1e-11 * scale, path


@pytest.mark.parametrize("name", ["gat", "gat_sep"])
def test_traces_are_what_each_layer_is_given_and_returns(name):
    config, graph = CONFIGS[name], messy_graph(2)
    params = random_network(config)
    logits, traces = trace(params, graph, configs=config)
    applied, infos = jax.jit(apply_network, static_argnames="configs")(
        params, graph, configs=config
    )
    np.testing.assert_array_equal(applied, logits)
    for block, layer, info in zip(params.blocks, traces, infos, strict=True):
        assert layer.inputs.shape == layer.outputs.shape == (8, config.width)
        given = graph._replace(nodes=layer.inputs)
        outputs, alone = layer_alone(block.attention, given, config=config.layer)
        assert_close(layer.outputs, outputs, 1e-5)
        assert_close(info.attention, alone.attention, 1e-5)


def test_dropout_is_where_the_docstring_says():
    config = blocks_config(3, width=60, heads=2, depth=2, norm="none")
    graph, rate = messy_graph(3), 0.4
    params = random_network(config)
    run = functools.partial(trace, params, graph, configs=config)
    settings = LayerSettings(feature_dropout=rate)
    plain, _ = run()
    np.testing.assert_array_equal(run(settings=settings)[0], plain)
    np.testing.assert_allclose(run(key=jax.random.key(0))[0], plain, rtol=1e-5)
    logits, (first, second) = run(settings=settings, key=jax.random.key(0))
    np.testing.assert_array_equal(run(settings=settings, key=jax.random.key(0))[0], logits)
    assert not np.array_equal(run(settings=settings, key=jax.random.key(1))[0], logits)

    kernel, bias = (np.asarray(p, np.float64) for p in params.input)
    projected = oracle.gelu((np.asarray(graph.nodes) @ kernel + bias) / (1 - rate))
    is_kept = np.asarray(first.inputs) != 0
    assert abs(is_kept.mean() - (1 - rate)) < 0.1
    assert_close(first.inputs, np.where(is_kept, projected, 0.0), 1e-5)
    # Attention sees its inputs whole.
    given = graph._replace(nodes=first.inputs)
    whole, _ = layer_alone(params.blocks[0].attention, given, config=config.layer)
    assert_close(first.outputs, whole, 1e-5)
    # What a block adds is dropped with a mask of its own.
    is_added = np.asarray(second.inputs - first.inputs) != 0
    assert abs(is_added.mean() - (1 - rate)) < 0.1
    assert abs((is_added == is_kept).mean() - ((1 - rate) ** 2 + rate**2)) < 0.1


def test_a_feed_forward_is_dropped_twice_with_masks_of_their_own():
    config = blocks_config(3, width=60, heads=2, depth=2, norm="none")
    params, graph, rate = random_network(config), messy_graph(3), 0.4
    block = params.blocks[0]
    identity = block.output._replace(kernel=jnp.eye(60), bias=jnp.zeros(60))
    # Far above 0, where GELU changes nothing: what is 0 in the end was dropped.
    hidden = block.hidden._replace(bias=jnp.full(60, 100.0))
    changed = block._replace(hidden=hidden, output=identity)
    params = params._replace(blocks=(changed, params.blocks[1]))
    settings, key = LayerSettings(feature_dropout=rate), jax.random.key(0)
    _, (first, second) = trace(params, graph, configs=config, settings=settings, key=key)
    is_added = np.asarray(second.inputs - first.inputs) != 0
    assert abs(is_added.mean() - (1 - rate) ** 2) < 0.07


def test_attention_dropout_changes_the_messages_and_not_the_attention():
    config, graph = CONFIGS["gat"], messy_graph(4)
    params = random_network(config)
    _, (plain, _) = trace(params, graph, configs=config)
    settings = LayerSettings(attention_dropout=0.5)
    _, (dropped, _) = trace(params, graph, configs=config, settings=settings, key=jax.random.key(0))
    np.testing.assert_allclose(dropped.info.attention, plain.info.attention, rtol=1e-5)
    assert not np.allclose(dropped.outputs, plain.outputs)


@pytest.mark.parametrize("norm", ["layer", "batch"])
def test_padding_does_not_enter(norm):
    config = blocks_config(3, width=4, heads=2, depth=2, norm=norm, sep=True)
    graph = messy_graph(5)
    params = random_network(config)
    padded = graphs.pad(graph, num_nodes=11, num_edges=20)
    padded.nodes[8:] = 100.0
    edge_mask, node_mask = np.arange(20) < 16, np.arange(11) < 8
    expected, _ = trace(params, graph, configs=config)
    found, _ = trace(params, padded, configs=config, edge_mask=edge_mask, node_mask=node_mask)
    assert_close(found[:8], expected, 1e-5)
    unmasked, _ = trace(params, padded, configs=config, edge_mask=edge_mask)
    assert np.allclose(unmasked[:8], expected, atol=1e-4) == (norm == "layer")


@pytest.mark.parametrize("name", ["gat_sep", "gatv2"])
def test_mapped_seeds_are_the_seeds_one_by_one(name):
    config, graph = CONFIGS[name], messy_graph(6)
    params = init_network(jax.random.key(1), config, 3, batch_shape=(3,))
    mapped, _ = jax.jit(jax.vmap(lambda p: trace_network(p, graph, config)))(params)
    assert mapped.shape == (3, 8, 3)
    for seed in range(3):
        one = jax.tree.map(lambda x, seed=seed: x[seed], params)
        check_network_params(one, config, 3)
        assert_close(mapped[seed], trace(one, graph, configs=config)[0], 1e-5)
    assert not np.allclose(mapped[0], mapped[1])


def test_linear_maps_are_drawn_as_torch_draws_them():
    config = blocks_config(50, width=400, heads=2, sep=True)
    params = init_network(jax.random.key(2), config, 100, batch_shape=(2,))
    block = params.blocks[0]
    for part, num_inputs in (
        (params.input, 100),
        (block.hidden, 800),
        (block.output, 400),
        (params.output, 400),
    ):
        bound = num_inputs**-0.5
        for array in part:
            assert np.abs(array).max() <= bound
            np.testing.assert_allclose(np.std(array), bound / 3**0.5, rtol=0.1)
    assert (block.norm.scale == 1).all()
    assert (block.norm.shift == 0).all()


@pytest.mark.parametrize("norm", ["layer", "batch", "none"])
@pytest.mark.parametrize("sep", [False, True])
def test_twins_with_equal_features_stay_equal_and_others_do_not(norm, sep):
    graph = graphs.random_graph(7, num_nodes=20, num_edges=80, num_features=3, num_twins=4)
    first, second = np.arange(12, 16), np.arange(16, 20)
    equal = graph._replace(nodes=graph.nodes.copy())
    equal.nodes[second] = equal.nodes[first]
    config = blocks_config(3, width=8, heads=2, depth=3, norm=norm, sep=sep)
    params = random_network(config)
    found = np.asarray(trace(params, equal, configs=config)[0])
    np.testing.assert_allclose(found[first], found[second], rtol=1e-4, atol=1e-5)
    # The residual path lets through what attention may not.
    found = np.asarray(trace(params, graph, configs=config)[0])
    assert (np.abs(found[first] - found[second]).max(axis=1) > 1e-3).all()


def test_sparse_features_are_projected_on_their_non_zeros():
    config, graph = CONFIGS["gat"], messy_graph(8)
    nodes = np.where(np.random.default_rng(9).uniform(size=(8, 40)) < 0.1, 1.5, 0.0)
    nodes[0, 0] = 1.0
    dense = graph._replace(nodes=nodes.astype(np.float32))
    sparse = graph._replace(nodes=kernels.from_dense(dense.nodes))
    params = random_network(config, num_features=40)

    def loss(params, graph):
        logits, _ = trace_network(params, graph, config)
        return jnp.sum(jnp.sin(logits)), logits

    run = jax.jit(jax.value_and_grad(loss, has_aux=True))
    (_, expected), expected_gradient = run(params, dense)
    (_, found), gradient = run(params, sparse)
    assert_close(found, expected, 1e-5)
    for one, other in zip(
        jax.tree.leaves(gradient), jax.tree.leaves(expected_gradient), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["gat", "gat_edges"])
def test_layouts_and_weights_reach_every_layer(name):
    config = CONFIGS[name]
    graph = messy_graph(10, num_edge_features=config.layer.num_edge_features)
    params = random_network(config)
    weight = np.random.default_rng(11).uniform(size=16).astype(np.float32)
    plain, _ = trace(params, graph, configs=config)
    expected, _ = trace(params, graph, configs=config, edge_weight=weight)
    layout = kernels.make_layout(graph, "bucketed")
    found, _ = trace(params, graph, configs=config, edge_weight=weight, layout=layout)
    assert_close(found, expected, 1e-5)
    assert not np.allclose(plain, expected)


def test_short_floats_and_whole_numbers_are_taken():
    config, graph = CONFIGS["gat"], messy_graph(12)
    params = random_network(config)
    short = jax.tree.map(lambda x: x.astype(jnp.bfloat16), params)
    nodes = np.round(graph.nodes)
    found, _ = trace(short, graph._replace(nodes=jnp.asarray(nodes, jnp.bfloat16)), configs=config)
    expected, _ = trace(params, graph._replace(nodes=nodes), configs=config)
    assert found.dtype == jnp.bfloat16
    assert_close(found.astype(jnp.float32), expected, 0.05)
    whole, _ = trace(params, graph._replace(nodes=nodes.astype(np.int64)), configs=config)
    assert whole.dtype == jnp.float32
    assert_close(whole, expected, 1e-6)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depth": 0}, "depth: expected at least 1, got 0"),
        ({"num_classes": 2.5}, "num_classes: expected a whole number, got 2.5"),
        ({"norm": "group"}, "norm: expected one of layer, batch, none, got 'group'"),
        ({"sep": 1}, "sep: expected True or False, got 1"),
        ({"layer": "gat"}, "layer: expected a LayerConfig, got str"),
        (
            {"layer": LayerConfig(num_receiver_features=3)},
            "num_receiver_features: expected 0 in a block, got 3",
        ),
    ],
)
def test_configurations_that_make_no_network_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        BlocksConfig(**({"layer": LayerConfig(), "num_classes": 2} | options))


def test_heads_share_the_width_evenly():
    assert blocks_config(3, width=6, heads=2).layer.channels == 3
    with pytest.raises(ValueError, match="width: expected a multiple of the 4 heads, got 6"):
        blocks_config(3, width=6, heads=4)


@pytest.mark.usefixtures("unchecked")
def test_parameters_and_graphs_that_do_not_fit_are_refused():
    config, graph = CONFIGS["gat"], messy_graph(0)
    params = random_network(config)

    def refuses(message, params=params, graph=graph, **options):
        with pytest.raises(ValueError, match=message):
            apply_network(params, graph, config, **options)

    refuses("params: expected BlocksParams, got tuple", tuple(params))
    one = params._replace(blocks=params.blocks[:1])
    refuses("params.blocks: expected 2 blocks, got 1", one)
    other = params.blocks[0]._replace(hidden=params.input)
    refuses(
        r"params.blocks\[1\].hidden.kernel: expected shape \(6, 6\), got \(3, 6\)",
        params._replace(blocks=(params.blocks[0], other)),
    )
    refuses(r"params.blocks\[0\]: expected BlockParams", params._replace(blocks=(1, 2)))
    refuses("params.norm: expected NormParams, got NoneType", params._replace(norm=None))
    refuses(r"kernel: expected shape \(4, 6\)", graph=graph._replace(nodes=np.ones((8, 4))))
    refuses(r"nodes: expected shape \[N, F\], got \(8,\)", graph=graph._replace(nodes=np.ones(8)))
    refuses("in a network of blocks, got two", graph=graph._replace(nodes=(graph.nodes,) * 2))
    refuses(r"node_mask: expected shape \(8,\)", node_mask=np.ones(7, bool))
    refuses("feature_dropout: expected", settings=LayerSettings(feature_dropout=1.5))
    refuses("key: expected one key", key=3)
