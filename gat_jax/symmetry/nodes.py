"""When does a layer give twins the same attention? Decided exactly, by signs.

For GAT with slope != 1, two receivers with the same support of at least two senders have equal
attention rows if and only if all logits of both rows are >= 0 (`positive`), all are <= 0
(`negative`), the senders' scores are all equal (`uniform`), or the receivers' scores are equal
(`equal_query`). For GATv2 and generic `a`, the same holds channel by channel. GCN has no query.

Signs decide, not outputs: outputs of unequal rows can agree to rounding, those of equal rows
differ by it. The layer's own `AttentionInfo` is read, nothing is recomputed.
"""

from typing import NamedTuple

import jax.numpy as jnp
import jraph
import numpy as np
from jaxtyping import Array, Bool, Float, Int
from numpy.typing import ArrayLike

from gat_jax.graphs import TwinPairs, twins
from gat_jax.kernels import EdgeIds, EdgeMask, Scalar
from gat_jax.layers import (
    AttentionInfo,
    GCNParams,
    LayerParams,
    LayerSettings,
    NormalizationName,
    apply_layer,
)
from gat_jax.symmetry.metrics import twin_gap

# A head has a set of causes; its primary cause is the first that holds in this order.
CAUSES = (
    "trivial",  # the support has at most one distinct sender
    "linear",  # slope = 1
    "equal_query",  # equal receiver scores
    "positive",  # every logit of both rows >= 0
    "negative",  # every logit of both rows <= 0
    "uniform",  # sender scores equal over the support, to 4 ulp of the largest
    "channelwise",  # GATv2 only: every channel for one of the reasons above, but not the same one
    "rounding",  # unequal by signs, outputs of the head equal to 4 ulp of the largest
    "separated",
)
NUM_EXACT_CAUSES = CAUSES.index("rounding")  # the causes before are equality by signs


class RowSigns(NamedTuple):
    """Facts about one receiver's row, per head and channel (GAT and GCN: one channel)."""

    is_positive: Bool[Array, "nodes heads channels"]  # every logit >= 0
    is_negative: Bool[Array, "nodes heads channels"]  # every logit <= 0
    is_uniform: Bool[Array, "nodes heads channels"]  # the sender's part does not vary
    query: Float[Array, "nodes heads channels"]  # the receiver's part of the logit


def row_signs(
    info: AttentionInfo,
    receivers: EdgeIds,
    *,
    mask: EdgeMask | None = None,
) -> RowSigns:
    """Reduce each row to what the criterion needs; everything holds of rows without edges.

    Args:
      info: of a layer.
      receivers: [E] of the layer's graph.
      mask: [E], True = real.

    Numerics: the sign of a floating-point sum c + t is the sign of the exact sum, so the verdict
    is exact for the scores given. A channel of GATv2 with weight 0 does not count: uniform.
    """
    has_channels = info.channel_weights is not None
    query_nhc = info.receiver_scores if has_channels else info.receiver_scores[..., None]
    t_ehc = info.edge_scores if has_channels else info.edge_scores[..., None]
    logits_ehc = query_nhc[receivers] + t_ehc
    # One maximum over the segments for all four extremes: a scatter costs by the edge.
    extremes_ehc = jnp.concatenate([logits_ehc, -logits_ehc, t_ehc, -t_ehc], axis=-1)
    if mask is not None:
        extremes_ehc = jnp.where(mask[:, None, None], extremes_ehc, -jnp.inf)
    highest_nhc = jraph.segment_max(extremes_ehc, receivers, query_nhc.shape[0])
    max_logit, minus_min_logit, max_t, minus_min_t = jnp.split(highest_nhc, 4, axis=-1)
    size = jnp.maximum(jnp.maximum(max_t, minus_min_t), 0.0)
    is_uniform = max_t + minus_min_t <= 4 * jnp.finfo(t_ehc.dtype).eps * size
    if info.channel_weights is not None:
        is_uniform |= info.channel_weights[None] == 0
    return RowSigns(minus_min_logit <= 0, max_logit <= 0, is_uniform, query_nhc)


def pair_causes(
    info: AttentionInfo,
    receivers: EdgeIds,
    pairs: TwinPairs,
    *,
    slope: Scalar = 0.2,
    mask: EdgeMask | None = None,
) -> Bool[Array, "pairs heads causes"]:
    """Return the set of causes of every pair of twins in every head, in the order of `CAUSES`.

    Exactly one of equality by signs, `rounding` and `separated` holds of each pair and head.

    Args:
      info: of a layer; it may be traced and mapped.
      receivers: [E] of the layer's graph.
      pairs: twins of that graph (`twins.twin_pairs`): the criterion assumes equal supports.
      slope: of the LeakyReLU.
      mask: [E], True = real.
    """
    rows = row_signs(info, receivers, mask=mask)
    first, second = (RowSigns(*(x[i] for x in rows)) for i in (pairs.first, pairs.second))
    by_channel = {
        "equal_query": first.query == second.query,
        "positive": first.is_positive & second.is_positive,
        "negative": first.is_negative & second.is_negative,
        "uniform": first.is_uniform & second.is_uniform,
    }
    causes = {name: jnp.all(value, axis=-1) for name, value in by_channel.items()}
    shape = causes["uniform"].shape
    causes["trivial"] = jnp.broadcast_to(jnp.asarray(pairs.is_trivial)[:, None], shape)
    causes["linear"] = jnp.broadcast_to(jnp.asarray(slope) == 1, shape)
    by_any = jnp.stack(list(by_channel.values()))
    by_one = jnp.stack(list(causes.values()))
    causes["channelwise"] = jnp.all(jnp.any(by_any, axis=0), axis=-1) & ~jnp.any(by_one, axis=0)
    is_equal = jnp.any(by_one, axis=0) | causes["channelwise"]

    out_nhc = info.head_outputs
    size = jnp.maximum(
        jnp.max(jnp.abs(out_nhc[pairs.first]), axis=-1),
        jnp.max(jnp.abs(out_nhc[pairs.second]), axis=-1),
    )
    gap = twin_gap(out_nhc, pairs.first, pairs.second)
    is_close = gap <= 4 * jnp.finfo(out_nhc.dtype).eps * size
    causes["rounding"] = ~is_equal & is_close
    causes["separated"] = ~is_equal & ~is_close
    return jnp.stack([causes[name] for name in CAUSES], axis=-1)


def equal_by_signs(causes: Bool[Array, "*shape causes"]) -> Bool[Array, "*shape"]:
    """Whether a pair is equal in a head: one of the exact causes holds."""
    return jnp.any(causes[..., :NUM_EXACT_CAUSES], axis=-1)


def primary_cause(causes: Bool[Array, "*shape causes"]) -> Int[Array, "*shape"]:
    """Index into `CAUSES` of the first cause that holds."""
    return jnp.argmax(causes, axis=-1)


def equal_nodes(
    params: LayerParams,
    graph: jraph.GraphsTuple,
    *,
    settings: LayerSettings = LayerSettings(),
    normalization: NormalizationName = "mean",
) -> Int[np.ndarray, " nodes"]:
    """Give every node the smallest id of a node whose output is equal, for these parameters.

    Args:
      params: of one layer, of any kind.
      graph: one graph, from `gat_jax.graphs`.
      settings: of the layer; dropout plays no part.
      normalization: of GCN.

    Returns:
      [N]. Two entries are equal if and only if attention makes the two nodes equal: through the
      criterion of this module for (merged) twins, or a trivial support. Outputs that agree by
      accident of the numbers, such as one-hot rows, are not equal in this sense. Nor are rows of
      GAT whose edge features differ by one constant, which a linear regime cancels.

    Raises:
      ValueError: as `graphs.validate`, or when parameters and graph do not fit.
    """
    inputs = twins.equal_rows(np.asarray(graph.nodes))
    if getattr(params, "edge_kernel", None) is None:
        graph = graph._replace(edges=None)  # features that the layer ignores separate nothing
    _, info = apply_layer(params, graph, settings=settings, normalization=normalization)
    return propagate_equality(
        info,
        graph,
        inputs,
        slope=float(settings.slope),
        has_residual=params.residual_kernel is not None,
        is_average=not (isinstance(params, GCNParams) and normalization == "symmetric"),
    )


def propagate_equality(
    info: AttentionInfo,
    graph: jraph.GraphsTuple,
    inputs: ArrayLike,
    *,
    slope: float = 0.2,
    has_residual: bool = False,
    is_average: bool = True,
) -> Int[np.ndarray, " nodes"]:
    """Carry equality through one layer: from which inputs are equal to which outputs are.

    Apply it layer after layer, from `twins.equal_rows(features)` on, to follow a deep network:
    nodes that are no twins become equal once their senders have merged. Works by classes, in
    near-linear time however many pairs there are.

    Args:
      info: of the layer, on `graph`.
      graph: one graph, with edge features only where the layer uses them.
      inputs: [N] smallest id of a node with an equal input.
      slope: of the layer's LeakyReLU.
      has_residual: whether the layer adds something that depends on a node's own input.
      is_average: False for GCN's symmetric weights, which do not sum to 1.

    Returns:
      [N] smallest id of a node with an equal output.
    """
    inputs = np.asarray(inputs)
    classes = twins.output_classes(graph, inputs, is_average=is_average)
    rows = row_signs(info, jnp.asarray(graph.receivers))
    positive, negative, uniform = (np.asarray(x).reshape(len(inputs), -1) for x in rows[:3])
    # Equal inputs have equal queries, even where a product rounded two rows differently.
    query = np.asarray(rows.query).reshape(len(inputs), -1)[inputs]
    outputs = classes.smallest
    for column in range(query.shape[1]):
        # Within a class, one channel leaves whole: all members of one sign, of one query, or
        # all of them where the senders do not differ.
        label = 3 + np.unique(query[:, column], return_inverse=True)[1]
        label[negative[:, column]] = 2
        label[positive[:, column]] = 1
        label[uniform[:, column] | classes.is_trivial | (slope == 1)] = 0
        outputs = twins.equal_rows(np.stack([outputs, label], axis=1))
    if has_residual:
        outputs = twins.equal_rows(np.stack([outputs, inputs], axis=1))
    return outputs
