"""Graph attention layers and networks of them, as pure functions.

The parameters of each kind are defined in its own `*_layer` module; `config` lists the kinds.

The same as Flax modules: `gat_jax.layers.flax_linen` and `gat_jax.layers.flax_nnx`, imported as
modules, so that `flax_nnx.GAT` says what it is.
"""

from gat_jax.layers.base import (
    AttentionInfo,
    EdgeMask,
    EdgeWeight,
    LayerKind,
    LayerSettings,
    LayerShape,
    LayerTrace,
    NormalizationName,
    RowScores,
)
from gat_jax.layers.blocks import BlocksConfig, BlocksParams, blocks_config
from gat_jax.layers.checks import (
    check_by_head,
    check_edge_mask,
    check_key,
    check_number,
    check_settings,
)
from gat_jax.layers.config import (
    LAYERS,
    InitializerName,
    LayerConfig,
    LayerName,
    LayerParams,
    kind_of,
)
from gat_jax.layers.gat_layer import GATParams, gat
from gat_jax.layers.gatv2_layer import GATv2Params, gatv2
from gat_jax.layers.gcn_layer import GCNParams, gcn
from gat_jax.layers.initializers import (
    SCHEMES,
    assemble,
    check_drawable,
    draw_scales,
    init_layer,
    num_draws,
)
from gat_jax.layers.networks import (
    NetworkConfig,
    NetworkParams,
    apply_layer,
    apply_network,
    check_configs,
    check_network_params,
    init_network,
    layer_configs,
    layer_params,
    num_outputs_of,
    trace_network,
)
from gat_jax.layers.norms import NodeMask, NormName, check_node_mask
from gat_jax.layers.plain import PlainConfig, PlainParams, gat_configs

__all__ = [
    "LAYERS",
    "SCHEMES",
    "AttentionInfo",
    "BlocksConfig",
    "BlocksParams",
    "EdgeMask",
    "EdgeWeight",
    "GATParams",
    "GATv2Params",
    "GCNParams",
    "InitializerName",
    "LayerConfig",
    "LayerKind",
    "LayerName",
    "LayerParams",
    "LayerSettings",
    "LayerShape",
    "LayerTrace",
    "NetworkConfig",
    "NetworkParams",
    "NodeMask",
    "NormName",
    "NormalizationName",
    "PlainConfig",
    "PlainParams",
    "RowScores",
    "apply_layer",
    "apply_network",
    "assemble",
    "blocks_config",
    "check_by_head",
    "check_configs",
    "check_drawable",
    "check_edge_mask",
    "check_key",
    "check_network_params",
    "check_node_mask",
    "check_number",
    "check_settings",
    "draw_scales",
    "gat",
    "gat_configs",
    "gatv2",
    "gcn",
    "init_layer",
    "init_network",
    "kind_of",
    "layer_configs",
    "layer_params",
    "num_draws",
    "num_outputs_of",
    "trace_network",
]
