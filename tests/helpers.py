"""Builders shared by the tests: graphs with every oddity, random layers, the oracle on both."""

import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import jraph
import numpy as np
import oracle

from gat_jax import graphs
from gat_jax.layers import GATParams, GATv2Params, LayerConfig, LayerParams, LayerShape, init_layer

SLOPES = (-0.5, 0.0, 0.2, 1.0, 2.0)
# One small study for all that run the main job as a process: they share its compiled programs.
SMALL_STUDY = [
    *("--num-inits", "512", "--num-graph-inits", "16", "--num-data-inits", "16"),
    *("--num-runs", "2", "--num-steps", "1000", "--num-article-steps", "1000"),
]
TRITON = "__gpu$xla.gpu.triton"  # what a kernel of Triton is in a lowered program


@contextlib.contextmanager
def signals_of_the_foreground() -> Iterator[None]:
    """Have processes that are started in the body heed Ctrl-C.

    A shell that runs tests in the background has its children ignore it, and theirs. Where this
    process has a handler, its children begin with the default.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def messy_graph(
    seed: int, *, num_edge_features: int = 0, num_nodes: int = 8, num_edges: int = 16
) -> jraph.GraphsTuple:
    """A directed graph whose last node is isolated, with a self-loop and duplicate edges.

    One shape whatever the seed, so that everything compiles once. Features are float32 numbers.
    """
    rng = np.random.default_rng(seed)
    senders = rng.integers(num_nodes - 1, size=num_edges)
    receivers = rng.integers(num_nodes - 1, size=num_edges)
    edges = rng.normal(size=(num_edges, num_edge_features)).astype(np.float32)
    senders[0] = receivers[0]
    for array in (senders, receivers, edges):
        array[-3:] = array[:3]
    return graphs.from_edges(
        senders,
        receivers,
        nodes=rng.normal(size=(num_nodes, 3)).astype(np.float32),
        edges=edges if num_edge_features else None,
    )


def write_graph(path: Path, **changes: Any) -> None:
    """Write a graph's file: three nodes in a row, the last one without features and label.

    The features are [[1, 0], [0, 2], [0, 0]].

    Args:
      path: of the file.
      **changes: arrays in place of the graph's; None leaves one out.
    """
    arrays = {
        "num_nodes": np.int32(3),
        "feat_indptr": np.array([0, 1, 2, 2], np.int32),
        "feat_indices": np.array([0, 1], np.int32),
        "feat_data": np.array([1, 2], np.float32),
        "feat_shape": np.array([3, 2], np.int32),
        "labels": np.array([1, 0, 0], np.int32),
        "labelled": np.array([True, True, False]),
        "senders": np.array([0, 1, 1, 2], np.int32),
        "receivers": np.array([1, 0, 2, 1], np.int32),
    } | changes
    kept = {name: value for name, value in arrays.items() if value is not None}
    with path.open("wb") as file:  # a name without the suffix stays as it is
        np.savez(file, **kept)


def edge_rows(graph: jraph.GraphsTuple) -> np.ndarray:
    """One row (receiver, sender, features) for each edge, in the graph's order."""
    edges = np.zeros((len(graph.senders), 0)) if graph.edges is None else graph.edges
    return np.column_stack([graph.receivers, graph.senders, edges])


def random_params(
    seed: int,
    config: LayerConfig,
    num_features: int,
    *,
    dtype: Any = np.float32,
    scale: float = 1.0,
) -> Any:
    """Gaussian numbers, float32 numbers in any dtype, in every parameter that the layer has."""
    rng = np.random.default_rng(seed)
    key = jax.random.key(0)
    shapes = jax.eval_shape(lambda: init_layer(key, config, num_features))
    return jax.tree.map(
        lambda x: jnp.asarray((scale * rng.normal(size=x.shape)).astype(np.float32).astype(dtype)),
        shapes,
    )


def fields(params: LayerParams) -> dict[str, np.ndarray]:
    """The parameters that a layer has, in float64, by name."""
    return {
        name: np.asarray(value, np.float64)
        for name, value in params._asdict().items()
        if value is not None
    }


def oracle_layer(
    kind: type,
    p: dict[str, Any],
    graph: jraph.GraphsTuple,
    *,
    config: LayerShape | None = None,
    slope: float = 0.2,
    temperature: float = 1.0,
) -> dict[str, Any]:
    """The oracle's layer of this kind of parameters; "heads" before merging, "nodes" after."""
    x = np.asarray(graph.nodes)
    x = x.astype(np.result_type(x, np.float64))  # complex in the gradient of a network
    ids = np.asarray(graph.senders), np.asarray(graph.receivers)
    options = {"slope": slope, "temperature": temperature}
    edge_ehc = None
    if "edge_kernel" in p:
        edge_ehc = np.einsum("ed,dhc->ehc", np.asarray(graph.edges, np.float64), p["edge_kernel"])
    if kind is GATParams:
        edge_eh = None if edge_ehc is None else (edge_ehc * p["a_edge"]).sum(-1)
        layer = oracle.gat(
            x,
            *ids,
            *(p["kernel"], p["a_recv"], p["a_send"], p.get("bias")),
            edge_scores=edge_eh,
            **options,
        )
    elif kind is GATv2Params:
        left, bias = p["kernel_send"], p.get("bias_send")
        right, right_bias = p.get("kernel_recv", left), p.get("bias_recv")
        layer = oracle.gatv2(
            x,
            *ids,
            *(left, right, p["a"], bias, right_bias if "kernel_recv" in p else bias),
            edge_projection=edge_ehc,
            **options,
        )
    else:
        bias = p["bias"][0] if "bias" in p else None
        normalization = "mean" if config is None else config.gcn_normalization
        layer = oracle.gcn(x, *ids, p["kernel"][:, 0], bias, normalization=normalization)
        layer = {"out": layer["out"][:, None], "attention": layer["weights"][:, None]}
    heads = layer["out"]
    is_average = config is not None and not config.concat
    nodes = heads.mean(1) if is_average else heads.reshape(len(x), -1)
    nodes = nodes + (x @ p["residual_kernel"] if "residual_kernel" in p else 0.0)
    return {**layer, "heads": heads, "nodes": nodes + p.get("output_bias", 0.0)}


def brute_force_equal(values: Any, *, tolerance: float = 1e-9) -> np.ndarray:
    """The smallest id of an equal row, by comparing all pairs of rows."""
    values = np.asarray(values).reshape(len(values), -1)
    gap = np.abs(values[:, None] - values[None]).max(-1)
    return np.argmax(gap <= tolerance * max(1.0, np.abs(values).max()), axis=1)


def assert_close(actual: Any, expected: Any, relative: float) -> None:
    """Compare to a fraction of the largest expected number."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape
    assert np.abs(actual - expected).max() <= relative * np.abs(expected).max()


def assert_same_sums(actual: Any, expected: Any) -> None:
    """Compare sums over the edge list: to the last bit on a CPU, to rounding elsewhere.

    A GPU adds up what is scattered in no fixed order, so not even two runs are equal there.
    """
    if jax.default_backend() == "cpu":
        np.testing.assert_array_equal(actual, expected)
    else:
        assert_close(actual, expected, 1e-6)


def cuda_export(function, *args, **kwargs) -> str:
    """Lower a function for CUDA, with its Triton kernels, and return the program's text.

    No GPU is needed, but from JAX 0.11 on a kind of GPU to lower for.
    """
    device = jax.sharding.AbstractDevice("NVIDIA H100", None, "gpu")
    mesh = jax.sharding.AbstractMesh((), (), abstract_device=device)
    with jax.sharding.use_abstract_mesh(mesh):
        exported = jax.export.export(
            jax.jit(function),
            platforms=("cuda",),
            disabled_checks=[jax.export.DisabledSafetyCheck.custom_call(TRITON)],
        )(*args, **kwargs)
    return exported.mlir_module()


def from_torch(weight: Any, *shape: int) -> jax.Array:
    """A weight [out, in] of torch's as ours [in, *shape], or a vector as [*shape]."""
    array = weight.detach().double().numpy()
    return jnp.asarray((array.T if array.ndim == 2 else array).reshape(shape))
