"""Softmax over a receiver's edges and the weighted sum, in one kernel for NVIDIA GPUs.

    out_i = sum_j alpha_ij d_ij z_j,   alpha_ij = softmax_j x_ij

with logits x as `logits` has them. `attention` and `gat_logits` call it, and wire it to its
gradient. A row's values are read once: a program keeps the largest logit so far, the sum of
exponentials and the weighted sum (the online softmax of flash attention: Dao et al. 2022,
https://arxiv.org/abs/2205.14135). `sums` says what a program is, and why every run gives the same
bits.

Local suffixes: n nodes, e edges, b edges (or chunks) of a tile, c channels, h heads.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jaxtyping import Array, Float

from gat_jax.kernels.elementwise import finite_peak
from gat_jax.kernels.layouts import Layout
from gat_jax.kernels.triton.logits import (
    Logits,
    Pieces,
    Saved,
    Scores,
    exponents,
    load_pieces,
    load_t,
    zero_unless_real,
)
from gat_jax.kernels.triton.softmax_gradient import backward
from gat_jax.kernels.triton.sums import dtype_of, long_row, over_rows
from gat_jax.kernels.triton.tiles import Chunk, Tile, TileShape, shape_of

__all__ = ["Logits", "Scores", "backward", "forward"]


# --- a softmax, tile by tile ----------------------------------------------------------------------


class _State(NamedTuple):
    """A softmax so far. The largest key is minus infinity as long as there is none."""

    peak_h: Array
    sums: tuple  # of exp(x - peak) times terms: [c, h] or [h]


def _absorb(state: _State, pieces: Pieces | None, keys_bh: Array, terms: Sequence) -> _State:
    """Add exp(x) times terms, pairs of weights [b, h] and values [b, c, h], to the sums.

    Values are None where the weights are all there is.
    """
    peak_h = jnp.maximum(state.peak_h, jnp.max(keys_bh, axis=0))
    base_h = finite_peak(peak_h)
    of_tile = None if pieces is None else pieces.of_tile()
    p_bh = jnp.exp(exponents(of_tile, keys_bh, base_h[None]))
    scale_h = jnp.exp(exponents(pieces, state.peak_h, base_h))
    sums = []
    for total, (weights_bh, values_bch) in zip(state.sums, terms, strict=True):
        if values_bch is None:
            sums.append(total * scale_h + jnp.sum(p_bh * weights_bh, axis=0))
        else:
            products = (p_bh * weights_bh)[:, None] * values_bch
            sums.append(total * scale_h[None] + jnp.sum(products, axis=0))
    return _State(peak_h, tuple(sums))


def _empty(tile: Tile, refs: Sequence, dtype) -> _State:
    """Return the state before the first edge, for results like `refs`, the last one the peak."""
    sums = tuple(tile.zeros(dtype, is_value=len(ref.shape) == 3) for ref in refs[:-1])
    return _State(jnp.full_like(tile.zeros(dtype, is_value=False), -jnp.inf), sums)


def _finish(pieces: Pieces | None, state: _State) -> list[Array]:
    """Return outputs, one over the totals, the shares of negative logits, and the largest keys."""
    out_ch, total_h, *below = state.sums
    inverse_h = 1.0 / jnp.where(total_h > 0, total_h, 1.0)
    peak_h = finite_peak(state.peak_h)
    if pieces is not None:
        below_ch, below_h = below
        is_mixed = pieces.has_positive(peak_h) & (below_h > 0) & (below_h < total_h)
        share_h = jnp.where(is_mixed, inverse_h, 0.0)
        below = [below_ch * share_h[None], below_h * share_h]
    return [out_ch * inverse_h[None], inverse_h, *below, peak_h]


# --- kernels --------------------------------------------------------------------------------------


def _softmax_kernel(ids, logits: Logits, z_ref, d_ref, whole, part, *, shape: TileShape):
    """Write what `_finish` returns; of a chunk sums and the largest key."""
    tile = Tile(shape, pl.program_id(1))
    chunk = Chunk(ids, tile)
    pieces = load_pieces(tile, logits.scores, chunk.owner, True)

    def body(edges_b, others_b, mask_b, state):
        n_bh = None
        if logits.scores is not None:
            n_bh = tile.load(logits.scores.n_nh, others_b, mask_b)
        t_bh = load_t(tile, logits, n_bh, edges_b, mask_b)
        z_bch = zero_unless_real(t_bh[:, None], tile.load(z_ref, others_b, mask_b))
        d_bh = ones_bh = jnp.ones_like(t_bh)
        if d_ref is not None:
            d_bh = zero_unless_real(t_bh, tile.load(d_ref, edges_b, mask_b))
        terms = [(d_bh, z_bch), (ones_bh, None)]
        if pieces is None:
            return _absorb(state, None, t_bh, terms)
        below_bh = jnp.where(pieces.c[None] + t_bh < 0, 1.0, 0.0)
        terms += [(below_bh * d_bh, z_bch), (below_bh, None)]
        return _absorb(state, pieces, pieces.of_tile().keys(t_bh), terms)

    state = chunk.loop(body, _empty(tile, part, part[0].dtype))
    chunk.store(whole, part, _finish(pieces, state), [*state.sums, state.peak_h])


def _combine_kernel(whole_before, long, part, scores, whole, *, shape: TileShape):
    """Finish the rows of several chunks."""
    del whole_before  # the same memory as `whole`
    tile = Tile(shape, pl.program_id(1))
    node, start, stop = long_row(long)
    pieces = load_pieces(tile, scores, node, True)

    def body(places_b, mask_b, state):
        *sums, _ = part
        keys_bh = tile.load(part[-1], places_b, mask_b, -jnp.inf)
        terms = []
        for ref in sums:
            values = tile.load(ref, places_b, mask_b)
            is_value = values.ndim == 3
            terms.append((jnp.ones_like(keys_bh), values) if is_value else (values, None))
        return _absorb(state, pieces, keys_bh, terms)

    state = tile.loop(start, stop, body, _empty(tile, part, part[0].dtype))
    for ref, values in zip(whole, _finish(pieces, state), strict=True):
        tile.store(ref, node, values, True)


# --- forward ------------------------------------------------------------------------------------


def forward(
    layout: Layout,
    logits: Logits,
    z_nch: Float[Array, "senders channels heads"],
    multiplier_eh: Float[Array, "edges heads"] | None,
) -> tuple[Float[Array, "nodes channels heads"], Saved]:
    """Return the outputs, zeros at receivers without edges, and what `backward` needs.

    Args:
      layout: of the graph, with chunked rows.
      logits: of the edges.
      z_nch: of the senders.
      multiplier_eh: d; None stands for ones.

    Raises:
      ValueError: if shapes do not fit the layout.
    """
    _check(layout, logits, z_nch, multiplier_eh)
    dtype = dtype_of(*jax.tree.leaves(logits), z_nch, multiplier_eh)
    shape = layout.num_receivers, *z_nch.shape[1:]
    of_channels = jax.ShapeDtypeStruct(shape, dtype)
    of_node = jax.ShapeDtypeStruct((shape[0], shape[-1]), dtype)
    below = [] if logits.scores is None else [of_channels, of_node]
    out_nch, inverse_nh, *below, peak_nh = over_rows(
        [_softmax_kernel, _combine_kernel],
        layout.receiver_index,
        shape_of(*z_nch.shape[1:]),
        (logits, layout.gathered(z_nch), multiplier_eh),
        [of_channels, of_node, *below, of_node],
        dtype,
        combine_args=[logits.scores],
    )
    # What is saved is not rounded: dL/dx is a difference of <G, out> and <G, z>.
    return out_nch.astype(z_nch.dtype), Saved(out_nch, inverse_nh, peak_nh, *below)


def _check(layout: Layout, logits: Logits, z_nch, multiplier_eh) -> None:
    # A kernel does not look: it would read and write another array's memory.
    of_heads, scores = z_nch.shape[-1:], logits.scores
    edges, senders = (layout.num_edges, *of_heads), (layout.num_senders, *of_heads)
    expected = [
        ("x", logits.given_eh, edges),
        ("z", z_nch, (layout.num_senders, *z_nch.shape[1:])),
        ("multiplier", multiplier_eh, edges),
    ]
    receivers = layout.num_receivers, *of_heads
    if scores is not None:
        expected += [("c", scores.c_nh, receivers), ("n", scores.n_nh, senders)]
    for name, array, shape in expected:
        if array is not None and array.shape != shape:
            raise ValueError(f"{name}: expected shape {shape}, got {array.shape}")
