"""GAT's attention from the scores of the nodes, on any layout.

    out_i = sum_j alpha_ij d_ij z_j,   alpha_ij = softmax_j f(c_i + t_ij) / temperature,
    t_ij = n_j + e_ij, f the LeakyReLU, d what dropout multiplies by

A row of dL/dx, x what the softmax is taken of, sums to 0. dL/dc_i is therefore (slope - 1) /
temperature times the sum of dL/dx over negative logits alone: exactly 0 in a row whose logits have
one sign, where adding up the whole row would leave rounding; and without cancellation where logits
are large, for negative ones have hardly any attention then. Everything else as in `attention`.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gat_jax.kernels import contract
from gat_jax.kernels.attention import (
    EdgeArray,
    EdgeMask,
    Features,
    NodeArray,
    SumGradient,
    exponentials,
    less_peak,
    masked,
    normalised_sum,
)
from gat_jax.kernels.elementwise import (
    Scalar,
    finite_peak,
    leaky_relu,
    row_pieces,
    shifted_logit,
    slope_at,
    step,
)
from gat_jax.kernels.gradients import with_gradient
from gat_jax.kernels.layouts import Layout
from gat_jax.kernels.xla.loops import rows_of


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=["by_head"], meta_fields=["number"]
)
@dataclasses.dataclass(frozen=True)
class _Setting:
    """A setting of the layer: a Python number, of which the program is built, or a traced one."""

    number: float | None
    by_head: Any  # [H]; None where there is a number

    @classmethod
    def of(cls, value: Scalar, like_nh: NodeArray) -> "_Setting":
        if isinstance(value, (int, float)):
            return cls(float(value), None)
        return cls(None, jnp.broadcast_to(jnp.asarray(value), like_nh.shape[-1:]))

    @property
    def value(self) -> float | Array:
        """The number, or the traced ones [1, H]."""
        return self.by_head[None] if self.number is None else self.number


class _Inputs(NamedTuple):
    """What a gradient flows to."""

    c_nh: NodeArray
    n_nh: Float[Array, "senders heads"]
    z_nch: Any  # Features; None: only logits are asked for
    e_eh: EdgeArray | None
    multiplier_eh: EdgeArray | None
    slope: _Setting
    temperature: _Setting


def gat_sum(
    layout: Layout,
    c_nh: NodeArray,
    n_nh: Float[Array, "senders heads"],
    z_nch: Float[Array, "senders channels heads"],
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
      z_nch: values of the senders.
      edge_scores_eh: e; None stands for zeros.
      multiplier_eh: d; None stands for ones.
      mask_eh: True = real; other edges are as if absent. None stands for all.
      slope: of the LeakyReLU; a Python number makes for a shorter program than a traced one.
      temperature: > 0; likewise.

    Numerics: inside one linear piece of f the receiver's score never enters the arithmetic, and
    its gradient is exactly 0. Twins are summed in the same order, see `layouts`.
    """
    inputs = _Inputs(
        c_nh,
        n_nh,
        z_nch,
        edge_scores_eh,
        multiplier_eh,
        _Setting.of(slope, c_nh),
        _Setting.of(temperature, c_nh),
    )
    return _gat_sum(layout, inputs, mask_eh)


def shifted_logits(
    layout: Layout,
    c_nh: NodeArray,
    n_nh: Float[Array, "senders heads"],
    *,
    edge_scores_eh: EdgeArray | None = None,
    mask_eh: EdgeMask | None = None,
    slope: Scalar = 0.2,
    temperature: Scalar = 1.0,
) -> EdgeArray:
    """Return what `gat_sum` takes the softmax of, less its largest value in the row [E, H].

    Its gradient is right for what depends on the softmax alone, so that the gradients of a row's
    logits sum to 0. Arguments as `gat_sum`.
    """
    settings = _Setting.of(slope, c_nh), _Setting.of(temperature, c_nh)
    return _logits(layout, _Inputs(c_nh, n_nh, None, edge_scores_eh, None, *settings), mask_eh)


def raw_logits(
    layout: Layout,
    c_nh: NodeArray,
    n_nh: Float[Array, "senders heads"],
    edge_scores_eh: EdgeArray | None = None,
) -> EdgeArray:
    """Return c_i + t_ij [E, H], added in this order everywhere: a logit near 0 has one sign."""
    return _raw_logits(layout, (c_nh, n_nh, edge_scores_eh))


# --- forward --------------------------------------------------------------------------------------


def _raw_forward(layout: Layout, inputs, _):
    c_nh, n_nh, e_eh = inputs
    logits_eh = contract.edge_map(
        lambda edges, rows, others: rows[0] + _sum(*others, *edges),
        layout.by_receiver,
        at_edges=[] if e_eh is None else [e_eh],
        at_rows=[c_nh],
        at_others=[n_nh],
    )
    return logits_eh, ()


def _sum_forward(layout: Layout, inputs: _Inputs, mask_eh):
    kernels = contract.softmax_kernels(layout.by_receiver)
    if kernels is not None:
        logits = _for_kernels(kernels, inputs, mask_eh)
        return kernels.forward(layout, logits, inputs.z_nch, inputs.multiplier_eh)
    return _sum_of_loops(layout, inputs, mask_eh)


def _for_kernels(kernels: Any, inputs: _Inputs, mask_eh):
    """Return what a backend's own kernels make logits of."""
    given_eh = inputs.e_eh
    if mask_eh is not None:
        zeros_eh = jnp.zeros(mask_eh.shape, inputs.n_nh.dtype)
        given_eh = masked(zeros_eh if given_eh is None else given_eh, mask_eh)
    settings = inputs.slope.value, 1.0 / inputs.temperature.value
    of_heads = (1, inputs.c_nh.shape[-1])
    slope_1h, factor_1h = (
        jnp.broadcast_to(jnp.asarray(x, inputs.c_nh.dtype), of_heads) for x in settings
    )
    return kernels.Logits(given_eh, kernels.Scores(inputs.c_nh, inputs.n_nh, slope_1h, factor_1h))


def _sum_of_loops(layout: Layout, inputs: _Inputs, mask_eh):
    m_nh = _largest_t(layout, inputs, mask_eh)
    x_eh = _shifted_logits(layout, inputs, mask_eh, m_nh)
    p_eh = exponentials(x_eh, mask_eh)
    result = normalised_sum(layout, p_eh, inputs.z_nch, inputs.multiplier_eh)
    return result.out_nch, (m_nh, result)


def _logits_forward(layout: Layout, inputs: _Inputs, mask_eh):
    m_nh = _largest_t(layout, inputs, mask_eh)
    return _shifted_logits(layout, inputs, mask_eh, m_nh), m_nh


def _shifted_logits(layout: Layout, inputs: _Inputs, mask_eh, m_nh: NodeArray) -> EdgeArray:
    """Return f(c + t) / temperature less its largest value in the row.

    For a slope >= 0 that is f(c + m) for the row's largest t = m.
    """
    slope, c_nh = inputs.slope.value, inputs.c_nh

    def shifted(edges, rows, others):
        c, m, scale, bend = rows
        return shifted_logit(c, _sum(*others, *edges), m, scale, bend)

    at_rows = [c_nh, m_nh, *row_pieces(c_nh, m_nh, slope)]
    x_eh = contract.edge_map(shifted, layout.by_receiver, at_rows=at_rows, **_terms_of_t(inputs))
    if inputs.slope.number is None or inputs.slope.number < 0:
        # f is not monotone for a negative slope: its maximum has to be looked for.
        logits_eh, _ = _raw_forward(layout, (c_nh, inputs.n_nh, inputs.e_eh), None)
        f_eh = leaky_relu(logits_eh, slope)
        x_eh = jnp.where(slope < 0, less_peak(layout, f_eh, mask_eh), x_eh)
    return x_eh / inputs.temperature.value


def _largest_t(
    layout: Layout, inputs: _Inputs, mask_eh: EdgeMask | None, *, sign: float = 1.0
) -> NodeArray:
    """Return the largest sign * t of every receiver's real edges; 0 without any.

    It has no gradient: shifting a row changes no softmax, and the exact zero of a row in one linear
    piece would become a sum of roundings.
    """
    n_nh, e_eh = jax.lax.stop_gradient((inputs.n_nh, inputs.e_eh))
    at_edges = [] if e_eh is None else [sign * e_eh]
    if mask_eh is not None:
        at_edge = at_edges[0] if at_edges else jnp.zeros((), n_nh.dtype)
        at_edges = [jnp.where(mask_eh, at_edge, -jnp.inf)]
    largest_nh = contract.edge_reduce(
        lambda edges, _, others: _sum(*edges, *others),
        layout.by_receiver,
        at_edges=at_edges,
        at_others=[sign * n_nh],
        reduce="max",
    )
    return finite_peak(largest_nh)


def _terms_of_t(inputs: _Inputs) -> dict[str, list]:
    """Return where `contract.edge_map` finds n and e."""
    at_edges = [] if inputs.e_eh is None else [inputs.e_eh]
    return {"at_edges": at_edges, "at_others": [inputs.n_nh]}


def _sum(*terms):
    return functools.reduce(jnp.add, terms)


# --- backward -------------------------------------------------------------------------------------


def _raw_backward(layout: Layout, inputs, mask, saved, g_eh):
    dc_nh, dn_nh = (
        contract.edge_reduce(lambda edges, *_: edges[0], table, at_edges=[g_eh])
        for table in (layout.by_receiver, layout.by_sender)
    )
    return dc_nh, dn_nh, None if inputs[2] is None else g_eh


def _sum_backward(layout: Layout, inputs: _Inputs, mask_eh, saved, g_nch):
    kernels = contract.softmax_kernels(layout.by_receiver)
    if kernels is None:
        return _gradients_of_sum(layout, inputs, mask_eh, saved, g_nch)
    # What kernels do not know of is computed as elsewhere, where there is any of it.
    others = inputs._replace(multiplier_eh=None)
    settings = inputs.slope.number, inputs.temperature.number
    if inputs.multiplier_eh is not None or None in settings:
        _, of_loops = _sum_of_loops(layout, inputs, mask_eh)
        others = _gradients_of_sum(layout, inputs, mask_eh, of_loops, g_nch)
    logits, is_wanted = _for_kernels(kernels, inputs, mask_eh), inputs.e_eh is not None
    arrays = logits, inputs.z_nch, inputs.multiplier_eh, saved, g_nch
    found = kernels.backward(layout, *arrays, is_x_wanted=is_wanted)
    return others._replace(c_nh=found.c_nh, n_nh=found.n_nh, z_nch=found.z_nch, e_eh=found.x_eh)


def _gradients_of_sum(layout: Layout, inputs: _Inputs, mask_eh, saved, g_nch) -> _Inputs:
    m_nh, result = saved
    gradient = SumGradient.of(result, inputs.z_nch, inputs.multiplier_eh, g_nch)
    at_edges = functools.partial(gradient.at_edges, layout)
    d_inputs = _gradients(layout, inputs, mask_eh, m_nh, at_edges)
    return d_inputs._replace(
        z_nch=gradient.of_values(layout), multiplier_eh=gradient.of_multiplier(layout)
    )


def _logits_backward(layout: Layout, inputs: _Inputs, mask_eh, m_nh, dx_eh):
    def at_edges(function, *, at_edges=(), **at_ends):
        return contract.edge_map(
            lambda edges, *ends: function(edges[0], edges[1:], *ends),
            layout.by_receiver,
            at_edges=[dx_eh, *at_edges],
            **at_ends,
        )

    return _gradients(layout, inputs, mask_eh, m_nh, at_edges)


def _gradients(
    layout: Layout, inputs: _Inputs, mask_eh, m_nh: NodeArray, at_edges: Callable
) -> _Inputs:
    """Return the gradients; `at_edges` gives functions of dL/dx, as `SumGradient.at_edges` does."""
    c_nh, slope, temperature = inputs.c_nh, inputs.slope.value, inputs.temperature.value
    has_positive_nh = c_nh + m_nh > 0
    # A row whose largest logit is 0 is a negative one (`row_pieces`): its slope is that of the
    # negative side at that logit too, and no gradient reaches c.
    at_rows = [jnp.where(has_positive_nh, c_nh, -jnp.inf)]

    def through_slope(dx, edges, rows, others):
        logit = rows[0] + _sum(*others, *edges)
        return dx * (slope_at(logit, slope) / temperature)

    dt_eh = at_edges(through_slope, at_rows=at_rows, **_terms_of_t(inputs))
    dn_nh = contract.edge_reduce(lambda edges, *_: edges[0], layout.by_sender, at_edges=[dt_eh])
    dx_eh = at_edges(lambda dx, *_: dx)  # a loop of its own, left out of the program if not used
    # At negative logits dL/dt is slope / temperature times dL/dx, which spares that loop.
    is_from_dt = isinstance(slope, float) and slope != 0
    terms = _terms_of_t(inputs)
    negative_nh = contract.edge_reduce(
        lambda edges, rows, others: edges[0] * (1.0 - step(_sum(*edges[1:], *others, *rows))),
        layout.by_receiver,
        at_edges=[dt_eh if is_from_dt else dx_eh, *terms["at_edges"]],
        at_rows=at_rows,
        at_others=terms["at_others"],
    )
    factor = (slope - 1.0) / (slope if is_from_dt else temperature)
    lowest_nh = -_largest_t(layout, inputs, mask_eh, sign=-1.0)
    is_mixed = has_positive_nh & (c_nh + lowest_nh < 0)
    return _Inputs(
        c_nh=jnp.where(is_mixed, factor * negative_nh, 0.0),
        n_nh=dn_nh,
        z_nch=None,
        e_eh=None if inputs.e_eh is None else dt_eh,
        multiplier_eh=None,
        slope=_slope_gradient(layout, inputs, m_nh, dx_eh),
        temperature=_temperature_gradient(layout, inputs, mask_eh, m_nh, dx_eh),
    )


def _slope_gradient(layout: Layout, inputs: _Inputs, m_nh: NodeArray, dx_eh) -> _Setting:
    """Return the gradient of a traced slope by head; of a Python number there is none."""
    if inputs.slope.number is not None:
        return inputs.slope
    # What a row has in common is free to choose: without c nothing large is cancelled.
    c_nh, n_nh, e_eh = inputs.c_nh, inputs.n_nh, inputs.e_eh
    logits_eh, _ = _raw_forward(layout, (c_nh, n_nh, e_eh), None)
    t_eh, _ = _raw_forward(layout, (jnp.zeros_like(c_nh), n_nh, e_eh), None)
    is_negative_eh = rows_of(c_nh + m_nh, layout.receivers) < 0
    lower_eh = t_eh - rows_of(m_nh, layout.receivers)
    below_eh = jnp.where(is_negative_eh, lower_eh, jnp.minimum(logits_eh, 0.0))
    d_slope_h = jnp.sum(dx_eh * below_eh / inputs.temperature.value, axis=0)
    return _Setting(None, d_slope_h)


def _temperature_gradient(
    layout: Layout, inputs: _Inputs, mask_eh, m_nh: NodeArray, dx_eh
) -> _Setting:
    """Return the gradient of a traced temperature by head; of a Python number there is none."""
    if inputs.temperature.number is not None:
        return inputs.temperature
    x_eh = _shifted_logits(layout, inputs, mask_eh, m_nh)
    return _Setting(None, -jnp.sum(dx_eh * x_eh / inputs.temperature.value, axis=0))


_raw_logits = with_gradient(_raw_forward, _raw_backward)
_gat_sum = with_gradient(_sum_forward, _sum_backward)
_logits = with_gradient(_logits_forward, _logits_backward)
