"""What a torch user would write: one GAT layer in a loop, and a dense GAT under `torch.func.vmap`.

Both draw their parameters, compute attention and outputs of all nodes, and measure what our
engine measures: collisions by signs, normalised entropy of the twins' rows and the twins' gap.
"""

import math
from collections.abc import Callable

import jraph
import numpy as np
import torch

from gat_jax.graphs import TwinPairs
from gat_jax.layers import LayerConfig

Functions = tuple[Callable[[], int], Callable[[], tuple[float, float]]]
GAIN = 1.414


def batches(layer: LayerConfig) -> tuple[int, ...]:
    """Return batch sizes to try."""
    return (4096, 16384, 65536) if layer.heads * layer.channels <= 4 else (64, 256, 1024)


class GATLayer(torch.nn.Module):
    """A layer over an edge list, as in the torch tutorial the question was asked about."""

    def __init__(self, num_features: int, layer: LayerConfig):
        """Draw the parameters: Xavier-uniform with gain 1.414, torch's own bias."""
        super().__init__()
        self.heads = layer.heads
        self.projection = torch.nn.Linear(num_features, layer.heads * layer.channels)
        self.a = torch.nn.Parameter(torch.empty(layer.heads, 2 * layer.channels))
        torch.nn.init.xavier_uniform_(self.projection.weight, gain=GAIN)
        torch.nn.init.xavier_uniform_(self.a, gain=GAIN)

    def forward(self, nodes, adjacency):
        """Return outputs [N, H, C], logits before the LeakyReLU and attention [N, N, H]."""
        z = self.projection(nodes).view(len(nodes), self.heads, -1)
        receivers, senders = adjacency.nonzero(as_tuple=True)
        both = torch.cat([z[receivers], z[senders]], dim=-1)
        logits = torch.einsum("ehc,hc->eh", both, self.a)
        full = logits.new_full((*adjacency.shape, self.heads), 0.0)
        full[receivers, senders] = logits
        masked = torch.nn.functional.leaky_relu(full, 0.2)
        masked = masked.masked_fill(~adjacency[..., None], -9e15)
        attention = torch.softmax(masked, dim=1)
        return torch.einsum("ijh,jhc->ihc", attention, z), full, attention


def _measure(outputs, logits, attention, adjacency, first, second):
    """Return collided pairs, every row's normalised entropy, and the sum of log gaps."""
    mask = adjacency[..., None]
    low = torch.where(mask, logits, torch.inf).amin(dim=1)
    high = torch.where(mask, logits, -torch.inf).amax(dim=1)
    is_positive, is_negative = low >= 0, high <= 0
    is_equal = (is_positive[first] & is_positive[second]) | (
        is_negative[first] & is_negative[second]
    )
    collided = is_equal.all(dim=-1).sum()
    degree = adjacency.sum(dim=1)[:, None]
    entropy = torch.special.entr(attention).sum(dim=1) / torch.log(degree.clamp(min=2).float())
    gap = (outputs[first] - outputs[second]).abs().amax(dim=(-1, -2))
    log_gap = torch.where(gap > 0, torch.log10(gap), torch.zeros_like(gap)).sum()
    return collided, entropy, log_gap


def _inputs(graph: jraph.GraphsTuple, pairs: TwinPairs):
    num_nodes = len(graph.nodes)
    adjacency = torch.zeros(num_nodes, num_nodes, dtype=torch.bool)
    adjacency[graph.receivers, graph.senders] = True
    first, second = (torch.as_tensor(np.asarray(x), dtype=torch.long) for x in pairs[:2])
    rows = torch.unique(torch.cat([first, second]))
    return torch.as_tensor(np.asarray(graph.nodes)), adjacency, first, second, rows


def loop(graph: jraph.GraphsTuple, pairs: TwinPairs, layer: LayerConfig) -> Functions:
    """Return run and check of one new layer after the other.

    What is timed is drawing, attention, outputs and their gap alone, the rest left out: the true
    ratio is larger.
    """
    nodes, adjacency, first, second, rows = _inputs(graph, pairs)

    def sample(number: int) -> tuple[float, float]:
        collisions, entropy = 0.0, 0.0
        with torch.no_grad():
            for _ in range(number):
                module = GATLayer(nodes.shape[1], layer)
                outputs, logits, attention = module(nodes, adjacency)
                found = _measure(outputs, logits, attention, adjacency, first, second)
                collisions += float(found[0])
                entropy += float(found[1][rows].mean())
                float(found[2])
        return collisions / number / len(first), entropy / number

    def run() -> int:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # the faster setting for operations this small
        with torch.no_grad():
            for _ in range(2000):
                outputs, _, _ = GATLayer(nodes.shape[1], layer)(nodes, adjacency)
                float((outputs[first] - outputs[second]).abs().max())
        torch.set_num_threads(threads)
        return 2000

    return run, lambda: sample(4000)


def vmapped(
    graph: jraph.GraphsTuple, pairs: TwinPairs, layer: LayerConfig, batch: int, is_compiled: bool
) -> Functions:
    """Return run and check of a dense layer, written for one initialisation and mapped."""
    nodes, adjacency, first, second, rows = _inputs(graph, pairs)
    num_features, (heads, channels) = nodes.shape[1], (layer.heads, layer.channels)
    degree_log = torch.log(adjacency.sum(dim=1).clamp(min=2).float())[:, None]
    mask = adjacency[..., None]
    width = heads * channels
    scales = (
        GAIN * math.sqrt(6.0 / (num_features + width)),
        GAIN * math.sqrt(6.0 / (heads + 2 * channels)),
        1.0 / math.sqrt(num_features),
    )

    def one(weight, a, bias):
        if is_small:  # sums that torch.compile fuses; small matrix products are calls
            z = ((nodes[:, :, None] * weight[None]).sum(dim=1) + bias).view(-1, heads, channels)
        else:
            z = (nodes @ weight + bias).view(-1, heads, channels)
        c = (z * a[:, :channels]).sum(dim=-1)
        n = (z * a[:, channels:]).sum(dim=-1)
        logits = c[:, None] + n[None]
        f = torch.where(logits >= 0, logits, 0.2 * logits)
        attention = torch.softmax(torch.where(mask, f, -torch.inf), dim=1)
        if is_small:
            outputs = (attention[..., None] * z[None]).sum(dim=1)
        else:
            outputs = torch.einsum("ijh,jhc->ihc", attention, z)
        is_positive = torch.where(mask, logits, torch.inf).amin(dim=1) >= 0
        is_negative = torch.where(mask, logits, -torch.inf).amax(dim=1) <= 0
        is_equal = (is_positive[first] & is_positive[second]) | (
            is_negative[first] & is_negative[second]
        )
        p = attention[rows]
        entropy = -(p * torch.log(p.clamp(min=1e-38))).sum(dim=1) / degree_log[rows]
        gap = (outputs[first] - outputs[second]).abs().amax(dim=-1).amax(dim=-1)
        log_gap = torch.where(gap > 0, torch.log10(gap.clamp(min=1e-38)), 0.0)
        return is_equal.all(dim=-1).float().mean(), entropy.mean(), log_gap.sum()

    def many():
        def draw(scale, *shape):
            return (torch.rand(batch, *shape) * 2.0 - 1.0) * scale

        parameters = (
            draw(scales[0], num_features, width),
            draw(scales[1], heads, 2 * channels),
            draw(scales[2], width),
        )
        return tuple(x.sum() for x in torch.func.vmap(one)(*parameters))

    is_small = width <= 4
    function = torch.compile(many) if is_compiled else many
    calls = max(1, 2**16 // batch) if width <= 4 else max(1, 2048 // batch)

    def sample(number: int) -> tuple[float, float]:
        totals = [0.0, 0.0]
        with torch.no_grad():
            for _ in range(number):
                found = function()
                totals = [total + float(x) for total, x in zip(totals, found, strict=False)]
        return totals[0] / (number * batch), totals[1] / (number * batch)

    def run() -> int:
        sample(calls)
        return calls * batch

    return run, lambda: sample(max(1, 2**18 // batch) if width <= 4 else 8192 // batch)
