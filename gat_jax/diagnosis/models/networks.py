"""Networks of our own, as pure functions: what each of their layers saw, in evaluation.

`models.flax` records modules with the same functions.
"""

from typing import Any, NamedTuple

import jax
import jraph
import numpy as np
from numpy.typing import ArrayLike

from gat_jax import graphs
from gat_jax.diagnosis.models.observed import SYSTEMS, ImportedLayer, ObservedLayer, ObservedModel
from gat_jax.diagnosis.programs import compiled
from gat_jax.kernels import Layout
from gat_jax.layers import (
    BlocksConfig,
    EdgeMask,
    EdgeWeight,
    LayerConfig,
    LayerParams,
    LayerSettings,
    NetworkConfig,
    NetworkParams,
    check_network_params,
    check_settings,
    layer_configs,
    layer_params,
    trace_network,
)


class Call(NamedTuple):
    """What one of our modules was called with; spelled as its arguments are."""

    graph: jraph.GraphsTuple
    is_training: bool = False
    edge_mask: EdgeMask | None = None
    edge_weight: EdgeWeight | None = None
    layout: Layout | None = None


class Real(NamedTuple):
    """One graph without padding, and the weights of its edges."""

    graph: jraph.GraphsTuple
    edge_weight: np.ndarray | None


def observe_network(
    params: NetworkParams,
    config: NetworkConfig,
    graph: jraph.GraphsTuple,
    *,
    settings: LayerSettings = LayerSettings(),
    edge_weight: EdgeWeight | None = None,
) -> ObservedModel:
    """Apply a network of ours in evaluation, and return what each of its layers saw.

    Args:
      params: as `layers.init_network` draws them.
      config: of the network, plain or of residual blocks.
      graph: nodes [N, F], one graph or a batch, which counts as one graph of several components;
        padding is left out.
      settings: of every layer; dropout plays no part.
      edge_weight: [E], the same in every layer.

    Returns:
      Layers called "layers.0", "layers.1" and so on, "blocks.0.attention" in blocks.

    Raises:
      ValueError: as `graphs.validate`, if something is not finite or does not fit the graph, or if
        the parameters are not those of such a network.
    """
    graphs.validate(graph)
    real = real_part(Call(graph, edge_weight=edge_weight), num_real_of(graph))
    layers, outputs = observe_layers("", params, config, real, settings)
    return ObservedModel(real.graph, layers, outputs)


def observe_layers(
    prefix: str,
    params: NetworkParams,
    config: NetworkConfig,
    real: Real,
    settings: LayerSettings,
) -> tuple[tuple[ObservedLayer, ...], np.ndarray]:
    """Return every layer of a network on a graph, and the network's outputs."""
    nodes = real.graph.nodes
    check_network_params(params, config, nodes.shape[1])
    check_settings(settings)
    config = tuple(config) if isinstance(config, list) else config  # static, so it is hashed
    result, seen = compiled(_trace)(params, real.graph, real.edge_weight, settings, configs=config)
    name = "blocks.{}.attention" if isinstance(config, BlocksConfig) else "layers.{}"
    layers = [
        observed_call(
            prefix + name.format(depth), layer, layer_config, settings, real, inputs, outputs
        )
        for depth, (layer, layer_config, (inputs, outputs)) in enumerate(
            zip(layer_params(params), layer_configs(config), seen, strict=True)
        )
    ]
    return tuple(layers), np.asarray(result)


def _trace(params, graph, edge_weight, settings, *, configs):
    """Return a network's outputs, and the inputs and outputs of every layer: one program."""
    options = {"settings": settings, "edge_weight": edge_weight}
    outputs, traces = trace_network(params, graph, configs, **options)
    return outputs, tuple((trace.inputs, trace.outputs) for trace in traces)


def observed_call(
    name: str,
    params: LayerParams,
    config: LayerConfig,
    settings: LayerSettings,
    real: Real,
    inputs: Any,
    outputs: Any,
) -> ObservedLayer:
    """Return the record of one call of a layer."""
    layer = ImportedLayer(
        name=name,
        system=SYSTEMS[config.layer],
        config=config,
        params=jax.tree.map(np.asarray, params),
        settings=settings._replace(feature_dropout=0.0, attention_dropout=0.0),
    )
    edges = real.graph.edges if config.num_edge_features else None
    graph = real.graph._replace(nodes=np.asarray(inputs), edges=edges)
    return ObservedLayer(layer, graph, np.asarray(outputs), real.edge_weight)


# --- graphs ---------------------------------------------------------------------------------------


def num_real_of(graph: jraph.GraphsTuple) -> int:
    """Return the number of nodes that are no padding."""
    return int(np.sum(graphs.padding_masks(graph)[0]))


def real_part(call: Call, num_real: int | None) -> Real:
    """Return what counts of a call's graph as one graph, its features dense.

    Args:
      call: its mask hides edges.
      num_real: nodes that are no padding, which come first; None: all of them.
    """
    graph = call.graph
    num_nodes = len(graph.nodes) if num_real is None else num_real
    senders, receivers = np.asarray(graph.senders), np.asarray(graph.receivers)
    is_kept = (senders < num_nodes) & (receivers < num_nodes)
    if call.edge_mask is not None:
        is_kept &= np.asarray(call.edge_mask)

    def kept(array: ArrayLike | None) -> np.ndarray | None:
        return None if array is None else np.asarray(array)[is_kept]

    one = jraph.GraphsTuple(
        nodes=np.asarray(graph.nodes)[:num_nodes],
        edges=kept(graph.edges),
        senders=senders[is_kept],
        receivers=receivers[is_kept],
        n_node=np.array([num_nodes], np.int32),
        n_edge=np.array([is_kept.sum()], np.int32),
        globals=None,
    )
    return Real(one, kept(call.edge_weight))
