"""Models as modules of Flax, Linen or NNX, made of our layers or jraphx's: what each layer saw.

The model's own forward runs once, in evaluation. Each attention layer that it calls is recorded
with the inputs that it was given, so that what lies between the layers need not be understood.

Not read: other layers for Flax, and `jraph.GAT` with its drop-in `layers.jraph_gat`, whose
parameters stand in functions of the user.
"""

import threading
from collections.abc import Callable
from typing import Any

import jax
import jax.core
import jraph
import numpy as np
from jaxtyping import Float

from gat_jax import graphs
from gat_jax.diagnosis.models import jraphx_layers
from gat_jax.diagnosis.models.calls import Ends, ends_of_ids
from gat_jax.diagnosis.models.networks import (
    Call,
    num_real_of,
    observe_layers,
    observed_call,
    real_part,
)
from gat_jax.diagnosis.models.observed import ObservedLayer, ObservedModel, numbered
from gat_jax.runtime.arrays import check_features, check_graph, check_range, shown

_PATCHING = threading.RLock()  # one call at a time replaces the methods of the NNX modules
_METHOD = "__call__"
UNSEEN = (
    "parameters of functions, such as those of jraph.GAT and of its drop-in layers.jraph_gat, "
    "cannot be seen: write them with a layer of gat_jax.layers"
)


def observe_flax(
    module: Any, variables: Any, graph: Any = None, *args: Any, **kwargs: Any
) -> ObservedModel:
    """Run a module of Flax in evaluation, and return what each attention layer in it saw.

    Args:
      module: of Linen or NNX; itself, or somewhere in it, a layer or network of
        `layers.flax_linen` or `layers.flax_nnx`, or a GATConv, GATv2Conv or GCNConv of jraphx.
      variables: of Linen, as `module.init` returns them. None for NNX, whose modules hold theirs.
      graph: what the module is called with first: a `jraph.GraphsTuple`, whose padding is left out
        of what is returned, or features [N, F] before an `edge_index` [2, E], which says who sends
        and who receives. It has a default for the sake of the error alone.
      *args: further arguments of the call: in Linen those of evaluation. A module of NNX is
        copied, and the copy is in evaluation.
      **kwargs: likewise.

    Returns:
      The layers in the order of their calls, called as the module calls its parts, with dots. Of a
      layer that is called more than once the calls are `name#1`, `name#2`.

    Raises:
      ValueError: if there is no graph or no such layer, one is in training, has a forward of its
        own, or is called inside of a transformation such as `jit`; as `graphs.validate`; or as the
        layers.
    """
    from flax import linen, nnx  # here, as the import takes long

    arguments = (graph, *args)
    graph, ends = _graph_of(*arguments, **kwargs)
    num_real = num_real_of(graph)
    recorder = _Recorder(len(graph.nodes), num_real, ends)
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
            f"module: expected one of Flax Linen or NNX, got {type(module).__name__}; {UNSEEN}"
        )
    if not recorder.layers:
        raise ValueError(f"module: expected {recorder.what_is_missing()}")
    if recorder.features is not None and ends is not None:
        graph = graphs.from_edges(*ends, nodes=graph.nodes, edges=recorder.features)
    given = real_part(Call(graph), num_real).graph
    outputs = _matrix_of(result, len(graph.nodes), num_real)
    return ObservedModel(given, numbered(recorder.layers), outputs, notes)


def _graph_of(
    first: Any, *args: Any, edge_index: Any = None, **_: Any
) -> tuple[jraph.GraphsTuple, Ends | None]:
    """Return the graph that a module is called with; and its edges, if these were given apart.

    Raises:
      ValueError: if there is none, or as `graphs.validate`.
    """
    if edge_index is None and args:
        edge_index = args[0]
    wanted = "a jraph.GraphsTuple, or features before an edge_index [2, E]"
    if first is None:
        raise ValueError(f"graph: expected {wanted}, as the third argument and not by name")
    if hasattr(first, "nodes"):
        check_graph(first)
        graphs.validate(first)
        return first, None
    if edge_index is None:
        raise ValueError(f"graph: expected {wanted}, got {type(first).__name__} alone")
    nodes, ends = check_features("x", first), ends_of_ids(edge_index)
    check_range("edge_index", np.stack(ends), len(nodes), "ids")
    return graphs.from_edges(*ends, nodes=nodes), ends


class _Recorder:
    """Collects the calls of one run of a model, in their order."""

    def __init__(self, num_given: int, num_real: int, ends: Ends | None):
        self.num_given, self.num_real, self.ends = num_given, num_real, ends
        self.layers: list[ObservedLayer] = []
        self.others: set[str] = set()  # classes of modules that are none of ours
        self.transformed: set[str] = set()  # classes of layers that a transformation has called
        self.not_called: list[str] = []  # names of layers
        # [E, D] of the edges that were given, as the first layer of jraphx reads them that does.
        self.features: Float[np.ndarray, "edges features"] | None = None

    def check(self, name: str, params: Any, call: Call) -> None:
        """Refuse a call of which nothing can be recorded, before it runs."""
        if call.is_training:
            raise ValueError(
                f"{name}: expected is_training=False, as a model is read in evaluation, got True"
            )
        self.check_is_seen(name, (params, call.graph))

    def check_is_seen(self, name: str, values: Any) -> None:
        """Refuse a call inside of a transformation, before it runs."""
        if _is_traced(values):
            raise ValueError(
                f"{name}: expected a call with numbers, got one inside of a transformation such as "
                "jit, vmap or remat; call the module without it"
            )

    def what_is_missing(self) -> str:
        """Say what was expected and what came instead, where no layer was recorded."""
        if self.transformed:
            return (
                f"a call with numbers, got one of {', '.join(sorted(self.transformed))} inside of "
                "a transformation such as jit, vmap or remat; call the module without it"
            )
        if self.not_called:
            return (
                f"a call of {', '.join(map(shown, self.not_called))}, got none: the model does not "
                "call it, or inside of a transformation such as jit"
            )
        others = ", ".join(sorted(self.others)) or "none"
        return (
            "a call of a layer of gat_jax.layers or jraphx, outside of transformations such as "
            f"jit, got a model of {others}; {UNSEEN}"
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

    def record_jraphx(self, name: str, held: Any, given: dict[str, Any], result: Any) -> None:
        """Record a call of a layer of jraphx, given its arguments by name."""
        name = name or type(held).__name__
        call = jraphx_layers.observed_call(name, held, given, result, self.num_real)
        self.layers.append(call)
        if self.ends is None or self.features is not None:
            return
        reads = call.layer.config.num_edge_features > 0 or call.edge_weight is not None
        if reads and all(map(np.array_equal, ends_of_ids(given["edge_index"]), self.ends)):
            self.features = jraphx_layers.features_of(given)


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
    theirs = jraphx_layers.classes()
    copy = nnx.clone(module)  # random streams, statistics and flags of the user's stay untouched
    copy.eval()
    names, unread = _modules_of(copy, recorder)
    called = set()

    def run(forward: Callable, held: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
        """Call a layer, and record it."""
        name = names[id(held)]
        if isinstance(held, theirs.read):
            recorder.check_is_seen(name or type(held).__name__, (nnx.state(held), args, kwargs))
            result = forward(held, *args, **kwargs)
            given = jraphx_layers.arguments_of(forward, held, args, kwargs)
            recorder.record_jraphx(name, held, given, result)
            return result
        call, params = Call(*args, **kwargs), nnx.as_pure(held.params)
        recorder.check(name or type(held).__name__, params, call)
        result = forward(held, *args, **kwargs)
        recorder.record(name, held, params, call, result)
        return result

    def recording(forward: Callable) -> Callable:
        def call_and_record(held: Any, *args: Any, **kwargs: Any) -> Any:
            if id(held) not in names:  # another model's, or inside of a transformation
                if _is_traced((nnx.state(held), args, kwargs)):
                    recorder.transformed.add(type(held).__name__)
                return forward(held, *args, **kwargs)
            called.add(id(held))
            return run(forward, held, args, kwargs)

        return call_and_record

    # Python looks up the method of a call in the class, so that is where it is replaced.
    with _PATCHING:
        forwards = {cls: cls.__call__ for cls in (*ours, *theirs.read)}
        try:
            for cls, forward in forwards.items():
                setattr(cls, _METHOD, recording(forward))
            result = copy(*args, **kwargs)
        finally:
            for cls, forward in forwards.items():
                setattr(cls, _METHOD, forward)
    recorder.not_called = [name for key, name in names.items() if key not in called]
    notes = [
        f"{shown(name)} was not read: the model does not call it, or inside of a transformation."
        for name in recorder.not_called
    ]
    return result, (*notes, *unread)


def _is_traced(values: Any) -> bool:
    """Whether there is an array among some values that a transformation traces."""
    return any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves(values))


def _modules_of(module: Any, recorder: _Recorder) -> tuple[dict[int, str], list[str]]:
    """Return the names of the layers in a module of NNX that are read, by id, and notes."""
    from flax import nnx

    from gat_jax.layers import flax_nnx

    theirs = jraphx_layers.classes()
    names, notes = {}, []
    for path, held in nnx.iter_modules(module):
        name, kind = ".".join(map(str, path)), type(held).__name__
        if isinstance(held, flax_nnx.GraphLayer | flax_nnx.GraphNetwork):
            _check_forward(name, held, (flax_nnx.GraphLayer, flax_nnx.GraphNetwork))
            names[id(held)] = name
        elif isinstance(held, theirs.read):
            jraphx_layers.check_is_plain(name or kind, held)
            names[id(held)] = name
        else:
            recorder.others.add(kind)
            if isinstance(held, theirs.messages):
                notes.append(
                    f"{shown(name)} is a {kind}, which passes messages too; it is not diagnosed."
                )
    return names, notes


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
