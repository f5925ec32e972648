"""What is measured of a layer: attention entropy, and the gap between twins.

The entropy here is of attention weights, whatever they were made of. The rows of a sweep
(`sampling.twin_rows`) have it from the logits, whose exponentials they need anyhow.
"""

import jax.numpy as jnp
import jraph
import numpy as np
from jaxtyping import Array, Bool, Float, Int


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
