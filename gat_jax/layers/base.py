"""What a layer is made of: its static configuration and its parameters."""

import dataclasses
from typing import Literal, NamedTuple, get_args

from jaxtyping import Array, Float

LayerName = Literal["gat", "gatv2", "gcn"]
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
NormalizationName = Literal["mean", "symmetric"]


@dataclasses.dataclass(frozen=True)
class LayerConfig:
    """What is static about a layer: its kind, shapes and initialiser."""

    layer: LayerName = "gat"
    heads: int = 1
    channels: int = 2  # per head
    concat: bool = True  # concatenate the heads, or else average them
    initializer: InitializerName = "glorot_uniform"
    use_bias: bool = True  # on the projection: enters logits and values
    use_output_bias: bool = False  # after merging the heads
    use_residual: bool = False  # adds x W_residual to the merged heads
    share_weights: bool = False  # GATv2: one projection for senders and receivers
    num_edge_features: int = 0
    gcn_normalization: NormalizationName = "mean"

    def __post_init__(self):
        """Refuse what no layer can be built from."""
        for field, least in (("heads", 1), ("channels", 1), ("num_edge_features", 0)):
            if getattr(self, field) < least:
                raise ValueError(f"{field}: expected at least {least}, got {getattr(self, field)}")
        for field, names in (
            ("layer", get_args(LayerName)),
            ("initializer", get_args(InitializerName)),
            ("gcn_normalization", get_args(NormalizationName)),
        ):
            if getattr(self, field) not in names:
                got = getattr(self, field)
                raise ValueError(f"{field}: expected one of {', '.join(names)}, got {got!r}")
        if self.layer == "gcn" and (self.heads != 1 or self.num_edge_features != 0):
            raise ValueError(
                "layer: expected one head and no edge features for gcn, got "
                f"heads={self.heads}, num_edge_features={self.num_edge_features}"
            )

    @property
    def num_outputs(self) -> int:
        """Width of the merged heads."""
        return self.heads * self.channels if self.concat else self.channels


class GATParams(NamedTuple):
    """Parameters of `gat`; `None` where the layer has no such part."""

    kernel: Float[Array, "*batch features heads channels"]
    a_recv: Float[Array, "*batch heads channels"]
    a_send: Float[Array, "*batch heads channels"]
    bias: Float[Array, "*batch heads channels"] | None = None
    output_bias: Float[Array, "*batch outputs"] | None = None
    edge_kernel: Float[Array, "*batch edge_features heads channels"] | None = None
    a_edge: Float[Array, "*batch heads channels"] | None = None
    residual_kernel: Float[Array, "*batch features outputs"] | None = None


class GATv2Params(NamedTuple):
    """Parameters of `gatv2`; without `kernel_recv` senders and receivers share one projection."""

    kernel_send: Float[Array, "*batch features heads channels"]
    a: Float[Array, "*batch heads channels"]
    kernel_recv: Float[Array, "*batch features heads channels"] | None = None
    bias_send: Float[Array, "*batch heads channels"] | None = None
    bias_recv: Float[Array, "*batch heads channels"] | None = None
    output_bias: Float[Array, "*batch outputs"] | None = None
    edge_kernel: Float[Array, "*batch edge_features heads channels"] | None = None
    residual_kernel: Float[Array, "*batch features outputs"] | None = None


class GCNParams(NamedTuple):
    """Parameters of `gcn`: one head, so H = 1."""

    kernel: Float[Array, "*batch features 1 channels"]
    bias: Float[Array, "*batch 1 channels"] | None = None
    output_bias: Float[Array, "*batch outputs"] | None = None
    residual_kernel: Float[Array, "*batch features outputs"] | None = None


LayerParams = GATParams | GATv2Params | GCNParams
