"""Which nodes only float32 makes equal: their values converged until rounding left no difference.

Layer after layer of averages brings all nodes together. Once their rows agree to the last bit, the
nodes are equal to all that follows, and so are nodes that receive from them, although no layer has
made them so: in exact arithmetic they would differ.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from gat_jax.diagnosis.analysis import Analysed
from gat_jax.diagnosis.stages import are_close, tolerance_of
from gat_jax.graphs import equal_rows, output_classes
from gat_jax.layers import kind_of


class Unrounded(NamedTuple):
    """Classes of nodes by their smallest members, where nodes differ that rounding made equal."""

    # As `LayerEquality.candidates`: equal as soon as their attention rows are.
    candidates: Int[np.ndarray, " nodes"]
    after: Int[np.ndarray, " nodes"]  # equal in the inputs of the next layer, or in the end


def follow_rounding(
    layers: Sequence[Analysed], final: Int[np.ndarray, " nodes"]
) -> list[Unrounded]:
    """Follow through the layers which nodes would differ without rounding.

    Args:
      layers: in the order of their calls.
      final: by equal outputs of the model.

    Returns:
      An entry for each layer. Nodes that are equal afterwards are so by rounding if their outputs
      are not equal but differ by no more than `stages.carry` allows; what lies between two layers
      may make others equal. Of a node's own score nothing is followed.
    """
    found = []
    exact = layers[0].diagnosis.inputs
    for k, layer in enumerate(layers):
        after = layers[k + 1].diagnosis.inputs if k + 1 < len(layers) else final
        outputs, candidates = layer.diagnosis.outputs, layer.equality.candidates
        is_moved = outputs != outputs[after]
        is_rounded = _are_close(layer, after, is_moved)
        if np.array_equal(exact, layer.diagnosis.inputs):
            exact = outputs
        else:
            candidates = _candidates(layer, exact)
            exact = equal_rows(np.stack([outputs, candidates], axis=1))
        label = np.where(is_moved & ~is_rounded, exact[after], exact)
        exact = equal_rows(np.stack([after, label], axis=1))
        found.append(Unrounded(candidates, exact))
    return found


def _candidates(layer: Analysed, inputs: Int[np.ndarray, " nodes"]) -> Int[np.ndarray, " nodes"]:
    """Return the candidates of a layer for other classes of inputs than it has."""
    observed = layer.seen.observed
    config = observed.layer.config
    is_average = kind_of(observed.layer.params, config).is_average(config)
    options = {"is_average": is_average, "edge_weight": observed.edge_weight}
    return output_classes(observed.graph, inputs, **options).smallest


def _are_close(
    layer: Analysed, after: Int[np.ndarray, " nodes"], is_asked: Bool[np.ndarray, " nodes"]
) -> Bool[np.ndarray, " nodes"]:
    """Whether the outputs of nodes are those of the first of their later class, to rounding."""
    theirs = layer.seen.observed.outputs
    rows = np.asarray(layer.values if theirs is None else theirs, np.float64)
    found = np.zeros(len(after), bool)
    nodes = np.flatnonzero(is_asked)
    found[nodes] = are_close(rows, nodes, after[nodes], tolerance_of(rows))
    return found
