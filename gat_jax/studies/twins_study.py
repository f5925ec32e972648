"""The study on real graphs: what training makes of twins, and what self-loops have to do with it.

For every graph, without and with self-loops, some networks are trained from several seeds, each of
them by `training.run_training` into a store of its own: a run that is stored stays, and the same
study again goes on. What is concluded from them, and by which rules, stands in `twins_rules`.
"""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from jaxtyping import Bool, Float, Int

from gat_jax.graphs import NodeTask, add_self_loops, load_task
from gat_jax.graphs import twins as graph_twins
from gat_jax.runtime.arrays import check_count
from gat_jax.studies.claims import verdicts
from gat_jax.studies.twins_rules import (
    BASE,
    CLAIMS,
    GAT,
    REMEDIES,
    SEP,
    Network,
    Place,
    Row,
    Rows,
    Twins,
    extra_claims,
    measure,
)
from gat_jax.training import State, TrainSpec, run_training
from gat_jax.training.plan import prepare

GRAPHS = ("cora", "texas", "cornell", "wisconsin", "chameleon_filtered")
NETWORKS = (BASE, *REMEDIES.values(), GAT, SEP)
LOOPS = (False, True)
RECIPES = Path(__file__).parent / "recipe_files"


@dataclasses.dataclass(frozen=True)
class TwinsConfig:
    """Which graphs, and how many runs of each network on each of them."""

    num_seeds: int = 4
    """runs of every network in every place; run s starts from seed s and is trained on split s"""
    seed: int = 0
    """root of all random numbers"""
    num_steps: int | None = None
    """of every run; none: the recipes', 200"""

    def __post_init__(self):
        """Refuse what has no interval."""
        check_count("num_seeds", self.num_seeds, 2)


class PlaceFacts(NamedTuple):
    """What is known of a place before anything is trained."""

    twins: Twins
    floor: Float[np.ndarray, " splits"]  # nats, of the training nodes, while all twins stay equal
    unavoidable_floor: Float[np.ndarray, " splits"]  # as trivial twins are


class PreparedTwins(NamedTuple):
    """A study that nothing about its input can stop any more."""

    config: TwinsConfig
    specs: dict[tuple[str, Network], TrainSpec]  # by graph and network
    places: dict[Place, PlaceFacts]

    @property
    def num_runs(self) -> int:
        """Of all networks in all places."""
        return len(self.specs) * len(LOOPS) * self.config.num_seeds


def prepare_twins_study(config: TwinsConfig, data: Mapping[str, str]) -> PreparedTwins:
    """Read all graphs and say what there is to train.

    Args:
      config: numbers of runs and steps.
      data: of every graph, by the name that results have for it: what `TrainSpec.data` takes.

    Raises:
      ValueError: names the graph, if it cannot be read, or has no splits or self-loops already.
    """
    specs, places = {}, {}
    for graph, source in data.items():
        try:
            task = load_task(source)
            if task.labels is None or task.splits is None:
                raise ValueError("expected labels and splits, got a graph without them")
            for network in NETWORKS:
                specs[graph, network] = spec_of(config, source, network)
                prepare(specs[graph, network])
            places |= {Place(graph, loops): facts_of(task, loops) for loops in LOOPS}
        except ValueError as error:
            raise ValueError(f"{graph}: {error}") from error
    return PreparedTwins(config, specs, places)


def spec_of(config: TwinsConfig, source: str, network: Network) -> TrainSpec:
    """Return how a network is trained on a graph, without and with self-loops."""
    name = network.form
    if name == "plain":
        name = {1: "one_head", 8: "eight_heads"}[network.heads]
    steps: dict[str, Any] = {}
    if config.num_steps is not None:
        steps = {"num_steps": config.num_steps, "record_every": config.num_steps}
    return TrainSpec(
        data=source,
        recipe=str(RECIPES / f"{name}.toml"),
        num_seeds=config.num_seeds,
        seed=config.seed,
        layer=(network.layer,),
        features=(network.features,),
        self_loops=LOOPS,
        measures=(),
        chunk_size=config.num_seeds,
        **steps,
    )


def facts_of(task: NodeTask, has_loops: bool) -> PlaceFacts:
    """Count the twins of a task, and those with different labels, without or with self-loops."""
    assert task.labels is not None
    assert task.splits is not None
    graph = add_self_loops(task.graph) if has_loops else task.graph
    classes = graph_twins.twin_classes(graph)
    counts = graph_twins.count_twins(classes)
    is_contested = contested(task.labels, classes.twin)
    # A network of several layers tells nodes apart whose senders merely have equal features, so
    # its floors are those of equal supports alone.
    only_trivial = np.where(classes.is_trivial, classes.twin, np.arange(len(classes.twin)))
    floors = [
        [
            graph_twins.loss_floor(np.where(is_trained_on, task.labels, -1), groups)
            for is_trained_on in task.splits.train
        ]
        for groups in (classes.twin, only_trivial)
    ]
    return PlaceFacts(
        Twins(
            counts.pairs,
            counts.trivial_pairs,
            int(np.sum(is_contested & ~classes.is_trivial)),
            int(np.sum(is_contested & classes.is_trivial)),
        ),
        *(np.array(floor) for floor in floors),
    )


def contested(
    labels: Int[np.ndarray, " nodes"], groups: Int[np.ndarray, " nodes"]
) -> Bool[np.ndarray, " nodes"]:
    """Return which labelled nodes have one of another label in their group.

    Args:
      labels: [N] class ids; -1 = unlabelled.
      groups: [N] equal entries for nodes of one group.
    """
    known = labels >= 0
    kinds = np.unique(np.stack([groups[known], labels[known]]), axis=1)[0]
    names, number = np.unique(kinds, return_counts=True)
    return known & np.isin(groups, names[number > 1])


# --- running --------------------------------------------------------------------------------------


def run_twins_study(
    prepared: PreparedTwins,
    folder: Path,
    *,
    should_stop: Callable[[], bool] = lambda: False,
    on_progress: Callable[[State], None] = lambda state: None,
) -> Rows | None:
    """Train what is missing.

    Args:
      prepared: by `prepare_twins_study`.
      folder: of the stores, one for each graph and network.
      should_stop: as `run_training`.
      on_progress: told how many of all runs are stored.

    Returns:
      The rows; None if it was stopped before all runs were there.

    Raises:
      ValueError: as `run_training`.
      OSError: if the disk refuses a run.
    """
    rows: dict[tuple[Place, Network], Row] = {}
    done = 0
    for (graph, network), spec in prepared.specs.items():

        def tell(state: State, before: int = done) -> None:
            on_progress(State(before + state.done, prepared.num_runs, state.message))

        path = folder / f"{graph}.{name_of(network)}.zarr"
        found = run_training(spec, path, should_stop=should_stop, on_progress=tell)
        if np.any(found["num_runs"].values < spec.num_seeds):
            return None
        for number, has_loops in enumerate(LOOPS):
            place = Place(graph, has_loops)
            rows[place, network] = row_of(found.isel(setting=number), prepared.places[place])
        done += len(LOOPS) * spec.num_seeds
    return rows


def name_of(network: Network) -> str:
    """Return what a network is called in the names of stores and in tables."""
    form, layer, heads, features = network
    return f"{form}_{layer}_h{heads}_{features}"


def row_of(found: xr.Dataset, facts: PlaceFacts) -> Row:
    """Return what a study keeps of the runs of one network in one place.

    Args:
      found: of `run_training`, one setting of it, without measures.
      facts: of the place.
    """
    is_sound = found["status"].values < 0

    def sound(values: np.ndarray) -> np.ndarray:
        return np.where(is_sound, values, np.nan)

    splits = found["seed"].values % len(facts.floor)
    equal = found["collided"].isel(layer=-1).values
    return Row(
        twins=facts.twins,
        equal_at_start=sound(equal[:, 0]),
        equal_after=sound(equal[:, -1]),
        test_accuracy=sound(found["test_accuracy"].values),
        contested_accuracy=sound(found["contested_accuracy"].values),
        other_accuracy=sound(found["other_accuracy"].values),
        loss=sound(found["loss"].values[:, -1]),
        floor=facts.floor[splits],
        unavoidable_floor=facts.unavoidable_floor[splits],
    )


# --- what is written ------------------------------------------------------------------------------


def document(prepared: PreparedTwins, rows: Rows) -> dict[str, Any]:
    """Return rows and verdicts as `study.json` has them; what is missing is null."""
    graphs = list(dict.fromkeys(place.graph for place in prepared.places))
    claims = CLAIMS | extra_claims(graphs)
    return {
        "config": dataclasses.asdict(prepared.config) | {"graphs": graphs},
        "verdicts": verdicts(claims, measure(rows)),
        "rows": [
            place._asdict() | network._asdict() | row.twins._asdict() | _lists(row)
            for (place, network), row in rows.items()
        ],
    }


def _lists(row: Row) -> dict[str, list[float | None]]:
    return {
        name: [float(x) if np.isfinite(x) else None for x in values]
        for name, values in row._asdict().items()
        if name != "twins"
    }
