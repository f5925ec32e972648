"""Networks of residual blocks, as they are trained on heterophilous graphs.

    x = gelu(dropout(features W_in + b_in))
    x = x + f(norm(x))            for each block
    logits = norm(x) W_out + b_out

    f(y) = feed_forward(attention(y)), or feed_forward([y, attention(y)]) with `sep`
    feed_forward(y) = dropout(gelu(dropout(y W_1 + b_1)) W_2 + b_2)

Source: Platonov et al. 2023, arXiv:2302.11640. Their separate path is given the node's own features
after the layer's projection; here it is given those before it. What follows is linear, so both say
the same functions.
"""

import dataclasses
from typing import Any, NamedTuple, get_args

import jax
import jax.numpy as jnp
import jraph
from jaxtyping import Array, Float, Key

from gat_jax.kernels import Layout, Scalar, SparseFeatures, layouts
from gat_jax.layers.base import (
    DropoutKey,
    EdgeMask,
    EdgeWeight,
    LayerSettings,
    LayerTrace,
    check_choice,
)
from gat_jax.layers.checks import check_features, check_key, check_settings
from gat_jax.layers.config import LayerConfig, LayerName, LayerParams, check_params_of, kind_of
from gat_jax.layers.frame import drop_features
from gat_jax.layers.initializers import init_layer
from gat_jax.layers.linear import LinearParams, check_linear, init_linear, linear
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
from gat_jax.runtime.jax_arrays import to_jax


@dataclasses.dataclass(frozen=True, kw_only=True)
class BlocksConfig:
    """What is static about a network of residual blocks."""

    layer: LayerConfig  # of every block; its outputs are the width of the network
    num_classes: int
    depth: int = 1  # number of blocks
    norm: NormName = "layer"
    sep: bool = False  # the node's own representation beside its neighbours' message
    expansion: int = 1  # hidden width of a feed-forward, in widths of the network

    def __post_init__(self):
        """Refuse what no network can be built from."""
        if not isinstance(self.layer, LayerConfig):
            raise ValueError(f"layer: expected a LayerConfig, got {type(self.layer).__name__}")
        if self.layer.num_receiver_features:
            found = self.layer.num_receiver_features
            raise ValueError(f"num_receiver_features: expected 0 in a block, got {found}")
        for field in ("num_classes", "depth", "expansion"):
            check_count(field, getattr(self, field), 1)
        check_choice("norm", self.norm, get_args(NormName))
        if not isinstance(self.sep, bool):
            raise ValueError(f"sep: expected True or False, got {self.sep!r}")

    @property
    def width(self) -> int:
        """Features of a node between the blocks."""
        return self.layer.num_outputs

    @property
    def num_outputs(self) -> int:
        """Outputs of a node: one for each class."""
        return self.num_classes


def blocks_config(
    num_classes: int,
    *,
    layer: LayerName = "gat",
    width: int = 512,
    heads: int = 8,
    depth: int = 1,
    norm: NormName = "layer",
    sep: bool = False,
    expansion: int = 1,
    **options,
) -> BlocksConfig:
    """Describe blocks by their width, which the heads share among them.

    Args:
      num_classes: outputs.
      layer: kind of attention.
      width: features of a node between the blocks; a multiple of the heads.
      heads: of every layer; `gcn` has one.
      depth: number of blocks.
      norm: before each block and before the outputs.
      sep: whether a block has the node's own representation beside the message.
      expansion: hidden width of a feed-forward, in widths.
      **options: further fields of the `LayerConfig`.

    Raises:
      ValueError: if the heads do not share the width evenly, or as `LayerConfig`, `BlocksConfig`.
    """
    check_count("width", width, 1)
    check_count("heads", heads, 1)
    if width % heads:
        raise ValueError(f"width: expected a multiple of the {heads} heads, got {width}")
    attention = LayerConfig(layer=layer, heads=heads, channels=width // heads, **options)
    return BlocksConfig(
        layer=attention,
        num_classes=num_classes,
        depth=depth,
        norm=norm,
        sep=sep,
        expansion=expansion,
    )


class BlockParams(NamedTuple):
    """Parameters of one block."""

    norm: NormParams | None
    attention: LayerParams
    hidden: LinearParams  # of the feed-forward, from [width], or [2 width] with `sep`
    output: LinearParams  # of the feed-forward, to [width]


class BlocksParams(NamedTuple):
    """Parameters of a network of blocks."""

    input: LinearParams
    blocks: tuple[BlockParams, ...]
    norm: NormParams | None  # before the outputs
    output: LinearParams


# --- parameters -----------------------------------------------------------------------------------


def _linear_shapes(config: BlocksConfig, num_features: int) -> dict[str, tuple[int, int]]:
    """Return the shape of the kernel of each linear map by name."""
    width, hidden = config.width, config.expansion * config.width
    return {
        "input": (num_features, width),
        "hidden": (2 * width if config.sep else width, hidden),
        "block_output": (hidden, width),
        "output": (width, config.num_classes),
    }


def init_blocks(
    key: Key[Array, ""],
    config: BlocksConfig,
    num_features: int,
    *,
    gain: Scalar | None = None,
    batch_shape: tuple[int, ...] = (),
) -> BlocksParams:
    """Draw the parameters of a network of blocks.

    Args:
      key: one key, also for a batch.
      config: of the network.
      num_features: F, width of the node features.
      gain: of the attention layers, as in `init_layer`.
      batch_shape: leading axes of independent initialisations.

    Raises:
      ValueError: as `init_layer`.
    """
    check_key(key)
    check_count("num_features", num_features, 1)
    shapes = _linear_shapes(config, num_features)
    ends, *of_blocks = jax.random.split(key, 1 + config.depth)
    input_key, output_key = jax.random.split(ends)
    blocks = []
    for block_key in of_blocks:
        attention_key, hidden_key, block_output_key = jax.random.split(block_key, 3)
        attention = init_layer(
            attention_key, config.layer, config.width, gain=gain, batch_shape=batch_shape
        )
        blocks.append(
            BlockParams(
                norm=init_norm(config.norm, config.width, batch_shape=batch_shape),
                attention=attention,
                hidden=init_linear(hidden_key, *shapes["hidden"], batch_shape=batch_shape),
                output=init_linear(
                    block_output_key, *shapes["block_output"], batch_shape=batch_shape
                ),
            )
        )
    return BlocksParams(
        input=init_linear(input_key, *shapes["input"], batch_shape=batch_shape),
        blocks=tuple(blocks),
        norm=init_norm(config.norm, config.width, batch_shape=batch_shape),
        output=init_linear(output_key, *shapes["output"], batch_shape=batch_shape),
    )


def check_blocks_params(params: Any, config: BlocksConfig, num_features: int) -> None:
    """Check that parameters are those of a network of blocks on features of this width.

    Raises:
      ValueError: names the part that does not fit.
    """
    if not isinstance(params, BlocksParams):
        found = type(params).__name__
        raise ValueError(f"params: expected BlocksParams, got {found}")
    blocks = params.blocks
    if not isinstance(blocks, tuple | list) or len(blocks) != config.depth:
        found = len(blocks) if isinstance(blocks, tuple | list) else type(blocks).__name__
        raise ValueError(f"params.blocks: expected {config.depth} blocks, got {found}")
    shapes = _linear_shapes(config, num_features)
    check_linear("params.input", params.input, *shapes["input"])
    for depth, block in enumerate(blocks):
        field = f"params.blocks[{depth}]"
        if not isinstance(block, BlockParams):
            raise ValueError(f"{field}: expected BlockParams, got {type(block).__name__}")
        check_norm(f"{field}.norm", block.norm, config.norm, config.width)
        check_params_of(config.layer, block.attention, config.width)
        check_linear(f"{field}.hidden", block.hidden, *shapes["hidden"])
        check_linear(f"{field}.output", block.output, *shapes["block_output"])
    check_norm("params.norm", params.norm, config.norm, config.width)
    check_linear("params.output", params.output, *shapes["output"])


# --- the network ----------------------------------------------------------------------------------


def trace_blocks(
    params: BlocksParams,
    graph: jraph.GraphsTuple,
    config: BlocksConfig,
    *,
    settings: LayerSettings = LayerSettings(),
    key: DropoutKey = None,
    edge_mask: EdgeMask | None = None,
    edge_weight: EdgeWeight | None = None,
    node_mask: NodeMask | None = None,
    layout: Layout | None = None,
) -> tuple[Float[Array, "nodes outputs"], tuple[LayerTrace, ...]]:
    """Apply a network of blocks; return its outputs and what each attention layer saw.

    Args:
      params: of the network.
      graph: nodes [N, F] floating, or `SparseFeatures`; every block sees the same edges.
      config: of the network; static.
      settings: slope, temperature and attention dropout are those of every layer. The rate
        `feature_dropout` is that of the blocks: after the input projection and twice in each
        feed-forward, and neither on the features themselves nor on the inputs of attention.
      key: given in training, where the settings' dropout rates apply.
      edge_mask: [E], True = real, as in `gat`.
      edge_weight: [E], the same in every layer, as in `gat`.
      node_mask: [N], True = real: the nodes that count in the statistics of a "batch" norm, which
        has to be told of padding. Rows of padding are computed and mean nothing.
      layout: of the edges, as in `gat`.

    Returns:
      Logits [N, num_classes] in the dtype of features and parameters, accumulated in float32 or
      wider, and a `LayerTrace` for each block.

    Raises:
      ValueError: when parameters, graph, masks and layout do not fit, or as `gat`.
    """
    features = layouts.one_set_of(graph, "in a network of blocks")
    if features.ndim != 2:
        raise ValueError(f"nodes: expected shape [N, F], got {features.shape}")
    check_features("nodes", features, features.shape[1])
    check_blocks_params(params, config, features.shape[1])
    check_settings(settings)
    if key is not None:
        check_key(key)
    check_node_mask(node_mask, len(features))
    rate = settings.feature_dropout
    of_layers = settings._replace(feature_dropout=0.0)

    ends = _stream(key, 0)
    x = features if isinstance(features, SparseFeatures) else to_jax(features)
    x = jax.nn.gelu(drop_features(ends, 0, rate, linear(params.input, x)), approximate=False)
    traces = []
    for depth, block in enumerate(params.blocks):
        block_key = _stream(key, 1 + depth)
        y = apply_norm(block.norm, x, config.norm, node_mask=node_mask)
        message, info = kind_of(block.attention, config.layer).apply(
            block.attention,
            graph._replace(nodes=y),
            config=config.layer,
            settings=of_layers,
            key=_stream(block_key, 0),
            edge_mask=edge_mask,
            edge_weight=edge_weight,
            layout=layout,
        )
        traces.append(LayerTrace(info, y, message))
        z = jnp.concatenate([y, message], axis=1) if config.sep else message
        x = x + _feed_forward(block, z, _stream(block_key, 1), rate)
    x = apply_norm(params.norm, x, config.norm, node_mask=node_mask)
    logits = linear(params.output, x)
    dtype = jnp.promote_types(features.dtype, params.output.kernel.dtype)
    if not jnp.issubdtype(dtype, jnp.floating):
        dtype = jnp.float32
    return logits.astype(dtype), tuple(traces)


def _feed_forward(block: BlockParams, y: Array, key: DropoutKey, rate: Scalar) -> Array:
    hidden = jax.nn.gelu(drop_features(key, 0, rate, linear(block.hidden, y)), approximate=False)
    return drop_features(key, 1, rate, linear(block.output, hidden))


def _stream(key: DropoutKey, number: int) -> DropoutKey:
    return None if key is None else jax.random.fold_in(key, number)
