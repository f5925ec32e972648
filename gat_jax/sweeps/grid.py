"""The cells of a sweep: ready to be computed, or as a store knows them.

The initialisations of a cell are cut into blocks of a size that the cell alone decides, so that
blocks are the same whoever computes them, and a larger sweep goes on with those of a smaller one.
"""

import hashlib
import itertools
import json
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jaxlib.version
import jraph
import numpy as np

from gat_jax import sampling
from gat_jax.graphs import TwinClasses, load_graph, twins
from gat_jax.layers import LayerConfig
from gat_jax.runtime.devices import device_name
from gat_jax.sampling import Cell, PreparedCell, prepare_cell
from gat_jax.sweeps.header import GraphFacts, Header, graph_id
from gat_jax.sweeps.spec import SweepSpec

MAX_BLOCK_TILES = 64
MAX_COUNT = 2**62  # of pairs in all initialisations of a cell


class Entry(NamedTuple):
    """One cell of the grid, as far as its blocks are to be read."""

    key: str  # its folder in the store
    name: str  # for people
    labels: dict[str, Any]  # its value on every axis
    graph: GraphFacts
    num_inits: int
    block_size: int  # initialisations of a block, in whole tiles
    precision: float | None  # width of the interval that ends the cell early
    is_kept: bool  # values of every initialisation are stored as well

    @property
    def num_heads(self) -> int:
        """Heads of its layer."""
        return self.labels["heads"]

    @property
    def num_pairs(self) -> int:
        """Pairs of twins of its graph."""
        return self.graph.num_pairs

    @property
    def num_compared_pairs(self) -> int:
        """Pairs of its graph that are compared one by one: all of them, or a sample."""
        return self.graph.num_compared_pairs

    @property
    def num_classes(self) -> int:
        """Classes of twins of its graph, those of one node left out."""
        return self.graph.num_classes

    @property
    def num_blocks(self) -> int:
        """How many blocks its initialisations make."""
        return -(-self.num_inits // self.block_size)

    def inits_of(self, block: int) -> int:
        """Return how many initialisations a block has: the last one may not be full."""
        return min(self.block_size, self.num_inits - block * self.block_size)


class Grid(NamedTuple):
    """A spec with all its cells."""

    spec: SweepSpec
    entries: list[Entry]  # the cells that exist, in the order of the grid
    header: Header  # what a store says of its blocks
    prepared: dict[str, PreparedCell]  # by key, ready to be computed; empty if read from a store


class NamedGraph(NamedTuple):
    """A graph of a spec, with all that is known of it."""

    graph: jraph.GraphsTuple
    digest: str  # of its contents
    classes: TwinClasses
    facts: GraphFacts


def prepare(spec: SweepSpec, *, memory: int | None = None) -> Grid:
    """Read the graphs of a spec and prepare every cell that exists.

    Args:
      spec: of the sweep.
      memory: bytes that it may take; None: as `memory_limit` says.

    Raises:
      ValueError: if a graph cannot be used, a cell cannot be sampled, or the memory does not
        suffice.
    """
    graphs = _load_graphs(spec)
    digests = {name: graph.digest for name, graph in graphs.items()}
    facts = {name: graph.facts for name, graph in graphs.items()}
    prepared, sizes = {}, {}
    for labels in _labels(spec):
        graph = graphs[labels["graph"]]
        key = _key(labels, graph.digest)
        prepared[key] = _prepare(spec, labels, graph)
        shape = prepared[key].shape
        sampling.check_memory(shape, memory)
        last = 2**32 * shape.batch_size  # a batch has a number of 32 bits
        if spec.num_inits > last:
            raise ValueError(f"num_inits: expected at most {last}, got {spec.num_inits}")
        countable = MAX_COUNT // graph.facts.num_pairs
        if spec.num_inits > countable:
            raise ValueError(
                f"num_inits: expected at most {countable}, so that counts of the pairs of "
                f"{labels['graph']} fit into 64 bits, got {spec.num_inits}"
            )
        num_tiles = max(1, min(spec.block_size // shape.tile_size, MAX_BLOCK_TILES))
        sizes[key] = num_tiles * shape.tile_size
    if not prepared:
        raise ValueError("heads: expected 1 among them for gcn, got none: the grid has no cell")
    header = Header(
        spec=spec,
        graph_digests=digests,
        graphs=facts,
        block_sizes=sizes,
        device=device_name(),
        version_jax=jax.__version__,
        version_jaxlib=jaxlib.version.__version__,
        batches_per_tile=sampling.BATCHES_PER_TILE,
    )
    return grid_of(header)._replace(prepared=prepared)


def grid_of(header: Header) -> Grid:
    """Return the cells that a header speaks of, to read their blocks.

    Raises:
      ValueError: if it lacks one.
    """
    spec, entries = header.spec, []
    for labels in _labels(spec):
        key = _key(labels, header.graph_digests[labels["graph"]])
        if key not in header.block_sizes:
            raise ValueError(f"store: expected the size of the blocks of {key}, got none")
        entries.append(
            Entry(
                key=key,
                name=_name(labels),
                labels=labels,
                graph=header.graphs[labels["graph"]],
                num_inits=spec.num_inits,
                block_size=header.block_sizes[key],
                precision=spec.precision,
                is_kept=spec.keep == "raw",
            )
        )
    return Grid(spec, entries, header, {})


def _labels(spec: SweepSpec) -> list[dict[str, Any]]:
    """Return the values on every axis of each cell that exists, in the order of the grid."""
    cells = [
        dict(zip(spec.axes, values, strict=True))
        for values in itertools.product(*spec.axes.values())
    ]
    return [labels for labels in cells if labels["layer"] != "gcn" or labels["heads"] == 1]


def _load_graphs(spec: SweepSpec) -> dict[str, NamedGraph]:
    found: dict[str, NamedGraph] = {}
    for name in spec.graph:
        graph = load_graph(name)
        digest = _digest(graph)
        for other, known in found.items():
            if graph_id(other, known.digest) == graph_id(name, digest):
                raise ValueError(
                    f"graph: expected different graphs, got {other} and {name}, which are the same"
                )
        classes = twins.twin_classes(graph)
        counts = twins.count_twins(classes)
        if counts.pairs == 0:
            raise ValueError(f"graph: expected non-trivial twins, got none in {name}")
        num_nodes, num_features = np.shape(graph.nodes)
        facts = GraphFacts(
            num_nodes=num_nodes,
            num_edges=len(graph.senders),
            num_features=num_features,
            num_pairs=counts.pairs,
            num_classes=counts.classes,
            num_compared_pairs=sampling.num_compared_pairs(classes),
        )
        found[name] = NamedGraph(graph, digest, classes, facts)
    return found


def _digest(graph: jraph.GraphsTuple) -> str:
    """Return a digest of a graph's contents, with their shapes and types."""
    digest = hashlib.sha256()
    for part in (graph.nodes, graph.senders, graph.receivers):
        values = np.ascontiguousarray(part)
        digest.update(f"{values.dtype.str}{values.shape}".encode())
        digest.update(values.tobytes())
    return digest.hexdigest()


def _prepare(spec: SweepSpec, labels: dict[str, Any], graph: NamedGraph) -> PreparedCell:
    layer = LayerConfig(
        layer=labels["layer"],
        heads=labels["heads"],
        channels=labels["channels"],
        initializer=labels["initializer"],
    )
    cell = Cell(
        graph_id(labels["graph"], graph.digest),
        layer,
        labels["features"],
        slope=labels["slope"],
        gain=labels.get("gain"),
    )
    return prepare_cell(
        cell,
        graph.graph,
        graph.classes,
        seed=spec.seed,
        only_signs=spec.measure == "collisions",
        keep_values=spec.keep == "raw",
    )


def _name(labels: dict[str, Any]) -> str:
    return ".".join(
        f"{axis[0]}{value}" if isinstance(value, int | float) else Path(value).name
        for axis, value in labels.items()
    )


def _key(labels: dict[str, Any], digest: str) -> str:
    """Return the folder of a cell: words for people, and a digest that tells all cells apart.

    Of a graph that is no built-in one the contents count, not the name, which may be of any length
    and spelled in many ways.
    """
    known = graph_id(labels["graph"], digest)
    labels = labels | {"graph": known}
    words = _name(labels if known != f"sha256:{digest}" else labels | {"graph": "file"})
    return f"{words}-{hashlib.sha256(json.dumps(labels, sort_keys=True).encode()).hexdigest()[:8]}"
