"""GATv2: attention with the nonlinearity inside the score. Brody et al. 2022, arXiv:2105.14491."""

import functools
import operator
from typing import NamedTuple

import jraph
from jaxtyping import Array, Float

from gat_jax.kernels import Layout, Scalar, attention, gatv2_scores, leaky_relu, projections
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
    less_largest,
)
from gat_jax.layers.frame import edge_multiplier, merge, prepare


class GATv2Params(NamedTuple):
    """Parameters of `gatv2`; without `kernel_recv` senders and receivers share one projection."""

    kernel_send: Float[Array, "*batch features heads channels"]
    a: Float[Array, "*batch heads channels"]
    kernel_recv: Float[Array, "*batch receiver_features heads channels"] | None = None
    bias_send: Float[Array, "*batch heads channels"] | None = None
    bias_recv: Float[Array, "*batch heads channels"] | None = None
    output_bias: Float[Array, "*batch outputs"] | None = None
    edge_kernel: Float[Array, "*batch edge_features heads channels"] | None = None
    residual_kernel: Float[Array, "*batch features outputs"] | None = None


def specs(config: LayerShape, num_features: int) -> dict[str, ParamSpec]:
    """Return the parameters that the layer has."""
    heads = (config.heads, config.channels)
    kernel = ParamSpec((num_features, *heads), "kernel")
    found = {"kernel_send": kernel, "a": ParamSpec(heads, "attention")}
    if config.use_bias:
        found["bias_send"] = ParamSpec(heads, "bias")
    if not config.share_weights:
        width = config.num_receiver_features or num_features
        found["kernel_recv"] = ParamSpec((width, *heads), "kernel")
        if config.use_bias:
            found["bias_recv"] = ParamSpec(heads, "bias")
    if config.num_edge_features:
        found["edge_kernel"] = ParamSpec((config.num_edge_features, *heads), "kernel")
    return found | common_specs(config, num_features)


def gatv2(
    params: GATv2Params,
    graph: jraph.GraphsTuple,
    *,
    config: LayerShape | None = None,
    settings: LayerSettings = LayerSettings(),
    key: DropoutKey = None,
    edge_mask: EdgeMask | None = None,
    edge_weight: EdgeWeight | None = None,
    layout: Layout | None = None,
) -> tuple[Float[Array, "nodes outputs"], AttentionInfo]:
    """Graph attention with the nonlinearity inside the score.

        l = x W_send + b_send (also the values),  r = x W_recv + b_recv
        score_ij = sum_k a_k LeakyReLU(r_ik + l_jk (+ (e_ij W_edge)_k))
        alpha_ij = softmax_j score_ij,  out_i = sum_j alpha_ij l_j

    Args, Returns and Raises as `gat`. Twins that are equal by the criterion of
    `gat_jax.symmetry` agree to rounding: no form of the softmax makes them bit-equal.
    """
    inputs = prepare(
        "gatv2",
        GATv2Params,
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
    l_nch = projections.project(inputs.senders, params.kernel_send, params.bias_send)
    r_nch = l_nch
    if params.kernel_recv is not None:
        r_nch = projections.project(inputs.receivers, params.kernel_recv, params.bias_recv)
    elif inputs.receivers is not inputs.senders:
        r_nch = projections.project(inputs.receivers, params.kernel_send, params.bias_send)
    e_ech = None
    if params.edge_kernel is not None:
        features = projections.edge_features(params.edge_kernel, graph)
        e_ech = projections.project(features, params.edge_kernel, None)
    a_ch = params.a.T.astype(l_nch.dtype)
    scores_eh = gatv2_scores.scores(inputs.layout, a_ch, r_nch, l_nch, e_ech, slope=settings.slope)
    scaled_eh = scores_eh / settings.temperature
    mask_eh = attention.mask_by_head(edge_mask, scores_eh.shape[1])
    multiplier_eh = edge_multiplier(key, settings.attention_dropout, edge_weight, scores_eh)
    out_nch = attention.softmax_sum(inputs.layout, scaled_eh, l_nch, multiplier_eh, mask_eh)
    alpha_eh = attention.softmax(inputs.layout, scaled_eh, mask_eh)
    r_nhc, l_nhc, out_nhc = (x.swapaxes(1, 2) for x in (r_nch, l_nch, out_nch))
    e_ehc = None if e_ech is None else e_ech.swapaxes(1, 2)
    info = AttentionInfo(r_nhc, l_nhc, e_ehc, scores_eh, alpha_eh, out_nhc, params.a)
    return merge(out_nhc, params, inputs), info


def _row_scores(params: GATv2Params, nodes, form) -> RowScores:
    values = form.project(params.kernel_send, params.bias_send, nodes)
    query = values
    if params.kernel_recv is not None:
        query = form.project(params.kernel_recv, params.bias_recv, nodes)
    return RowScores(values, query, values, form.channels(params.a))


def _shifted_row(
    params: GATv2Params, places, query, keys, slope: Scalar, is_monotone: bool
) -> list:
    del is_monotone
    weights, scores = places.channels(params.a), []
    for sender in zip(*keys, strict=True):
        activated = [leaky_relu(r + t_j, slope) for r, t_j in zip(query, sender, strict=True)]
        terms = [a * f for a, f in zip(weights, activated, strict=True)]
        scores.append(functools.reduce(operator.add, terms))
    return less_largest(places, scores)


GATV2 = LayerKind(GATv2Params, gatv2, specs, RowFormula(_row_scores, _shifted_row))
