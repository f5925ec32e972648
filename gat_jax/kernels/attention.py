"""Weighted sums over a node's edges on a layout with tables: no scatter, forward or backward.

    linear_sum     out_i = sum_j w_ij z_j
    softmax_sum    out_i = sum_j alpha_ij d_ij z_j,   alpha_ij = softmax_j x_ij

d is what dropout multiplies by. What belongs to an edge and a head is an array [E, H] in the order
of the edge list; nothing of the size [E, H, C] is stored. With G = dL/dout the gradient of x is

    dL/dx_ij = alpha_ij (d_ij <G_i, z_j> - r_i),   r_i = <G_i, out_i>

in one loop over the edges. The loop may go on to what x depends on, so that dL/dx itself is never
stored: `gat_aggregation` does. `gatv2_aggregation` has the scores that `softmax_sum` is given.

There are neither forward mode nor second derivatives of these functions; the edge list has both.
What is masked has to be finite all the same: 0 times NaN is NaN.

All arrays end in an axis of heads, which share nothing: `vmap` folds the mapped axis into it. Local
suffixes as in `loops`.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap
from jaxtyping import Array, Bool, Float

from gat_jax.kernels import contract as sums
from gat_jax.kernels.contract import over_edges
from gat_jax.kernels.layouts import BucketedLayout, Prepared
from gat_jax.kernels.xla import edge_loops, loops
from gat_jax.kernels.xla.loops import rows_of

EdgeArray = Float[Array, "edges heads"]
NodeArray = Float[Array, "nodes heads"]
EdgeMask = Bool[Array, "edges heads"]
Features = Float[Array, "nodes channels heads"]


def as_primals(gradients: Any, primals: Any) -> Any:
    """Return gradients in the dtypes of what they are gradients of; None stays None."""
    return jax.tree.map(lambda g, x: g.astype(x.dtype), gradients, primals)


def fold_heads(function: Callable) -> Callable:
    """Let `vmap` fold the mapped axis into the heads, the last axis of all arrays but the layout's.

    A mapped layout, one graph per lane, is mapped as ever. The function is compiled as a whole: its
    loops are closures, new with every call, and outside of `jit` each would compile again. It is
    part of a function with a gradient of its own; what would differentiate it a second time is
    refused in words.
    """
    function = jax.jit(function)
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

    once_differentiable = jax.custom_jvp(mapped)
    once_differentiable.defjvp(_refuse_derivatives)
    return once_differentiable


def _refuse_derivatives(*_):
    raise NotImplementedError(
        "second derivatives: expected layout 'segment', which alone has them, got one with tables"
    )


# --- what all share: a sum with weights p, divided by their sum -----------------------------------


class NormalisedSum(NamedTuple):
    """The sum with weights alpha, and what its gradient needs."""

    alpha_eh: EdgeArray
    z_nch: Features
    multiplier_eh: EdgeArray | None
    out_nch: Features


def normalised_sum(
    layout: BucketedLayout, p_eh: EdgeArray, z_nch: Features, multiplier_eh: EdgeArray | None
) -> NormalisedSum:
    """Compute out_i = sum_j alpha_ij d_ij z_j, alpha_ij = p_ij / sum_j p_ij, for p >= 0.

    Where all p are 0, alpha and out are.
    """
    total_nh = over_edges(lambda p: p, layout.by_receiver, at_edges=[p_eh])
    inverse_nh = 1.0 / jnp.where(total_nh > 0, total_nh, 1.0)
    # The weights are divided, not the sum: XLA would contract a product at the end with a caller's
    # difference of two rows, and x y - z w with one rounding is not 0 for twins.
    # In a loop of its own: XLA would repeat the exponentials wherever alpha is fetched.
    alpha_eh = sums.edge_values(
        lambda edges, receivers, _: edges[0] * receivers[0],
        layout,
        at_edges=[p_eh],
        at_rows=[inverse_nh],
    )
    weights = [alpha_eh] if multiplier_eh is None else [alpha_eh, multiplier_eh]
    out_nch = sums.weighted_sum(weights, z_nch, layout.by_receiver)
    return NormalisedSum(alpha_eh, z_nch, multiplier_eh, out_nch)


class SumGradient(NamedTuple):
    """The gradients of a normalised sum; make it with `of`."""

    saved: NormalisedSum
    g_nch: Features
    r_nh: NodeArray  # <G, out>

    @classmethod
    def of(cls, saved: NormalisedSum, g_nch: Features) -> "SumGradient":
        """Prepare the gradients for G."""
        return cls(saved, g_nch, loops.node_dots(g_nch, saved.out_nch))

    def at_edges(
        self, layout: BucketedLayout, function: Callable, *, at_edges=(), at_rows=(), at_values=()
    ) -> EdgeArray:
        """Return a function of dL/dx, x = log p, and of what `edge_loops.edge_values` passes."""
        weights = self._weights()

        def of_dot(dot, edges, receivers, senders):
            alpha, *multiplier = edges[: len(weights)]
            r, *receivers = receivers
            dx = alpha * (math.prod(multiplier, start=dot) - r)
            return function(dx, edges[len(weights) :], receivers, senders)

        return self._dots(
            layout,
            function=of_dot,
            at_edges=[*weights, *at_edges],
            at_rows=[self.r_nh, *at_rows],
            at_values=at_values,
        )

    def of_multiplier(self, layout: BucketedLayout) -> EdgeArray | None:
        """Return dL/dd; a loop of its own, left out of a program that does not use it."""
        if self.saved.multiplier_eh is None:
            return None
        return self._dots(
            layout, function=lambda dot, edges, *_: edges[0] * dot, at_edges=[self.saved.alpha_eh]
        )

    def of_values(self, layout: BucketedLayout) -> Features:
        """Return dL/dz."""
        return sums.weighted_sum(self._weights(), self.g_nch, layout.by_sender)

    def _weights(self) -> list[EdgeArray]:
        return [x for x in (self.saved.alpha_eh, self.saved.multiplier_eh) if x is not None]

    def _dots(self, layout: BucketedLayout, **options: Any) -> EdgeArray:
        ends = self.g_nch, layout.receivers, self.saved.z_nch, layout.senders
        return edge_loops.edge_dots(*ends, **options)


def exponentials(x_eh: EdgeArray, mask_eh: EdgeMask | None) -> EdgeArray:
    """Return exp(x), 0 at masked edges, whatever x is there."""
    if mask_eh is None:
        return jnp.exp(x_eh)
    return jnp.where(mask_eh, jnp.exp(jnp.where(mask_eh, x_eh, 0.0)), 0.0)


def row_peak(layout: Prepared, x_eh: EdgeArray, mask_eh: EdgeMask | None) -> NodeArray:
    """Return the largest x of every receiver's real edges, 0 without any."""
    if mask_eh is not None:
        x_eh = jnp.where(mask_eh, x_eh, -jnp.inf)
    return finite(over_edges(lambda x: x, layout.by_receiver, at_edges=[x_eh], largest=True))


def finite(peak: Array) -> Array:
    """Return 0 for a row without edges, whose largest value is minus infinity."""
    return jnp.where(peak > -jnp.inf, peak, 0.0)


# --- given weights --------------------------------------------------------------------------------


@jax.custom_vjp
def linear_sum(
    layout: Prepared,
    weights_eh: EdgeArray,
    z_nch: Float[Array, "others channels heads"],
) -> Features:
    """Return sum_j w_ij z_j over a receiver's edges, zeros without any.

    Senders may be of another kind than receivers, and of another number.
    """
    return _linear_forward(layout, weights_eh, z_nch)


@fold_heads
def _linear_forward(layout, weights_eh, z_nch):
    return sums.weighted_sum([weights_eh], z_nch, layout.by_receiver)


@fold_heads
def _linear_backward(layout, weights_eh, z_nch, g_nch):
    dw_eh = sums.edge_dots(layout, g_nch, z_nch)
    return dw_eh, sums.weighted_sum([weights_eh], g_nch, layout.by_sender)


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
    p_eh = exponentials(x_eh - rows_of(row_peak(layout, x_eh, mask_eh), layout.receivers), mask_eh)
    return normalised_sum(layout, p_eh, z_nch, multiplier_eh)


def _softmax_save(layout, x_eh, z_nch, multiplier_eh, mask_eh):
    saved = _softmax_forward(layout, x_eh, z_nch, multiplier_eh, mask_eh)
    like = x_eh[:0], z_nch[:0], None if multiplier_eh is None else multiplier_eh[:0]
    return saved.out_nch, (like, layout, saved)


def _softmax_pull_back(residuals, g_nch):
    like, layout, saved = residuals
    return None, *as_primals(_softmax_backward(layout, saved, g_nch), like), None


@fold_heads
def _softmax_backward(layout, saved: NormalisedSum, g_nch):
    gradient = SumGradient.of(saved, g_nch)
    dx_eh = gradient.at_edges(layout, lambda dx, *_: dx)
    return dx_eh, gradient.of_values(layout), gradient.of_multiplier(layout)


softmax_sum.defvjp(_softmax_save, _softmax_pull_back)
