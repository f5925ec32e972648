"""What is measured of a layer's outputs: how far nodes have come to be alike, and in what sense.

All functions take outputs [N, O] of real nodes alone, may be traced and mapped, and return numbers
that are NaN where an output is not finite.
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from gat_jax.kernels import Layout, contract
from gat_jax.kernels.gradients import without_gradient
from gat_jax.symmetry.groups import count_distinct_rows

ROUNDED_TO = 1e-5  # of the spread of all outputs


def effective_rank(outputs: Float[Array, "nodes outputs"]) -> Float[Array, ""]:
    """Return how many directions outputs fill, from 1 to O.

        erank = exp(-sum_i p_i log p_i),   p_i = s_i / sum_k s_k,   s the singular values

    Args:
      outputs: [N, O], whose mean is not subtracted.

    Returns:
      A number without unit; NaN where all outputs are 0.

    Numerics: singular values are roots of the eigenvalues of X^T X, [O, O]. What rounding makes of
    an eigenvalue of 0 is below O eps times the largest one: eigenvalues below that count as 0, and
    so do singular values below sqrt(O eps) of the largest, which is 0.003 for 64 outputs in
    float32. What they would add to the rank is lost.

    Source: Roy and Vetterli 2007, The effective rank.
    """
    size = jnp.max(jnp.abs(outputs), initial=0.0)
    scaled_no = outputs / jnp.where(size > 0, size, 1.0)
    gram_oo = jnp.matmul(scaled_no.T, scaled_no, precision="highest")
    # The decomposition is not defined of what is not finite, and may not end.
    is_finite = jnp.all(jnp.isfinite(gram_oo))
    eigenvalues_o = _eigenvalues(jnp.where(is_finite, gram_oo, 0.0))
    least = gram_oo.shape[0] * jnp.finfo(gram_oo.dtype).eps * jnp.max(eigenvalues_o)
    is_zero_o = eigenvalues_o <= jnp.maximum(least, 0.0)
    singular_o = jnp.where(is_zero_o, 0.0, jnp.sqrt(jnp.where(is_zero_o, 1.0, eigenvalues_o)))
    share_o = singular_o / jnp.sum(singular_o)
    terms_o = jnp.where(is_zero_o, 0.0, share_o * jnp.log(jnp.where(is_zero_o, 1.0, share_o)))
    is_defined = is_finite & (size > 0)
    return jnp.where(is_defined, jnp.exp(-jnp.sum(terms_o)), jnp.nan)


def _eigenvalues(gram_oo: Float[Array, "outputs outputs"]) -> Float[Array, " outputs"]:
    """Return the eigenvalues of a symmetric matrix that has no negative ones.

    Of two outputs, as small studies have, they are the roots of a quadratic equation: a call of
    LAPACK takes longer than a training step of such a layer. The smaller one is the determinant
    over the larger one, with each product divided before it can underflow (LAPACK's `slaev2`).
    """
    if len(gram_oo) != 2:
        return jnp.linalg.eigvalsh(gram_oo)
    (first, mixed), (_, last) = gram_oo
    largest = (first + last + jnp.hypot(first - last, 2 * mixed)) / 2
    divisor = jnp.where(largest > 0, largest, 1.0)
    bigger, smaller = jnp.maximum(first, last), jnp.minimum(first, last)
    least = bigger / divisor * smaller - mixed / divisor * mixed
    return jnp.stack([least, largest])


def distance_to_mean(outputs: Float[Array, "nodes outputs"]) -> Float[Array, ""]:
    """Return the Frobenius norm of outputs less their mean over nodes, in units of the outputs.

        mu(X) = |X - 1 (1^T X / N)|_F

    Source: Wu et al. 2023, arXiv:2305.16102, who say that nodes are alike where it vanishes.
    """
    mean_o = jnp.mean(outputs, axis=0, keepdims=True)
    return jnp.linalg.norm(outputs - mean_o)


def dirichlet_energy(
    outputs: Float[Array, "nodes outputs"],
    layout: Layout,
    *,
    mask: Bool[Array, " edges"] | None = None,
) -> Float[Array, ""]:
    """Return the sum over edges of the squared distance between their ends, by node.

        E(X) = (1/N) sum over edges j -> i of |x_i - x_j|^2

    Args:
      outputs: [N, O] of all nodes of the layout, N of them.
      layout: of the edges; an edge counts as often as it stands, and a self-loop adds nothing.
      mask: [E], True = real. It costs an array [E, O]: leave it out where all that it hides are
        self-loops, as in a padded graph.

    Returns:
      A number in squared units of the outputs. It takes no difference of sums, so that it is exact
      to rounding however close nodes are.

    Source: Rusch et al. 2023, arXiv:2303.10993, there with a root.
    """
    wide = outputs.astype(jnp.promote_types(outputs.dtype, jnp.float32))
    inputs = [wide]
    if mask is not None:
        real_e = jnp.asarray(mask).astype(wide.dtype)
        inputs.append(jnp.broadcast_to(real_e[:, None], (len(real_e), wide.shape[1])))
    return jnp.sum(_squared_differences(layout, inputs)) / len(outputs)


@without_gradient
def _squared_differences(layout: Layout, inputs: list[Array], mask: None) -> Array:
    """Return the sum over every row's edges of the squared difference, output by output."""
    del mask
    outputs_no, *real = inputs

    def squared(edges, rows, others):
        difference = rows[0] - others[0]
        return difference * difference * edges[0] if edges else difference * difference

    return contract.edge_reduce(
        squared, layout.by_receiver, at_edges=real, at_rows=[outputs_no], at_others=[outputs_no]
    )


def distinct_rows(outputs: Float[Array, "nodes outputs"]) -> Float[Array, "2"]:
    """Return how many rows differ: to the last bit, and rounded.

    Args:
      outputs: [N, O]. Rounded are they to multiples of 1e-5 of the spread, the largest of all
        outputs less the smallest, counted from the smallest. Two numbers on either side of such a
        border differ, however close they are.

    Returns:
      Two whole numbers, exact up to 2^24; NaN where an output is not finite.
    """
    lowest, highest = jnp.min(outputs), jnp.max(outputs)
    spread = highest - lowest
    is_finite = jnp.isfinite(spread)
    scale = jnp.where(is_finite & (spread > 0), spread, 1.0)
    steps_no = jnp.round((outputs - lowest) / scale / ROUNDED_TO)
    steps_no = jnp.where(is_finite, steps_no, 0.0).astype(jnp.int32)
    counts = jnp.stack([count_distinct_rows(outputs), count_distinct_rows(steps_no)])
    return jnp.where(is_finite, counts, jnp.nan)


def output_norm(outputs: Float[Array, "nodes outputs"]) -> Float[Array, ""]:
    """Return the Frobenius norm of outputs, in their units."""
    return jnp.linalg.norm(outputs)
