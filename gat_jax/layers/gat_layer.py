"""GAT: graph attention whose score is a sum. Velickovic et al. 2018, arXiv:1710.10903."""

from typing import NamedTuple

import jraph
from jaxtyping import Array, Float

from gat_jax.kernels import Layout, Scalar, attention, gat_logits, leaky_relu, projections
from gat_jax.kernels.elementwise import row_pieces, shifted_logit
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


class GATParams(NamedTuple):
    """Parameters of `gat`; `None` where the layer has no such part."""

    kernel: Float[Array, "*batch features heads channels"]
    a_recv: Float[Array, "*batch heads channels"]
    a_send: Float[Array, "*batch heads channels"]
    bias: Float[Array, "*batch heads channels"] | None = None
    output_bias: Float[Array, "*batch outputs"] | None = None
    edge_kernel: Float[Array, "*batch edge_features heads channels"] | None = None
    a_edge: Float[Array, "*batch heads channels"] | None = None
    residual_kernel: Float[Array, "*batch features outputs"] | None = None
    kernel_recv: Float[Array, "*batch receiver_features heads channels"] | None = None


def specs(config: LayerShape, num_features: int) -> dict[str, ParamSpec]:
    """Return the parameters that the layer has."""
    heads = (config.heads, config.channels)
    found = {
        "kernel": ParamSpec((num_features, *heads), "kernel"),
        "a_recv": ParamSpec(heads, "half"),
        "a_send": ParamSpec(heads, "half"),
    }
    if config.use_bias:
        found["bias"] = ParamSpec(heads, "bias")
    if config.num_edge_features:
        found["edge_kernel"] = ParamSpec((config.num_edge_features, *heads), "kernel")
        found["a_edge"] = ParamSpec(heads, "attention")
    if config.num_receiver_features:
        kernel_recv = (config.num_receiver_features, *heads)
        found["kernel_recv"] = ParamSpec(kernel_recv, "kernel")
    return found | common_specs(config, num_features)


def gat(
    params: GATParams,
    graph: jraph.GraphsTuple,
    *,
    config: LayerShape | None = None,
    settings: LayerSettings = LayerSettings(),
    key: DropoutKey = None,
    edge_mask: EdgeMask | None = None,
    edge_weight: EdgeWeight | None = None,
    layout: Layout | None = None,
) -> tuple[Float[Array, "nodes outputs"], AttentionInfo]:
    """Graph attention.

        z = x W + b,  c_i = a_recv . z_i,  t_ij = a_send . z_j (+ a_edge . e_ij W_edge)
        alpha_ij = softmax_j LeakyReLU(c_i + t_ij),  out_i = sum_j alpha_ij z_j

    Args:
      params: one layer, H heads of C channels.
      graph: nodes [N, F] floating, or `SparseFeatures`; or a pair of them, of the M nodes that
        send and the N that receive, where these are two sets. Edges [E, D] if the layer has edge
        parameters, and None if not. Receivers are i, senders j.
      config: of the layer, which the parameters have to fit. None: as the parameters show, heads
        concatenated.
      settings: slope, temperature and dropout rates; may be traced.
      key: given in training: dropout on features, then on attention; None applies none.
      edge_mask: [E], True = real; masked edges are as if absent, if the values there are finite.
      edge_weight: [E] numbers that multiply attention after the softmax, as in DGL: a weight of 2
        counts a message twice, and one of 0 leaves it out but not its share of the softmax.
        Receivers whose edges differ in weight are no twins.
      layout: of the graph's edges, made by `make_layout`; None stands for the edge list. Results
        agree to rounding whichever it is.

    Returns:
      Outputs [N, H * C] or [N, C], and the `AttentionInfo`. A node without incoming edges gets
      zeros (plus output bias and residual).

    Raises:
      ValueError: when parameters, graph and layout do not fit, or numbers are out of their range:
        ids, settings, numbers that float32 does not hold. Of what is traced shapes alone are known;
        see `check_traced_ends`.

    Numerics: accumulates in float32 or wider, whatever the inputs; products at full precision.
    Twins in a linear regime get bit-equal rows where edges are sorted (`graphs.from_edges`).
    """
    inputs = prepare(
        "gat",
        GATParams,
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
    if (params.edge_kernel is None) != (params.a_edge is None):
        raise ValueError("a_edge: expected together with edge_kernel, got one without the other")
    e_eh = None
    if params.edge_kernel is not None and params.a_edge is not None:
        e_eh = projections.edge_scores(params.edge_kernel, params.a_edge, graph)
    z_nch = projections.project(inputs.senders, params.kernel, params.bias)
    if inputs.receivers is inputs.senders and params.kernel_recv is None:
        c_nh, n_nh = projections.node_scores(z_nch, params.a_recv, params.a_send)
    else:
        kernel = params.kernel if params.kernel_recv is None else params.kernel_recv
        received_nch = projections.project(inputs.receivers, kernel, params.bias)
        [c_nh] = projections.node_scores(received_nch, params.a_recv)
        [n_nh] = projections.node_scores(z_nch, params.a_send)
    options = {
        "edge_scores_eh": e_eh,
        "mask_eh": attention.mask_by_head(edge_mask, c_nh.shape[1]),
        "slope": settings.slope,
        "temperature": settings.temperature,
    }
    shifted_eh = gat_logits.shifted_logits(inputs.layout, c_nh, n_nh, **options)
    alpha_eh = attention.softmax(inputs.layout, shifted_eh, options["mask_eh"])
    multiplier_eh = edge_multiplier(key, settings.attention_dropout, edge_weight, alpha_eh)
    out_nch = gat_logits.gat_sum(
        inputs.layout, c_nh, n_nh, z_nch, multiplier_eh=multiplier_eh, **options
    )
    out_nhc = out_nch.swapaxes(1, 2)
    logits_eh = gat_logits.raw_logits(inputs.layout, c_nh, n_nh, e_eh)
    info = AttentionInfo(c_nh, n_nh, e_eh, logits_eh, alpha_eh, out_nhc, channel_weights=None)
    return merge(out_nhc, params, inputs), info


def _row_scores(params: GATParams, nodes, form) -> RowScores:
    values = form.project(params.kernel, params.bias, nodes)
    query, keys = form.dot(values, params.a_recv), form.dot(values, params.a_send)
    return RowScores(values, [query], [keys], weights=[])


def _shifted_row(params: GATParams, places, query, keys, slope: Scalar, is_monotone: bool) -> list:
    del params  # they are in the scores
    [c], [t] = query, keys
    if not is_monotone:
        return less_largest(places, [leaky_relu(c + t_j, slope) for t_j in t])
    m = places.largest(t)
    scale, bend = row_pieces(c, m, slope)
    return [shifted_logit(c, t_j, m, scale, bend) for t_j in t]


GAT = LayerKind(GATParams, gat, specs, RowFormula(_row_scores, _shifted_row))
