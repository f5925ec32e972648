"""GATv2's scores and its attention, on any layout.

    s_ij = sum_c a_c f(r_ic + l_jc + e_ijc),   f the LeakyReLU
    out_i = sum_j alpha_ij d_ij l_j,           alpha_ij = softmax_j s_ij / temperature

On tables nothing of the size [E, C, H] is stored, but for edge features, which have it as they are
given. Everything else as in `attention`.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from gat_jax.kernels import contract
from gat_jax.kernels.attention import (
    EdgeArray,
    EdgeMask,
    Features,
    SumInputs,
    masked,
    multiplier_gradient,
    softmax_sum,
)
from gat_jax.kernels.elementwise import Scalar, slope_at
from gat_jax.kernels.gradients import with_gradient
from gat_jax.kernels.layouts import Layout
from gat_jax.kernels.xla.loops import rows_of


class _Inputs(NamedTuple):
    """What a gradient flows to."""

    a_ch: Float[Array, "channels heads"]
    r_nch: Features
    l_nch: Float[Array, "senders channels heads"]
    edges_ech: Float[Array, "edges channels heads"] | None
    slope_h: Float[Array, " heads"]


def scores(
    layout: Layout,
    a_ch: Float[Array, "channels heads"],
    r_nch: Features,
    l_nch: Float[Array, "senders channels heads"],
    edges_ech: Float[Array, "edges channels heads"] | None = None,
    *,
    slope: Scalar = 0.2,
) -> EdgeArray:
    """Return sum_c a_c f(r_ic + l_jc (+ e_ijc)) of every edge [E, H]; the slope counts as traced.

    Args:
      layout: of the graph.
      a_ch: weights of the channels.
      r_nch: of the receivers.
      l_nch: of the senders.
      edges_ech: of the edges; None stands for zeros.
      slope: of the LeakyReLU.
    """
    slope_h = jnp.broadcast_to(jnp.asarray(slope, r_nch.dtype), r_nch.shape[-1:])
    return _scores(layout, _Inputs(a_ch, r_nch, l_nch, edges_ech, slope_h))


def _forward(layout: Layout, inputs: _Inputs, _):
    return _activations(layout, inputs, inputs.slope_h), ()


def _activations(layout: Layout, inputs: _Inputs, slope_h, above: float = 1.0):
    ends = {"rows": inputs.r_nch, "others": inputs.l_nch, "edges": inputs.edges_ech}
    return contract.edge_activations(
        inputs.a_ch, layout.by_receiver, **ends, slope=slope_h, above=above
    )


def _backward(layout: Layout, inputs: _Inputs, mask, saved, ds_eh):
    ends = {"rows": inputs.l_nch, "others": inputs.r_nch}
    of_edges = {"edges": inputs.edges_ech, "slope": inputs.slope_h}
    return _gradients(
        layout, inputs, ds_eh, contract.slope_sum(ds_eh, layout.by_sender, **ends, **of_edges)
    )


def _gradients(layout: Layout, inputs: _Inputs, ds_eh: EdgeArray, l_sum_nch) -> _Inputs:
    """Return the gradients for dL/ds, and its sum with f' over a sender's edges."""
    a_ch, r_nch, l_nch, edges_ech, slope_h = inputs
    # Sums of ds f', so that a is multiplied in once per node; and because f(x) = x f'(x), the same
    # sums give the gradient of a.
    of_edges = {"edges": edges_ech, "slope": slope_h}
    r_sum_nch = contract.slope_sum(ds_eh, layout.by_receiver, rows=r_nch, others=l_nch, **of_edges)
    da_ch = _sum_of_nodes(r_nch * r_sum_nch, l_nch * l_sum_nch)
    d_edges = None
    if edges_ech is not None:
        x_ech = rows_of(r_nch, layout.receivers) + rows_of(l_nch, layout.senders) + edges_ech
        d_edges = ds_eh[:, None] * slope_at(x_ech, slope_h[None, None])
        da_ch += jnp.sum(edges_ech * d_edges, axis=0)
        d_edges *= a_ch[None]
    below_eh = _activations(layout, inputs, jnp.ones_like(slope_h), above=0.0)
    d_slope = jnp.sum(ds_eh * below_eh, axis=0)
    return _Inputs(da_ch, a_ch[None] * r_sum_nch, a_ch[None] * l_sum_nch, d_edges, d_slope)


def _sum_of_nodes(of_receivers, of_senders) -> Float[Array, "channels heads"]:
    """Add up over nodes what both ends have; receivers and senders may be two sets."""
    if len(of_receivers) == len(of_senders):
        return jnp.sum(of_receivers + of_senders, axis=0)
    return jnp.sum(of_receivers, axis=0) + jnp.sum(of_senders, axis=0)


_scores = with_gradient(_forward, _backward)

# --- attention ------------------------------------------------------------------------------------


class _SumInputs(NamedTuple):
    """What a gradient flows to."""

    scores: _Inputs
    multiplier_eh: EdgeArray | None
    factor_h: Float[Array, " heads"]  # one over the temperature


def gatv2_sum(
    layout: Layout,
    a_ch: Float[Array, "channels heads"],
    r_nch: Features,
    l_nch: Float[Array, "senders channels heads"],
    edges_ech: Float[Array, "edges channels heads"] | None = None,
    *,
    multiplier_eh: EdgeArray | None = None,
    mask_eh: EdgeMask | None = None,
    slope: Scalar = 0.2,
    temperature: Scalar = 1.0,
) -> Features:
    """Return GATv2's outputs [N, C, H], zeros at receivers without real edges.

    Args:
      layout: of the graph.
      a_ch: weights of the channels.
      r_nch: of the receivers.
      l_nch: of the senders, their values too.
      edges_ech: of the edges; None stands for zeros.
      multiplier_eh: d; None stands for ones.
      mask_eh: True = real; other edges are as if absent. None stands for all.
      slope: of the LeakyReLU.
      temperature: > 0.
    """
    # Kernels would make logits of rows that are rounded; scores are not.
    if contract.softmax_kernels(layout.by_receiver) is None or layout.values is not None:
        scores_eh = scores(layout, a_ch, r_nch, l_nch, edges_ech, slope=slope)
        return softmax_sum(layout, scores_eh / temperature, l_nch, multiplier_eh, mask_eh)
    slope_h, factor_h = (
        jnp.broadcast_to(jnp.asarray(x, r_nch.dtype), r_nch.shape[-1:])
        for x in (slope, 1.0 / temperature)
    )
    of_scores = _Inputs(a_ch, r_nch, l_nch, edges_ech, slope_h)
    return _sum_by_kernels(layout, _SumInputs(of_scores, multiplier_eh, factor_h), mask_eh)


def _sum_forward(layout: Layout, inputs: _SumInputs, mask_eh):
    kernels, logits = _logits(layout, inputs, mask_eh)
    return kernels.forward(layout, logits, inputs.scores.l_nch, inputs.multiplier_eh)


def _logits(layout: Layout, inputs: _SumInputs, mask_eh):
    """Return the kernels of a layout, and what they make logits of."""
    kernels = contract.softmax_kernels(layout.by_receiver)
    a_ch, r_nch, _, edges_ech, slope_h = inputs.scores
    settings = a_ch[None], slope_h[None], inputs.factor_h[None]
    given_eh = None if mask_eh is None else masked(jnp.zeros((), r_nch.dtype), mask_eh)
    return kernels, kernels.Logits(given_eh, query=kernels.Query(r_nch, edges_ech, *settings))


def _sum_backward(layout: Layout, inputs: _SumInputs, mask_eh, saved, g_nch):
    kernels, logits = _logits(layout, inputs, mask_eh)
    of_scores, multiplier_eh, factor_h = inputs
    found = kernels.backward(layout, logits, of_scores.l_nch, multiplier_eh, saved, g_nch)
    ds_eh = found.x_eh * factor_h[None]
    d_scores = _gradients(layout, of_scores, ds_eh, found.slopes_nch)
    # Both of these are left out of a program that does not use them.
    scores_eh = _activations(layout, of_scores, of_scores.slope_h)
    sum_inputs = SumInputs(scores_eh * factor_h[None], of_scores.l_nch, multiplier_eh)
    return _SumInputs(
        d_scores._replace(l_nch=d_scores.l_nch + found.z_nch),
        multiplier_gradient(layout, sum_inputs, mask_eh, saved.out_nch, g_nch),
        jnp.sum(found.x_eh * scores_eh, axis=0),
    )


_sum_by_kernels = with_gradient(_sum_forward, _sum_backward)
