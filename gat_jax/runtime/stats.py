"""Confidence intervals of what was counted."""

import numpy as np
import scipy.special
from jaxtyping import Array, Float

# Whole numbers of events; an array has one interval for every entry.
Count = int | np.integer | np.ndarray | Array

# Standard errors on either side of a mean that hold 95% of a normal distribution.
NORMAL_95 = 1.96
# A variance of shares below this is what rounding leaves of none.
NO_VARIANCE = 1e-12


def binomial_interval(
    successes: Count,
    trials: Count,
    *,
    level: float = 0.95,
) -> tuple[Float[np.ndarray, "..."], Float[np.ndarray, "..."]]:
    """Return the exact (Clopper-Pearson) confidence interval of a probability.

    Args:
      successes: counts, any shape.
      trials: counts of the same shape, at least 1.
      level: coverage.

    Returns:
      Lower and upper ends, in the shape of the counts.

    Raises:
      ValueError: unless 0 <= successes <= trials and trials >= 1.
    """
    successes, trials = np.broadcast_arrays(successes, trials)
    if np.any((successes < 0) | (successes > trials) | (trials < 1)):
        raise ValueError(
            "successes: expected 0 <= successes <= trials and trials >= 1, "
            f"got {successes.tolist()} of {trials.tolist()}"
        )
    tail = (1.0 - level) / 2.0
    # Quantiles of the beta distribution: `scipy.stats` has them too, and takes a second to import.
    # They are undefined at the ends, where the interval ends at 0 or 1 itself.
    inner = np.maximum(successes, 1)
    low = np.where(successes > 0, scipy.special.betaincinv(inner, trials - inner + 1, tail), 0.0)
    inner = np.minimum(successes, trials - 1)
    high = np.where(
        successes < trials, scipy.special.betaincinv(inner + 1, trials - inner, 1.0 - tail), 1.0
    )
    return low, high


def half_width(values: Float[np.ndarray, " samples"]) -> float:
    """Return half the width of the 95% interval of a mean, by Student's t, from two samples on."""
    number = len(values)
    return float(scipy.special.stdtrit(number - 1, 0.975) * values.std(ddof=1) / np.sqrt(number))


def mean_share_interval(
    successes: Count, squared_shares: Count | float, trials: Count, num_parts: int
) -> tuple[float, float]:
    """Return the 95% interval of the mean share of a trial's parts that succeed.

    An initialisation of a layer is a trial, its pairs of twins are the parts: trials are
    independent of each other, and the parts of one trial are not.

    Args:
      successes: of all parts of all trials.
      squared_shares: sum over trials of the squared share of parts that succeed.
      trials: at least 1.
      num_parts: of each trial.

    Numerics: exact (Clopper-Pearson) for one part, and where all trials are alike (none of their
    parts ever succeeds, or all always do): they show no spread to go by, and the mean has the
    interval of as many trials that succeed or fail as a whole. Otherwise the mean and 1.96
    standard errors to either side, within [0, 1].
    """
    mean = float(successes) / (float(trials) * num_parts)
    variance = max(0.0, float(squared_shares) / float(trials) - mean**2)
    if num_parts == 1 or variance <= NO_VARIANCE:
        low, high = binomial_interval(round(int(successes) / num_parts), int(trials))
        return float(low), float(high)
    deviation = NORMAL_95 * float(np.sqrt(variance / float(trials)))
    return max(0.0, mean - deviation), min(1.0, mean + deviation)
