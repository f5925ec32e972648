"""What a softmax over a receiver's edges is taken of, and how kernels for Triton make it.

    given   x_ij
    GAT     x_ij = f(c_i + t_ij) / temperature,   t_ij = n_j + e_ij,   f the LeakyReLU

GAT's are made where they are needed, of what belongs to nodes. GATv2's are given: on an H200
kernels that made them took as long for the sum, and a third longer for its gradient, than it takes
to write and read them.

Local suffixes: n nodes, e edges, b edges of a tile, c channels, h heads.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from gat_jax.kernels.elementwise import leaky_relu, row_pieces, shifted_logit
from gat_jax.kernels.triton.sums import only
from gat_jax.kernels.triton.tiles import Tile


class Scores(NamedTuple):
    """What GAT's logits are made of; in a kernel references to it."""

    c_nh: Any  # [N, H] of the receivers
    n_nh: Any  # [M, H] of the senders
    slope_1h: Any  # [1, H] of the LeakyReLU
    factor_1h: Any  # [1, H] one over the temperature


class Logits(NamedTuple):
    """Logits that are given, or what they are made of."""

    # [E, H]: x, GAT's e, or zeros (as None); minus infinity marks an edge that is as if absent.
    given_eh: Any
    scores: Scores | None = None


class Saved(NamedTuple):
    """What the gradient needs of the forward kernel."""

    out_nch: Array
    inverse_nh: Array  # one over the total
    peak_nh: Array  # of the largest logit of a receiver its key (`Pieces.keys`); 0 without edges
    # Of GAT alone: the share that negative logits have in the sum, and in the total.
    below_nch: Any = None
    below_nh: Any = None


class Gradients(NamedTuple):
    """Of what they are named after; None: it was not given."""

    z_nch: Array
    x_eh: Array | None = None  # of what is given by edge
    c_nh: Array | None = None
    n_nh: Array | None = None


# --- in a kernel ----------------------------------------------------------------------------------


class Pieces(NamedTuple):
    """The two linear pieces of a row's logits; all that is asked of them is asked of *keys*.

    A key grows with its logit: t itself, from which the receiver's score stays away, or f(c + t)
    where the slope is negative and f not monotone. All arrays have the rank of what is passed.
    """

    c: Array
    slope: Array
    factor: Array

    def keys(self, t: Array) -> Array:
        """Return the keys of t; minus infinity stays what it is."""
        is_turned = (self.slope < 0) & (t > -jnp.inf)
        return jnp.where(is_turned, leaky_relu(self.c + t, self.slope), t)

    def exponents(self, keys: Array, peak: Array) -> Array:
        """Return logits less that of `peak`, which is at least as large."""
        pieces = row_pieces(self.c, peak, self.slope)
        monotone = shifted_logit(self.c, keys, peak, *pieces)
        return jnp.where(self.slope < 0, keys - peak, monotone) * self.factor

    def has_positive(self, peak: Array) -> Array:
        """Whether a row has a positive logit; without one all lie on the negative side."""
        return (self.slope < 0) | (self.c + peak > 0)

    def of_tile(self) -> "Pieces":
        """Return the pieces of a row with an axis of edges."""
        return Pieces(*(x[None] for x in self))


def load_pieces(tile: Tile, scores: Scores | None, rows, mask) -> Pieces | None:
    """Load the pieces of receivers, one or [b]; None where logits are given."""
    if scores is None:
        return None
    c = tile.load(scores.c_nh, rows, mask)
    settings = [only(tile, ref) for ref in (scores.slope_1h, scores.factor_1h)]
    return Pieces(c, *(settings if c.ndim == 1 else (x[None] for x in settings)))


def load_t(tile: Tile, logits: Logits, t, edges_b, mask_b) -> Array:
    """Return t, of which logits are made, with what is given by edge [b, h].

    Minus infinity where there is no edge. `t` is what nodes have to do with it; None: nothing.
    """
    t_bh = 0.0 if t is None else t
    if logits.given_eh is not None:
        t_bh += tile.load(logits.given_eh, edges_b, mask_b, -jnp.inf)
    return jnp.where(mask_b[:, None], t_bh, -jnp.inf)


def exponents(pieces: Pieces | None, keys: Array, peak: Array) -> Array:
    """Return logits less the row's largest, minus infinity for what is no edge."""
    x = keys - peak if pieces is None else pieces.exponents(keys, peak)
    return jnp.where(keys == -jnp.inf, -jnp.inf, x)


def zero_unless_real(t: Array, values: Array) -> Array:
    """Put 0 where an edge is masked, its logit minus infinity: values may be anything there."""
    return jnp.where(t == -jnp.inf, 0.0, values)
