"""Real graphs: how many twins there are, how many are equal at initialisation, what it costs."""

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import jraph
import numpy as np
import xarray as xr

from gat_jax import graphs
from gat_jax.graphs import NodeTask, TwinClasses, TwinCounts, twins
from gat_jax.layers import LayerConfig
from gat_jax.report import count as count_of
from gat_jax.runtime.stats import mean_share_interval
from gat_jax.sampling import Cell, Counts, check_memory, prepare_cell, sample
from gat_jax.studies import claim_ids
from gat_jax.studies.claims import FEW_PAIRS, Claim, Measurement, deterministic

HEADS = (1, 8)
# Loops decide who is a twin: without them N(i) = N(k) ("open"), with them N[i] = N[k] ("closed").
LOOPS = ("without", "with")


class GraphRow(NamedTuple):
    """One graph, without or with self-loops."""

    graph: str
    loops: str  # one of LOOPS
    num_nodes: int
    num_edges: int
    twins: TwinCounts
    loss_floor: float | None  # nats, if all twins stay equal; None without labels
    unavoidable_loss_floor: float | None  # nats, of nodes that one layer cannot tell apart
    counts: dict[int, Counts]  # by number of heads; empty without non-trivial twins


class PreparedRow(NamedTuple):
    """A row whose initialisations are still to be counted."""

    row: GraphRow  # without counts
    graph: jraph.GraphsTuple
    classes: TwinClasses


def prepare(task: NodeTask) -> list[PreparedRow]:
    """Look at one graph without and with self-loops, and do all that may find fault with it.

    Raises:
      ValueError: names the graph, if it has self-loops already, labels that do not fit, or
        twins of so many neighbours that the machine's memory would not do.
    """
    try:
        return [_prepare_row(task, loops) for loops in LOOPS]
    except ValueError as error:
        raise ValueError(f"{task.name}: {error}") from error


def _prepare_row(task: NodeTask, loops: str) -> PreparedRow:
    # First with the loops: a graph that has some cannot be given any, nor be called one without.
    looped = graphs.add_self_loops(task.graph)
    graph = task.graph if loops == "without" else looped
    classes = twins.twin_classes(graph)
    is_node, is_edge = graphs.padding_masks(graph)
    floor = unavoidable_floor = None
    if task.labels is not None:
        floor = twins.loss_floor(task.labels, classes.smallest)
        unavoidable_floor = twins.loss_floor(task.labels, twins.inseparable_classes(graph))
    if twins.count_twins(classes).pairs:
        for heads in HEADS:
            cell = _cell(task.name, loops, heads)
            check_memory(prepare_cell(cell, graph, classes, seed=0, only_signs=True).shape, None)
    row = GraphRow(
        graph=task.name,
        loops=loops,
        num_nodes=int(is_node.sum()),
        num_edges=int(is_edge.sum()),
        twins=twins.count_twins(classes),
        loss_floor=floor,
        unavoidable_loss_floor=unavoidable_floor,
        counts={},
    )
    return PreparedRow(row, graph, classes)


def _cell(graph: str, loops: str, heads: int) -> Cell:
    """Return what is sampled: 2 channels, the tutorial's initialiser."""
    return Cell(f"{graph}.{loops}_loops", LayerConfig(heads=heads, initializer="tutorial"))


def jobs(
    tasks: Iterable[tuple[NodeTask, int]], *, seed: int
) -> dict[str, Callable[[], list[GraphRow]]]:
    """Return what there is to compute for each (task, number of initialisations), by name.

    Raises:
      ValueError: as `prepare`, of any of the graphs.
    """
    return {
        task.name: functools.partial(
            count_equal_twins, prepare(task), num_inits=num_inits, seed=seed
        )
        for task, num_inits in tasks
    }


def count_equal_twins(prepared: list[PreparedRow], *, num_inits: int, seed: int) -> list[GraphRow]:
    """Count how often the non-trivial twins of prepared graphs are equal at initialisation."""
    return [
        row._replace(
            counts={
                heads: sample(
                    _cell(row.graph, row.loops, heads),
                    graph,
                    classes,
                    num_inits=num_inits,
                    seed=seed,
                    only_signs=True,
                )
                for heads in HEADS
                if row.twins.pairs
            }
        )
        for row, graph, classes in prepared
    ]


def measurements(
    results: Mapping[str, list[GraphRow]],
) -> tuple[dict[str, Measurement], dict[str, Claim]]:
    """Turn rows into measurements by id, and say what the ids mean."""
    measured: dict[str, Measurement] = {}
    claims: dict[str, Claim] = {}
    for row in (row for rows in results.values() for row in rows):
        place = _describe(row)
        for heads in HEADS:
            name = claim_ids.of_graph_collision(row.graph, row.loops, heads)
            claims[name] = Claim(
                f"{row.graph} {row.loops} self-loops: share of non-trivial twin pairs equal at "
                f"initialisation, {count_of(heads, 'head')}."
            )
            measured[name] = _collision(row, heads, place)
        for kind, value in (
            ("loss_floor", row.loss_floor),
            ("unavoidable_loss_floor", row.unavoidable_loss_floor),
        ):
            if value is not None:
                which = (
                    "while all twins stay equal"
                    if kind == "loss_floor"
                    else "of one layer, whatever its parameters"
                )
                name = claim_ids.of_graph(row.graph, row.loops, kind)
                claims[name] = Claim(
                    f"{row.graph} {row.loops} self-loops: lowest mean cross-entropy {which}."
                )
                measured[name] = deterministic(value, place)
    return measured, claims


def _describe(row: GraphRow) -> str:
    found = row.twins
    text = (
        f"{row.num_nodes} nodes; {found.pairs} non-trivial twin pairs in {found.classes} classes "
        f"of {found.nodes} nodes; {found.trivial_pairs} trivial pairs of {found.trivial_nodes} "
        "nodes, equal for all parameters."
    )
    if 0 < found.pairs < FEW_PAIRS:
        text += " Too few pairs to say anything about graphs like this one."
    return text


def _collision(row: GraphRow, heads: int, place: str) -> Measurement:
    """Mean share of pairs; pairs of one initialisation are dependent, initialisations are not."""
    if heads not in row.counts:
        return Measurement(
            None, None, None, 0, f"Nothing to measure: no non-trivial twins. {place}"
        )
    count, num_pairs = row.counts[heads], row.twins.pairs
    all_equal = count.all_pairs_collided / count.num_inits
    text = f"All pairs are equal at once in {all_equal:.1%} of the initialisations. {place}"
    low, high = mean_share_interval(
        count.collisions, count.squared_shares, count.num_inits, num_pairs
    )
    mean = mean_share_of_pairs(count, num_pairs)
    return Measurement(mean, low, high, int(count.num_inits), text)


def mean_share_of_pairs(count: Counts, num_pairs: int) -> float:
    """Return the mean over initialisations of the share of pairs that collide."""
    return float(count.collisions / (count.num_inits * num_pairs))


def dataset(results: Mapping[str, list[GraphRow]]) -> xr.Dataset:
    """Label the rows by graph, self-loops and heads; NaN where there is nothing to measure."""
    names = list(results)
    rows = [
        [row for row in results[name] if row.loops == loops] for name in names for loops in LOOPS
    ]
    flat = [row for (row,) in rows]

    def by_loops(values) -> tuple[tuple[str, str], np.ndarray]:
        return ("graph", "loops"), np.array(list(values)).reshape(len(names), len(LOOPS))

    shares = np.full((len(flat), len(HEADS)), np.nan)
    for i, row in enumerate(flat):
        for j, heads in enumerate(HEADS):
            if heads in row.counts:
                shares[i, j] = mean_share_of_pairs(row.counts[heads], row.twins.pairs)
    variables = {
        f"graph_{field}": by_loops(getattr(row.twins, field) for row in flat)
        for field in TwinCounts._fields
    }
    for field in ("loss_floor", "unavoidable_loss_floor"):
        floors = (getattr(row, field) for row in flat)
        variables[f"graph_{field}"] = by_loops(np.nan if x is None else x for x in floors)
    return xr.Dataset(
        {
            **variables,
            "graph_num_nodes": by_loops(row.num_nodes for row in flat),
            "graph_num_edges": by_loops(row.num_edges for row in flat),
            "graph_collision_share": (
                ("graph", "loops", "graph_heads"),
                shares.reshape(len(names), len(LOOPS), len(HEADS)),
            ),
        },
        coords={"graph": names, "loops": list(LOOPS), "graph_heads": list(HEADS)},
    )
