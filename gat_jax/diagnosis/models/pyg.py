"""Live models of PyTorch Geometric: what each attention layer in them saw on one graph.

The model's own forward runs in evaluation, and a forward hook on every layer records what the layer
was given. So what lies between the layers (norms, activations, skips) need not be understood.
"""

import contextlib
import copy
import functools
from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Float

from gat_jax.diagnosis.models import pyg_reruns
from gat_jax.diagnosis.models.calls import KINDS, Ends
from gat_jax.diagnosis.models.observed import ObservedLayer, ObservedModel, numbered
from gat_jax.diagnosis.models.pyg_layers import (
    PyGLayer,
    arguments_of,
    array_of,
    edge_features_of,
    ends_of,
    is_against,
    kind_of_module,
    observed_call,
    pyg_layer,
)
from gat_jax.graphs import from_edges
from gat_jax.runtime.arrays import check_features, check_range

_CACHES = ("_cached_edge_index", "_cached_adj_t")  # of a GCNConv with cached=True


def observe_pyg(
    model: Any,
    x: Any,
    edge_index: Any = None,
    *,
    forward_args: tuple | None = None,
    is_run_twice: bool = True,
    **inputs: Any,
) -> ObservedModel:
    """Run a model in evaluation, and return what each of its attention layers saw.

    The model is called as `model(x, edge_index, **inputs)`; by default twice, the second time on
    copies of its inputs, and only to see whether it computes the same numbers. The layers are those
    of the first run.

    Training flags, buffers such as running means, caches of a GCNConv and the state of torch's
    random numbers are afterwards what they were. What the model keeps elsewhere, as in a list of
    its own, stays there, from both runs; and so does what it changes in `x` and `inputs`.

    Args:
      model: a `torch.nn.Module` with GATConv, GATv2Conv or GCNConv layers, or itself one of them.
      x: [N, F] features, or a `Data` of PyTorch Geometric, which the model is called with then.
      edge_index: [2, E] node ids, of senders and of receivers; None beside a `Data`.
      forward_args: what the model is called with in place of `x` and `edge_index`, which still say
        what its graph is.
      is_run_twice: whether there is a second run. Then a note says if the model computed different
        numbers in it, or could not be run again.
      **inputs: of the model's forward, such as `edge_attr`.

    Returns:
      The layers in the order of their calls, by their dotted names in the model; of one that is
      called several times the calls are `name#1`, `name#2`.

    Raises:
      ValueError: if there is no such layer or none was called, or for what is not diagnosed: models
        for several kinds of nodes, compiled ones, layers with a forward of their own, sparse
        matrices in place of an `edge_index`, layers on other nodes; or for numbers that are not
        finite and ids out of range. What the model itself raises passes.
    """
    _check_model(model)
    layers = {name: pyg_layer(name, module) for name, module in _attention_layers(model)}
    nodes, ends, arguments = _arguments(x, edge_index)
    given = from_edges(*ends, nodes=nodes)
    recorder = _Recorder(layers, len(nodes), ends)
    arguments = arguments if forward_args is None else forward_args
    again, inputs_again = pyg_reruns.copied((arguments, inputs)) if is_run_twice else ((), {})
    doubt = None
    with _evaluation(model) as buffers:
        with recorder.hooks():
            result = model(*arguments, **inputs)
        outputs = _outputs(result, len(nodes))
        if is_run_twice:
            seen = [call.outputs for call in recorder.calls if call.outputs is not None]
            seen += pyg_reruns.numbers_of(result)  # before the buffers, which may be among it
            buffers.restore()
            doubt = pyg_reruns.note_on(
                seen,
                lambda: model(*again, **inputs_again),
                [layer.module for layer in layers.values()],
            )
    if not recorder.calls:
        raise ValueError(f"model: expected to call {', '.join(layers)}, got no call of them")
    if all(is_against(layer) for layer in layers.values()):
        ends = ends[::-1]
    if recorder.features is not None or ends is not recorder.ends:
        given = from_edges(*ends, nodes=nodes, edges=recorder.features)
    notes = _notes(model, layers, recorder.calls)
    if doubt is not None:
        notes += (doubt,)
    return ObservedModel(given, numbered(recorder.calls), outputs, notes)


# --- what is given --------------------------------------------------------------------------------


def _check_model(model: Any) -> None:
    """Refuse what is no module of torch, or one in which hooks do not see all."""
    try:
        import torch
        import torch_geometric.nn
    except ImportError as error:
        raise ValueError(
            "model: expected the extra `interop` (pip install 'gat_jax[interop]'), got no "
            f"{error.name}"
        ) from error
    if not isinstance(model, torch.nn.Module):
        raise ValueError(f"model: expected a torch.nn.Module, got {type(model).__name__}")
    for name, module in model.named_modules():
        place = f"{type(module).__name__} at {name}" if name else type(module).__name__
        if isinstance(module, torch.jit.ScriptModule):
            raise ValueError(f"model: expected one that is not scripted or traced, got {place}")
        if hasattr(module, "_orig_mod") or getattr(module, "_compiled_call_impl", None):
            raise ValueError(f"model: expected one that is not compiled, got {place}")
        if isinstance(module, torch_geometric.nn.HeteroConv):
            raise ValueError(f"model: expected one for one kind of nodes, got {place}")
    for name, value in (*model.named_parameters(), *model.named_buffers()):
        if torch.nn.parameter.is_lazy(value):
            raise ValueError(
                f"model: expected weights, got none yet in {name}; call it once before"
            )


def _attention_layers(model: Any) -> list[tuple[str, Any]]:
    """Return the layers of a model that are diagnosed, with their names."""
    modules = [(name or type(module).__name__, module) for name, module in model.named_modules()]
    layers = [(name, module) for name, module in modules if kind_of_module(module)]
    if not layers:
        found = sorted({type(module).__name__ for _, module in modules})
        rest = f" and {len(found) - 8} others" if len(found) > 8 else ""
        raise ValueError(
            f"model: expected a layer among {', '.join(KINDS)}, got {', '.join(found[:8])}{rest}"
        )
    return layers


def _arguments(x: Any, edge_index: Any) -> tuple[np.ndarray, Ends, tuple]:
    """Return the features and edges of the model's graph, and what the model is called with."""
    import torch_geometric.data

    arguments = (x, edge_index)
    if isinstance(x, torch_geometric.data.HeteroData):
        raise ValueError("x: expected features of one kind of nodes, got HeteroData")
    if isinstance(x, torch_geometric.data.Data):
        if edge_index is not None:
            raise ValueError("edge_index: expected None beside a Data, got both")
        arguments = (copy.copy(x),)  # the model may put its own into it
        x, edge_index = x.x, x.edge_index
    nodes = array_of("x", x)
    nodes = nodes[:, None] if nodes.ndim == 1 else nodes  # one number each, such as a kind of atom
    nodes, ends = check_features("x", nodes), ends_of(edge_index)
    check_range("edge_index", np.stack(ends), len(nodes), "ids")
    return nodes, ends, arguments


# --- the run --------------------------------------------------------------------------------------


@contextlib.contextmanager
def _evaluation(model: Any) -> Iterator[pyg_reruns.Buffers]:
    """Have a model in evaluation, without gradients, and leave it and torch as they were.

    Yields:
      Its buffers as they were before.
    """
    import torch

    modules = list(model.modules())
    flags = [module.training for module in modules]
    caches = [
        (module, name, value)
        for module in modules
        for name in _CACHES
        if (value := getattr(module, name, None)) is not None
    ]
    buffers = pyg_reruns.Buffers(model)
    devices = {p.device for p in model.parameters() if p.device.type == "cuda"}
    try:
        for module in modules:
            module.training = False
            _drop_caches(module)
        with torch.random.fork_rng(devices=list(devices)), torch.no_grad():
            yield buffers
    finally:
        buffers.restore()
        for module, flag in zip(modules, flags, strict=True):
            module.training = flag
            _drop_caches(module)
        for module, name, value in caches:
            setattr(module, name, value)


def _drop_caches(module: Any) -> None:
    for name in _CACHES:
        if getattr(module, name, None) is not None:
            setattr(module, name, None)


class _Recorder:
    """What the layers of one run were given."""

    def __init__(self, layers: dict[str, PyGLayer], num_nodes: int, ends: Ends):
        self.layers, self.num_nodes, self.ends = layers, num_nodes, ends
        self.calls: list[ObservedLayer] = []
        # [E, D] of the model's edges, as the first layer reads them that reads any.
        self.features: Float[np.ndarray, "edges features"] | None = None

    @contextlib.contextmanager
    def hooks(self) -> Iterator[None]:
        """Record every call of a layer in the body."""
        handles = [
            layer.module.register_forward_hook(
                functools.partial(self._record, layer), with_kwargs=True
            )
            for layer in self.layers.values()
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _record(
        self, layer: PyGLayer, module: Any, args: tuple, kwargs: dict[str, Any], output: Any
    ) -> None:
        del module
        given = arguments_of(layer, args, kwargs)
        call = observed_call(layer, given, output, self.num_nodes)
        self.calls.append(call)
        reads = call.layer.config.num_edge_features > 0 or call.edge_weight is not None
        if self.features is None and reads:
            features, ends = edge_features_of(given), ends_of(given["edge_index"])
            if features is not None and all(map(np.array_equal, ends, self.ends)):
                self.features = features


# --- what is said of it ---------------------------------------------------------------------------


def _notes(model: Any, layers: dict[str, PyGLayer], calls: list[ObservedLayer]) -> tuple[str, ...]:
    from torch_geometric.nn import MessagePassing

    called = {call.layer.name for call in calls}
    notes = [
        f"{name} was not called: it is not diagnosed." for name in layers if name not in called
    ]
    notes += [
        f"{name} sends from edge_index[1] to edge_index[0], as its flow says."
        for name, layer in layers.items()
        if is_against(layer)
    ]
    notes += [
        f"{name} is a {type(module).__name__}, which passes messages too; it is not diagnosed."
        for name, module in model.named_modules()
        if isinstance(module, MessagePassing) and kind_of_module(module) is None
    ]
    return tuple(notes)


def _outputs(result: Any, num_nodes: int) -> Float[np.ndarray, "nodes outputs"] | None:
    """Return what a model returned, or first in a tuple, if it is a row of numbers a node."""
    import torch

    first = result[0] if isinstance(result, tuple | list) and result else result
    if not isinstance(first, torch.Tensor) or not first.is_floating_point():
        return None
    if first.ndim != 2 or len(first) != num_nodes:
        return None
    return check_features("outputs", array_of("outputs", first))
