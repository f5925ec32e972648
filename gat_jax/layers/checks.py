"""What layers refuse before they compute, each check in one place and named as users name it.

Of what is traced type, dtype and shape are known, and nothing else.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import jraph
import numpy as np

from gat_jax.kernels import SparseFeatures, layouts
from gat_jax.layers.base import IGNORED_BY, LayerSettings, LayerShape, ParamSpec
from gat_jax.runtime.arrays import FLOAT_DTYPES, as_held, check_held, shown
from gat_jax.runtime.jax_arrays import check_array

# --- numbers --------------------------------------------------------------------------------------


def check_settings(settings: LayerSettings, *, field: str = "settings") -> None:
    """Check the numbers that are not traced: inside of `jit` nothing can be said of a value.

    Args:
      settings: of a layer.
      field: what an error calls them as a whole.

    Raises:
      ValueError: for a rate outside of [0, 1), several rates for the features, which all heads
        share, a temperature that is not above 0, a number that is not finite, or what are no
        settings.
    """
    if not isinstance(settings, LayerSettings):
        kind = type(settings).__name__
        raise ValueError(f"{field}: expected LayerSettings, got {kind}")
    for name in ("feature_dropout", "attention_dropout"):
        check_number(name, getattr(settings, name), " in [0, 1)", lambda x: (x >= 0) & (x < 1))
    if shape := np.shape(settings.feature_dropout):
        raise ValueError(f"feature_dropout: expected one number, got shape {shape}")
    check_number("temperature", settings.temperature, " above 0", lambda x: x > 0)
    check_number("slope", settings.slope)


def check_number(
    name: str,
    value: Any,
    range_in_words: str = "",
    is_in_range: Callable[[np.ndarray], Any] = np.isfinite,
) -> None:
    """Check a number, or an array of numbers, as layers compute with it: in float32.

    Args:
      name: what an error calls it.
      value: a number, an array of them, or what `jit` and `vmap` put in their place.
      range_in_words: goes on after "expected a finite number", such as " above 0".
      is_in_range: elementwise.

    Raises:
      ValueError: if it is no number, not finite or not in the range; of a traced one only the
        first is known.
    """
    wanted = f"{name}: expected a finite number{range_in_words}"
    is_number = isinstance(value, int | float | np.generic | np.ndarray | jax.Array)
    if not is_number or isinstance(value, bool):
        raise ValueError(f"{wanted}, got {shown(value)} of type {type(value).__name__}")
    if isinstance(value, jax.core.Tracer):
        return
    number = np.asarray(value)
    if number.dtype.kind not in "iu" and str(number.dtype) not in FLOAT_DTYPES:
        raise ValueError(f"{wanted}, got {shown(value)} of dtype {number.dtype}")
    held = as_held(number)
    if np.all(np.isfinite(held) & is_in_range(held)):
        return
    # 1e-300 is above 0, and 0.99999999 below 1, but not where they are computed with.
    is_rounded = np.all(np.isfinite(number) & is_in_range(number))
    in_dtype = f" in {held.dtype}" if is_rounded else ""
    raise ValueError(f"{wanted}{in_dtype}, got {shown(number.tolist())}")


def check_by_head(name: str, value: Any, num_heads: int) -> None:
    """Check that something is one number, or has one for each head.

    Args:
      name: what an error calls it.
      value: a number or an array; it may be traced.
      num_heads: H.

    Raises:
      ValueError: names the shape.
    """
    if np.shape(value) not in ((), (num_heads,)):
        raise ValueError(
            f"{name}: expected a number, or one for each of {num_heads} heads, got shape "
            f"{np.shape(value)}"
        )


def check_key(key: Any, *, field: str = "key") -> None:
    """Check that something is one key for random numbers, of `jax.random.key` or older.

    Raises:
      ValueError: if it is not.
    """
    wanted = f"{field}: expected one key of jax.random.key, got"
    if not isinstance(key, np.ndarray | jax.Array):
        raise ValueError(f"{wanted} {type(key).__name__}")
    is_new = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    if not is_new and key.dtype != np.uint32:
        raise ValueError(f"{wanted} an array of {key.dtype}")
    if key.ndim != (0 if is_new else 1):
        raise ValueError(f"{wanted} an array of shape {key.shape}")


def check_is_held(name: str, array: Any) -> None:
    """Refuse what is no array of numbers, or one whose numbers become others in float32.

    Args:
      name: what an error calls the array.
      array: may be traced.

    Raises:
      ValueError: names type, dtype or the first such number.
    """
    check_array(name, array, "real numbers")
    if isinstance(array, jax.core.Tracer) or array.dtype.itemsize <= 2:
        return
    if array.dtype.kind == "f" and as_held(np.zeros(0, array.dtype)).dtype == array.dtype:
        return
    check_held(name, np.asarray(array))


# --- configurations and parameters ----------------------------------------------------------------


def check_config(config: Any, layer: str) -> None:
    """Check the configuration of a layer of some kind.

    Args:
      config: what a user gave.
      layer: the kind.

    Raises:
      ValueError: if it is no configuration, one of another kind of layer, or asks for something
        that this kind would ignore.
    """
    if not isinstance(config, LayerShape):
        kind = type(config).__name__
        raise ValueError(f"config: expected a LayerConfig, got {kind}")
    if (other := getattr(config, "layer", layer)) != layer:
        raise ValueError(f"config: expected one of a {layer} layer, got one of {other}")
    defaults = LayerShape()
    for option, kinds in IGNORED_BY.items():
        value = getattr(config, option)
        if layer in kinds and value != getattr(defaults, option):
            raise ValueError(
                f"{option}: expected {getattr(defaults, option)!r}, as {layer} does not have this "
                f"option, got {value!r}"
            )


def check_kernels(params: Any) -> None:
    """Check the kernels that show the shape of a layer: the first parameter, and some others.

    Raises:
      ValueError: names the first that is no array of three axes.
    """
    first = params._fields[0]
    others = (x for x in ("kernel_recv", "edge_kernel") if getattr(params, x, None) is not None)
    for name in (first, *others):
        kernel = getattr(params, name)
        check_array(name, kernel, "real numbers")
        if kernel.ndim != 3:
            raise ValueError(f"{name}: expected shape [F, H, C], got {kernel.shape}")


def check_params(params: Any, specs: Mapping[str, ParamSpec], *, is_complete: bool) -> None:
    """Compare parameters with a layer's shapes.

    Args:
      params: of a layer, a NamedTuple.
      specs: what the layer has.
      is_complete: whether none of them may be missing; if not, those without a default.

    Raises:
      ValueError: names the first that does not fit.
    """
    for name, array in params._asdict().items():
        expected = specs[name].shape if name in specs else None
        may_be_none = expected is None or not (is_complete or name not in params._field_defaults)
        if array is None and may_be_none:
            continue
        if array is not None:
            check_array(name, array, "real numbers")
        found = None if array is None else array.shape
        if found != expected:
            wanted = "none" if expected is None else f"shape {expected}"
            raise ValueError(f"{name}: expected {wanted}, got {found or 'none'}")
        check_is_held(name, array)


def check_part(
    field: str, params: Any, params_type: type, shapes: Mapping[str, tuple[int, ...]]
) -> None:
    """Check the parameters of a part of a network that is no layer: a linear map, or a norm.

    Args:
      field: what an error calls the part.
      params: of the part.
      params_type: a NamedTuple.
      shapes: of every parameter by name.

    Raises:
      ValueError: names the first that is of another type or shape.
    """
    if not isinstance(params, params_type):
        kind, found = params_type.__name__, type(params).__name__
        raise ValueError(f"{field}: expected {kind}, got {found}")
    for name, shape in shapes.items():
        array = getattr(params, name)
        check_array(f"{field}.{name}", array, "real numbers")
        if array.shape != shape:
            raise ValueError(f"{field}.{name}: expected shape {shape}, got {array.shape}")
        check_is_held(f"{field}.{name}", array)


# --- what belongs to a graph ----------------------------------------------------------------------


def num_sent_features(graph: jraph.GraphsTuple) -> int:
    """Return F, the width of the features that senders have.

    Raises:
      ValueError: if these are no matrix.
    """
    sent = layouts.sides_of(graph)[0]
    if sent.ndim != 2:
        raise ValueError(f"nodes: expected shape [N, F], got {sent.shape}")
    return sent.shape[1]


def check_features(name: str, features: Any, num_features: int) -> None:
    """Check features [N, num_features] of nodes, sparse or not.

    Raises:
      ValueError: names their shape, or as `check_is_held`.
    """
    if features.ndim != 2 or features.shape[1] != num_features:
        raise ValueError(f"{name}: expected shape [N, {num_features}], got {features.shape}")
    check_is_held(name, features.values if isinstance(features, SparseFeatures) else features)


def check_edges(graph: jraph.GraphsTuple, config: LayerShape) -> None:
    """Refuse edge features that do not fit, above all those that the layer would ignore.

    Raises:
      ValueError: names their shape, or as `check_is_held`.
    """
    wanted, edges = config.num_edge_features, graph.edges
    found = None if edges is None else getattr(edges, "shape", type(edges).__name__)
    if wanted == 0 and edges is not None and found != (len(graph.senders), 0):
        raise ValueError(
            "edges: expected none, as the layer has no parameters for edge features "
            f"(num_edge_features=0), got {found}; graph._replace(edges=None) leaves them out"
        )
    if wanted and found != (len(graph.senders), wanted):
        raise ValueError(
            f"edges: expected shape [E, {wanted}] for {len(graph.senders)} edges, got {found}"
        )
    if wanted:
        check_is_held("edges", edges)


def check_edge_mask(mask: Any, num_edges: int, *, field: str = "edge_mask") -> None:
    """Check a mask [E] of the edges, True = real; None stands for all of them.

    Raises:
      ValueError: unless it is an array of booleans of this length.
    """
    if mask is not None:
        check_array(field, mask, "booleans")
        _check_by_edge(field, mask, num_edges)


def check_edge_weight(weight: Any, num_edges: int) -> None:
    """Check weights [E] of the edges; None stands for ones.

    Raises:
      ValueError: unless they are an array of numbers of this length, which float32 holds.
    """
    if weight is not None:
        check_array("edge_weight", weight, "real numbers")
        _check_by_edge("edge_weight", weight, num_edges)
        check_is_held("edge_weight", weight)


def _check_by_edge(name: str, array: Any, num_edges: int) -> None:
    """Refuse an array that has not one entry for each edge."""
    if array.shape != (num_edges,):
        raise ValueError(f"{name}: expected an array of shape {(num_edges,)}, got {array.shape}")
