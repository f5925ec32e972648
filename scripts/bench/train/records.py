"""What it costs to watch a training: the same runs with records and measures, and without.

Runs are those of `gat-jax train`: chunks of seeds, called record by record.
"""

import dataclasses
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from bench import common
from gat_jax.graphs import NodeTask, datasets
from gat_jax.training import load_recipe, seeds
from gat_jax.training.spec import DEFAULT_MEASURES

RECORD_EVERY = 10  # steps
PLAIN = "without records"
SYSTEMS = {  # what is recorded on the way: whether anything is, and which measures beside it
    PLAIN: (False, ()),
    "records": (True, ()),
    "records and measures": (True, DEFAULT_MEASURES),
}


class Case(NamedTuple):
    """A training that is watched or not."""

    name: str
    recipe: str
    data: str  # a built-in graph, or a file in the folder of data
    num_seeds: int  # in one chunk, as many as `gat-jax train` takes on a CPU
    num_steps: int


CASES = (
    Case("tutorial graph, watched", "tutorial", "tutorial", num_seeds=8, num_steps=20_000),
    Case("Cora, watched", "gat_paper_cora", "cora.npz", num_seeds=8, num_steps=50),
)


class Run(NamedTuple):
    """One way to train a chunk."""

    program: seeds.Program
    chunk: seeds.Chunk

    def __call__(self) -> float:
        """Train; return the mean score on the nodes in the loss, which records may not change."""
        *_, last = seeds.compute(self.program, self.chunk)
        outcome: Any = last[1]  # of all that is yielded, the last is history and outcome
        return float(np.mean(outcome.train_score))


def load(case: Case, data_dir: Path) -> NodeTask:
    """Read the data of a case.

    Raises:
      ValueError: names the file and what is wrong with it.
    """
    is_file = case.data.endswith(".npz")
    return datasets.load_task(data_dir / case.data if is_file else case.data)


def make_run(case: Case, task: NodeTask, system: str) -> Run:
    """Return a case as it is trained by a recipe, with what a system records."""
    is_recorded, measures = SYSTEMS[system]
    recipe = load_recipe(case.recipe)
    record_every = RECORD_EVERY if is_recorded else case.num_steps
    config = dataclasses.replace(
        recipe.config, num_steps=case.num_steps, record_every=record_every, measures=measures
    )
    recipe = dataclasses.replace(recipe, config=config)
    data = seeds.prepare_data(task, recipe)
    assert task.labels is not None
    chunk = seeds.Chunk(
        jax.device_put(data),
        recipe.settings,
        seeds.keys_of(0, range(case.num_seeds)),
        np.zeros(case.num_seeds, np.int32),
    )
    return Run(seeds.program_of(recipe, int(task.labels.max()) + 1), chunk)


def measure_records(data_dir: Path, *, repeats: int) -> list[dict[str, Any]]:
    """Time all cases with all that can be recorded; the runs are compared beforehand.

    Returns:
      Entries as the benchmark's, the throughput in steps times seeds per second. The ratio is that
      to the run without records in the same round, so 1.1 is a cost of 10%.

    Raises:
      RuntimeError: if records change what is trained.
    """
    return [entry for case in CASES for entry in _measure_case(case, load(case, data_dir), repeats)]


def _measure_case(case: Case, task: NodeTask, repeats: int) -> list[dict[str, Any]]:
    runs = {system: make_run(case, task, system) for system in SYSTEMS}
    scores, first_seconds = {}, {}
    for system, run in runs.items():
        start = time.perf_counter()
        scores[system] = run()
        first_seconds[system] = time.perf_counter() - start
    if len(set(scores.values())) > 1:
        raise RuntimeError(f"{case.name}: expected the same score of all, got {scores}")
    times = common.interleave(runs, repeats)
    num_steps = case.num_steps * case.num_seeds
    return [
        {
            "case": case.name,
            "graph": task.name,
            "pass": "training step",
            "system": system,
            "setting": f"{case.num_seeds} seeds, {case.num_steps} steps",
            "settings_tried": None,
            "median_seconds": float(np.median(times[system])) / num_steps,
            "seconds": times[system],
            "throughput": num_steps / float(np.median(times[system])),
            "ratio_to_peer": common.ratio(times[system], times[PLAIN]),
            "max_relative_error": 0.0,
            "peak_mib": None,
            "compile_seconds": first_seconds[system],
        }
        for system in runs
    ]
