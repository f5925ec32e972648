"""What all peers in PyTorch Geometric share: device, memory, edges and parameters."""

import logging
from collections.abc import Callable
from typing import Any

import jraph
import numpy as np
import torch
import torch_geometric

from bench import common
from bench.common import BY_SENDER, EDGE_INDEX

# What its compiler cannot do is seventy lines a time; a failure's own line is in the results.
logging.getLogger("torch._dynamo").setLevel(logging.ERROR)

DEVICE = torch.device("cuda" if common.is_on_gpu() else "cpu")


def wait() -> None:
    """Wait until a GPU has done what it was asked for."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def extra_peak_mib(run: Callable[[], object]) -> float:
    """Return by how much one call raises the GPU memory of all tensors at most; after another."""
    run()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run()
    return (torch.cuda.max_memory_allocated() - before) / 2**20


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
