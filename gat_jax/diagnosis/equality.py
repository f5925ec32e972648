"""Which nodes one layer makes equal, and which it could not tell apart with any parameters."""

from typing import NamedTuple

import jraph
import numpy as np
from jaxtyping import Bool, Int

from gat_jax.diagnosis.models.observed import ObservedLayer
from gat_jax.graphs import equal_rows, output_classes
from gat_jax.graphs.supports import by_smallest
from gat_jax.graphs.twins import join_classes
from gat_jax.layers import AttentionInfo, kind_of
from gat_jax.symmetry import RowSigns, propagate_equality


class LayerEquality(NamedTuple):
    """Classes of nodes, by their smallest members."""

    candidates: Int[np.ndarray, " nodes"]  # equal as soon as their attention rows are
    is_alike: Bool[np.ndarray, " nodes"]  # whether all that a node receives of is equal
    outputs: Int[np.ndarray, " nodes"]  # equal with these parameters
    inseparable: Int[np.ndarray, " nodes"]  # equal with any


def layer_equality(
    observed: ObservedLayer,
    info: AttentionInfo,
    inputs: Int[np.ndarray, " nodes"],
    signs: RowSigns,
) -> LayerEquality:
    """Carry equality through one layer.

    Args:
      observed: the layer; nodes of one class of `inputs` have the same row, to the last bit.
      info: of the layer on its graph.
      inputs: classes of equal inputs.
      signs: of the layer's rows.

    Returns:
      The classes. Beside the criterion of `symmetry`, rows that receive nothing but zeros are
      equal, whoever sends them, and equal to those that receive nothing.

    Raises:
      ValueError: if scores or outputs are not finite.
    """
    layer, graph, weight = observed.layer, observed.graph, observed.edge_weight
    has_residual = layer.params.residual_kernel is not None
    is_average = kind_of(layer.params, layer.config).is_average(layer.config)
    candidates = output_classes(graph, inputs, is_average=is_average, edge_weight=weight)
    outputs = propagate_equality(
        info,
        graph,
        inputs,
        slope=np.asarray(layer.settings.slope),
        has_residual=has_residual,
        is_average=is_average,
        edge_weight=weight,
        signs=signs,
    )
    own = inputs if has_residual else np.zeros_like(inputs)
    # GCN has no query: nothing but the residual is the node's own.
    has_query = layer.config.layer != "gcn"
    label = np.where(candidates.is_trivial, own, inputs) if has_query else own
    inseparable = equal_rows(np.stack([candidates.smallest, label], axis=1))
    is_zero = np.all(np.asarray(info.head_outputs) == 0, axis=(1, 2))
    return LayerEquality(
        candidates.smallest,
        candidates.is_trivial,
        _with_zeros(outputs, is_zero, own),
        _with_zeros(inseparable, is_zero & _receives_zeros(observed), own),
    )


def _with_zeros(
    classes: Int[np.ndarray, " nodes"], is_zero: Bool[np.ndarray, " nodes"], own: np.ndarray
) -> Int[np.ndarray, " nodes"]:
    """Merge the nodes to which nothing comes, if what they have of their own is equal."""
    if not is_zero.any():
        return classes
    groups = np.where(is_zero, len(own) + own, np.arange(len(own)))
    return join_classes(classes, by_smallest(groups))


def _receives_zeros(observed: ObservedLayer) -> Bool[np.ndarray, " nodes"]:
    """Whether all inputs of a node's senders are 0, and the layer adds nothing to them."""
    params, graph = observed.layer.params._asdict(), observed.graph
    if any(params[name] is not None for name in params if name.startswith("bias")):
        return _receives(graph, np.ones(len(graph.nodes), bool)) == 0
    return _receives(graph, np.any(np.asarray(graph.nodes) != 0, axis=1)) == 0


def _receives(graph: jraph.GraphsTuple, is_counted: np.ndarray) -> Int[np.ndarray, " nodes"]:
    """Return how many edges from some senders each node receives."""
    counted = np.asarray(graph.receivers)[is_counted[np.asarray(graph.senders)]]
    return np.bincount(counted, minlength=len(graph.nodes))
