"""Networks of graph layers as pure functions of their parameters and a graph.

A network is described by a tuple of layers or a `PlainConfig` (`plain`), or by a `BlocksConfig`
(`blocks`). The functions here take all of them.
"""

from typing import Any

import jraph
from jaxtyping import Array, Float, Key

from gat_jax.kernels import Layout, Scalar
from gat_jax.layers.base import (
    AttentionInfo,
    DropoutKey,
    EdgeMask,
    EdgeWeight,
    LayerSettings,
    LayerShape,
    LayerTrace,
)
from gat_jax.layers.blocks import (
    BlocksConfig,
    BlocksParams,
    check_blocks_params,
    init_blocks,
    trace_blocks,
)
from gat_jax.layers.checks import check_key
from gat_jax.layers.config import LayerConfig, LayerParams, kind_of
from gat_jax.layers.norms import NodeMask
from gat_jax.layers.plain import (
    PlainConfig,
    PlainParams,
    check_entries,
    check_layers,
    check_layers_params,
    check_norms,
    init_layers,
    init_norms,
    trace_plain,
)

NetworkConfig = tuple[LayerConfig, ...] | PlainConfig | BlocksConfig
NetworkParams = tuple[LayerParams, ...] | PlainParams | BlocksParams


def apply_layer(
    params: LayerParams,
    graph: jraph.GraphsTuple,
    *,
    config: LayerShape | None = None,
    settings: LayerSettings = LayerSettings(),
    key: DropoutKey = None,
    edge_mask: EdgeMask | None = None,
    edge_weight: EdgeWeight | None = None,
    layout: Layout | None = None,
) -> tuple[Float[Array, "nodes outputs"], AttentionInfo]:
    """Apply the layer that the parameters belong to; arguments and results as `gat`.

    Raises:
      ValueError: as `gat`, and if the config is that of another kind of layer.
    """
    kind = kind_of(params, config)
    return kind.apply(
        params,
        graph,
        config=config,
        settings=settings,
        key=key,
        edge_mask=edge_mask,
        edge_weight=edge_weight,
        layout=layout,
    )


# --- what a network is made of --------------------------------------------------------------------


def check_configs(configs: NetworkConfig) -> None:
    """Check that something describes a network.

    Raises:
      ValueError: if it is no `PlainConfig`, no `BlocksConfig`, and no tuple with a `LayerConfig`
        for each layer, of which there is at least one.
    """
    if not isinstance(configs, PlainConfig | BlocksConfig):
        check_layers(configs)


def layer_configs(configs: NetworkConfig) -> tuple[LayerConfig, ...]:
    """Return the configuration of every attention layer, from the input on.

    Raises:
      ValueError: as `check_configs`.
    """
    check_configs(configs)
    if isinstance(configs, BlocksConfig):
        return (configs.layer,) * configs.depth
    return tuple(configs.layers if isinstance(configs, PlainConfig) else configs)


def layer_params(params: NetworkParams) -> tuple[LayerParams, ...]:
    """Return the parameters of every attention layer, from the input on.

    Args:
      params: of a network; or what has their form, such as gradients.
    """
    if isinstance(params, BlocksParams):
        return tuple(block.attention for block in params.blocks)
    return tuple(params.layers if isinstance(params, PlainParams) else params)


def num_outputs_of(configs: NetworkConfig) -> int:
    """Return how many outputs a network has for each node.

    Raises:
      ValueError: as `check_configs`.
    """
    if isinstance(configs, BlocksConfig):
        return configs.num_outputs
    return layer_configs(configs)[-1].num_outputs


def init_network(
    key: Key[Array, ""],
    configs: NetworkConfig,
    num_features: int,
    *,
    gain: Scalar | None = None,
    batch_shape: tuple[int, ...] = (),
) -> NetworkParams:
    """Draw the parameters of every layer; arguments and errors as `initializers.init_layer`.

    Returns:
      One entry for each layer; a `PlainParams` or `BlocksParams` for a configuration of that name.
      Norms begin with scale 1 and shift 0.

    Raises:
      ValueError: if this describes no network, or as `init_layer`.
    """
    check_configs(configs)
    check_key(key)
    options = {"gain": gain, "batch_shape": batch_shape}
    if isinstance(configs, BlocksConfig):
        return init_blocks(key, configs, num_features, **options)
    layers = init_layers(key, layer_configs(configs), num_features, **options)
    if isinstance(configs, PlainConfig):
        return PlainParams(layers, init_norms(configs, batch_shape=batch_shape))
    return layers


def check_network_params(params: Any, configs: NetworkConfig, num_features: int) -> None:
    """Check that parameters are those of a configured network on features of this width.

    Raises:
      ValueError: names the part that does not fit.
    """
    check_configs(configs)
    if isinstance(configs, BlocksConfig):
        check_blocks_params(params, configs, num_features)
    elif isinstance(configs, PlainConfig):
        check_norms(params, configs)
        check_layers_params(params.layers, configs.layers, num_features, field="params.layers")
    else:
        check_layers_params(params, configs, num_features)


# --- applying it ----------------------------------------------------------------------------------


def apply_network(
    params: NetworkParams,
    graph: jraph.GraphsTuple,
    configs: NetworkConfig,
    *,
    settings: LayerSettings = LayerSettings(),
    key: DropoutKey = None,
    edge_mask: EdgeMask | None = None,
    edge_weight: EdgeWeight | None = None,
    node_mask: NodeMask | None = None,
    layout: Layout | None = None,
) -> tuple[Float[Array, "nodes outputs"], tuple[AttentionInfo, ...]]:
    """Apply a network; return its outputs [N, outputs] and every attention layer's info.

    Arguments and errors are those of `trace_network`, which returns more.
    """
    outputs, traces = trace_network(
        params,
        graph,
        configs,
        settings=settings,
        key=key,
        edge_mask=edge_mask,
        edge_weight=edge_weight,
        node_mask=node_mask,
        layout=layout,
    )
    return outputs, tuple(trace.info for trace in traces)


def trace_network(
    params: NetworkParams,
    graph: jraph.GraphsTuple,
    configs: NetworkConfig,
    *,
    settings: LayerSettings = LayerSettings(),
    key: DropoutKey = None,
    edge_mask: EdgeMask | None = None,
    edge_weight: EdgeWeight | None = None,
    node_mask: NodeMask | None = None,
    layout: Layout | None = None,
) -> tuple[Float[Array, "nodes outputs"], tuple[LayerTrace, ...]]:
    """Apply a network; return also what each attention layer was given and what it returned.

    Args:
      params: as `init_network` draws them.
      graph: nodes [N, F]; every layer sees the same edges. If any layer of a plain network has
        parameters for edge features, the others may do without them.
      configs: a tuple with one entry for each layer, with ELU between them; or a `PlainConfig` or
        `BlocksConfig`. Static.
      settings: of every layer; may be traced. Where `blocks` apply the feature dropout, they say.
      key: given in training, where the settings' dropout rates apply.
      edge_mask: [E], True = real, as in `gat`.
      edge_weight: [E], the same in every layer, as in `gat`.
      node_mask: [N], True = real. Only a "batch" norm reads it, whose statistics padding would
        enter; None: all nodes are real.
      layout: of the edges, as in `gat`.

    Returns:
      Outputs [N, outputs] of the network, and a `LayerTrace` for each attention layer. What is not
      used costs nothing under `jit`.

    Raises:
      ValueError: if the parameters are not those of such a network, if there are two sets of nodes
        and several layers or blocks, or as `gat`.
    """
    check_configs(configs)
    options = {
        "settings": settings,
        "key": key,
        "edge_mask": edge_mask,
        "edge_weight": edge_weight,
        "node_mask": node_mask,
        "layout": layout,
    }
    given: Any = params  # whether they fit the configuration is checked where it is known
    if isinstance(configs, BlocksConfig):
        return trace_blocks(given, graph, configs, **options)
    if isinstance(configs, PlainConfig):
        return trace_plain(given, graph, configs, **options)
    check_entries(given, configs)
    without_norms = PlainParams(tuple(given), (None,) * (len(configs) - 1))
    return trace_plain(without_norms, graph, PlainConfig(tuple(configs)), **options)
