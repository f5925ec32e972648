import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from helpers import assert_close

from gat_jax.layers import norms
from gat_jax.layers.norms import NormParams, apply_norm, init_norm

X = np.random.default_rng(0).normal(size=(7, 5)).astype(np.float32) * 3 + 1


def affine(dtype=np.float32):
    rng = np.random.default_rng(1)
    return NormParams(*(jnp.asarray(rng.normal(size=5).astype(dtype)) for _ in range(2)))


@pytest.mark.parametrize("norm", ["layer", "batch"])
def test_apply_norm_agrees_with_the_oracle(x64, norm):
    params = affine(np.float64)
    found = apply_norm(params, jnp.asarray(X, jnp.float64), norm)
    assert_close(found, oracle.norm(X.astype(np.float64), norm, *map(np.asarray, params)), 1e-13)


def test_apply_norm_by_hand():
    x = jnp.array([[1.0, 3.0], [5.0, 5.0]])
    by_row = apply_norm(init_norm("layer", 2), x, "layer")
    np.testing.assert_allclose(by_row, [[-1, 1], [0, 0]], atol=1e-5)
    by_column = apply_norm(init_norm("batch", 2), x, "batch")
    np.testing.assert_allclose(by_column, [[-1, -1], [1, 1]], atol=1e-5)
    assert init_norm("none", 2) is None
    assert apply_norm(None, x, "none") is x


def test_batch_norm_counts_real_nodes_alone():
    params = affine()
    padded = np.concatenate([X, np.full((3, 5), np.nan, np.float32)])
    mask = np.arange(10) < 7
    found = apply_norm(params, jnp.asarray(padded), "batch", node_mask=mask)
    assert_close(found[:7], apply_norm(params, jnp.asarray(X), "batch"), 1e-6)


@pytest.mark.parametrize("norm", ["layer", "batch"])
def test_gradients_are_finite_where_nothing_varies(norm):
    x = jnp.ones((4, 5))
    gradient = jax.grad(lambda x: jnp.sum(jnp.sin(apply_norm(affine(), x, norm))))(x)
    assert np.isfinite(gradient).all()
    empty = apply_norm(affine(), x, "batch", node_mask=np.zeros(4, bool))
    assert np.isfinite(empty).all()


@pytest.mark.parametrize("norm", ["layer", "batch"])
def test_short_floats_are_accumulated_in_float32(norm):
    x = jnp.asarray(X + 50, jnp.bfloat16)
    found = apply_norm(affine(), x, norm)
    assert found.dtype == jnp.bfloat16
    expected = apply_norm(affine(), x.astype(jnp.float32), norm)
    assert_close(found.astype(jnp.float32), expected, 0.01)


@pytest.mark.usefixtures("unchecked")
def test_masks_and_parameters_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"node_mask: expected shape \(7,\), got \(6,\)"):
        norms.check_node_mask(np.ones(6, bool), 7)
    with pytest.raises(ValueError, match="node_mask: expected an array of booleans, got float64"):
        norms.check_node_mask(np.ones(7), 7)
    with pytest.raises(ValueError, match="norm: expected None, got NormParams"):
        norms.check_norm("norm", init_norm("layer", 3), "none", 3)
    with pytest.raises(ValueError, match="norm: expected NormParams, got NoneType"):
        norms.check_norm("norm", None, "layer", 3)
    with pytest.raises(ValueError, match=r"norm.scale: expected shape \(4,\), got \(3,\)"):
        norms.check_norm("norm", init_norm("layer", 3), "layer", 4)
