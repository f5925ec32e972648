"""The collision probability for Gaussian attention, against three other ways to compute it."""

import numpy as np
import oracle
import pytest

from gat_jax.symmetry import gaussian_collision_probability

TWINS, SUPPORT = oracle.FEATURES[[2, 3]], oracle.FEATURES[[1, 2, 3]]


def draw_case(seed, *, channels, num_senders, shift=0.0):
    rng = np.random.default_rng(seed)
    twins, support = rng.normal(size=(2, channels)), rng.normal(size=(num_senders, channels))
    return twins + shift, support + shift


def monte_carlo(twins, support, *, num_draws=200_000, seed=0):
    """Share of draws of a in which all logits of both rows have one sign, and 5 sigma."""
    rng = np.random.default_rng(seed)
    a_recv, a_send = rng.normal(size=(2, num_draws, twins.shape[1]))
    c, n = a_recv @ twins.T, a_send @ support.T
    is_one_signed = (c.min(1) + n.min(1) >= 0) | (c.max(1) + n.max(1) <= 0)
    p = is_one_signed.mean()
    return p, 5 * np.sqrt(p * (1 - p) / num_draws)


@pytest.mark.few(3)
@pytest.mark.parametrize("channels", [1, 2, 3, 8])
@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_probability_agrees_with_monte_carlo(channels, shift):
    case = draw_case(channels, channels=channels, num_senders=4, shift=shift)
    result = gaussian_collision_probability(*case)
    p, tolerance = monte_carlo(*case)
    assert abs(result.value - p) <= tolerance + 2 * result.error
    assert result.error < 2e-3


@pytest.mark.few(2)
@pytest.mark.parametrize("seed", range(5))
def test_probability_agrees_with_the_mean_over_two_angles(seed):
    case = draw_case(seed, channels=2, num_senders=3, shift=0.5 * seed)
    result = gaussian_collision_probability(*case)
    assert result.value == pytest.approx(oracle.polar_probability(*case), abs=2e-6)
    assert result.error < 1e-5


@pytest.mark.few(1)
@pytest.mark.parametrize("seed", range(2))
def test_probability_agrees_with_an_orthant_in_three_dimensions(seed):
    case = draw_case(seed, channels=3, num_senders=2)
    result = gaussian_collision_probability(*case)
    assert result.value == pytest.approx(oracle.orthant_probability(*case), abs=1e-3)


def test_probability_of_the_tutorial():
    result = gaussian_collision_probability(TWINS, SUPPORT)
    assert result.value == pytest.approx(oracle.polar_probability(TWINS, SUPPORT), abs=2e-6)


def test_probability_on_a_line_by_hand():
    # One channel, all features positive: c and n have the signs of a_recv and a_send, and
    # P = 1/2 (equal signs) + 2 P(1 a_recv > 2 |a_send|) + 2 P(3 a_send > 5 |a_recv|).
    result = gaussian_collision_probability([[1.0], [5.0]], [[2.0], [3.0], [2.5]])
    opposite = 2 * (np.arctan(1 / 3) + np.arctan(2 / 5)) / (2 * np.pi)
    assert result.value == pytest.approx(0.5 + opposite, abs=1e-6)


def test_probability_does_not_depend_on_scale_or_rotation():
    twins, support = draw_case(7, channels=4, num_senders=3)
    rotation, _ = np.linalg.qr(np.random.default_rng(8).normal(size=(4, 4)))
    expected = gaussian_collision_probability(twins, support, num_nodes=2**11)
    for moved in ((10 * twins, 10 * support), (twins @ rotation, support @ rotation)):
        result = gaussian_collision_probability(*moved, num_nodes=2**11)
        assert result.value == pytest.approx(expected.value, abs=4e-3)


def test_probability_ignores_channels_that_features_do_not_use():
    twins, support = draw_case(9, channels=2, num_senders=3)
    wide = [np.pad(x, [(0, 0), (0, 5)]) for x in (twins, support)]
    expected = gaussian_collision_probability(twins, support)
    assert gaussian_collision_probability(*wide).value == pytest.approx(expected.value, abs=1e-6)


def test_probability_is_the_same_every_time():
    case = draw_case(10, channels=5, num_senders=4)
    assert gaussian_collision_probability(*case) == gaussian_collision_probability(*case)


@pytest.mark.parametrize(
    ("twins", "support"),
    [(TWINS[[0, 0]], SUPPORT), (TWINS, SUPPORT[[1, 1]]), (TWINS, SUPPORT[:1])],
    ids=["equal queries", "uniform attention", "one sender"],
)
def test_probability_is_1_where_the_features_force_equality(twins, support):
    assert gaussian_collision_probability(twins, support) == (1.0, 0.0)


def test_probability_error_says_how_far_off_it_is():
    # In one of these cases a single halving moves the value by 1/170 of its error.
    for seed in range(8):
        case = draw_case(seed, channels=3, num_senders=4)
        exact = gaussian_collision_probability(*case, num_nodes=2**12).value
        coarse = gaussian_collision_probability(*case, num_nodes=2**9)
        assert abs(coarse.value - exact) <= 4 * coarse.error


@pytest.mark.parametrize(
    ("twins", "support", "message"),
    [
        (TWINS[:1], SUPPORT, r"twin_features: expected shape \[2, C\], got \(1, 2\)"),
        (TWINS[0], SUPPORT, r"twin_features: expected shape \[2, C\], got \(2,\)"),
        (TWINS, np.ones((3, 3)), r"support_features: expected \[S, 2\], got \(3, 3\)"),
        (TWINS, np.ones(2), r"support_features: expected \[S, 2\], got \(2,\)"),
        (TWINS, np.ones((0, 2)), "support_features: expected at least one row, got 0"),
    ],
)
def test_probability_names_what_is_wrong(twins, support, message):
    with pytest.raises(ValueError, match=message):
        gaussian_collision_probability(twins, support)
