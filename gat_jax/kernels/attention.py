"""Softmax over a row's edges, and weighted sums over them, on any layout.

    linear_sum     out_i = sum_j w_ij z_j
    softmax_sum    out_i = sum_j alpha_ij d_ij z_j,   alpha_ij = softmax_j x_ij
    softmax        alpha_ij

d is what dropout multiplies by. What belongs to an edge and a head is an array [E, H] in the order
of the edge list; on tables nothing of the size [E, H, C] is stored. With G = dL/dout the gradient
of x is

    dL/dx_ij = alpha_ij (d_ij <G_i, z_j> - r_i),   r_i = <G_i, out_i>

in one loop over the edges. The loop may go on to what x depends on, so that dL/dx itself is never
stored: `gat_logits` does. `gatv2_scores` has the scores that `softmax_sum` is given.

What is masked has to be finite all the same: 0 times NaN is NaN. Local suffixes: n nodes, e edges,
c channels, h heads.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from gat_jax.kernels import contract
from gat_jax.kernels.elementwise import finite_peak
from gat_jax.kernels.gradients import with_gradient
from gat_jax.kernels.layouts import Layout
from gat_jax.kernels.xla.loops import node_dots, repeat_by_head

EdgeArray = Float[Array, "edges heads"]
NodeArray = Float[Array, "nodes heads"]
EdgeMask = Bool[Array, "edges heads"]
Features = Float[Array, "nodes channels heads"]
# Where senders are another set of nodes than receivers, there is another number of them.
SentFeatures = Float[Array, "senders channels heads"]

# --- what all share: a sum with weights p, divided by their sum -----------------------------------


class NormalisedSum(NamedTuple):
    """The sum with weights alpha, and what its gradient needs."""

    alpha_eh: EdgeArray
    out_nch: Features


def normalise(layout: Layout, p_eh: EdgeArray) -> EdgeArray:
    """Return p_ij / sum_j p_ij for p >= 0; 0 in a row where all p are."""
    total_nh = contract.edge_reduce(lambda edges, *_: edges[0], layout.by_receiver, at_edges=[p_eh])
    inverse_nh = 1.0 / jnp.where(total_nh > 0, total_nh, 1.0)
    # The weights are divided, not the sum: XLA would contract a product at the end with a caller's
    # difference of two rows, and x y - z w with one rounding is not 0 for twins.
    # In a loop of its own: XLA would repeat the exponentials wherever alpha is fetched.
    return contract.edge_map(
        lambda edges, rows, _: edges[0] * rows[0],
        layout.by_receiver,
        at_edges=[p_eh],
        at_rows=[inverse_nh],
    )


def normalised_sum(
    layout: Layout, p_eh: EdgeArray, z_nch: SentFeatures, multiplier_eh: EdgeArray | None
) -> NormalisedSum:
    """Compute out_i = sum_j alpha_ij d_ij z_j, alpha_ij = p_ij / sum_j p_ij, for p >= 0."""
    alpha_eh = normalise(layout, p_eh)
    weights = _present(alpha_eh, multiplier_eh)
    return NormalisedSum(alpha_eh, _sum_of_senders(layout, weights, z_nch))


class SumGradient(NamedTuple):
    """The gradients of a normalised sum; make it with `of`."""

    saved: NormalisedSum
    z_nch: SentFeatures
    multiplier_eh: EdgeArray | None
    g_nch: Features
    r_nh: NodeArray  # <G, out>

    @classmethod
    def of(
        cls,
        saved: NormalisedSum,
        z_nch: SentFeatures,
        multiplier_eh: EdgeArray | None,
        g_nch: Features,
    ) -> "SumGradient":
        """Prepare the gradients for G."""
        return cls(saved, z_nch, multiplier_eh, g_nch, node_dots(g_nch, saved.out_nch))

    def at_edges(
        self, layout: Layout, function: Callable, *, at_edges=(), at_rows=(), at_others=()
    ) -> EdgeArray:
        """Return a function of dL/dx, x = log p, and of what `contract.edge_map` passes."""
        weights = _present(self.saved.alpha_eh, self.multiplier_eh)

        def of_dot(dot, edges, rows, others):
            alpha, *multiplier = edges[: len(weights)]
            r, *rows = rows
            dx = alpha * (math.prod(multiplier, start=dot) - r)
            return function(dx, edges[len(weights) :], rows, others)

        return self._dots(
            layout,
            of_dot,
            at_edges=[*weights, *at_edges],
            at_rows=[self.r_nh, *at_rows],
            at_others=at_others,
        )

    def of_multiplier(self, layout: Layout) -> EdgeArray | None:
        """Return dL/dd; a loop of its own, left out of a program that does not use it."""
        if self.multiplier_eh is None:
            return None
        alpha_eh = self.saved.alpha_eh
        return self._dots(layout, lambda dot, edges, *_: edges[0] * dot, at_edges=[alpha_eh])

    def of_values(self, layout: Layout) -> SentFeatures:
        """Return dL/dz."""
        weights = _present(self.saved.alpha_eh, self.multiplier_eh)
        return _sum_of_receivers(layout, weights, self.g_nch)

    def _dots(self, layout: Layout, function: Callable, **ends: Any) -> EdgeArray:
        features = {"rows": self.g_nch, "others": layout.gathered(self.z_nch)}
        return contract.edge_dots(function, layout.by_receiver, **features, **ends)


def _sum_of_senders(layout: Layout, weights: list[EdgeArray], z_nch: SentFeatures) -> Features:
    return contract.weighted_sum(weights, layout.by_receiver, layout.gathered(z_nch))


def _sum_of_receivers(layout: Layout, weights: list[EdgeArray], g_nch: Features) -> SentFeatures:
    return contract.weighted_sum(weights, layout.by_sender, layout.gathered(g_nch))


def _present(*arrays: Array | None) -> list[Array]:
    return [x for x in arrays if x is not None]


def exponentials(x_eh: EdgeArray, mask_eh: EdgeMask | None) -> EdgeArray:
    """Return exp(x), 0 at masked edges, whatever x is there."""
    if mask_eh is None:
        return jnp.exp(x_eh)
    return jnp.where(mask_eh, jnp.exp(jnp.where(mask_eh, x_eh, 0.0)), 0.0)


def row_peak(layout: Layout, x_eh: EdgeArray, mask_eh: EdgeMask | None) -> NodeArray:
    """Return the largest x of every receiver's real edges, 0 without any.

    It has no gradient: what is subtracted from a whole row changes no softmax.
    """
    x_eh = jax.lax.stop_gradient(x_eh)
    if mask_eh is not None:
        x_eh = jnp.where(mask_eh, x_eh, -jnp.inf)
    peak_nh = contract.edge_reduce(
        lambda edges, *_: edges[0], layout.by_receiver, at_edges=[x_eh], reduce="max"
    )
    return finite_peak(peak_nh)


def less_peak(layout: Layout, x_eh: EdgeArray, mask_eh: EdgeMask | None) -> EdgeArray:
    """Return x less the largest x of its receiver's real edges."""
    peak_nh = row_peak(layout, x_eh, mask_eh)
    return contract.edge_map(
        lambda edges, rows, _: edges[0] - rows[0],
        layout.by_receiver,
        at_edges=[x_eh],
        at_rows=[peak_nh],
    )


def mask_by_head(
    edge_mask: Bool[Array | np.ndarray, " edges"] | None, heads: int
) -> Bool[Array, "edges heads"] | None:
    """Repeat a mask [E] for every head."""
    if edge_mask is None:
        return None
    return repeat_by_head(jnp.asarray(edge_mask), heads)


# --- given weights --------------------------------------------------------------------------------


def linear_sum(
    layout: Layout,
    weights_eh: EdgeArray,
    z_nch: Float[Array, "senders channels heads"],
) -> Features:
    """Return sum_j w_ij z_j over a receiver's edges, zeros without any.

    Senders may be of another kind than receivers, and of another number.
    """
    return _linear_sum(layout, (weights_eh, z_nch))


def _linear_forward(layout: Layout, inputs, _):
    weights_eh, z_nch = inputs
    return _sum_of_senders(layout, [weights_eh], z_nch), ()


def _linear_backward(layout: Layout, inputs, mask, saved, g_nch):
    weights_eh, z_nch = inputs
    features = {"rows": g_nch, "others": layout.gathered(z_nch)}
    dw_eh = contract.edge_dots(lambda dot, *_: dot, layout.by_receiver, **features)
    return dw_eh, _sum_of_receivers(layout, [weights_eh], g_nch)


_linear_sum = with_gradient(_linear_forward, _linear_backward)

# --- any logits -----------------------------------------------------------------------------------


def softmax(layout: Layout, x_eh: EdgeArray, mask_eh: EdgeMask | None = None) -> EdgeArray:
    """Return the softmax of x over a receiver's edges, in float32 at least.

    Args:
      layout: of the graph.
      x_eh: finite; each receiver's largest value is subtracted.
      mask_eh: True = real; other edges get 0, also where a whole row is masked. None: all are real.

    Returns:
      [E, H], adding up to 1 over every receiver with a real edge.
    """
    return _softmax(layout, x_eh.astype(jnp.promote_types(x_eh.dtype, jnp.float32)), mask_eh)


def _softmax_forward(layout: Layout, x_eh, mask_eh):
    alpha_eh = normalise(layout, exponentials(less_peak(layout, x_eh, mask_eh), mask_eh))
    return alpha_eh, alpha_eh


def _softmax_backward(layout: Layout, x_eh, mask_eh, alpha_eh, g_eh):
    r_nh = contract.edge_reduce(
        lambda edges, *_: edges[0] * edges[1], layout.by_receiver, at_edges=[alpha_eh, g_eh]
    )
    return contract.edge_map(
        lambda edges, rows, _: edges[0] * (edges[1] - rows[0]),
        layout.by_receiver,
        at_edges=[alpha_eh, g_eh],
        at_rows=[r_nh],
    )


_softmax = with_gradient(_softmax_forward, _softmax_backward)


class _SumInputs(NamedTuple):
    x_eh: EdgeArray
    z_nch: SentFeatures
    multiplier_eh: EdgeArray | None


def softmax_sum(
    layout: Layout,
    x_eh: EdgeArray,
    z_nch: Float[Array, "senders channels heads"],
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

    Raises:
      ValueError: if shapes do not fit the layout, where kernels would read other memory.

    Numerics: computed in float32, or in the widest dtype of the arguments; each gradient comes in
    the dtype of what it belongs to.
    """
    return _softmax_sum(layout, _SumInputs(x_eh, z_nch, multiplier_eh), mask_eh)


def _sum_forward(layout: Layout, inputs: _SumInputs, mask_eh):
    kernels = contract.softmax_kernels(layout.by_receiver)
    if kernels is not None:
        logits = kernels.Logits(masked(inputs.x_eh, mask_eh))
        return kernels.forward(layout, logits, inputs.z_nch, inputs.multiplier_eh)
    p_eh = exponentials(less_peak(layout, inputs.x_eh, mask_eh), mask_eh)
    result = normalised_sum(layout, p_eh, inputs.z_nch, inputs.multiplier_eh)
    return result.out_nch, result


def _sum_backward(layout: Layout, inputs: _SumInputs, mask_eh, saved, g_nch):
    kernels = contract.softmax_kernels(layout.by_receiver)
    x_eh, z_nch, multiplier_eh = inputs
    if kernels is not None:
        logits = kernels.Logits(masked(x_eh, mask_eh))
        found = kernels.backward(layout, logits, z_nch, multiplier_eh, saved, g_nch)
        d_multiplier_eh = _multiplier_gradient(layout, inputs, mask_eh, saved.out_nch, g_nch)
        return _SumInputs(found.x_eh, found.z_nch, d_multiplier_eh)
    gradient = SumGradient.of(saved, z_nch, multiplier_eh, g_nch)
    dx_eh = gradient.at_edges(layout, lambda dx, *_: dx)
    return _SumInputs(dx_eh, gradient.of_values(layout), gradient.of_multiplier(layout))


def _multiplier_gradient(
    layout: Layout,
    inputs: "_SumInputs",
    mask_eh: EdgeMask | None,
    out_nch: Features,
    g_nch: Features,
) -> EdgeArray | None:
    """Return dL/dd where kernels have all else; left out of a program that does not use it.

    Args:
      layout: of the graph.
      inputs: of the sum.
      mask_eh: True = real; other edges get 0, whatever their values are.
      out_nch: the sum.
      g_nch: G.
    """
    x_eh, z_nch, multiplier_eh = inputs
    if multiplier_eh is None:
        return None
    alpha_eh = normalise(layout, exponentials(less_peak(layout, x_eh, mask_eh), mask_eh))
    saved = NormalisedSum(alpha_eh, out_nch)
    d_eh = SumGradient.of(saved, z_nch, multiplier_eh, g_nch).of_multiplier(layout)
    return d_eh if d_eh is None or mask_eh is None else jnp.where(mask_eh, d_eh, 0.0)


def masked(x_eh: EdgeArray, mask_eh: EdgeMask | None) -> EdgeArray:
    """Return logits of minus infinity at masked edges, by which kernels know them."""
    return x_eh if mask_eh is None else jnp.where(mask_eh, x_eh, -jnp.inf)


_softmax_sum = with_gradient(_sum_forward, _sum_backward)
