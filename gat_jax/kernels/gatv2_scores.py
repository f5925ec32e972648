"""GATv2's scores on any layout; `attention.softmax_sum` makes attention of them.

    s_ij = sum_c a_c f(r_ic + l_jc + e_ijc),   f the LeakyReLU

On tables nothing of the size [E, C, H] is stored, but for edge features, which have it as they are
given. Everything else as in `attention`.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from gat_jax.kernels import contract
from gat_jax.kernels.attention import EdgeArray, Features
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
    a_ch, r_nch, l_nch, edges_ech, slope_h = inputs
    # Sums of ds f', so that a is multiplied in once per node; and because f(x) = x f'(x), the same
    # sums give the gradient of a.
    of_edges = {"edges": edges_ech, "slope": slope_h}
    r_sum_nch = contract.slope_sum(ds_eh, layout.by_receiver, rows=r_nch, others=l_nch, **of_edges)
    l_sum_nch = contract.slope_sum(ds_eh, layout.by_sender, rows=l_nch, others=r_nch, **of_edges)
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
