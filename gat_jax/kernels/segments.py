"""Segment softmax, sums and dot products with gradients, for whoever has edges and no GAT.

    segment_softmax_sum   out_i = sum_j alpha_ij d_ij (v_j + u_ij),   alpha_ij = softmax_j x_ij
    segment_sum           out_i = sum_j u_ij,   or   out_i = sum_j w_ij v_j
    segment_dots          x_ij = <q_i, k_j>

j runs over the edges of receiver i, which are a segment. Heads stand before channels here,
[N, H, C], as transformers have them; the sums of `contract` want [N, C, H], and a transposition of
what belongs to nodes is the price. On layouts with tables nothing is scattered, forward or
backward, and equal inputs give equal bits in every run. `docs/segments.md` has examples.

Local suffixes: n nodes, e edges, h heads, c channels, k all numbers of an edge.
"""

import math
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from gat_jax.kernels import attention, contract
from gat_jax.kernels.gradients import with_gradient
from gat_jax.kernels.layouts import Layout
from gat_jax.kernels.xla.loops import rows_of
from gat_jax.runtime.jax_arrays import check_array

Floats = Array | np.ndarray


def segment_softmax_sum(
    logits: Float[Floats, "edges heads"],
    values: Float[Floats, "senders heads channels"] | None,
    layout: Layout,
    *,
    edge_values: Float[Floats, "edges heads channels"] | None = None,
    multiplier: Float[Floats, "edges heads"] | None = None,
    mask: Bool[Floats, "edges ..."] | None = None,
) -> Float[Array, "nodes heads channels"]:
    """Sum values over the edges of every receiver, weighted by the softmax of the edges' logits.

        out_i = sum_j alpha_ij d_ij (v_j + u_ij),   alpha_ij = softmax_j x_ij

    Args:
      logits: x [E, H], in the order of the layout's edges. Minus infinity stands for no edge.
      values: v [M, H, C] of the senders, gathered by the layout; None stands for zeros.
      layout: of `make_layout` or `layout_of_edges`.
      edge_values: u [E, H, C] of the edges; None stands for zeros. With it the attention is stored.
      multiplier: d [E, H], such as dropout's; None stands for ones.
      mask: [E] or [E, H], True = real; other edges are as if absent, and what belongs to them has
        to be finite. None: all are real.

    Returns:
      [N, H, C] in the dtype of the values; zeros at receivers without real edges.

    Raises:
      ValueError: if an array has another shape or no floats, there are no values at all, or the
        layout is none.

    Numerics: each receiver's largest logit is subtracted; weights and sums are float32, or the
    widest dtype given. The error is a few units in the last place of sum_j alpha_ij |v_j|, so 1e-6
    of the largest value. Gradients to logits, values, edge values and multiplier are once
    differentiable in reverse mode; layout "segment" alone has more. `vmap` folds into the heads.
    """
    x_eh = _floats("logits", logits, (_edges_of(layout), None))
    shape = x_eh.shape
    d_eh = None if multiplier is None else _wide(_floats("multiplier", multiplier, shape))
    mask_eh = None if mask is None else jnp.broadcast_to(_mask(mask, shape), shape)
    v_nch = u_ehc = None
    if values is not None:
        v_nhc = _floats("values", values, (layout.num_senders, shape[1], None))
        v_nch = v_nhc.swapaxes(1, 2)
    if edge_values is not None:
        channels = None if v_nch is None else v_nch.shape[1]
        u_ehc = _floats("edge_values", edge_values, (*shape, channels))
    if u_ehc is not None:
        # The attention of both sums is computed once.
        weights_eh = attention.softmax(layout, x_eh, mask_eh)
        weights_eh = weights_eh if d_eh is None else weights_eh * d_eh
        out_nhc = _sum_of_edges(layout, weights_eh[..., None] * u_ehc)
        if v_nch is not None:
            out_nhc += _of_nodes(attention.linear_sum(layout, weights_eh, v_nch))
        return out_nhc.astype(u_ehc.dtype if v_nch is None else v_nch.dtype)
    if v_nch is None:
        raise ValueError("values: expected those of senders, of edges or both, got neither")
    out_nch = attention.softmax_sum(layout, _wide(x_eh), v_nch, d_eh, mask_eh)
    return _of_nodes(out_nch).astype(v_nch.dtype)


def segment_sum(
    values: Float[Floats, "..."],
    layout: Layout,
    *,
    weights: Float[Floats, "edges heads"] | None = None,
    mask: Bool[Floats, "edges ..."] | None = None,
) -> Float[Array, "..."]:
    """Sum values over the edges of every receiver: of the edges, or of the senders with weights.

        out_i = sum_j u_ij,   or   out_i = sum_j w_ij v_j

    Args:
      values: u [E, ...] of the edges, where there are no weights: the same as
        `jax.ops.segment_sum(values, layout.receivers, N)`. With weights v [M, H, C] of the senders.
      layout: of `make_layout` or `layout_of_edges`.
      weights: w [E, H], in the order of the layout's edges.
      mask: [E], or as many axes as the edges' values share with it; True = real, other edges are as
        if absent. None: all are real.

    Returns:
      [N, ...] or [N, H, C] in the dtype of the values; zeros at receivers without real edges.

    Raises:
      ValueError: if an array has another shape or no floats, or the layout is none.

    Numerics: added up in float32, or in the widest dtype given; gradients as `segment_softmax_sum`.
    """
    num_edges = _edges_of(layout)
    if weights is None:
        u_e = _floats("values", values, (num_edges, ...))
        u_e = u_e if mask is None else jnp.where(_mask(mask, u_e.shape), u_e, 0.0)
        return _sum_of_edges(layout, u_e).astype(u_e.dtype)
    w_eh = _wide(_floats("weights", weights, (num_edges, None)))
    w_eh = w_eh if mask is None else jnp.where(_mask(mask, w_eh.shape), w_eh, 0.0)
    v_nhc = _floats("values", values, (layout.num_senders, w_eh.shape[1], None))
    out_nch = attention.linear_sum(layout, w_eh, v_nhc.swapaxes(1, 2))
    return _of_nodes(out_nch).astype(v_nhc.dtype)


def segment_dots(
    queries: Float[Floats, "nodes heads channels"],
    keys: Float[Floats, "senders heads channels"],
    layout: Layout,
) -> Float[Array, "edges heads"]:
    """Return the dot product of the receiver's query and the sender's key, of every edge.

    Args:
      queries: q [N, H, C] of the receivers.
      keys: k [M, H, C] of the senders.
      layout: of `make_layout` or `layout_of_edges`.

    Returns:
      [E, H], in the order of the layout's edges: logits of `segment_softmax_sum`.

    Raises:
      ValueError: if an array has another shape or no floats, or the layout is none.

    Numerics: at full precision in float32, or in the wider dtype; gradients as above.
    """
    _edges_of(layout)
    q_nhc = _floats("queries", queries, (layout.num_receivers, None, None))
    k_nhc = _floats("keys", keys, (layout.num_senders, *q_nhc.shape[1:]))
    return _dots(layout, (_wide(q_nhc).swapaxes(1, 2), _wide(k_nhc).swapaxes(1, 2)))


# --- checks ---------------------------------------------------------------------------------------


def _edges_of(layout: Any) -> int:
    if not isinstance(layout, Layout):
        kind = type(layout).__name__
        raise ValueError(f"layout: expected one of make_layout or layout_of_edges, got {kind}")
    return layout.num_edges


def _floats(field: str, array: Any, shape: tuple) -> Array:
    """Return an array of floats; in its shape None stands for any number, ... for any others.

    A kernel does not look: it would read another array's memory.
    """
    check_array(field, array, "real numbers")
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise ValueError(f"{field}: expected an array of floats, got {array.dtype}")
    found, wanted = array.shape, shape
    if shape[-1] is ...:
        found, wanted = found[: len(shape) - 1], shape[:-1]
    is_like = [w in (None, n) for w, n in zip(wanted, found, strict=False)]
    if len(found) != len(wanted) or not all(is_like):
        text = ", ".join({None: "*", ...: "..."}.get(n, str(n)) for n in shape)
        raise ValueError(f"{field}: expected shape ({text}), got {array.shape}")
    return jnp.asarray(array)


def _mask(mask: Any, shape: tuple[int, ...]) -> Bool[Array, "..."]:
    """Return a mask of the first axes of a shape, with axes of length 1 for the others."""
    check_array("mask", mask, "booleans")
    if mask.ndim == 0 or mask.shape != shape[: mask.ndim]:
        raise ValueError(f"mask: expected the first axes of shape {shape}, got {mask.shape}")
    return jnp.asarray(mask).reshape(*mask.shape, *(1,) * (len(shape) - mask.ndim))


def _wide(x: Array) -> Array:
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _of_nodes(x_nch: Float[Array, "nodes channels heads"]) -> Float[Array, "nodes heads channels"]:
    return x_nch.swapaxes(1, 2)


# --- sums -----------------------------------------------------------------------------------------


def _sum_of_edges(
    layout: Layout, u_e: Float[Array, " edges *rest"]
) -> Float[Array, " nodes *rest"]:
    """Return sum_j u_ij over a receiver's edges, in float32 at least."""
    rest = u_e.shape[1:]
    sum_nk = _edge_sum(layout, u_e.reshape(len(u_e), math.prod(rest)))
    return sum_nk.reshape(layout.num_receivers, *rest)


def _edge_sum_forward(layout: Layout, u_ek, _):
    # Widened within the loop: what has half the bytes is read as such.
    return contract.edge_reduce(
        lambda edges, *_: _wide(edges[0]), layout.by_receiver, at_edges=[u_ek]
    ), ()


def _edge_sum_backward(layout: Layout, u_ek, mask, saved, g_nk):
    return rows_of(g_nk, layout.receivers)


_edge_sum = with_gradient(_edge_sum_forward, _edge_sum_backward)


def _dots_forward(layout: Layout, inputs, _):
    q_nch, k_nch = inputs
    dots_eh = contract.edge_dots(lambda dot, *_: dot, layout.by_receiver, rows=q_nch, others=k_nch)
    return dots_eh, ()


def _dots_backward(layout: Layout, inputs, mask, saved, g_eh):
    q_nch, k_nch = inputs
    return (
        contract.weighted_sum([g_eh], layout.by_receiver, k_nch),
        contract.weighted_sum([g_eh], layout.by_sender, q_nch),
    )


_dots = with_gradient(_dots_forward, _dots_backward)
