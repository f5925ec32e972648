"""A model as it is diagnosed: its layers in our own terms, and what each of them saw.

Importers (`from_weights`, `pyg`, `flax`, `networks`) make these; `analysis` reads them. What lies
between two layers need not be understood: each layer stands beside the inputs that it was given.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Literal, NamedTuple

import jraph
import numpy as np
from jaxtyping import Float

from gat_jax.layers import LayerConfig, LayerName, LayerParams, LayerSettings

# What our own layers are called.
SYSTEMS: dict[LayerName, str] = {
    "gat": "gat_jax GAT",
    "gatv2": "gat_jax GATv2",
    "gcn": "gat_jax GCN",
}
LoopFeatures = float | Literal["add", "mean", "min", "max", "mul"]


class ImportedLayer(NamedTuple):
    """A layer of another system, or of ours, in our own terms."""

    name: str  # its place in its model, such as "conv1" or "layers.0"
    system: str  # what it was, such as "PyG GATConv"
    config: LayerConfig
    params: LayerParams
    settings: LayerSettings = LayerSettings()  # the slope; evaluation has no dropout
    # Whether it drops the self-loops that there are and gives every node one, as PyG's do.
    replaces_self_loops: bool = False
    # The features of such a loop: a number in every column, or a reduction of the features of the
    # edges that a node receives (0 where there are none, and 1 for "mul").
    loop_features: LoopFeatures = "mean"


class ObservedLayer(NamedTuple):
    """One call of a layer: what it was given, and what it returned."""

    layer: ImportedLayer
    # One graph. Its nodes [N, F] are the inputs of this layer, its edges those that attention ran
    # over, self-loops included; edge features only where the layer reads them.
    graph: jraph.GraphsTuple
    outputs: Float[np.ndarray, "nodes outputs"] | None = None  # None: as our layer computes them
    edge_weight: Float[np.ndarray, " edges"] | None = None  # that multiplies attention, as in DGL


class ObservedModel(NamedTuple):
    """A model on one graph."""

    graph: jraph.GraphsTuple  # the user's own: features [N, F], edges as they were given
    layers: tuple[ObservedLayer, ...]  # in the order of their calls; at least one
    outputs: Float[np.ndarray, "nodes outputs"] | None = None  # of the whole model
    # One sentence for each thing that the user should know of how the model was read, such as a
    # layer that is no attention layer.
    notes: tuple[str, ...] = ()


def numbered(calls: Sequence[ObservedLayer]) -> tuple[ObservedLayer, ...]:
    """Return calls of layers in their order; of a layer with several, the name has their number."""
    totals = Counter(call.layer.name for call in calls)
    seen: Counter[str] = Counter()
    found = []
    for call in calls:
        name = call.layer.name
        seen[name] += 1
        if totals[name] > 1:
            call = call._replace(layer=call.layer._replace(name=f"{name}#{seen[name]}"))
        found.append(call)
    return tuple(found)
