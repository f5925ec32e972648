"""Entropy where it is nearly 1 or exactly 0, and the twin gap."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from helpers import messy_graph

from gat_jax.kernels import make_layout
from gat_jax.symmetry import (
    mean_of_defined,
    normalised_entropy,
    normalised_entropy_deficit,
    twin_gap,
)

RECEIVERS = messy_graph(0).receivers
MASK = np.arange(16) % 3 > 0
entropy = jax.jit(normalised_entropy, static_argnums=2)
deficit = jax.jit(normalised_entropy_deficit, static_argnums=2)


def softmax_rows(scores, receivers):
    """Attention [E, H] in float64 from scores [E, H]."""
    weights = np.exp(scores)
    total = np.zeros((8, scores.shape[1]))
    np.add.at(total, receivers, weights)
    return weights / total[receivers]


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("mask", [None, MASK], ids=["all", "masked"])
def test_normalised_entropy_agrees_with_the_oracle(mask):
    real = np.ones(16, bool) if mask is None else mask
    scores = np.random.default_rng(0).normal(size=(16, 2)) * 3
    alpha = np.zeros((16, 2))
    alpha[real] = softmax_rows(scores[real], RECEIVERS[real])
    expected = oracle.normalised_entropy(alpha[real], RECEIVERS[real], 8)
    actual = entropy(jnp.asarray(alpha), RECEIVERS, 8, mask=mask)
    np.testing.assert_allclose(actual, expected, rtol=1e-12)
    assert np.isnan(actual).any()  # rows of fewer than two edges
    total = actual + deficit(jnp.asarray(alpha), RECEIVERS, 8, mask=mask)
    np.testing.assert_allclose(total[~np.isnan(total)], 1.0, rtol=1e-15)


def test_normalised_entropy_by_hand():
    receivers = np.array([0, 0, 0, 0, 1, 1, 2])
    alpha = jnp.array([0.25, 0.25, 0.25, 0.25, 1.0, 0.0, 1.0])[:, None]
    expected = [[1.0], [0.0], [np.nan], [np.nan]]
    np.testing.assert_allclose(entropy(alpha, receivers, 4), expected, atol=1e-7)
    quarter = jnp.array([0.25, 0.75])[:, None]
    exact = -(0.25 * np.log2(0.25) + 0.75 * np.log2(0.75))
    np.testing.assert_allclose(entropy(quarter, np.zeros(2, int), 1), [[exact]], rtol=1e-6)


@pytest.mark.parametrize("size", [1e-2, 1e-3, 1e-4])
def test_deficit_is_exact_near_uniform_attention_in_float32(size):
    # 1 - H / log d is rounding noise of 1e-7 where the true deficit is 1e-9 to 1e-5.
    scores = size * np.random.default_rng(1).normal(size=(1, 3))
    alpha = (np.exp(scores) / np.exp(scores).sum()).T
    actual = deficit(jnp.asarray(alpha, jnp.float32), np.zeros(3, int), 1)
    np.testing.assert_allclose(actual[0], oracle.entropy_deficit(scores), rtol=1e-3 + 1e-6 / size)


@pytest.mark.parametrize("tiny", [0.0, 1e-30, 1e-12])
def test_entropy_and_its_gradient_are_finite_at_one_hot_rows(tiny):
    alpha = jnp.array([[1.0], [tiny], [0.5], [0.5]], jnp.float32)
    receivers = np.array([0, 0, 1, 1])
    value, gradient = jax.value_and_grad(lambda a: jnp.sum(entropy(a, receivers, 2)))(alpha)
    np.testing.assert_allclose(value, 1.0, atol=1e-6)
    chex.assert_tree_all_finite(gradient)
    if tiny == 0.0:
        assert gradient[1, 0] == 0.0


def test_mean_of_defined_leaves_nan_out_of_value_and_gradient():
    values = jnp.array([[1.0, jnp.nan], [4.0, 1.0]])
    value, gradient = jax.value_and_grad(mean_of_defined)(values)
    assert value == 2.0
    np.testing.assert_allclose(gradient, [[1 / 3, 0.0], [1 / 3, 1 / 3]], rtol=1e-6)
    assert np.isnan(mean_of_defined(jnp.array([jnp.nan])))


def test_entropy_gradient_is_finite_where_some_rows_have_no_entropy():
    alpha = jnp.array([[1.0], [0.3], [0.7]])
    receivers = np.array([0, 1, 1])
    gradient = jax.grad(lambda a: mean_of_defined(entropy(a, receivers, 3)))(alpha)
    chex.assert_tree_all_finite(gradient)
    assert gradient[1, 0] > 0 > gradient[2, 0]


@pytest.mark.parametrize("mask", [None, MASK], ids=["all", "masked"])
@pytest.mark.parametrize("name", ["bucketed", "fused"])
def test_entropy_and_its_gradient_are_alike_on_every_layout_and_mapped(name, mask):
    graph = messy_graph(0)
    layout = make_layout(graph, name)
    attention = np.random.default_rng(3).uniform(size=(5, 16, 2)).astype(np.float32)
    attention[0, 3] = 0.0

    def value(attention, layout):
        values = normalised_entropy(attention, graph.receivers, 8, mask=mask, layout=layout)
        return mean_of_defined(values**2), values

    mapped = jax.vmap(jax.value_and_grad(value, has_aux=True), in_axes=(0, None))
    (_, expected), expected_gradient = jax.jit(lambda a: mapped(a, None))(attention)
    (_, found), gradient = jax.jit(mapped)(attention, layout)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-5, atol=1e-7)
    assert np.abs(gradient).max() > 0.1


def test_twin_gap_is_the_largest_difference_of_each_pair():
    rng = np.random.default_rng(2)
    values = rng.normal(size=(5, 2, 3)).astype(np.float32)
    first, second = np.array([0, 1, 4]), np.array([2, 3, 4])
    per_head = twin_gap(jnp.asarray(values), first, second)
    assert per_head.shape == (3, 2)
    for p, (i, k) in enumerate(zip(first, second, strict=True)):
        np.testing.assert_array_equal(per_head[p], np.abs(values[i] - values[k]).max(-1))
    flat = twin_gap(jnp.asarray(values.reshape(5, 6)), first, second)
    np.testing.assert_array_equal(flat, per_head.max(-1))


# --- what is refused ------------------------------------------------------------------------------

VALUES = np.zeros((5, 2), np.float32)
IDS = np.array([0, 1])


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("place", [0, 1], ids=["first", "second"])
@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        (np.array([0, 5]), r"expected ids in \[0, 5\), got 5"),
        (np.array([-1, 0]), r"expected ids in \[0, 5\), got -1"),
        (jnp.array([0, 99]), r"expected ids in \[0, 5\), got 99"),
        (np.array([0]), "first, second: expected two vectors of one length"),
        (np.array([[0, 1]]), "first, second: expected two vectors of one length"),
        ([0, 1], "expected an array of whole numbers, got list"),
        (np.array([0.0, 1.0]), "expected an array of whole numbers, got float64"),
        (np.array([True, False]), "expected an array of whole numbers, got bool"),
    ],
)
def test_twin_gap_refuses_pairs_that_are_none(nodes, message, place):
    pair = (nodes, IDS) if place == 0 else (IDS, nodes)
    with pytest.raises(ValueError, match=message):
        twin_gap(VALUES, *pair)


def attention_of_rows():
    """Uniform attention over RECEIVERS."""
    return np.asarray(softmax_rows(np.zeros((16, 2)), RECEIVERS), np.float32)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mask": np.full(16, 2)}, "mask: expected an array of booleans, got int64"),
        ({"mask": np.full(16, 0.5)}, "mask: expected an array of booleans, got float64"),
        ({"mask": np.ones(1, bool)}, r"mask: expected an array of shape \(16,\), got \(1,\)"),
        ({"attention": np.ones((1, 2))}, "attention: expected shape .* for 16 edges, got"),
        ({"attention": np.ones(16)}, "attention: expected shape .* for 16 edges, got"),
        ({"attention": None}, "attention: expected an array of real numbers, got NoneType"),
        ({"num_nodes": 10**12}, "num_nodes: .* a quarter of the memory"),
        ({"num_nodes": 7.0}, "num_nodes: expected a whole number, got 7.0"),
        ({"layout": make_layout(messy_graph(1), "bucketed")}, "layout: .* with other receivers"),
        (
            {"layout": make_layout(messy_graph(0, num_edges=17), "fused")},
            "layout: expected one made for 8 nodes and 16 edges",
        ),
        ({"layout": "bucketed"}, "layout: expected one of make_layout"),
    ],
)
@pytest.mark.parametrize("function", [normalised_entropy, normalised_entropy_deficit])
def test_entropy_refuses_what_does_not_fit(function, changes, message):
    inputs = {"attention": attention_of_rows(), "receivers": RECEIVERS, "num_nodes": 8} | changes
    with pytest.raises(ValueError, match=message):
        function(
            inputs.pop("attention"), inputs.pop("receivers"), inputs.pop("num_nodes"), **inputs
        )


@pytest.mark.parametrize("name", ["segment", "bucketed"])
@pytest.mark.parametrize("value", [np.nan, -0.25, -np.inf])
def test_entropy_of_what_is_no_attention_is_nan_in_its_row_alone(value, name):
    attention = attention_of_rows()
    expected = np.array(entropy(attention, RECEIVERS, 8))
    attention[3, 1] = value
    expected[RECEIVERS[3], 1] = np.nan
    found = entropy(attention, RECEIVERS, 8, layout=make_layout(messy_graph(0), name))
    np.testing.assert_allclose(found, expected, atol=1e-6)
