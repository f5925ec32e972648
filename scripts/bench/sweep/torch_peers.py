"""What a torch user would write: one GAT layer in a loop, and a dense GAT under `torch.func.vmap`.

Both draw their parameters, compute attention and outputs of all nodes, and measure what our
engine measures: collisions by signs, normalised entropy of the twins' rows and the twins' gap.
"""

import functools
import math
import operator
from collections.abc import Callable, Iterable

import jraph
import numpy as np
import torch

from gat_jax.graphs import TwinPairs
from gat_jax.layers import LayerConfig

Functions = tuple[Callable[[], int], Callable[[], tuple[float, float]]]
GAIN = 1.414


def device() -> torch.device:
    """Return where the peers run: on the GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def batches(layer: LayerConfig) -> tuple[int, ...]:
    """Return batch sizes to try."""
    is_small = layer.heads * layer.channels <= 4
    if device().type == "cuda":
        return (2**20, 2**22, 2**24) if is_small else (8192, 16384)
    return (4096, 16384, 65536) if is_small else (64, 256, 1024)


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
    nodes = torch.as_tensor(np.asarray(graph.nodes))
    return tuple(x.to(device()) for x in (nodes, adjacency, first, second, rows))


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
                module = GATLayer(nodes.shape[1], layer).to(nodes.device)
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
                module = GATLayer(nodes.shape[1], layer).to(nodes.device)
                outputs, _, _ = module(nodes, adjacency)
                float((outputs[first] - outputs[second]).abs().max())
        torch.set_num_threads(threads)
        return 2000

    return run, lambda: sample(4000)


class _Sizes:
    """What both batched peers need: the graph on the device, and scales of the parameters."""

    def __init__(self, graph: jraph.GraphsTuple, pairs: TwinPairs, layer: LayerConfig):
        self.nodes, self.adjacency, self.first, self.second, self.rows = _inputs(graph, pairs)
        self.heads, self.channels = layer.heads, layer.channels
        self.width = layer.heads * layer.channels
        self.num_features = self.nodes.shape[1]
        self.degree_log = torch.log(self.adjacency.sum(dim=1).clamp(min=2).float())
        self.scales = (
            GAIN * math.sqrt(6.0 / (self.num_features + self.width)),
            GAIN * math.sqrt(6.0 / (self.heads + 2 * self.channels)),
            1.0 / math.sqrt(self.num_features),
        )

    def draw(self, scale: float, *shape: int) -> torch.Tensor:
        return (torch.rand(shape, device=self.nodes.device) * 2.0 - 1.0) * scale

    def functions(self, function: Callable[[], tuple], batch: int) -> Functions:
        """Return run and check of a function that returns sums over a batch."""
        per_call = 2**16 if self.width <= 4 else 2048
        calls = 8 if self.nodes.device.type == "cuda" else max(1, per_call // batch)

        def sample(number: int) -> tuple[float, float]:
            with torch.no_grad():
                found = [torch.stack(function()[:2]) for _ in range(number)]
                sums = torch.stack(found).double().sum(dim=0) / (number * batch)
            return float(sums[0]), float(sums[1])

        def run() -> int:
            sample(calls)
            return calls * batch

        checked = 2**18 if self.width <= 4 else 8192
        return run, lambda: sample(max(1, checked // batch))


def vmapped(
    graph: jraph.GraphsTuple, pairs: TwinPairs, layer: LayerConfig, batch: int, is_compiled: bool
) -> Functions:
    """Return run and check of a dense layer, written for one initialisation and mapped."""
    sizes = _Sizes(graph, pairs, layer)
    nodes, first, second, rows = sizes.nodes, sizes.first, sizes.second, sizes.rows
    heads, channels, width = sizes.heads, sizes.channels, sizes.width
    mask = sizes.adjacency[..., None]
    degree_log = sizes.degree_log[:, None]

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
        parameters = (
            sizes.draw(sizes.scales[0], batch, sizes.num_features, width),
            sizes.draw(sizes.scales[1], batch, heads, 2 * channels),
            sizes.draw(sizes.scales[2], batch, width),
        )
        return tuple(x.sum() for x in torch.func.vmap(one)(*parameters))

    is_small = width <= 4
    return sizes.functions(torch.compile(many) if is_compiled else many, batch)


def batched(
    graph: jraph.GraphsTuple, pairs: TwinPairs, layer: LayerConfig, batch: int
) -> Functions:
    """Return run and check of a layer written for a batch, which is the last axis, and compiled.

    Rows and their neighbours are spelled out, as a user would who knows the graph: what
    `torch.compile` then sees are elementwise operations on vectors, and sums of them.
    """
    sizes = _Sizes(graph, pairs, layer)
    heads, channels = sizes.heads, sizes.channels
    features = sizes.nodes.tolist()
    rows = sizes.rows.tolist()
    supports = {i: sizes.adjacency[i].nonzero()[:, 0].tolist() for i in rows}
    senders = sorted({j for support in supports.values() for j in support} | set(rows))
    both = list(zip(sizes.first.tolist(), sizes.second.tolist(), strict=True))

    def of_head(weight, a, bias):
        z = {
            j: [
                _total(weight[f, c] * features[j][f] for f in range(sizes.num_features)) + bias[c]
                for c in range(channels)
            ]
            for j in senders
        }
        entropies, signs, outputs = [], {}, {}
        for i, support in supports.items():
            query = _total(a[c] * z[i][c] for c in range(channels))
            logits = [
                query + _total(a[channels + c] * z[j][c] for c in range(channels)) for j in support
            ]
            f = [torch.where(x >= 0, x, 0.2 * x) for x in logits]
            largest = functools.reduce(torch.maximum, f)
            weights = [torch.exp(x - largest) for x in f]
            total = _total(weights)
            signs[i] = (
                functools.reduce(torch.minimum, logits) >= 0,
                functools.reduce(torch.maximum, logits) <= 0,
            )
            outputs[i] = [
                _total(w * z[j][c] for w, j in zip(weights, support, strict=True)) / total
                for c in range(channels)
            ]
            shifted = _total(w * (x - largest) for w, x in zip(weights, f, strict=True))
            entropies.append((torch.log(total) - shifted / total) / math.log(len(support)))
        gaps = [
            functools.reduce(
                torch.maximum,
                [(p - q).abs() for p, q in zip(outputs[i], outputs[k], strict=True)],
            )
            for i, k in both
        ]
        equal = [(signs[i][0] & signs[k][0]) | (signs[i][1] & signs[k][1]) for i, k in both]
        return equal, _total(entropies), gaps

    def many():
        weight = sizes.draw(sizes.scales[0], sizes.num_features, heads, channels, batch)
        a = sizes.draw(sizes.scales[1], heads, 2 * channels, batch)
        bias = sizes.draw(sizes.scales[2], heads, channels, batch)
        by_head = [of_head(weight[:, h], a[h], bias[h]) for h in range(heads)]
        equal = [
            functools.reduce(operator.and_, x) for x in zip(*(x[0] for x in by_head), strict=True)
        ]
        gaps = [
            functools.reduce(torch.maximum, x) for x in zip(*(x[2] for x in by_head), strict=True)
        ]
        entropy = _total(x[1] for x in by_head) / (heads * len(rows))
        log_gap = _total(torch.where(x > 0, torch.log10(x.clamp(min=1e-38)), 0.0) for x in gaps)
        collided = _total(x.float() for x in equal) / len(both)
        return collided.sum(), entropy.sum(), log_gap.sum()

    return sizes.functions(torch.compile(many), batch)


def _total(terms: Iterable[torch.Tensor]) -> torch.Tensor:
    return functools.reduce(operator.add, terms)
