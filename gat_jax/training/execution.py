"""A chunk of seeds as a task, and who computes it: this process, its own processes, or a cluster.

A task is plain data, and its records depend on it alone: it may be computed by any worker of the
same kind, and more than once. Nothing is stored here: records go to whoever has the store's lock.
Only this process leaves checkpoints inside chunks; what a worker was computing when it died,
another one computes from its beginning.
"""

import collections
import contextlib
import functools
import hashlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from gat_jax.graphs import NodeTask
from gat_jax.runtime import crew
from gat_jax.runtime.crew import Workers
from gat_jax.runtime.devices import num_cores
from gat_jax.runtime.executors import Executor, Job, ShouldStop, ThisProcess
from gat_jax.runtime.pool import ProcessPool
from gat_jax.training import checkpoints, records, seeds
from gat_jax.training.history import TrainHistory
from gat_jax.training.machine import Machine
from gat_jax.training.spec import Setting

CHECKPOINT_SECONDS = 60.0  # between two checkpoints of a chunk

Arrays = dict[str, np.ndarray]  # records of the runs of a chunk: [runs, ...] by name


class ChunkTask(NamedTuple):
    """Runs of one setting that are to be computed together."""

    key: str  # of the setting in the store
    setting: Setting
    data: NodeTask
    num_classes: int
    seed: int  # root of all random numbers
    runs: tuple[int, ...]  # their numbers

    def __str__(self) -> str:
        return f"seeds {', '.join(map(str, self.runs))} of {self.setting.name}"

    @property
    def name(self) -> str:
        """What tells it from other chunks: its setting and its runs, and nothing else."""
        return f"{self.key}-{hashlib.sha256(str(list(self.runs)).encode()).hexdigest()[:16]}"


class Desk(NamedTuple):
    """All that the chunks of one setting share, on a device."""

    program: seeds.Program
    data: seeds.Data
    device: Any  # None: the first one


def describe() -> dict[str, str]:
    """Return what the bits of a record depend on beside its task, as it is in this process.

    XLA cuts a sum among the cores of a CPU, and so their number is part of it.
    """
    cores = str(num_cores()) if jax.default_backend() == "cpu" else "any"
    return crew.describe(schema=str(records.SCHEMA), cores=cores)


def desk_of(task: ChunkTask, device: Any = None) -> Desk:
    """Lay out the data of a setting on a device; None: on the first one."""
    recipe = task.setting.recipe
    data = seeds.prepare_data(task.data, recipe)
    return Desk(seeds.program_of(recipe, task.num_classes), jax.device_put(data, device), device)


def chunk_of(task: ChunkTask, desk: Desk) -> seeds.Chunk:
    """Return the runs of a task, as they are computed at a desk."""
    return seeds.Chunk(
        desk.data,
        task.setting.recipe.settings,
        # A first state whose device is not fixed would have a program compiled of its own.
        jax.device_put(seeds.keys_of(task.seed, task.runs), desk.device),
        np.array([run % len(desk.data.train) for run in task.runs], np.int32),
    )


# --- elsewhere ------------------------------------------------------------------------------------

_desks: dict[str, Desk] = {}  # the last one of this process, by its setting's key


def train_chunk(task: ChunkTask) -> Arrays:
    """Train the runs of a chunk, from their beginning to their end, on one device."""
    if task.key not in _desks:
        _desks.clear()
        _desks[task.key] = desk_of(task)
    desk = _desks[task.key]
    found = _last(seeds.compute(desk.program, chunk_of(task, desk)))
    return records.arrays_of(*found)


def _last(calls: Iterator[Any]) -> tuple[TrainHistory, seeds.Outcome]:
    """Return what a chunk comes to, without keeping what it yields on the way."""
    (found,) = collections.deque(calls, maxlen=1)
    return found


# --- here -----------------------------------------------------------------------------------------


class Attended(NamedTuple):
    """What chunks in this process are computed with."""

    devices: tuple[Any, ...]  # each computes a chunk at a time
    folder: Path  # of checkpoints
    should_stop: ShouldStop  # asked after every call; chunks then leave a checkpoint
    on_part: Callable[[ChunkTask, float], None]  # told which share of a chunk has been made


def train_chunks(
    tasks: Iterator[ChunkTask], attended: Attended
) -> Iterator[tuple[ChunkTask, Arrays]]:
    """Train chunks of one setting in this process, on each of its devices one at a time.

    Calls of programs are begun and not waited for, and so one thread keeps all devices busy.

    Yields:
      Each task with its records, in the order in which they are finished.
    """
    desks: dict[int, Desk] = {}  # by place among the devices
    under_way: dict[int, tuple[ChunkTask, Iterator[float | Arrays]]] = {}
    while True:
        for place, device in enumerate(attended.devices):
            if place not in under_way and (task := next(tasks, None)) is not None:
                desks[place] = desks.get(place) or desk_of(task, device)
                under_way[place] = task, _calls(task, desks[place], attended)
        if not under_way:
            return
        for place, (task, calls) in list(under_way.items()):
            found = next(calls, None)
            if isinstance(found, float):
                attended.on_part(task, found)
                continue
            del under_way[place]
            if isinstance(found, dict):  # else it was stopped
                yield task, found


def _calls(task: ChunkTask, desk: Desk, attended: Attended) -> Iterator[float | Arrays]:
    """Compute a chunk from its checkpoint, and leave new ones.

    Yields:
      The share of it that has been made, after each call; at the end its records.
    """
    program, chunk, name = desk.program, chunk_of(task, desk), task.name
    num_records = program.config.num_steps // program.config.record_every
    progress = None
    if any(attended.folder.glob(f"{name}.*")):
        progress = checkpoints.load(attended.folder, name, seeds.shapes_of(program, chunk))
    if progress is not None:
        progress = progress._replace(state=jax.device_put(progress.state, desk.device))
    saved = time.monotonic()
    for found in seeds.compute(program, chunk, progress):
        if not isinstance(found, seeds.Progress):
            yield records.arrays_of(*found)
            return
        is_over = attended.should_stop()
        if is_over or time.monotonic() - saved > CHECKPOINT_SECONDS:
            checkpoints.save(attended.folder, name, found)
            saved = time.monotonic()
        yield min(found.num_begun, num_records) / (num_records + 1)
        if is_over:
            return


# --- who computes ---------------------------------------------------------------------------------


@contextlib.contextmanager
def workers_of(
    machine: Machine, should_stop: ShouldStop, on_message: Callable[[str], None]
) -> Iterator[Workers | None]:
    """Find the workers that compute chunks, where there is to be a cluster: `crew.workers_of`."""
    job = Job(train_chunk, describe, describe())

    def tell(address: str) -> None:
        on_message(f"Dashboard of the cluster: {address}")

    told = should_stop, on_message, tell
    with crew.workers_of(machine.scheduler, machine.num_processes, job, *told) as workers:
        yield workers


@contextlib.contextmanager
def executor_of(
    machine: Machine, workers: Workers | None, attended: Attended
) -> Iterator[Executor]:
    """Be ready to compute chunks.

    Args:
      machine: says who does it.
      workers: of a cluster; None: without one.
      attended: what they are computed with in this process.
    """
    if workers is not None:
        yield workers.cluster
    elif machine.executor == "process":
        crew.check_alone("executor", machine.executor)
        job = Job(train_chunk, describe, describe())
        with ProcessPool(job, machine.num_processes) as pool:
            yield pool
    else:
        yield ThisProcess(functools.partial(train_chunks, attended=attended))
