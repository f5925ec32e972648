"""Graph attention layers and networks of them, as pure functions.

The same as Flax modules: `gat_jax.layers.flax_linen` and `gat_jax.layers.flax_nnx`, imported as
modules, so that `flax_nnx.GAT` says what it is.
"""

from gat_jax.layers.base import (
    GATParams,
    GATv2Params,
    GCNParams,
    InitializerName,
    LayerConfig,
    LayerName,
    LayerParams,
    NormalizationName,
)
from gat_jax.layers.gat_layer import (
    AttentionInfo,
    LayerSettings,
    apply_layer,
    gat,
    gatv2,
    gcn,
)
from gat_jax.layers.initializers import (
    SCHEMES,
    assemble,
    check_fits,
    draw_scales,
    init_layer,
    num_draws,
)
from gat_jax.layers.networks import (
    apply_network,
    gat_configs,
    init_network,
)

__all__ = [
    "SCHEMES",
    "AttentionInfo",
    "GATParams",
    "GATv2Params",
    "GCNParams",
    "InitializerName",
    "LayerConfig",
    "LayerName",
    "LayerParams",
    "LayerSettings",
    "NormalizationName",
    "apply_layer",
    "apply_network",
    "assemble",
    "check_fits",
    "draw_scales",
    "gat",
    "gat_configs",
    "gatv2",
    "gcn",
    "init_layer",
    "init_network",
    "num_draws",
]
