"""PyG's layers as its users call them, eager or compiled, on each way to hold the edges."""

import numpy as np
import torch
from torch_geometric.nn import GATConv, GATv2Conv

from bench.layer.cases import SLOPE, Pass, Problem
from bench.layer.systems import System
from bench.pyg import DEVICE, copy_parameters, make_edges, wait


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
