"""Networks of graph layers as pure functions of their parameters and a graph."""

import jax
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
)
from gat_jax.layers.config import LayerConfig, LayerParams, kind_of
from gat_jax.layers.initializers import init_layer


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
    if num_layers < 1:
        raise ValueError(f"num_layers: expected at least 1, got {num_layers}")
    hidden = LayerConfig(heads=heads, channels=channels, **options)
    last = LayerConfig(heads=heads, channels=num_classes, concat=False, **options)
    return (hidden,) * (num_layers - 1) + (last,)


def init_network(
    key: Key[Array, ""],
    configs: tuple[LayerConfig, ...],
    num_features: int,
    *,
    gain: Scalar | None = None,
    batch_shape: tuple[int, ...] = (),
) -> tuple[LayerParams, ...]:
    """Draw the parameters of every layer; arguments as `initializers.init_layer`."""
    widths = (num_features, *(config.num_outputs for config in configs[:-1]))
    keys = jax.random.split(key, len(configs))
    return tuple(
        init_layer(k, config, width, gain=gain, batch_shape=batch_shape)
        for k, config, width in zip(keys, configs, widths, strict=True)
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
      ValueError: unless there is one entry per layer; or as `gat`.
    """
    if not isinstance(params, tuple | list) or len(params) != len(configs):
        found = len(params) if isinstance(params, tuple | list) else type(params).__name__
        raise ValueError(
            f"params: expected an entry for each of {len(configs)} layers, got {found}"
        )
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
