"""What every kind of layer does around its own attention: checks, dropout, merging of heads.

The checks themselves are in `checks`.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jraph
import numpy as np
from jaxtyping import Array, Float

from gat_jax.kernels import Layout, Scalar, SparseFeatures, layouts, projections
from gat_jax.layers import checks
from gat_jax.layers.base import (
    DropoutKey,
    EdgeMask,
    EdgeWeight,
    LayerSettings,
    LayerShape,
    ParamSpec,
)
from gat_jax.runtime.arrays import check_graph
from gat_jax.runtime.jax_arrays import to_jax
from gat_jax.runtime.threefry import draw_words


class Inputs(NamedTuple):
    """Checked inputs of a layer."""

    config: LayerShape
    # Features [M, F] and [N, F'] in the dtype of accumulation, after dropout; or SparseFeatures.
    # Where the nodes that send are those that receive, this is one object twice.
    senders: Any
    receivers: Any
    dtype: Any  # of the outputs
    layout: Layout


def prepare(
    name: str,
    params_type: type,
    specs: Callable[[LayerShape, int], dict[str, ParamSpec]],
    params: Any,
    graph: jraph.GraphsTuple,
    *,
    config: LayerShape | None,
    settings: LayerSettings,
    key: DropoutKey,
    edge_mask: EdgeMask | None,
    edge_weight: EdgeWeight | None,
    layout: Layout | None,
) -> Inputs:
    """Check that everything fits, and drop features out.

    Args:
      name: of the kind of layer, as a config has it.
      params_type: of its parameters; their first field is the kernel that projects senders.
      specs: of the kind of layer.
      params: of the layer.
      graph: as `gat` has it; likewise the others.
      config: None: as the parameters show, heads concatenated.
      settings: rates of dropout.
      key: None applies no dropout.
      edge_mask: [E].
      edge_weight: [E].
      layout: None: the edge list.

    Raises:
      ValueError: when parameters, graph and layout do not fit, or what is not traced is out of its
        range.
    """
    if not isinstance(params, params_type):
        kind, found = params_type.__name__, type(params).__name__
        raise ValueError(f"params: expected {kind}, as init_layer draws them, got {found}")
    if config is not None:
        checks.check_config(config, name)
    checks.check_settings(settings)
    if key is not None:
        checks.check_key(key)
    check_graph(graph)
    kernel = params[0]
    checks.check_kernels(params)
    known = shape_of(params) if config is None else config
    checks.check_params(params, specs(known, kernel.shape[0]), is_complete=config is not None)
    for setting in ("slope", "temperature", "attention_dropout"):
        checks.check_by_head(setting, getattr(settings, setting), known.heads)
    # The edges themselves first: all that belongs to them is compared with their number.
    if layout is None:
        layout = layouts.segment_layout(graph)
    else:
        layouts.check_layout(layout, graph)
    num_edges = len(graph.receivers)
    checks.check_edges(graph, known)
    checks.check_edge_mask(edge_mask, num_edges)
    checks.check_edge_weight(edge_weight, num_edges)
    sides = _sides(graph, kernel.shape[0], known.num_receiver_features)
    dtype = functools.reduce(jnp.promote_types, (x.dtype for x in sides), kernel.dtype)
    wide, rate = jnp.promote_types(dtype, jnp.float32), settings.feature_dropout
    streams = SENDERS, RECEIVERS
    dropped = [
        drop_features(key, stream, rate, x.astype(wide))
        for stream, x in zip(streams, sides, strict=False)
    ]
    return Inputs(known, dropped[0], dropped[-1], dtype, layout)


def shape_of(params: Any) -> LayerShape:
    """Return the shape that parameters show: heads are taken to be concatenated."""
    fields, kernel = params._asdict(), params[0]
    edge_kernel, kernel_recv = fields.get("edge_kernel"), fields.get("kernel_recv")
    return LayerShape(
        heads=kernel.shape[1],
        channels=kernel.shape[2],
        use_bias=any(fields[name] is not None for name in fields if name.startswith("bias")),
        use_output_bias=fields["output_bias"] is not None,
        use_residual=fields["residual_kernel"] is not None,
        share_weights="kernel_recv" in fields and kernel_recv is None,
        num_receiver_features=0 if kernel_recv is None else kernel_recv.shape[0],
        num_edge_features=0 if edge_kernel is None else edge_kernel.shape[0],
    )


def _sides(graph: jraph.GraphsTuple, num_features: int, num_receiver_features: int) -> list[Any]:
    """Return the features of the nodes, or of senders and of receivers where these are two sets."""
    sides = layouts.sides_of(graph)
    if len(sides) == 2:
        senders, receivers = sides
        return [
            _features("nodes of senders", senders, num_features),
            _features("nodes of receivers", receivers, num_receiver_features or num_features),
        ]
    if num_receiver_features not in (0, num_features):
        raise ValueError(
            "nodes: expected a pair, senders' and receivers' features, as the layer has "
            f"num_receiver_features={num_receiver_features}, got one array"
        )
    return [_features("nodes", sides[0], num_features)]


def _features(name: str, features: Any, num_features: int) -> Any:
    """Return features [N, num_features] as JAX has them."""
    checks.check_features(name, features, num_features)
    return features if isinstance(features, SparseFeatures) else to_jax(features)


# --- dropout ------------------------------------------------------------------------------------


# A layer's numbered streams of randomness.
SENDERS, ATTENTION, RECEIVERS = 0, 1, 2


def drop_features(key: DropoutKey, stream: int, rate: Scalar, x: Any) -> Any:
    """Return dropped-out features, of sparse ones the non-zeros; all without a key."""
    if _is_without_dropout(key, rate):
        return x
    if isinstance(x, SparseFeatures):
        return dataclasses.replace(x, values=_drop(key, stream, rate, jnp.asarray(x.values)))
    return _drop(key, stream, rate, x)


def edge_multiplier(
    key: DropoutKey,
    rate: Scalar,
    edge_weight: EdgeWeight | None,
    like: Float[Array, "edges heads"],
) -> Float[Array, "edges heads"] | None:
    """Return what attention is multiplied by, None for ones.

    That is the edge's weight, times what dropout gives where there is a key: 0, or 1 / (1 - rate).
    """
    multiplier = None
    if edge_weight is not None:
        weight_e = to_jax(edge_weight).astype(like.dtype)
        multiplier = jnp.broadcast_to(weight_e[:, None], like.shape)
    if not _is_without_dropout(key, rate):
        multiplier = jnp.ones_like(like) if multiplier is None else multiplier
        multiplier = _drop(key, ATTENTION, rate, multiplier)
    return multiplier


def _is_without_dropout(key: DropoutKey, rate: Scalar) -> bool:
    return key is None or (isinstance(rate, (int, float)) and rate == 0)


def _drop(key, stream: int, rate: Scalar, values: Array) -> Array:
    """Inverted dropout with one of the layer's streams.

    A value is kept where its word is at least 2^32 times the rate, in float32 whatever the rate's
    dtype.
    """
    cipher_key = jax.random.bits(jax.random.fold_in(key, stream), (2,), jnp.uint32)
    words = draw_words(cipher_key, (values.size,)).reshape(values.shape)
    below_one = jnp.minimum(jnp.asarray(rate, jnp.float32), np.float32(1 - 2**-24))
    is_dropped = words < jnp.uint32(below_one * 2.0**32)
    return jnp.where(is_dropped, 0.0, values / (1.0 - rate))


# --- outputs ------------------------------------------------------------------------------------


def side_by_side(
    outputs: Float[Array, "nodes heads channels"],
) -> Float[Array, "nodes outputs"]:
    """Return the heads' outputs one after the other."""
    num_nodes, heads, channels = outputs.shape  # a graph without nodes has no size to infer
    return outputs.reshape(num_nodes, heads * channels)


def merge(
    outputs: Float[Array, "nodes heads channels"], params: Any, inputs: Inputs
) -> Float[Array, "nodes outputs"]:
    """Merge the heads, add residual path and bias; in the dtype that the inputs ask for."""
    merged = side_by_side(outputs) if inputs.config.concat else jnp.mean(outputs, axis=1)
    if params.residual_kernel is not None:
        residual = params.residual_kernel[:, None, :]
        merged += projections.project(inputs.receivers, residual, None)[:, :, 0]
    if params.output_bias is not None:
        merged += params.output_bias[None]
    return merged.astype(inputs.dtype)
