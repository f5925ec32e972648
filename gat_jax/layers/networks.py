"""Networks of graph layers as pure functions of their parameters and a graph."""

from typing import Any

import jax
import jraph
from jaxtyping import Array, Float, Key

from gat_jax.kernels import Layout, Scalar, layouts
from gat_jax.layers.base import (
    AttentionInfo,
    DropoutKey,
    EdgeMask,
    EdgeWeight,
    LayerSettings,
    LayerShape,
)
from gat_jax.layers.checks import check_key
from gat_jax.layers.config import LayerConfig, LayerParams, check_params_of, kind_of
from gat_jax.layers.initializers import init_layer
from gat_jax.runtime.arrays import check_count


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


def gat_configs(
    num_classes: int, *, heads: int = 8, channels: int = 8, num_layers: int = 2, **options
) -> tuple[LayerConfig, ...]:
    """Describe the usual node classifier: hidden layers concatenate, the last averages its heads.

    Args:
      num_classes: channels of the last layer.
      heads: of every layer.
      channels: per head, of the hidden layers.
      num_layers: at least 1.
      **options: further fields of every `LayerConfig`.

    Raises:
      ValueError: if there is no layer, or as `LayerConfig`.
    """
    check_count("num_layers", num_layers, 1)
    hidden = LayerConfig(heads=heads, channels=channels, **options)
    last = LayerConfig(heads=heads, channels=num_classes, concat=False, **options)
    return (hidden,) * (num_layers - 1) + (last,)


def check_configs(configs: tuple[LayerConfig, ...]) -> None:
    """Check that there is a configuration for each layer of a network, and at least one.

    Raises:
      ValueError: if not.
    """
    if not isinstance(configs, tuple | list):
        kind = type(configs).__name__
        raise ValueError(f"configs: expected a tuple with one for each layer, got {kind}")
    if not configs:
        raise ValueError("configs: expected one for each layer, at least one, got none")
    for depth, config in enumerate(configs):
        if not isinstance(config, LayerConfig):
            kind = type(config).__name__
            raise ValueError(f"configs: expected a LayerConfig for layer {depth}, got {kind}")


def init_network(
    key: Key[Array, ""],
    configs: tuple[LayerConfig, ...],
    num_features: int,
    *,
    gain: Scalar | None = None,
    batch_shape: tuple[int, ...] = (),
) -> tuple[LayerParams, ...]:
    """Draw the parameters of every layer; arguments and errors as `initializers.init_layer`.

    Raises:
      ValueError: if there is no layer, or as `init_layer`.
    """
    check_configs(configs)
    check_key(key)
    keys = jax.random.split(key, len(configs))
    return tuple(
        init_layer(k, config, width, gain=gain, batch_shape=batch_shape)
        for k, config, width in zip(keys, configs, _widths(configs, num_features), strict=True)
    )


def _widths(configs: tuple[LayerConfig, ...], num_features: int) -> tuple[int, ...]:
    """Return the width of the features that each layer is given."""
    return num_features, *(config.num_outputs for config in configs[:-1])


def check_network_params(params: Any, configs: tuple[LayerConfig, ...], num_features: int) -> None:
    """Check that parameters are those of a configured network on features of this width.

    Raises:
      ValueError: unless there is an entry for each layer that fits it.
    """
    _check_entries(params, configs)
    widths = _widths(configs, num_features)
    for layer, config, width in zip(params, configs, widths, strict=True):
        check_params_of(config, layer, width)


def _check_entries(params: Any, configs: tuple[LayerConfig, ...]) -> None:
    check_configs(configs)
    # A layer's parameters are a tuple too: a network of one layer has a tuple of one of them.
    is_network = isinstance(params, tuple | list) and not hasattr(params, "_fields")
    if not is_network or len(params) != len(configs):
        found = len(params) if is_network else type(params).__name__
        raise ValueError(
            f"params: expected an entry for each of {len(configs)} layers, got {found}"
        )


def apply_network(
    params: tuple[LayerParams, ...],
    graph: jraph.GraphsTuple,
    configs: tuple[LayerConfig, ...],
    *,
    settings: LayerSettings = LayerSettings(),
    key: DropoutKey = None,
    edge_mask: EdgeMask | None = None,
    edge_weight: EdgeWeight | None = None,
    layout: Layout | None = None,
) -> tuple[Float[Array, "nodes outputs"], tuple[AttentionInfo, ...]]:
    """Apply the layers in turn, with ELU between them.

    Args:
      params: one entry per layer.
      graph: nodes [N, F]; every layer sees the same edges. If any layer has parameters for edge
        features, the others may do without them.
      configs: one entry per layer; static.
      settings: of every layer; may be traced.
      key: given in training, where the settings' dropout rates apply.
      edge_mask: [E], True = real, as in `gat`.
      edge_weight: [E], the same in every layer, as in `gat`.
      layout: of the edges, as in `gat`.

    Returns:
      Outputs [N, outputs] of the last layer, and every layer's `AttentionInfo`.

    Raises:
      ValueError: unless there is one entry per layer, if there are several layers and two sets of
        nodes, or as `gat`.
    """
    _check_entries(params, configs)
    if len(configs) > 1:  # from the second layer on there are outputs of receivers alone
        layouts.one_set_of(graph, "in a network of more than one layer")
    else:
        layouts.sides_of(graph)
    uses_edges = any(config.num_edge_features for config in configs)
    infos = []
    x = graph.nodes
    for depth, (layer, config) in enumerate(zip(params, configs, strict=True)):
        edges = None if uses_edges and not config.num_edge_features else graph.edges
        x, info = apply_layer(
            layer,
            graph._replace(nodes=x if depth == 0 else jax.nn.elu(x), edges=edges),
            config=config,
            settings=settings,
            key=None if key is None else jax.random.fold_in(key, depth),
            edge_mask=edge_mask,
            edge_weight=edge_weight,
            layout=layout,
        )
        infos.append(info)
    return x, tuple(infos)
