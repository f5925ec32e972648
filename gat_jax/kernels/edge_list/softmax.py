"""Attention over a receiver's incoming edges: softmax by segment, and the weighted sum.

GAT's softmax is written so that twins in a linear regime agree to the last bit: inside one linear
piece of the LeakyReLU the receiver's score cancels in the mathematics, and here it never enters
the arithmetic. The suffixes of local names give the axes: e edges, n nodes, h heads, c channels.
"""

import jax
import jax.numpy as jnp
import jraph
import numpy as np
from jaxtyping import Array, Bool, Float, Int

Scalar = float | Float[Array, ""]
# Outside of jit the arrays of a graph are the host's own.
EdgeIds = Int[Array | np.ndarray, " edges"]
EdgeMask = Bool[Array | np.ndarray, " edges"]


def leaky_relu(x: Float[Array, "..."], slope: Scalar | Array) -> Float[Array, "..."]:
    """f(x) = x where x >= 0, else slope * x; any real slope."""
    return jnp.where(x >= 0, x, slope * x)


def segment_softmax(
    logits: Float[Array, "edges heads"],
    receivers: EdgeIds,
    num_nodes: int,
    *,
    mask: EdgeMask | None = None,
) -> Float[Array, "edges heads"]:
    """Softmax of the logits over each receiver's incoming edges, float32 at least.

    Args:
      logits: [E, H] finite; each receiver's own maximum is subtracted.
      receivers: [E] ids in [0, num_nodes), in any order.
      num_nodes: static number of segments.
      mask: [E], True = real; masked edges get weight 0, also where a whole segment is masked.

    Returns:
      [E, H] weights, summing to 1 over every receiver with a real edge. Without a mask this is
      `jraph.segment_softmax`, which knows no masks and turns an all-masked segment into NaN.
    """
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    if mask is None:
        return jraph.segment_softmax(logits, receivers, num_nodes)
    max_nh = _segment_max(jax.lax.stop_gradient(logits), receivers, num_nodes, mask)
    return _normalise(logits - max_nh[receivers], receivers, num_nodes, mask)


def gat_attention(
    receiver_scores: Float[Array, "nodes heads"],
    edge_scores: Float[Array, "edges heads"],
    receivers: EdgeIds,
    *,
    slope: Scalar,
    temperature: Scalar = 1.0,
    mask: EdgeMask | None = None,
) -> tuple[Float[Array, "edges heads"], Float[Array, "edges heads"]]:
    """GAT's attention, exactly symmetric for twins whose logits lie in one linear piece.

        logit_ij = c_i + t_ij,   alpha_ij = softmax_j LeakyReLU(logit_ij) / temperature

    Args:
      receiver_scores: [N, H] c_i.
      edge_scores: [E, H] t_ij: the sender's score n_j, plus the edge's own where there is one.
      receivers: [E] ids in [0, N).
      slope: of the LeakyReLU on the negative side; a Python number picks the arithmetic when the
        program is built, a traced one picks it at run time.
      temperature: > 0; divides after the LeakyReLU.
      mask: [E], True = real; masked edges get attention 0.

    Returns:
      The logits [E, H] before the LeakyReLU, and the attention [E, H].

    Numerics: scores must be float32 or wider. The gradient to c_i is exactly 0 inside a linear
    regime. Rows without edges take no part; logits of +-200 and more are safe.
    """
    num_nodes = receiver_scores.shape[0]
    c_eh = receiver_scores[receivers]
    logits_eh = c_eh + edge_scores
    # Shifting a row changes no softmax, so the shift needs no gradient; without stop_gradient
    # the exact zero above would become a sum of roundings.
    m_eh = _segment_max(jax.lax.stop_gradient(edge_scores), receivers, num_nodes, mask)[receivers]
    needs_usual = not isinstance(slope, (int, float)) or slope < 0
    shifted_eh = shifted_logits(c_eh, edge_scores, m_eh, slope)
    if needs_usual:
        # f is not monotone for a negative slope: its maximum has to be looked for.
        f_eh = leaky_relu(logits_eh, slope)
        f_max_nh = _segment_max(jax.lax.stop_gradient(f_eh), receivers, num_nodes, mask)
        shifted_eh = jnp.where(slope < 0, f_eh - f_max_nh[receivers], shifted_eh)
    return logits_eh, _normalise(shifted_eh / temperature, receivers, num_nodes, mask)


def aggregate(
    attention: Float[Array, "edges heads"],
    values: Float[Array, "nodes heads channels"],
    senders: EdgeIds,
    receivers: EdgeIds,
) -> Float[Array, "nodes heads channels"]:
    """out_i = sum_j alpha_ij z_j over the incoming edges of i; zeros where there are none."""
    messages_ehc = attention[:, :, None] * values[senders]
    return jraph.segment_sum(messages_ehc, receivers, values.shape[0])


def shifted_logits(
    c: Float[Array, "..."], t: Float[Array, "..."], m: Float[Array, "..."], slope: Scalar | Array
) -> Float[Array, "..."]:
    """f(c + t) - f(c + m) for m >= t and a slope >= 0, with no c inside one linear piece."""
    logits = c + t
    same_piece = t - m
    is_negative_row = c + m < 0
    mixed = slope * logits - (c + m)
    shifted = jnp.where(logits >= 0, same_piece, mixed)
    shifted = jnp.where(is_negative_row, slope * same_piece, shifted)
    # For a slope of 1 the second term is 0, and so is its gradient to c; that to the slope is not.
    linear = same_piece + (slope - 1) * (jnp.minimum(logits, 0) - jnp.minimum(c + m, 0))
    return jnp.where(slope == 1, linear, shifted)


def _segment_max(data_eh, receivers, num_nodes: int, mask) -> Float[Array, "nodes heads"]:
    """Largest real entry of each segment, and 0 (not -inf, which breeds NaN) for empty ones."""
    if mask is not None:
        data_eh = jnp.where(mask[:, None], data_eh, -jnp.inf)
    max_nh = jraph.segment_max(data_eh, receivers, num_nodes)
    return jnp.where(max_nh > -jnp.inf, max_nh, 0.0)


def _normalise(shifted_eh, receivers, num_nodes: int, mask) -> Float[Array, "edges heads"]:
    """exp, then divide by each segment's sum; mask before the exponential, then select."""
    if mask is not None:
        shifted_eh = jnp.where(mask[:, None], shifted_eh, 0.0)
    weights_eh = jnp.exp(shifted_eh)
    if mask is not None:
        weights_eh = jnp.where(mask[:, None], weights_eh, 0.0)
    total_nh = jraph.segment_sum(weights_eh, receivers, num_nodes)
    # A segment's largest weight is 1, so only empty segments sum to 0.
    return weights_eh / jnp.where(total_nh > 0, total_nh, 1.0)[receivers]
