"""Models as modules of Flax, Linen or NNX, that are made of our layers: what each layer saw.

The model's own forward runs once, in evaluation. Each attention layer that it calls is recorded
with the inputs that it was given, so that what lies between the layers need not be understood.

Not read: layers of other packages for Flax, and the function of `layers.jraph_gat`, whose
parameters stand in functions of the user.
"""

import threading
from collections.abc import Callable
from typing import Any

import jax
import jax.core
import jraph
import numpy as np

from gat_jax import graphs
from gat_jax.diagnosis.models.networks import (
    Call,
    num_real_of,
    observe_layers,
    observed_call,
    real_part,
)
from gat_jax.diagnosis.models.observed import ObservedLayer, ObservedModel, numbered
from gat_jax.runtime.arrays import shown

_PATCHING = threading.RLock()  # one call at a time replaces the methods of the NNX modules
_METHOD = "__call__"


def observe_flax(
    module: Any, variables: Any, graph: jraph.GraphsTuple, *args: Any, **kwargs: Any
) -> ObservedModel:
    """Run a module of Flax in evaluation, and return what each attention layer in it saw.

    Args:
      module: of Linen or NNX; itself, or somewhere in it, a layer or network of
        `layers.flax_linen` or `layers.flax_nnx`.
      variables: of Linen, as `module.init` returns them. None for NNX, whose modules hold theirs.
      graph: what the module is called with first; padding is left out of what is returned.
      *args: further arguments of the call: in Linen those of evaluation. A module of NNX is
        copied, and the copy is in evaluation.
      **kwargs: likewise.

    Returns:
      The layers in the order of their calls, called as the module calls its parts, with dots. Of a
      layer that is called more than once the calls are `name#1`, `name#2`.

    Raises:
      ValueError: if there is no such layer, one is in training, has a forward of its own, or is
        called inside of a transformation such as `jit`; as `graphs.validate`; or as the layers.
    """
    from flax import linen, nnx  # here, as the import takes long

    graphs.validate(graph)
    num_real = num_real_of(graph)
    recorder = _Recorder(len(graph.nodes), num_real)
    arguments = (graph, *args)
    if isinstance(module, linen.Module):
        if variables is None:
            raise ValueError("variables: expected those of a Linen module, got None")
        result = _run_linen(module, variables, arguments, kwargs, recorder)
        notes = ()
    elif isinstance(module, nnx.Module):
        if variables is not None:
            raise ValueError("variables: expected None, as a module of NNX holds its own")
        result, notes = _run_nnx(module, arguments, kwargs, recorder)
    else:
        raise ValueError(
            f"module: expected one of Flax Linen or NNX, got {type(module).__name__}; the "
            "parameters of a function, such as that of jraph's GAT, cannot be seen: write it with "
            "a layer of gat_jax.layers"
        )
    if not recorder.layers:
        others = ", ".join(sorted(recorder.others)) or "none"
        raise ValueError(
            "module: expected a call of a layer of gat_jax.layers, outside of transformations such "
            f"as jit, got a model of {others}"
        )
    given = real_part(Call(graph), num_real).graph
    outputs = _matrix_of(result, len(graph.nodes), num_real)
    return ObservedModel(given, numbered(recorder.layers), outputs, notes)


class _Recorder:
    """Collects the calls of one run of a model, in their order."""

    def __init__(self, num_given: int, num_real: int):
        self.num_given, self.num_real = num_given, num_real
        self.layers: list[ObservedLayer] = []
        self.others: set[str] = set()  # classes of modules that are none of ours

    def check(self, name: str, params: Any, call: Call) -> None:
        """Refuse a call of which nothing can be recorded, before it runs."""
        if call.is_training:
            raise ValueError(
                f"{name}: expected is_training=False, as a model is read in evaluation, got True"
            )
        if any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves((params, call.graph))):
            raise ValueError(
                f"{name}: expected a call with numbers, got one inside of a transformation such as "
                "jit, vmap or remat; call the module without it"
            )

    def record(self, name: str, held: Any, params: Any, call: Call, result: Any) -> None:
        """Record a call of a layer, or of the layers of a network.

        Args:
          name: of the module.
          held: the module, which has settings and one or several configurations.
          params: its parameters, as arrays.
          call: what it was called with.
          result: what it returned.
        """
        is_given = len(call.graph.nodes) == self.num_given
        real = real_part(call, self.num_real if is_given else None)
        configs = getattr(held, "configs", None)
        if configs is not None:
            prefix = f"{name}." if name else ""
            layers, _ = observe_layers(prefix, params, tuple(configs), real, held.settings)
            self.layers += layers
            return
        outputs = np.asarray(result[0])[: len(real.graph.nodes)]
        name = name or type(held).__name__
        inputs = real.graph.nodes
        self.layers.append(
            observed_call(name, params, held.config, held.settings, real, inputs, outputs)
        )


def _run_linen(
    module: Any, variables: Any, args: tuple, kwargs: dict[str, Any], recorder: _Recorder
) -> Any:
    """Apply a module of Linen; return what it returns."""
    from flax import linen

    from gat_jax.layers import flax_linen

    ours = flax_linen.GraphLayer, flax_linen.GraphNetwork

    def interceptor(call_next: Callable, args: tuple, kwargs: dict[str, Any], context: Any) -> Any:
        held = context.module
        if context.method_name != _METHOD or not isinstance(held, ours):
            recorder.others.add(type(held).__name__)
            return call_next(*args, **kwargs)
        name = ".".join(held.path)
        _check_forward(name, held, ours)
        kind = "layer" if isinstance(held, flax_linen.GraphLayer) else "layers"
        params = held.get_variable("params", kind)  # None: the call itself says so
        call = Call(*args, **kwargs)
        recorder.check(name or type(held).__name__, params, call)
        result = call_next(*args, **kwargs)
        recorder.record(name, held, params, call, result)
        return result

    with linen.intercept_methods(interceptor):
        return module.apply(variables, *args, **kwargs)


def _run_nnx(
    module: Any, args: tuple, kwargs: dict[str, Any], recorder: _Recorder
) -> tuple[Any, tuple[str, ...]]:
    """Call a copy of a module of NNX in evaluation; return what it returns, and notes."""
    from flax import nnx

    from gat_jax.layers import flax_nnx

    ours = flax_nnx.GraphLayer, flax_nnx.GraphNetwork
    copy = nnx.clone(module)  # random streams, statistics and flags of the user's stay untouched
    copy.eval()
    names = {}
    for path, held in nnx.iter_modules(copy):
        if isinstance(held, ours):
            names[id(held)] = ".".join(map(str, path))
            _check_forward(names[id(held)], held, ours)
        else:
            recorder.others.add(type(held).__name__)
    called = set()

    def recording(forward: Callable) -> Callable:
        def call_and_record(held: Any, *args: Any, **kwargs: Any) -> Any:
            if id(held) not in names:  # another model's, or inside of a transformation
                return forward(held, *args, **kwargs)
            name, call = names[id(held)], Call(*args, **kwargs)
            params = nnx.as_pure(held.params)
            recorder.check(name or type(held).__name__, params, call)
            result = forward(held, *args, **kwargs)
            called.add(id(held))
            recorder.record(name, held, params, call, result)
            return result

        return call_and_record

    # Python looks up the method of a call in the class, so that is where it is replaced.
    with _PATCHING:
        forwards = {cls: cls.__call__ for cls in ours}
        try:
            for cls, forward in forwards.items():
                setattr(cls, _METHOD, recording(forward))
            result = copy(*args, **kwargs)
        finally:
            for cls, forward in forwards.items():
                setattr(cls, _METHOD, forward)
    uncalled = [name for key, name in names.items() if key not in called]
    notes = tuple(
        f"{shown(name)} was not read: the model does not call it, or inside of a transformation."
        for name in uncalled
    )
    return result, notes


def _check_forward(name: str, held: Any, ours: tuple[type, ...]) -> None:
    """Refuse a subclass that computes something else than the layer whose parameters it has."""
    (base,) = (cls for cls in ours if isinstance(held, cls))
    if type(held).__call__ is not base.__call__:
        raise ValueError(
            f"{name or 'module'}: expected the forward of {base.__name__}, got one of its own in "
            f"{type(held).__name__}"
        )


def _matrix_of(result: Any, num_given: int, num_real: int) -> np.ndarray | None:
    """Return what a model returned for every node [N, C], if it is that: alone, or first."""
    if hasattr(result, "nodes"):  # a graph
        result = result.nodes
    elif isinstance(result, tuple | list) and result:
        result = result[0]
    if not isinstance(result, jax.Array | np.ndarray) or result.ndim != 2:
        return None
    return np.asarray(result)[:num_real] if len(result) == num_given else None
