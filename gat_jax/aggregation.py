"""Attention and the weighted sum on a bucketed layout: no scatter, forward or backward.

    out_i = sum_j alpha_ij d_ij z_j,   alpha_ij = softmax_j of
    gat            f(c_i + n_j + e_ij) / temperature
    gatv2_scores   sum_c a_c f(r_ic + l_jc + e_ijc), to be given to
    softmax_sum    any x_ij

f is the LeakyReLU, d what dropout multiplies by. What belongs to an edge and a head is an array
[E, H] in the order of the edge list; nothing of the size [E, H, C] is stored, but for GATv2's edge
features, which have it as they are given.

Every function has a gradient of its own. With G = dL/dout it takes two passes over the edges, as
each edge needs <G_i, z_j> before any row is known:

    r_i = sum_j alpha_ij d_ij <G_i, z_j>,   dL/dx_ij = alpha_ij (d_ij <G_i, z_j> - r_i)

A row of dL/dx sums to 0. For `gat`, dL/dc_i is therefore (1 - slope) / temperature times the sum
over positive logits alone, and exactly 0 in a row whose logits have one sign, where adding up the
whole row would leave rounding.

There are neither forward mode nor second derivatives of these functions; the edge list has both.
What is masked has to be finite all the same: 0 times NaN is NaN.

All arrays end in an axis of heads, which share nothing: `vmap` folds the mapped axis into it. Local
suffixes as in `slots`.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap
from jaxtyping import Array, Bool, Float

from gat_jax import slots
from gat_jax.attention import Scalar, leaky_relu
from gat_jax.layouts import BucketedLayout, Table
from gat_jax.slots import one_loop, over_edges, rows_of

EdgeArray = Float[Array, "edges heads"]
NodeArray = Float[Array, "nodes heads"]
EdgeMask = Bool[Array, "edges heads"]
Features = Float[Array, "nodes channels heads"]


def as_primals(gradients: Any, primals: Any) -> Any:
    """Return gradients in the dtypes of what they are gradients of; None stays None."""
    return jax.tree.map(lambda g, x: g.astype(x.dtype), gradients, primals)


def fold_heads(function: Callable) -> Callable:
    """Let `vmap` fold the mapped axis into the heads, the last axis of all arrays but the layout's.

    A mapped layout, one graph per lane, is mapped as ever.
    """
    mapped = custom_vmap(function)

    @mapped.def_vmap
    def rule(size: int, in_batched, layout, *arrays):
        is_batched: Any = tuple(in_batched[1:])
        if any(jax.tree.leaves(in_batched[0])):
            axes = jax.tree.map(lambda b: 0 if b else None, in_batched)
            out = jax.vmap(function, in_axes=tuple(axes), axis_size=size)(layout, *arrays)
        else:

            def fold(b, x):
                x = x if b else jnp.broadcast_to(x[None], (size, *x.shape))
                x = jnp.moveaxis(x, 0, -2)
                return x.reshape(*x.shape[:-2], -1)

            def unfold(x):
                return jnp.moveaxis(x.reshape(*x.shape[:-1], size, -1), -2, 0)

            folded = jax.tree.map(fold, is_batched, arrays)
            out = jax.tree.map(unfold, mapped(layout, *folded))
        return out, jax.tree.map(lambda _: True, out)

    return mapped


# --- what all share: a sum with weights p, divided by their sum -----------------------------------


class _Saved(NamedTuple):
    """A sum and what its gradient needs."""

    p_eh: EdgeArray
    inverse_nh: NodeArray  # one over the sum of p, 1 without edges
    z_nch: Features
    multiplier_eh: EdgeArray | None
    out_nch: Features


def _normalised_sum(layout: BucketedLayout, p_eh: EdgeArray, z_nch: Features, multiplier_eh):
    table = layout.by_receiver
    weights = slots.in_slots(lambda p: p, [p_eh], table)
    total_nh = slots.total(weights, table)
    inverse_nh = 1.0 / jnp.where(total_nh > 0, total_nh, 1.0)
    if multiplier_eh is not None:
        weights = slots.in_slots(_product, [p_eh, multiplier_eh], table)
    # The weights are divided, not the sum: XLA would contract a product at the end with a caller's
    # difference of two rows, and x y - z w with one rounding is not 0 for twins.
    out_nch = slots.weighted_sum(weights, z_nch, table, scale=inverse_nh)
    return _Saved(p_eh, inverse_nh, z_nch, multiplier_eh, out_nch)


class _Gradient(NamedTuple):
    """What comes back to a sum, G, divided by the sum of p: the product with p is then alpha's."""

    saved: _Saved
    g_nch: Features
    r_nh: NodeArray  # <G, out>

    @classmethod
    def of(cls, saved: _Saved, g_nch: Features) -> "_Gradient":
        # Once per node, instead of once per edge.
        g_nch = g_nch * saved.inverse_nh[:, None]
        return cls(saved, g_nch, slots.node_dots(g_nch, saved.out_nch))

    def at_edges(self, layout: BucketedLayout, function: Callable, **at: Any) -> EdgeArray:
        """Return a function of dL/dx, x = log p, and of arrays as `slots.edge_dots` takes them."""
        weights = self.weights()

        def of_dot(dot, edges, receivers, senders):
            p, *multiplier = edges[: len(weights)]
            r, *receivers = receivers
            dx = p * (_product(dot, *multiplier) - r)
            return function(dx, edges[len(weights) :], receivers, senders)

        return self._dots(
            layout,
            function=of_dot,
            at_edges=[*weights, *at.get("at_edges", ())],
            at_rows=[self.r_nh, *at.get("at_rows", ())],
            at_values=at.get("at_values", ()),
        )

    def of_multiplier(self, layout: BucketedLayout) -> EdgeArray | None:
        if self.saved.multiplier_eh is None:
            return None
        return self._dots(
            layout, function=lambda dot, edges, *_: edges[0] * dot, at_edges=[self.saved.p_eh]
        )

    def of_values(self, layout: BucketedLayout) -> Features:
        weights = slots.in_slots(_product, self.weights(), layout.by_sender)
        return slots.weighted_sum(weights, self.g_nch, layout.by_sender)

    def weights(self) -> list[EdgeArray]:
        return [x for x in (self.saved.p_eh, self.saved.multiplier_eh) if x is not None]

    def _dots(self, layout: BucketedLayout, **options: Any) -> EdgeArray:
        ends = self.g_nch, layout.receivers, self.saved.z_nch, layout.senders
        return slots.edge_dots(*ends, **options)


def _exponentials(x_eh: EdgeArray, mask_eh: EdgeMask | None) -> EdgeArray:
    if mask_eh is None:
        return jnp.exp(x_eh)
    return jnp.where(mask_eh, jnp.exp(jnp.where(mask_eh, x_eh, 0.0)), 0.0)


def _product(first, *others):
    for other in others:
        first = first * other
    return first


def _sum(first, *others):
    for other in others:
        first = first + other
    return first


def finite(peak: Array) -> Array:
    """Return 0 for a row without edges, whose largest value is minus infinity."""
    return jnp.where(peak > -jnp.inf, peak, 0.0)


# --- given weights --------------------------------------------------------------------------------


@jax.custom_vjp
def linear_sum(
    layout: BucketedLayout,
    weights_eh: EdgeArray,
    z_nch: Float[Array, "others channels heads"],
) -> Features:
    """Return sum_j w_ij z_j over a receiver's edges, zeros without any.

    Senders may be of another kind than receivers, and of another number.
    """
    return _linear_forward(layout, weights_eh, z_nch)


@fold_heads
def _linear_forward(layout, weights_eh, z_nch):
    return _sum_of(weights_eh, z_nch, layout.by_receiver)


@fold_heads
def _linear_backward(layout, weights_eh, z_nch, g_nch):
    dw_eh = slots.edge_dots(g_nch, layout.receivers, z_nch, layout.senders)
    return dw_eh, _sum_of(weights_eh, g_nch, layout.by_sender)


def _sum_of(weights_eh, values_nch, table: Table):
    weights = slots.in_slots(lambda w: w, [weights_eh], table)
    return slots.weighted_sum(weights, values_nch, table)


linear_sum.defvjp(
    lambda *args: (linear_sum(*args), args),
    lambda args, g: (None, *as_primals(_linear_backward(*args, g), args[1:])),
)


# --- any logits -----------------------------------------------------------------------------------


@jax.custom_vjp
def softmax_sum(
    layout: BucketedLayout,
    x_eh: EdgeArray,
    z_nch: Features,
    multiplier_eh: EdgeArray | None = None,
    mask_eh: EdgeMask | None = None,
) -> Features:
    """Return sum_j alpha_ij d_ij z_j with alpha the softmax of x over a receiver's edges.

    Args:
      layout: of the graph.
      x_eh: finite; each receiver's largest value is subtracted.
      z_nch: of the senders.
      multiplier_eh: d; None stands for ones.
      mask_eh: True = real; other edges are as if absent. None stands for all.

    Returns:
      [N, C, H], zeros at receivers without real edges.
    """
    return _softmax_forward(layout, x_eh, z_nch, multiplier_eh, mask_eh).out_nch


@fold_heads
def _softmax_forward(layout, x_eh, z_nch, multiplier_eh, mask_eh):
    p_eh = _exponentials(x_eh - rows_of(_peak(layout, x_eh, mask_eh), layout.receivers), mask_eh)
    return _normalised_sum(layout, p_eh, z_nch, multiplier_eh)


def _peak(layout: BucketedLayout, x_eh: EdgeArray, mask_eh: EdgeMask | None) -> NodeArray:
    if mask_eh is not None:
        x_eh = jnp.where(mask_eh, x_eh, -jnp.inf)
    return finite(over_edges(lambda x: x, layout.by_receiver, at_edges=[x_eh], largest=True))


def _softmax_save(layout, x_eh, z_nch, multiplier_eh, mask_eh):
    saved = _softmax_forward(layout, x_eh, z_nch, multiplier_eh, mask_eh)
    like = x_eh[:0], z_nch[:0], None if multiplier_eh is None else multiplier_eh[:0]
    return saved.out_nch, (like, layout, saved)


def _softmax_pull_back(residuals, g_nch):
    like, layout, saved = residuals
    return None, *as_primals(_softmax_backward(layout, saved, g_nch), like), None


@fold_heads
def _softmax_backward(layout, saved: _Saved, g_nch):
    gradient = _Gradient.of(saved, g_nch)
    dx_eh = gradient.at_edges(layout, lambda dx, *_: dx)
    return dx_eh, gradient.of_values(layout), gradient.of_multiplier(layout)


softmax_sum.defvjp(_softmax_save, _softmax_pull_back)


# --- GAT ------------------------------------------------------------------------------------------


class _GATInputs(NamedTuple):
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
    inputs = _GATInputs(c_nh, n_nh, z_nch, edge_scores_eh, multiplier_eh, *traced)
    return _gat_function(*static)(layout, inputs, mask_eh)


def gat_logits(
    layout: BucketedLayout,
    c_nh: NodeArray,
    n_nh: NodeArray,
    *,
    edge_scores_eh: EdgeArray | None = None,
    mask_eh: EdgeMask | None = None,
    slope: Scalar = 0.2,
    temperature: Scalar = 1.0,
) -> EdgeArray:
    """Return what `gat` takes the softmax of, less its largest value in the row [E, H].

    For another sum than that of this module. Its gradient is right for what depends on the softmax
    alone, so that the gradients of a row's logits sum to 0. Arguments as `gat`.
    """
    static, traced = _split_settings(slope, temperature, c_nh)
    inputs = _GATInputs(c_nh, n_nh, None, edge_scores_eh, None, *traced)
    return _gat_logits_function(*static)(layout, inputs, mask_eh)


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


@functools.lru_cache(maxsize=64)
def _gat_function(slope: float | None, temperature: float | None) -> Callable:
    """Return the function of (layout, inputs, mask) for static settings, with its gradient."""

    @fold_heads
    def forward(layout, inputs: _GATInputs, mask_eh):
        m_nh = _largest_t(layout, inputs, mask_eh)
        settings = _settings(inputs, slope, temperature)
        p_eh = _exponentials(_gat_logits(layout, inputs, mask_eh, m_nh, *settings), mask_eh)
        return m_nh, _normalised_sum(layout, p_eh, inputs.z_nch, inputs.multiplier_eh)

    @fold_heads
    def backward(layout, inputs: _GATInputs, mask_eh, m_nh, sum_: _Saved, g_nch):
        gradient = _Gradient.of(sum_, g_nch)
        settings = _settings(inputs, slope, temperature)

        def at_edges(function, **at):
            return gradient.at_edges(layout, function, **at)

        d_inputs = _gat_logits_backward(layout, inputs, mask_eh, m_nh, *settings, at_edges)
        return d_inputs._replace(
            z_nch=gradient.of_values(layout), multiplier_eh=gradient.of_multiplier(layout)
        )

    @jax.custom_vjp
    def aggregate(layout, inputs, mask_eh):
        return forward(layout, inputs, mask_eh)[1].out_nch

    def save(layout, inputs, mask_eh):
        m_nh, sum_ = forward(layout, inputs, mask_eh)
        return sum_.out_nch, (layout, inputs, mask_eh, m_nh, sum_)

    def pull_back(saved, g_nch):
        return None, as_primals(backward(*saved, g_nch), saved[1]), None

    aggregate.defvjp(save, pull_back)
    return aggregate


@functools.lru_cache(maxsize=64)
def _gat_logits_function(slope: float | None, temperature: float | None) -> Callable:
    """Return the function of (layout, inputs, mask) for static settings, with its gradient."""

    @fold_heads
    def forward(layout, inputs: _GATInputs, mask_eh):
        m_nh = _largest_t(layout, inputs, mask_eh)
        settings = _settings(inputs, slope, temperature)
        return _gat_logits(layout, inputs, mask_eh, m_nh, *settings), m_nh

    @fold_heads
    def backward(layout, inputs: _GATInputs, mask_eh, m_nh, dx_eh):
        def at_edges(function, at_edges=(), at_rows=(), at_values=()):
            ids = jnp.asarray(layout.receivers), jnp.asarray(layout.senders)

            @one_loop
            def loop(dx_eh, ids, at_edges, at_rows, at_values):
                receivers, senders = (
                    [rows_of(x, index) for x in xs]
                    for xs, index in zip((at_rows, at_values), ids, strict=True)
                )
                return function(dx_eh, at_edges, receivers, senders)

            return loop(dx_eh, ids, tuple(at_edges), tuple(at_rows), tuple(at_values))

        settings = _settings(inputs, slope, temperature)
        return _gat_logits_backward(layout, inputs, mask_eh, m_nh, *settings, at_edges)

    @jax.custom_vjp
    def logits(layout, inputs, mask_eh):
        return forward(layout, inputs, mask_eh)[0]

    def save(*args):
        x_eh, m_nh = forward(*args)
        return x_eh, (*args, m_nh)

    def pull_back(saved, dx_eh):
        return None, as_primals(backward(*saved, dx_eh), saved[1]), None

    logits.defvjp(save, pull_back)
    return logits


def _gat_logits(layout: BucketedLayout, inputs: _GATInputs, mask_eh, m_nh, slope, temperature):
    """Return f(c + t) / temperature less its largest value in the row; t = n + e.

    For a slope >= 0 that is f(c + m) for the row's largest t = m, and the difference is
    taken so that c does not enter inside one linear piece, as `attention.shifted_logits` does, but
    without selecting between gathered values: there the second term below is an exact 0.
    """
    c_nh, n_nh = inputs.c_nh, inputs.n_nh
    is_above_nh = c_nh + m_nh > 0  # the row's largest logit
    scale_nh = jnp.where(is_above_nh, 1.0, slope)
    bend_nh = jnp.where(is_above_nh, 1.0 - slope, 0.0)

    @one_loop
    def shifted(senders, receivers, n_nh, c_nh, m_nh, scale_nh, bend_nh, e_eh):
        t_eh = rows_of(n_nh, senders)
        if e_eh is not None:
            t_eh += e_eh
        c_eh, m_eh, scale_eh, bend_eh = (
            rows_of(x, receivers) for x in (c_nh, m_nh, scale_nh, bend_nh)
        )
        return scale_eh * (t_eh - m_eh) - bend_eh * jnp.minimum(c_eh + t_eh, 0.0)

    ids = jnp.asarray(layout.senders), jnp.asarray(layout.receivers)
    x_eh = shifted(*ids, n_nh, c_nh, m_nh, scale_nh, bend_nh, inputs.e_eh)
    if not isinstance(slope, float) or slope < 0:
        # f is not monotone for a negative slope: its maximum has to be looked for.
        f_eh = leaky_relu(_logits(layout, inputs), slope)
        usual_eh = f_eh - rows_of(_peak(layout, f_eh, mask_eh), layout.receivers)
        x_eh = jnp.where(slope < 0, usual_eh, x_eh)
    return x_eh / temperature


def _gat_logits_backward(
    layout: BucketedLayout,
    inputs: _GATInputs,
    mask_eh,
    m_nh,
    slope,
    temperature,
    at_edges: Callable,
) -> _GATInputs:
    """Return what `at_edges` leads to: it gives functions of dL/dx, as `_Gradient.at_edges`."""
    c_nh, n_nh, e_eh = inputs.c_nh, inputs.n_nh, inputs.e_eh

    def through_slope(dx, edges, receivers, senders):
        logit = receivers[0] + _sum(*senders, *edges)
        return dx * (slots.slope_at(logit, slope) / temperature)

    at_edge = [] if e_eh is None else [e_eh]
    dt_eh = at_edges(through_slope, at_edges=at_edge, at_rows=[c_nh], at_values=[n_nh])
    dn_nh = over_edges(lambda x: x, layout.by_sender, at_edges=[dt_eh])
    positive_nh = over_edges(
        lambda dt, *logit: dt * slots.step(_sum(*logit)),
        layout.by_receiver,
        at_edges=[dt_eh, *at_edge],
        at_others=[n_nh],
        at_nodes=[c_nh],
    )
    lowest_nh = -_largest_t(layout, inputs, mask_eh, sign=-1.0)
    is_mixed = (c_nh + m_nh >= 0) & (c_nh + lowest_nh < 0)
    dc_nh = jnp.where(is_mixed, (1.0 - slope) * positive_nh, 0.0)
    d_slope = d_temperature = None
    if inputs.slope_h is not None or inputs.temperature_h is not None:
        dx_eh = at_edges(lambda dx, *_: dx)
        d_slope, d_temperature = _settings_backward(
            layout, inputs, mask_eh, m_nh, slope, temperature, dx_eh
        )
    return _GATInputs(
        dc_nh, dn_nh, None, None if e_eh is None else dt_eh, None, d_slope, d_temperature
    )


def _settings_backward(layout, inputs: _GATInputs, mask_eh, m_nh, slope, temperature, dx_eh):
    d_slope = d_temperature = None
    if inputs.slope_h is not None:
        # What a row has in common is free to choose: without c nothing large is cancelled.
        c_nh, logits_eh = inputs.c_nh, _logits(layout, inputs)
        t_eh = _logits(layout, inputs._replace(c_nh=jnp.zeros_like(c_nh)))
        is_negative_eh = rows_of(c_nh + m_nh, layout.receivers) < 0
        lower_eh = t_eh - rows_of(m_nh, layout.receivers)
        below_eh = jnp.where(is_negative_eh, lower_eh, jnp.minimum(logits_eh, 0.0))
        d_slope = jnp.sum(dx_eh * below_eh / temperature, axis=0)
    if inputs.temperature_h is not None:
        settings = slope, temperature
        x_eh = _gat_logits(layout, inputs, mask_eh, m_nh, *settings)
        d_temperature = -jnp.sum(dx_eh * x_eh / temperature, axis=0)
    return d_slope, d_temperature


def _logits(layout: BucketedLayout, inputs: _GATInputs) -> EdgeArray:
    @one_loop
    def add(senders, receivers, c_nh, n_nh, e_eh):
        t_eh = rows_of(n_nh, senders)
        if e_eh is not None:
            t_eh += e_eh  # in this order, as everywhere: a logit near 0 has one sign
        return rows_of(c_nh, receivers) + t_eh

    ids = jnp.asarray(layout.senders), jnp.asarray(layout.receivers)
    return add(*ids, inputs.c_nh, inputs.n_nh, inputs.e_eh)


def _largest_t(
    layout: BucketedLayout, inputs: _GATInputs, mask_eh: EdgeMask | None, *, sign: float = 1.0
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


# --- GATv2 ----------------------------------------------------------------------------------------


class _GATv2Inputs(NamedTuple):
    a_ch: Float[Array, "channels heads"]
    r_nch: Features
    l_nch: Features
    edges_ech: Float[Array, "edges channels heads"] | None
    slope_h: Float[Array, " heads"]


def gatv2_scores(
    layout: BucketedLayout,
    a_ch: Float[Array, "channels heads"],
    r_nch: Features,
    l_nch: Features,
    edges_ech: Float[Array, "edges channels heads"] | None = None,
    *,
    slope: Scalar = 0.2,
) -> EdgeArray:
    """Return sum_c a_c f(r_ic + l_jc (+ e_ijc)) by edge; the slope counts as traced."""
    slope_h = jnp.broadcast_to(jnp.asarray(slope, r_nch.dtype), r_nch.shape[-1:])
    return _gatv2_scores(layout, _GATv2Inputs(a_ch, r_nch, l_nch, edges_ech, slope_h))


@jax.custom_vjp
def _gatv2_scores(layout, inputs):
    return _gatv2_forward(layout, inputs)


@fold_heads
def _gatv2_forward(layout: BucketedLayout, inputs: _GATv2Inputs):
    return _activations(layout, inputs, inputs.slope_h)


def _activations(layout: BucketedLayout, inputs: _GATv2Inputs, slope_h, above: float = 1.0):
    a_ch, r_nch, l_nch, edges_ech, _ = inputs
    ids = layout.receivers, layout.senders
    return slots.edge_activations(a_ch, r_nch, ids[0], l_nch, ids[1], edges_ech, slope_h, above)


def _gatv2_save(layout, inputs):
    return _gatv2_forward(layout, inputs), (layout, inputs)


def _gatv2_pull_back(saved, ds_eh):
    return None, as_primals(_gatv2_backward(*saved, ds_eh), saved[1])


@fold_heads
def _gatv2_backward(layout: BucketedLayout, inputs: _GATv2Inputs, ds_eh):
    a_ch, r_nch, l_nch, edges_ech, slope_h = inputs
    # Sums of ds f', so that a is multiplied in once per node; and because f(x) = x f'(x), the same
    # sums give the gradient of a.
    r_sum_nch = slots.slope_sum(ds_eh, r_nch, l_nch, edges_ech, slope_h, layout.by_receiver)
    l_sum_nch = slots.slope_sum(ds_eh, l_nch, r_nch, edges_ech, slope_h, layout.by_sender)
    da_ch = jnp.sum(r_nch * r_sum_nch + l_nch * l_sum_nch, axis=0)
    d_edges = None
    if edges_ech is not None:
        x_ech = rows_of(r_nch, layout.receivers) + rows_of(l_nch, layout.senders) + edges_ech
        d_edges = ds_eh[:, None] * slots.slope_at(x_ech, slope_h[None, None])
        da_ch += jnp.sum(edges_ech * d_edges, axis=0)
        d_edges *= a_ch[None]
    below_eh = _activations(layout, inputs, jnp.ones_like(slope_h), above=0.0)
    d_slope = jnp.sum(ds_eh * below_eh, axis=0)
    return _GATv2Inputs(da_ch, a_ch[None] * r_sum_nch, a_ch[None] * l_sum_nch, d_edges, d_slope)


_gatv2_scores.defvjp(_gatv2_save, _gatv2_pull_back)
