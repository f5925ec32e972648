"""Graph attention layers as pure functions of parameters and a graph.

    gat     Velickovic et al. 2018, arXiv:1710.10903
    gatv2   Brody et al. 2022, arXiv:2105.14491
    gcn     Kipf and Welling 2017, arXiv:1609.02907

Every layer returns `(nodes, AttentionInfo)`. Write for one graph and one set of parameters, and
batch with `jax.vmap`. Receivers are i, senders j; the local suffixes e, n, h, c are the axes
edges, nodes, heads, channels.

How edges lie in memory is a `layout` (`kernels.layouts`): results agree to rounding whichever it
is. What `AttentionInfo` holds by edge is computed over the edge list in any case; under `jit` it
costs nothing where it is not used.
"""

import dataclasses
from typing import NamedTuple, get_args

import jax
import jax.numpy as jnp
import jraph
import numpy as np
from jaxtyping import Array, Float, Key

from gat_jax.kernels import (
    EdgeMask,
    Layout,
    LayoutName,
    Scalar,
    SegmentLayout,
    SparseFeatures,
    layouts,
    outputs,
    projections,
)
from gat_jax.kernels.edge_list import softmax as attn
from gat_jax.layers.base import (
    GATParams,
    GATv2Params,
    GCNParams,
    LayerParams,
    NormalizationName,
)


class LayerSettings(NamedTuple):
    """What may be traced, and so mapped over by `vmap`."""

    slope: Scalar = 0.2  # of the LeakyReLU
    temperature: Scalar = 1.0  # > 0, divides the scores before the softmax
    feature_dropout: Scalar = 0.0  # rates apply only where a key is given
    attention_dropout: Scalar = 0.0


class AttentionInfo(NamedTuple):
    """What a layer saw on the way; D below is (H,) for GAT and GCN, (H, C) for GATv2.

    GCN has no scores: they are zeros, so that its weights are those of a uniform attention.
    """

    receiver_scores: Float[Array, "nodes heads"] | Float[Array, "nodes heads channels"]  # [N, *D]
    sender_scores: Float[Array, "nodes heads"] | Float[Array, "nodes heads channels"]  # [N, *D]
    edge_scores: Float[Array, "edges heads"] | Float[Array, "edges heads channels"]  # t_ij [E, *D]
    logits: Float[Array, "edges heads"]  # GAT: c_i + t_ij before the LeakyReLU; GATv2: scores
    attention: Float[Array, "edges heads"]  # before dropout
    head_outputs: Float[Array, "nodes heads channels"]  # before merging, output bias, residual
    channel_weights: Float[Array, "heads channels"] | None  # GATv2's a; None otherwise


def apply_layer(
    params: LayerParams,
    graph: jraph.GraphsTuple,
    *,
    concat: bool = True,
    normalization: NormalizationName = "mean",
    settings: LayerSettings = LayerSettings(),
    key: Key[Array, ""] | None = None,
    edge_mask: EdgeMask | None = None,
    layout: Layout | LayoutName = "segment",
) -> tuple[Float[Array, "nodes outputs"], AttentionInfo]:
    """Apply the layer the parameters belong to; arguments as `gat` (`normalization`: `gcn`)."""
    options = {
        "concat": concat,
        "settings": settings,
        "key": key,
        "edge_mask": edge_mask,
        "layout": layout,
    }
    match params:
        case GATParams():
            return gat(params, graph, **options)
        case GATv2Params():
            return gatv2(params, graph, **options)
        case GCNParams():
            return gcn(params, graph, normalization=normalization, **options)


def gat(
    params: GATParams,
    graph: jraph.GraphsTuple,
    *,
    concat: bool = True,
    settings: LayerSettings = LayerSettings(),
    key: Key[Array, ""] | None = None,
    edge_mask: EdgeMask | None = None,
    layout: Layout | LayoutName = "segment",
) -> tuple[Float[Array, "nodes outputs"], AttentionInfo]:
    """Graph attention.

        z = x W + b,  c_i = a_recv . z_i,  t_ij = a_send . z_j (+ a_edge . e_ij W_edge)
        alpha_ij = softmax_j LeakyReLU(c_i + t_ij),  out_i = sum_j alpha_ij z_j

    Args:
      params: one layer, H heads of C channels.
      graph: nodes [N, F] floating, or `sparse.SparseFeatures`; edges [E, D] if the layer has edge
        parameters.
      concat: concatenate the heads, or else average them.
      settings: slope, temperature and dropout rates; may be traced.
      key: given in training: dropout on features, then on attention; None applies none.
      edge_mask: [E], True = real; masked edges are as if absent, if the values there are finite.
      layout: of the graph's edges, made by `layouts.make_layout`; or a name, for a graph that is
        not traced.

    Returns:
      Outputs [N, H * C] or [N, C], and the `AttentionInfo`. A node without incoming edges gets
      zeros (plus output bias and residual).

    Raises:
      ValueError: when parameters, graph and layout do not fit, before tracing.

    Numerics: accumulates in float32 or wider, whatever the inputs; products at full precision.
    Twins in a linear regime get bit-equal rows where edges are sorted (`graphs.from_edges`).
    """
    x, dtype = _inputs(params, params.kernel, graph, concat=concat, edge_mask=edge_mask)
    layout = _layout_of(graph, layout)
    x = _feature_dropout(key, settings.feature_dropout, x)
    if (params.edge_kernel is None) != (params.a_edge is None):
        raise ValueError("a_edge: expected together with edge_kernel, got one without the other")
    e_eh = None
    if params.edge_kernel is not None and params.a_edge is not None:
        e_eh = projections.edge_scores(params.edge_kernel, params.a_edge, graph)
    if isinstance(layout, SegmentLayout):
        z = projections.project(x, params.kernel, params.bias)
        c_nh = jnp.sum(z * params.a_recv[None], axis=-1)
        n_nh = jnp.sum(z * params.a_send[None], axis=-1)
    else:
        z = projections.project_channel_major(x, params.kernel, params.bias)
        c_nh, n_nh = projections.thin_scores(z, params.a_recv, params.a_send)
    t_eh = n_nh[graph.senders]
    if e_eh is not None:
        t_eh += e_eh
    slope, temperature = settings.slope, settings.temperature
    logits_eh, alpha_eh = attn.gat_attention(
        c_nh, t_eh, graph.receivers, slope=slope, temperature=temperature, mask=edge_mask
    )
    multiplier_eh = _dropout_multiplier(key, settings.attention_dropout, alpha_eh)
    if isinstance(layout, SegmentLayout):
        out_nhc = outputs.linear_outputs(layout, graph, alpha_eh, z, multiplier=multiplier_eh)
    else:
        out_nhc = outputs.gat_outputs(
            layout,
            c_nh,
            n_nh,
            z,
            edge_scores=e_eh,
            multiplier=multiplier_eh,
            mask=edge_mask,
            slope=slope,
            temperature=temperature,
        )
    info = AttentionInfo(c_nh, n_nh, t_eh, logits_eh, alpha_eh, out_nhc, channel_weights=None)
    return _merge(out_nhc, params, x, concat=concat).astype(dtype), info


def gatv2(
    params: GATv2Params,
    graph: jraph.GraphsTuple,
    *,
    concat: bool = True,
    settings: LayerSettings = LayerSettings(),
    key: Key[Array, ""] | None = None,
    edge_mask: EdgeMask | None = None,
    layout: Layout | LayoutName = "segment",
) -> tuple[Float[Array, "nodes outputs"], AttentionInfo]:
    """Graph attention with the nonlinearity inside the score.

        l = x W_send + b_send (also the values),  r = x W_recv + b_recv
        score_ij = sum_k a_k LeakyReLU(r_ik + l_jk (+ (e_ij W_edge)_k))
        alpha_ij = softmax_j score_ij,  out_i = sum_j alpha_ij l_j

    Args, Returns and Raises as `gat`. Twins that are equal by the criterion of
    `gat_jax.symmetry` agree to rounding: no form of the softmax makes them bit-equal.
    """
    x, dtype = _inputs(params, params.kernel_send, graph, concat=concat, edge_mask=edge_mask)
    layout = _layout_of(graph, layout)
    x = _feature_dropout(key, settings.feature_dropout, x)
    is_major = not isinstance(layout, SegmentLayout)
    project = projections.project_channel_major if is_major else projections.project
    left = project(x, params.kernel_send, params.bias_send)
    right = left
    if params.kernel_recv is not None:
        right = project(x, params.kernel_recv, params.bias_recv)
    edge = None
    if params.edge_kernel is not None:
        features = projections.edge_features(params.edge_kernel, graph)
        edge = project(features, params.edge_kernel, None)
    l_nhc, r_nhc, e_ehc = left, right, edge
    if is_major:
        l_nhc, r_nhc = left.swapaxes(1, 2), right.swapaxes(1, 2)
        e_ehc = None if edge is None else edge.swapaxes(1, 2)
    t_ehc = l_nhc[graph.senders]
    if e_ehc is not None:
        t_ehc += e_ehc
    activated_ehc = attn.leaky_relu(r_nhc[graph.receivers] + t_ehc, settings.slope)
    scores_eh = jnp.sum(activated_ehc * params.a[None], axis=-1)
    alpha_eh = attn.segment_softmax(
        scores_eh / settings.temperature, graph.receivers, len(left), mask=edge_mask
    )
    multiplier_eh = _dropout_multiplier(key, settings.attention_dropout, alpha_eh)
    if isinstance(layout, SegmentLayout):
        out_nhc = outputs.linear_outputs(layout, graph, alpha_eh, left, multiplier=multiplier_eh)
    else:
        out_nhc = outputs.gatv2_outputs(
            layout,
            params.a,
            right,
            left,
            edges=edge,
            multiplier=multiplier_eh,
            mask=edge_mask,
            slope=settings.slope,
            temperature=settings.temperature,
        )
    info = AttentionInfo(r_nhc, l_nhc, t_ehc, scores_eh, alpha_eh, out_nhc, params.a)
    return _merge(out_nhc, params, x, concat=concat).astype(dtype), info


def gcn(
    params: GCNParams,
    graph: jraph.GraphsTuple,
    *,
    normalization: NormalizationName = "mean",
    concat: bool = True,
    settings: LayerSettings = LayerSettings(),
    key: Key[Array, ""] | None = None,
    edge_mask: EdgeMask | None = None,
    layout: Layout | LayoutName = "segment",
) -> tuple[Float[Array, "nodes outputs"], AttentionInfo]:
    """Graph convolution: weights that depend on degrees alone, never on the query.

        out_i = sum_j w_ij (x_j W + b),  w_ij = 1 / d_i  or  1 / sqrt(d_i d_j)

    d is the in-degree (as many edges as are given and not masked; at least 1). `concat` and the
    slope mean nothing with one head. Other arguments, Returns and Raises as `gat`.
    """
    x, dtype = _inputs(params, params.kernel, graph, concat=concat, edge_mask=edge_mask)
    layout = _layout_of(graph, layout)
    x = _feature_dropout(key, settings.feature_dropout, x)
    z_nhc = projections.project(x, params.kernel, params.bias)
    is_real_e = jnp.ones(len(graph.receivers), bool)
    if edge_mask is not None:
        is_real_e = jnp.asarray(edge_mask)
    real_eh = is_real_e.astype(z_nhc.dtype)[:, None]
    if normalization not in get_args(NormalizationName):
        names = ", ".join(get_args(NormalizationName))
        raise ValueError(f"normalization: expected one of {names}, got {normalization!r}")
    degree_n = jnp.maximum(outputs.sum_by_receiver(layout, graph, real_eh, len(x))[:, 0], 1.0)
    if normalization == "symmetric":
        weights_eh = (
            real_eh / jnp.sqrt(degree_n[graph.receivers] * degree_n[graph.senders])[:, None]
        )
    else:
        weights_eh = real_eh / degree_n[graph.receivers][:, None]
    multiplier_eh = _dropout_multiplier(key, settings.attention_dropout, weights_eh)
    out_nhc = outputs.linear_outputs(layout, graph, weights_eh, z_nhc, multiplier=multiplier_eh)
    zeros_nh = jnp.zeros((len(x), 1), z_nhc.dtype)
    zeros_eh = jnp.zeros_like(weights_eh)
    info = AttentionInfo(
        zeros_nh, zeros_nh, zeros_eh, zeros_eh, weights_eh, out_nhc, channel_weights=None
    )
    return _merge(out_nhc, params, x, concat=concat).astype(dtype), info


def _layout_of(graph: jraph.GraphsTuple, layout: Layout | LayoutName) -> Layout:
    """Prepare a layout given by name, and check one that is given."""
    if isinstance(layout, str):
        return layouts.make_layout(graph, layout)
    layouts.check_fits(layout, graph)
    return layout


def _inputs(params: LayerParams, kernel, graph: jraph.GraphsTuple, *, concat: bool, edge_mask):
    """Check all shapes; return features in the accumulation dtype, and the dtype of the outputs."""
    if kernel.ndim != 3:
        raise ValueError(f"kernel: expected shape [F, H, C], got {kernel.shape}")
    num_features, heads, channels = kernel.shape
    outputs = heads * channels if concat else channels
    for name, array in params._asdict().items():
        if array is None:
            continue
        shape = (heads, channels)
        if name == "output_bias":
            shape = (outputs,)
        elif name == "residual_kernel":
            shape = (num_features, outputs)
        elif name == "edge_kernel":
            shape = (*array.shape[:1], heads, channels)
        elif name.startswith("kernel"):
            shape = (num_features, heads, channels)
        if array.shape != shape:
            raise ValueError(f"{name}: expected shape {shape}, got {array.shape}")
    if edge_mask is not None and np.shape(edge_mask) != graph.receivers.shape:
        expected = graph.receivers.shape
        raise ValueError(f"edge_mask: expected shape {expected}, got {np.shape(edge_mask)}")
    x = graph.nodes if isinstance(graph.nodes, SparseFeatures) else jnp.asarray(graph.nodes)
    if x.ndim != 2 or x.shape[1] != kernel.shape[0]:
        raise ValueError(f"nodes: expected shape [N, {kernel.shape[0]}], got {x.shape}")
    dtype = jnp.promote_types(x.dtype, kernel.dtype)
    return x.astype(jnp.promote_types(dtype, jnp.float32)), dtype


def _feature_dropout(key, rate: Scalar, x):
    """Return dropped-out features, of sparse ones the non-zeros; all without a key."""
    if _is_without_dropout(key, rate):
        return x
    if isinstance(x, SparseFeatures):
        return dataclasses.replace(x, values=_drop(key, 0, rate, jnp.asarray(x.values)))
    return _drop(key, 0, rate, x)


def _dropout_multiplier(key, rate: Scalar, attention_eh):
    """Return what dropout multiplies attention by: 0, or 1 / (1 - rate); None without a key."""
    if _is_without_dropout(key, rate):
        return None
    return _drop(key, 1, rate, jnp.ones_like(attention_eh))


def _is_without_dropout(key, rate: Scalar) -> bool:
    return key is None or (isinstance(rate, (int, float)) and rate == 0)


def _drop(key, stream: int, rate: Scalar, values: Array) -> Array:
    """Inverted dropout with the layer's numbered stream of randomness."""
    is_kept = jax.random.bernoulli(jax.random.fold_in(key, stream), 1.0 - rate, values.shape)
    return jnp.where(is_kept, values / (1.0 - rate), 0.0)


def _merge(out_nhc, params: LayerParams, x, *, concat: bool):
    merged = outputs.side_by_side(out_nhc) if concat else jnp.mean(out_nhc, axis=1)
    if params.residual_kernel is not None:
        residual = params.residual_kernel[:, None, :]
        merged += projections.project(x, residual, None)[:, 0, :]
    if params.output_bias is not None:
        merged += params.output_bias[None]
    return merged
