"""Scores of predictions, held against all pairs of nodes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gat_jax.training import SCORES, accuracy, roc_auc


def by_pairs(scores, labels):
    """The share of pairs of a positive and a negative node that are in order; ties count half."""
    gaps = np.subtract.outer(scores[labels == 1], scores[labels == 0])
    return np.mean((gaps > 0) + 0.5 * (gaps == 0))


@pytest.mark.parametrize("num_values", [3, 1000])  # few values: many ties
def test_roc_auc_is_that_of_all_pairs(num_values):
    rng = np.random.default_rng(num_values)
    logits = rng.integers(num_values, size=(5, 200, 2)).astype(np.float32)
    labels = (rng.random(200) < 0.3).astype(np.int32)
    mask = rng.random((5, 200)) < 0.7
    found = jax.jit(jax.vmap(roc_auc, in_axes=(0, None, 0)))(logits, labels, mask)
    differences = logits[..., 1] - logits[..., 0]
    expected = [by_pairs(x[m], labels[m]) for x, m in zip(differences, mask, strict=True)]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_what_does_not_count_changes_no_score():
    logits = jnp.array([[0.0, 1.0], [0.0, -1.0], [3.0, 0.0], [jnp.nan, jnp.nan]])
    labels, mask = jnp.array([1, 0, 7, -1]), jnp.array([True, True, False, False])
    for score in SCORES.values():
        assert score(logits, labels, mask) == 1.0
        assert score(-logits, labels, mask) == 0.0


def test_scores_of_nothing_and_of_no_numbers_are_nan():
    logits, labels = jnp.zeros((3, 2)), jnp.ones(3, jnp.int32)
    assert np.isnan(accuracy(logits, labels, jnp.zeros(3, bool)))
    assert np.isnan(roc_auc(logits, labels, jnp.ones(3, bool)))  # one class alone
    spoilt = logits.at[0, 0].set(jnp.nan)
    assert np.isnan(roc_auc(spoilt, jnp.array([0, 1, 1]), jnp.ones(3, bool)))
