"""The layers and the network as modules of Flax NNX; `flax_linen` has the same ones for Linen.

The modules keep parameters and draw keys, and leave all else to the pure functions: parameters,
outputs and gradients are those of `init_layer` and `apply_layer`, or `init_network` and
`apply_network`. Every array is an `nnx.Param` of its own.

    module = flax_nnx.GATv2(LayerConfig(heads=8, channels=16), num_features, rngs=nnx.Rngs(0))
    outputs, info = module(graph)

Dropout is that of NNX: it applies at once if the settings have a rate above 0, and until
`module.eval()`; `module.train()` turns it on again.
"""

from typing import TypeVar

import jax
import jraph
from flax import nnx
from jaxtyping import Array, Float, Key

from gat_jax.kernels import Layout
from gat_jax.layers.base import AttentionInfo, EdgeMask, EdgeWeight, LayerSettings
from gat_jax.layers.checks import check_settings
from gat_jax.layers.config import LayerConfig, with_layer
from gat_jax.layers.initializers import init_layer
from gat_jax.layers.networks import apply_layer, apply_network, init_network

Tree = TypeVar("Tree")


class GraphLayer(nnx.Module):
    """The layer that a configuration describes, of whichever kind.

    Its parameters are `params`: a `GATParams`, say, with an `nnx.Param` for every array.
    """

    def __init__(
        self,
        config: LayerConfig,
        num_features: int,
        *,
        settings: LayerSettings = LayerSettings(),
        rngs: nnx.Rngs,
    ):
        """Draw the parameters.

        Args:
          config: kind, shapes and initialiser of the layer.
          num_features: F, width of the node features.
          settings: slope, temperature and dropout rates; numbers, not arrays.
          rngs: the stream `params` gives the key of `init_layer`; where there is dropout, the
            stream `dropout` is forked for it.

        Raises:
          ValueError: for settings out of their range, or as `init_layer`.
        """
        check_settings(settings)
        self.config = config
        self.settings = settings
        params = init_layer(rngs.params(), config, num_features)
        self.params = nnx.data(jax.tree.map(nnx.Param, params))
        self.rngs = nnx.data(_dropout_stream(settings, rngs))
        self.deterministic = False

    def __call__(
        self,
        graph: jraph.GraphsTuple,
        *,
        edge_mask: EdgeMask | None = None,
        edge_weight: EdgeWeight | None = None,
        layout: Layout | None = None,
    ) -> tuple[Float[Array, "nodes outputs"], AttentionInfo]:
        """Apply the layer.

        Args:
          graph: nodes [N, F], and edges [E, D] if the layer has edge features.
          edge_mask: [E], True = real.
          edge_weight: [E], as in `gat`.
          layout: of the graph's edges, as in `gat`; None stands for the edge list.

        Returns:
          Outputs [N, outputs] and the layer's `AttentionInfo`, as `apply_layer`.
        """
        return apply_layer(
            _arrays(self.params),
            graph,
            config=self.config,
            settings=self.settings,
            key=_dropout_key(self),
            edge_mask=edge_mask,
            edge_weight=edge_weight,
            layout=layout,
        )


class GAT(GraphLayer):
    """The layer `gat` as a module: a `GraphLayer` whose class decides `config.layer`."""

    def __init__(self, config: LayerConfig, num_features: int, **options):
        super().__init__(with_layer(config, "gat"), num_features, **options)


class GATv2(GraphLayer):
    """The layer `gatv2` as a module: a `GraphLayer` whose class decides `config.layer`."""

    def __init__(self, config: LayerConfig, num_features: int, **options):
        super().__init__(with_layer(config, "gatv2"), num_features, **options)


class GCN(GraphLayer):
    """The layer `gcn` as a module: a `GraphLayer` whose class decides `config.layer`."""

    def __init__(self, config: LayerConfig, num_features: int, **options):
        super().__init__(with_layer(config, "gcn"), num_features, **options)


class GraphNetwork(nnx.Module):
    """Layers in turn, with ELU between them.

    Its parameters are `params`: one entry for each layer, with an `nnx.Param` for every array.
    """

    def __init__(
        self,
        configs: tuple[LayerConfig, ...],
        num_features: int,
        *,
        settings: LayerSettings = LayerSettings(),
        rngs: nnx.Rngs,
    ):
        """Draw the parameters.

        Args:
          configs: one for each layer.
          num_features: F, width of the node features.
          settings: of every layer; numbers, not arrays.
          rngs: the stream `params` gives the key of `init_network`; where there is dropout, the
            stream `dropout` is forked for it.

        Raises:
          ValueError: for settings out of their range, or as `init_network`.
        """
        check_settings(settings)
        self.configs = configs
        self.settings = settings
        params = init_network(rngs.params(), configs, num_features)
        self.params = nnx.data(jax.tree.map(nnx.Param, params))
        self.rngs = nnx.data(_dropout_stream(settings, rngs))
        self.deterministic = False

    def __call__(
        self,
        graph: jraph.GraphsTuple,
        *,
        edge_mask: EdgeMask | None = None,
        edge_weight: EdgeWeight | None = None,
        layout: Layout | None = None,
    ) -> tuple[Float[Array, "nodes outputs"], tuple[AttentionInfo, ...]]:
        """Apply the network.

        Args:
          graph: nodes [N, F]; every layer sees the same edges.
          edge_mask: [E], True = real.
          edge_weight: [E], as in `gat`.
          layout: of the graph's edges, as in `gat`; None stands for the edge list.

        Returns:
          Outputs [N, outputs] of the last layer and every layer's `AttentionInfo`, as
          `apply_network`.
        """
        return apply_network(
            _arrays(self.params),
            graph,
            self.configs,
            settings=self.settings,
            key=_dropout_key(self),
            edge_mask=edge_mask,
            edge_weight=edge_weight,
            layout=layout,
        )


def _arrays(params: Tree) -> Tree:
    """Return the same structure with the array of every `nnx.Param` in its place."""

    def is_param(leaf) -> bool:
        return isinstance(leaf, nnx.Param)

    return jax.tree.map(lambda param: param[...], params, is_leaf=is_param)


def _dropout_stream(settings: LayerSettings, rngs: nnx.Rngs) -> nnx.RngStream | None:
    """Return a stream of keys of the module's own, if there is dropout to draw."""
    has_dropout = settings.feature_dropout != 0 or settings.attention_dropout != 0
    return rngs.dropout.fork() if has_dropout else None


def _dropout_key(module: GraphLayer | GraphNetwork) -> Key[Array, ""] | None:
    """Return the next key of a module that is in training and has dropout, or else None."""
    return None if module.deterministic or module.rngs is None else module.rngs()
