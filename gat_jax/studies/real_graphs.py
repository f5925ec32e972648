"""Real graphs: how many twins there are, how many are equal at initialisation, what it costs."""

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import numpy as np
import xarray as xr

from gat_jax import graphs
from gat_jax.graphs import NodeTask, TwinCounts, twins
from gat_jax.layers import LayerConfig
from gat_jax.runtime.stats import mean_share_interval
from gat_jax.sampling import Cell, Counts, sample
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


def jobs(
    tasks: Iterable[tuple[NodeTask, int]], *, seed: int
) -> dict[str, Callable[[], list[GraphRow]]]:
    """Return what there is to compute for each (task, number of initialisations), by name."""
    return {
        task.name: functools.partial(study_graph, task, num_inits=num_inits, seed=seed)
        for task, num_inits in tasks
    }


def study_graph(task: NodeTask, *, num_inits: int, seed: int) -> list[GraphRow]:
    """Look at one graph without and with self-loops; 2 channels, the tutorial's initialiser."""
    rows = []
    for loops in LOOPS:
        graph = task.graph if loops == "without" else graphs.add_self_loops(task.graph)
        classes = twins.twin_classes(graph)
        pairs = twins.twin_pairs(classes)
        floor = unavoidable_floor = None
        if task.labels is not None:
            floor = twins.loss_floor(task.labels, classes.smallest)
            unavoidable_floor = twins.loss_floor(task.labels, twins.inseparable_classes(graph))
        counts = {}
        if len(pairs.first):
            for heads in HEADS:
                layer = LayerConfig(heads=heads, initializer="tutorial")
                cell = Cell(f"{task.name}.{loops}_loops", layer)
                counts[heads] = sample(
                    cell, graph, pairs, num_inits=num_inits, seed=seed, only_signs=True
                )
        rows.append(
            GraphRow(
                graph=task.name,
                loops=loops,
                num_nodes=len(graph.nodes),
                num_edges=len(graph.senders),
                twins=twins.count_twins(classes),
                loss_floor=floor,
                unavoidable_loss_floor=unavoidable_floor,
                counts=counts,
            )
        )
    return rows


def measurements(
    results: Mapping[str, list[GraphRow]],
) -> tuple[dict[str, Measurement], dict[str, Claim]]:
    """Turn rows into measurements by id, and say what the ids mean."""
    measured: dict[str, Measurement] = {}
    claims: dict[str, Claim] = {}
    for row in (row for rows in results.values() for row in rows):
        prefix, place = f"graph.{row.graph}.{row.loops}_loops", _describe(row)
        for heads in HEADS:
            claims[f"{prefix}.collision.gat.h{heads}"] = Claim(
                f"{row.graph} {row.loops} self-loops: share of non-trivial twin pairs equal at "
                f"initialisation, {heads} head{'s'[: heads > 1]}."
            )
            measured[f"{prefix}.collision.gat.h{heads}"] = _collision(row, heads, place)
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
                claims[f"{prefix}.{kind}"] = Claim(
                    f"{row.graph} {row.loops} self-loops: lowest mean cross-entropy {which}."
                )
                measured[f"{prefix}.{kind}"] = deterministic(value, place)
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
