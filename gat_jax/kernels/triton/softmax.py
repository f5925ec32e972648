"""Softmax over a receiver's edges and the weighted sum, in one kernel for NVIDIA GPUs.

    out_i = sum_j alpha_ij d_ij z_j,   alpha_ij = softmax_j x_ij

`attention.softmax_sum` calls it, and wires it to its gradient. A row's logits and values are read
once: a program keeps the largest logit so far, the sum of exponentials and the weighted sum (the
online softmax of flash attention: Dao et al. 2022, https://arxiv.org/abs/2205.14135). `sums` says
what a program is, and why every run gives the same bits.

With G = dL/dout the gradients are

    r_i = sum_j alpha_ij d_ij <G_i, z_j>
    dL/dx_ij = alpha_ij (d_ij <G_i, z_j> - r_i),  dL/dd_ij = alpha_ij <G_i, z_j>
    dL/dz_j = sum_i alpha_ij d_ij G_i

and alpha is recomputed from x and two numbers per receiver.

Local suffixes: n nodes, e edges, b edges (or chunks) of a tile, c channels, h heads.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jaxtyping import Array, Float

from gat_jax.kernels.layouts import Layout
from gat_jax.kernels.triton.sums import (
    dtype_of,
    edge_dots,
    edge_reduce,
    long_row,
    over_rows,
    weighted_sum,
)
from gat_jax.kernels.triton.tiles import Chunk, Tile, TileShape, shape_of
from gat_jax.kernels.xla.loops import rows_of

# --- a softmax, tile by tile ----------------------------------------------------------------------


class _State(NamedTuple):
    """A softmax so far. The largest logit is minus infinity as long as there is none."""

    sum_ch: Array  # of exp(x - peak) times weight times value
    peak_h: Array
    total_h: Array  # of exp(x - peak)


def _absorb(state: _State, x_bh: Array, counts_bh: Array, weights_bh: Array, values_bch: Array):
    """Add terms exp(x) * count to the total, and exp(x) * weight * value to the sum.

    An edge counts as 1; a stored partial result is the term of its peak, total and sum.
    """
    peak_h = jnp.maximum(state.peak_h, jnp.max(x_bh, axis=0))
    base_h = _finite(peak_h)
    p_bh = jnp.exp(x_bh - base_h[None])
    scale_h = jnp.exp(state.peak_h - base_h)
    terms_bch = (p_bh * weights_bh)[:, None] * values_bch
    return _State(
        state.sum_ch * scale_h[None] + jnp.sum(terms_bch, axis=0),
        peak_h,
        state.total_h * scale_h + jnp.sum(p_bh * counts_bh, axis=0),
    )


def _finite(peak_h: Array) -> Array:
    return jnp.where(peak_h > -jnp.inf, peak_h, 0.0)


def _empty(tile: Tile, dtype) -> _State:
    zeros_h = tile.zeros(dtype, is_value=False)
    return _State(tile.zeros(dtype), jnp.full_like(zeros_h, -jnp.inf), zeros_h)


def _finish(state: _State) -> tuple[Array, Array, Array]:
    """Return the outputs [c, h], the largest logits (0 without edges), one over the totals."""
    inverse_h = 1.0 / jnp.where(state.total_h > 0, state.total_h, 1.0)
    return state.sum_ch * inverse_h[None], _finite(state.peak_h), inverse_h


# --- kernels --------------------------------------------------------------------------------------


def _softmax_kernel(ids, x_ref, z_ref, d_ref, whole, part, *, shape: TileShape):
    """Write outputs, largest logits and inverse totals; of a chunk sums, largest and totals."""
    tile = Tile(shape, pl.program_id(1))
    chunk = Chunk(ids, tile)

    def body(edges_b, others_b, mask_b, state):
        x_bh = tile.load(x_ref, edges_b, mask_b, -jnp.inf)
        d_bh = jnp.ones_like(x_bh)
        if d_ref is not None:
            d_bh = zero_unless_real(x_bh, tile.load(d_ref, edges_b, mask_b))
        z_bch = zero_unless_real(x_bh[:, None], tile.load(z_ref, others_b, mask_b))
        return _absorb(state, x_bh, jnp.ones_like(x_bh), d_bh, z_bch)

    state = chunk.loop(body, _empty(tile, part[0].dtype))
    chunk.store(whole, part, _finish(state), state)


def _combine_kernel(whole_before, long, part, whole, *, shape: TileShape):
    """Finish the rows of several chunks."""
    del whole_before  # the same memory as `whole`
    tile = Tile(shape, pl.program_id(1))
    sum_ref, peak_ref, total_ref = part

    def body(places_b, mask_b, state):
        peak_bh = tile.load(peak_ref, places_b, mask_b, -jnp.inf)
        total_bh = tile.load(total_ref, places_b, mask_b)
        sum_bch = tile.load(sum_ref, places_b, mask_b)
        return _absorb(state, peak_bh, total_bh, jnp.ones_like(peak_bh), sum_bch)

    node, start, stop = long_row(long)
    state = tile.loop(start, stop, body, _empty(tile, sum_ref.dtype))
    for ref, values in zip(whole, _finish(state), strict=True):
        tile.store(ref, node, values, True)


def zero_unless_real(x: Array, values: Array) -> Array:
    """Put 0 where an edge is masked, its logit minus infinity: values may be anything there."""
    return jnp.where(x > -jnp.inf, values, 0.0)


# --- forward and backward -------------------------------------------------------------------------


def forward(
    layout: Layout,
    x_eh: Float[Array, "edges heads"],
    z_nch: Float[Array, "senders channels heads"],
    multiplier_eh: Float[Array, "edges heads"] | None,
) -> tuple[Float[Array, "nodes channels heads"], tuple[Array, Array]]:
    """Return the outputs, and of every receiver the largest logit and one over the total.

    Args:
      layout: of the graph, with chunked rows.
      x_eh: logits; minus infinity marks an edge that is as if absent, whatever its other numbers.
      z_nch: of the senders.
      multiplier_eh: d; None stands for ones.

    Raises:
      ValueError: if shapes do not fit the layout.
    """
    _check(layout, x_eh, z_nch, multiplier_eh)
    dtype = dtype_of(x_eh, z_nch, multiplier_eh)
    node = jax.ShapeDtypeStruct((layout.num_receivers, z_nch.shape[-1]), dtype)
    # The rows that are gathered may be rounded, what comes out is not.
    out_dtype, z_nch = z_nch.dtype, layout.gathered(z_nch)
    out = jax.ShapeDtypeStruct((layout.num_receivers, *z_nch.shape[1:]), out_dtype)
    out_nch, peak_nh, inverse_nh = over_rows(
        [_softmax_kernel, _combine_kernel],
        layout.receiver_index,
        shape_of(*z_nch.shape[1:]),
        (x_eh, z_nch, multiplier_eh),
        [out, node, node],
        dtype,
    )
    return out_nch, (peak_nh, inverse_nh)


def _check(layout: Layout, x_eh, z_nch, multiplier_eh) -> None:
    # A kernel does not look: it would read and write another array's memory.
    expected, found = (len(x_eh), len(z_nch)), (layout.num_edges, layout.num_senders)
    if found != expected:
        raise ValueError(f"layout: expected {expected} edges and nodes, got {found}")
    expected = (len(x_eh), z_nch.shape[-1])
    for name, array in (("x", x_eh), ("multiplier", multiplier_eh)):
        if array is not None and array.shape != expected:
            raise ValueError(f"{name}: expected shape {expected}, got {array.shape}")


def backward(
    layout: Layout,
    x_eh: Float[Array, "edges heads"],
    z_nch: Float[Array, "senders channels heads"],
    multiplier_eh: Float[Array, "edges heads"] | None,
    saved: tuple[Array, Array],
    g_nch: Float[Array, "nodes channels heads"],
) -> tuple[Array, Array, Array | None]:
    """Return the gradients of x, z and the multiplier; arguments as `forward`, G last."""
    by_receiver, z_nch = layout.by_receiver, layout.gathered(z_nch)
    dots_eh = edge_dots(lambda dot, *_: dot, by_receiver, rows=g_nch, others=z_nch)
    dots_eh = zero_unless_real(x_eh, dots_eh)
    d_eh = 1.0 if multiplier_eh is None else zero_unless_real(x_eh, multiplier_eh)
    peak_eh, inverse_eh = (rows_of(x, layout.receivers) for x in saved)
    alpha_eh = jnp.exp(x_eh - peak_eh) * inverse_eh
    weights_eh = alpha_eh * d_eh
    r_nh = edge_reduce(
        lambda edges, *_: edges[0] * edges[1], by_receiver, at_edges=[weights_eh, dots_eh]
    )
    dx_eh = alpha_eh * (d_eh * dots_eh - rows_of(r_nh, layout.receivers))
    dz_nch = weighted_sum([weights_eh], layout.by_sender, layout.gathered(g_nch))
    return dx_eh, dz_nch, None if multiplier_eh is None else alpha_eh * dots_eh
