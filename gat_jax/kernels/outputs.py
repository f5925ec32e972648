"""What comes out of the heads: weighted sums over a node's incoming edges, on any layout.

`layers` has the functions these belong to. The edge list wants features [N, H, C], tables want them
channel-major, [N, C, H]; outputs are [N, H, C] in any case.
"""

from typing import Any

import jax.numpy as jnp
import jraph
from jaxtyping import Array, Float

from gat_jax.kernels import attention as aggregation
from gat_jax.kernels import gat_logits as gat_aggregation
from gat_jax.kernels import gatv2_scores as gatv2_aggregation
from gat_jax.kernels.edge_list import softmax as attention
from gat_jax.kernels.edge_list.softmax import EdgeMask, Scalar
from gat_jax.kernels.layouts import FusedLayout, Layout, Prepared, SegmentLayout
from gat_jax.kernels.triton import softmax as fused

EdgeArray = Float[Array, "edges heads"]
NodeArray = Float[Array, "nodes heads"]
ChannelMajor = Float[Array, "nodes channels heads"]
Outputs = Float[Array, "nodes heads channels"]


def gat_outputs(
    layout: Prepared,
    receiver_scores: NodeArray,
    sender_scores: NodeArray,
    values: ChannelMajor,
    *,
    edge_scores: EdgeArray | None,
    multiplier: EdgeArray | None,
    mask: EdgeMask | None,
    slope: Scalar,
    temperature: Scalar,
) -> Outputs:
    """Return GAT's outputs from scores and values; the multiplier is dropout's."""
    mask_eh = _mask_by_head(mask, receiver_scores)
    options: dict[str, Any] = {
        "edge_scores_eh": edge_scores,
        "mask_eh": mask_eh,
        "slope": slope,
        "temperature": temperature,
    }
    scores = receiver_scores, sender_scores
    if isinstance(layout, FusedLayout):
        x_eh = gat_aggregation.logits(layout, *scores, **options)
        return softmax_outputs(layout, x_eh, values, multiplier, mask_eh)
    out_nch = gat_aggregation.gat(layout, *scores, values, multiplier_eh=multiplier, **options)
    return out_nch.swapaxes(1, 2)


def gatv2_outputs(
    layout: Prepared,
    a: Float[Array, "heads channels"],
    right: ChannelMajor,
    left: ChannelMajor,
    *,
    edges: Float[Array, "edges channels heads"] | None,
    multiplier: EdgeArray | None,
    mask: EdgeMask | None,
    slope: Scalar,
    temperature: Scalar,
) -> Outputs:
    """Return GATv2's outputs from the projections of receivers, senders and edges."""
    a_ch = a.T.astype(left.dtype)
    s_eh = gatv2_aggregation.scores(layout, a_ch, right, left, edges, slope=slope)
    mask_eh = _mask_by_head(mask, s_eh)
    return softmax_outputs(layout, s_eh / temperature, left, multiplier, mask_eh)


def softmax_outputs(
    layout: Prepared,
    logits: EdgeArray,
    values: ChannelMajor,
    multiplier: EdgeArray | None = None,
    mask: aggregation.EdgeMask | None = None,
) -> Outputs:
    """Return the sum of values with the softmax of any logits over a receiver's edges."""
    function = fused.softmax_sum if isinstance(layout, FusedLayout) else aggregation.softmax_sum
    return function(layout, logits, values, multiplier, mask).swapaxes(1, 2)


def side_by_side(outputs: Outputs) -> Float[Array, "nodes outputs"]:
    """Return the heads' outputs one after the other."""
    num_nodes, heads, channels = outputs.shape  # a graph without nodes has no size to infer
    return outputs.reshape(num_nodes, heads * channels)


def linear_outputs(
    layout: Layout,
    graph: jraph.GraphsTuple,
    weights: EdgeArray,
    values: Outputs,
    *,
    multiplier: EdgeArray | None = None,
) -> Outputs:
    """Return the sum over incoming edges of given weights times values [N, H, C]."""
    if multiplier is not None:
        weights = weights * multiplier
    if isinstance(layout, SegmentLayout):
        return attention.aggregate(weights, values, graph.senders, graph.receivers)
    return aggregation.linear_sum(layout, weights, values.swapaxes(1, 2)).swapaxes(1, 2)


def sum_by_receiver(
    layout: Layout, graph: jraph.GraphsTuple, values: Float[Array, "edges 1"], num_nodes: int
) -> Float[Array, "nodes 1"]:
    """Return the sum over incoming edges of given values."""
    if isinstance(layout, SegmentLayout):
        return jnp.zeros((num_nodes, 1), values.dtype).at[graph.receivers].add(values)
    return linear_outputs(layout, graph, values, jnp.ones((num_nodes, 1, 1), values.dtype))[..., 0]


def _mask_by_head(edge_mask: EdgeMask | None, like: Float[Array, "_ heads"]):
    if edge_mask is None:
        return None
    return jnp.broadcast_to(jnp.asarray(edge_mask)[:, None], (len(edge_mask), like.shape[-1]))
