"""What layers that come without their model do on a graph: our own functions run them in turn."""

from collections.abc import Callable, Sequence
from typing import Literal, get_args

import jraph
import numpy as np

from gat_jax.diagnosis.models.loops import attended_graph
from gat_jax.diagnosis.models.observed import ImportedLayer, ObservedLayer, ObservedModel
from gat_jax.diagnosis.programs import compiled
from gat_jax.layers import apply_layer
from gat_jax.report.numbers import count
from gat_jax.runtime.arrays import check_features, check_graph
from gat_jax.runtime.text import visible

ActivationName = Literal["elu", "relu", "leaky_relu", "none"]

# In float32, as the systems have them by default: alpha = 1 for ELU, a slope of 0.01.
ACTIVATIONS: dict[ActivationName, Callable[[np.ndarray], np.ndarray]] = {
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    "relu": lambda x: np.maximum(x, 0),
    "leaky_relu": lambda x: np.where(x > 0, x, np.float32(0.01) * x),
    "none": lambda x: x,
}
IN_WORDS: dict[ActivationName, str] = {
    "elu": "ELU",
    "relu": "ReLU",
    "leaky_relu": "LeakyReLU of slope 0.01",
    "none": "nothing",
}


def observe_weights(
    layers: Sequence[ImportedLayer],
    graph: jraph.GraphsTuple,
    *,
    activation: ActivationName = "elu",
    self_loops: bool | None = None,
) -> ObservedModel:
    """Run layers one after the other, in evaluation, and return what each of them saw.

    Args:
      layers: from the input on, such as `weights.read_layers` returns them.
      graph: nodes [N, F]; edges [E, D] if a layer reads features of edges.
      activation: between two layers, which weights do not show; none follows the last.
      self_loops: True has every layer replace self-loops by one at each node, False none; None
        leaves it to each layer's system.

    Returns:
      The model, whose outputs are those of the last layer. A note says what was assumed.

    Raises:
      ValueError: if there is no layer, the activation is not known, or the graph does not fit the
        layers: widths, edge features, numbers that are not finite.
    """
    if activation not in get_args(ActivationName):
        names = ", ".join(get_args(ActivationName))
        raise ValueError(f"activation: expected one of {names}, got {activation!r}")
    if not layers:
        raise ValueError("layers: expected at least one, got none")
    check_graph(graph)
    inputs = check_features("nodes", graph.nodes)
    observed = []
    for k, layer in enumerate(layers):
        if k:
            inputs = ACTIVATIONS[activation](inputs)
        if self_loops is not None:
            layer = layer._replace(replaces_self_loops=self_loops)
        before = layers[k - 1].name if k else None
        observed.append(_observed(layer, graph._replace(nodes=inputs), before))
        inputs = observed[-1].outputs
    return ObservedModel(graph, tuple(observed), inputs, _notes(layers, activation, self_loops))


def _observed(layer: ImportedLayer, graph: jraph.GraphsTuple, before: str | None) -> ObservedLayer:
    """Run a layer on its inputs, which the layer before it made, or the user."""
    name, kernel = visible(layer.name), layer.params[0]
    width, wanted = graph.nodes.shape[1], kernel.shape[0]
    if width != wanted:
        origin = "the graph" if before is None else visible(before)
        raise ValueError(
            f"{name}: expected {count(wanted, 'feature')} of a node, got {width} of {origin}"
        )
    width_recv = layer.config.num_receiver_features
    if width_recv not in (0, width):
        raise ValueError(
            f"{name}: expected one set of nodes, got a layer with {count(wanted, 'feature')} of "
            f"senders and {width_recv} of receivers"
        )
    attended = attended_graph(layer, graph)
    # The program of `analysis`, called as it is there, so that a diagnosis compiles it once.
    options = {"config": layer.config, "settings": layer.settings, "edge_weight": None}
    found = np.asarray(compiled(apply_layer)(layer.params, attended, **options)[0])
    if not np.isfinite(found).all():
        raise ValueError(
            f"{name}: expected finite outputs, got others; are its weights that large?"
        )
    return ObservedLayer(layer, attended, found)


def _notes(
    layers: Sequence[ImportedLayer], activation: ActivationName, self_loops: bool | None
) -> tuple[str, ...]:
    notes = []
    if len(layers) > 1:
        notes.append(
            f"A file of weights does not say what stands between layers: {IN_WORDS[activation]} "
            "was assumed, without norms and skips."
        )
    if self_loops is not None:
        what = "one self-loop at each node" if self_loops else "the self-loops of the graph alone"
        notes.append(f"Every layer was given {what}, whatever its system does by default.")
    return tuple(notes)
