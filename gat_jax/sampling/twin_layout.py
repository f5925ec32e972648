"""Twins and the supports of their rows, as static data that a program is built from."""

import dataclasses

import jraph
import numpy as np

from gat_jax.graphs import TwinPairs

# More operations than this in a program, and unrolling costs more in compiling than it saves.
MAX_UNROLLED = 800


@dataclasses.dataclass(frozen=True)
class TwinLayout:
    """Twins and their supports, as static data: what a program is built from."""

    num_nodes: int
    receivers: tuple[int, ...]  # every twin, by ascending degree
    supports: tuple[tuple[int, ...], ...]  # its senders, with multiplicity, in the graph's order
    gcn_weights: tuple[tuple[float, ...], ...]  # 1 / sqrt(d_i d_j), by place in the support
    pairs: tuple[tuple[int, int], ...]  # positions in `receivers`
    pair_classes: tuple[int, ...]  # number of each pair's class

    @property
    def num_classes(self) -> int:
        """Number of twin classes."""
        return max(self.pair_classes) + 1

    def is_unrolled(self, num_features: int, channels: int) -> bool:
        """Whether the program is small enough to spell out every node."""
        num_edges = sum(map(len, self.supports))
        projections = self.num_nodes * num_features * channels
        operations = projections + num_edges * (10 + 2 * channels) + len(self.pairs) * 20
        return operations <= MAX_UNROLLED


def make_twin_layout(graph: jraph.GraphsTuple, pairs: TwinPairs) -> tuple[TwinLayout, np.ndarray]:
    """Describe what the rows of the twins need; no other row is measured.

    Args:
      graph: one graph, without edge features.
      pairs: all pairs of non-trivial twins of that graph, at least one.

    Returns:
      The layout, and the ids of the nodes it speaks of: its node k is node ids[k] of the graph.

    Raises:
      ValueError: without pairs, with trivial ones, or with edge features.
    """
    if len(pairs.first) == 0:
        raise ValueError("pairs: expected at least one pair of non-trivial twins, got none")
    if np.any(pairs.is_trivial):
        raise ValueError("pairs: expected non-trivial twins, got trivial ones, equal by definition")
    if graph.edges is not None:
        raise ValueError("edges: expected no edge features when initialisations are sampled")
    senders, receivers = np.asarray(graph.senders), np.asarray(graph.receivers)
    degree = np.maximum(np.bincount(receivers, minlength=len(graph.nodes)), 1)
    starts = np.searchsorted(receivers, np.arange(len(graph.nodes) + 1))
    twins = np.union1d(pairs.first, pairs.second)
    twins = twins[np.argsort(degree[twins], kind="stable")]
    supports = [senders[starts[i] : starts[i + 1]] for i in twins]
    ids = np.union1d(twins, np.concatenate(supports))
    position = {int(node): k for k, node in enumerate(twins)}
    # Twins of one class share a support, and only they do.
    classes: dict[bytes, int] = {}
    for support in supports:
        classes.setdefault(support.tobytes(), len(classes))
    first = [position[int(i)] for i in pairs.first]
    layout = TwinLayout(
        num_nodes=len(ids),
        receivers=_as_ints(np.searchsorted(ids, twins)),
        supports=tuple(_as_ints(np.searchsorted(ids, s)) for s in supports),
        gcn_weights=tuple(
            tuple(map(float, 1.0 / np.sqrt(degree[i] * degree[s])))
            for i, s in zip(twins, supports, strict=True)
        ),
        pairs=tuple(zip(first, (position[int(k)] for k in pairs.second), strict=True)),
        pair_classes=tuple(classes[supports[k].tobytes()] for k in first),
    )
    return layout, ids


def _as_ints(values: np.ndarray) -> tuple[int, ...]:
    return tuple(map(int, values))
