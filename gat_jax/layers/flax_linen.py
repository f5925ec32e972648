"""The layers and the network as modules of Flax Linen; `flax_nnx` has the same ones for NNX.

The modules keep parameters and draw keys, and leave all else to the pure functions: parameters,
outputs and gradients are those of `init_layer` and `apply_layer`, or `init_network` and
`apply_network`.

    module = flax_linen.GATv2(LayerConfig(heads=8, channels=16))
    variables = module.init(jax.random.key(0), graph)
    outputs, info = module.apply(variables, graph)
"""

import flax.linen as nn
import jraph
from jaxtyping import Array, Float

from gat_jax.kernels import Layout
from gat_jax.layers.base import AttentionInfo, EdgeMask, EdgeWeight, LayerSettings
from gat_jax.layers.checks import num_sent_features
from gat_jax.layers.config import LayerConfig, check_params_of, with_layer
from gat_jax.layers.initializers import init_layer
from gat_jax.layers.networks import (
    apply_layer,
    apply_network,
    check_network_params,
    init_network,
)


class GraphLayer(nn.Module):
    """The layer that a configuration describes, of whichever kind.

    Its parameters, such as a `GATParams`, are `variables["params"]["layer"]`.

    Attributes:
      config: kind, shapes and initialiser of the layer.
      settings: slope, temperature and the dropout rates of training.
    """

    config: LayerConfig
    settings: LayerSettings = LayerSettings()

    @nn.compact
    def __call__(
        self,
        graph: jraph.GraphsTuple,
        *,
        is_training: bool = False,
        edge_mask: EdgeMask | None = None,
        edge_weight: EdgeWeight | None = None,
        layout: Layout | None = None,
    ) -> tuple[Float[Array, "nodes outputs"], AttentionInfo]:
        """Apply the layer.

        Args:
          graph: nodes [N, F], and edges [E, D] if the layer has edge features.
          is_training: applies dropout, with a key from the rng stream `dropout`.
          edge_mask: [E], True = real.
          edge_weight: [E], as in `gat`.
          layout: of the graph's edges, as in `gat`; None stands for the edge list.

        Returns:
          Outputs [N, outputs] and the layer's `AttentionInfo`, as `apply_layer`.

        Raises:
          ValueError: for variables of another configuration or in another form, such as restored
            as a dict; or as `apply_layer`.
        """
        num_features = num_sent_features(graph)
        if self.has_variable("params", "layer"):
            check_params_of(self.config, self.get_variable("params", "layer"), num_features)
        return apply_layer(
            self.param("layer", init_layer, self.config, num_features),
            graph,
            config=self.config,
            settings=self.settings,
            key=self.make_rng("dropout") if is_training else None,
            edge_mask=edge_mask,
            edge_weight=edge_weight,
            layout=layout,
        )


class GAT(GraphLayer):
    """The layer `gat` as a module: a `GraphLayer` whose class decides `config.layer`."""

    def __post_init__(self):
        self.config = with_layer(self.config, "gat")
        super().__post_init__()


class GATv2(GraphLayer):
    """The layer `gatv2` as a module: a `GraphLayer` whose class decides `config.layer`."""

    def __post_init__(self):
        self.config = with_layer(self.config, "gatv2")
        super().__post_init__()


class GCN(GraphLayer):
    """The layer `gcn` as a module: a `GraphLayer` whose class decides `config.layer`."""

    def __post_init__(self):
        self.config = with_layer(self.config, "gcn")
        super().__post_init__()


class GraphNetwork(nn.Module):
    """Layers in turn, with ELU between them.

    Its parameters, one entry for each layer, are `variables["params"]["layers"]`.

    Attributes:
      configs: one for each layer.
      settings: of every layer.
    """

    configs: tuple[LayerConfig, ...]
    settings: LayerSettings = LayerSettings()

    @nn.compact
    def __call__(
        self,
        graph: jraph.GraphsTuple,
        *,
        is_training: bool = False,
        edge_mask: EdgeMask | None = None,
        edge_weight: EdgeWeight | None = None,
        layout: Layout | None = None,
    ) -> tuple[Float[Array, "nodes outputs"], tuple[AttentionInfo, ...]]:
        """Apply the network.

        Args:
          graph: nodes [N, F]; every layer sees the same edges.
          is_training: applies dropout, with a key from the rng stream `dropout`.
          edge_mask: [E], True = real.
          edge_weight: [E], as in `gat`.
          layout: of the graph's edges, as in `gat`; None stands for the edge list.

        Returns:
          Outputs [N, outputs] of the last layer and every layer's `AttentionInfo`, as
          `apply_network`.

        Raises:
          ValueError: for variables of another configuration or in another form, such as restored
            as a dict; or as `apply_network`.
        """
        num_features = num_sent_features(graph)
        if self.has_variable("params", "layers"):
            stored = self.get_variable("params", "layers")
            check_network_params(stored, self.configs, num_features)
        return apply_network(
            self.param("layers", init_network, self.configs, num_features),
            graph,
            self.configs,
            settings=self.settings,
            key=self.make_rng("dropout") if is_training else None,
            edge_mask=edge_mask,
            edge_weight=edge_weight,
            layout=layout,
        )
