"""The functions of single numbers, against float64 and at the points where derivatives jump."""

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from helpers import SLOPES

from gat_jax.kernels import elementwise

LINEAR_SLOPES = [slope for slope in SLOPES if slope >= 0]


def rows(seed: int, *, scale: float = 1.0):
    """Receivers' scores [R, 1], terms [R, S] and the largest term of each row."""
    rng = np.random.default_rng(seed)
    c = (scale * rng.normal(size=(200, 1))).astype(np.float32)
    t = rng.normal(size=(200, 5)).astype(np.float32)
    return c, t, t.max(axis=1, keepdims=True)


def shifted(c, t, m, slope):
    c, t, m = (jnp.asarray(x) for x in (c, t, m))
    return elementwise.shifted_logit(c, t, m, *elementwise.row_pieces(c, m, slope))


@pytest.mark.parametrize("slope", SLOPES)
def test_leaky_relu_by_hand(slope):
    x = jnp.array([-2.0, -0.0, 0.0, 3.0])
    expected = np.array([-2.0 * slope, 0.0, 0.0, 3.0], np.float32)
    np.testing.assert_array_equal(elementwise.leaky_relu(x, slope), expected)


def test_only_the_peak_of_a_row_without_edges_becomes_0():
    peak = jnp.array([-jnp.inf, -2.0, jnp.inf, jnp.nan])
    expected = np.array([0.0, -2.0, np.inf, np.nan])
    np.testing.assert_array_equal(elementwise.finite_peak(peak), expected)


def test_negative_part_has_no_derivative_at_0():
    x = jnp.array([-2.0, -0.0, 0.0, 3.0])
    np.testing.assert_array_equal(elementwise.negative_part(x), [-2.0, 0.0, 0.0, 0.0])
    derivative = jax.vmap(jax.grad(elementwise.negative_part))(x)
    np.testing.assert_array_equal(derivative, [1.0, 0.0, 0.0, 0.0])
    once_more = jax.vmap(jax.grad(jax.grad(elementwise.negative_part)))(x)
    np.testing.assert_array_equal(once_more, np.zeros(4))


@pytest.mark.parametrize("slope", LINEAR_SLOPES)
@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_shifted_logit_is_the_difference_of_two_logits(slope, scale):
    c, t, m = rows(0, scale=scale)
    wide = [x.astype(np.float64) for x in (c, t, m)]
    logit, largest = (oracle.leaky_relu(wide[0] + x, slope) for x in wide[1:])
    np.testing.assert_allclose(shifted(c, t, m, slope), logit - largest, atol=2e-6 * scale)


@pytest.mark.parametrize("slope", LINEAR_SLOPES)
@pytest.mark.parametrize("sign", [1.0, -1.0], ids=["positive", "negative"])
def test_shifted_logit_drops_c_inside_a_piece_to_the_last_bit(slope, sign):
    c, t, m = rows(1)
    near, far = (shifted(sign * far + c, t, m, slope) for far in (10.0, 1e4))
    np.testing.assert_array_equal(near, far)
    gradient = jax.grad(lambda c: jnp.sum(jnp.sin(shifted(c, t, m, slope))))(sign * 10.0 + c)
    np.testing.assert_array_equal(gradient, np.zeros_like(c))


def test_shifted_logit_on_the_boundary_belongs_to_both_pieces():
    t = np.array([[0.1, 0.7, 0.4]], np.float32)
    m = t.max(axis=1, keepdims=True)
    least, deep_above, largest, deep_below = (
        shifted(np.array([[c]], np.float32), t, m, 0.2) for c in (-0.1, 5.0, -0.7, -5.0)
    )
    np.testing.assert_array_equal(least, deep_above)
    np.testing.assert_array_equal(largest, deep_below)
    at_0 = jax.grad(lambda c: jnp.sum(jnp.sin(shifted(c, t, m, 0.2))))
    for c in (-0.1, -0.7):  # the row's least or largest logit is exactly 0
        np.testing.assert_array_equal(at_0(np.array([[c]], np.float32)), [[0.0]])


@pytest.mark.parametrize("slope", LINEAR_SLOPES)
def test_shifted_logit_has_the_gradient_to_the_slope(slope, x64):
    c, t, m = (jnp.asarray(x, jnp.float64) for x in rows(2))
    weights = np.random.default_rng(3).normal(size=t.shape)

    def total(slope):
        return jnp.sum(weights * shifted(c, t, m, slope))

    def exact(slope):
        at = [np.asarray(x) for x in (c, t, m)]
        f = oracle.leaky_relu
        return np.sum(weights * (f(at[0] + at[1], slope) - f(at[0] + at[2], slope)))

    # The difference is linear in the slope, at 1 too.
    np.testing.assert_allclose(jax.grad(total)(slope), exact(slope + 1) - exact(slope), rtol=1e-9)
