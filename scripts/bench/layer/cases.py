"""What the benchmark of layers runs on: graphs, parameters, and the least bytes to move."""

import dataclasses
import json
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from gat_jax import graphs
from gat_jax.graphs import datasets
from gat_jax.layers import LayerConfig

Pass = Literal["forward", "forward+backward"]
PASSES: tuple[Pass, ...] = ("forward", "forward+backward")
SLOPE = 0.2
CORA = "Cora"
ARXIV = "arxiv-like"
HUBS = "hub-heavy"
NUM_FEATURES = 128

LAYERS = {
    "GAT 8x16": LayerConfig(heads=8, channels=16, use_bias=False),
    "GAT 1x128": LayerConfig(heads=1, channels=128, use_bias=False),
    "GATv2 8x16": LayerConfig(layer="gatv2", heads=8, channels=16, use_bias=False),
}
CORA_LAYERS = {"GAT 8x8": LayerConfig(heads=8, channels=8, use_bias=False)}


@dataclasses.dataclass(frozen=True)
class Problem:
    """One layer on one graph: L = sum(out * cotangent) is what gradients are taken of."""

    name: str
    layer: LayerConfig
    senders: Int[np.ndarray, " edges"]  # sorted by receiver, then sender
    receivers: Int[np.ndarray, " edges"]
    x: Float[np.ndarray, "nodes features"]
    params: dict[str, np.ndarray]  # fields of the layer's parameters
    cotangent: Float[np.ndarray, "nodes outputs"]
    has_learned_x: bool  # whether x has a gradient, or is data

    def save(self, folder: Path) -> None:
        """Write the problem for another process to read."""
        known = {"name": self.name, "layer": dataclasses.asdict(self.layer)}
        known["has_learned_x"] = self.has_learned_x
        (folder / "problem.json").write_text(json.dumps(known))
        fields = {name: getattr(self, name) for name in ("senders", "receivers", "x", "cotangent")}
        for name, array in (fields | {f"param.{k}": v for k, v in self.params.items()}).items():
            np.save(folder / f"{name}.npy", array)

    @classmethod
    def load(cls, folder: Path) -> "Problem":
        """Read what `save` wrote."""
        known = json.loads((folder / "problem.json").read_text())
        arrays = {path.stem: np.load(path) for path in folder.glob("*.npy")}
        params = {k[6:]: arrays.pop(k) for k in list(arrays) if k.startswith("param.")}
        return cls(**{**known, "layer": LayerConfig(**known["layer"])}, params=params, **arrays)


# --- graphs -------------------------------------------------------------------------------------

Edges = tuple[Int[np.ndarray, " edges"], Int[np.ndarray, " edges"], int]


def power_law_graph(seed: int, num_nodes: int, num_edges: int, offset: float = 3.0) -> Edges:
    """Draw a symmetric graph with self-loops whose degrees follow a power law.

    Node i is an end of a pair with a probability in proportion to (i + offset)^-0.75. With the
    size of ogbn-arxiv (169,343 nodes; 2,484,941 edges, loops and both directions counted) the
    largest degree is near 10,000, where ogbn-arxiv's is 13,162.

    Returns:
      Senders and receivers in the order of `graphs.from_edges`, and the number of nodes.
    """
    rng = np.random.default_rng(seed)
    weights = np.cumsum((np.arange(num_nodes) + offset) ** -0.75)
    num_pairs = (num_edges - num_nodes) // 2
    pairs = np.empty(0, np.int64)
    while len(pairs) < num_pairs:
        draws = rng.random((2, int(1.15 * num_pairs))) * weights[-1]
        first, second = np.searchsorted(weights, draws)
        pairs = np.union1d(pairs, _pair_ids(first, second, num_nodes))
    return _from_pairs(rng, rng.permutation(pairs)[:num_pairs], num_nodes)


def arxiv_like_graph(*, is_small: bool) -> Edges:
    """Draw a power-law graph of the size of ogbn-arxiv, or a small one."""
    sizes = (2_000, 20_000) if is_small else (169_343, 2_484_941)
    return power_law_graph(0, *sizes)


def hub_graph(seed: int, num_nodes: int, num_edges: int, hub_degrees: list[int]) -> Edges:
    """Draw a power-law graph as above in which the first nodes have the given degrees and more.

    A hub is joined with nodes drawn alike from all others. Returns as `power_law_graph`.
    """
    rng = np.random.default_rng(seed)
    joined = [
        _pair_ids(np.full(degree, hub), rng.permutation(num_nodes)[:degree], num_nodes)
        for hub, degree in enumerate(hub_degrees)
    ]
    hubs = np.unique(np.concatenate(joined))
    senders, receivers, _ = power_law_graph(seed + 1, num_nodes, num_edges, offset=30.0)
    others = np.setdiff1d(_pair_ids(senders, receivers, num_nodes), hubs)
    num_others = (num_edges - num_nodes) // 2 - len(hubs)
    pairs = np.concatenate([hubs, rng.permutation(others)[:num_others]])
    return _from_pairs(rng, pairs, num_nodes)


def _pair_ids(first, second, num_nodes: int) -> Int[np.ndarray, " pairs"]:
    """Return a number for each pair of different nodes, sorted."""
    low, high = np.minimum(first, second), np.maximum(first, second)
    return np.unique((low.astype(np.int64) * num_nodes + high)[low != high])


def _from_pairs(rng: np.random.Generator, pairs: np.ndarray, num_nodes: int) -> Edges:
    """Make edges both ways and self-loops, under new names: a hub's id says nothing."""
    low, high = rng.permutation(num_nodes)[np.stack([pairs // num_nodes, pairs % num_nodes])]
    loops = np.arange(num_nodes)
    senders = np.concatenate([low, high, loops])
    receivers = np.concatenate([high, low, loops])
    order = np.lexsort((senders, receivers))
    return senders[order].astype(np.int32), receivers[order].astype(np.int32), num_nodes


# --- problems -----------------------------------------------------------------------------------


def make_problem(
    name: str, layer: LayerConfig, edges: Edges, x: np.ndarray | None = None, seed: int = 0
) -> Problem:
    """Draw features (unless given as data), Glorot-uniform parameters and a cotangent."""
    senders, receivers, num_nodes = edges
    rng = np.random.default_rng(seed)
    has_learned_x = x is None
    if x is None:
        x = rng.standard_normal((num_nodes, NUM_FEATURES), np.float32)
    heads, channels = layer.heads, layer.channels
    kernel, vector = (x.shape[1], heads, channels), (heads, channels)
    shapes = {"kernel": kernel, "a_recv": vector, "a_send": vector}
    if layer.layer == "gatv2":
        shapes = {"kernel_send": kernel, "kernel_recv": kernel, "a": vector}
    params = {}
    for field, shape in shapes.items():
        bound = np.sqrt(6.0 / (shape[0] + heads * channels if len(shape) == 3 else sum(shape)))
        params[field] = rng.uniform(-bound, bound, shape).astype(np.float32)
    if has_learned_x:
        x, params = _on_grid(x, params)
    cotangent = rng.standard_normal((num_nodes, heads * channels), np.float32)
    return Problem(name, layer, senders, receivers, x, params, cotangent, has_learned_x)


def _on_grid(x: np.ndarray, params: dict[str, np.ndarray]) -> tuple[np.ndarray, dict]:
    """Round so that float32 computes whatever enters the LeakyReLU exactly, and never as 0.

    Otherwise rounding decides on which side of the kink a few of some hundred million numbers lie.
    Each changes gradients by more than what errors are checked to, and no system would be wrong.
    With x and kernels on grids all sums below are whole multiples of one number, small enough to
    be exact. Feature 0 is an odd multiple of its grid in every row, all others even ones; it makes
    the receiver's part of the sum an odd multiple and the sender's an even one.
    """
    x = _round(x, 2**-4, odd=0)
    x[:, 0] = 17 * 2.0**-4
    params = dict(params)
    if "kernel" in params:
        params["kernel"] = _round(params["kernel"], 2**-7)
        params["kernel"][0] = _round(params["kernel"][0], 2**-7, odd=0)
        params["kernel"][0, :, 0] = _round(params["kernel"][0, :, 0], 2**-7, odd=1)
        for field, odd in (("a_recv", 1), ("a_send", 0)):
            params[field] = _round(params[field], 2**-3)
            params[field][:, 0] = _round(params[field][:, 0], 2**-3, odd=odd)
    else:
        for field, odd in (("kernel_recv", 1), ("kernel_send", 0)):
            params[field] = _round(params[field], 2**-7)
            params[field][0] = _round(params[field][0], 2**-7, odd=odd)
    return x, params


def _round(array: np.ndarray, grid: float, *, odd: int | None = None) -> np.ndarray:
    """Round to multiples of the grid: all, or the even or the odd ones."""
    if odd is None:
        return (np.round(array / grid) * grid).astype(np.float32)
    return ((2 * np.round((array / grid - odd) / 2) + odd) * grid).astype(np.float32)


def case_names(*, has_cora: bool) -> list[str]:
    """Return the names of all cases, "graph, layer"."""
    arxiv = [f"{ARXIV}, {layer}" for layer in LAYERS]
    cora = [f"{CORA}, {layer}" for layer in CORA_LAYERS if has_cora]
    return [*arxiv, *cora, *(f"{HUBS}, {layer}" for layer in LAYERS if layer != "GAT 1x128")]


def make_case(name: str, *, is_small: bool, data_dir: Path) -> Problem:
    """Make the problem of a case; `is_small` for tests of the benchmark itself."""
    graph, layer = name.split(", ")
    if graph == CORA:
        task = datasets.load_task(data_dir / "cora.npz")
        looped = graphs.add_self_loops(task.graph)
        edges = np.asarray(looped.senders), np.asarray(looped.receivers), len(task.graph.nodes)
        return make_problem(name, CORA_LAYERS[layer], edges, x=np.asarray(looped.nodes))
    if graph == ARXIV:
        return make_problem(name, LAYERS[layer], arxiv_like_graph(is_small=is_small))
    sizes = (2_000, 20_000) if is_small else (100_000, 1_500_000)
    degrees = np.geomspace(sizes[0] / 10, sizes[0] * 0.95, 6).astype(int).tolist()
    return make_problem(name, LAYERS[layer], hub_graph(0, *sizes, degrees))


# --- the least that has to move -----------------------------------------------------------------


def bytes_to_move(problem: Problem, of: Pass) -> int:
    """Return the bytes that a layer has to move if nothing per edge and channel is ever stored.

    With E edges, N nodes, F features (or as many bytes as the non-zeros of features that are data
    take as CSR, where that is less), H heads of C channels, D = H C, in float32 and int32 words.
    Every edge fetches a row of the node at its other end, as if no cache held it; every array of
    nodes is read or written once where a pass needs it. A graph whose rows fit in a cache, or
    whose hubs do, can move less.

    GAT     forward   E (D + H + 1)       sender's values z, its score, its id
                      N (F + 2 D)         read x, write z, write out
            backward  E (D + 2 H + 1)     by sender: receiver's G; its score and <G, out>; its id
                      N (2 F + 3 D)       read x and z, write dz, read it, write dx
    GATv2   forward   E (D + 1)           sender's l serves score and value
                      N (F + 3 D)         read x, write l and r, write out
            backward  E (3 D + 2 H + 2)   by sender: receiver's G and r; by receiver: sender's l
                      N (2 F + 6 D)       read x, l and r, write dl and dr, read them, write dx

    Features that are data have no dx.
    """
    edges, (nodes, features) = len(problem.senders), problem.x.shape
    heads, width = problem.layer.heads, problem.layer.num_outputs
    feature_words = nodes * features
    if not problem.has_learned_x:
        feature_words = min(feature_words, 2 * int(np.count_nonzero(problem.x)) + nodes + 1)
    is_gat = problem.layer.layer == "gat"
    words = feature_words
    if is_gat:
        words += edges * (width + heads + 1) + nodes * 2 * width
    else:
        words += edges * (width + 1) + nodes * 3 * width
    if of == "forward+backward":
        words += feature_words * (2 if problem.has_learned_x else 1)
        if is_gat:
            words += edges * (width + 2 * heads + 1) + nodes * 3 * width
        else:
            words += edges * (3 * width + 2 * heads + 2) + nodes * 6 * width
    return 4 * words
