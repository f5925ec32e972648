"""The gradients of `softmax`'s sums, in one kernel over the senders' rows for NVIDIA GPUs.

With G = dL/dout and r_i = <G_i, out_i>

    dL/dx_ij = alpha_ij (d_ij <G_i, z_j> - r_i),   dL/dz_j = sum_i alpha_ij d_ij G_i

so that a sender needs G of its receivers alone. By edge dL/dx is written where it is asked for.

GAT's row of dL/dx sums to 0, so that dL/dc_i needs negative logits alone (see `gat_logits`), and no
further look at the row: the forward kernel has added up their share,

    dL/dc_i = (slope - 1) / temperature (<G_i, B_i> - r_i b_i),
    B_i = sum of alpha_ij d_ij z_j,  b_i = sum of alpha_ij,  over j with c_i + t_ij < 0

Where a row's logits have one sign both were written as 0, and so the gradient is exactly 0.

Local suffixes: n nodes, e edges, b edges of a tile, c channels, h heads.
"""

import functools

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jaxtyping import Array, Float

from gat_jax.kernels.layouts import Layout
from gat_jax.kernels.triton.logits import (
    Gradients,
    Logits,
    Pieces,
    Saved,
    exponents,
)
from gat_jax.kernels.triton.sums import combine_kernel, edge_map, only, over_rows
from gat_jax.kernels.triton.tiles import Chunk, Tile, TileShape, shape_of
from gat_jax.kernels.xla.loops import node_dots


def _gradient_kernel(
    ids,
    signed_alpha_ref,
    settings,
    r_ref,
    g_ref,
    z_ref,
    d_ref,
    whole,
    part,
    at_edges=(),
    *,
    shape: TileShape,
):
    """Write a sender's dL/dz and, of GAT, dL/dn; by edge dL/dx. `settings` are of GAT's logits."""
    tile = Tile(shape, pl.program_id(1))
    chunk = Chunk(ids, tile)
    z_ch = chunk.own(z_ref)
    slope_bh, factor_bh = (only(tile, ref)[None] for ref in settings) if settings else (1.0, 1.0)

    def body(edges_b, others_b, mask_b, sums):
        signed_bh = tile.load(signed_alpha_ref, edges_b, mask_b)
        alpha_bh = jnp.abs(signed_bh)
        g_bch = tile.load(g_ref, others_b, mask_b)
        dots_bh = jnp.sum(g_bch * z_ch[None], axis=1)
        weights_bh = alpha_bh
        if d_ref is not None:
            weights_bh *= tile.load(d_ref, edges_b, mask_b)
        dx_bh = weights_bh * dots_bh - alpha_bh * tile.load(r_ref, others_b, mask_b)
        # At masked edges d and z may be anything.
        weights_bh, dx_bh = (jnp.where(alpha_bh == 0, 0.0, x) for x in (weights_bh, dx_bh))
        if settings is not None:
            dx_bh *= jnp.where(signed_bh < 0, slope_bh, 1.0) * factor_bh
        for ref in at_edges:
            tile.store(ref, edges_b, dx_bh, mask_b)
        terms = [jnp.sum(weights_bh[:, None] * g_bch, axis=0)]
        if settings is not None:
            terms.append(jnp.sum(dx_bh, axis=0))
        return tuple(total + term for total, term in zip(sums, terms, strict=True))

    zeros = (tile.zeros(ref.dtype, is_value=len(ref.shape) == 3) for ref in part)
    sums = chunk.loop(body, tuple(zeros))
    chunk.store(whole, part, sums, sums)


def backward(
    layout: Layout,
    logits: Logits,
    z_nch: Float[Array, "senders channels heads"],
    multiplier_eh: Float[Array, "edges heads"] | None,
    saved: Saved,
    g_nch: Float[Array, "nodes channels heads"],
    *,
    is_x_wanted: bool = True,
) -> Gradients:
    """Return the gradients; arguments as `softmax.forward`, then what it saved, and G.

    `is_x_wanted` says whether there is to be one by edge.
    """
    # What is rounded is rounded in <G, out> too, so that a row of dL/dx still sums to 0.
    g_nch, z_nch = layout.gathered(g_nch), layout.gathered(z_nch)
    dtype, scores = saved.inverse_nh.dtype, logits.scores
    wide_nch = g_nch.astype(dtype)
    r_nh = node_dots(wide_nch, saved.out_nch)
    of_values = jax.ShapeDtypeStruct(z_nch.shape, dtype)
    of_node, of_edge = (
        jax.ShapeDtypeStruct((n, z_nch.shape[-1]), dtype) for n in (len(z_nch), layout.num_edges)
    )
    dz_nch, *others = over_rows(
        [_gradient_kernel, combine_kernel],
        layout.sender_index,
        shape_of(*z_nch.shape[1:]),
        (
            _signed_alpha(layout, logits, saved),
            None if scores is None else (scores.slope_1h, scores.factor_1h),
            r_nh,
            g_nch,
            z_nch,
            multiplier_eh,
        ),
        [of_values] if scores is None else [of_values, of_node],
        dtype,
        at_edges=[of_edge] if is_x_wanted else [],
    )
    found = Gradients(dz_nch, x_eh=others.pop() if is_x_wanted else None)
    if scores is None:
        return found
    factor_1h = (scores.slope_1h - 1.0) * scores.factor_1h
    shares_nh = node_dots(wide_nch, saved.below_nch) - r_nh * saved.below_nh
    return found._replace(c_nh=factor_1h * shares_nh, n_nh=others[0])


def _signed_alpha(layout: Layout, logits: Logits, saved: Saved) -> Float[Array, "edges heads"]:
    """Return alpha, negative where the logit lies on the lower piece of GAT's row.

    The sign is free, as alpha is never negative; where it is 0, no gradient has a side.

    Edge by edge, and not in the kernel, where all lanes of a head's channels would compute it: with
    8 heads of 16 channels that took a quarter longer on an H200, the time of this loop included.
    """
    at_edges = [] if logits.given_eh is None else [logits.given_eh]
    at_rows, scores = [saved.peak_nh, saved.inverse_nh], logits.scores
    if scores is None:

        def given(edges, rows, _):
            return jnp.exp(exponents(None, edges[0], rows[0])) * rows[1]

        return edge_map(given, layout.by_receiver, at_edges=at_edges, at_rows=at_rows)

    def signed(edges, rows, others):
        peak, inverse, c = rows
        t = functools.reduce(jnp.add, edges, others[0])
        pieces = Pieces(c, scores.slope_1h, scores.factor_1h)
        alpha = jnp.exp(exponents(pieces, pieces.keys(t), peak)) * inverse
        is_above = (c + t >= 0) & pieces.has_positive(peak)
        return jnp.where(is_above, alpha, -alpha)

    at_rows.append(scores.c_nh)
    of_ends = {"at_rows": at_rows, "at_others": [scores.n_nh]}
    return edge_map(signed, layout.by_receiver, at_edges=at_edges, **of_ends)
