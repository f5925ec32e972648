"""What a torch user would write: PyG's layers, eager or compiled, on each way to hold the edges."""

from typing import Any

import jraph
import numpy as np
import torch
import torch_geometric
from torch_geometric.nn import GATConv, GATv2Conv

from bench.layer_cases import SLOPE, Pass, Problem
from bench.layer_systems import BY_SENDER, EDGE_INDEX, System
from bench.torch_devices import DEVICE, wait


def make_pyg(problem: Problem, setting: str, *, is_compiled: bool) -> System:
    """Make PyG's layer with the problem's parameters; every pass of it runs once, to compile.

    Args:
      problem: what to compute.
      setting: how to hold the edges, see `make_edges`.
      is_compiled: by `torch.compile`, for these shapes alone.
    """
    layer = problem.layer
    make = GATConv if layer.layer == "gat" else GATv2Conv
    conv = make(
        problem.x.shape[1],
        layer.channels,
        heads=layer.heads,
        negative_slope=SLOPE,
        add_self_loops=False,
        bias=False,
    )
    names = copy_parameters(conv, problem.params)
    conv = conv.to(DEVICE)
    edges = make_edges(problem.senders, problem.receivers, len(problem.x), setting)
    x = torch.from_numpy(problem.x.copy()).to(DEVICE).requires_grad_(problem.has_learned_x)
    cotangent = torch.from_numpy(problem.cotangent).to(DEVICE)
    if is_compiled:
        torch.compiler.reset()  # or the shapes of the case before are taken to vary
    network = torch.compile(conv, dynamic=False) if is_compiled else conv

    def forward():
        with torch.no_grad():
            out = network(x, edges)
        wait()
        return out

    def gradients():
        conv.zero_grad(set_to_none=True)
        x.grad = None
        (network(x, edges) * cotangent).sum().backward()
        wait()
        grads = {name: parameter.grad for name, parameter in conv.named_parameters()}
        return grads | ({"x": x.grad} if problem.has_learned_x else {})

    def read(of: Pass, result) -> dict[str, np.ndarray]:
        if of == "forward":
            return {"outputs": result.cpu().numpy()}
        found = {ours: result[theirs].cpu().numpy() for ours, theirs in names.items()}
        shapes = {name: array.shape for name, array in problem.params.items()}
        for name, shape in shapes.items():  # torch's kernels are [H C, F]
            found[name] = (found[name].T if len(shape) == 3 else found[name]).reshape(shape)
        return found | ({"x": result["x"].cpu().numpy()} if problem.has_learned_x else {})

    forward()
    gradients()
    return System({"forward": forward, "forward+backward": gradients}, read, {})


def copy_parameters(conv: torch.nn.Module, params: dict[str, np.ndarray]) -> dict[str, str]:
    """Give PyG's layer our parameters; returns its names by ours."""
    names = {"kernel": "lin.weight", "a_recv": "att_dst", "a_send": "att_src"}
    if "kernel_send" in params:
        names = {"kernel_send": "lin_l.weight", "kernel_recv": "lin_r.weight", "a": "att"}
    targets = dict(conv.named_parameters())
    for ours, theirs in names.items():
        array = params[ours]
        array = array.reshape(len(array), -1).T if array.ndim == 3 else array[None]
        with torch.no_grad():
            targets[theirs].copy_(torch.from_numpy(array.copy()))
    return names


def make_edges(senders: np.ndarray, receivers: np.ndarray, num_nodes: int, setting: str):
    """Return the edges in one of the orders, for `torch_geometric`.

    Sorted by sender is what PyG's own `coalesce` makes. An `EdgeIndex` says that it is sorted by
    receiver, and keeps where each receiver's edges begin, both ways.
    """
    if setting == BY_SENDER:
        order = np.lexsort((receivers, senders))
        senders, receivers = senders[order], receivers[order]
    pairs = torch.from_numpy(np.stack([senders, receivers]).astype(np.int64)).to(DEVICE)
    if setting != EDGE_INDEX:
        return pairs
    size = (num_nodes, num_nodes)
    make: Any = torch_geometric.EdgeIndex  # made by __new__, of which type checkers know nothing
    return make(pairs, sparse_size=size, sort_order="col").fill_cache_()


def edges_of(graph: jraph.GraphsTuple, setting: str):
    """Return `make_edges` of a graph."""
    senders, receivers = np.asarray(graph.senders), np.asarray(graph.receivers)
    return make_edges(senders, receivers, len(graph.nodes), setting)
