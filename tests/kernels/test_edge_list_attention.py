"""Attention over the edge list, the reference, at the places where others break."""

import chex
import jax
import jax.numpy as jnp
import jraph
import numpy as np
import oracle
import pytest
from helpers import SLOPES, assert_close, messy_graph
from jaxtyping import TypeCheckError

from gat_jax.kernels import Layout, attention, gat_logits, leaky_relu, segment_layout

NUM_NODES, NUM_EDGES = 8, 16
GRAPH = messy_graph(0)
RECEIVERS = GRAPH.receivers
MASK = np.arange(NUM_EDGES) % 3 > 0


def edges_into(receivers, num_nodes: int) -> Layout:
    """Edges of senders that have one edge each: what a sender has is the edge's own."""
    return Layout(np.arange(len(receivers)), receivers, None, None, num_nodes, len(receivers))


def segment_softmax(logits, receivers, num_nodes, *, mask=None):
    mask_eh = attention.mask_by_head(mask, logits.shape[-1])
    return attention.softmax(edges_into(receivers, num_nodes), logits, mask_eh)


def gat_attention(c_nh, t_eh, receivers, *, slope, temperature=1.0, mask=None):
    """Logits and attention of scores c of the receivers and t of the edges."""
    layout, mask_eh = edges_into(receivers, len(c_nh)), attention.mask_by_head(mask, t_eh.shape[1])
    settings = {"slope": slope, "temperature": temperature, "mask_eh": mask_eh}
    x_eh = gat_logits.shifted_logits(layout, c_nh, t_eh, **settings)
    return gat_logits.raw_logits(layout, c_nh, t_eh), attention.softmax(layout, x_eh, mask_eh)


softmax = jax.jit(segment_softmax, static_argnums=2)
attend = jax.jit(gat_attention)
attend_static = jax.jit(gat_attention, static_argnames="slope")


@jax.jit
def gradient_of_weighted_sum(c_nh, t_eh, slope, mask, weights_eh):
    def total(c_nh, t_eh, slope, temperature):
        settings = {"slope": slope, "temperature": temperature}
        alpha_eh = gat_attention(c_nh, t_eh, RECEIVERS, mask=mask, **settings)[1]
        return jnp.sum(weights_eh * alpha_eh)

    return jax.grad(total, argnums=(0, 1, 2, 3))(c_nh, t_eh, slope, 1.0)


def draw_scores(seed, *, scale=1.0, heads=2):
    rng = np.random.default_rng(seed)
    c_nh, t_eh = rng.normal(size=(NUM_NODES, heads)), rng.normal(size=(NUM_EDGES, heads))
    return jnp.asarray(scale * c_nh, jnp.float32), jnp.asarray(scale * t_eh, jnp.float32)


def dense_softmax(logits, receivers, mask=None):
    """Float64, row by row, over the edges that are not masked."""
    logits = np.asarray(logits, np.float64)
    weights = np.zeros_like(logits)
    for i in set(receivers.tolist()):
        edges = np.flatnonzero((receivers == i) & (True if mask is None else mask))
        if len(edges) > 0:
            exp = np.exp(logits[edges] - logits[edges].max(0))
            weights[edges] = exp / exp.sum(0)
    return weights


def test_annotations_are_checked_in_this_suite():
    with pytest.raises(TypeCheckError):
        attention.softmax(edges_into(np.zeros(3, int), 1), jnp.ones(3))


@pytest.mark.parametrize("slope", SLOPES)
def test_leaky_relu_by_hand(slope):
    x = jnp.array([-2.0, -0.0, 0.0, 3.0])
    expected = np.array([-2.0 * slope, 0.0, 0.0, 3.0], np.float32)
    np.testing.assert_array_equal(leaky_relu(x, slope), expected)


@pytest.mark.parametrize("mask", [None, MASK, RECEIVERS != 2], ids=["none", "some", "a row"])
def test_segment_softmax_agrees_with_a_dense_one(mask):
    logits = draw_scores(0)[1]
    actual = softmax(logits, RECEIVERS, NUM_NODES, mask=mask)
    np.testing.assert_allclose(actual, dense_softmax(logits, RECEIVERS, mask), atol=3e-7)


def test_segment_softmax_masks_what_jraph_turns_into_nan():
    logits = jnp.full((3, 1), -jnp.inf).at[2].set(1.0)
    receivers = jnp.array([0, 0, 1])
    assert np.isnan(jraph.segment_softmax(logits, receivers, 2)).any()
    actual = softmax(jnp.ones((3, 1)), receivers, 2, mask=jnp.array([False, False, True]))
    np.testing.assert_array_equal(actual, [[0.0], [0.0], [1.0]])


def test_segment_softmax_subtracts_each_segments_own_maximum():
    logits = jnp.array([[200.0], [199.0], [-200.0], [-201.0]])
    receivers = jnp.array([0, 0, 1, 1])
    expected = dense_softmax(logits, np.asarray(receivers))
    for mask in (None, jnp.ones(4, bool)):
        np.testing.assert_allclose(softmax(logits, receivers, 2, mask=mask), expected, rtol=1e-6)


def test_segment_softmax_accumulates_bfloat16_in_float32():
    logits = jnp.zeros((400, 1), jnp.bfloat16)  # a sum in bfloat16 stalls at 256
    weights = softmax(logits, jnp.zeros(400, int), 1)
    assert weights.dtype == jnp.float32
    np.testing.assert_allclose(weights, 1 / 400, rtol=1e-6)


@pytest.mark.few(4)
@pytest.mark.parametrize("is_traced", [False, True], ids=["static", "traced"])
@pytest.mark.parametrize("slope", SLOPES)
@pytest.mark.parametrize("mask", [None, MASK], ids=["all", "masked"])
def test_gat_attention_agrees_with_a_dense_softmax(slope, mask, is_traced):
    c_nh, t_eh = draw_scores(1)
    layer = attend if is_traced else attend_static
    logits, actual = layer(c_nh, t_eh, RECEIVERS, slope=slope, temperature=0.7, mask=mask)
    np.testing.assert_array_equal(logits, c_nh[RECEIVERS] + t_eh)
    f = oracle.leaky_relu(np.asarray(logits, np.float64), slope) / 0.7
    np.testing.assert_allclose(actual, dense_softmax(f, RECEIVERS, mask), atol=5e-7)


def test_gat_attention_is_jraphs_softmax_to_rounding():
    c_nh, t_eh = draw_scores(2)
    logits, actual = attend(c_nh, t_eh, RECEIVERS, slope=0.2)
    reference = jraph.segment_softmax(leaky_relu(logits, 0.2), RECEIVERS, NUM_NODES)
    np.testing.assert_allclose(actual, reference, atol=3e-7)


def test_gat_attention_by_hand():
    c_nh, t_eh = jnp.array([[-1.0]]), jnp.array([[0.0], [3.0]])
    _, alpha = attend(c_nh, t_eh, jnp.array([0, 0]), slope=0.5)
    odds = np.exp(-0.5 - 2.0)  # f(-1) = -0.5, f(2) = 2
    np.testing.assert_allclose(alpha[:, 0], [odds / (1 + odds), 1 / (1 + odds)], rtol=1e-6)


@pytest.mark.parametrize("slope", SLOPES)
@pytest.mark.parametrize("scale", [200.0, 1e4])
def test_gat_attention_is_finite_at_large_scores(slope, scale):
    c_nh, t_eh = draw_scores(3, scale=scale)
    weights = draw_scores(5)[1]
    for mask in (MASK, np.zeros(NUM_EDGES, bool), np.ones(NUM_EDGES, bool)):
        alpha = attend(c_nh, t_eh, RECEIVERS, slope=slope, mask=mask)[1]
        sums = jax.ops.segment_sum(alpha, RECEIVERS, NUM_NODES)
        is_row = np.bincount(RECEIVERS[mask], minlength=NUM_NODES)[:, None] > 0
        np.testing.assert_allclose(sums, np.broadcast_to(is_row, sums.shape), atol=1e-6)
        gradients = gradient_of_weighted_sum(c_nh, t_eh, slope, mask, weights)
        chex.assert_tree_all_finite(gradients)


@pytest.mark.parametrize("slope", [0.0, 0.2, 1.0, 2.0])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_gat_attention_drops_the_receiver_inside_a_regime(slope, sign):
    c_nh, t_eh = draw_scores(4)
    query = sign * 10.0 + c_nh
    expected = attend(jnp.full_like(query, sign * 10.0), t_eh, RECEIVERS, slope=slope)[1]
    actual = attend(query, t_eh, RECEIVERS, slope=slope)[1]
    np.testing.assert_array_equal(actual, expected)
    weights = draw_scores(5)[1]
    gradient, *_ = gradient_of_weighted_sum(query, t_eh, slope, None, weights)
    np.testing.assert_array_equal(gradient, np.zeros_like(query))


@pytest.mark.parametrize("layer", [attend, attend_static], ids=["traced", "static"])
def test_gat_attention_at_slope_1_drops_the_receiver_everywhere(layer):
    for seed in range(9, 14):  # some rows have logits of both signs
        c_nh, t_eh = draw_scores(seed)
        actual = layer(c_nh, t_eh, RECEIVERS, slope=1.0)[1]
        expected = layer(np.zeros_like(c_nh), t_eh, RECEIVERS, slope=1.0)[1]
        np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("slope", SLOPES)
def test_gat_attention_has_the_gradient_of_a_traced_slope(slope):
    c_nh, t_eh = draw_scores(15)  # a row with logits of both signs has one, at a slope of 1 too
    weights = draw_scores(16)[1]
    logits = np.asarray(c_nh, np.float64)[RECEIVERS] + np.asarray(t_eh, np.float64)

    def total(slope):
        alpha = dense_softmax(oracle.leaky_relu(logits, slope), RECEIVERS, MASK)
        return np.sum(np.asarray(weights, np.float64) * alpha)

    _, _, gradient, _ = gradient_of_weighted_sum(c_nh, t_eh, slope, MASK, weights)
    expected = (total(slope + 1e-5) - total(slope - 1e-5)) / 2e-5
    assert abs(expected) > 0.01
    np.testing.assert_allclose(gradient, expected, rtol=1e-5)


def test_gat_attention_on_the_boundary_belongs_to_both_regimes():
    # Rows whose least or largest logit is exactly 0, beside one deep inside the same regime.
    t_eh = jnp.tile(jnp.array([[0.1], [0.7], [0.4]], jnp.float32), (4, 1))
    c_nh = jnp.array([[-0.1], [5.0], [-0.7], [-5.0]], jnp.float32)
    alpha = attend(c_nh, t_eh, jnp.repeat(jnp.arange(4), 3), slope=0.2)[1].reshape(4, 3)
    np.testing.assert_array_equal(alpha[0], alpha[1])
    np.testing.assert_array_equal(alpha[2], alpha[3])
    assert (alpha[0] != alpha[2]).any()


def test_gat_attention_masked_edges_are_as_if_absent():
    c_nh, t_eh = draw_scores(6)
    masked = attend(c_nh, t_eh.at[~MASK].set(1e30), RECEIVERS, slope=0.2, mask=MASK)[1]
    absent = attend(c_nh, t_eh[MASK], RECEIVERS[MASK], slope=0.2)[1]
    np.testing.assert_array_equal(masked[MASK], absent)
    np.testing.assert_array_equal(masked[~MASK], np.zeros_like(masked[~MASK]))


def test_gat_attention_traces_once_for_all_slopes_and_temperatures():
    traced = jax.jit(chex.assert_max_traces(gat_attention, n=1))
    for seed, slope in enumerate(SLOPES):
        traced(*draw_scores(seed), RECEIVERS, slope=slope, temperature=1.0 + seed)


def test_gat_attention_lanes_are_independent():
    c_nh, t_eh = draw_scores(7)
    c_lanes = jnp.stack([c_nh, jnp.full_like(c_nh, jnp.nan), 2 * c_nh])
    mapped = jax.jit(jax.vmap(lambda c, slope: gat_attention(c, t_eh, RECEIVERS, slope=slope)[1]))
    slopes = jnp.array([0.2, 0.2, -0.5])
    alpha = mapped(c_lanes, slopes)
    assert np.isnan(alpha[1]).any()
    calm = mapped(c_lanes.at[1].set(0.0), slopes)
    np.testing.assert_array_equal(alpha[::2], calm[::2])
    for lane in (0, 2):
        single = attend(c_lanes[lane], t_eh, RECEIVERS, slope=slopes[lane])[1]
        assert_close(alpha[lane], single, 1e-6)


def test_linear_sum_is_a_weighted_sum_over_incoming_edges():
    rng = np.random.default_rng(8)
    alpha, values = rng.normal(size=(NUM_EDGES, 2)), rng.normal(size=(NUM_NODES, 3, 2))
    expected = np.zeros((NUM_NODES, 3, 2))
    for e in range(NUM_EDGES):
        expected[RECEIVERS[e]] += alpha[e] * values[GRAPH.senders[e]]
    arrays = (jnp.asarray(alpha, jnp.float32), jnp.asarray(values, jnp.float32))
    actual = attention.linear_sum(segment_layout(GRAPH), *arrays)
    assert_close(actual, expected, 1e-6)
    np.testing.assert_array_equal(actual[-1], np.zeros((3, 2)))  # the isolated node
