"""The study: every id of `claims.CLAIMS`, and some of graphs, measured from real computation.

    tutorial_init       the printed layers, and random initialisations of the tutorial graph
    tutorial_training   training on the tutorial graph
    real_graphs         real graphs

Each part says what there is to compute (`jobs`) and turns the results into measurements, from
which `claims.judge` makes verdicts, and into a labelled dataset, from which figures and the report
are drawn. Jobs draw from random numbers of their own, so that their order changes nothing.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any, NamedTuple

import xarray as xr

from gat_jax.graphs import NodeTask, datasets
from gat_jax.studies import real_graphs, tutorial_init, tutorial_training
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


class PreparedStudy(NamedTuple):
    """A study that nothing about its input can stop any more."""

    config: StudyConfig
    jobs: dict[str, dict[str, Callable[[], Any]]]  # by part and name, what there is to compute


def _ignore_progress(done: int, total: int) -> None:
    pass


def prepare_study(config: StudyConfig, tasks: Iterable[NodeTask] = ()) -> PreparedStudy:
    """Check everything and say what there is to compute; takes a moment.

    Args:
      config: sizes and seed; the same config gives the same numbers on one kind of machine.
      tasks: graphs to look at beside the karate club and Les Miserables.

    Raises:
      ValueError: if two graphs have one name, or one of them cannot be studied.
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
    jobs = {  # the heaviest first, so that no thread is left with a long job at the end
        "runs": tutorial_training.runs_jobs(
            num_runs=config.num_runs, num_steps=config.num_steps, seed=seed
        ),
        "inits": tutorial_init.jobs(num_inits=config.num_inits, seed=seed),
        "graphs": real_graphs.jobs(graph_tasks, seed=seed),
        "starts": tutorial_training.article_jobs(num_steps=config.num_article_steps),
    }
    return PreparedStudy(config, jobs)


def run_study(
    prepared: PreparedStudy, *, on_progress: Callable[[int, int], None] = _ignore_progress
) -> Study:
    """Measure every id.

    Args:
      prepared: by `prepare_study`.
      on_progress: called with the number of jobs done, and of all jobs.
    """
    results = _run_jobs(prepared.jobs, on_progress)
    graph_measured, graph_claims = real_graphs.measurements(results["graphs"])
    return Study(
        tutorial_init.layer_measurements()
        | tutorial_init.measurements(results["inits"])
        | tutorial_training.measurements(results["runs"], results["starts"])
        | graph_measured,
        graph_claims,
        xr.merge(
            [
                tutorial_init.dataset(results["inits"]),
                tutorial_training.dataset(results["runs"], results["starts"]),
                real_graphs.dataset(results["graphs"]),
            ],
            join="exact",
        ).assign_attrs(dataclasses.asdict(prepared.config)),
    )


def _run_jobs(
    parts: Mapping[str, Mapping[Any, Callable[[], Any]]], on_progress: Callable[[int, int], None]
) -> dict[str, dict]:
    """Run all jobs in two threads (JAX computes without Python's lock); same keys as `parts`.

    After an error or Ctrl-C nothing new is begun, and the jobs under way are not waited for.
    """
    results: dict[str, dict] = {part: dict.fromkeys(jobs) for part, jobs in parts.items()}
    pool = ThreadPoolExecutor(max_workers=2)
    try:
        futures = {
            pool.submit(job): (part, name)
            for part, jobs in parts.items()
            for name, job in jobs.items()
        }
        for done, future in enumerate(as_completed(futures)):
            part, name = futures[future]
            results[part][name] = future.result()
            on_progress(done + 1, len(futures))
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    return results
