"""The criterion and its verdicts, against rows and outputs compared one by one."""

import dataclasses
import tracemalloc

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from helpers import SLOPES, brute_force_equal, fields, oracle_layer, random_params
from scipy.special import logsumexp

from gat_jax import graphs, symmetry
from gat_jax.graphs import twins
from gat_jax.layers import (
    GATParams,
    GATv2Params,
    LayerConfig,
    LayerSettings,
    apply_layer,
    init_layer,
)
from gat_jax.symmetry import CAUSES, equal_by_signs, equal_nodes, pair_causes, primary_cause

GAT = LayerConfig("gat", heads=2, channels=3)
GAT_EDGES = LayerConfig("gat", heads=2, channels=3, num_edge_features=2)
GATV2 = LayerConfig("gatv2", heads=2, channels=3)
GATV2_EDGES = LayerConfig("gatv2", heads=2, channels=3, num_edge_features=2)
NUM_DRAWS = 400
apply = jax.jit(apply_layer, static_argnames=("config",))
causes_of = jax.jit(pair_causes)


def twin_graph(num_edge_features=0):
    """Nodes 3 and 4 share {0, 0, 1, 5}, 6 and 7 share {2, 5}, 8 and 9 are trivial twins."""
    rng = np.random.default_rng(0)
    senders = [0, 0, 1, 5, 2, 5, 5, 5]
    receivers = [3, 3, 3, 3, 6, 6, 8, 0]
    edges = rng.integers(-1, 2, (8, num_edge_features)).astype(np.float32)
    nodes = rng.integers(-2, 3, (10, 3)).astype(np.float32)
    return graphs.from_edges(
        [*senders, *senders[:7]],
        [*receivers, 4, 4, 4, 4, 7, 7, 9],
        nodes=nodes,
        edges=np.concatenate([edges, edges[:7]]) if num_edge_features else None,
    )


def all_pairs(graph):
    return twins.twin_pairs(twins.twin_classes(graph), include_trivial=True)


def draw_params(config, num_features=3):
    """Half of the draws Gaussian; half small whole numbers, so that scores tie and vanish.

    GATv2's a stays Gaussian, as its criterion asks of it, with weight 0 in one channel.
    """
    rng = np.random.default_rng(1)
    shapes = random_params(0, config, num_features)._asdict()
    arrays = {}
    for name, array in shapes.items():
        if array is not None:
            shape = (NUM_DRAWS // 2, *array.shape)
            gaussian, whole = rng.normal(size=shape), rng.integers(-1, 2, shape)
            if name == "a":
                whole = rng.normal(size=shape) * [0, 1, 1]
            arrays[name] = np.concatenate([gaussian, whole])
    kind = GATParams if config.layer == "gat" else GATv2Params
    return kind(**{k: jnp.asarray(v) for k, v in arrays.items()})


def scores_of_row(params, graph, i):
    """c_i and t_ij of one row for every draw, [B, H, (C)] and [B, H, (C), S], in float64."""
    p, x = fields(params), np.asarray(graph.nodes, np.float64)
    edges = np.flatnonzero(graph.receivers == i)
    edge_bshc = 0.0
    if "edge_kernel" in p:
        edge_bshc = np.einsum("sd,bdhc->bshc", graph.edges[edges], p["edge_kernel"])
    if isinstance(params, GATParams):
        z = np.einsum("nf,bfhc->bnhc", x, p["kernel"]) + p["bias"][:, None]
        c = (z[:, i] * p["a_recv"]).sum(-1)
        t = (z[:, graph.senders[edges]] * p["a_send"][:, None]).sum(-1)
        if "edge_kernel" in p:
            t = t + (edge_bshc * p["a_edge"][:, None]).sum(-1)
        return c, np.moveaxis(t, 1, -1)
    left = np.einsum("nf,bfhc->bnhc", x, p["kernel_send"]) + p["bias_send"][:, None]
    right = np.einsum("nf,bfhc->bnhc", x, p["kernel_recv"]) + p["bias_recv"][:, None]
    return right[:, i], np.moveaxis(left[:, graph.senders[edges]] + edge_bshc, 1, -1)


def log_row(params, graph, i, slope):
    """Log of the attention of one row, which never saturates: [B, H, S] in float64."""
    c, t = scores_of_row(params, graph, i)
    scores = oracle.leaky_relu(c[..., None] + t, slope)
    if isinstance(params, GATv2Params):
        scores = (scores * fields(params)["a"][..., None]).sum(-2)
    return scores - logsumexp(scores, axis=-1, keepdims=True) if scores.shape[-1] else scores


@jax.jit
def causes_of_draws(params, graph, pairs, slope):
    """The causes of every draw, pair and head, and what the layer saw."""

    def causes(params):
        _, info = apply_layer(params, graph, settings=LayerSettings(slope=slope))
        return pair_causes(info, graph, pairs, slope=slope), info

    return jax.vmap(causes)(params)


# --- the criterion --------------------------------------------------------------------------------


@pytest.mark.few(1)
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("config", [GAT, GAT_EDGES], ids=["plain", "edge features"])
def test_pair_causes_of_gat_agree_with_rows_and_with_the_oracles_causes(config):
    graph = twin_graph(config.num_edge_features)
    params, pairs = draw_params(config), all_pairs(graph)
    for slope in SLOPES:
        causes, info = causes_of_draws(params, graph, pairs, slope)
        sets = {name: np.asarray(causes[..., k]) for k, name in enumerate(CAUSES)}
        for p, (i, k, is_trivial) in enumerate(zip(*pairs, strict=True)):
            rows = [log_row(params, graph, node, slope) for node in (i, k)]
            is_equal = oracle.rows_equal(*rows)
            np.testing.assert_array_equal(equal_by_signs(causes)[:, p], is_equal)
            c, t = np.asarray(info.receiver_scores), np.asarray(info.sender_scores)
            t = t[:, graph.senders]
            if info.edge_scores is not None:
                t = t + np.asarray(info.edge_scores)
            t_row = np.moveaxis(t[:, graph.receivers == i], 1, -1)
            if t_row.shape[-1] > 0:
                equal, expected = oracle.gat_equal_by_signs(c[:, i], c[:, k], t_row, slope)
                np.testing.assert_array_equal(is_equal, equal | is_trivial)
                for name, value in expected.items():
                    np.testing.assert_array_equal(sets[name][:, p], value, err_msg=name)
            assert (sets["trivial"][:, p] == is_trivial).all()
            assert (sets["linear"][:, p] == (slope == 1)).all()
        exclusive = equal_by_signs(causes).astype(int) + sets["rounding"] + sets["separated"]
        np.testing.assert_array_equal(exclusive, np.ones_like(exclusive))
        # Every cause came up, each a few times.
        possible = {"trivial", "equal_query", "positive", "negative", "uniform"}
        possible |= {"linear" if slope == 1 else "separated"}
        assert all(sets[name].sum() > 10 for name in possible)
        assert not sets["channelwise"].any()


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("config", [GATV2, GATV2_EDGES], ids=["plain", "edge features"])
def test_pair_causes_of_gatv2_agree_with_rows(config):
    graph = twin_graph(config.num_edge_features)
    params, pairs = draw_params(config), all_pairs(graph)
    for slope in SLOPES:
        causes, _ = causes_of_draws(params, graph, pairs, slope)
        for p, (i, k) in enumerate(zip(pairs.first, pairs.second, strict=True)):
            rows = [log_row(params, graph, node, slope) for node in (i, k)]
            is_equal = equal_by_signs(causes)[:, p]
            np.testing.assert_array_equal(is_equal, oracle.rows_equal(*rows))
        channelwise = np.asarray(causes[..., CAUSES.index("channelwise")])
        if slope != 1:
            assert channelwise.sum() > 10
        assert (~channelwise | (np.asarray(causes[..., :-2]).sum(-1) == 1)).all()


@pytest.mark.usefixtures("x64")
def test_pair_causes_of_gatv2_agree_with_the_oracle_channel_by_channel():
    graph, params = twin_graph(), draw_params(GATV2)
    params = params._replace(a=jnp.ones_like(params.a))  # no weight is 0, for the oracle's sake
    pairs = all_pairs(graph)
    causes, info = causes_of_draws(params, graph, pairs, 0.2)
    left, right = np.asarray(info.sender_scores), np.asarray(info.receiver_scores)
    for p, (i, k) in enumerate(zip(pairs.first, pairs.second, strict=True)):
        support = graph.senders[graph.receivers == i]
        if len(support) > 0:
            row = np.moveaxis(left[:, support], 1, 2)
            expected = oracle.gatv2_equal_by_signs(right[:, i], right[:, k], row)
            np.testing.assert_array_equal(
                equal_by_signs(causes)[:, p], expected | pairs.is_trivial[p]
            )


def test_pair_causes_of_gatv2_do_not_count_a_channel_of_weight_0():
    # Two twins with two senders: the first channel is mixed, the second positive throughout.
    params = GATv2Params(
        kernel_send=jnp.array([[[-0.5, 1.0]]]),
        kernel_recv=jnp.array([[[0.2, 5.0]]]),
        a=jnp.array([[0.0, 1.0]]),
    )
    nodes = np.array([[1.0], [2.0], [3.0], [4.0]])
    graph = graphs.from_edges([0, 1, 0, 1], [2, 2, 3, 3], nodes=nodes)
    _, info = apply(params, graph)
    pair = twins.twin_pairs(twins.twin_classes(graph))
    assert equal_by_signs(causes_of(info, graph, pair))[0, 0]
    nonzero = info._replace(channel_weights=jnp.array([[0.1, 1.0]]))
    assert not equal_by_signs(causes_of(nonzero, graph, pair))[0, 0]


def test_pair_causes_of_gcn_are_uniform():
    graph = twin_graph()
    params = init_layer(jax.random.key(0), LayerConfig("gcn"), 3)
    _, info = apply(params, graph)
    causes = causes_of(info, graph, all_pairs(graph))
    assert causes[..., CAUSES.index("uniform")].all()


@pytest.mark.slow
def test_pair_causes_decide_by_signs_where_outputs_have_saturated():
    # Nodes 2 and 3 of the tutorial attend to node 3 alone, to the last bit, with mixed signs.
    params = GATParams(
        kernel=jnp.eye(2)[:, None],
        a_recv=jnp.array([[-100.0, 0.0]]),
        a_send=jnp.array([[100.0, 0.0]]),
    )
    graph = graphs.tutorial_graph()
    nodes, info = apply(params, graph)
    np.testing.assert_array_equal(nodes[2], nodes[3])
    pairs = twins.twin_pairs(twins.twin_classes(graph))
    causes = causes_of(info, graph, pairs)
    assert not equal_by_signs(causes).any()
    assert CAUSES[int(primary_cause(causes)[0, 0])] == "rounding"
    assert equal_nodes(params, graph).tolist() == [0, 1, 2, 3]


def test_pair_causes_of_the_article_are_uniform_attention_inside_the_positive_regime():
    params = GATParams(jnp.eye(2)[:, None], jnp.array([[-0.2, 0.3]]), jnp.array([[0.1, -0.1]]))
    graph = graphs.tutorial_graph()
    _, info = apply(params, graph)
    causes = causes_of(info, graph, twins.twin_pairs(twins.twin_classes(graph)))[0, 0]
    assert {name for name, holds in zip(CAUSES, causes, strict=True) if holds} == {
        "positive",
        "uniform",
    }
    assert CAUSES[int(primary_cause(causes))] == "positive"
    np.testing.assert_allclose(info.logits[6:9, 0], np.full(3, 0.6), rtol=1e-5)
    assert equal_nodes(params, graph).tolist() == [0, 1, 2, 2]


def test_primary_cause_is_the_first_that_holds():
    sets = np.eye(len(CAUSES), dtype=bool)
    np.testing.assert_array_equal(primary_cause(jnp.asarray(sets)), np.arange(len(CAUSES)))
    upper = jnp.asarray(np.triu(np.ones_like(sets)))
    np.testing.assert_array_equal(primary_cause(upper), np.arange(len(CAUSES)))
    is_exact = equal_by_signs(jnp.asarray(sets)).tolist()
    assert is_exact == [name not in ("rounding", "separated", "undefined") for name in CAUSES]


@pytest.mark.few(1)
@pytest.mark.parametrize("config", [GAT, GATV2], ids=["gat", "gatv2"])
def test_pair_causes_see_masked_edges_as_absent(config):
    graph = twin_graph()
    mask = graph.senders != 5
    without = graph._replace(
        senders=graph.senders[mask],
        receivers=graph.receivers[mask],
        n_edge=np.array([mask.sum()]),
    )
    params = jax.tree.map(lambda x: np.asarray(x[:200], np.float32), draw_params(config))
    pairs = all_pairs(graph)  # the masked edges are the same in both rows of a pair

    def causes(params, graph, mask):
        _, info = apply_layer(params, graph, edge_mask=mask)
        return pair_causes(info, graph, pairs, mask=mask)

    mapped = jax.vmap(causes, in_axes=(0, None, None))
    masked = jax.jit(mapped)(params, graph, mask)
    absent = jax.jit(mapped)(params, without, None)
    np.testing.assert_array_equal(equal_by_signs(masked), equal_by_signs(absent))


# --- bit-equal outputs ----------------------------------------------------------------------------


def planted(seed, *, num_nodes=7, num_edges=14, num_twins=2):
    return graphs.random_graph(
        seed, num_nodes=num_nodes, num_edges=num_edges, num_features=2, num_twins=num_twins
    )


GRAPHS = {
    "tutorial": graphs.tutorial_graph(),  # 12 edges
    **{f"random {seed}": planted(seed) for seed in (4, 34, 59)},  # 15, 13 and 12 edges
    "large": planted(1, num_nodes=30, num_edges=120, num_twins=10),
}
HEADS = LayerConfig("gat", heads=2, channels=2, initializer="tutorial")


def draw_and_compare(graph, num_draws, dtype, *, is_mapped=True):
    """Draws; per draw, pair and head: equal by signs, bit-equal, and the size of the outputs."""
    pairs = twins.twin_pairs(twins.twin_classes(graph))
    params = init_layer(jax.random.key(len(graph.senders)), HEADS, 2, batch_shape=(num_draws,))
    params = jax.tree.map(lambda x: x.astype(dtype), params)
    graph = graph._replace(nodes=jnp.asarray(graph.nodes, dtype))

    def compare(params):
        _, info = apply_layer(params, graph)
        causes = pair_causes(info, graph, pairs)
        first, second = info.head_outputs[pairs.first], info.head_outputs[pairs.second]
        is_same = jnp.all(first == second, axis=-1)
        size = jnp.max(jnp.maximum(jnp.abs(first), jnp.abs(second)), axis=-1)
        return equal_by_signs(causes), is_same, size

    lanes = 500 if is_mapped else None
    run = jax.jit(lambda params: jax.lax.map(compare, params, batch_size=lanes))
    results = run(params)
    return params, pairs, [np.asarray(x) for x in results]


def exact_gap(params, draw, graph, i, k, head):
    """The gap of two rows, computed more precisely than in the dtype of the parameters."""
    exact = {
        name: np.asarray(value[draw]).astype(np.longdouble)
        for name, value in params._asdict().items()
        if value is not None
    }
    x = np.asarray(graph.nodes).astype(np.longdouble)
    p = (exact["kernel"], exact["a_recv"], exact["a_send"], exact["bias"])
    out = oracle.gat(x, graph.senders, graph.receivers, *p)["out"]
    return float(np.abs(out[i, head] - out[k, head]).max())


def check_bits(num_draws, dtype, *, is_mapped=True):
    num_equal = num_near = 0
    for graph in GRAPHS.values():
        params, pairs, results = draw_and_compare(graph, num_draws, dtype, is_mapped=is_mapped)
        is_equal, is_same, size = results
        assert (is_same | ~is_equal).all(), "equal by signs, but not to the last bit"
        num_equal += is_equal.sum()
        near = np.argwhere(is_same & ~is_equal)
        num_near += len(near)
        for draw, pair, head in near:
            i, k = pairs.first[pair], pairs.second[pair]
            gap = exact_gap(params, draw, graph, i, k, head)
            assert gap <= 4 * np.finfo(dtype).eps * size[draw, pair, head]
    total = num_draws * len(GRAPHS)
    print(
        f"{total} draws in {np.dtype(dtype).name}: {num_equal} pairs equal by signs, all to the "
        f"last bit; {num_near} more to the last bit, with gaps below 4 ulp"
    )
    assert num_equal > total // 10


def test_twins_equal_by_signs_are_bit_equal_in_float32():
    check_bits(20_000, np.float32)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_twins_equal_by_signs_are_bit_equal_in_float64():
    check_bits(20_000, np.float64)


@pytest.mark.slow
def test_twins_equal_by_signs_are_bit_equal_without_vmap():
    check_bits(500, np.float32, is_mapped=False)


# --- equal nodes ----------------------------------------------------------------------------------


def merging_graph(seed, num_edge_features):
    """A multigraph of one shape whose features, edges and supports repeat each other a lot.

    Four kinds of nodes, no kind an average of others. The features of an edge tell two kinds of
    receivers apart, so that they never differ by a constant from those of another row.
    """
    rng = np.random.default_rng(seed)
    kind = rng.integers(4, size=9)  # node 8 is isolated
    nodes, features = rng.normal(size=(4, 3)), rng.normal(size=(4, 2, 2, num_edge_features))
    senders, receivers, copy = (rng.integers(k, size=14) for k in (4, 8, 2))
    edges = features[kind[senders], receivers % 2, copy]
    edges = edges if num_edge_features else None
    return graphs.from_edges(senders, receivers, nodes=nodes[kind], edges=edges)


RESIDUAL = LayerConfig("gat", heads=2, channels=3, use_residual=True, use_output_bias=True)
EQUAL_NODES = {
    "gat": (GAT, 0),
    "gat with edge features": (GAT_EDGES, 2),
    "gat that ignores edge features": (GAT, 2),
    "gat with a residual": (RESIDUAL, 0),
    "gatv2": (GATV2, 0),
    "gatv2 with edge features": (GATV2_EDGES, 2),
    "gcn": (LayerConfig("gcn", channels=3), 0),
    "gcn that ignores edge features": (LayerConfig("gcn", channels=3), 2),
}


@pytest.mark.few(1)
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", EQUAL_NODES)
def test_equal_nodes_agree_with_outputs_compared_one_by_one(name):
    config, num_edge_features = EQUAL_NODES[name]
    num_merged = 0
    for seed in range(40):
        graph = merging_graph(seed, num_edge_features)
        params = random_params(seed, config, 3, dtype=np.float64, scale=0.5)  # no one-hot rows
        slope = (-0.5, 0.2, 1.0, 2.0)[seed % 4]
        layer = oracle_layer(type(params), fields(params), graph, slope=slope)
        actual = equal_nodes(params, graph, settings=LayerSettings(slope=slope))
        np.testing.assert_array_equal(actual, brute_force_equal(layer["nodes"]), err_msg=str(seed))
        num_merged += (actual != np.arange(9)).sum()
    assert num_merged > 40


@pytest.mark.usefixtures("x64")
def test_equal_nodes_of_symmetric_gcn_are_those_with_equal_sums_of_weights():
    # One edge from degree 1 weighs as much as two edges from degree 2: no parameters change that.
    config = LayerConfig("gcn", channels=3, gcn_normalization="symmetric")
    num_by_sums = 0
    for seed in range(40):
        graph = merging_graph(seed, 0)
        params = random_params(seed, config, 3, dtype=np.float64)
        actual = equal_nodes(params, graph, config=config)
        layer = oracle_layer(type(params), fields(params), graph, config=config)
        np.testing.assert_array_equal(actual, brute_force_equal(layer["nodes"]), err_msg=str(seed))
        degree = np.bincount(graph.receivers, minlength=9)
        num_by_sums += (degree != degree[actual]).sum()
    assert num_by_sums >= 3  # all other equal nodes have equal degrees


def build(edges, features, edge_features=None):
    """Four nodes of interest; five more, which hear only themselves, fill up to one shape."""
    loops = np.resize(np.arange(4, 9), 14 - len(edges))
    edges = np.concatenate([edges, np.stack([loops, loops], axis=1)])
    first = np.append(features, np.arange(5.0, 10.0))
    nodes = np.stack([first, first**2, np.ones(9)], axis=1)
    if edge_features is not None:
        edge_features = np.resize(edge_features, (14, 2))
    return graphs.from_edges(edges[:, 0], edges[:, 1], nodes=nodes, edges=edge_features)


SUPPORTS = {
    "a support and its double": (
        build([(0, 2), (1, 2), (0, 3), (0, 3), (1, 3), (1, 3)], [1, 2, 3, 3]),
        {"gat": [0, 0, 2, 2], "mean": [0, 0, 2, 2], "symmetric": [0, 0, 2, 3]},
    ),
    "one sender, twice or with another edge": (
        build([(0, 1), (0, 2), (0, 2), (0, 3)], [1, 2, 3, 4], np.arange(14) - 5.0),
        {"gat": [0, 1, 1, 1], "mean": [0, 1, 1, 1], "symmetric": [0, 1, 2, 1]},
    ),
    "other senders with equal features": (
        # Symmetric weights count the senders' degrees: 1, and 0 taken as 1.
        build([(0, 2), (1, 3), (0, 0)], [1, 1, 2, 3]),
        {"gat": [0, 1, 0, 0], "mean": [0, 1, 0, 0], "symmetric": [0, 1, 0, 0]},
    ),
    "senders with equal features and other degrees": (
        build([(0, 2), (1, 3), (2, 0), (3, 0)], [1, 1, 2, 3]),
        {"gat": [0, 1, 2, 2], "mean": [0, 1, 2, 2], "symmetric": [0, 1, 2, 3]},
    ),
    "isolated nodes": (
        build([(3, 0), (0, 0)], [1, 2, 2, 3]),
        {"gat": [0, 1, 1, 1], "mean": [0, 1, 1, 1], "symmetric": [0, 1, 1, 1]},
    ),
}


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", SUPPORTS)
@pytest.mark.parametrize("layer", ["gat", "mean", "symmetric"])
def test_equal_nodes_on_supports_by_hand(name, layer):
    graph, expected = SUPPORTS[name]
    config = EQUAL_NODES["gcn"][0]
    if layer == "gat":
        config = GAT if graph.edges is None else GAT_EDGES
    if layer == "symmetric":
        config = dataclasses.replace(config, gcn_normalization="symmetric")
    params = random_params(0, config, 3, dtype=np.float64, scale=0.1)
    if layer == "gat":
        params = params._replace(bias=10.0 * params.a_recv)  # one regime
    outputs = oracle_layer(type(params), fields(params), graph, config=config)
    wanted = [*expected[layer], 4, 5, 6, 7, 8]
    assert brute_force_equal(outputs["nodes"]).tolist() == wanted
    assert equal_nodes(params, graph, config=config).tolist() == wanted


@pytest.mark.few(2)
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("is_residual", [False, True], ids=["plain", "residual"])
@pytest.mark.parametrize("layer", ["gat", "gatv2"])
def test_propagate_equality_through_three_layers(layer, is_residual):
    config = LayerConfig(layer, heads=1, channels=3, use_residual=is_residual)
    deep_merges = 0
    for seed in range(12):
        graph = merging_graph(seed, 0)
        classes = twins.equal_rows(graph.nodes)
        for depth in range(3):
            params = random_params(10 * seed + depth, config, 3, dtype=np.float64, scale=0.5)
            _, info = apply(params, graph)
            one_layer = twins.twin_classes(graph).smallest
            classes = symmetry.propagate_equality(
                info, graph, classes, has_residual=params.residual_kernel is not None
            )
            outputs = oracle_layer(type(params), fields(params), graph)["nodes"]
            np.testing.assert_array_equal(classes, brute_force_equal(outputs))
            deep_merges += depth > 0 and (classes != one_layer).any()
            graph = graph._replace(nodes=np.tanh(outputs))
    assert deep_merges > 0


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("config", [GAT, GATV2], ids=["gat", "gatv2"])
def test_equal_nodes_by_classes_agree_with_pair_causes_by_pairs(config):
    graph = twin_graph()
    graph = graph._replace(nodes=graph.nodes + 0.01 * np.arange(10.0)[:, None])
    pairs = all_pairs(graph)
    draws = jax.tree.map(np.asarray, draw_params(config))
    for draw in range(0, NUM_DRAWS, 10):
        params = jax.tree.map(lambda x, draw=draw: jnp.asarray(x[draw]), draws)
        _, info = apply(params, graph)
        causes = np.asarray(causes_of(info, graph, pairs))
        by_pairs = causes[..., : CAUSES.index("rounding")].any(-1).all(-1)
        classes = symmetry.propagate_equality(info, graph, twins.equal_rows(graph.nodes))
        np.testing.assert_array_equal(by_pairs, classes[pairs.first] == classes[pairs.second])


def test_equal_nodes_of_twenty_thousand_twins_are_found_by_classes():
    num = 20_000
    rng = np.random.default_rng(0)
    leaves = np.arange(3, num + 3)  # each attached to the same three hubs
    graph = graphs.from_edges(
        np.repeat(np.arange(3), num),
        np.tile(leaves, 3),
        nodes=rng.normal(size=(num + 3, 2)).astype(np.float32),
    )
    params = random_params(0, LayerConfig("gat", use_bias=False), 2)
    params = params._replace(a_send=0.3 * params.a_send)
    _, info = apply(params, graph)
    tracemalloc.start()
    classes = symmetry.propagate_equality(info, graph, twins.equal_rows(graph.nodes))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100e6  # there are 2e8 pairs
    c, n = (np.asarray(x)[:, 0] for x in (info.receiver_scores, info.sender_scores))
    is_positive, is_negative = c + n[:3].min() >= 0, c + n[:3].max() <= 0
    for regime in (is_positive[3:], is_negative[3:]):
        members = leaves[regime]
        assert len(members) > 100
        assert (classes[members] == members[0]).all()
    mixed = leaves[~(is_positive | is_negative)[3:]]
    assert len(np.unique(classes[mixed])) == len(np.unique(c[mixed])) > 100


def test_equal_nodes_without_any_edges_are_all_equal():
    graph = graphs.from_edges([], [], nodes=np.array([[1.0], [2.0]]))
    params = random_params(0, LayerConfig("gat"), 1)
    _, info = apply(params, graph)
    assert symmetry.propagate_equality(info, graph, np.arange(2)).tolist() == [0, 0]


def test_equal_nodes_refuse_a_graph_with_unsorted_edges():
    graph = graphs.tutorial_graph()
    params = random_params(0, LayerConfig("gat"), 2)
    with pytest.raises(ValueError, match="edges: expected to be sorted"):
        equal_nodes(params, graph._replace(receivers=graph.receivers[::-1]))


def test_equal_nodes_refuse_features_that_do_not_fit():
    params = random_params(0, LayerConfig("gat"), 3)
    with pytest.raises(ValueError, match=r"nodes: expected shape \[N, 3\], got \(4, 2\)"):
        equal_nodes(params, graphs.tutorial_graph())


@pytest.mark.parametrize("value", [np.nan, np.inf, 3e38])
@pytest.mark.parametrize("config", [GAT, GATV2], ids=["gat", "gatv2"])
def test_numbers_that_are_not_finite_are_undefined_not_separated(config, value):
    graph = twin_graph()
    pairs = all_pairs(graph)
    sound = random_params(0, config, 3)
    arrays = {name: x for name, x in sound._asdict().items() if x is not None}
    for name, array in arrays.items():
        params = sound._replace(**{name: jnp.full_like(array, value)})
        _, info = apply(params, graph)
        primary = np.asarray(primary_cause(causes_of(info, graph, pairs)))
        out = np.asarray(info.head_outputs)
        is_sound = np.isfinite(out).all(-1)
        is_bad = ~(is_sound[pairs.first] & is_sound[pairs.second])
        assert is_bad.any(), name
        assert (primary[is_bad] == CAUSES.index("undefined")).all(), name
        with pytest.raises(ValueError, match="outputs: expected finite numbers, got others at"):
            equal_nodes(params, graph)


def test_a_node_that_is_not_finite_spoils_its_own_pairs_and_those_that_hear_it():
    graph = twin_graph()
    pairs = all_pairs(graph)
    _, info = apply(random_params(0, GAT, 3), graph)
    sound = np.asarray(causes_of(info, graph, pairs))
    nodes = graph.nodes.copy()
    nodes[2] = np.nan  # node 2 sends to 6 and 7 alone
    _, info = apply(random_params(0, GAT, 3), graph._replace(nodes=nodes))
    found = np.asarray(causes_of(info, graph, pairs))
    hears = (pairs.first == 6) | (pairs.first == 2) | (pairs.second == 2)
    assert 1 < hears.sum() < len(hears)
    assert (found[hears, :, :-1] == 0).all()
    assert (found[hears, :, -1] == 1).all()
    np.testing.assert_array_equal(found[~hears], sound[~hears])


def test_pairs_of_nodes_that_do_not_exist_are_refused():
    graph = twin_graph()
    _, info = apply(random_params(0, GAT, 3), graph)
    pairs = all_pairs(graph)
    for value in (-1, 10):
        wrong = pairs._replace(second=np.full_like(pairs.second, value))
        with pytest.raises(ValueError, match=rf"pairs.second: .* in \[0, 10\), got {value}"):
            pair_causes(info, graph, wrong)


INPUTS = np.array([0, 1, 2, 3, 4, 5, 6, 7, 8, 8])


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mask": np.ones(15, int)}, "mask: expected an array of booleans, got int64"),
        ({"mask": np.full(15, 0.5)}, "mask: expected an array of booleans, got float64"),
        ({"mask": np.ones(1, bool)}, "mask: expected an array of shape"),
        ({"slope": np.nan}, "slope: expected a finite number, got nan"),
        ({"slope": "0.2"}, "slope: expected a finite number, got '0.2' of type str"),
        ({"slope": np.ones(3)}, r"slope: expected a number, or one for each of 2 heads, got .*3"),
        ({"info": None}, "info: expected an AttentionInfo, got NoneType"),
        ({"graph": None}, "graph: expected a jraph.GraphsTuple, got NoneType"),
        ({"fewer_edges": 1}, "info: expected that of a layer on this graph, of 10 nodes and 14"),
        ({"pairs": (INPUTS, INPUTS, INPUTS)}, "pairs: expected TwinPairs, got tuple"),
        ({"first": 1}, "pairs.first, pairs.second: expected two vectors of one length"),
        ({"second": 1}, "pairs.first, pairs.second: expected two vectors of one length"),
        ({"is_trivial": 1}, r"pairs.is_trivial: expected shape \(\d,\), got \(1,\)"),
        ({"is_whole": 1}, "pairs.is_trivial: expected an array of booleans, got int64"),
    ],
)
def test_pair_causes_refuses_what_does_not_fit(changes, message):
    graph = twin_graph()
    pairs = all_pairs(graph)
    _, info = apply(random_params(0, GAT, 3), graph)
    for field in ("first", "second", "is_trivial"):
        if field in changes:
            pairs = pairs._replace(**{field: getattr(pairs, field)[:1]})
    if "is_whole" in changes:
        pairs = pairs._replace(is_trivial=pairs.is_trivial.astype(int))
    if "fewer_edges" in changes:
        graph = graph._replace(senders=graph.senders[:-1], receivers=graph.receivers[:-1])
    inputs = {"info": info, "graph": graph, "pairs": pairs} | {
        name: value
        for name, value in changes.items()
        if name in ("info", "graph", "pairs", "mask", "slope")
    }
    first = [inputs.pop(name) for name in ("info", "graph", "pairs")]
    with pytest.raises(ValueError, match=message):
        pair_causes(*first, **inputs)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (np.full(10, -1), r"inputs: expected ids in \[0, 10\), got -1"),
        (np.full(10, 99), r"inputs: expected ids in \[0, 10\), got 99"),
        (INPUTS[:9], r"inputs: expected shape \(10,\), got \(9,\)"),
        (INPUTS * 1.0, "inputs: expected an integer dtype, got float64"),
        (["a"] * 10, "inputs: expected an integer dtype, got <U1"),
        (None, "inputs: expected an array of numbers, got dtype object"),
        (np.full(10, 9), "inputs: expected the smallest id of each class, got 9 at node 0"),
        (np.roll(INPUTS, 1), "inputs: expected the smallest id of each class, got"),
    ],
)
def test_propagate_equality_refuses_inputs_that_name_no_classes(inputs, message):
    graph = twin_graph()
    _, info = apply(random_params(0, GAT, 3), graph)
    with pytest.raises(ValueError, match=message):
        symmetry.propagate_equality(info, graph, inputs)
    for slope in (np.nan, "x"):
        with pytest.raises(ValueError, match="slope: expected a finite number, got"):
            symmetry.propagate_equality(info, graph, INPUTS, slope=slope)


def test_equal_nodes_take_features_as_the_layer_does():
    """Senders 0 and 1 differ beyond what float32 keeps, so that 2 and 3 hear the same."""
    nodes = np.array([[1.0], [1 + 1e-12], [2.0], [2.0]])
    graph = graphs.from_edges([0, 1], [2, 3], nodes=nodes)
    params = random_params(0, LayerConfig("gat", heads=2, channels=3), 1)
    np.testing.assert_array_equal(equal_nodes(params, graph)[2:], [2, 2])
    assert twins.inseparable_classes(graph).tolist() == [0, 0, 2, 2]
    out, _ = apply(params, graph)
    np.testing.assert_array_equal(out[2], out[3])


@pytest.mark.usefixtures("unchecked")
def test_equal_nodes_take_a_slope_for_each_head():
    graph, config = twin_graph(), GAT
    params = random_params(3, config, 3)
    linear = LayerSettings(slope=np.array([1.0, 1.0], np.float32))
    found = equal_nodes(params, graph, settings=linear)
    np.testing.assert_array_equal(found, equal_nodes(params, graph, settings=LayerSettings(1.0)))
    mixed = LayerSettings(slope=np.array([1.0, 0.2], np.float32))
    alone = [
        equal_nodes(
            jax.tree.map(lambda x, h=h: x[..., h : h + 1, :], params),
            graph,
            settings=LayerSettings(slope),
        )
        for h, slope in enumerate((1.0, 0.2))
    ]
    expected = twins.equal_rows(np.stack(alone, axis=1))
    np.testing.assert_array_equal(equal_nodes(params, graph, settings=mixed), expected)
