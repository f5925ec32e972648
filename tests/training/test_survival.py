import numpy as np
import pytest

from gat_jax.training import first_exit, kaplan_meier, occupancy, reentry

STEPS = np.array([0, 10, 20, 30])
RUNS = np.array(
    [
        [1, 1, 0, 0],  # exits at 20
        [1, 0, 1, 0],  # exits at 10, returns, exits again
        [1, 1, 1, 1],  # never exits
        [0, 1, 1, 1],  # does not start collided
        [1, 0, 1, 1],  # exits at 10 and returns for good
    ],
    bool,
)


def test_occupancy_counts_all_runs():
    found = occupancy(RUNS)
    np.testing.assert_allclose(found.share, [0.8, 0.6, 0.8, 0.6])
    assert (found.low < found.share).all()
    assert (found.share < found.high).all()


def test_first_exit_censors_runs_that_stay():
    exits = first_exit(RUNS, STEPS)
    np.testing.assert_array_equal(exits.step, [20, 10, 30, 10])
    np.testing.assert_array_equal(exits.is_censored, [False, False, True, False])
    with pytest.raises(ValueError, match=r"steps: expected shape \(4,\), got \(3,\)"):
        first_exit(RUNS, STEPS[:3])


def test_kaplan_meier_by_hand():
    curve = kaplan_meier(first_exit(RUNS, STEPS))
    assert curve is not None
    at = dict(zip(curve.step.tolist(), curve.share.tolist(), strict=True))
    assert at[10] == pytest.approx(0.5)
    assert at[20] == pytest.approx(0.25)
    assert at[30] == pytest.approx(0.25)
    assert (curve.low <= curve.share).all()
    assert (curve.share <= curve.high).all()


def test_kaplan_meier_without_runs_is_none():
    assert kaplan_meier(first_exit(~RUNS[2:3], STEPS)) is None


def test_kaplan_meier_where_nobody_exits_is_one():
    curve = kaplan_meier(first_exit(np.ones((5, 4), bool), STEPS))
    assert curve is not None
    np.testing.assert_array_equal(curve.share, 1.0)


def test_reentry_counts_returns():
    found = reentry(RUNS)
    assert (found.num_exited, found.num_reentered) == (3, 2)
    assert found.mean_transitions == pytest.approx((1 + 3 + 0 + 2) / 4)
    assert np.isnan(reentry(~RUNS[2:3]).mean_transitions)
