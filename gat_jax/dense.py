"""Attention between all pairs of nodes, for tiny graphs: no index is looked up, nothing is sorted.

Rows are receivers; a row has a slot for each of the M parallel edges that any pair may have, from
each of the N senders. Local suffixes: n receivers, s slots (N M of them), h heads, c channels.
JAX's own gradient of this has no scatter but for what is given by edge.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from gat_jax.attention import EdgeMask, Scalar, leaky_relu, shifted_logits
from gat_jax.layouts import DenseLayout

SlotArray = Float[Array, "nodes slots heads"]
Features = Float[Array, "nodes heads channels"]


def gat_logits(
    layout: DenseLayout,
    c_nh: Float[Array, "nodes heads"],
    n_nh: Float[Array, "nodes heads"],
    edge_scores_eh: Float[Array, "edges heads"] | None,
    mask: EdgeMask | None,
    *,
    slope: Scalar,
) -> SlotArray:
    """Return f(c_i + n_j + e_ij) less a number of the row; inside one linear piece without c_i."""
    t_nsh = _at_slots(layout, n_nh)[None]
    if edge_scores_eh is not None:
        t_nsh += at_edges(layout, edge_scores_eh)
    c_n1h = c_nh[:, None]
    if isinstance(slope, (int, float)) and slope >= 0:
        return shifted_logits(c_n1h, t_nsh, _peak(layout, t_nsh, mask), slope)
    f_nsh = leaky_relu(c_n1h + t_nsh, slope)
    shifted_nsh = shifted_logits(c_n1h, t_nsh, _peak(layout, t_nsh, mask), slope)
    # f is not monotone for a negative slope: its maximum has to be looked for.
    return jnp.where(slope < 0, f_nsh - _peak(layout, f_nsh, mask), shifted_nsh)


def gatv2_scores(
    layout: DenseLayout,
    a_hc: Float[Array, "heads channels"],
    r_nhc: Features,
    l_nhc: Features,
    edges_ehc: Float[Array, "edges heads channels"] | None,
    *,
    slope: Scalar,
) -> SlotArray:
    """Return sum_c a_c f(r_ic + l_jc (+ e_ijc))."""
    x_nshc = r_nhc[:, None] + _at_slots(layout, l_nhc)[None]
    if edges_ehc is not None:
        x_nshc += at_edges(layout, edges_ehc)
    return jnp.sum(leaky_relu(x_nshc, slope) * a_hc[None, None], axis=-1)


def softmax_sum(
    layout: DenseLayout,
    x_nsh: SlotArray,
    z_nhc: Features,
    multiplier_eh: Float[Array, "edges heads"] | None,
    mask: EdgeMask | None,
) -> Features:
    """Return sum_j alpha_ij d_ij z_j with alpha the softmax of x over a row; see `aggregation`."""
    is_real_ns1 = _is_real(layout, mask)
    x_nsh = x_nsh - _peak(layout, x_nsh, mask)
    p_nsh = jnp.where(is_real_ns1, jnp.exp(jnp.where(is_real_ns1, x_nsh, 0.0)), 0.0)
    total_n1h = jnp.sum(p_nsh, axis=1, keepdims=True)
    alpha_nsh = p_nsh / jnp.where(total_n1h > 0, total_n1h, 1.0)
    if multiplier_eh is not None:
        alpha_nsh *= at_edges(layout, multiplier_eh)
    return linear_sum(layout, alpha_nsh, z_nhc)


def linear_sum(
    layout: DenseLayout, weights_nsh: Float[Array, "nodes slots _"], z_nhc: Features
) -> Features:
    """Return the sum over slots of weight times the sender's value."""
    return jnp.sum(weights_nsh[..., None] * _at_slots(layout, z_nhc)[None], axis=1)


def at_edges(
    layout: DenseLayout, values: Float[Array, " edges *rest"]
) -> Float[Array, " nodes slots *rest"]:
    """Put what belongs to an edge at its slot; 0 where there is none."""
    edges = jnp.asarray(layout.edges).reshape(len(layout.edges), -1)
    has_edge = (edges >= 0).reshape(*edges.shape, *(1,) * (values.ndim - 1))
    return jnp.where(has_edge, values[jnp.maximum(edges, 0)], 0)


def _at_slots(layout: DenseLayout, values: Float[Array, " nodes *rest"]):
    """Repeat each sender's value for each of its slots."""
    copies = layout.edges.shape[-1]
    return values if copies == 1 else jnp.repeat(values, copies, axis=0)


def _is_real(layout: DenseLayout, mask: EdgeMask | None) -> Bool[Array, "nodes slots 1"]:
    edges = jnp.asarray(layout.edges).reshape(len(layout.edges), -1)
    is_real = edges >= 0
    if mask is not None and len(mask):
        is_real &= jnp.asarray(mask)[jnp.maximum(edges, 0)]
    return is_real[..., None]


def _peak(layout: DenseLayout, x_nsh: SlotArray, mask: EdgeMask | None):
    """Return the largest real entry of each row, 0 without any; shifting needs no gradient."""
    x_nsh = jax.lax.stop_gradient(x_nsh)
    peak = jnp.max(jnp.where(_is_real(layout, mask), x_nsh, -jnp.inf), axis=1, keepdims=True)
    return jnp.where(peak > -jnp.inf, peak, 0.0)
