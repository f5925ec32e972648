"""Which kinds of layers there are, and the static configuration of one: the table to add to."""

import dataclasses
from typing import Any, Literal, get_args

from gat_jax.layers.base import LayerKind, LayerShape, check_choice
from gat_jax.layers.checks import check_params
from gat_jax.layers.gat_layer import GAT, GATParams
from gat_jax.layers.gatv2_layer import GATV2, GATv2Params
from gat_jax.layers.gcn_layer import GCN, GCNParams

# A new kind of layer has one line in each of these three.
LayerName = Literal["gat", "gatv2", "gcn"]
LayerParams = GATParams | GATv2Params | GCNParams
LAYERS: dict[LayerName, LayerKind] = {"gat": GAT, "gatv2": GATV2, "gcn": GCN}

InitializerName = Literal[
    "glorot_uniform",
    "glorot_normal",
    "he_normal",
    "tutorial",
    "pyg",
    "dgl",
    "balanced",
    "gaussian",
]


@dataclasses.dataclass(frozen=True)
class LayerConfig(LayerShape):
    """What is static about a layer: its kind, shapes and initialiser."""

    layer: LayerName = "gat"
    initializer: InitializerName = "glorot_uniform"

    def __post_init__(self):
        """Refuse what no layer can be built from."""
        super().__post_init__()
        check_choice("layer", self.layer, get_args(LayerName))
        check_choice("initializer", self.initializer, get_args(InitializerName))
        LAYERS[self.layer].specs(self, 1)  # a kind may refuse shapes


def kind_of(params: Any, config: LayerShape | None = None) -> LayerKind:
    """Return the kind of layer that parameters belong to.

    Raises:
      ValueError: for parameters of no known kind, or of another one than the config's.
    """
    for name, kind in LAYERS.items():
        if isinstance(params, kind.params):
            if isinstance(config, LayerConfig) and config.layer != name:
                raise ValueError(f"params: expected those of {config.layer}, got those of {name}")
            return kind
    names = ", ".join(kind.params.__name__ for kind in LAYERS.values())
    raise ValueError(f"params: expected one of {names}, got {type(params).__name__}")


def with_layer(config: LayerConfig, layer: LayerName) -> LayerConfig:
    """Return a configuration with another kind of layer.

    Raises:
      ValueError: if it is no configuration, or as `LayerConfig`.
    """
    if not isinstance(config, LayerConfig):
        raise ValueError(f"config: expected a LayerConfig, got {type(config).__name__}")
    return dataclasses.replace(config, layer=layer)


def check_params_of(config: LayerConfig, params: Any, num_features: int) -> None:
    """Check that parameters are those of a configured layer on features of this width.

    Raises:
      ValueError: for parameters of another kind, or of other shapes.
    """
    kind = kind_of(params, config)
    check_params(params, kind.specs(config, num_features), is_complete=True)
