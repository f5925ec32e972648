"""The systems that the benchmark of layers compares, each on the same problem: ours, and jraph's.

A system is made for one problem and holds its inputs on the device. PyG's are in `bench.layer.pyg`,
which is imported only where one of them is made.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jraph
import numpy as np

from bench.layer.cases import SLOPE, Pass, Problem
from gat_jax import layers
from gat_jax.kernels import layouts, sparse
from gat_jax.layers import GATParams, GATv2Params

OURS = "gat_jax"
SEGMENTS = "gat_jax, segments"
DENSE_FEATURES = "gat_jax, dense features"
PYG_EAGER = "PyG eager"
PYG_COMPILED = "PyG compiled"
JRAPH = "jraph.GAT"
LAYOUTS: dict[str, layouts.LayoutName] = {
    OURS: "auto",
    DENSE_FEATURES: "auto",
    SEGMENTS: "segment",
}


class System(NamedTuple):
    """One way to compute a layer."""

    run: Mapping[Pass, Callable[[], Any]]  # returns the results once they are there
    read: Callable[[Pass, Any], dict[str, np.ndarray]]  # results as `reference.expected`
    extras: Mapping[Pass, dict[str, float]]  # further numbers for the entry of a pass


def make_ours(problem: Problem, name: str, *, values: layouts.ValuesName | None = None) -> System:
    """Compile one of our systems; `values` is of its layout.

    Features that are data are held sparse but for the two systems which show what that gains.
    """
    nodes = problem.x
    if not problem.has_learned_x and name == OURS:
        nodes = sparse.from_dense(problem.x)
    graph = make_graph(problem)._replace(nodes=nodes)
    layout = layouts.make_layout(make_graph(problem), LAYOUTS[name], values=values)
    fields = GATParams if problem.layer.layer == "gat" else GATv2Params

    def forward(params, nodes, rest):
        graph, layout = rest
        graph = graph._replace(nodes=nodes)
        return layers.apply_layer(fields(**params), graph, layout=layout)[0]

    return _jax_system(problem, forward, nodes, (graph._replace(nodes=None), layout))


def make_jraph(problem: Problem) -> System:
    """Compile `jraph.GAT`, its functions as its documentation has them.

    Raises:
      NotImplementedError: where there is none, or none that could be waited for.
    """
    if problem.layer.layer != "gat":
        raise NotImplementedError("jraph has no GATv2")
    heads, channels = problem.layer.heads, problem.layer.channels
    if heads == 1 and len(problem.senders) > 1_000_000:
        # It sums over channels with one head as the last axis.
        raise NotImplementedError("left out: measured once on a CPU, a step took 40 s and 17 GiB")

    def forward(params, nodes, graph):
        def query(nodes):
            width = heads * channels
            kernel = params["kernel"].reshape(-1, width)
            z = jnp.dot(nodes, kernel, precision="highest")  # a GPU would round to TF32
            return z.reshape(-1, heads, channels)

        def logits(sent, received, _):
            terms = sent * params["a_send"][None] + received * params["a_recv"][None]
            return jax.nn.leaky_relu(jnp.sum(terms, axis=-1, keepdims=True), SLOPE)

        make: Any = vars(jraph)["GAT"]  # our stub of jraph leaves out what the package never calls
        network = make(query, logits, lambda nodes: nodes.reshape(len(nodes), -1))
        return network(graph._replace(nodes=nodes)).nodes

    return _jax_system(problem, forward, problem.x, make_graph(problem)._replace(nodes=None))


def make_graph(problem: Problem) -> jraph.GraphsTuple:
    """Return the problem's graph with its dense features."""
    # Its edges are sorted and sound already; checking millions of features takes a while.
    return jraph.GraphsTuple(
        nodes=problem.x,
        edges=None,
        senders=problem.senders,
        receivers=problem.receivers,
        globals=None,
        n_node=np.array([len(problem.x)], np.int32),
        n_edge=np.array([len(problem.senders)], np.int32),
    )


def _jax_system(problem: Problem, forward: Callable, nodes, rest) -> System:
    """Compile forward(params, nodes, rest), and its inner product with G and the gradient of that.

    The product is asked for as well as its gradient: without it XLA would leave out of the forward
    pass whatever the gradient can do without, which no training could.
    """
    wanted = (0, 1) if problem.has_learned_x else (0,)

    def loss(params, nodes, rest, cotangent):
        return jnp.sum(forward(params, nodes, rest) * cotangent)

    inputs = jax.device_put((problem.params, nodes, rest))
    cotangent = jax.device_put(problem.cotangent)
    programs: dict[Pass, Program] = {
        "forward": compile_program(forward, inputs),
        "forward+backward": compile_program(jax.value_and_grad(loss, wanted), (*inputs, cotangent)),
    }

    def read(of: Pass, result) -> dict[str, np.ndarray]:
        if of == "forward":
            return {"outputs": np.asarray(result)}
        grads = jax.tree.map(np.asarray, result[1])
        return grads[0] | ({"x": grads[1]} if problem.has_learned_x else {})

    return System(
        {of: program.run for of, program in programs.items()},
        read,
        {of: program.numbers for of, program in programs.items()},
    )


class Program(NamedTuple):
    """A compiled function of given arguments."""

    run: Callable[[], Any]  # returns the results once they are there
    numbers: dict[str, float]


def compile_program(function: Callable, arguments: tuple) -> Program:
    """Compile a function for its arguments; returns also what that took, and plans to take."""
    start = time.perf_counter()
    program = jax.jit(function).lower(*arguments).compile()
    seconds = time.perf_counter() - start
    memory: Any = program.memory_analysis()
    numbers = {"compile_seconds": seconds, "temporary_mib": memory.temp_size_in_bytes / 2**20}
    numbers["output_mib"] = memory.output_size_in_bytes / 2**20
    return Program(lambda: jax.block_until_ready(program(*arguments)), numbers)
