"""What every kind of layer does around its own attention: checks, dropout, merging of heads."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.core
import jax.numpy as jnp
import jraph
import numpy as np
from jaxtyping import Array, Float

from gat_jax.kernels import Layout, Scalar, SparseFeatures, layouts, projections
from gat_jax.layers.base import (
    DropoutKey,
    EdgeMask,
    EdgeWeight,
    LayerSettings,
    LayerShape,
    ParamSpec,
)
from gat_jax.runtime.arrays import as_held

# --- checks -------------------------------------------------------------------------------------


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
    if (layer := getattr(config, "layer", name)) != name:
        raise ValueError(f"config: expected one of a {name} layer, got one of {layer}")
    check_settings(settings)
    kernel = params[0]
    if np.ndim(kernel) != 3:
        raise ValueError(f"{params._fields[0]}: expected shape [F, H, C], got {np.shape(kernel)}")
    known = shape_of(params) if config is None else config
    _check_params(params, specs(known, kernel.shape[0]), is_complete=config is not None)
    _check_edges(graph, known)
    _check_mask(edge_mask, graph)
    _check_weight(edge_weight, graph)
    if layout is None:
        layout = layouts.segment_layout(graph)
    else:
        layouts.check_fits(layout, graph)
    sides = _sides(graph, kernel.shape[0], known.num_receiver_features)
    dtype = functools.reduce(jnp.promote_types, (x.dtype for x in sides), kernel.dtype)
    wide, rate = jnp.promote_types(dtype, jnp.float32), settings.feature_dropout
    streams = SENDERS, RECEIVERS
    dropped = [
        drop_features(key, stream, rate, x.astype(wide))
        for stream, x in zip(streams, sides, strict=False)
    ]
    return Inputs(known, dropped[0], dropped[-1], dtype, layout)


def check_settings(settings: LayerSettings) -> None:
    """Check the numbers that are not traced: inside of `jit` nothing can be said of a value.

    Raises:
      ValueError: for a rate outside of [0, 1), a temperature that is not above 0, or a number that
        is not finite.
    """
    for name in ("feature_dropout", "attention_dropout"):
        check_number(name, getattr(settings, name), "in [0, 1)", lambda x: (x >= 0) & (x < 1))
    check_number("temperature", settings.temperature, "above 0", lambda x: x > 0)
    check_number("slope", settings.slope, "of any size", lambda x: x == x)


def check_number(
    name: str, value: Any, range_in_words: str, is_in_range: Callable[[np.ndarray], Any]
) -> None:
    """Check a number, or an array of numbers, unless it is traced.

    Args:
      name: what an error calls it.
      value: a number, an array of them, or what `jit` and `vmap` put in their place.
      range_in_words: goes on after "expected a finite number".
      is_in_range: elementwise.

    Raises:
      ValueError: if it is no number, not finite or not in the range.
    """
    if isinstance(value, jax.core.Tracer):
        return
    number = np.asarray(value)
    is_number = number.dtype.kind in "iuf" or number.dtype == jnp.bfloat16
    if is_number and np.all(np.isfinite(number) & is_in_range(number)):
        return
    raise ValueError(f"{name}: expected a finite number {range_in_words}, got {value!r}")


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


def _check_params(params: Any, specs: Mapping[str, ParamSpec], *, is_complete: bool) -> None:
    """Compare parameters with a layer's shapes; `is_complete`: none of them may be missing."""
    for name, array in params._asdict().items():
        expected = specs[name].shape if name in specs else None
        if array is None and (expected is None or not is_complete):
            continue
        found = None if array is None else np.shape(array)
        if found != expected:
            wanted = "none" if expected is None else f"shape {expected}"
            raise ValueError(f"{name}: expected {wanted}, got {found or 'none'}")
        _check_is_held(name, array)


def num_sent_features(graph: jraph.GraphsTuple) -> int:
    """Return F, the width of the features that senders have."""
    return layouts.sides_of(graph)[0].shape[1]


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
    if features.ndim != 2 or features.shape[1] != num_features:
        raise ValueError(f"{name}: expected shape [N, {num_features}], got {features.shape}")
    if isinstance(features, SparseFeatures):
        _check_is_held(name, features.values)
        return features
    _check_is_held(name, features)
    return jnp.asarray(features)


def _check_is_held(name: str, array: Any) -> None:
    """Refuse numbers that become others in the dtype that JAX computes in, unless they are traced.

    Outside of its 64-bit mode JAX makes float32 of float64 without a word: what is too large is
    infinite there, and whole numbers beyond 2^24 are merged with their neighbours.
    """
    if isinstance(array, jax.core.Tracer) or array.dtype in (bool, jnp.bfloat16):
        return
    if array.dtype.kind not in "iuf":
        raise ValueError(f"{name}: expected real numbers, got dtype {array.dtype}")
    dtype = jnp.promote_types(jax.dtypes.canonicalize_dtype(array.dtype), jnp.float32)
    if array.dtype.kind == "f" and array.dtype.itemsize <= dtype.itemsize:
        return
    numbers = np.asarray(array)
    if array.dtype.kind == "f":
        is_lost = np.isfinite(numbers) & ~np.isfinite(as_held(numbers))
    else:
        largest = 2 ** (jnp.finfo(dtype).nmant + 1)
        is_lost = (numbers > largest) | (numbers < -largest)
    if is_lost.any():
        raise ValueError(f"{name}: expected numbers that {dtype} holds, got {numbers[is_lost][0]}")


def _check_edges(graph: jraph.GraphsTuple, config: LayerShape) -> None:
    """Refuse edge features that do not fit, above all those that the layer would ignore."""
    wanted = config.num_edge_features
    found = None if graph.edges is None else getattr(graph.edges, "shape", type(graph.edges))
    if wanted == 0 and graph.edges is not None and found != (len(graph.senders), 0):
        raise ValueError(
            "edges: expected none, as the layer has no parameters for edge features "
            f"(num_edge_features=0), got {found}; graph._replace(edges=None) leaves them out"
        )
    if wanted and found != (len(graph.senders), wanted):
        raise ValueError(
            f"edges: expected shape [E, {wanted}] for {len(graph.senders)} edges, got {found}"
        )
    if wanted:
        _check_is_held("edges", graph.edges)


def _check_mask(edge_mask: EdgeMask | None, graph: jraph.GraphsTuple) -> None:
    if edge_mask is not None:
        _check_by_edge("edge_mask", edge_mask, graph)
        if edge_mask.dtype.kind != "b":
            raise ValueError(f"edge_mask: expected booleans, got {edge_mask.dtype}")


def _check_weight(edge_weight: EdgeWeight | None, graph: jraph.GraphsTuple) -> None:
    if edge_weight is not None:
        _check_by_edge("edge_weight", edge_weight, graph)
        _check_is_held("edge_weight", edge_weight)


def _check_by_edge(name: str, array: Any, graph: jraph.GraphsTuple) -> None:
    """Refuse what is no array with one entry for each edge."""
    expected = np.shape(graph.receivers)
    if not hasattr(array, "dtype") or array.shape != expected:
        found = getattr(array, "shape", type(array).__name__)
        raise ValueError(f"{name}: expected an array of shape {expected}, got {found}")


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
        weight_e = jnp.asarray(edge_weight).astype(like.dtype)
        multiplier = jnp.broadcast_to(weight_e[:, None], like.shape)
    if not _is_without_dropout(key, rate):
        multiplier = jnp.ones_like(like) if multiplier is None else multiplier
        multiplier = _drop(key, ATTENTION, rate, multiplier)
    return multiplier


def _is_without_dropout(key: DropoutKey, rate: Scalar) -> bool:
    return key is None or (isinstance(rate, (int, float)) and rate == 0)


def _drop(key, stream: int, rate: Scalar, values: Array) -> Array:
    """Inverted dropout with one of the layer's streams."""
    is_kept = jax.random.bernoulli(jax.random.fold_in(key, stream), 1.0 - rate, values.shape)
    return jnp.where(is_kept, values / (1.0 - rate), 0.0)


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
