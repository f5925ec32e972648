"""What is recorded of a training run, and how it is measured in each layer.

Gradient descent sees equal twins in two ways that must not be confused: attention entropy can
leave its maximum while the twins stay equal. The history therefore tracks both.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import jraph
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from gat_jax.graphs import TwinPairs
from gat_jax.kernels import Layout, Scalar
from gat_jax.layers import AttentionInfo, EdgeMask, LayerParams
from gat_jax.symmetry import (
    CAUSES,
    equal_by_signs,
    mean_of_defined,
    normalised_entropy,
    pair_causes,
    primary_cause,
    twin_gap,
)
from gat_jax.training.measures import MEASURES

# Whose gradients `grad_norm` gives, in its order.
GRADIENTS = ("a_recv", "a_send", "kernel")


class LayerMeasures(NamedTuple):
    """The symmetry of one layer at one moment; K causes."""

    entropy: Float[Array, ""]  # of attention, normalised by its maximum; mean over rows and heads
    twin_entropy: Float[Array, ""]  # the same over the twins' rows
    twin_gap: Float[Array, ""]  # largest over pairs, heads, channels, in units of the outputs
    collided: Float[Array, ""]  # share of the pairs that are equal by signs in all heads
    cause_share: Float[Array, " causes"]  # of the pairs and heads, by primary cause


class TrainHistory(NamedTuple):
    """One entry for each recorded step k = 0, record_every, ...: the state after k updates.

    T records, L layers, K causes. Everything is measured without dropout, except that with dropout
    `grad_norm` is that of the training step which starts at this state, whose gradient has dropout:
    so no record costs a gradient of its own. No step starts at the last state; its `grad_norm` is
    NaN with dropout. Weight decay is part of neither the loss nor the gradient.
    """

    step: Int[Array, " records"]
    loss: Float[Array, " records"]  # nats, mean over labelled nodes
    accuracy: Float[Array, " records"]  # share of the labelled nodes
    entropy: Float[Array, "records layers"]  # this and the next four as in `LayerMeasures`
    twin_entropy: Float[Array, "records layers"]
    twin_gap: Float[Array, "records layers"]
    collided: Float[Array, "records layers"]
    cause_share: Float[Array, "records layers causes"]
    grad_norm: Float[Array, "records layers 3"]  # of `GRADIENTS`; NaN: no such parameter
    validation_loss: Float[Array, " records"]  # nats, mean over the validation nodes; NaN: none
    validation_score: Float[Array, " records"]  # of `TrainConfig.score`; NaN: no such nodes
    # By name, [records, layers, *dims] with the dims of `measures.MEASURES`; NaN where a layer has
    # fewer heads than another.
    measures: dict[str, Array]
    status: Int[Array, ""]  # first step whose loss or gradient is not finite; -1 if none


def measure_layer(
    info: AttentionInfo,
    graph: jraph.GraphsTuple,
    pairs: TwinPairs,
    *,
    slope: Scalar,
    edge_mask: EdgeMask | None = None,
    layout: Layout | None = None,
) -> LayerMeasures:
    """Measure how far a layer tells its twins apart.

    Args:
      info: of the layer, without dropout.
      graph: that the layer saw; its edges alone are read.
      pairs: twins of that graph.
      slope: of the layer's LeakyReLU.
      edge_mask: [E], True = real; rows of padding have no real edge, and so no entropy.
      layout: of the graph's edges; None stands for the edge list.

    Returns:
      Scalars and [K], all of the dtype of the attention. A mean over nothing (no pairs, or no row
      with two edges) is NaN, and so are entropies where an attention is not finite; the largest gap
      of no pairs is 0.
    """
    num_nodes = info.head_outputs.shape[0]
    entropy_nh = normalised_entropy(
        info.attention, graph.receivers, num_nodes, mask=edge_mask, layout=layout
    )
    # NaN means a row without an entropy to the means below, which leave it out.
    spoilt = jnp.where(jnp.all(jnp.isfinite(info.attention)), 0.0, jnp.nan)
    is_twin_n = jnp.zeros(num_nodes, bool).at[pairs.first].set(True).at[pairs.second].set(True)
    gap_ph = twin_gap(info.head_outputs, pairs.first, pairs.second)
    causes_phk = pair_causes(info, graph, pairs, slope=slope, mask=edge_mask, layout=layout)
    primary_phk = primary_cause(causes_phk)[..., None] == jnp.arange(len(CAUSES))[None, None]
    return LayerMeasures(
        entropy=mean_of_defined(entropy_nh) + spoilt,
        twin_entropy=mean_of_defined(jnp.where(is_twin_n[:, None], entropy_nh, jnp.nan)) + spoilt,
        twin_gap=jnp.max(gap_ph, initial=0.0),
        collided=jnp.mean(jnp.all(equal_by_signs(causes_phk), axis=-1)),
        cause_share=jnp.mean(primary_phk, axis=(0, 1)),
    )


def gradient_norms(grads: LayerParams) -> Float[Array, "3"]:
    """Return the Euclidean norms of one layer's gradients, in the order of `GRADIENTS`.

    Parameters are found by name, so that this serves any layer that keeps to the names: `a_recv`;
    `a_send`, or GATv2's one vector `a` in its place; and all kernels (`kernel...`) as one vector.

    Args:
      grads: in the form of the layer's parameters.

    Returns:
      NaN where the layer has no such parameter.
    """
    by_name = {name: grad for name, grad in grads._asdict().items() if grad is not None}
    kernels = [grad for name, grad in by_name.items() if name.startswith("kernel")]
    parts = (by_name.get("a_recv"), by_name.get("a_send", by_name.get("a")), kernels)
    return jnp.stack([jnp.float32(np.nan) if x is None else optax.tree.norm(x) for x in parts])


def join_records(records: Sequence[TrainHistory]) -> TrainHistory:
    """Return the records of runs side by side, [runs, records, ...], on the host; no status."""
    plain = [record._replace(status=None) for record in records]
    return jax.tree.map(lambda *x: np.concatenate([np.asarray(y) for y in x], axis=1), *plain)


def stack_measures(layers: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
    """Return the measures of all layers in one array each, [layers, *dims].

    Args:
      layers: by name, arrays whose axes are the measure's dimensions.
    """
    stacked = {}
    for name in layers[0]:
        arrays, dims = [layer[name] for layer in layers], MEASURES[name].dims
        most = [max(sizes) for sizes in zip(*(x.shape for x in arrays), strict=True)]
        missing = [[(0, n - m) for n, m in zip(most, x.shape, strict=True)] for x in arrays]
        assert all(
            m == 0 or dims[axis] == "head" for gaps in missing for axis, (_, m) in enumerate(gaps)
        )
        padded = [
            jnp.pad(x, gaps, constant_values=np.nan) if dims else x
            for x, gaps in zip(arrays, missing, strict=True)
        ]
        stacked[name] = jnp.stack(padded)
    return stacked
