"""Plain networks: attention layers in turn, with a norm and ELU between them.

    x = ELU(norm(layer(x)))    after each layer but the last, whose outputs are the network's

A layer with `use_residual` adds a linear map of its inputs.
"""

import dataclasses
from typing import Any, NamedTuple, get_args

import jax
import jraph
from jaxtyping import Array, Float, Key

from gat_jax.kernels import Layout, Scalar, layouts
from gat_jax.layers.base import (
    DropoutKey,
    EdgeMask,
    EdgeWeight,
    LayerSettings,
    LayerTrace,
    check_choice,
)
from gat_jax.layers.config import LayerConfig, LayerParams, check_params_of, kind_of
from gat_jax.layers.initializers import init_layer
from gat_jax.layers.norms import (
    NodeMask,
    NormName,
    NormParams,
    apply_norm,
    check_node_mask,
    check_norm,
    init_norm,
)
from gat_jax.runtime.arrays import check_count


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


def check_layers(configs: tuple[LayerConfig, ...]) -> None:
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


@dataclasses.dataclass(frozen=True)
class PlainConfig:
    """What is static about a plain network that has norms between its layers.

    The tuple of its layers alone describes the same network without norms.
    """

    layers: tuple[LayerConfig, ...]
    norm: NormName = "none"

    def __post_init__(self):
        """Refuse what no network can be built from."""
        check_layers(self.layers)
        check_choice("norm", self.norm, get_args(NormName))


class PlainParams(NamedTuple):
    """Parameters of the network that a `PlainConfig` describes."""

    layers: tuple[LayerParams, ...]
    norms: tuple[NormParams | None, ...]  # after each layer but the last


def widths_of(configs: tuple[LayerConfig, ...], num_features: int) -> tuple[int, ...]:
    """Return the width of the features that each layer is given."""
    return num_features, *(config.num_outputs for config in configs[:-1])


def init_layers(
    key: Key[Array, ""],
    configs: tuple[LayerConfig, ...],
    num_features: int,
    *,
    gain: Scalar | None = None,
    batch_shape: tuple[int, ...] = (),
) -> tuple[LayerParams, ...]:
    """Draw the parameters of every layer; arguments and errors as `init_layer`."""
    keys = jax.random.split(key, len(configs))
    return tuple(
        init_layer(k, config, width, gain=gain, batch_shape=batch_shape)
        for k, config, width in zip(keys, configs, widths_of(configs, num_features), strict=True)
    )


def init_norms(
    config: PlainConfig, *, batch_shape: tuple[int, ...] = ()
) -> tuple[NormParams | None, ...]:
    """Return the parameters of the norm after each layer but the last."""
    return tuple(
        init_norm(config.norm, layer.num_outputs, batch_shape=batch_shape)
        for layer in config.layers[:-1]
    )


def check_layers_params(
    params: Any, configs: tuple[LayerConfig, ...], num_features: int, *, field: str = "params"
) -> None:
    """Check the parameters of every layer.

    Args:
      params: a tuple with one entry for each layer.
      configs: of the layers.
      num_features: width of the node features.
      field: what an error calls the tuple.

    Raises:
      ValueError: unless there is an entry for each layer that fits it.
    """
    check_entries(params, configs, field=field)
    widths = widths_of(configs, num_features)
    for layer, config, width in zip(params, configs, widths, strict=True):
        check_params_of(config, layer, width)


def check_entries(params: Any, configs: tuple[LayerConfig, ...], *, field: str = "params") -> None:
    """Check that there is an entry for each layer; the entries are checked by the layers.

    Raises:
      ValueError: if not.
    """
    # A layer's parameters are a tuple too: a network of one layer has a tuple of one of them.
    is_network = isinstance(params, tuple | list) and not hasattr(params, "_fields")
    if not is_network or len(params) != len(configs):
        found = len(params) if is_network else type(params).__name__
        raise ValueError(
            f"{field}: expected an entry for each of {len(configs)} layers, got {found}"
        )


def check_norms(params: Any, config: PlainConfig) -> None:
    """Check that parameters are a `PlainParams`, and the norms in them.

    Raises:
      ValueError: names the part that does not fit.
    """
    if not isinstance(params, PlainParams):
        raise ValueError(f"params: expected PlainParams, got {type(params).__name__}")
    hidden = config.layers[:-1]
    is_tuple = isinstance(params.norms, tuple | list)
    if not is_tuple or len(params.norms) != len(hidden):
        found = len(params.norms) if is_tuple else type(params.norms).__name__
        raise ValueError(f"params.norms: expected {len(hidden)} between the layers, got {found}")
    for depth, (norm, layer) in enumerate(zip(params.norms, hidden, strict=True)):
        check_norm(f"params.norms[{depth}]", norm, config.norm, layer.num_outputs)


def trace_plain(
    params: PlainParams,
    graph: jraph.GraphsTuple,
    config: PlainConfig,
    *,
    settings: LayerSettings = LayerSettings(),
    key: DropoutKey = None,
    edge_mask: EdgeMask | None = None,
    edge_weight: EdgeWeight | None = None,
    node_mask: NodeMask | None = None,
    layout: Layout | None = None,
) -> tuple[Float[Array, "nodes outputs"], tuple[LayerTrace, ...]]:
    """Apply a plain network; arguments, results and errors as `networks.trace_network`."""
    configs = config.layers
    check_norms(params, config)
    check_entries(params.layers, configs, field="params.layers")
    if len(configs) > 1:  # from the second layer on there are outputs of receivers alone
        features = layouts.one_set_of(graph, "in a network of more than one layer")
    else:
        features = layouts.sides_of(graph)[-1]
    check_node_mask(node_mask, len(features))
    uses_edges = any(config.num_edge_features for config in configs)
    traces = []
    x = graph.nodes
    for depth, (layer, layer_config) in enumerate(zip(params.layers, configs, strict=True)):
        if depth > 0:
            normed = apply_norm(params.norms[depth - 1], x, config.norm, node_mask=node_mask)
            x = jax.nn.elu(normed)
        edges = None if uses_edges and not layer_config.num_edge_features else graph.edges
        outputs, info = kind_of(layer, layer_config).apply(
            layer,
            graph._replace(nodes=x, edges=edges),
            config=layer_config,
            settings=settings,
            key=None if key is None else jax.random.fold_in(key, depth),
            edge_mask=edge_mask,
            edge_weight=edge_weight,
            layout=layout,
        )
        traces.append(LayerTrace(info, x, outputs))
        x = outputs
    return x, tuple(traces)
