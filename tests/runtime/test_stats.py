"""Intervals against scipy, at their ends, and where there is no spread to go by."""

import numpy as np
import pytest
import scipy.stats

from gat_jax.runtime.stats import binomial_interval, half_width, mean_share_interval


def test_binomial_interval_agrees_with_scipy():
    successes, trials = np.array([0, 3, 50, 99, 100]), np.full(5, 100)
    for level in (0.9, 0.95):
        low, high = binomial_interval(successes, trials, level=level)
        for k, *bounds in zip(successes, low, high, strict=True):
            expected = scipy.stats.binomtest(int(k), 100).proportion_ci(level, method="exact")
            np.testing.assert_allclose(bounds, expected, rtol=1e-10)
    low, high = binomial_interval(np.array([0, 1]), np.array([1, 1]))
    np.testing.assert_allclose([low, high], [[0.0, 0.025], [0.975, 1.0]])


def test_binomial_interval_of_many_trials_agrees_with_scipy():
    trials = 10**9
    successes = np.array([1, 1000, 782_488_123, trials - 1])
    low, high = binomial_interval(successes, trials)
    others = trials - successes
    np.testing.assert_allclose(low, scipy.stats.beta.ppf(0.025, successes, others + 1), rtol=1e-12)
    np.testing.assert_allclose(high, scipy.stats.beta.ppf(0.975, successes + 1, others), rtol=1e-12)


@pytest.mark.parametrize("number", [2, 5, 20])
def test_half_width_agrees_with_scipy(number):
    values = np.random.default_rng(number).normal(size=number)
    error = values.std(ddof=1) / np.sqrt(number)
    low, high = scipy.stats.t.interval(0.95, number - 1, values.mean(), error)
    np.testing.assert_allclose(half_width(values), (high - low) / 2, rtol=1e-12)


@pytest.mark.parametrize(("successes", "trials"), [(-1, 3), (4, 3), (0, 0)])
def test_binomial_interval_refuses_impossible_counts(successes, trials):
    with pytest.raises(ValueError, match=rf"successes: expected .* got {successes} of {trials}"):
        binomial_interval(np.array(successes), np.array(trials))


def test_mean_share_interval_is_the_mean_and_its_standard_errors():
    shares = np.random.default_rng(0).integers(0, 5, size=400) / 4
    low, high = mean_share_interval(int(shares.sum() * 4), float((shares**2).sum()), 400, 4)
    error = 1.96 * shares.std() / 20
    np.testing.assert_allclose([low, high], [shares.mean() - error, shares.mean() + error])


def test_mean_share_interval_of_one_part_is_exact():
    expected = [float(x) for x in binomial_interval(30, 100)]
    assert list(mean_share_interval(np.array(30), np.array(30.0), np.array(100), 1)) == expected


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_mean_share_interval_without_spread_is_not_a_point(share):
    """All pairs of all 100 initialisations collided: that is no proof that all always will."""
    low, high = mean_share_interval(int(share * 700), share**2 * 100, 100, 7)
    expected = [float(x) for x in binomial_interval(int(share * 100), 100)]
    assert [low, high] == expected
    assert low < high


def test_mean_share_interval_stays_a_probability():
    assert mean_share_interval(1, 0.25, 10, 2)[0] == 0.0
    assert mean_share_interval(19, 9.25, 10, 2)[1] == 1.0
