"""Every measure against the oracle's: on every kind of layer and layout, padded and masked."""

import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import oracle_measures as om
import pytest
from helpers import fields, oracle_layer, random_params
from pages import PAGES

from gat_jax import graphs
from gat_jax.graphs import twin_samples
from gat_jax.kernels import from_dense, make_layout
from gat_jax.layers import LayerConfig, LayerSettings, apply_layer
from gat_jax.symmetry import CAUSES
from gat_jax.training.balance import balances
from gat_jax.training.measures import COORDINATES, MEASURES, check_names, measure
from gat_jax.training.watched import Seen, watch

SLOPE = 0.2
CONFIGS = {
    "gat": LayerConfig("gat", heads=2, channels=2),
    "gatv2": LayerConfig("gatv2", heads=2, channels=2),
    "gcn": LayerConfig("gcn", heads=1, channels=4),
}
NEXT = LayerConfig("gatv2", heads=1, channels=3, use_residual=True)


def planted_graph(seed=0):
    """Random, with planted twins, self-loops, one of them twice, and a large class of each kind."""
    base = graphs.random_graph(seed, num_nodes=40, num_edges=110, num_features=3, num_twins=12)
    senders, receivers = list(base.senders), list(base.receivers)
    for node in range(40, 60):
        senders += [1, 2, 2, 5]
        receivers += [node] * 4
    for node in range(60, 78):
        senders += [7, 7]
        receivers += [node] * 2
    senders += [3, 3, 4, 6]
    receivers += [3, 3, 4, 6]
    rng = np.random.default_rng(seed)
    nodes = np.concatenate([base.nodes, rng.normal(size=(38, 3)).astype(np.float32)])
    return graphs.from_edges(senders, receivers, nodes=nodes)


GRAPH = planted_graph()
PADDED = graphs.pad(GRAPH, num_nodes=84, num_edges=len(GRAPH.senders) + 9)
MASK = np.ones(len(PADDED.senders), bool)
MASK[3:60:9] = False  # and all edges of one of a class of three
CASES = {"whole": (GRAPH, None), "padded": (PADDED, None), "masked": (PADDED, MASK)}
# Every pair of a kind, a layout and a case comes once.
SETTINGS = [
    (kind, layout, list(CASES)[(row + column) % 3])
    for row, kind in enumerate(CONFIGS)
    for column, layout in enumerate(("segment", "bucketed", "fused"))
]


def real_part(graph, mask):
    """The graph without padding and masked edges."""
    is_real_n, is_real_e = graphs.padding_masks(graph)
    kept = is_real_e if mask is None else is_real_e & mask
    return graphs.from_edges(
        graph.senders[kept], graph.receivers[kept], nodes=np.asarray(graph.nodes)[is_real_n]
    )


def parameters(config, seed=3):
    """Large biases, so that rows of one sign are common, and rows of both; in 64 bits."""
    params = (random_params(seed, config, 3), random_params(seed + 1, NEXT, config.num_outputs))
    biases = {name: 2.5 * x for name, x in params[0]._asdict().items() if name.startswith("bias")}
    return jax.tree.map(lambda x: jnp.asarray(x, float), (params[0]._replace(**biases), params[1]))


@functools.partial(jax.jit, static_argnames=("config", "names"))
def measured(params, watched, config, names=tuple(MEASURES), slope=SLOPE):
    watched = dataclasses.replace(watched, slope=slope)
    inputs = watched.graph.nodes
    outputs, info = apply_layer(
        params[0],
        watched.graph,
        config=config,
        settings=LayerSettings(slope=slope),
        edge_mask=watched.edge_mask,
        layout=watched.layout,
    )
    return measure(names, Seen(info, inputs, outputs, params, 0, config), watched)


def primary_causes(layer, kind, graph, pairs):
    """The oracle's primary cause of every pair and head."""
    found = []
    for i, k in pairs:
        row = graph.senders[graph.receivers == i]
        for h in range(layer["heads"].shape[1]):
            if kind == "gcn":
                found.append("equal_query")
            elif kind == "gat":
                c, n = layer["c"][:, h], layer["n"][:, h]
                found.append(om.gat_primary_cause(c[i], c[k], n[row], SLOPE))
            else:
                c, n = layer["c"][:, h], layer["n"][:, h]
                found.append(om.gatv2_primary_cause(c[i], c[k], n[row]))
    return np.array(found).reshape(len(pairs), -1)


def expected_of(kind, params, graph, watched):
    """All measures of a layer by the oracle, on a graph of real nodes and edges alone."""
    config = CONFIGS[kind]
    layer = oracle_layer(type(params[0]), fields(params[0]), graph, config=config, slope=SLOPE)
    senders, receivers, out = graph.senders, graph.receivers, layer["nodes"]
    attention = layer["attention"]
    quantiles = COORDINATES["quantile"]
    entropy = oracle.normalised_entropy(attention, receivers, len(out))
    entropy = entropy[~np.isnan(entropy[:, 0])]
    itself = om.self_attention(attention, senders, receivers)
    bins = [np.histogram(np.clip(x, 0, 1), bins=50, range=(0, 1))[0] for x in entropy.T]
    all_pairs = oracle.twin_pairs(senders, receivers, len(out))
    by_kind = [[(i, k) for i, k, t in all_pairs if t == is_trivial] for is_trivial in (False, True)]
    causes = primary_causes(layer, kind, graph, by_kind[0])
    compared = list(zip(watched.twins.first, watched.twins.second, strict=True))
    weight = watched.twins.weight.astype(float)
    sampled = primary_causes(layer, kind, graph, compared)
    head_gaps = np.array(
        [[om.gap(layer["heads"][:, h], i, k) for h in range(config.heads)] for i, k in by_kind[0]]
    )
    by_sample = [
        (om.gap(layer["heads"][:, h], i, k), w, h)
        for (i, k), w in zip(compared, weight, strict=True)
        for h in range(config.heads)
    ]
    medians = [
        om.lower_median(*np.array([(g, w) for g, w, head in by_sample if head == h]).T)
        for h in range(config.heads)
    ]
    output_medians = []
    for group in (watched.twins, watched.trivial_twins):
        ends = zip(group.first, group.second, strict=True)
        gaps = np.array([om.gap(out, i, k) for i, k in ends])
        output_medians.append(om.lower_median(gaps, group.weight.astype(float)))
    balance = om.balance(fields(params[0]), fields(params[1]))
    return {
        "entropy_mean": entropy.mean(0),
        "entropy_quantiles": np.quantile(entropy, quantiles, axis=0).T,
        "entropy_histogram": np.array(bins) / len(entropy),
        "self_attention_mean": itself.mean(0),
        "self_attention_quantiles": np.quantile(itself, quantiles, axis=0).T,
        "favourite_share": om.favourite_share(attention, senders, receivers),
        "twin_cause_share": np.stack(
            [(weight[:, None] * (sampled == name)).sum(0) / weight.sum() for name in CAUSES], axis=1
        ),
        "twin_equal_share_by_head": (causes != "separated").mean(0),
        "twin_equal_share": (causes != "separated").all(1).mean(),
        "twin_gap_max": head_gaps.max(0),
        "twin_gap_median": medians,
        "twin_output_gap_max": [max(om.gap(out, *pair) for pair in pairs) for pairs in by_kind],
        "twin_output_gap_median": output_medians,
        "distinct_rows_rounded": om.distinct_rows(out, 1e-5),
        "effective_rank": om.effective_rank(out),
        "dirichlet_energy": om.dirichlet_energy(out, senders, receivers),
        "distance_to_mean": om.distance_to_mean(out),
        "output_norm": np.sqrt((out**2).sum()),
        "balance_mean": balance.mean(),
        "balance_max": np.abs(balance).max(),
    }


@pytest.mark.few(3)
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("kind", "layout", "case"), SETTINGS)
def test_every_measure_agrees_with_the_oracle(kind, layout, case, monkeypatch):
    monkeypatch.setattr(twin_samples, "NUM_SAMPLED_PAIRS", 60)
    graph, mask = CASES[case]
    watched = watch(graph, layout=make_layout(graph, layout), edge_mask=mask)
    params = parameters(CONFIGS[kind])
    found = measured(params, watched, CONFIGS[kind])
    expected = expected_of(kind, params, real_part(graph, mask), watched)
    assert set(found) - set(expected) == {"distinct_rows"}
    for name, value in expected.items():
        rtol = 1e-6 if name.startswith("twin_equal") else 1e-9  # float32 whatever the layer has
        np.testing.assert_allclose(found[name], value, rtol=rtol, atol=1e-12, err_msg=name)
    if kind != "gcn":  # all of which is not for want of anything to see
        assert found["twin_equal_share_by_head"].max() > 0.1
        assert found["twin_equal_share"] < 0.9
        assert (found["twin_cause_share"] > 0).sum() >= 3
        assert (found["entropy_quantiles"][:, 0] < found["entropy_quantiles"][:, 4]).all()


def test_shapes_are_those_of_the_dimensions():
    sizes = {name: len(entries) for name, entries in COORDINATES.items()} | {"head": 2}
    config = CONFIGS["gat"]
    found = jax.eval_shape(
        functools.partial(measured, config=config), parameters(config), watch(GRAPH)
    )
    assert {name: x.shape for name, x in found.items()} == {
        name: tuple(sizes[dim] for dim in entry.dims) for name, entry in MEASURES.items()
    }


@pytest.mark.parametrize("layout", ["segment", "bucketed"])
def test_mapped_runs_and_slopes_measure_what_each_does_alone(layout):
    config = CONFIGS["gat"]
    watched = watch(GRAPH, layout=make_layout(GRAPH, layout))
    runs = [parameters(config, seed) for seed in (3, 5)]
    slopes = jnp.array([0.2, 1.0])
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *runs)
    mapped = jax.vmap(lambda p, s: measured(p, watched, config, slope=s))(stacked, slopes)
    for run, params in enumerate(runs):
        alone = measured(params, watched, config, slope=slopes[run])
        for name, value in alone.items():
            options = {"rtol": 2e-5, "atol": 1e-5, "err_msg": name}
            np.testing.assert_allclose(mapped[name][run], value, **options)
    assert mapped["twin_equal_share"][0] < mapped["twin_equal_share"][1] == 1.0


def test_distinct_rows_are_counted_to_the_last_bit():
    config = CONFIGS["gat"]
    params, watched = parameters(config), watch(PADDED)
    outputs = jax.jit(functools.partial(apply_layer, config=config))(params[0], PADDED)[0]
    outputs = np.asarray(outputs)[: len(GRAPH.nodes)]
    seen = Seen(None, None, jnp.asarray(outputs), params, 0, config)
    found = measure(["distinct_rows", "distinct_rows_rounded"], seen, watched)
    assert found["distinct_rows"] == om.distinct_rows(outputs)
    assert found["distinct_rows_rounded"] == om.distinct_rows(outputs.astype(float), 1e-5)
    assert 20 < found["distinct_rows_rounded"] < len(outputs) - 20  # trivial twins are equal
    moved = outputs.copy()
    moved[5] = outputs[7]
    moved[5, 1] = np.nextafter(outputs[7, 1], 9, dtype=np.float32)
    found = measure(["distinct_rows"], seen._replace(outputs=jnp.asarray(moved)), watched)
    assert found["distinct_rows"] == om.distinct_rows(moved)


@pytest.mark.parametrize("name", ["distinct_rows", "effective_rank", "dirichlet_energy"])
def test_outputs_that_are_not_finite_measure_nan(name):
    outputs = jnp.ones((len(GRAPH.nodes), 4)).at[3, 2].set(jnp.inf)
    seen = Seen(None, None, outputs, (), 0, CONFIGS["gat"])
    assert np.isnan(measure([name], seen, watch(GRAPH))[name])


def test_heads_that_are_not_finite_leave_the_others_alone():
    config = CONFIGS["gat"]
    params, watched = parameters(config), watch(GRAPH)
    spoilt = params[0]._replace(a_recv=params[0].a_recv.at[1].set(jnp.nan))
    names = tuple(name for name, entry in MEASURES.items() if entry.dims[:1] == ("head",))
    expected = measured(params, watched, config, names=names)
    found = measured((spoilt, params[1]), watched, config, names=names)
    for name in names:
        np.testing.assert_array_equal(found[name][0], expected[name][0])
        if name == "twin_cause_share":
            assert found[name][1, CAUSES.index("undefined")] == 1.0
        elif name == "twin_equal_share_by_head":
            assert found[name][1] == 0.0
        else:
            assert np.isnan(found[name][1]).all(), name


def test_where_there_is_nothing_measures_are_nan():
    graph = graphs.from_edges([1, 2], [2, 1], nodes=np.ones((3, 3), np.float32))
    config = CONFIGS["gat"]
    watched = watch(graph)
    params = (parameters(config)[0],)
    found = measured(params, watched, config)
    of_nodes = {"distinct_rows", "distinct_rows_rounded", "effective_rank", "dirichlet_energy"}
    for name, value in found.items():
        is_defined = name in of_nodes | {"distance_to_mean", "output_norm"}
        assert np.isnan(value).all() != is_defined, name
    assert watched.counts.pairs == watched.counts.trivial_pairs == 0


def test_features_by_their_non_zeros_are_watched_as_others():
    dense, sparse = watch(PADDED), watch(PADDED._replace(nodes=from_dense(PADDED.nodes)))
    assert dense.counts == sparse.counts
    assert dense.num_nodes == sparse.num_nodes == len(GRAPH.nodes)
    jax.tree.map(np.testing.assert_array_equal, dense.twins, sparse.twins)


def test_a_class_of_100_000_twins_is_counted_exactly_and_without_its_pairs():
    """5 billion pairs, which int32 does not number: two thirds of the twins are positive."""
    num_twins = 100_000
    receivers = np.repeat(np.arange(2, num_twins + 2), 2)
    positive = np.linspace(5.0, 6.0, num_twins)  # each with a query of its own
    query = np.concatenate([[0, 0], np.where(np.arange(num_twins) % 3 == 0, -1.0, positive)])
    query[2::30] = np.linspace(-1.5, -0.5, len(query[2::30]))  # rows of both signs: one by one
    nodes = np.stack([query, np.zeros(len(query))], axis=1).astype(np.float32)
    nodes[:2, 1] = [0.0, 2.0]  # what senders send
    graph = graphs.from_edges(np.tile([0, 1], num_twins), receivers, nodes=nodes)
    config = LayerConfig("gat", heads=1, channels=2, use_bias=False)
    kernel = jnp.eye(2)[:, None]
    layer = random_params(0, config, 2)._replace(
        kernel=kernel, a_recv=jnp.array([[1.0, 0.0]]), a_send=jnp.array([[0.0, 1.0]])
    )
    watched = watch(graph, layout=make_layout(graph, "bucketed"))
    names = ("twin_equal_share", "twin_gap_max", "twin_cause_share")
    found = measured((layer,), watched, config, names=names)
    exact = query[2:]
    others = exact[exact < 0].astype(np.float32)
    sizes = [np.sum(exact >= 0), *np.unique(others, return_counts=True)[1]]
    pairs = sum(int(m) * (int(m) - 1) // 2 for m in sizes)
    assert watched.counts.pairs == num_twins * (num_twins - 1) // 2
    assert len(watched.twins.first) == twin_samples.NUM_SAMPLED_PAIRS
    np.testing.assert_allclose(found["twin_equal_share"], pairs / watched.counts.pairs, rtol=3e-7)
    assert found["twin_cause_share"][0, CAUSES.index("positive")] == pytest.approx(0.44, abs=0.03)
    assert found["twin_gap_max"] > 0.1


# --- the balance ----------------------------------------------------------------------------------

BALANCED = {
    "gat": LayerConfig("gat", heads=2, channels=3, use_residual=True, use_output_bias=True),
    "gat, edges": LayerConfig("gat", heads=2, channels=3, num_edge_features=2),
    "gatv2": LayerConfig("gatv2", heads=2, channels=3, use_output_bias=True),
    "gatv2, edges": LayerConfig("gatv2", heads=2, channels=3, num_edge_features=2),
    "gatv2, shared": LayerConfig("gatv2", heads=2, channels=3, share_weights=True),
    "gcn": LayerConfig("gcn", heads=1, channels=6, use_residual=True),
    "averaged": LayerConfig("gat", heads=2, channels=6, concat=False),
}


@pytest.mark.parametrize("name", BALANCED)
@pytest.mark.usefixtures("x64")
def test_gradient_flow_conserves_the_balance_where_the_activation_is_relu(name):
    """Parameters move along -gradient, so the balance's slope is its own gradient times that."""
    config = BALANCED[name]
    graph = graphs.random_graph(
        1,
        num_nodes=10,
        num_edges=30,
        num_features=3,
        num_edge_features=config.num_edge_features,
    )
    params = tuple(
        jax.tree.map(lambda x: jnp.asarray(x, float), random_params(seed, shape, width))
        for seed, shape, width in ((0, config, 3), (1, NEXT, 6))
    )

    def loss(params):
        hidden, _ = apply_layer(params[0], graph, config=config)
        after = graph._replace(nodes=jax.nn.relu(hidden), edges=None)
        out, _ = apply_layer(params[1], after, config=NEXT)
        return jnp.sum(jnp.sin(out * jnp.arange(1.0, 4.0)[None]))

    def balance(params):
        return balances(*params, config)

    gradient = jax.jit(jax.grad(loss))(params)
    _, slope = jax.jvp(balance, (params,), (gradient,))
    by_part = jax.tree.map(lambda x, g: np.abs(x * g).max(), params, gradient)
    assert slope.shape == (6,)
    np.testing.assert_allclose(slope, 0.0, atol=1e-10 * max(jax.tree.leaves(by_part)))
    assert np.ptp(balance(params)) > 1.0


def test_the_last_layer_has_no_balance():
    config = CONFIGS["gat"]
    params = parameters(config)
    seen = Seen(None, None, None, params, 1, NEXT)
    assert np.isnan(measure(["balance_mean"], seen, watch(GRAPH))["balance_mean"])


# --- names ----------------------------------------------------------------------------------------


def test_a_name_that_is_no_measures_is_refused():
    check_names(MEASURES)
    with pytest.raises(
        ValueError, match=r"measures: expected some of entropy_mean, .*, got 'rank'"
    ):
        check_names(["entropy_mean", "rank"])
    seen = Seen(None, None, None, (), 0, CONFIGS["gat"])
    with pytest.raises(ValueError, match="got 'rank'"):
        measure(["rank"], seen, watch(GRAPH))


def test_the_page_has_every_measure_with_its_dimensions_and_unit():
    rows = re.findall(r"^\| `(\w+)` \| ([^|]*) \| ([^|]*) \|", PAGES["docs/measurements.md"], re.M)
    expected = {
        name: (", ".join(f"`{dim}`" for dim in entry.dims) or "none", entry.unit)
        for name, entry in MEASURES.items()
    }
    assert {name: (dims, unit) for name, dims, unit in rows} == expected
    assert len(rows) == len(expected)


def test_the_page_has_the_numbers_of_the_sample():
    text = PAGES["docs/measurements.md"]
    for number in (twin_samples.MAX_SMALL_CLASS, twin_samples.NUM_SAMPLED_PAIRS):
        assert f" {number:,} " in text
    assert ", ".join(map(str, COORDINATES["quantile"])) in text


def test_watching_refuses_what_does_not_fit():
    pair = GRAPH._replace(nodes=(GRAPH.nodes, GRAPH.nodes))
    with pytest.raises(ValueError, match="nodes: expected one set of nodes in measurements"):
        watch(pair)
    with pytest.raises(ValueError, match=r"edge_mask: expected an array of shape"):
        watch(GRAPH, edge_mask=np.ones(3, bool))
    with pytest.raises(ValueError, match="layout: expected one made for"):
        watch(GRAPH, layout=make_layout(PADDED, "bucketed"))
