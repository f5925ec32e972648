"""Which nodes no message passing can separate: colour refinement (1-WL) over incoming edges.

Nodes begin with one colour for equal features. Again and again, nodes of one colour get different
ones if the multisets of (sender's colour, edge features) that they receive differ. What has one
colour in the end comes out equal of every network that passes messages along these edges, whatever
its layers and parameters are: all that such a network sees of a node is in its colour.
"""

import jraph
import numpy as np
from jaxtyping import Int, UInt64

from gat_jax.graphs import padding, twins
from gat_jax.runtime.arrays import as_held

HASH_SEED = 1  # of the numbers that tokens are hashed by: the same in every run


def refine_colours(graph: jraph.GraphsTuple) -> Int[np.ndarray, " nodes"]:
    """Give every node the smallest id of a node of its final colour.

    Args:
      graph: one graph without padding; features count as layers see them, in float32.

    Returns:
      [N]. Two entries are equal if and only if the nodes have one colour, but for an accident of
      hashing: multisets are compared by two sums of 64 random bits, which are equal for different
      ones with a probability of 2^-128.

    Raises:
      ValueError: if it is a batch or padded, or as `validate`.

    Numerics: of a colour that splits, the largest part keeps its name and the others are looked at
    again, so that every edge is looked at log2 N times at most, however many rounds there are.

    Source: Cardon and Crochemore 1982, Partitioning a graph in O(|A| log2 |V|), for the parts that
    are looked at; the multisets of all of them are compared at once, in NumPy.
    """
    part = padding.check_one_graph(graph)
    num_nodes = len(graph.nodes)
    if part.num_nodes < num_nodes:
        raise ValueError(
            f"graph: expected one without padding, got {num_nodes - part.num_nodes} nodes of it"
        )
    names = np.unique(twins.equal_rows(np.asarray(graph.nodes)), return_inverse=True)[1]
    edges, partition = _Edges(graph), _Partition(names)
    changed = np.arange(num_nodes)
    while len(changed):
        changed = _refine(partition, edges, changed)
    _, first, inverse = np.unique(partition.names, return_index=True, return_inverse=True)
    return first[inverse]


class _Partition:
    """Nodes by colour; it changes as colours split."""

    def __init__(self, names: Int[np.ndarray, " nodes"]):
        self.names = names  # number of each node's colour
        self.sizes = np.zeros(len(names), np.int64)  # by number; 0 of those that are still free
        counts = np.bincount(names)
        self.num_colours = len(counts)
        self.sizes[: len(counts)] = counts

    def split(
        self,
        nodes: Int[np.ndarray, " nodes"],
        parts: Int[np.ndarray, " nodes"],
        colours: Int[np.ndarray, " parts"],
    ) -> Int[np.ndarray, " changed"]:
        """Make a colour of each part, and one of what is left; the largest keeps the name.

        Args:
          nodes: that are in parts.
          parts: number of the part of each node.
          colours: which colour each part is of, sorted.

        Returns:
          The nodes whose names are new.
        """
        sizes = np.bincount(parts)
        old, first, which = np.unique(colours, return_index=True, return_inverse=True)
        rest = self.sizes[old] - np.add.reduceat(sizes, first)
        largest = np.maximum.reduceat(sizes, first)
        # The first of the largest parts of a colour, if it is not smaller than what is left.
        is_largest = sizes == largest[which]
        place = np.where(is_largest, np.arange(len(sizes)), len(sizes))
        keeps = np.arange(len(sizes)) == np.minimum.reduceat(place, first)[which]
        keeps &= (rest <= largest)[which]
        left = old[(rest > 0) & (rest <= largest)]  # what is left of these has to be looked for
        others = self._nodes_of(left, nodes)
        new = self.num_colours + np.cumsum(~keeps) - 1
        self.names[others] = new[-1] + 1 + np.searchsorted(left, self.names[others])
        self.names[nodes] = np.where(keeps, colours, new)[parts]
        found = np.concatenate([nodes[~keeps[parts]], others])
        renamed, counts = np.unique(self.names[found], return_counts=True)
        self.sizes[renamed] = counts
        self.sizes[old] = np.where(rest > largest, rest, largest)
        self.num_colours += len(renamed)
        return found

    def _nodes_of(
        self, colours: Int[np.ndarray, " colours"], but: Int[np.ndarray, " nodes"]
    ) -> Int[np.ndarray, " others"]:
        """Return the nodes of some colours but for some; looks at all nodes if there are any."""
        if len(colours) == 0:
            return np.zeros(0, np.int64)
        is_wanted = np.isin(self.names, colours)
        is_wanted[but] = False
        return np.flatnonzero(is_wanted)


class _Edges:
    """The edges of a graph, sorted by sender."""

    def __init__(self, graph: jraph.GraphsTuple):
        senders = np.asarray(graph.senders)
        order = np.argsort(senders, kind="stable")
        self.receivers = np.asarray(graph.receivers)[order].astype(np.int64)
        num_nodes = len(graph.nodes)
        self.starts = np.searchsorted(senders[order], np.arange(num_nodes + 1))
        kinds = np.zeros(len(senders), np.int64)
        if graph.edges is not None:
            kinds = twins.equal_rows(as_held(np.asarray(graph.edges)))
        self.kinds = kinds[order]

    def of(self, senders: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the places of all edges from some senders, and which of these each is from."""
        sizes = self.starts[senders + 1] - self.starts[senders]
        ends = np.cumsum(sizes)
        owner = np.repeat(np.arange(len(senders)), sizes)
        first = self.starts[senders] - (ends - sizes)
        return np.arange(ends[-1]) + first[owner], owner


def _refine(
    partition: _Partition, edges: _Edges, changed: Int[np.ndarray, " changed"]
) -> Int[np.ndarray, " renamed"]:
    """Split colours by what is received of nodes whose colours are new; return those renamed.

    Of the part of an old colour that kept its name a node receives what it does not receive of the
    other parts; so these alone are looked at.
    """
    places, owner = edges.of(changed)
    if len(places) == 0:
        return places
    receivers = edges.receivers[places]
    words = _hash(partition.names[changed][owner], edges.kinds[places])
    order = np.argsort(receivers, kind="stable")
    affected, starts = np.unique(receivers[order], return_index=True)
    sums = [np.add.reduceat(word[order], starts) for word in words]  # overflow wraps around
    order = np.lexsort((*sums, partition.names[affected]))
    affected = affected[order]
    columns = [partition.names[affected], *(x[order] for x in sums)]
    is_new = np.ones(len(affected), bool)
    is_new[1:] = np.any([x[1:] != x[:-1] for x in columns], axis=0)
    return partition.split(affected, np.cumsum(is_new) - 1, columns[0][is_new])


def _hash(colour: np.ndarray, kind: np.ndarray) -> list[UInt64[np.ndarray, " edges"]]:
    """Return two words of each (colour, kind of edge), which look random and are added up.

    The mixing is SplitMix64's (Steele et al. 2014), from two starts.
    """
    starts = np.random.default_rng(HASH_SEED).integers(0, 2**64, (2, 2), dtype=np.uint64)
    words = []
    for start, step in starts:
        word = start + colour.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        word = _mix(word) + kind.astype(np.uint64) * (step | np.uint64(1))
        words.append(_mix(word))
    return words


def _mix(word: UInt64[np.ndarray, " edges"]) -> UInt64[np.ndarray, " edges"]:
    word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return word ^ (word >> np.uint64(31))
