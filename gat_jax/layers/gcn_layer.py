"""GCN: graph convolution, which has no query. Kipf and Welling 2017, arXiv:1609.02907."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import jraph
from jaxtyping import Array, Float

from gat_jax.kernels import Layout, attention, projections
from gat_jax.layers.base import (
    AttentionInfo,
    DropoutKey,
    EdgeMask,
    EdgeWeight,
    LayerKind,
    LayerSettings,
    LayerShape,
    ParamSpec,
    RowFormula,
    RowScores,
    common_specs,
)
from gat_jax.layers.frame import edge_multiplier, merge, prepare


class GCNParams(NamedTuple):
    """Parameters of `gcn`: one head, so H = 1."""

    kernel: Float[Array, "*batch features 1 channels"]
    bias: Float[Array, "*batch 1 channels"] | None = None
    output_bias: Float[Array, "*batch outputs"] | None = None
    residual_kernel: Float[Array, "*batch features outputs"] | None = None


def specs(config: LayerShape, num_features: int) -> dict[str, ParamSpec]:
    """Return the parameters that the layer has.

    Raises:
      ValueError: for several heads, or edge features, which the layer does not know.
    """
    if config.heads != 1 or config.num_edge_features != 0:
        raise ValueError(
            "layer: expected one head and no edge features for gcn, got "
            f"heads={config.heads}, num_edge_features={config.num_edge_features}"
        )
    if config.num_receiver_features:
        raise ValueError("num_receiver_features: expected 0 for gcn, which has one set of nodes")
    found = {"kernel": ParamSpec((num_features, 1, config.channels), "kernel")}
    if config.use_bias:
        found["bias"] = ParamSpec((1, config.channels), "bias")
    return found | common_specs(config, num_features)


def gcn(
    params: GCNParams,
    graph: jraph.GraphsTuple,
    *,
    config: LayerShape | None = None,
    settings: LayerSettings = LayerSettings(),
    key: DropoutKey = None,
    edge_mask: EdgeMask | None = None,
    edge_weight: EdgeWeight | None = None,
    layout: Layout | None = None,
) -> tuple[Float[Array, "nodes outputs"], AttentionInfo]:
    """Graph convolution: weights that depend on degrees alone, never on the query.

        out_i = sum_j w_ij (x_j W + b),  w_ij = 1 / d_i  or  1 / sqrt(d_i d_j)

    d is the in-degree (as many edges as are given and not masked; at least 1). The config says
    which of the two weights (`gcn_normalization`); without one it is the mean. The slope means
    nothing. Other arguments, Returns and Raises as `gat`.
    """
    inputs = prepare(
        "gcn",
        GCNParams,
        specs,
        params,
        graph,
        config=config,
        settings=settings,
        key=key,
        edge_mask=edge_mask,
        edge_weight=edge_weight,
        layout=layout,
    )
    if inputs.receivers is not inputs.senders:
        raise ValueError("nodes: expected one set of nodes for gcn, got senders and receivers")
    layout = inputs.layout
    z_nch = projections.project(inputs.senders, params.kernel, params.bias)
    is_real_e = jnp.ones(len(graph.receivers), bool)
    if edge_mask is not None:
        is_real_e = jnp.asarray(edge_mask)
    real_eh = is_real_e.astype(z_nch.dtype)[:, None]
    ones_nch = jnp.ones((len(z_nch), 1, 1), z_nch.dtype)
    degree_n1 = jnp.maximum(attention.linear_sum(layout, real_eh, ones_nch)[:, 0], 1.0)
    weights_eh = real_eh / degree_n1[graph.receivers]
    if inputs.config.gcn_normalization == "symmetric":
        product_eh = degree_n1[graph.receivers] * degree_n1[graph.senders]
        weights_eh = real_eh / jnp.sqrt(product_eh)
    multiplier_eh = edge_multiplier(key, settings.attention_dropout, edge_weight, weights_eh)
    dropped_eh = weights_eh if multiplier_eh is None else weights_eh * multiplier_eh
    out_nhc = attention.linear_sum(layout, dropped_eh, z_nch).swapaxes(1, 2)
    zeros_n1 = jnp.zeros_like(degree_n1)
    zeros_e1 = jnp.zeros_like(weights_eh)
    info = AttentionInfo(zeros_n1, zeros_n1, None, zeros_e1, weights_eh, out_nhc, None)
    return merge(out_nhc, params, inputs), info


def _is_average(config: LayerShape) -> bool:
    # Symmetric weights do not add up to 1.
    return config.gcn_normalization == "mean"


def _row_scores(params: GCNParams, nodes, form) -> RowScores:
    values = form.project(params.kernel, params.bias, nodes)
    zeros = [jax.tree.map(jnp.zeros_like, values[0])]
    return RowScores(values, zeros, zeros, weights=[])


def _given_weights(config: LayerShape, symmetric: Sequence, degree) -> Sequence:
    if config.gcn_normalization == "mean":
        return [1.0 / degree] * len(symmetric)
    return symmetric


GCN = LayerKind(
    GCNParams,
    gcn,
    specs,
    RowFormula(_row_scores, shifted=None, given_weights=_given_weights),
    _is_average,
)
