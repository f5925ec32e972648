"""Softmax over a receiver's edges and the weighted sum, as kernels for NVIDIA GPUs.

    out_i = sum_j alpha_ij d_ij z_j,   alpha_ij = softmax_j x_ij

As `aggregation.softmax_sum`, but in Pallas (its Triton backend): a row's logits and values are read
once, and nothing of the size [E, C, H] ever leaves the registers. Nodes are cut on the host into
*chunks* of a bounded number of edges. One program takes one chunk, tile by tile, and keeps the
largest logit so far, the sum of exponentials and the weighted sum (the online softmax of
flash attention: Dao et al. 2022, https://arxiv.org/abs/2205.14135). A row of one chunk is finished
there; of a longer row every chunk leaves its three numbers, which a second kernel combines in their
order. So a hub is shared among many programs, there are no atomics, and every run gives the same
bits. Rows of equal degree are cut alike: twins come out equal to the last bit.

With G = dL/dout the gradients are

    r_i = sum_j alpha_ij d_ij <G_i, z_j>            by receiver, which also leaves <G_i, z_j>
    dL/dx_ij = alpha_ij (d_ij <G_i, z_j> - r_i),  dL/dd_ij = alpha_ij <G_i, z_j>
    dL/dz_j = sum_i alpha_ij d_ij G_i               by sender

and alpha is recomputed from x and two numbers per receiver. What is smaller than float32 is added
up in float32.

What is done with a tile of numbers stands here, how it is loaded in `triton_tiles`: another kind of
accelerator needs another of the second. Outside of CUDA the kernels are interpreted, which is for
tests alone. Local suffixes: n nodes, e edges, b edges (or chunks) of a tile, c channels, h heads.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton
from jaxtyping import Array

from gat_jax.aggregation import EdgeArray, EdgeMask, Features, finite, fold_heads
from gat_jax.tables import Rows
from gat_jax.triton_tiles import Chunk, ChunkIds, Tile, TileShape, shape_of, zero_unless_real

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
    base_h = finite(peak_h)
    p_bh = jnp.exp(x_bh - base_h[None])
    scale_h = jnp.exp(state.peak_h - base_h)
    terms_bch = (p_bh * weights_bh)[:, None] * values_bch
    return _State(
        state.sum_ch * scale_h[None] + jnp.sum(terms_bch, axis=0),
        peak_h,
        state.total_h * scale_h + jnp.sum(p_bh * counts_bh, axis=0),
    )


def _empty(tile: Tile, dtype) -> _State:
    zeros_h = tile.zeros(dtype, is_value=False)
    return _State(tile.zeros(dtype), jnp.full_like(zeros_h, -jnp.inf), zeros_h)


def _finish(state: _State) -> tuple[Array, Array, Array]:
    """Return the outputs [c, h], the largest logits (0 without edges), one over the totals."""
    inverse_h = 1.0 / jnp.where(state.total_h > 0, state.total_h, 1.0)
    return state.sum_ch * inverse_h[None], finite(state.peak_h), inverse_h


# --- kernels --------------------------------------------------------------------------------------


def _softmax_kernel(ids, x_ref, z_ref, d_ref, whole, part, *, shape: TileShape):
    """Write outputs, largest logits and inverse totals; of a chunk sums, largest and totals."""
    tile = Tile(shape, pl.program_id(1))
    chunk = Chunk(ids, tile, x_ref, d_ref)

    def body(edges_b, others_b, mask_b, x_bh, d_bh, state):
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

    node, start, stop = _long_row(long)
    state = tile.loop(start, stop, body, _empty(tile, sum_ref.dtype))
    for ref, values in zip(whole, _finish(state), strict=True):
        tile.store(ref, node, values, True)


def _dots_kernel(ids, x_ref, z_ref, d_ref, row_refs, dots_ref, whole, part, *, shape: TileShape):
    """Write <G_i, z_j> of every edge, and r_i = sum_j alpha_ij d_ij <G_i, z_j>."""
    tile = Tile(shape, pl.program_id(1))
    chunk = Chunk(ids, tile, x_ref, d_ref)
    g_ch, peak_h, inverse_h = (tile.load(ref, chunk.owner, True) for ref in row_refs)

    def body(edges_b, others_b, mask_b, x_bh, d_bh, r_h):
        z_bch = zero_unless_real(x_bh[:, None], tile.load(z_ref, others_b, mask_b))
        dot_bh = jnp.sum(g_ch[None] * z_bch, axis=1)
        tile.store(dots_ref, edges_b, dot_bh, mask_b)
        alpha_bh = jnp.exp(x_bh - peak_h[None]) * inverse_h[None]
        return r_h + jnp.sum(alpha_bh * d_bh * dot_bh, axis=0)

    r_h = chunk.loop(body, tile.zeros(part[0].dtype, is_value=False))
    chunk.store(whole, part, [r_h], [r_h])


def _values_kernel(ids, x_ref, d_ref, row_refs, whole, part, *, shape: TileShape):
    """Write dL/dz_j = sum_i alpha_ij d_ij G_i; the rows are the senders'."""
    tile = Tile(shape, pl.program_id(1))
    chunk = Chunk(ids, tile, x_ref, d_ref)
    g_ref, peak_ref, inverse_ref = row_refs

    def body(edges_b, others_b, mask_b, x_bh, d_bh, sum_ch):
        refs = (peak_ref, inverse_ref, g_ref)
        peak_bh, inverse_bh, g_bch = (tile.load(ref, others_b, mask_b) for ref in refs)
        weights_bh = jnp.exp(x_bh - peak_bh) * inverse_bh * d_bh
        return sum_ch + jnp.sum(weights_bh[:, None] * g_bch, axis=0)

    sum_ch = chunk.loop(body, tile.zeros(part[0].dtype))
    chunk.store(whole, part, [sum_ch], [sum_ch])


def _add_kernel(whole_before, long, part, whole, *, shape: TileShape):
    """Add up the partial results of the rows of several chunks."""
    del whole_before  # the same memory as `whole`
    tile = Tile(shape, pl.program_id(1))
    [part_ref], [whole_ref] = part, whole
    is_value = len(part_ref.shape) == 3

    def body(places_b, mask_b, total):
        return total + jnp.sum(tile.load(part_ref, places_b, mask_b), axis=0)

    node, start, stop = _long_row(long)
    total = tile.loop(start, stop, body, tile.zeros(part_ref.dtype, is_value=is_value))
    tile.store(whole_ref, node, total, True)


def _long_row(long):
    """Return the node of a program's row, and where its partial results start and stop."""
    number, (nodes, starts) = pl.program_id(0), long
    return nodes[number], starts[number], starts[number + 1]


# --- calls ----------------------------------------------------------------------------------------


def _call(kernel: Callable, programs: int, shape: TileShape, args, out, *, num_replaced: int = 0):
    """Run a kernel on (programs, head blocks); compiled for CUDA, interpreted elsewhere.

    Which of the two is decided where the program is lowered, so that a program for CUDA can be
    exported from any machine. The first arrays of `args` may be replaced by those of `out`.
    """

    def run(interpret: bool) -> Callable:
        return pl.pallas_call(
            functools.partial(kernel, shape=shape),
            out_shape=out,
            grid=(programs, shape.num_head_blocks),
            input_output_aliases={i: i for i in range(num_replaced)},
            compiler_params=triton.CompilerParams(num_warps=shape.num_warps),
            interpret=interpret,
            name=kernel.__name__.strip("_"),
        )

    return jax.lax.platform_dependent(*args, cuda=run(False), default=run(True))


def _over_rows(
    kernels: Sequence[Callable],
    rows: Rows,
    shape: TileShape,
    args: Sequence[Any],
    whole: Sequence[jax.ShapeDtypeStruct],
    dtype: jnp.dtype,
    extra: Sequence[jax.ShapeDtypeStruct] = (),
) -> Sequence[Array]:
    """Return what a kernel writes, with the rows of several chunks combined.

    Args:
      kernels: of (chunks, *args, *extra, whole, part), and of (whole, long, part, whole).
      rows: whose chunks they are.
      shape: of the tiles.
      args: inputs of the first kernel.
      whole: [N, ...] results of the rows.
      dtype: of the partial results, which are otherwise alike.
      extra: further outputs of the first kernel.

    Returns:
      The further outputs, and then the results.
    """
    over_chunks, combine = kernels
    # Never an empty array, so that a graph without long rows needs no form of its own.
    num_parts = max(1, rows.num_parts)
    part = [jax.ShapeDtypeStruct((num_parts, *x.shape[1:]), dtype) for x in whole]
    out = [*extra, list(whole), part]
    chunks = ChunkIds(*(getattr(rows, name) for name in ChunkIds._fields))
    *extras, result, parts = _call(over_chunks, len(rows.owners), shape, (chunks, *args), out)
    if rows.num_parts > 0:
        inputs = (result, (rows.long, rows.long_starts), parts)
        [result] = _call(
            combine, len(rows.long), shape, inputs, [list(whole)], num_replaced=len(whole)
        )
    return *extras, *result


# --- the function ---------------------------------------------------------------------------------


@jax.custom_vjp
def softmax_sum(
    by_receiver: Rows,
    by_sender: Rows,
    x_eh: EdgeArray,
    z_nch: Features,
    multiplier_eh: EdgeArray | None = None,
    mask_eh: EdgeMask | None = None,
) -> Features:
    """Return sum_j alpha_ij d_ij z_j with alpha the softmax of x over a receiver's edges.

    Args:
      by_receiver: the edges by receivers, the senders at their other ends.
      by_sender: the same edges by senders, for the gradient.
      x_eh: finite; each receiver's largest value is subtracted.
      z_nch: of the senders.
      multiplier_eh: d; None stands for ones.
      mask_eh: True = real; other edges are as if absent, whatever their numbers and their senders'.
        None stands for all.

    Returns:
      [N, C, H] in the dtype of z, zeros at receivers without real edges.

    Raises:
      ValueError: if shapes do not fit the rows.

    Numerics: computed in float32, or in the widest dtype of the arguments; each gradient comes in
    the dtype of what it belongs to.
    """
    layout = (by_receiver, by_sender)
    return _save(layout, x_eh, z_nch, multiplier_eh, mask_eh)[0]


def _save(layout: tuple[Rows, Rows], x_eh, z_nch, multiplier_eh, mask_eh):
    _check(layout, x_eh, z_nch, multiplier_eh, mask_eh)
    if mask_eh is not None:
        x_eh = jnp.where(mask_eh, x_eh, -jnp.inf)
    out_nch, *saved = _forward(layout, x_eh, z_nch, multiplier_eh)
    return out_nch, (layout, x_eh, z_nch, multiplier_eh, *saved)


def _pull_back(saved, g_nch):
    return None, None, *_backward(*saved, g_nch), None


softmax_sum.defvjp(lambda receiver, sender, *args: _save((receiver, sender), *args), _pull_back)


def _check(layout: tuple[Rows, Rows], x_eh, z_nch, multiplier_eh, mask_eh) -> None:
    # A kernel does not look: it would read and write another array's memory.
    for rows in layout:
        expected, found = (len(x_eh), len(z_nch)), (len(rows.nodes), rows.num_nodes)
        if found != expected:
            raise ValueError(f"rows: expected {expected} edges and nodes, got {found}")
    expected = (len(x_eh), z_nch.shape[-1])
    for name, array in (("x", x_eh), ("multiplier", multiplier_eh), ("mask", mask_eh)):
        if array is not None and array.shape != expected:
            raise ValueError(f"{name}: expected shape {expected}, got {array.shape}")


@fold_heads
def _forward(layout: tuple[Rows, Rows], x_eh, z_nch, multiplier_eh):
    """Return the outputs, and of every receiver the largest logit and one over the total."""
    arrays = [x for x in (x_eh, z_nch, multiplier_eh) if x is not None]
    dtype = functools.reduce(jnp.promote_types, (x.dtype for x in arrays), jnp.float32)
    node = jax.ShapeDtypeStruct((len(z_nch), z_nch.shape[-1]), dtype)
    if len(x_eh) == 0:
        return jnp.zeros_like(z_nch), jnp.zeros_like(node), jnp.ones_like(node)
    return tuple(
        _over_rows(
            [_softmax_kernel, _combine_kernel],
            layout[0],
            shape_of(*z_nch.shape[1:]),
            (x_eh, z_nch, multiplier_eh),
            [_like(z_nch), node, node],
            dtype,
        )
    )


@fold_heads
def _backward(layout: tuple[Rows, Rows], x_eh, z_nch, multiplier_eh, peak_nh, inverse_nh, g_nch):
    """Return the gradients of x, z and the multiplier."""
    if len(x_eh) == 0:
        return jax.tree.map(jnp.zeros_like, (x_eh, z_nch, multiplier_eh))
    by_receiver, by_sender = layout
    shape, dtype, at_rows = shape_of(*z_nch.shape[1:]), peak_nh.dtype, (g_nch, peak_nh, inverse_nh)
    dots_eh, r_nh = _over_rows(
        [_dots_kernel, _add_kernel],
        by_receiver,
        shape,
        (x_eh, z_nch, multiplier_eh, at_rows),
        [_like(peak_nh)],
        dtype,
        extra=[jax.ShapeDtypeStruct(x_eh.shape, dtype)],
    )
    [dz_nch] = _over_rows(
        [_values_kernel, _add_kernel],
        by_sender,
        shape,
        (x_eh, multiplier_eh, at_rows),
        [_like(z_nch)],
        dtype,
    )
    # What is left is elementwise: XLA makes a loop of it.
    peak_eh, inverse_eh, r_eh = (
        x.at[by_receiver.nodes].get(mode="promise_in_bounds") for x in (peak_nh, inverse_nh, r_nh)
    )
    alpha_eh = jnp.exp(x_eh - peak_eh) * inverse_eh
    if multiplier_eh is None:
        return (alpha_eh * (dots_eh - r_eh)).astype(x_eh.dtype), dz_nch, None
    wanted_eh = zero_unless_real(x_eh, multiplier_eh * dots_eh)
    dx_eh = (alpha_eh * (wanted_eh - r_eh)).astype(x_eh.dtype)
    return dx_eh, dz_nch, (alpha_eh * dots_eh).astype(multiplier_eh.dtype)


def _like(x: Array) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(x.shape, x.dtype)
