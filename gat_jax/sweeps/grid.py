"""The cells of a sweep, ready to be computed, and what a store says of them.

The initialisations of a cell are cut into blocks of a size that the cell alone decides, so that
blocks are the same whoever computes them, and a larger sweep goes on with those of a smaller one.
"""

import dataclasses
import hashlib
import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jaxlib.version
import jraph
import numpy as np

from gat_jax import sampling
from gat_jax.graphs import TwinPairs, load_graph, twins
from gat_jax.layers import LayerConfig
from gat_jax.runtime.devices import device_name
from gat_jax.sampling import Cell, PreparedCell, prepare_cell
from gat_jax.sweeps.spec import AXES, SweepSpec

MAX_BLOCK_TILES = 64


class Entry(NamedTuple):
    """One cell of the grid, ready to be computed."""

    key: str  # its folder in the store
    labels: dict[str, Any]  # its value on every axis
    prepared: PreparedCell
    num_inits: int
    block_size: int  # initialisations of a block, in whole tiles
    precision: float | None  # width of the interval that ends the cell early
    is_kept: bool  # values of every initialisation are stored as well

    @property
    def num_heads(self) -> int:
        """Heads of its layer."""
        return self.prepared.cell.layer.heads

    @property
    def num_pairs(self) -> int:
        """Pairs of twins of its graph."""
        return len(self.prepared.shape.layout.pairs)

    @property
    def num_classes(self) -> int:
        """Classes of twins of its graph, those of one node left out."""
        return self.prepared.shape.layout.num_classes

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
    header: dict[str, Any]  # what a store says of its blocks


def prepare(spec: SweepSpec) -> Grid:
    """Read the graphs of a spec and prepare every cell that exists.

    Raises:
      ValueError: if a graph cannot be used, or a cell cannot be sampled.
    """
    graphs = {name: load_graph(name) for name in spec.graph}
    pairs = {name: _twin_pairs(name, graph) for name, graph in graphs.items()}
    entries = []
    for values in itertools.product(*spec.axes.values()):
        labels = dict(zip(spec.axes, values, strict=True))
        if labels["layer"] == "gcn" and labels["heads"] != 1:
            continue
        name = labels["graph"]
        entries.append(_entry(spec, labels, graphs[name], pairs[name]))
    if not entries:
        raise ValueError("heads: expected 1 among them for gcn, got none: the grid has no cell")
    return Grid(spec, entries, _header(spec, graphs))


def _twin_pairs(name: str, graph: jraph.GraphsTuple) -> TwinPairs:
    pairs = twins.twin_pairs(twins.twin_classes(graph))
    if len(pairs.first) == 0:
        raise ValueError(f"graph: expected non-trivial twins, got none in {name}")
    return pairs


def _entry(
    spec: SweepSpec, labels: dict[str, Any], graph: jraph.GraphsTuple, pairs: TwinPairs
) -> Entry:
    layer = LayerConfig(
        layer=labels["layer"],
        heads=labels["heads"],
        channels=labels["channels"],
        initializer=labels["initializer"],
    )
    cell = Cell(
        labels["graph"], layer, labels["features"], slope=labels["slope"], gain=labels.get("gain")
    )
    prepared = prepare_cell(
        cell,
        graph,
        pairs,
        seed=spec.seed,
        only_signs=spec.measure == "collisions",
        keep_values=spec.keep == "raw",
    )
    # A name for people, and a digest that tells apart what the name does not: two files of one
    # name in different folders.
    name = ".".join(
        f"{axis[0]}{value}" if isinstance(value, int | float) else Path(value).name
        for axis, value in labels.items()
    )
    digest = hashlib.sha256(json.dumps(labels, sort_keys=True).encode()).hexdigest()
    num_tiles = max(1, min(spec.block_size // prepared.shape.tile_size, MAX_BLOCK_TILES))
    return Entry(
        key=f"{name}-{digest[:8]}",
        labels=labels,
        prepared=prepared,
        num_inits=spec.num_inits,
        block_size=num_tiles * prepared.shape.tile_size,
        precision=spec.precision,
        is_kept=spec.keep == "raw",
    )


# --- the header of a store ----------------------------------------------------------------------


def _header(spec: SweepSpec, graphs: Mapping[str, jraph.GraphsTuple]) -> dict[str, Any]:
    """Return what a store says of its blocks: the spec, and what bit-equality rests on."""
    digests = {}
    for name, graph in graphs.items():
        parts = (graph.nodes, graph.senders, graph.receivers)
        joined = b"".join(np.ascontiguousarray(part).tobytes() for part in parts)
        digests[name] = hashlib.sha256(joined).hexdigest()
    return {
        "spec": json.loads(json.dumps(dataclasses.asdict(spec))),
        "graph_digests": digests,
        "device": device_name(),
        "version_jax": jax.__version__,
        "version_jaxlib": jaxlib.version.__version__,
        "batches_per_tile": sampling.BATCHES_PER_TILE,
    }


def check_enlarges(old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """Check that a store's blocks are a part of what is to be computed.

    Args:
      old: header of the store; empty for a new one.
      new: header of what is asked for.

    Raises:
      ValueError: shows the difference.
    """
    if not old:
        return
    differences = []
    for field in ("device", "version_jax", "version_jaxlib", "batches_per_tile"):
        if old.get(field) != new[field]:
            differences.append(f"{field} {old.get(field)} in the store, {new[field]} here")
    for name, digest in old["graph_digests"].items():
        if new["graph_digests"].get(name, digest) != digest:
            differences.append(f"graph {name} has changed since")
    before, now = old["spec"], new["spec"]
    for field in ("seed", "measure", "keep", "block_size"):
        if before[field] != now[field]:
            differences.append(f"{field} {before[field]} in the store, {now[field]} asked for")
    for axis in AXES:
        missing = [str(value) for value in before[axis] if value not in now[axis]]
        if missing:
            differences.append(f"{axis} without {', '.join(missing)}, which the store has")
    if now["gain"] and not before["gain"]:
        differences.append("gain given, but the store has the initialisers' own")
    if now["num_inits"] < before["num_inits"]:
        differences.append(f"num_inits {before['num_inits']} in the store, {now['num_inits']} now")
    if (now["precision"] or 0.0) > (before["precision"] or 0.0):
        differences.append(f"precision {before['precision']} in the store, {now['precision']} now")
    if differences:
        raise ValueError(
            f"out: expected a spec that enlarges the store's, got: {'; '.join(differences)}"
        )
