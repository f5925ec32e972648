"""What a store says of its blocks, so that it can be read without anything beside it.

The header holds the spec, what is known of its graphs, the size of each cell's blocks, and what
bit-equality rests on. A store is summarised from it in any folder, without the files of its graphs.
"""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from gat_jax.graphs import GRAPH_NAMES, datasets
from gat_jax.runtime.store import METADATA
from gat_jax.sweeps.spec import AXES, SweepSpec, spec_from


class GraphFacts(NamedTuple):
    """What is known of a graph without its nodes and edges."""

    num_nodes: int
    num_edges: int
    num_features: int
    num_pairs: int  # of non-trivial twins
    num_classes: int  # of non-trivial twins
    num_compared_pairs: int  # of which gaps and causes are counted: all pairs, or a sample


class Header(NamedTuple):
    """What a store says of its blocks."""

    spec: SweepSpec
    graph_digests: dict[str, str]  # of the contents, by the name in the spec
    graphs: dict[str, GraphFacts]  # by the name in the spec
    block_sizes: dict[str, int]  # initialisations of a block, by the key of the cell
    device: str
    version_jax: str
    version_jaxlib: str
    batches_per_tile: int

    def to_json(self) -> dict[str, Any]:
        """Return the header as JSON has it, with lists in the place of tuples."""
        fields = self._asdict() | {
            "spec": dataclasses.asdict(self.spec),
            "graphs": {name: facts._asdict() for name, facts in self.graphs.items()},
        }
        return json.loads(json.dumps(fields))


# What bit-equality rests on: blocks that differ in it are not added up.
SAME = ("device", "version_jax", "version_jaxlib", "batches_per_tile")


def graph_id(name: str, digest: str) -> str:
    """Return what the random numbers of a graph depend on.

    It is the name of a built-in graph, and the contents of any other: how a path is spelled, and
    where the file lies, changes no number.

    Args:
      name: as it stands in a spec.
      digest: of the graph's contents.
    """
    return name if name.removesuffix(datasets.SELF_LOOPS) in GRAPH_NAMES else f"sha256:{digest}"


def header_from(stored: Mapping[str, Any], path: Path) -> Header | None:
    """Return the header of a store from what JSON holds; None: there is none yet.

    Args:
      stored: of `Blocks.header`.
      path: of the store.

    Raises:
      ValueError: names the file, and the field that is missing or not what it should be.
    """
    if not stored:
        return None
    place = f"store: {path / 'blocks' / METADATA}"
    spec = spec_from(_field(stored, "spec", dict, place), f"{place}: spec")
    digests = _field(stored, "graph_digests", dict, place)
    graphs = _field(stored, "graphs", dict, place)
    sizes = _field(stored, "block_sizes", dict, place)
    for key in sizes:
        _field(sizes, key, int, f"{place}: block_sizes", least=1)
    return Header(
        spec=spec,
        graph_digests={
            name: _field(digests, name, str, f"{place}: graph_digests") for name in spec.graph
        },
        graphs={name: _facts(graphs, name, f"{place}: graphs") for name in spec.graph},
        block_sizes=sizes,
        device=_field(stored, "device", str, place),
        version_jax=_field(stored, "version_jax", str, place),
        version_jaxlib=_field(stored, "version_jaxlib", str, place),
        batches_per_tile=_field(stored, "batches_per_tile", int, place),
    )


def _facts(graphs: Mapping[str, Any], name: str, place: str) -> GraphFacts:
    found = _field(graphs, name, dict, place)
    numbers = (_field(found, x, int, f"{place}: {name}", least=1) for x in GraphFacts._fields)
    return GraphFacts(*numbers)


def _field(found: Mapping[str, Any], name: str, kind: type, place: str, least: int = 0) -> Any:
    """Return a field of some JSON, which has to be there and of its type."""
    words = {dict: "an object", str: "a text", int: f"a whole number of at least {least}"}
    value = found.get(name)
    is_right = isinstance(value, kind) and not isinstance(value, bool)
    if not is_right or (isinstance(value, int) and value < least):
        got = repr(value) if name in found else "none"
        raise ValueError(f"{place}: {name}: expected {words[kind]}, got {got[:200]}")
    return value


def check_enlarges(old: Header | None, new: Header) -> None:
    """Check that a store's blocks are a part of what is to be computed.

    Args:
      old: header of the store; None for a new one.
      new: header of what is asked for.

    Raises:
      ValueError: shows the difference.
    """
    if old is None:
        return
    differences = [
        f"{field} {getattr(old, field)} in the store, {getattr(new, field)} here"
        for field in SAME
        if getattr(old, field) != getattr(new, field)
    ]
    differences += _differences_of_graphs(old, new)
    before, now = old.spec, new.spec
    for field in ("seed", "measure", "keep", "block_size"):
        if getattr(before, field) != getattr(now, field):
            values = f"{getattr(before, field)} in the store, {getattr(now, field)} asked for"
            differences.append(f"{field} {values}")
    for axis in AXES:
        values = getattr(before, axis) if axis != "graph" else ()
        missing = [str(value) for value in values if value not in getattr(now, axis)]
        if missing:
            differences.append(f"{axis} without {', '.join(missing)}, which the store has")
    if now.gain and not before.gain:
        differences.append("gain given, but the store has the initialisers' own")
    if now.num_inits < before.num_inits:
        differences.append(f"num_inits {before.num_inits} in the store, {now.num_inits} now")
    if (now.precision or 0.0) > (before.precision or 0.0):
        differences.append(f"precision {before.precision} in the store, {now.precision} now")
    if differences:
        raise ValueError(
            f"out: expected a spec that enlarges the store's, got: {'; '.join(differences)}"
        )


def _differences_of_graphs(old: Header, new: Header) -> list[str]:
    """Return which graphs of a store are not asked for; names that are paths may differ."""
    wanted = {(graph_id(*pair), pair[1]) for pair in new.graph_digests.items()}
    found = []
    for name, digest in old.graph_digests.items():
        if (graph_id(name, digest), digest) in wanted:
            continue
        is_asked_for = name in new.graph_digests
        found.append(
            f"graph {name} has changed since"
            if is_asked_for
            else f"graph without {name}, which the store has"
        )
    return found
