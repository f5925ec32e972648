"""GATv2's scores on a layout with tables; `aggregation.softmax_sum` makes attention of them.

    s_ij = sum_c a_c f(r_ic + l_jc + e_ijc),   f the LeakyReLU

Nothing of the size [E, C, H] is stored, but for edge features, which have it as they are given.
Everything else as in `aggregation`.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gat_jax.kernels import contract as sums
from gat_jax.kernels.attention import EdgeArray, Features, as_primals, fold_heads
from gat_jax.kernels.edge_list.softmax import Scalar
from gat_jax.kernels.layouts import Prepared
from gat_jax.kernels.xla import loops
from gat_jax.kernels.xla.loops import rows_of


class _Inputs(NamedTuple):
    a_ch: Float[Array, "channels heads"]
    r_nch: Features
    l_nch: Features
    edges_ech: Float[Array, "edges channels heads"] | None
    slope_h: Float[Array, " heads"]


def scores(
    layout: Prepared,
    a_ch: Float[Array, "channels heads"],
    r_nch: Features,
    l_nch: Features,
    edges_ech: Float[Array, "edges channels heads"] | None = None,
    *,
    slope: Scalar = 0.2,
) -> EdgeArray:
    """Return sum_c a_c f(r_ic + l_jc (+ e_ijc)) by edge; the slope counts as traced."""
    slope_h = jnp.broadcast_to(jnp.asarray(slope, r_nch.dtype), r_nch.shape[-1:])
    return _scores(layout, _Inputs(a_ch, r_nch, l_nch, edges_ech, slope_h))


@jax.custom_vjp
def _scores(layout, inputs):
    return _forward(layout, inputs)


@fold_heads
def _forward(layout: Prepared, inputs: _Inputs):
    return _activations(layout, inputs, inputs.slope_h)


def _activations(layout: Prepared, inputs: _Inputs, slope_h, above: float = 1.0):
    a_ch, r_nch, l_nch, edges_ech, _ = inputs
    return sums.edge_activations(layout, a_ch, r_nch, l_nch, edges_ech, slope_h, above)


def _save(layout, inputs):
    return _forward(layout, inputs), (layout, inputs)


def _pull_back(saved, ds_eh):
    return None, as_primals(_backward(*saved, ds_eh), saved[1])


@fold_heads
def _backward(layout: Prepared, inputs: _Inputs, ds_eh):
    a_ch, r_nch, l_nch, edges_ech, slope_h = inputs
    # Sums of ds f', so that a is multiplied in once per node; and because f(x) = x f'(x), the same
    # sums give the gradient of a.
    r_sum_nch = sums.slope_sum(ds_eh, r_nch, l_nch, edges_ech, slope_h, layout.by_receiver)
    l_sum_nch = sums.slope_sum(ds_eh, l_nch, r_nch, edges_ech, slope_h, layout.by_sender)
    da_ch = jnp.sum(r_nch * r_sum_nch + l_nch * l_sum_nch, axis=0)
    d_edges = None
    if edges_ech is not None:
        x_ech = rows_of(r_nch, layout.receivers) + rows_of(l_nch, layout.senders) + edges_ech
        d_edges = ds_eh[:, None] * loops.slope_at(x_ech, slope_h[None, None])
        da_ch += jnp.sum(edges_ech * d_edges, axis=0)
        d_edges *= a_ch[None]
    below_eh = _activations(layout, inputs, jnp.ones_like(slope_h), above=0.0)
    d_slope = jnp.sum(ds_eh * below_eh, axis=0)
    return _Inputs(da_ch, a_ch[None] * r_sum_nch, a_ch[None] * l_sum_nch, d_edges, d_slope)


_scores.defvjp(_save, _pull_back)
