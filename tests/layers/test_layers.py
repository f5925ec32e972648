"""Layers against the oracle, PyG and jraph; what jit, vmap, padding and dropout leave alone."""

import chex
import jax
import jax.numpy as jnp
import jraph
import numpy as np
import oracle
import pytest
from helpers import (
    SLOPES,
    assert_close,
    assert_same_sums,
    fields,
    from_torch,
    messy_graph,
    oracle_layer,
    random_params,
)

from gat_jax import graphs
from gat_jax.kernels import leaky_relu, make_layout
from gat_jax.layers import (
    GATParams,
    GATv2Params,
    GCNParams,
    LayerConfig,
    LayerSettings,
    LayerShape,
    apply_layer,
    gat,
    gatv2,
    gcn,
)

PLAIN = LayerConfig("gat", heads=2, channels=3)
FULL = LayerConfig(
    "gat", heads=2, channels=3, use_output_bias=True, use_residual=True, num_edge_features=2
)
PLAIN2 = LayerConfig("gatv2", heads=2, channels=3)
CONFIGS = {
    "gat": FULL,
    "gat_mean_of_heads": LayerConfig("gat", heads=3, concat=False, use_output_bias=True),
    "gat_bare": LayerConfig("gat", use_bias=False),
    "gatv2": LayerConfig(
        "gatv2", heads=2, channels=3, use_output_bias=True, use_residual=True, num_edge_features=2
    ),
    "gatv2_shared": LayerConfig("gatv2", heads=2, channels=3, concat=False, share_weights=True),
    "gcn": LayerConfig("gcn", channels=3, use_output_bias=True, use_residual=True),
    "gcn_symmetric": LayerConfig("gcn", channels=3, gcn_normalization="symmetric"),
}
LAYERS = ("gat", "gatv2", "gcn")  # of CONFIGS: one of each kind
STATIC = ("config",)
apply = jax.jit(apply_layer, static_argnames=STATIC)


def value_and_gradient(params, graph, weights, *, settings, **options):
    """Outputs of the layer, and the gradient of their sum with the given weights."""

    def total(params):
        nodes, info = apply_layer(params, graph, settings=settings, **options)
        return jnp.sum(weights * nodes), (nodes, info)

    (_, (nodes, info)), gradient = jax.value_and_grad(total, has_aux=True)(params)
    return nodes, info, gradient


traced_settings = jax.jit(value_and_gradient, static_argnames=STATIC)
static_settings = jax.jit(value_and_gradient, static_argnames=(*STATIC, "settings"))


def case(config, seed=0, *, dtype=np.float32):
    """Parameters in `dtype`, a messy graph, and the static options of the layer."""
    graph = messy_graph(seed, num_edge_features=config.num_edge_features)
    params = random_params(seed + 1, config, 3, dtype=dtype)
    return params, graph, {"config": config}


def check_against_oracle(config, seed, call, slope, *, dtype, relative):
    params, graph, options = case(config, seed, dtype=dtype)
    weights = np.random.default_rng(seed + 2).normal(size=(8, config.num_outputs)).astype(dtype)
    slope, temperature = float(dtype(slope)), float(dtype(0.7))
    settings = LayerSettings(slope=slope, temperature=temperature)
    nodes, info, gradient = call(params, graph, weights, settings=settings, **options)

    def expected(arrays):
        scale = {"slope": slope, "temperature": temperature}
        return oracle_layer(type(params), arrays, graph, **scale, **options)

    layer = expected(fields(params))
    assert nodes.dtype == dtype
    assert_close(nodes, layer["nodes"], relative)
    assert_close(info.head_outputs, layer["heads"], relative)
    assert_close(info.attention, layer["attention"], relative)
    if not isinstance(params, GCNParams):
        assert_close(info.logits, layer["logits"], relative)
        assert_close(info.receiver_scores, layer["c"], relative)
        assert_close(info.sender_scores, layer["n"], relative)
    exact = oracle.complex_step_gradient(
        lambda arrays: np.sum(weights * expected(arrays)["nodes"]), fields(params)
    )
    assert exact.keys() == fields(gradient).keys()
    # Some gradients are exactly 0 (slope 1, regimes): measure those beside the others.
    least_scale = 0.01 * max(np.abs(array).max() for array in exact.values())
    for name, value in fields(gradient).items():
        scale = max(np.abs(exact[name]).max(), least_scale)
        assert np.abs(value - exact[name]).max() <= relative * scale, name


@pytest.mark.few(2)
@pytest.mark.parametrize("name", [*LAYERS, "gat_mean_of_heads"])
def test_layers_and_gradients_agree_with_the_oracle_in_float32(name):
    for seed in range(3):
        check_against_oracle(
            CONFIGS[name], seed, traced_settings, 0.2, dtype=np.float32, relative=1e-5
        )


@pytest.mark.few(2)
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", CONFIGS)
def test_layers_and_gradients_agree_with_the_oracle_in_float64(name):
    for seed in range(3):
        for slope in SLOPES if CONFIGS[name].layer != "gcn" else [0.2]:
            check_against_oracle(
                CONFIGS[name], seed, traced_settings, slope, dtype=np.float64, relative=1e-12
            )


@pytest.mark.few(1)
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("name", "slope"), [("gat", -0.5), ("gat", 1.0), ("gatv2", 0.2)])
def test_layers_with_static_settings_agree_with_the_oracle(name, slope):
    check_against_oracle(CONFIGS[name], 4, static_settings, slope, dtype=np.float64, relative=1e-12)


def test_layers_graph_has_the_oddities_they_are_tested_on():
    graph = messy_graph(0, num_edge_features=2)
    rows = np.column_stack([graph.senders, graph.receivers, graph.edges])
    assert len(np.unique(rows, axis=0)) < len(rows)  # duplicate edges
    assert (np.bincount(graph.receivers, minlength=8) == 0).any()  # isolated nodes
    assert (graph.senders == graph.receivers).any()
    assert set(map(tuple, rows[:, :2])) != set(map(tuple, rows[:, 1::-1]))  # directed


def test_gat_gives_the_tutorials_printed_outputs():
    a_recv, a_send = jnp.array([[-0.2], [0.1]]), jnp.array([[0.3], [-0.1]])
    params = GATParams(jnp.eye(2)[:, :, None], a_recv, a_send)
    nodes, _ = apply(params, graphs.tutorial_graph())
    np.testing.assert_allclose(nodes, oracle.PRINTED_OUTPUTS, atol=5e-5)


def test_gat_gives_the_articles_equal_outputs():
    params = GATParams(jnp.eye(2)[:, None], jnp.array([[-0.2, 0.3]]), jnp.array([[0.1, -0.1]]))
    nodes, _ = apply(params, graphs.tutorial_graph())
    np.testing.assert_allclose(nodes, oracle.ONE_HEAD_OUTPUTS, rtol=1e-6)


def test_gat_is_jraphs_softmax_to_rounding():
    params, graph, _ = case(PLAIN)
    nodes, info = apply(params, graph)

    @jax.jit
    def reference(params, logits):
        alpha = jraph.segment_softmax(leaky_relu(logits, 0.2), graph.receivers, 8)
        z = jnp.einsum("nf,fhc->nhc", graph.nodes, params.kernel) + params.bias[None]
        messages = alpha[:, :, None] * z[graph.senders]
        return jraph.segment_sum(messages, graph.receivers, 8).reshape(8, -1)

    assert_close(nodes, reference(params, info.logits), 1e-6)


# --- PyG ------------------------------------------------------------------------------------------


def pyg_layer(name, graph, *, heads=2, channels=3, **options):
    """A layer of PyG's in float64 with no zero biases, and its outputs on the graph."""
    import torch
    import torch_geometric.nn

    torch.manual_seed(0)
    edge_dim = None if graph.edges is None else graph.edges.shape[1]
    layer_type = getattr(torch_geometric.nn, name)
    layer = layer_type(3, channels, heads=heads, edge_dim=edge_dim, **options).double()
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter)
    ids = torch.tensor(np.stack([graph.senders, graph.receivers]).astype(np.int64))
    edges = None if graph.edges is None else torch.tensor(graph.edges).double()
    return layer, layer(torch.tensor(graph.nodes).double(), ids, edges).detach().numpy()


def pyg_graph(num_edge_features):
    """A directed graph without self-loops, with duplicates and an isolated node."""
    graph = messy_graph(5, num_edge_features=num_edge_features)
    kept = graph.senders != graph.receivers
    edges = graph.edges[kept] if num_edge_features else None
    return graphs.from_edges(
        graph.senders[kept], graph.receivers[kept], nodes=graph.nodes, edges=edges
    )


@pytest.mark.few(1)
@pytest.mark.torch
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("num_edge_features", [0, 2])
@pytest.mark.parametrize("add_self_loops", [False, True])
@pytest.mark.parametrize("concat", [False, True])
def test_gat_agrees_with_pyg(num_edge_features, add_self_loops, concat):
    graph = pyg_graph(num_edge_features)
    options = {"concat": concat, "add_self_loops": add_self_loops, "residual": True}
    pyg, expected = pyg_layer("GATConv", graph, fill_value=0.25, **options)
    edge_kernel = from_torch(pyg.lin_edge.weight, 2, 2, 3) if num_edge_features else None
    params = GATParams(
        kernel=from_torch(pyg.lin.weight, 3, 2, 3),
        a_recv=from_torch(pyg.att_dst, 2, 3),
        a_send=from_torch(pyg.att_src, 2, 3),
        output_bias=from_torch(pyg.bias, -1),
        edge_kernel=edge_kernel,
        a_edge=from_torch(pyg.att_edge, 2, 3) if num_edge_features else None,
        residual_kernel=from_torch(pyg.res.weight, 3, -1),
    )
    if add_self_loops:
        features = np.full(2, 0.25) if num_edge_features else None
        graph = graphs.add_self_loops(graph, edge_features=features)
    config = LayerShape(
        heads=2,
        channels=3,
        concat=concat,
        use_bias=False,
        use_output_bias=True,
        use_residual=True,
        num_edge_features=num_edge_features,
    )
    actual, _ = apply(params, graph, config=config)
    assert_close(actual, expected, 1e-12)


@pytest.mark.few(2)
@pytest.mark.torch
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("num_edge_features", [0, 2])
@pytest.mark.parametrize("share_weights", [False, True])
def test_gatv2_agrees_with_pyg(num_edge_features, share_weights):
    graph = pyg_graph(num_edge_features)
    pyg, expected = pyg_layer(
        "GATv2Conv", graph, add_self_loops=False, share_weights=share_weights, residual=True
    )
    params = GATv2Params(
        kernel_send=from_torch(pyg.lin_l.weight, 3, 2, 3),
        a=from_torch(pyg.att, 2, 3),
        kernel_recv=None if share_weights else from_torch(pyg.lin_r.weight, 3, 2, 3),
        bias_send=from_torch(pyg.lin_l.bias, 2, 3),
        bias_recv=None if share_weights else from_torch(pyg.lin_r.bias, 2, 3),
        output_bias=from_torch(pyg.bias, -1),
        edge_kernel=from_torch(pyg.lin_edge.weight, 2, 2, 3) if num_edge_features else None,
        residual_kernel=from_torch(pyg.res.weight, 3, -1),
    )
    actual, _ = apply(params, graph)
    assert_close(actual, expected, 1e-12)


# --- what must not matter -------------------------------------------------------------------------


@pytest.mark.few(1)
@pytest.mark.parametrize("name", LAYERS)
def test_layers_real_rows_do_not_see_what_is_in_the_padding(name):
    params, graph, options = case(CONFIGS[name], 6)
    padded = graphs.pad(graph, num_nodes=13, num_edges=29)
    node_mask, edge_mask = graphs.padding_masks(padded)
    junk = padded._replace(
        nodes=jnp.where(node_mask[:, None], padded.nodes, 1e6),
        edges=None if graph.edges is None else jnp.where(edge_mask[:, None], padded.edges, 1e6),
    )
    expected = apply(params, padded, edge_mask=edge_mask, **options)
    for other, mask in ((padded, None), (junk, edge_mask), (junk, None)):
        nodes, info = apply(params, other, edge_mask=mask, **options)
        assert_same_sums(nodes[:8], expected[0][:8])
        assert_same_sums(info.attention[:16], expected[1].attention[:16])
    assert_close(expected[0][:8], apply(params, graph, **options)[0], 1e-5)
    chex.assert_tree_all_finite(expected)


@pytest.mark.few(1)
@pytest.mark.parametrize("name", LAYERS)
def test_layers_do_not_change_by_a_bit_with_padding(name):
    # Whole numbers: the matrix product, whose rounding depends on its shape, is exact.
    params, graph, options = case(CONFIGS[name], 6)
    params = jax.tree.map(np.round, params)
    graph = graph._replace(nodes=np.round(2 * graph.nodes))
    if graph.edges is not None:
        graph = graph._replace(edges=np.round(graph.edges))
    nodes, info = apply(params, graph, **options)
    for num_nodes, num_edges in ((9, 16), (13, 29)):
        padded = graphs.pad(graph, num_nodes=num_nodes, num_edges=num_edges)
        padded_nodes, padded_info = apply(params, padded, **options)
        assert_same_sums(padded_nodes[:8], nodes)
        assert_same_sums(padded_info.attention[:16], info.attention)


@pytest.mark.parametrize("name", LAYERS)
def test_layers_real_rows_have_no_gradient_to_the_padding(name):
    params, graph, options = case(CONFIGS[name], 6)
    padded = graphs.pad(graph, num_nodes=13, num_edges=29)

    def total(nodes):
        return jnp.sum(apply_layer(params, padded._replace(nodes=nodes), **options)[0][:8] ** 2)

    gradient = jax.jit(jax.grad(total))(jnp.asarray(padded.nodes))
    np.testing.assert_array_equal(gradient[8:], np.zeros((5, 3)))
    assert (gradient[:8] != 0).any()


@pytest.mark.parametrize("name", LAYERS)
def test_layers_masked_edges_are_as_if_absent(name):
    params, graph, options = case(CONFIGS[name], 7)
    mask = np.arange(16) % 3 > 0
    without = graph._replace(
        senders=graph.senders[mask],
        receivers=graph.receivers[mask],
        edges=None if graph.edges is None else graph.edges[mask],
    )
    masked = apply(params, graph, edge_mask=mask, **options)[0]
    assert_close(masked, apply(params, without, **options)[0], 1e-6)


@pytest.mark.few(1)
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", LAYERS)
def test_layers_are_permutation_equivariant(name):
    params, graph, options = case(CONFIGS[name], 8, dtype=np.float64)
    order = np.random.default_rng(0).permutation(8)
    place = np.argsort(order)  # node order[k] becomes node k
    permuted = graphs.from_edges(
        place[graph.senders], place[graph.receivers], nodes=graph.nodes[order], edges=graph.edges
    )
    nodes, _ = apply(params, graph, **options)
    assert_close(apply(params, permuted, **options)[0], nodes[order], 1e-13)


@pytest.mark.slow
@pytest.mark.parametrize("name", LAYERS)
def test_layers_with_and_without_jit_agree(name):
    params, graph, options = case(CONFIGS[name], 9)
    expected = apply_layer(params, graph, **options)
    actual = apply(params, graph, **options)
    jax.tree.map(lambda a, b: assert_close(a, b, 1e-5), actual, expected)


@pytest.mark.few(1)
@pytest.mark.parametrize("name", LAYERS)
def test_layers_lanes_are_independent(name):
    config = CONFIGS[name]
    lanes = [case(config, seed)[0] for seed in range(3)]
    graph, options = case(config)[1:]
    mapped = jax.jit(jax.vmap(lambda params: apply_layer(params, graph, **options)[0]))
    nodes = mapped(jax.tree.map(lambda *leaves: np.stack(leaves), *lanes))
    lanes[1] = jax.tree.map(lambda x: np.full_like(x, np.nan), lanes[1])
    spoilt = mapped(jax.tree.map(lambda *leaves: np.stack(leaves), *lanes))
    assert np.isnan(spoilt[1]).any()
    assert_same_sums(spoilt[::2], nodes[::2])
    for lane in (0, 2):
        assert_close(nodes[lane], apply(lanes[lane], graph, **options)[0], 1e-6)


@pytest.mark.few(1)
@pytest.mark.parametrize("name", LAYERS)
def test_layers_trace_once_for_all_settings_and_parameters(name):
    chex.clear_trace_counter()
    traced = jax.jit(chex.assert_max_traces(apply_layer, n=1), static_argnames=STATIC)
    for seed, slope in enumerate(SLOPES):
        params, graph, options = case(CONFIGS[name], seed)
        settings = LayerSettings(slope, 1.0 + seed, 0.1 * seed, 0.1 * seed)
        nodes, _ = traced(params, graph, settings=settings, key=jax.random.key(seed), **options)
        # Without a key, or at rates of 0, nothing is dropped.
        expected, _ = apply(params, graph, settings=settings, **options)
        assert (np.abs(nodes - expected) > 1e-5).any() == (seed > 0)


# --- numerics -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("scale", [0.0, 1.0, 200.0])
def test_layers_have_finite_gradients(name, scale):
    config = CONFIGS[name]
    params, graph, options = case(config, 10)
    params = jax.tree.map(lambda x: np.float32(scale) * np.asarray(x), params)
    weights = np.ones((8, config.num_outputs), np.float32)
    settings = LayerSettings(slope=0.2)
    results = traced_settings(params, graph, weights, settings=settings, **options)
    chex.assert_tree_all_finite(results)


@pytest.mark.few(1)
@pytest.mark.parametrize("name", LAYERS)
def test_layers_have_finite_gradients_where_all_is_masked(name):
    params, graph, options = case(CONFIGS[name], 11)
    mask = np.zeros(16, bool)

    def total(params):
        return jnp.sum(apply_layer(params, graph, edge_mask=mask, **options)[0])

    value, gradient = jax.jit(jax.value_and_grad(total))(params)
    chex.assert_tree_all_finite((value, gradient))
    _, info = apply(params, graph, edge_mask=mask, **options)
    np.testing.assert_array_equal(info.attention, np.zeros_like(info.attention))
    np.testing.assert_array_equal(info.head_outputs, np.zeros_like(info.head_outputs))


@pytest.mark.few(3)
@pytest.mark.parametrize("layout", ["auto", "segment", "bucketed", "fused"])
@pytest.mark.parametrize("name", LAYERS)
def test_layers_of_a_graph_without_nodes(name, layout):
    params, graph, options = case(CONFIGS[name])
    none = graph._replace(
        nodes=graph.nodes[:0],
        edges=None if graph.edges is None else graph.edges[:0],
        senders=graph.senders[:0],
        receivers=graph.receivers[:0],
    )
    expected = apply(params, graph, **options)[0]
    assert apply_layer(params, none, layout=make_layout(none, layout), **options)[0].shape == (
        0,
        expected.shape[1],
    )


@pytest.mark.parametrize("name", LAYERS)
def test_layers_give_isolated_nodes_their_bias_and_residual(name):
    params, graph, options = case(CONFIGS[name], 12)
    nodes, _ = apply(params, graph, **options)
    expected = graph.nodes[-1] @ np.asarray(params.residual_kernel) + params.output_bias
    assert_close(nodes[-1], expected, 1e-6)


@pytest.mark.few(1)
@pytest.mark.parametrize("name", LAYERS)
def test_layers_accumulate_bfloat16_in_float32(name):
    params, graph, options = case(CONFIGS[name], 13)
    small = jax.tree.map(lambda x: x.astype(jnp.bfloat16), params)
    graph = graph._replace(
        nodes=jnp.asarray(graph.nodes, jnp.bfloat16),
        edges=None if graph.edges is None else jnp.asarray(graph.edges, jnp.bfloat16),
    )
    nodes, info = apply(small, graph, **options)
    assert nodes.dtype == jnp.bfloat16
    assert info.attention.dtype == info.head_outputs.dtype == jnp.float32
    host = graph._replace(
        nodes=np.asarray(graph.nodes, np.float64),
        edges=None if graph.edges is None else np.asarray(graph.edges, np.float64),
    )
    expected = oracle_layer(type(params), fields(small), host, **options)
    assert_close(info.head_outputs, expected["heads"], 1e-5)
    assert_close(nodes.astype(np.float32), expected["nodes"], 2**-8)


@pytest.mark.parametrize("bias", [10.0, -10.0])
def test_gat_gives_a_recv_exactly_no_gradient_inside_a_regime(bias):
    # Logits are far from 0: every row lies in one regime, where its receiver has cancelled.
    params, graph, options = case(PLAIN, 14)
    arrays = jax.tree.map(np.asarray, params)
    params = arrays._replace(
        a_recv=np.abs(arrays.a_recv),
        a_send=arrays.a_send / 10,
        bias=np.full_like(arrays.bias, bias),
    )
    weights = np.random.default_rng(0).normal(size=(8, 6)).astype(np.float32)
    call = {"settings": LayerSettings(slope=0.2), **options}
    _, info, gradient = traced_settings(params, graph, weights, **call)
    assert (np.sign(info.logits) == np.sign(bias)).all()
    np.testing.assert_array_equal(gradient.a_recv, np.zeros((2, 3)))
    assert np.any(gradient.a_send)


def test_gatv2_shares_a_projection_without_kernel_recv():
    params, graph, _ = case(PLAIN2, 15)
    shared = params._replace(kernel_recv=None, bias_recv=None)
    same = params._replace(kernel_recv=params.kernel_send, bias_recv=params.bias_send)
    assert_close(apply(shared, graph)[0], apply(same, graph)[0], 1e-6)


# --- dropout --------------------------------------------------------------------------------------


def test_gat_dropout_keeps_the_mean_and_drops_at_its_rate():
    params, graph, _ = case(PLAIN, 17)
    nodes, info = apply(params, graph)
    settings = LayerSettings(attention_dropout=0.3)
    keys = jax.random.split(jax.random.key(1), 5_000)
    draw = jax.jit(jax.vmap(lambda key: gat(params, graph, settings=settings, key=key)))
    dropped, dropped_info = draw(keys)
    # Attention is reported before dropout.
    np.testing.assert_allclose(dropped_info.attention[0], info.attention, rtol=1e-6)
    dropped = np.asarray(dropped)
    spread = 6 * dropped.std(0) / np.sqrt(len(keys)) + 1e-6
    assert (np.abs(dropped.mean(0) - nodes) <= spread).all()
    # A receiver with one edge loses it, in each head, with probability 0.3.
    single = np.flatnonzero(np.bincount(graph.receivers, minlength=8) == 1)[0]
    lost = (np.asarray(dropped_info.head_outputs)[:, single] == 0).all(-1).mean()
    assert abs(lost - 0.3) < 6 * np.sqrt(0.21 / (2 * len(keys)))


def test_gat_drops_features_before_the_projection():
    params, graph, _ = case(LayerConfig("gat", use_bias=False), 18)
    settings = LayerSettings(feature_dropout=0.4)
    keys = jax.random.split(jax.random.key(2), 5_000)
    one = graph._replace(nodes=graph.nodes[:, :1])  # one feature: dropped or 1 / 0.6 times as large
    params = params._replace(kernel=params.kernel[:1])
    scores = jax.jit(
        jax.vmap(lambda key: gat(params, one, settings=settings, key=key)[1].sender_scores)
    )(keys)
    scores, expected = np.asarray(scores), np.asarray(apply(params, one)[1].sender_scores)
    is_zero = scores == 0
    assert abs(is_zero.mean() - 0.4) < 6 * np.sqrt(0.24 / scores.size)
    ratio = np.where(is_zero, 1 / 0.6, scores / expected)
    np.testing.assert_allclose(ratio, 1 / 0.6, rtol=1e-5)


def test_layers_draw_dropout_from_the_key_alone():
    params, graph, _ = case(PLAIN, 19)
    settings = LayerSettings(feature_dropout=0.5, attention_dropout=0.5)
    first, again, other = (
        apply(params, graph, settings=settings, key=jax.random.key(k))[0] for k in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


# --- bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("layer", "function"), [("gat", gat), ("gatv2", gatv2), ("gcn", gcn)])
def test_layers_refuse_features_of_another_width(layer, function):
    params = random_params(0, LayerConfig(layer), 5)
    with pytest.raises(ValueError, match=r"nodes: expected shape \[N, 5\], got \(8, 3\)"):
        function(params, messy_graph(0))


@pytest.mark.parametrize("num_edge_features", [0, 3])
@pytest.mark.parametrize("name", ["gat", "gatv2"])
def test_layers_refuse_edges_that_do_not_fit(name, num_edge_features):
    params, *_ = case(CONFIGS[name])
    with pytest.raises(ValueError, match=r"edges: expected shape \[E, 2\] .* got (None|\(16, 3)"):
        apply_layer(params, messy_graph(0, num_edge_features=num_edge_features))
