"""One layer of jraphx in a live module of Flax NNX: what it is, and what one call of it saw.

jraphx spells its layers as PyTorch Geometric does, so that their parameters are read in its form.
Its calls differ in the features of self-loops, and in `improved`.
"""

import inspect
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from gat_jax.diagnosis.models.calls import (
    KINDS,
    TWO_SETS,
    attended,
    convolved,
    ends_of_ids,
    features_read,
    nodes_of_model,
    read_parameters,
)
from gat_jax.diagnosis.models.loops import EdgeList, loop_features, without_loops
from gat_jax.diagnosis.models.observed import ImportedLayer, LoopFeatures, ObservedLayer
from gat_jax.runtime.arrays import as_array, check_features, shown

# What decides the outputs of a layer; a subclass may have anything else of its own.
_METHODS = ("__call__", "gcn_norm")
_HALVES = ("att_src", "att_dst", "att_edge", "att")
_MAPS = {
    **{name: name for name in ("lin", "lin_src", "lin_dst", "lin_l", "lin_r", "lin_edge", "res")},
    "linear": "lin",
}


class _Classes(NamedTuple):
    """The classes of jraphx, none where it has not been imported."""

    read: tuple[type, ...]  # those of `KINDS`
    messages: tuple[type, ...]  # of all layers that pass messages


def classes() -> _Classes:
    """Return the classes of jraphx; a model of its layers has imported it."""
    module: Any = sys.modules.get("jraphx.nn.conv")
    if module is None:
        return _Classes((), ())
    return _Classes(tuple(getattr(module, kind) for kind in KINDS), (module.MessagePassing,))


def check_is_plain(name: str, module: Any) -> None:
    """Refuse a layer that computes something else than jraphx's layers of its kind.

    Args:
      name: its place in its model.
      module: an instance of one of `classes().read`.

    Raises:
      ValueError: names what is different.
    """
    (plain,) = (cls for cls in classes().read if isinstance(module, cls))
    for method in _METHODS:
        if getattr(type(module), method, None) is not getattr(plain, method, None):
            raise ValueError(
                f"{name}: expected a {plain.__name__} as jraphx has it, got "
                f"{type(module).__name__} with another {method}"
            )
    for field, wanted in (("normalize", True), ("cached", False)):
        if getattr(module, field, wanted) != wanted:
            raise ValueError(f"{name}: expected {field}={wanted}, got {not wanted}")


def arguments_of(
    forward: Callable, module: Any, args: tuple, kwargs: dict[str, Any]
) -> dict[str, Any]:
    """Return the arguments of a layer's call by name, given its class's `__call__`."""
    return dict(inspect.signature(forward).bind(module, *args, **kwargs).arguments)


def features_of(given: dict[str, Any]) -> Float[np.ndarray, "edges features"] | None:
    """Return the edge features or weights among the arguments of a call, one row an edge."""
    name = "edge_weight" if "edge_weight" in given else "edge_attr"
    if given.get(name) is None:
        return None
    features = as_array(name, given[name])
    return check_features(name, features[:, None] if features.ndim == 1 else features)


def observed_call(
    name: str, module: Any, given: dict[str, Any], output: Any, num_nodes: int
) -> ObservedLayer:
    """Return a call of a layer, outside of transformations.

    Args:
      name: of the layer in its model.
      module: an instance of one of `classes().read`, in evaluation.
      given: the arguments of its call by name.
      output: that it returned.
      num_nodes: of the model's graph, which this layer's has to have too.

    Raises:
      ValueError: if it was called with what cannot be diagnosed, or numbers are not finite. The
        layer's name stands before it.
    """
    try:
        nodes = _nodes(module, given, num_nodes)
        ends = EdgeList(*ends_of_ids(given["edge_index"]), features_of(given))
        imported = _imported(name, module, is_pair=isinstance(given["x"], tuple))
        call = (_convolved if imported.config.layer == "gcn" else _attended)(
            imported, module, nodes, ends
        )
        outputs = output[0] if isinstance(output, tuple) else output
        return call._replace(outputs=check_features("outputs", outputs))
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def _nodes(
    module: Any, given: dict[str, Any], num_nodes: int
) -> Float[np.ndarray, "nodes features"]:
    """Return the inputs of a layer, if they are of all nodes of the model, and of one set."""
    x = given["x"]
    if isinstance(x, tuple):
        sent, received = x
        is_one_set = received is not None and (
            received is sent or np.array_equal(as_array("x", received), as_array("x", sent))
        )
        if not is_one_set:
            raise ValueError(TWO_SETS)
        x = sent
    sizes = {"size": given.get("size"), "static_num_nodes": vars(module).get("static_num_nodes")}
    for field, size in sizes.items():
        if size is not None and set(np.ravel(size).tolist()) != {num_nodes}:
            raise ValueError(f"{field}: expected None or {num_nodes} nodes, got {shown(size)}")
    return nodes_of_model(x, num_nodes)


def _imported(name: str, module: Any, *, is_pair: bool) -> ImportedLayer:
    """Return a layer in our terms; of a pair of inputs senders have a map of their own."""
    arrays = _arrays(module)
    if not is_pair and "lin_dst.weight" in arrays:  # then this map is the one of both ends
        del arrays["lin_src.weight"]
    (kind,) = (cls.__name__ for cls in classes().read if isinstance(module, cls))
    return read_parameters(name, module, arrays)._replace(
        system=f"jraphx {kind}",
        replaces_self_loops=bool(module._add_self_loops),
        loop_features=_loop_features(getattr(module, "fill_value", "mean")),
    )


def _arrays(module: Any) -> dict[str, np.ndarray]:
    """Return the parameters of a layer as PyTorch Geometric's of the same name holds them."""
    values = {key: _value(module, key) for key in (*_HALVES, "bias")}
    for theirs, key in _MAPS.items():
        linear = getattr(module, theirs, None)
        if linear is not None:
            values[f"{key}.weight"] = np.transpose(_value(linear, "kernel"))
            values[f"{key}.bias"] = _value(linear, "bias")
    found = {key: value for key, value in values.items() if value is not None}
    return {key: value[None] if key in _HALVES else value for key, value in found.items()}


def _value(module: Any, key: str) -> Any:
    """Return the numbers of a parameter, or None where a module has none."""
    parameter = getattr(module, key, None)
    return None if parameter is None else np.asarray(parameter[...])


def _loop_features(value: Any) -> LoopFeatures:
    value = "add" if isinstance(value, str) and value == "sum" else value
    return value if isinstance(value, str) else float(value)  # pyright: ignore[reportReturnType]


# --- what a call saw ------------------------------------------------------------------------------


def _attended(
    imported: ImportedLayer,
    module: Any,
    nodes: Float[np.ndarray, "nodes features"],
    ends: EdgeList,
) -> ObservedLayer:
    """Return the call of a GATConv or GATv2Conv."""
    imported, features = features_read(imported, ends.edges)
    ends = ends._replace(edges=features)
    if module._add_self_loops:
        senders, receivers, edges = without_loops(ends)
        loops = np.arange(len(nodes))
        if edges is not None and features is not None:
            # Other than in PyG, features of loops that are dropped count in those of the new ones.
            added = loop_features(features, ends.receivers, len(nodes), imported.loop_features)
            edges = np.concatenate([edges, added])
        ends = EdgeList(np.append(senders, loops), np.append(receivers, loops), edges)
    return attended(imported, nodes, ends)


def _convolved(
    imported: ImportedLayer,
    module: Any,
    nodes: Float[np.ndarray, "nodes features"],
    ends: EdgeList,
) -> ObservedLayer:
    """Return the call of a GCNConv; loops that there are keep their weights."""
    loop_weight = (2.0 if module.improved else 1.0) if module._add_self_loops else None
    return convolved(imported, nodes, ends, loop_weight=loop_weight)
