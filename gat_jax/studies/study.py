"""The study: every id of `claims.CLAIMS`, and some of graphs, measured from real computation.

    study_init       the printed layers, and random initialisations of the tutorial graph
    study_training   training on the tutorial graph
    study_graphs     real graphs

Each part says what there is to compute (`jobs`) and turns the results into measurements, from
which `claims.judge` makes verdicts, and into a labelled dataset, from which figures and the report
are drawn. Jobs draw from random numbers of their own, so that their order changes nothing.
"""

import dataclasses
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any, NamedTuple

import xarray as xr

from gat_jax.graphs import NodeTask, datasets
from gat_jax.studies import real_graphs as study_graphs
from gat_jax.studies import tutorial_init as study_init
from gat_jax.studies import tutorial_training as study_training
from gat_jax.studies.claims import Claim, Measurement


@dataclasses.dataclass(frozen=True)
class StudyConfig:
    """Seed and sizes; the defaults are those of the main job."""

    seed: int = 0
    num_inits: int = 2**20  # of the tutorial graph, per setting
    num_graph_inits: int = 20_480  # of the karate club and Les Miserables
    num_data_inits: int = 2_048  # of every other graph
    num_runs: int = 2_048  # trainings per optimiser and number of heads
    num_steps: int = 1_000
    num_article_steps: int = 3_000

    def __post_init__(self):
        """Refuse what no study can be made of."""
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name != "seed" and value < 1:
                raise ValueError(f"{field.name}: expected at least 1, got {value}")
        # The ids speak of step 1000, and of an entropy that escapes within 1000 steps.
        for name in ("num_steps", "num_article_steps"):
            if getattr(self, name) < 1000:
                raise ValueError(f"{name}: expected at least 1000, got {getattr(self, name)}")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed: expected 0 to 4294967295, got {self.seed}")


class Study(NamedTuple):
    """What was found."""

    measured: dict[str, Measurement]
    extra_claims: dict[str, Claim]  # of ids beyond `claims.CLAIMS`
    dataset: xr.Dataset


def _ignore_progress(done: int, total: int) -> None:
    pass


def run_study(
    config: StudyConfig,
    tasks: Iterable[NodeTask] = (),
    *,
    on_progress: Callable[[int, int], None] = _ignore_progress,
) -> Study:
    """Measure every id.

    Args:
      config: sizes and seed; the same config gives the same numbers on one kind of machine.
      tasks: graphs to look at beside the karate club and Les Miserables.
      on_progress: called with the number of jobs done, and of all jobs.
    """
    graph_tasks = [
        (datasets.load_task("karate_club"), config.num_graph_inits),
        (datasets.load_task("les_miserables"), config.num_graph_inits),
        *((task, config.num_data_inits) for task in tasks),
    ]
    names = [task.name for task, _ in graph_tasks]
    if len(set(names)) < len(names):
        raise ValueError(f"tasks: expected graphs of different names, got {', '.join(names)}")
    seed = config.seed
    parts = {  # the heaviest first, so that no thread is left with a long job at the end
        "runs": study_training.runs_jobs(
            num_runs=config.num_runs, num_steps=config.num_steps, seed=seed
        ),
        "inits": study_init.jobs(num_inits=config.num_inits, seed=seed),
        "graphs": study_graphs.jobs(graph_tasks, seed=seed),
        "starts": study_training.article_jobs(num_steps=config.num_article_steps),
    }
    results = _run_jobs(parts, on_progress)
    graph_measured, graph_claims = study_graphs.measurements(results["graphs"])
    return Study(
        study_init.layer_measurements()
        | study_init.measurements(results["inits"])
        | study_training.measurements(results["runs"], results["starts"])
        | graph_measured,
        graph_claims,
        xr.merge(
            [
                study_init.dataset(results["inits"]),
                study_training.dataset(results["runs"], results["starts"]),
                study_graphs.dataset(results["graphs"]),
            ],
            join="exact",
        ).assign_attrs(dataclasses.asdict(config)),
    )


def _run_jobs(parts: dict[str, dict[str, Callable[[], Any]]], on_progress) -> dict[str, dict]:
    """Run all jobs in two threads (JAX computes without Python's lock); same keys as `parts`."""
    results: dict[str, dict] = {part: dict.fromkeys(jobs) for part, jobs in parts.items()}
    with ThreadPoolExecutor(max_workers=2) as pool:
        futures = {
            pool.submit(job): (part, name)
            for part, jobs in parts.items()
            for name, job in jobs.items()
        }
        try:
            for done, future in enumerate(as_completed(futures)):
                part, name = futures[future]
                results[part][name] = future.result()
                on_progress(done + 1, len(futures))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return results
