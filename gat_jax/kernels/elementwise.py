"""What happens to single numbers: the LeakyReLU, its slope, and logits without the receiver's term.

Written once, and called by every backend, by `symmetry` and by the rows of a sweep.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Scalar = float | Float[Array, ""]


def leaky_relu(x: Float[Array, "..."], slope: Scalar | Array) -> Float[Array, "..."]:
    """f(x) = x where x >= 0, else slope * x; any real slope."""
    return jnp.where(x >= 0, x, slope * x)


def step(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Return 1 where x >= 0, else 0."""
    return (x >= 0).astype(x.dtype)


def slope_at(x: Float[Array, "..."], below, above=1.0) -> Float[Array, "..."]:
    """Return the slope of the LeakyReLU at x: `above` where x >= 0, else `below`.

    Multiplied by a step and not selected: a select between gathered values would end the loop that
    XLA makes of them on a CPU.
    """
    return below + (above - below) * step(x)


def finite_peak(peak: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Return the largest logit of a row, and 0 for a row without edges, which has minus infinity.

    NaN stays NaN: a training that diverges has to show it.
    """
    return jnp.where(peak == -jnp.inf, 0.0, peak)


@jax.custom_jvp
def negative_part(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Return min(x, 0), whose derivative at 0 is 0.

    JAX's own derivative of a minimum is one half where both arguments are equal. In a row with
    positive logits a logit of exactly 0 lies on the positive side; in a row without, all logits lie
    on the negative one (`row_pieces`). No gradient may reach the receiver's score in either.
    """
    return jnp.minimum(x, 0.0)


@negative_part.defjvp
def _negative_part_jvp(primals, tangents):
    (x,), (dx,) = primals, tangents
    return negative_part(x), jnp.where(x < 0, dx, 0.0)


@jax.custom_jvp
def to_bfloat16(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Round to what bfloat16 holds, in the same dtype; the derivative is that of x itself.

    A conversion and its inverse would be taken out of a program by XLA. This is not.
    """
    return jax.lax.reduce_precision(x, exponent_bits=8, mantissa_bits=7)


@to_bfloat16.defjvp
def _to_bfloat16_jvp(primals, tangents):
    return to_bfloat16(*primals), tangents[0]


def row_pieces(
    c: Float[Array, "..."], m: Float[Array, "..."], slope: Scalar | Array
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """Return a row's `scale` and `bend`, which `shifted_logit` takes, for a slope >= 0.

    Args:
      c: the receiver's score.
      m: largest t of the row, so that c + m is its largest logit.
      slope: of the LeakyReLU f.

    Returns:
      The slope of f at the largest logit, and by how much f bends below it: 1 - slope where the
      largest logit is positive, 0 in a row without positive logits. Such a row is on the negative
      side as a whole, even where its largest logit is 0: so are its gradients, as in PyTorch.
    """
    is_above = c + m > 0
    return jnp.where(is_above, 1.0, slope), jnp.where(is_above, 1.0 - slope, 0.0)


def shifted_logit(
    c: Float[Array, "..."],
    t: Float[Array, "..."],
    m: Float[Array, "..."],
    scale: Float[Array, "..."],
    bend: Float[Array, "..."],
) -> Float[Array, "..."]:
    """Return f(c + t) - f(c + m) for t <= m, f the LeakyReLU with a slope >= 0.

    Numerics: the receiver's score c cancels inside one linear piece of f. Here it does not even
    enter the arithmetic there: the second term is an exact 0, and so is the gradient to c. The
    gradient to the slope is right everywhere, at slope 1 too.
    """
    return scale * (t - m) - bend * negative_part(c + t)
