"""Attention by table against a float64 oracle, its exact zeros, and every transformation of JAX."""

import functools
import re
from typing import Any

import chex
import jax
import jax.numpy as jnp
import jraph
import numpy as np
import oracle
import pytest
from helpers import SLOPES, assert_close

from gat_jax import graphs
from gat_jax.kernels import attention, gat_logits, gatv2_scores, layouts

# Every width, one chunk to three, by both ends; parallel edges; isolated nodes.
DEGREES = (37, 4, 17, 0, 1, 10, 7, 3, 5, 2, 1, 4, 0)
NUM_NODES, NUM_EDGES, HEADS, CHANNELS = len(DEGREES), sum(DEGREES), 2, 3


def make_graph(senders, receivers, num_nodes: int) -> jraph.GraphsTuple:
    return graphs.from_edges(senders, receivers, nodes=np.zeros((num_nodes, 1), np.float32))


def random_graph(seed: int, degrees=DEGREES) -> jraph.GraphsTuple:
    """The same degrees, by receiver and by sender, whatever the seed."""
    receivers = np.repeat(np.arange(len(degrees)), degrees)
    senders = np.random.default_rng(seed).permutation(receivers)
    return make_graph(senders, receivers, len(degrees))


def layout_of(graph: jraph.GraphsTuple) -> layouts.Layout:
    return layouts.make_layout(graph, "bucketed")


GRAPH = random_graph(0)
LAYOUT = layout_of(GRAPH)
SENDERS, RECEIVERS = GRAPH.senders, GRAPH.receivers
HAS_EDGES = np.array(DEGREES) > 0
SHAPES = {
    "c_nh": (NUM_NODES, HEADS),
    "n_nh": (NUM_NODES, HEADS),
    "z_nch": (NUM_NODES, CHANNELS, HEADS),
    "edge_scores_eh": (NUM_EDGES, HEADS),
    "multiplier_eh": (NUM_EDGES, HEADS),
}
BARE = ("c_nh", "n_nh", "z_nch")
V2_SHAPES = {
    "a_ch": (CHANNELS, HEADS),
    "r_nch": (NUM_NODES, CHANNELS, HEADS),
    "l_nch": (NUM_NODES, CHANNELS, HEADS),
    "edges_ech": (NUM_EDGES, CHANNELS, HEADS),
}
SUM_SHAPES = {
    "x_eh": (NUM_EDGES, HEADS),
    "z_nch": (NUM_NODES, CHANNELS, HEADS),
    "multiplier_eh": (NUM_EDGES, HEADS),
}
MASKS: dict[str, Any] = {
    "all": None,
    "some": np.random.default_rng(1).random((NUM_EDGES, HEADS)) > 0.3,
    "but a row": np.stack([RECEIVERS != 2, RECEIVERS != 7], axis=-1),
}


def draw(seed: int, shapes: dict[str, tuple[int, ...]], dtype: Any = np.float32) -> dict[str, Any]:
    """Float32 numbers in any dtype."""
    rng = np.random.default_rng(seed)
    return {
        name: jnp.asarray(rng.normal(size=shape).astype(np.float32), dtype)
        for name, shape in shapes.items()
    }


def draw_gat(seed: int, names=tuple(SHAPES), dtype: Any = np.float32) -> dict[str, Any]:
    inputs = draw(seed, SHAPES, dtype)
    return {name: inputs[name] for name in names}


def stack(*trees):
    return jax.tree.map(lambda *x: jnp.stack(x), *trees)


OUT_GRADIENT = draw(2, {"g": (NUM_NODES, CHANNELS, HEADS)})["g"]


def weigh(out):
    """A number that depends on all outputs."""
    return jnp.sum(out * OUT_GRADIENT[: len(out)].astype(out.dtype))


# --- the oracle -----------------------------------------------------------------------------------


def oracle_softmax_sum(x, z, d=None, mask=None, graph=GRAPH):
    """Dense in float64 or complex128: rows are receivers, columns edges."""
    is_edge_ne = graph.receivers == np.arange(len(z))[:, None]
    is_edge_neh = is_edge_ne[..., None] & (True if mask is None else mask)
    peak_nh = np.where(is_edge_neh, np.real(x), -np.inf).max(1)
    peak_nh = np.where(peak_nh > -np.inf, peak_nh, 0.0)
    is_real_eh = True if mask is None else mask
    weights_eh = np.exp(np.where(is_real_eh, x - peak_nh[graph.receivers], 0.0)) * is_real_eh
    total_nh = is_edge_ne @ weights_eh
    alpha_eh = weights_eh / np.where(total_nh == 0, 1.0, total_nh)[graph.receivers]
    weighted_ech = (alpha_eh * (1.0 if d is None else d))[:, None] * z[graph.senders]
    return (is_edge_ne @ weighted_ech.reshape(len(x), -1)).reshape(z.shape)


def oracle_gat(inputs, mask, slope, temperature, graph=GRAPH):
    logits = inputs["c_nh"][graph.receivers] + inputs["n_nh"][graph.senders]
    logits = logits + inputs.get("edge_scores_eh", 0.0)
    x = oracle.leaky_relu(logits, slope) / temperature
    return oracle_softmax_sum(x, inputs["z_nch"], inputs.get("multiplier_eh"), mask, graph)


def oracle_gatv2(inputs, slope):
    inner = inputs["r_nch"][RECEIVERS] + inputs["l_nch"][SENDERS] + inputs.get("edges_ech", 0.0)
    return (inputs["a_ch"] * oracle.leaky_relu(inner, slope)).sum(1)


def oracle_gradient(function, inputs):
    """Value, and gradients of the sum with OUT_GRADIENT by complex steps."""
    inputs = {name: np.asarray(value, np.float64) for name, value in inputs.items()}
    value = function(inputs)
    weights = np.asarray(OUT_GRADIENT, np.float64)[: len(value)]

    def total(arrays):
        return np.sum(weights * function(arrays))

    return value, oracle.complex_step_gradient(total, inputs)


# --- what is compiled -----------------------------------------------------------------------------


def gat_out(layout, inputs, mask, slope, temperature):
    settings = {"slope": slope, "temperature": temperature}
    return gat_logits.gat_sum(layout, **inputs, mask_eh=mask, **settings)


def gat_gradient(layout, inputs, mask, slope, temperature):
    """Out, and gradients with respect to inputs, slope and temperature."""

    def total(inputs, slope, temperature):
        out = gat_out(layout, inputs, mask, slope, temperature)
        return weigh(out), out

    arguments = (inputs, slope, temperature)
    gradient, out = jax.grad(total, argnums=(0, 1, 2), has_aux=True)(*arguments)
    return out, {**gradient[0], "slope": gradient[1], "temperature": gradient[2]}


@functools.partial(jax.jit, static_argnames=("slope", "temperature"))
def static(layout, inputs, mask, slope, temperature):
    def total(inputs):
        out = gat_out(layout, inputs, mask, slope, temperature)
        return weigh(out), out

    gradient, out = jax.grad(total, has_aux=True)(inputs)
    return out, gradient


traced = jax.jit(gat_gradient)
static_out = jax.jit(gat_out, static_argnames=("slope", "temperature"))
traced_out = jax.jit(gat_out)
mapped_out = jax.jit(
    lambda layout, x, *settings: jax.vmap(lambda x: gat_out(layout, x, *settings))(x),
    static_argnums=(3, 4),
)


def softmax_sum_total(layout, inputs, mask):
    out = attention.softmax_sum(layout, **inputs, mask_eh=mask)
    return weigh(out), out


@jax.jit
def softmax_sum(layout, inputs, mask):
    gradient, out = jax.grad(softmax_sum_total, argnums=1, has_aux=True)(layout, inputs, mask)
    return out, gradient


def gatv2_total(layout, inputs, slope):
    x_eh = gatv2_scores.scores(layout, **inputs, slope=slope)
    out = attention.softmax_sum(layout, x_eh, inputs["l_nch"])
    return weigh(out), (x_eh, out)


def gatv2_gradient(layout, inputs, slope):
    gradient, (x_eh, out) = jax.grad(gatv2_total, argnums=(1, 2), has_aux=True)(
        layout, inputs, slope
    )
    return x_eh, out, {**gradient[0], "slope": gradient[1]}


gatv2 = jax.jit(gatv2_gradient)


# --- values and gradients -------------------------------------------------------------------------


def assert_gradients_close(actual, expected, tolerance):
    """One by one to a fraction of the largest number in each."""
    assert set(actual) == set(expected)
    largest = max(np.abs(value).max() for value in expected.values())
    for name, value in expected.items():
        if np.ndim(value) == 0:  # a sum over all edges, whose terms may cancel
            np.testing.assert_allclose(actual[name], value, rtol=tolerance, atol=tolerance)
        elif np.abs(value).max() > 1e-9 * largest:
            assert_close(actual[name], value, tolerance)
        else:  # 0 but for the rounding of the oracle
            np.testing.assert_allclose(actual[name], 0.0, atol=tolerance * largest)


def check_gat(layer, inputs, mask, slope, tolerance, *, temperature=0.7):
    """Compare `static` or `traced` with the oracle."""
    out, gradient = layer(LAYOUT, inputs, mask, slope, temperature)
    settings = {"slope": slope, "temperature": temperature} if layer is traced else {}

    def reference(arrays):
        arrays = {"slope": slope, "temperature": temperature, **arrays}
        return oracle_gat(arrays, mask, arrays["slope"], arrays["temperature"])

    expected, expected_gradient = oracle_gradient(reference, {**inputs, **settings})
    assert out.dtype == inputs["c_nh"].dtype
    assert_close(out, expected, tolerance)
    assert_gradients_close(gradient, expected_gradient, tolerance)
    np.testing.assert_array_equal(np.asarray(out)[~HAS_EDGES], 0.0)


@pytest.mark.few(3)
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("slope", SLOPES)
def test_gat_with_traced_settings_agrees_with_the_oracle(slope, mask):
    check_gat(traced, draw_gat(3), MASKS[mask], slope, 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    "slope", [-0.5, 0.2, 1.0, *(pytest.param(s, marks=pytest.mark.slow) for s in (0.0, 2.0))]
)
def test_gat_with_static_settings_agrees_with_the_oracle(slope):
    for mask in ("some", "but a row"):
        check_gat(static, draw_gat(4), MASKS[mask], slope, 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("slope", [-0.5, 0.2])
def test_gat_of_nothing_but_scores_agrees_with_the_oracle(slope):
    check_gat(static, draw_gat(5, BARE), None, slope, 1e-5, temperature=1.0)


@pytest.mark.slow
def test_gat_with_edge_scores_alone_agrees_with_the_oracle():
    check_gat(static, draw_gat(6, (*BARE, "edge_scores_eh")), None, 0.2, 1e-5, temperature=2.0)


@pytest.mark.usefixtures("x64")
@pytest.mark.slow
def test_gat_agrees_with_the_oracle_in_float64():
    for slope in SLOPES:
        check_gat(traced, draw_gat(7, dtype=np.float64), MASKS["some"], slope, 1e-12)
    check_gat(static, draw_gat(7, BARE, np.float64), None, 0.2, 1e-12)


def check_softmax_sum(inputs, mask, tolerance):
    out, gradient = softmax_sum(LAYOUT, inputs, mask)

    def reference(arrays):
        return oracle_softmax_sum(
            arrays["x_eh"], arrays["z_nch"], arrays.get("multiplier_eh"), mask
        )

    expected, expected_gradient = oracle_gradient(reference, inputs)
    assert_close(out, expected, tolerance)
    assert_gradients_close(gradient, expected_gradient, tolerance)


@pytest.mark.few(1)
@pytest.mark.parametrize("mask", MASKS)
def test_softmax_sum_agrees_with_the_oracle(mask):
    inputs = draw(8, SUM_SHAPES)
    if mask == "all":
        del inputs["multiplier_eh"]
    check_softmax_sum(inputs, MASKS[mask], 1e-5)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_softmax_sum_agrees_with_the_oracle_in_float64():
    check_softmax_sum(draw(8, SUM_SHAPES, np.float64), MASKS["some"], 1e-12)


def check_gatv2(inputs, slope, tolerance):
    scores, out, gradient = gatv2(LAYOUT, inputs, slope)

    def reference(arrays):
        x = oracle_gatv2(arrays, arrays["slope"])
        return oracle_softmax_sum(x, arrays["l_nch"])

    expected, expected_gradient = oracle_gradient(reference, {**inputs, "slope": slope})
    arrays = {name: np.asarray(value, np.float64) for name, value in inputs.items()}
    assert_close(scores, oracle_gatv2(arrays, slope), tolerance)
    assert_close(out, expected, tolerance)
    assert_gradients_close(gradient, expected_gradient, tolerance)


@pytest.mark.few(3)
@pytest.mark.parametrize("slope", SLOPES)
@pytest.mark.parametrize("has_edges", [False, True], ids=["bare", "edge features"])
def test_gatv2_agrees_with_the_oracle(slope, has_edges):
    inputs = draw(9, V2_SHAPES)
    if not has_edges:
        del inputs["edges_ech"]
    check_gatv2(inputs, slope, 1e-5)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_gatv2_agrees_with_the_oracle_in_float64():
    for slope in (-0.5, 0.2):
        check_gatv2(draw(9, V2_SHAPES, np.float64), slope, 1e-12)


def test_linear_sum_is_linear_in_both():
    inputs = draw(11, {"w": (NUM_EDGES, HEADS), "z": (NUM_NODES, CHANNELS, HEADS)})

    def total(w, z):
        out = attention.linear_sum(LAYOUT, w, z)
        return weigh(out), out

    (dw, dz), out = jax.jit(jax.grad(total, argnums=(0, 1), has_aux=True))(*inputs.values())
    w, z, g = (np.asarray(x, np.float64) for x in (*inputs.values(), OUT_GRADIENT))
    expected, expected_dz = np.zeros_like(z), np.zeros_like(z)
    np.add.at(expected, RECEIVERS, w[:, None] * z[SENDERS])
    np.add.at(expected_dz, SENDERS, w[:, None] * g[RECEIVERS])
    assert_close(out, expected, 1e-6)
    assert_close(dw, (g[RECEIVERS] * z[SENDERS]).sum(1), 1e-6)
    assert_close(dz, expected_dz, 1e-6)


def test_gat_by_hand():
    # Two edges of logits -1 and 2 at slope 0.5: f = -0.5 and 2.
    layout = layout_of(make_graph([0, 1], [0, 0], 2))
    scores = jnp.array([[-1.0], [0.0]]), jnp.array([[0.0], [3.0]])
    inputs = dict(zip(BARE, (*scores, jnp.array([[[1.0]], [[0.0]]])), strict=True))
    out = traced_out(layout, inputs, None, 0.5, 1.0)
    odds = np.exp(-0.5 - 2.0)
    np.testing.assert_allclose(out[:, 0, 0], [odds / (1 + odds), 0.0], rtol=1e-6)


@pytest.mark.slow
def test_gat_on_a_large_star():
    """A hub of 1e5 leaves, both ways: a leaf's output is the hub's value."""
    num_leaves = 100_000
    leaves, hub = np.arange(1, num_leaves + 1, dtype=np.int32), np.zeros(num_leaves, np.int32)
    star = jraph.GraphsTuple(
        nodes=np.zeros((num_leaves + 1, 1), np.float32),
        edges=None,
        senders=np.concatenate([leaves, hub]),
        receivers=np.concatenate([hub, leaves]),
        globals=None,
        n_node=np.array([num_leaves + 1]),
        n_edge=np.array([2 * num_leaves]),
    )
    num_nodes = num_leaves + 1
    shapes = {"c_nh": (num_nodes, 1), "n_nh": (num_nodes, 1), "z_nch": (num_nodes, 2, 1)}
    inputs = draw(12, shapes)
    g_nch = draw(13, shapes)["z_nch"].at[0].multiply(num_leaves)  # so that leaves get gradients

    @jax.jit
    def layer(layout, inputs, g_nch):
        def total(inputs):
            out = gat_logits.gat_sum(layout, **inputs)
            return jnp.sum(out * g_nch), out

        return jax.grad(total, has_aux=True)(inputs)

    gradient, out = layer(layout_of(star), inputs, g_nch)
    c, n, z, g = (np.asarray(x, np.float64)[..., 0] for x in (*inputs.values(), g_nch))
    logits = c[0] + n[1:]
    alpha = np.exp(oracle.leaky_relu(logits, 0.2))
    alpha /= alpha.sum()
    expected = np.concatenate([(alpha @ z[1:])[None], np.broadcast_to(z[0], (num_leaves, 2))])
    assert_close(out[..., 0], expected, 1e-5)
    dot = z[1:] @ g[0]
    dt = alpha * (dot - alpha @ dot) * np.where(logits >= 0, 1.0, 0.2)
    dz = np.concatenate([g[1:].sum(0)[None], alpha[:, None] * g[0]])
    assert_close(gradient["z_nch"][..., 0], dz, 1e-5)
    assert_close(gradient["n_nh"][1:, 0], dt, 1e-5)
    np.testing.assert_allclose(gradient["c_nh"][0, 0], dt.sum(), rtol=1e-5)
    np.testing.assert_array_equal(gradient["c_nh"][1:], 0.0)
    np.testing.assert_allclose(gradient["n_nh"][0], 0.0, atol=1e-2)  # 1e5 rows of one edge


# --- extremes, exact zeros and bits ---------------------------------------------------------------


@pytest.mark.parametrize("scale", [200.0, 1e4])
def test_all_is_finite_at_large_scores(scale):
    is_real = np.ones((NUM_EDGES, HEADS), bool)
    for seed, mask in enumerate((is_real, MASKS["some"], MASKS["but a row"], ~is_real)):
        inputs = draw_gat(14 + seed)
        scores = ("c_nh", "n_nh", "edge_scores_eh")
        inputs |= {name: scale * inputs[name] for name in scores}
        for slope in SLOPES:
            out, gradient = traced(LAYOUT, inputs, mask, slope, 1.0)
            chex.assert_tree_all_finite((out, gradient))
            is_row = np.zeros((NUM_NODES, HEADS), bool)
            for h in range(HEADS):
                is_row[RECEIVERS[mask[:, h]], h] = True
            assert ((np.abs(out).max(1) > 0) == is_row).all()
        sums = draw(18, SUM_SHAPES)
        sums["x_eh"] *= scale
        chex.assert_tree_all_finite(softmax_sum(LAYOUT, sums, mask))


@pytest.mark.parametrize("sign", [1.0, -1.0], ids=["positive", "negative"])
def test_gat_in_a_regime_is_the_same_however_far_the_receivers_are(sign):
    inputs = draw_gat(19)
    near, far = (
        static(LAYOUT, inputs | {"c_nh": sign * c + inputs["c_nh"]}, MASKS["some"], 0.2, 0.7)
        for c in (1e2, 1e5)
    )
    np.testing.assert_array_equal(far[0], near[0])
    chex.assert_trees_all_equal(far[1], near[1])
    np.testing.assert_array_equal(far[1]["c_nh"], np.zeros((NUM_NODES, HEADS)))


@pytest.mark.parametrize("sign", [1.0, -1.0], ids=["positive", "negative"])
def test_gat_settings_have_gradients_to_rounding_however_far_the_receivers_are(sign):
    # The receiver's score cancels in their sums as well, where it must leave no rounding.
    inputs, mask = draw_gat(60), MASKS["some"]
    inputs["c_nh"] += sign * 1e4
    _, gradient = traced(LAYOUT, inputs, mask, 0.2, 0.7)

    fixed = {name: np.asarray(value, np.float64) for name, value in inputs.items()}

    def reference(arrays):
        return oracle_gat(fixed, mask, arrays["slope"], arrays["temperature"])

    _, expected = oracle_gradient(reference, {"slope": 0.2, "temperature": 0.7})
    for name, value in expected.items():
        assert_close(gradient[name], value, 1e-5)


@pytest.mark.parametrize(
    ("layer", "mask", "slopes"),
    [(static, "some", (0.2,)), *((traced, mask, (0.0, 0.2, 2.0)) for mask in ("some", "all"))],
    ids=["static", "traced", "traced without mask"],
)
def test_gat_gives_c_a_gradient_in_rows_of_both_signs_alone(layer, mask, slopes):
    inputs = draw_gat(20)
    shift = np.array([0, 0, 1, -1, 1, -1, 1, -1, 0, 0, 0, 1, -1], np.float32)[:, None]
    inputs["c_nh"] += 10 * shift
    logits = np.asarray(inputs["c_nh"][RECEIVERS] + inputs["n_nh"][SENDERS])
    logits = logits + inputs["edge_scores_eh"]
    is_real = np.ones_like(logits, bool) if mask == "all" else MASKS[mask]
    has_sign = np.zeros((2, NUM_NODES, HEADS), bool)
    for e, i in enumerate(RECEIVERS):
        for h in range(HEADS):
            has_sign[int(logits[e, h] >= 0), i, h] |= is_real[e, h]
    is_mixed = has_sign.all(0)
    assert is_mixed.any()
    assert not is_mixed[np.abs(shift[:, 0]) == 1].any()
    for slope in slopes:
        _, gradient = layer(LAYOUT, inputs, MASKS[mask], slope, 0.7)
        np.testing.assert_array_equal(np.asarray(gradient["c_nh"]) != 0, is_mixed)


@pytest.mark.few(1)
@pytest.mark.parametrize(
    ("layer", "slope"),
    [(static, 0.2), (traced, 0.2), (traced, 0.0)],
    ids=["static", "traced", "traced 0"],
)
def test_gat_gives_c_a_gradient_to_rounding_at_large_logits(layer, slope):
    # Negative logits have hardly any attention there: the gradient is far below the rounding of
    # what positive ones add up to.
    inputs = draw_gat(61)
    inputs |= {name: 12 * inputs[name] for name in ("c_nh", "n_nh", "edge_scores_eh")}
    _, gradient = layer(LAYOUT, inputs, None, slope, 1.0)
    fixed = {name: np.asarray(value, np.float64) for name, value in inputs.items()}

    def reference(arrays):
        return oracle_gat(fixed | arrays, None, slope, 1.0)

    _, expected = oracle_gradient(reference, {"c_nh": fixed["c_nh"]})
    size = np.abs(expected["c_nh"])
    assert np.sum((size > 1e-14) & (size < 1e-8)) > 3
    np.testing.assert_allclose(gradient["c_nh"], expected["c_nh"], rtol=1e-2, atol=1e-15)


@pytest.mark.parametrize("layer", [static, traced], ids=["static", "traced"])
def test_gat_at_slope_1_drops_the_receiver(layer):
    inputs = draw_gat(21)
    out, gradient = layer(LAYOUT, inputs, MASKS["some"], 1.0, 0.7)
    without = inputs | {"c_nh": jnp.zeros_like(inputs["c_nh"])}
    expected, expected_gradient = layer(LAYOUT, without, MASKS["some"], 1.0, 0.7)
    np.testing.assert_array_equal(out, expected)
    np.testing.assert_array_equal(gradient["c_nh"], np.zeros((NUM_NODES, HEADS)))
    for name in ("n_nh", "z_nch", "edge_scores_eh", "multiplier_eh", "temperature"):
        if name in gradient:
            assert_close(gradient[name], expected_gradient[name], 1e-5)


TWIN_DEGREES = (2, 3, 6, 11, 16, 17, 40, 70)
NUM_TWINS = 7


def twin_graph() -> jraph.GraphsTuple:
    """Classes of seven receivers each, far apart in the edge list, before 20 nodes that send."""
    rng = np.random.default_rng(22)
    first = len(TWIN_DEGREES) * NUM_TWINS
    senders, receivers = [], []
    for k, degree in enumerate(TWIN_DEGREES):
        support = first + rng.integers(20, size=degree)  # parallel edges count
        for twin in range(NUM_TWINS):
            senders.append(support)
            receivers.append(np.full(degree, twin * len(TWIN_DEGREES) + k))
    return make_graph(np.concatenate(senders), np.concatenate(receivers), first + 20)


TWIN_GRAPH = twin_graph()


def twin_inputs(seed: int, sign: float) -> dict[str, Any]:
    num_nodes = len(TWIN_GRAPH.nodes)
    shapes = {name: (num_nodes, *SHAPES[name][1:]) for name in BARE}
    inputs = draw(seed, shapes)
    return inputs | {"c_nh": sign * 10.0 + inputs["c_nh"]}


def assert_twins_are_equal(out) -> None:
    rows = np.asarray(out)[: len(TWIN_DEGREES) * NUM_TWINS]
    rows = rows.reshape(NUM_TWINS, len(TWIN_DEGREES), *rows.shape[1:])
    np.testing.assert_array_equal(rows, np.broadcast_to(rows[:1], rows.shape))
    assert len(np.unique(rows[0], axis=0)) == len(TWIN_DEGREES)


@pytest.mark.few(1)
@pytest.mark.parametrize("sign", [1.0, -1.0], ids=["positive", "negative"])
def test_gat_twins_in_a_regime_are_equal_to_the_last_bit(sign):
    layout = layout_of(TWIN_GRAPH)
    inputs = [twin_inputs(seed, sign) for seed in range(3)]
    for lane in inputs:
        assert_twins_are_equal(static_out(layout, lane, None, 0.2, 0.7))
        for slope in (0.2, 2.0):
            assert_twins_are_equal(traced_out(layout, lane, None, slope, 0.7))
    for out in mapped_out(layout, stack(*inputs), None, 0.2, 0.7):
        assert_twins_are_equal(out)


@pytest.mark.slow
def test_gat_twins_in_a_regime_are_equal_without_jit():
    for sign in (1.0, -1.0):
        out = gat_out(layout_of(TWIN_GRAPH), twin_inputs(0, sign), None, 0.2, 1.0)
        assert_twins_are_equal(out)


@pytest.mark.parametrize("sign", [1.0, -1.0], ids=["positive", "negative"])
def test_gat_twins_in_a_regime_have_no_difference_in_the_program_of_a_caller(sign):
    # A product that is contracted with the difference would leave its rounding.
    for seed in range(3):
        gaps = twin_gaps(layout_of(TWIN_GRAPH), twin_inputs(seed, sign))
        np.testing.assert_array_equal(gaps, np.zeros_like(gaps))


@jax.jit
def twin_gaps(layout, inputs):
    rows = gat_out(layout, inputs, None, 0.2, 0.7)[: len(TWIN_DEGREES) * NUM_TWINS]
    return rows[len(TWIN_DEGREES) :] - rows[: -len(TWIN_DEGREES)]


def test_gat_twins_of_both_signs_differ():
    out = static_out(layout_of(TWIN_GRAPH), twin_inputs(0, 0.0), None, 0.2, 0.7)
    assert len(np.unique(np.asarray(out[:, :, 0]), axis=0)) > 4 * len(TWIN_DEGREES)


@pytest.mark.parametrize(
    ("layer", "slopes"),
    [(static_out, (0.2,)), (traced_out, (0.0, 0.2, 2.0))],
    ids=["static", "traced"],
)
def test_gat_on_the_boundary_belongs_to_both_regimes(layer, slopes):
    # Rows whose least or largest logit is exactly 0, beside one deep inside the same regime.
    num_supports, support = 30, np.arange(4 * 30, 4 * 30 + 5)
    receivers = np.repeat(np.arange(4 * num_supports), 5)
    senders = support + 5 * (np.arange(4 * num_supports)[:, None] % num_supports)
    num_nodes = 9 * num_supports
    layout = layout_of(make_graph(senders.reshape(-1), receivers, num_nodes))
    inputs = draw(30, {name: (num_nodes, *SHAPES[name][1:]) for name in BARE})
    n_nh = inputs["n_nh"][4 * num_supports :].reshape(num_supports, 5, HEADS)
    far = jnp.full((num_supports, HEADS), 10.0)
    c_nh = [-n_nh.min(1), far, -n_nh.max(1), -far, jnp.zeros((5 * num_supports, HEADS))]
    inputs["c_nh"] = jnp.concatenate(c_nh)
    for slope in slopes:
        out = np.asarray(layer(layout, inputs, None, slope, 1.0))[: 4 * num_supports]
        least, positive, largest, negative = np.split(out, 4)
        np.testing.assert_array_equal(least, positive)
        np.testing.assert_array_equal(largest, negative)
        assert (least != largest).any(1).all()


@pytest.mark.few(2)
@pytest.mark.parametrize("slope", [0.2, 2.0])
@pytest.mark.parametrize("layer", [static, traced], ids=["static", "traced"])
@pytest.mark.parametrize("start", ["all logits 0", "largest logit 0", "least logit 0"])
def test_gat_has_the_gradients_of_the_edge_list_where_logits_are_0(layer, slope, start):
    """As a layer has them whose attention starts at zero: they must not depend on the layout."""
    inputs = draw_gat(31, BARE)
    if start == "all logits 0":
        inputs |= {name: jnp.zeros_like(inputs[name]) for name in ("c_nh", "n_nh")}
    else:
        extreme = np.maximum if start == "largest logit 0" else np.minimum
        fill = -np.inf if start == "largest logit 0" else np.inf
        at_rows = np.full((NUM_NODES, HEADS), fill, np.float32)
        extreme.at(at_rows, RECEIVERS, np.asarray(inputs["n_nh"])[SENDERS])
        inputs["c_nh"] = jnp.where(np.isfinite(at_rows), -at_rows, 0.0)
    of_tables, of_list = (
        layer(layout, inputs, None, slope, 0.7)
        for layout in (LAYOUT, layouts.segment_layout(GRAPH))
    )
    assert_close(of_tables[0], of_list[0], 2e-6)
    assert_gradients_close(of_tables[1], of_list[1], 1e-5)
    np.testing.assert_array_equal(of_tables[1]["c_nh"], np.zeros((NUM_NODES, HEADS)))


def test_gat_is_the_same_from_run_to_run():
    inputs = draw_gat(23)
    first = traced(LAYOUT, inputs, MASKS["some"], 0.2, 0.7)
    for _ in range(5):
        chex.assert_trees_all_equal(traced(LAYOUT, inputs, MASKS["some"], 0.2, 0.7), first)
    rebuilt = layout_of(random_graph(0))
    assert rebuilt is not LAYOUT
    chex.assert_trees_all_equal(traced(rebuilt, inputs, MASKS["some"], 0.2, 0.7), first)


@pytest.mark.slow
@pytest.mark.parametrize("degrees", [DEGREES, (3, 9, 100, 300)], ids=["alike", "other chunks"])
def test_gat_does_not_depend_on_an_unrelated_component(degrees):
    num_others = len(degrees)
    others = np.repeat(np.arange(num_others), degrees)
    senders = np.random.default_rng(24).integers(num_others, size=len(others))
    both = make_graph(
        np.concatenate([SENDERS, NUM_NODES + senders]),
        np.concatenate([RECEIVERS, NUM_NODES + others]),
        NUM_NODES + num_others,
    )
    inputs = draw_gat(25, BARE)
    shapes = {name: (num_others, *SHAPES[name][1:]) for name in BARE}
    joined = jax.tree.map(lambda x, y: jnp.concatenate([x, y]), inputs, draw(26, shapes))
    expected = static_out(LAYOUT, inputs, None, 0.2, 1.0)
    actual = static_out(layout_of(both), joined, None, 0.2, 1.0)[:NUM_NODES]
    if degrees == DEGREES:
        np.testing.assert_array_equal(actual, expected)
    assert_close(actual, expected, 1e-6)


@pytest.mark.parametrize("number", [1e30, -1e30, np.nan])
def test_gat_does_not_see_masked_edges(number):
    inputs, mask = draw_gat(27), MASKS["some"]
    spoilt = inputs | {"edge_scores_eh": jnp.where(mask, inputs["edge_scores_eh"], number)}
    out, gradient = static(LAYOUT, spoilt, mask, 0.2, 0.7)
    expected, expected_gradient = static(LAYOUT, inputs, mask, 0.2, 0.7)
    np.testing.assert_array_equal(out, expected)
    chex.assert_trees_all_equal(gradient, expected_gradient)


def test_gat_is_equivariant_under_a_permutation():
    order = np.random.default_rng(28).permutation(NUM_NODES)  # new[order[i]] = old[i]
    graph = make_graph(order[SENDERS], order[RECEIVERS], NUM_NODES)
    inputs = draw_gat(29, BARE)
    permuted = jax.tree.map(lambda x: x[np.argsort(order)], inputs)
    expected, _ = static(LAYOUT, inputs, None, 0.2, 1.0)
    actual, _ = static(layout_of(graph), permuted, None, 0.2, 1.0)
    assert_close(actual[order], expected, 1e-6)


# --- transformations ------------------------------------------------------------------------------

LANES = 3
SMALL_DEGREES = (6, 3, 1, 0, 2, 4, 0, 1)  # two widths: it compiles quickly
SMALL = random_graph(0, SMALL_DEGREES)
SMALL_LAYOUT = layout_of(SMALL)


def draw_small(seed: int, names=tuple(SHAPES)) -> dict[str, Any]:
    sizes = {NUM_NODES: len(SMALL.nodes), NUM_EDGES: len(SMALL.senders)}
    shapes = {name: (sizes[SHAPES[name][0]], *SHAPES[name][1:]) for name in names}
    return draw(seed, shapes)


SMALL_V2 = {
    "a_ch": (CHANNELS, HEADS),
    "r_nch": (len(SMALL.nodes), CHANNELS, HEADS),
    "l_nch": (len(SMALL.nodes), CHANNELS, HEADS),
    "edges_ech": (len(SMALL.senders), CHANNELS, HEADS),
}


def small_mask(seed: int):
    return jnp.asarray(np.random.default_rng(seed).random((len(SMALL.senders), HEADS)) > 0.3)


@functools.cache
def lanes() -> tuple[list[Any], Any]:
    """Three settings of everything but the layout, and their stack."""
    settings = [
        (draw_small(30 + k), small_mask(k), jnp.float32(slope), jnp.float32(temperature))
        for k, (slope, temperature) in enumerate([(0.2, 0.7), (-0.5, 1.0), (1.5, 2.0)])
    ]
    return settings, stack(*settings)


@functools.cache
def loop():
    """Outputs and gradients of the lanes, one by one."""
    return stack(*(traced(SMALL_LAYOUT, *settings) for settings in lanes()[0]))


def assert_trees_close(actual, expected, tolerance=2e-6):
    chex.assert_trees_all_equal_structs(actual, expected)
    for x, y in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert_close(x, y, tolerance)


@pytest.mark.slow
def test_vmap_of_gradients_is_a_loop():
    mapped = jax.jit(jax.vmap(gat_gradient, in_axes=(None, 0, 0, 0, 0)))
    assert_trees_close(mapped(SMALL_LAYOUT, *lanes()[1]), loop())


def test_vmap_folds_lanes_into_heads():
    inputs = stack(*(draw_small(k, BARE) for k in range(LANES)))
    mapped = jax.vmap(lambda x: gat_out(SMALL_LAYOUT, x, None, 0.2, 1.0))
    jaxpr = str(jax.make_jaxpr(mapped)(inputs))
    assert re.findall(r"f32(\[\S*\]) = exp", jaxpr) == [f"[{len(SMALL.senders)},{LANES * HEADS}]"]


@pytest.mark.slow
def test_nested_vmap_is_a_loop():
    inner = jax.vmap(gat_out, in_axes=(None, 0, 0, 0, 0))
    outer = jax.jit(jax.vmap(inner, in_axes=(None, 0, None, None, None)))
    inputs, *settings = lanes()[1]
    twice = stack(inputs, jax.tree.map(lambda x: 0.5 * x, inputs))
    out = outer(SMALL_LAYOUT, twice, *settings)
    assert_close(out[0], loop()[0], 2e-6)
    for lane, (inputs, *settings) in enumerate(lanes()[0]):
        halved = jax.tree.map(lambda x: 0.5 * x, inputs)
        assert_close(out[1, lane], traced_out(SMALL_LAYOUT, halved, *settings), 2e-6)


@pytest.mark.slow
def test_vmap_with_unmapped_inputs_is_a_loop():
    # c and the slope alone are mapped; the gradients of the others are one per lane as well.
    inputs, mask, _, temperature = lanes()[0][0]
    c_rnh, slopes = lanes()[1][0]["c_nh"], lanes()[1][2]
    axes = {name: 0 if name == "c_nh" else None for name in inputs}
    mapped = jax.jit(jax.vmap(gat_gradient, in_axes=(None, axes, None, 0, None)))
    actual = mapped(SMALL_LAYOUT, inputs | {"c_nh": c_rnh}, mask, slopes, temperature)
    expected = [
        traced(SMALL_LAYOUT, inputs | {"c_nh": c_nh}, mask, slope, temperature)
        for c_nh, slope in zip(c_rnh, slopes, strict=True)
    ]
    assert_trees_close(actual, stack(*expected))


@pytest.mark.slow
def test_gradient_of_a_vmap_is_a_loop():
    # With values that all lanes share: their gradient is the sum over lanes.
    inputs, *settings = lanes()[1]
    z_nch = inputs["z_nch"][0]
    axes = {name: None if name == "z_nch" else 0 for name in inputs}

    @jax.jit
    @jax.grad
    def gradient(inputs):
        outs = jax.vmap(gat_out, in_axes=(None, axes, 0, 0, 0))(SMALL_LAYOUT, inputs, *settings)
        return jnp.sum(jax.vmap(weigh)(outs))

    actual = gradient(inputs | {"z_nch": z_nch})
    expected = stack(
        *(traced(SMALL_LAYOUT, x | {"z_nch": z_nch}, *rest)[1] for x, *rest in lanes()[0])
    )
    assert_close(actual["z_nch"], expected["z_nch"].sum(0), 2e-6)
    for name in ("c_nh", "n_nh", "edge_scores_eh", "multiplier_eh"):
        assert_close(actual[name], expected[name], 2e-6)


@pytest.mark.slow
def test_vmap_over_graphs_is_a_loop():
    # Graphs of equal degrees have layouts of equal shapes.
    graphs_of = [layout_of(random_graph(seed, SMALL_DEGREES)) for seed in range(LANES)]
    mapped = jax.jit(jax.vmap(gat_gradient))
    actual = mapped(stack(*graphs_of), *lanes()[1])
    expected = [
        traced(layout, *settings) for layout, settings in zip(graphs_of, lanes()[0], strict=True)
    ]
    assert_trees_close(actual, stack(*expected))


@pytest.mark.slow
def test_vmap_of_gatv2_is_a_loop():
    inputs = [draw(40 + k, SMALL_V2) for k in range(LANES)]
    slopes = jnp.array([0.2, -0.5, 1.5])
    mapped = jax.jit(jax.vmap(gatv2_gradient, in_axes=(None, 0, 0)))
    expected = [gatv2(SMALL_LAYOUT, x, slope) for x, slope in zip(inputs, slopes, strict=True)]
    assert_trees_close(mapped(SMALL_LAYOUT, stack(*inputs), slopes), stack(*expected), 5e-6)


def test_gat_inside_a_scan():
    # Gradient descent on c, step by step and as one loop.
    inputs, *settings = lanes()[0][0]

    def step(c_nh, _):
        out, gradient = gat_gradient(SMALL_LAYOUT, inputs | {"c_nh": c_nh}, *settings)
        return c_nh - 0.1 * gradient["c_nh"], out

    last, outs = jax.jit(lambda c: jax.lax.scan(step, c, length=3))(inputs["c_nh"])
    c_nh = inputs["c_nh"]
    for k in range(3):
        out, gradient = traced(SMALL_LAYOUT, inputs | {"c_nh": c_nh}, *settings)
        assert_close(outs[k], out, 2e-6)
        c_nh = c_nh - 0.1 * gradient["c_nh"]
    assert_close(last, c_nh, 2e-6)


@pytest.mark.slow
def test_gradient_through_a_scan():
    inputs, *settings = lanes()[0][0]

    def step(z_nch, _):
        return gat_out(SMALL_LAYOUT, inputs | {"z_nch": z_nch}, *settings), None

    def total(z_nch):
        return weigh(jax.lax.scan(step, z_nch, length=2)[0])

    def reference(arrays):
        for _ in range(2):
            z = oracle_gat({**fixed, **arrays}, np.asarray(settings[0]), 0.2, 0.7, SMALL)
            arrays = {"z_nch": z}
        return arrays["z_nch"]

    fixed = {name: np.asarray(value, np.float64) for name, value in inputs.items()}
    _, expected = oracle_gradient(reference, {"z_nch": inputs["z_nch"]})
    assert_close(jax.jit(jax.grad(total))(inputs["z_nch"]), expected["z_nch"], 1e-5)


@pytest.mark.slow
def test_gat_under_checkpoint():
    inputs, *settings = lanes()[0][0]

    @jax.jit
    def gradient(layout, inputs):
        layer = jax.checkpoint(lambda inputs: gat_out(layout, inputs, *settings))
        return jax.grad(lambda inputs: weigh(layer(inputs)))(inputs)

    expected = traced(SMALL_LAYOUT, inputs, *settings)[1]
    for name, value in gradient(SMALL_LAYOUT, inputs).items():
        assert_close(value, expected[name], 2e-6)


@pytest.mark.slow
def test_two_layouts_in_one_program():
    other = layout_of(
        make_graph(SMALL.receivers, SMALL.senders, len(SMALL.nodes))
    )  # all edges turned round
    inputs = draw_small(50, BARE)

    @jax.jit
    def gradient(inputs):
        def total(inputs):
            z_nch = gat_out(other, inputs, None, 0.2, 1.0)
            out = gat_out(SMALL_LAYOUT, inputs | {"z_nch": z_nch}, None, 0.2, 1.0)
            return weigh(out), out

        return jax.grad(total, has_aux=True)(inputs)

    def reference(arrays):
        turned = SMALL._replace(senders=other.senders, receivers=other.receivers)
        z = oracle_gat(arrays, None, 0.2, 1.0, turned)
        return oracle_gat(arrays | {"z_nch": z}, None, 0.2, 1.0, SMALL)

    actual, out = gradient(inputs)
    expected, expected_gradient = oracle_gradient(reference, inputs)
    assert_close(out, expected, 1e-5)
    assert_gradients_close(actual, expected_gradient, 1e-5)


def test_gat_traces_once_for_all_settings_and_graphs_of_equal_degrees():
    once = jax.jit(chex.assert_max_traces(gat_out, n=1))
    for seed, slope in enumerate(SLOPES):
        layout = layout_of(random_graph(seed, SMALL_DEGREES))
        once(layout, draw_small(seed), small_mask(seed), slope, 1.0 + seed)


def test_forward_mode_is_refused():
    # A gradient of one's own has no forward mode.
    inputs, v2 = draw_small(51, BARE), draw(51, SMALL_V2)
    e_eh = draw_small(52)["edge_scores_eh"]
    for function, x in (
        (lambda c: gat_out(SMALL_LAYOUT, inputs | {"c_nh": c}, None, 0.2, 1.0), inputs["c_nh"]),
        (lambda x: attention.softmax_sum(SMALL_LAYOUT, x, inputs["z_nch"]), e_eh),
        (lambda w: attention.linear_sum(SMALL_LAYOUT, w, inputs["z_nch"]), e_eh),
        (lambda a: gatv2_scores.scores(SMALL_LAYOUT, **(v2 | {"a_ch": a})), v2["a_ch"]),
    ):
        with pytest.raises(TypeError, match="forward-mode"):
            jax.make_jaxpr(jax.jacfwd(function))(x)


@pytest.mark.parametrize("name", ["bucketed", "fused"])
def test_second_derivatives_are_refused_in_words(name):
    layout, inputs = layouts.make_layout(SMALL, name), draw_small(53, BARE)

    def total(n_nh):
        x_eh = gat_logits.shifted_logits(layout, inputs["c_nh"], n_nh)
        return jnp.sum(attention.softmax_sum(layout, x_eh, inputs["z_nch"]) ** 2)

    for twice in (jax.hessian(total), jax.grad(lambda n: jnp.sum(jax.grad(total)(n) ** 2))):
        with pytest.raises(NotImplementedError, match="expected layout 'segment'"):
            jax.make_jaxpr(twice)(inputs["n_nh"])
