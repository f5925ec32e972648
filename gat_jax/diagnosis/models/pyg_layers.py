"""One layer of PyTorch Geometric in a live model: what it is, and what one call of it saw.

The layer is read from its attributes and not from its state dict, so that parametrised weights
(`torch.nn.utils.parametrizations`) are what the layer computes with.
"""

import inspect
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float

from gat_jax.diagnosis.models.calls import (
    KINDS,
    TWO_SETS,
    Ends,
    attended,
    convolved,
    ends_of_ids,
    features_read,
    nodes_of_model,
    read_parameters,
)
from gat_jax.diagnosis.models.loops import REDUCTIONS, EdgeList, with_loops
from gat_jax.diagnosis.models.observed import ImportedLayer, LoopFeatures, ObservedLayer
from gat_jax.runtime.arrays import check_features, shown

# What decides the outputs of a layer; a subclass may have anything else of its own.
_METHODS = ("forward", "message", "edge_update", "aggregate", "update", "message_and_aggregate")
_KEYS = {
    *("lin.weight", "lin_src.weight", "lin_dst.weight", "att_src", "att_dst", "att", "bias"),
    *("lin_l.weight", "lin_l.bias", "lin_r.weight", "lin_r.bias", "res.weight"),
    *("lin_edge.weight", "att_edge"),
}


class PyGLayer(NamedTuple):
    """A layer of a live model."""

    imported: ImportedLayer
    module: Any
    kind: Literal["GATConv", "GATv2Conv", "GCNConv"]


def kind_of_module(module: Any) -> str | None:
    """Return which of `KINDS` a module of torch is, or is derived from; None for all others."""
    import torch_geometric.nn

    return next((k for k in KINDS if isinstance(module, getattr(torch_geometric.nn, k))), None)


# --- what a layer is ------------------------------------------------------------------------------


def pyg_layer(name: str, module: Any) -> PyGLayer:
    """Return a layer of one of `KINDS` with its weights in our terms.

    Args:
      name: its place in its model.
      module: a GATConv, GATv2Conv or GCNConv.

    Raises:
      ValueError: if it computes something else than these do, or weights are not finite.
    """
    kind: Any = kind_of_module(module)
    _check_is_plain(name, module, kind)
    found = {key: value for key in _KEYS if (value := _attribute(module, key)) is not None}
    arrays = {key: array_of(f"{name}.{key}", value) for key, value in found.items()}
    imported = read_parameters(name, module, arrays)._replace(
        system=f"PyG {kind}",
        replaces_self_loops=bool(module.add_self_loops),
        loop_features=_loop_features(name, module),
    )
    return PyGLayer(imported, module, kind)


def _attribute(module: Any, key: str) -> Any:
    for part in key.split("."):
        module = getattr(module, part, None)
    return module


def _check_is_plain(name: str, module: Any, kind: str) -> None:
    """Refuse a layer that computes something else than PyG's layers of this kind."""
    import torch_geometric.nn

    plain = getattr(torch_geometric.nn, kind)
    for method in _METHODS:
        if method in vars(module) or getattr(type(module), method) is not getattr(plain, method):
            raise ValueError(
                f"{name}: expected a {kind} as PyG has it, got {type(module).__name__} with "
                f"another {method}"
            )
    if module.aggr not in ("add", "sum"):
        raise ValueError(f"{name}: expected aggr='add', got {shown(module.aggr)}")
    if kind == "GCNConv" and not module.normalize:
        raise ValueError(f"{name}: expected normalize=True, got False")


def _loop_features(name: str, module: Any) -> LoopFeatures:
    value: Any = getattr(module, "fill_value", "mean")
    value = "add" if isinstance(value, str) and value == "sum" else value
    if isinstance(value, str):
        if value not in REDUCTIONS:
            wanted = ", ".join(REDUCTIONS)
            raise ValueError(f"{name}: expected fill_value among {wanted}, got {value!r}")
        return value  # pyright: ignore[reportReturnType]: it is one of the names
    is_tensor = hasattr(value, "detach")
    numbers = np.unique(array_of("fill_value", value) if is_tensor else value)
    if len(numbers) != 1:
        raise ValueError(f"{name}: expected one fill_value for all columns, got {len(numbers)}")
    return float(numbers[0])


# --- what a call saw ------------------------------------------------------------------------------


def arguments_of(layer: PyGLayer, args: tuple, kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of a layer's forward by name."""
    bound = inspect.signature(type(layer.module).forward).bind(layer.module, *args, **kwargs)
    return dict(bound.arguments)


def observed_call(
    layer: PyGLayer, given: dict[str, Any], output: Any, num_nodes: int
) -> ObservedLayer:
    """Return a call of a layer, as a forward hook sees it.

    Args:
      layer: that was called.
      given: the arguments of its forward by name.
      output: that it returned.
      num_nodes: of the model's graph, which this layer's has to have too.

    Raises:
      ValueError: if it was called with what cannot be diagnosed, or with numbers that are not
        finite. The layer's name stands before it.
    """
    try:
        nodes = _nodes(given["x"], num_nodes)
        ends = EdgeList(*ends_of(given["edge_index"]), edge_features_of(given))
        observed = _convolved if layer.kind == "GCNConv" else _attended
        call = observed(layer, nodes, ends)
        outputs = array_of("outputs", output[0] if isinstance(output, tuple) else output)
        return call._replace(outputs=check_features("outputs", outputs))
    except ValueError as error:
        raise ValueError(f"{layer.imported.name}: {error}") from error


def _nodes(x: Any, num_nodes: int) -> Float[np.ndarray, "nodes features"]:
    """Return the inputs of a layer, if they are of all nodes of the model, and of one set."""
    import torch

    if isinstance(x, tuple | list):
        sent, received = x
        if received is None or (received is not sent and not torch.equal(received, sent)):
            raise ValueError(TWO_SETS)
        x = sent
    return nodes_of_model(array_of("x", x), num_nodes)


def _attended(
    layer: PyGLayer, nodes: Float[np.ndarray, "nodes features"], ends: EdgeList
) -> ObservedLayer:
    """Return the call of a GATConv or GATv2Conv."""
    imported, features = features_read(layer.imported, ends.edges)
    ends = ends._replace(edges=features)
    if imported.replaces_self_loops:
        # The layer looks at `edge_index[1]` here, whatever its flow is.
        ends = with_loops(ends, len(nodes), imported.loop_features)
    return attended(imported, nodes, ends, is_against=is_against(layer))


def _convolved(
    layer: PyGLayer, nodes: Float[np.ndarray, "nodes features"], ends: EdgeList
) -> ObservedLayer:
    """Return the call of a GCNConv; of the loops that there are, those with a weight keep it."""
    loop_weight = None
    if layer.module.add_self_loops:
        # Without weights of edges `improved` has no effect in PyG.
        loop_weight = 1.0 if ends.edges is None or not layer.module.improved else 2.0
    return convolved(
        layer.imported, nodes, ends, loop_weight=loop_weight, is_against=is_against(layer)
    )


def is_against(layer: PyGLayer) -> bool:
    """Return whether a layer sends messages from `edge_index[1]` to `edge_index[0]`."""
    return layer.module.flow == "target_to_source"


# --- tensors --------------------------------------------------------------------------------------


def array_of(field: str, tensor: Any) -> np.ndarray:
    """Return a copy of a tensor as an array on the host; half precision becomes float32.

    Args:
      field: what an error calls it.
      tensor: of torch, on any device.

    Raises:
      ValueError: if it is no tensor.
    """
    import torch

    if not isinstance(tensor, torch.Tensor):
        raise ValueError(f"{field}: expected a tensor, got {type(tensor).__name__}")
    tensor = tensor.detach()
    if tensor.layout is not torch.strided:
        tensor = tensor.to_dense()
    if tensor.is_floating_point() and tensor.element_size() < 4:
        tensor = tensor.float()
    return np.array(tensor.cpu().resolve_conj().resolve_neg().numpy())


def ends_of(edge_index: Any) -> Ends:
    """Return the two rows of an `edge_index`.

    Raises:
      ValueError: if it is none, such as a sparse matrix.
    """
    import torch

    is_tensor = isinstance(edge_index, torch.Tensor)
    if not is_tensor or edge_index.layout is not torch.strided:
        layout = f" of {edge_index.layout}" if is_tensor else ""
        raise ValueError(
            f"edge_index: expected a tensor [2, E], got {type(edge_index).__name__}{layout}; "
            "torch_geometric.utils.to_edge_index makes one of the transposed sparse matrix"
        )
    return ends_of_ids(array_of("edge_index", edge_index))


def edge_features_of(given: dict[str, Any]) -> Float[np.ndarray, "edges features"] | None:
    """Return the edge features or weights among the arguments of a call, one row an edge."""
    name = "edge_weight" if "edge_weight" in given else "edge_attr"
    if given.get(name) is None:
        return None
    features = array_of(name, given[name])
    return features[:, None] if features.ndim == 1 else features
