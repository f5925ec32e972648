"""Twins and the supports of their rows, as static data that a program is built from."""

import dataclasses
import functools
import hashlib

import jraph
import numpy as np
from jaxtyping import Float, Int

from gat_jax.graphs import TwinClasses, TwinPairs, twins
from gat_jax.sampling.pair_sample import NUM_SAMPLED_PAIRS, are_all_compared, sample_pairs

# More operations than this in a program, and unrolling costs more in compiling than it saves.
MAX_UNROLLED = 800


@dataclasses.dataclass(frozen=True, eq=False)
class TwinLayout:
    """Twins and their supports, as static data: what a program is built from.

    Twins of one class share a support, which stands here once. Layouts are equal if their arrays
    are, and are compared by a digest: a program's key holds one, and is looked up at every call.
    """

    num_nodes: int
    receivers: Int[np.ndarray, " receivers"]  # every twin, by ascending degree
    classes: Int[np.ndarray, " receivers"]  # number of its class
    starts: Int[np.ndarray, " classes_and_one"]  # where the support of each class begins below
    senders: Int[np.ndarray, " entries"]  # of each class, with multiplicity, in the graph's order
    gcn_weights: Float[np.ndarray, " entries"]  # 1 / sqrt(d_i d_j), float64
    pairs: Int[np.ndarray, "pairs 2"]  # those that are compared, as positions in `receivers`
    num_pairs: int  # how many there are
    digest: str = dataclasses.field(init=False)

    def __post_init__(self):
        """Take the digest, and let nobody change an array behind its back."""
        digest = hashlib.sha256(f"{self.num_nodes} {self.num_pairs}".encode())
        for field in dataclasses.fields(self):
            value = getattr(self, field.name, None)
            if isinstance(value, np.ndarray):
                digest.update(f"{field.name}{value.dtype.str}{value.shape}".encode())
                digest.update(np.ascontiguousarray(value).tobytes())
                value.setflags(write=False)
        object.__setattr__(self, "digest", digest.hexdigest())

    def __eq__(self, other: object) -> bool:
        """Whether another layout has the same arrays."""
        return isinstance(other, TwinLayout) and self.digest == other.digest

    def __hash__(self) -> int:
        """Return a hash that equal layouts share."""
        return hash(self.digest)

    @property
    def is_by_class(self) -> bool:
        """Whether collisions are counted by class, since but a sample of the pairs is compared."""
        return len(self.pairs) < self.num_pairs

    @property
    def num_classes(self) -> int:
        """Number of twin classes."""
        return len(self.starts) - 1

    @property
    def pair_classes(self) -> Int[np.ndarray, " pairs"]:
        """Number of each compared pair's class."""
        return self.classes[self.pairs[:, 0]]

    @functools.cached_property
    def degrees(self) -> Int[np.ndarray, " receivers"]:
        """Number of places in the support of every receiver."""
        return np.diff(self.starts)[self.classes]

    @property
    def num_edges(self) -> int:
        """Number of places in the supports of all receivers."""
        return int(self.degrees.sum())

    def support(self, receiver: int | np.integer) -> Int[np.ndarray, " places"]:
        """Return the senders of a receiver, by its position in `receivers`."""
        return self.senders[self._places(self.classes[receiver])]

    def gcn_weights_of(self, receiver: int | np.integer) -> Float[np.ndarray, " places"]:
        """Return the weights of a receiver's support, by its position in `receivers`."""
        return self.gcn_weights[self._places(self.classes[receiver])]

    def _places(self, number: int | np.integer) -> slice:
        return slice(self.starts[number], self.starts[number + 1])

    def is_unrolled(self, num_features: int, channels: int) -> bool:
        """Whether the program is small enough to spell out every node."""
        return self.num_operations(num_features, channels) <= MAX_UNROLLED and not self.is_by_class

    def num_operations(self, num_features: int, channels: int) -> int:
        """Return about how many operations a program has that spells out every node."""
        projections = self.num_nodes * num_features * channels
        return projections + self.num_edges * (10 + 2 * channels) + len(self.pairs) * 20


def make_twin_layout(
    graph: jraph.GraphsTuple, members: TwinPairs | TwinClasses
) -> tuple[TwinLayout, np.ndarray]:
    """Describe what the rows of the twins need; no other row is measured.

    Args:
      graph: one graph, without edge features.
      members: the twins of that graph, at least one pair of them non-trivial. Classes: pairs are
        compared as `pair_sample` says. Pairs, all of the non-trivial ones: each is compared.

    Returns:
      The layout, and the ids of the nodes it speaks of: its node k is node ids[k] of the graph.

    Raises:
      ValueError: without pairs, with trivial ones, or with edge features.
    """
    classes = members if isinstance(members, TwinClasses) else twins.twin_classes(graph)
    if isinstance(members, TwinPairs) and np.any(members.is_trivial):
        raise ValueError("pairs: expected non-trivial twins, got trivial ones, equal by definition")
    nodes = _twins_of(members)
    if len(nodes) == 0:
        raise ValueError("pairs: expected at least one pair of non-trivial twins, got none")
    if graph.edges is not None:
        raise ValueError("edges: expected no edge features when initialisations are sampled")
    senders = np.asarray(graph.senders)
    degree = np.maximum(np.bincount(graph.receivers, minlength=len(graph.nodes)), 1)
    first_edge = np.searchsorted(graph.receivers, np.arange(len(graph.nodes) + 1))
    nodes = nodes[np.argsort(degree[nodes], kind="stable")]
    names, first, number = np.unique(classes.twin[nodes], return_index=True, return_inverse=True)
    # Classes are numbered as they come among the receivers.
    order = np.argsort(first)
    place = np.empty(len(names), np.int64)
    place[order] = np.arange(len(names))
    spokesmen = nodes[first[order]]  # one member of each class, whose support is the class's
    starts = np.concatenate([[0], np.cumsum(degree[spokesmen])])
    edges = np.repeat(first_edge[spokesmen] - starts[:-1], degree[spokesmen])
    support = senders[edges + np.arange(starts[-1])]
    ids = np.union1d(nodes, support)
    numbers = place[number.reshape(-1)]
    if isinstance(members, TwinPairs) or are_all_compared(members):
        pairs = members if isinstance(members, TwinPairs) else twins.twin_pairs(members)
        position = np.empty(len(graph.nodes), np.int64)
        position[nodes] = np.arange(len(nodes))
        compared = position[np.stack([pairs.first, pairs.second], axis=1)]
        num_pairs = len(compared)
    else:
        num_pairs = twins.count_twins(members).pairs
        compared = sample_pairs(numbers, NUM_SAMPLED_PAIRS)
    layout = TwinLayout(
        num_nodes=len(ids),
        receivers=np.searchsorted(ids, nodes).astype(np.int32),
        classes=numbers.astype(np.int32),
        starts=starts.astype(np.int64),
        senders=np.searchsorted(ids, support).astype(np.int32),
        gcn_weights=1.0 / np.sqrt(np.repeat(degree[spokesmen], np.diff(starts)) * degree[support]),
        pairs=compared.astype(np.int32),
        num_pairs=num_pairs,
    )
    return layout, ids


def _twins_of(members: TwinPairs | TwinClasses) -> Int[np.ndarray, " receivers"]:
    """Return the ids of all non-trivial twins, ascending."""
    if isinstance(members, TwinPairs):
        return np.union1d(members.first, members.second)
    return np.flatnonzero((twins.class_sizes(members) >= 2) & ~members.is_trivial)
