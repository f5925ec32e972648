"""When does a layer make nodes equal? The criterion, applied to the nodes of a graph.

The layer's own `AttentionInfo` is read, nothing is recomputed.
"""

import functools

import jax.numpy as jnp
import jraph
import numpy as np
from jaxtyping import Array, Bool, Float, Int
from numpy.typing import ArrayLike

from gat_jax.graphs import TwinPairs, twins
from gat_jax.kernels import Layout, Scalar, contract, ids, layouts
from gat_jax.kernels.attention import mask_by_head
from gat_jax.kernels.gradients import without_gradient
from gat_jax.kernels.xla.loops import repeat_by_head
from gat_jax.layers import (
    AttentionInfo,
    EdgeMask,
    EdgeWeight,
    LayerParams,
    LayerSettings,
    LayerShape,
    apply_layer,
    check_by_head,
    check_edge_mask,
    check_number,
    kind_of,
)
from gat_jax.runtime import arrays, programs
from gat_jax.runtime.jax_arrays import check_array
from gat_jax.symmetry.criterion import (
    CAUSES,
    RowSigns,
    exact_causes,
    is_within_rounding,
    signs_of_rows,
)


def row_signs(
    info: AttentionInfo,
    graph: jraph.GraphsTuple,
    *,
    mask: EdgeMask | None = None,
    layout: Layout | None = None,
) -> RowSigns:
    """Reduce each receiver's row to what the criterion needs; all holds of rows without edges.

    Args:
      info: of a layer on `graph`.
      graph: its edges alone are read.
      mask: [E], True = real.
      layout: of the graph's edges; None stands for the edge list. On tables nothing of the size
        [E, H, C] is made but of edge features.

    Returns:
      Arrays [N, H, D], D = 1 for GAT and GCN and the channels for GATv2.

    Raises:
      ValueError: if `info`, graph, mask and layout do not fit each other, or edges are of nodes
        that do not exist, unless they are traced.
    """
    return _signs_on(_checked_layout(info, graph, mask, layout), info, mask)


def _signs_on(layout: Layout, info: AttentionInfo, mask: EdgeMask | None) -> RowSigns:
    """Be `row_signs` on a layout that has been checked."""
    query_nhd, sent_nhd = (_by_part(info, x) for x in (info.receiver_scores, info.sender_scores))
    highest, minus_lowest = (
        _largest_part(layout, info, sent_nhd, mask, sign=sign) for sign in (1.0, -1.0)
    )
    is_dead = False
    if info.channel_weights is not None:
        is_dead = jnp.broadcast_to(info.channel_weights[None] == 0, query_nhd.shape)
    return signs_of_rows(query_nhd, -minus_lowest, highest, is_dead=is_dead)


def _checked_layout(
    info: AttentionInfo, graph: jraph.GraphsTuple, mask: EdgeMask | None, layout: Layout | None
) -> Layout:
    """Return the layout, if what a layer saw and the mask are of this graph's edges."""
    if layout is None:
        layout = layouts.segment_layout(graph)
    else:
        layouts.check_layout(layout, graph)
    if not isinstance(info, AttentionInfo):
        raise ValueError(f"info: expected an AttentionInfo, got {type(info).__name__}")
    expected = layout.num_senders, layout.num_receivers, layout.num_edges
    found = len(info.sender_scores), len(info.receiver_scores), len(info.attention)
    if found != expected:
        raise ValueError(
            "info: expected that of a layer on this graph, of {} nodes and {} edges, got one of {} "
            "and {}".format(*expected[1:], *found[1:])
        )
    check_edge_mask(mask, layout.num_edges, field="mask")
    return layout


def _by_part(info: AttentionInfo, scores: Array) -> Array:
    """Return scores [..., H, D]."""
    return scores[..., None] if info.channel_weights is None else scores


def _largest_part(
    layout: Layout, info: AttentionInfo, sent_nhd: Array, mask: EdgeMask | None, *, sign: float
) -> Array:
    """Return the largest sign * t over the real edges of every row [N, H, D]."""
    inputs = [sign * sent_nhd.reshape(len(sent_nhd), -1)]
    if info.edge_scores is not None:
        edge_ehd = _by_part(info, info.edge_scores)
        inputs.append(sign * edge_ehd.reshape(len(edge_ehd), -1))
    largest = _largest_sum(layout, inputs, mask_by_head(mask, inputs[0].shape[1]))
    return largest.reshape(-1, *sent_nhd.shape[1:])


@without_gradient
def _largest_sum(layout: Layout, inputs: list[Array], mask: Array | None) -> Array:
    """Return the largest n_j + e_ij over the real edges of every row, all parts side by side."""
    sent, *edge = inputs
    if mask is not None:
        edge = [*edge, jnp.where(mask, 0.0, -jnp.inf).astype(sent.dtype)]
    return contract.edge_reduce(
        lambda edges, _, others: functools.reduce(jnp.add, (*others, *edges)),
        layout.by_receiver,
        at_edges=edge,
        at_others=[sent],
        reduce="max",
    )


def check_pairs_exist(pairs: TwinPairs, num_nodes: int) -> None:
    """Check that pairs are of nodes that exist, unless these are traced.

    Raises:
      ValueError: if they are not, or their arrays do not fit each other.
    """
    if not isinstance(pairs, TwinPairs):
        raise ValueError(f"pairs: expected TwinPairs, got {type(pairs).__name__}")
    ends = {"pairs.first": pairs.first, "pairs.second": pairs.second}
    ids.check_pairs(num_nodes, **ends)
    check_array("pairs.is_trivial", pairs.is_trivial, "booleans")
    if pairs.is_trivial.shape != pairs.first.shape:
        raise ValueError(
            f"pairs.is_trivial: expected shape {pairs.first.shape}, got {pairs.is_trivial.shape}"
        )


def pair_causes(
    info: AttentionInfo,
    graph: jraph.GraphsTuple,
    pairs: TwinPairs,
    *,
    slope: Scalar = 0.2,
    mask: EdgeMask | None = None,
    layout: Layout | None = None,
) -> Bool[Array, "pairs heads causes"]:
    """Return the set of causes of every pair of twins in every head, in the order of `CAUSES`.

    Exactly one of equality by signs, `rounding`, `separated` and `undefined` holds of each pair and
    head. Numbers that are not finite have no signs to go by: such pairs are `undefined` alone.

    Args:
      info: of a layer on `graph`; it may be traced and mapped.
      graph: its edges alone are read.
      pairs: twins of that graph (`graphs.twin_pairs`): the criterion assumes equal supports.
      slope: of the LeakyReLU; a number, or one for each head.
      mask: [E], True = real.
      layout: as `row_signs`.

    Raises:
      ValueError: for pairs of nodes that do not exist or a slope that is not finite, unless they
        are traced; or as `row_signs`.
    """
    layout = _checked_layout(info, graph, mask, layout)
    check_pairs_exist(pairs, len(info.head_outputs))
    check_number("slope", slope)
    check_by_head("slope", slope, info.head_outputs.shape[1])
    rows = _signs_on(layout, info, mask)
    ends = ((RowSigns(*(x[i] for x in rows)), info.head_outputs[i]) for i in pairs[:2])
    (first, first_out), (second, second_out) = ends
    return causes_of_rows(
        first, second, first_out, second_out, is_trivial=jnp.asarray(pairs.is_trivial), slope=slope
    )


def causes_of_rows(
    first: RowSigns,
    second: RowSigns,
    first_outputs: Float[Array, "pairs heads channels"],
    second_outputs: Float[Array, "pairs heads channels"],
    *,
    is_trivial: Bool[Array, " pairs"],
    slope: Scalar = 0.2,
) -> Bool[Array, "pairs heads causes"]:
    """Return the set of causes of every pair of rows, as `pair_causes`.

    Args:
      first: signs of one row of each pair [P, H, D].
      second: of the other.
      first_outputs: of the same rows.
      second_outputs: of the others.
      is_trivial: whether a pair's support is.
      slope: of the LeakyReLU; a number, or one for each head.
    """
    causes = exact_causes(first, second, slope=slope, all_parts=_all_last)
    causes["trivial"] = repeat_by_head(is_trivial, causes["uniform"].shape[1])
    causes["channelwise"] &= ~causes["trivial"]
    is_equal = functools.reduce(jnp.logical_or, causes.values())

    gap = jnp.max(jnp.abs(first_outputs - second_outputs), axis=-1)
    sizes = (jnp.max(jnp.abs(x), axis=-1) for x in (first_outputs, second_outputs))
    is_close = is_within_rounding(gap, functools.reduce(jnp.maximum, sizes))
    causes["rounding"] = ~is_equal & is_close
    causes["separated"] = ~is_equal & ~is_close
    is_finite = _are_finite(first, first_outputs) & _are_finite(second, second_outputs)
    causes = {name: held & is_finite for name, held in causes.items()}
    causes["undefined"] = ~is_finite
    return jnp.stack([causes[name] for name in CAUSES], axis=-1)


def _are_finite(rows: RowSigns, out_phc: Array) -> Bool[Array, "pairs heads"]:
    """Whether the scores and outputs of rows are finite numbers."""
    return jnp.all(rows.is_finite, axis=-1) & jnp.all(jnp.isfinite(out_phc), axis=-1)


def _all_last(parts: Bool[Array, "*shape parts"]) -> Bool[Array, "*shape"]:
    return jnp.all(parts, axis=-1)


def equal_nodes(
    params: LayerParams,
    graph: jraph.GraphsTuple,
    *,
    config: LayerShape | None = None,
    settings: LayerSettings = LayerSettings(),
    edge_weight: EdgeWeight | None = None,
) -> Int[np.ndarray, " nodes"]:
    """Give every node the smallest id of a node whose output is equal, for these parameters.

    Args:
      params: of one layer, of any kind.
      graph: one graph, from `gat_jax.graphs`.
      config: of the layer; None: as the parameters show, see `gat`.
      settings: of the layer; dropout plays no part.
      edge_weight: [E] that the layer is given.

    Returns:
      [N]. Two entries are equal if and only if attention makes the two nodes equal: through the
      criterion of this module for (merged) twins, or a trivial support. Features count as the layer
      sees them: what float32 rounds to one number is one. Outputs that agree by
      accident of the numbers, such as one-hot rows, are not equal in this sense. Nor are rows of
      GAT whose edge features differ by one constant, which a linear regime cancels.

    Raises:
      ValueError: as `graphs.validate`, when parameters and graph do not fit, or if scores or
        outputs are not finite, of which nothing can be said.
    """
    inputs = twins.equal_rows(np.asarray(layouts.one_set_of(graph, "in equal_nodes")))
    if getattr(params, "edge_kernel", None) is None:
        graph = graph._replace(edges=None)  # features that the layer ignores separate nothing
    _, info = apply_layer(params, graph, config=config, settings=settings, edge_weight=edge_weight)
    return propagate_equality(
        info,
        graph,
        inputs,
        slope=np.asarray(settings.slope),
        has_residual=params.residual_kernel is not None,
        is_average=config is None or kind_of(params, config).is_average(config),
        edge_weight=edge_weight,
    )


def propagate_equality(
    info: AttentionInfo,
    graph: jraph.GraphsTuple,
    inputs: ArrayLike,
    *,
    slope: ArrayLike = 0.2,
    has_residual: bool = False,
    is_average: bool = True,
    edge_weight: ArrayLike | None = None,
    signs: RowSigns | None = None,
) -> Int[np.ndarray, " nodes"]:
    """Carry equality through one layer: from which inputs are equal to which outputs are.

    Apply it layer after layer, from `twins.equal_rows(features)` on, to follow a deep network:
    nodes that are no twins become equal once their senders have merged. Works by classes, in
    near-linear time however many pairs there are.

    Args:
      info: of the layer, on `graph`.
      graph: one graph, with edge features only where the layer uses them.
      inputs: [N] smallest id of a node with an equal input.
      slope: of the layer's LeakyReLU; a number, or one for each head.
      has_residual: whether the layer adds something that depends on a node's own input.
      is_average: False for GCN's symmetric weights, which do not sum to 1.
      edge_weight: [E] that the layer was given.
      signs: as `row_signs` has them, where they are known already.

    Returns:
      [N] smallest id of a node with an equal output.

    Raises:
      ValueError: as `graphs.validate` or `row_signs`; if `inputs` are no such ids, if the slope is
        not finite, or if scores or outputs are not finite.
    """
    num_nodes = len(layouts.one_set_of(graph, "in propagate_equality"))
    inputs = _checked_classes("inputs", inputs, num_nodes)
    check_number("slope", slope)
    classes = twins.output_classes(graph, inputs, is_average=is_average, edge_weight=edge_weight)
    rows = _compiled_signs(info, graph) if signs is None else signs
    is_finite = np.asarray(jnp.all(_are_finite(rows, info.head_outputs), axis=-1))
    if not is_finite.all():
        node = int(np.argmin(is_finite))
        raise ValueError(
            f"outputs: expected finite numbers, got others at {np.sum(~is_finite)} nodes (first at "
            f"node {node}): parameters or features are not finite, or too large"
        )
    positive, negative, uniform = (np.asarray(x).reshape(len(inputs), -1) for x in rows[:3])
    # Equal inputs have equal queries, even where a product rounded two rows differently.
    query = np.asarray(rows.query).reshape(len(inputs), -1)[inputs]
    num_heads, num_parts = rows.query.shape[1:]
    check_by_head("slope", slope, num_heads)
    is_linear = np.repeat(np.broadcast_to(np.asarray(slope) == 1, num_heads), num_parts)
    outputs = classes.smallest
    for column in range(query.shape[1]):
        # Within a class, one channel leaves whole: all members of one sign, of one query, or
        # all of them where the senders do not differ.
        label = 3 + np.unique(query[:, column], return_inverse=True)[1]
        label[negative[:, column]] = 2
        label[positive[:, column]] = 1
        label[uniform[:, column] | classes.is_trivial | is_linear[column]] = 0
        outputs = twins.equal_rows(np.stack([outputs, label], axis=1))
    if has_residual:
        outputs = twins.equal_rows(np.stack([outputs, inputs], axis=1))
    return outputs


# As one program: step by step it takes longer, and more compiling.
_compiled_signs = programs.jit_briefly(row_signs)


def _checked_classes(field: str, classes: ArrayLike, num_nodes: int) -> Int[np.ndarray, " nodes"]:
    """Return classes of nodes [N], each of which is named by its smallest member."""
    array = arrays.as_array(field, classes)
    if array.shape != (num_nodes,):
        raise ValueError(f"{field}: expected shape {(num_nodes,)}, got {array.shape}")
    arrays.check_integers(field, array)
    arrays.check_range(field, array, num_nodes, "ids")
    is_wrong = (array[array] != array) | (array > np.arange(num_nodes))
    if is_wrong.any():
        node = int(np.argmax(is_wrong))
        raise ValueError(
            f"{field}: expected the smallest id of each class, got {array[node]} at node {node}"
        )
    return array
