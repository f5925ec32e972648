"""GAT's attention on a layout with tables, from the scores of the nodes.

    out_i = sum_j alpha_ij d_ij z_j,   alpha_ij = softmax_j f(c_i + t_ij) / temperature,
    t_ij = n_j + e_ij, f the LeakyReLU, d what dropout multiplies by

A row of dL/dx, x what the softmax is taken of, sums to 0. dL/dc_i is therefore (slope - 1) /
temperature times the sum of dL/dx over negative logits alone: exactly 0 in a row whose logits have
one sign, where adding up the whole row would leave rounding; and without cancellation where logits
are large, for negative ones have hardly any attention then. Everything else as in `aggregation`.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gat_jax.kernels import contract as sums
from gat_jax.kernels.attention import (
    EdgeArray,
    EdgeMask,
    Features,
    NodeArray,
    SumGradient,
    as_primals,
    exponentials,
    finite,
    fold_heads,
    normalised_sum,
    row_peak,
)
from gat_jax.kernels.contract import over_edges
from gat_jax.kernels.edge_list.softmax import Scalar, leaky_relu
from gat_jax.kernels.layouts import BucketedLayout, Prepared
from gat_jax.kernels.xla import loops
from gat_jax.kernels.xla.loops import rows_of


class _Inputs(NamedTuple):
    """What a gradient flows to."""

    c_nh: NodeArray
    n_nh: NodeArray
    z_nch: Any  # Features; None: only logits are asked for
    e_eh: EdgeArray | None
    multiplier_eh: EdgeArray | None
    slope_h: Float[Array, " heads"] | None  # None: static
    temperature_h: Float[Array, " heads"] | None


def gat(
    layout: BucketedLayout,
    c_nh: NodeArray,
    n_nh: NodeArray,
    z_nch: Features,
    *,
    edge_scores_eh: EdgeArray | None = None,
    multiplier_eh: EdgeArray | None = None,
    mask_eh: EdgeMask | None = None,
    slope: Scalar = 0.2,
    temperature: Scalar = 1.0,
) -> Features:
    """Return GAT's outputs [N, C, H], zeros at receivers without real edges.

    Args:
      layout: of the graph.
      c_nh: receivers' scores.
      n_nh: senders' scores.
      z_nch: of the senders.
      edge_scores_eh: e; None stands for zeros.
      multiplier_eh: d; None stands for ones.
      mask_eh: True = real; other edges are as if absent. None stands for all.
      slope: of the LeakyReLU; a Python number makes for a shorter program than a traced one.
      temperature: > 0; likewise.

    Numerics: inside one linear piece of f the receiver's score never enters the arithmetic, and
    its gradient is exactly 0. Twins are summed in the same order, see `layouts`.
    """
    static, traced = _split_settings(slope, temperature, c_nh)
    inputs = _Inputs(c_nh, n_nh, z_nch, edge_scores_eh, multiplier_eh, *traced)
    return _gat_function(*static)(layout, inputs, mask_eh)


def logits(
    layout: Prepared,
    c_nh: NodeArray,
    n_nh: NodeArray,
    *,
    edge_scores_eh: EdgeArray | None = None,
    mask_eh: EdgeMask | None = None,
    slope: Scalar = 0.2,
    temperature: Scalar = 1.0,
) -> EdgeArray:
    """Return what `gat` takes the softmax of, less its largest value in the row [E, H].

    For another sum than that of `gat`. Its gradient is right for what depends on the softmax
    alone, so that the gradients of a row's logits sum to 0. Arguments as `gat`.
    """
    static, traced = _split_settings(slope, temperature, c_nh)
    inputs = _Inputs(c_nh, n_nh, None, edge_scores_eh, None, *traced)
    return _logits_function(*static)(layout, inputs, mask_eh)


def _split_settings(slope: Scalar, temperature: Scalar, like_nh: NodeArray):
    """Return Python numbers, of which the program is built, and traced settings by head."""
    values = (slope, temperature)
    static = tuple(float(x) if isinstance(x, (int, float)) else None for x in values)
    traced = tuple(
        None if known is not None else jnp.broadcast_to(jnp.asarray(x), like_nh.shape[-1:])
        for x, known in zip(values, static, strict=True)
    )
    return static, traced


def _settings(inputs: Any, slope: float | None, temperature: float | None):
    """Return the static settings, or the traced ones where there is none."""
    return (
        inputs.slope_h[None] if slope is None else slope,
        inputs.temperature_h[None] if temperature is None else temperature,
    )


def _with_gradient(forward: Callable, backward: Callable) -> Callable:
    """Return a function of (layout, inputs, mask).

    Args:
      forward: of the same, returns the result and whatever else `backward` needs.
      backward: of the same, of what else `forward` returned, and of the result's gradient; returns
        that of the inputs.
    """
    forward, backward = fold_heads(forward), fold_heads(backward)

    @jax.custom_vjp
    def function(layout, inputs, mask_eh):
        return forward(layout, inputs, mask_eh)[0]

    def save(*arguments):
        result, *saved = forward(*arguments)
        return result, (*arguments, *saved)

    def pull_back(saved, gradient):
        return None, as_primals(backward(*saved, gradient), saved[1]), None

    function.defvjp(save, pull_back)
    return function


@functools.lru_cache(maxsize=64)
def _gat_function(slope: float | None, temperature: float | None) -> Callable:
    """Return `gat` for static settings."""

    def forward(layout, inputs: _Inputs, mask_eh):
        m_nh = _largest_t(layout, inputs, mask_eh)
        settings = _settings(inputs, slope, temperature)
        x_eh = _shifted_logits(layout, inputs, mask_eh, m_nh, *settings)
        p_eh = exponentials(x_eh, mask_eh)
        result = normalised_sum(layout, p_eh, inputs.z_nch, inputs.multiplier_eh)
        return result.out_nch, m_nh, result

    def backward(layout, inputs: _Inputs, mask_eh, m_nh, result, g_nch):
        gradient = SumGradient.of(result, g_nch)
        d_inputs = _logits_backward(
            layout,
            inputs,
            mask_eh,
            m_nh,
            *_settings(inputs, slope, temperature),
            functools.partial(gradient.at_edges, layout),
        )
        return d_inputs._replace(
            z_nch=gradient.of_values(layout), multiplier_eh=gradient.of_multiplier(layout)
        )

    return _with_gradient(forward, backward)


@functools.lru_cache(maxsize=64)
def _logits_function(slope: float | None, temperature: float | None) -> Callable:
    """Return `logits` for static settings."""

    def forward(layout, inputs: _Inputs, mask_eh):
        m_nh = _largest_t(layout, inputs, mask_eh)
        settings = _settings(inputs, slope, temperature)
        return _shifted_logits(layout, inputs, mask_eh, m_nh, *settings), m_nh

    def backward(layout, inputs: _Inputs, mask_eh, m_nh, dx_eh):
        def at_edges(function, *, at_edges=(), **at_ends):
            return sums.edge_values(
                lambda edges, *ends: function(edges[0], edges[1:], *ends),
                layout,
                at_edges=[dx_eh, *at_edges],
                **at_ends,
            )

        settings = _settings(inputs, slope, temperature)
        return _logits_backward(layout, inputs, mask_eh, m_nh, *settings, at_edges)

    return _with_gradient(forward, backward)


def _shifted_logits(layout: Prepared, inputs: _Inputs, mask_eh, m_nh, slope, temperature):
    """Return f(c + t) / temperature less its largest value in the row.

    For a slope >= 0 that is f(c + m) for the row's largest t = m, and the difference is taken so
    that c does not enter inside one linear piece, as `attention.shifted_logits` does, but without
    selecting between gathered values: there the second term below is an exact 0.
    """
    c_nh = inputs.c_nh
    is_above_nh = c_nh + m_nh > 0  # the row's largest logit
    scale_nh = jnp.where(is_above_nh, 1.0, slope)
    bend_nh = jnp.where(is_above_nh, 1.0 - slope, 0.0)

    def shifted(edges, receivers, senders):
        c, m, scale, bend = receivers
        t = _sum(*senders, *edges)
        return scale * (t - m) - bend * jnp.minimum(c + t, 0.0)

    at_rows = [c_nh, m_nh, scale_nh, bend_nh]
    x_eh = sums.edge_values(shifted, layout, at_rows=at_rows, **_terms_of_t(inputs))
    if not isinstance(slope, float) or slope < 0:
        # f is not monotone for a negative slope: its maximum has to be looked for.
        f_eh = leaky_relu(_raw_logits(layout, inputs), slope)
        usual_eh = f_eh - rows_of(row_peak(layout, f_eh, mask_eh), layout.receivers)
        x_eh = jnp.where(slope < 0, usual_eh, x_eh)
    return x_eh / temperature


def _logits_backward(
    layout: Prepared,
    inputs: _Inputs,
    mask_eh,
    m_nh,
    slope,
    temperature,
    at_edges: Callable,
) -> _Inputs:
    """Return the gradients; `at_edges` gives functions of dL/dx, as `SumGradient.at_edges` does."""
    c_nh = inputs.c_nh

    def through_slope(dx, edges, receivers, senders):
        logit = receivers[0] + _sum(*senders, *edges)
        return dx * (loops.slope_at(logit, slope) / temperature)

    dt_eh = at_edges(through_slope, at_rows=[c_nh], **_terms_of_t(inputs))
    dn_nh = over_edges(lambda x: x, layout.by_sender, at_edges=[dt_eh])
    dx_eh = at_edges(lambda dx, *_: dx)  # a loop of its own, left out of the program if not used
    # At negative logits dL/dt is slope / temperature times dL/dx, which spares that loop.
    is_from_dt = isinstance(slope, float) and slope != 0
    negative_nh = over_edges(
        lambda d, *logit: d * (1.0 - loops.step(_sum(*logit))),
        layout.by_receiver,
        at_edges=[dt_eh if is_from_dt else dx_eh, *_terms_of_t(inputs)["at_edges"]],
        at_others=[inputs.n_nh],
        at_nodes=[c_nh],
    )
    factor = (slope - 1.0) / (slope if is_from_dt else temperature)
    lowest_nh = -_largest_t(layout, inputs, mask_eh, sign=-1.0)
    is_mixed = (c_nh + m_nh >= 0) & (c_nh + lowest_nh < 0)
    dc_nh = jnp.where(is_mixed, factor * negative_nh, 0.0)
    de_eh = None if inputs.e_eh is None else dt_eh
    d_settings = None, None
    if inputs.slope_h is not None or inputs.temperature_h is not None:
        d_settings = _settings_backward(layout, inputs, mask_eh, m_nh, slope, temperature, dx_eh)
    return _Inputs(dc_nh, dn_nh, None, de_eh, None, *d_settings)


def _settings_backward(layout, inputs: _Inputs, mask_eh, m_nh, slope, temperature, dx_eh):
    """Return the gradients of a traced slope and of a traced temperature, None for static ones."""
    d_slope = d_temperature = None
    if inputs.slope_h is not None:
        # What a row has in common is free to choose: without c nothing large is cancelled.
        c_nh, logits_eh = inputs.c_nh, _raw_logits(layout, inputs)
        t_eh = _raw_logits(layout, inputs._replace(c_nh=jnp.zeros_like(c_nh)))
        is_negative_eh = rows_of(c_nh + m_nh, layout.receivers) < 0
        lower_eh = t_eh - rows_of(m_nh, layout.receivers)
        below_eh = jnp.where(is_negative_eh, lower_eh, jnp.minimum(logits_eh, 0.0))
        d_slope = jnp.sum(dx_eh * below_eh / temperature, axis=0)
    if inputs.temperature_h is not None:
        settings = slope, temperature
        x_eh = _shifted_logits(layout, inputs, mask_eh, m_nh, *settings)
        d_temperature = -jnp.sum(dx_eh * x_eh / temperature, axis=0)
    return d_slope, d_temperature


def _raw_logits(layout: Prepared, inputs: _Inputs) -> EdgeArray:
    """Return c + t, added in this order everywhere: a logit near 0 has one sign."""
    return sums.edge_values(
        lambda edges, receivers, senders: receivers[0] + _sum(*senders, *edges),
        layout,
        at_rows=[inputs.c_nh],
        **_terms_of_t(inputs),
    )


def _terms_of_t(inputs: _Inputs) -> dict[str, list]:
    """Return where `sums.edge_values` finds n and e."""
    at_edges = [] if inputs.e_eh is None else [inputs.e_eh]
    return {"at_edges": at_edges, "at_values": [inputs.n_nh]}


def _largest_t(
    layout: Prepared, inputs: _Inputs, mask_eh: EdgeMask | None, *, sign: float = 1.0
) -> NodeArray:
    """Return the largest sign * t of every receiver's real edges; 0 without any."""
    at_edges = [] if inputs.e_eh is None else [sign * inputs.e_eh]
    if mask_eh is not None:
        e_eh = at_edges[0] if at_edges else jnp.zeros((), inputs.n_nh.dtype)
        at_edges = [jnp.where(mask_eh, e_eh, -jnp.inf)]
    at_others = [sign * inputs.n_nh]
    return finite(
        over_edges(_sum, layout.by_receiver, at_edges=at_edges, at_others=at_others, largest=True)
    )


def _sum(*terms):
    return functools.reduce(jnp.add, terms)
