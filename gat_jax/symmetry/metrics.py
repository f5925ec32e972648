"""What is measured: attention entropy, the twin gap, and confidence intervals."""

import jax.numpy as jnp
import jraph
import numpy as np
import scipy.stats
from jaxtyping import Array, Bool, Float, Int

Count = int | np.integer | np.ndarray | Array


def normalised_entropy_deficit(
    attention: Float[Array, "edges heads"],
    receivers: Int[Array | np.ndarray, " edges"],
    num_nodes: int,
    *,
    mask: Bool[Array | np.ndarray, " edges"] | None = None,
) -> Float[Array, "nodes heads"]:
    """1 - H_i / log d_i: 0 for uniform attention, 1 for all attention on one edge.

        log d - H = (1/d) sum_j phi(d alpha_j),   phi(u) = u log u - u + 1 >= 0

    Args:
      attention: [E, H] before dropout, summing to 1 over each receiver.
      receivers: [E] ids in [0, num_nodes).
      num_nodes: static number of nodes.
      mask: [E], True = real.

    Returns:
      [N, H] without unit; d_i counts the real edges into i. NaN where d_i < 2, for which the
      normalised entropy is undefined: leave such rows out of means.

    Numerics: the terms are of second order in the distance from uniform attention, so that a
    deficit of 1e-6 is still exact to some percent in float32, where 1 - H / log d is rounding
    noise. An attention of exactly 0 has value phi(0) = 1 and gradient 0, not NaN.
    """
    is_real_e = jnp.ones(receivers.shape, bool) if mask is None else mask
    degree_n = jraph.segment_sum(is_real_e.astype(attention.dtype), receivers, num_nodes)
    u_eh = attention * degree_n[receivers][:, None]
    positive_eh = jnp.where(u_eh > 0, u_eh, 1.0)
    # u - 1 is exact near u = 1, where log1p of it is needed, but rounds to -1 for tiny u.
    near_eh = jnp.where(u_eh > 0.5, u_eh, 1.0)
    log_eh = jnp.where(u_eh > 0.5, jnp.log1p(near_eh - 1.0), jnp.log(positive_eh))
    phi_eh = positive_eh * log_eh - (positive_eh - 1.0)
    phi_eh = jnp.where(u_eh > 0, phi_eh, 1.0)
    phi_eh = jnp.where(is_real_e[:, None], phi_eh, 0.0)
    is_defined_n = degree_n >= 2
    scale_n = jnp.where(is_defined_n, degree_n, 2.0)
    deficit_nh = jraph.segment_sum(phi_eh, receivers, num_nodes)
    deficit_nh = deficit_nh / (scale_n * jnp.log(scale_n))[:, None]
    return jnp.where(is_defined_n[:, None], deficit_nh, jnp.nan)


def normalised_entropy(
    attention: Float[Array, "edges heads"],
    receivers: Int[Array | np.ndarray, " edges"],
    num_nodes: int,
    *,
    mask: Bool[Array | np.ndarray, " edges"] | None = None,
) -> Float[Array, "nodes heads"]:
    """H_i / log d_i, in [0, 1]; as `normalised_entropy_deficit`. In nats: times log d_i."""
    return 1.0 - normalised_entropy_deficit(attention, receivers, num_nodes, mask=mask)


def mean_of_defined(values: Float[Array, "..."]) -> Float[Array, ""]:
    """Mean of the entries that are not NaN; NaN if there are none."""
    is_defined = ~jnp.isnan(values)
    return jnp.sum(jnp.where(is_defined, values, 0.0)) / jnp.sum(is_defined)


def twin_gap(
    values: Float[Array, "nodes ..."],
    first: Int[Array | np.ndarray, " pairs"],
    second: Int[Array | np.ndarray, " pairs"],
) -> Float[Array, "pairs ..."]:
    """Largest absolute difference between the rows of each pair, over the last axis.

    Args:
      values: [N, C] outputs, or [N, H, C] outputs per head.
      first: [P] node ids.
      second: [P] node ids.

    Returns:
      [P], or [P, H].
    """
    return jnp.max(jnp.abs(values[first] - values[second]), axis=-1)


def mean_share_interval(
    successes: Count, squared_shares: Count | float, trials: Count, num_pairs: int
) -> tuple[float, float]:
    """Return the 95% interval of the mean share of pairs that collide.

    Args:
      successes: initialisations and pairs that collide.
      squared_shares: sum over initialisations of the squared share of pairs.
      trials: initialisations, at least 1; they are independent, pairs of one are not.
      num_pairs: pairs of each initialisation.

    Numerics: exact (Clopper-Pearson) for one pair, or where all initialisations are alike and show
    no spread to go by; otherwise the mean and 1.96 standard errors, within [0, 1].
    """
    mean = float(successes) / (float(trials) * num_pairs)
    variance = max(0.0, float(squared_shares) / float(trials) - mean**2)
    if num_pairs == 1 or variance <= 1e-12:
        low, high = binomial_interval(round(int(successes) / num_pairs), int(trials))
        return float(low), float(high)
    deviation = 1.96 * float(np.sqrt(variance / float(trials)))
    return max(0.0, mean - deviation), min(1.0, mean + deviation)


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
    # The beta quantiles are undefined at the ends, where the interval ends at 0 or 1 itself.
    inner = np.maximum(successes, 1)
    low = np.where(successes > 0, scipy.stats.beta.ppf(tail, inner, trials - inner + 1), 0.0)
    inner = np.minimum(successes, trials - 1)
    high = np.where(
        successes < trials, scipy.stats.beta.ppf(1.0 - tail, inner + 1, trials - inner), 1.0
    )
    return low, high
