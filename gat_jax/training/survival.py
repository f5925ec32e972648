"""Escape from the equal state in recorded training: occupancy, first exit, re-entry.

Escape is not absorbing: many runs separate and collide again, often. Occupancy (the share of runs
that are collided at a step) is the honest summary; a survival curve is of the first exit alone.
"""

import warnings
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import ArrayLike

from gat_jax.runtime.stats import binomial_interval


class Occupancy(NamedTuple):
    """Share of runs that are collided, per record, with its 95% interval."""

    share: Float[np.ndarray, " records"]
    low: Float[np.ndarray, " records"]
    high: Float[np.ndarray, " records"]


class FirstExit(NamedTuple):
    """When the runs that start collided are first seen separated."""

    step: Int[np.ndarray, " runs"]  # of the first exit, or the last step seen
    is_censored: Bool[np.ndarray, " runs"]  # True: no exit was seen


class Survival(NamedTuple):
    """Kaplan-Meier estimate of P(no exit up to and including step), with its 95% interval."""

    step: Float[np.ndarray, " steps"]
    share: Float[np.ndarray, " steps"]
    low: Float[np.ndarray, " steps"]
    high: Float[np.ndarray, " steps"]


class Reentry(NamedTuple):
    """What the runs that left the equal state did afterwards."""

    num_exited: int
    num_reentered: int  # of those, seen collided again later
    mean_transitions: float  # changes between equal and separated, per run that started equal


def occupancy(is_collided: Bool[np.ndarray, "runs records"]) -> Occupancy:
    """Return the share of runs in the equal state at every record.

    Args:
      is_collided: [R, T] whether all pairs watched are equal in all heads; at least one run.
    """
    num_runs, counts = len(is_collided), np.sum(is_collided, axis=0)
    return Occupancy(counts / num_runs, *binomial_interval(counts, num_runs))


def first_exit(is_collided: Bool[np.ndarray, "runs records"], steps: ArrayLike) -> FirstExit:
    """Return the first recorded step at which each run that starts collided is separated.

    Args:
      is_collided: [R, T] whether all pairs watched are equal in all heads.
      steps: [T] the recorded steps, the first of them 0.

    Returns:
      One entry for each run that starts collided; the others have nothing to leave.

    Raises:
      ValueError: if the shapes differ.
    """
    steps = np.asarray(steps)
    if is_collided.shape[1:] != steps.shape:
        raise ValueError(f"steps: expected shape {is_collided.shape[1:]}, got {steps.shape}")
    started = is_collided[is_collided[:, 0]]
    num_before_exit = np.sum(np.logical_and.accumulate(started, axis=1), axis=1)
    is_censored = np.asarray(num_before_exit == len(steps))
    return FirstExit(steps[np.minimum(num_before_exit, len(steps) - 1)], is_censored)


def kaplan_meier(exits: FirstExit) -> Survival | None:
    """Estimate the survival of the equal state, by Kaplan and Meier's product of shares.

    Args:
      exits: of the runs that start collided, as `first_exit` returns them.

    Returns:
      The curve at the steps where runs leave it or are last seen, with log-log intervals; None
      when no run started collided. Where the share is 0 or 1 the interval is the share itself.
    """
    if len(exits.step) == 0:
        return None
    import scipy.stats  # here, as the import takes a second

    data = scipy.stats.CensoredData.right_censored(exits.step, exits.is_censored)
    curve = scipy.stats.ecdf(data).sf
    with np.errstate(all="ignore"), warnings.catch_warnings():
        # The interval is undefined where the share is 0 or 1; there it is the share itself.
        warnings.simplefilter("ignore", RuntimeWarning)
        interval = curve.confidence_interval(0.95, method="log-log")
    share = np.asarray(curve.probabilities)
    low, high = (
        np.where(np.isnan(bound.probabilities), share, bound.probabilities)
        for bound in (interval.low, interval.high)
    )
    return Survival(np.asarray(curve.quantiles), share, low, high)


def reentry(is_collided: Bool[np.ndarray, "runs records"]) -> Reentry:
    """Count exits from the equal state and returns to it, among runs that start in it.

    Args:
      is_collided: [R, T] as for `occupancy`; changes between two records are not seen.
    """
    started = is_collided[is_collided[:, 0]]
    changes = started[:, 1:] != started[:, :-1]
    num_changes = changes.sum(axis=1)
    return Reentry(
        num_exited=int(np.sum(num_changes >= 1)),
        num_reentered=int(np.sum(num_changes >= 2)),
        mean_transitions=float(num_changes.mean()) if len(started) else float("nan"),
    )
