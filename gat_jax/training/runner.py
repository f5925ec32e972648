"""Running a training: what is missing of every setting is computed, chunk by chunk, and summed up.

Everything that can be refused is refused before the first step, and a run that is stored stays,
whatever comes after it. The same call again goes on where the last one stopped.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import xarray as xr

from gat_jax.runtime import locks, store
from gat_jax.runtime.blocks import Blocks, DamagedBlockError
from gat_jax.runtime.devices import provenance
from gat_jax.training import checkpoints, execution, memory, records
from gat_jax.training.execution import Attended, ChunkTask
from gat_jax.training.machine import Machine
from gat_jax.training.plan import Prepared, prepare
from gat_jax.training.spec import TrainSpec
from gat_jax.training.summary import summarise

SECONDS = "seconds"  # in the header: wall time of the calls that ended by themselves
# Sizes of chunks that were chosen by memory, by setting: what goes on has chunks of the same seeds.
CHUNK_SIZES = "chunk_sizes"


class State(NamedTuple):
    """What is reported while a training runs."""

    done: int | float  # runs that are stored, and parts of those under way
    total: int
    message: str | None = None  # something to tell, once


def run_training(
    spec: TrainSpec,
    path: Path | str,
    *,
    machine: Machine | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    on_progress: Callable[[State], None] = lambda state: None,
) -> xr.Dataset:
    """Train all settings of a spec, or go on with them; return the summary of what is stored.

    Args:
      spec: what is trained.
      path: of the store, a folder; `xarray.open_zarr` opens it afterwards.
      machine: what to compute on; None: all devices of this process.
      should_stop: asked after each call of a program; a chunk under way in this process then leaves
        a checkpoint, and others are waited for no longer than a second.
      on_progress: told of every call, where this process computes, and of every chunk.

    Returns:
      The summary; see `summary.summarise` for its dimensions and variables.

    Raises:
      ValueError: if the spec cannot be used, one seed does not fit into the memory, or the store
        cannot be written, is in use, of another schema, or made with another device, number of
        cores, version of JAX or `XLA_FLAGS`.
      OSError: if the disk refuses a run.
      TaskError: if a worker cannot compute a chunk, after it was begun three times.
      WorkersLostError: if a cluster goes away, or a local one does not start.

    Whatever is raised, runs that are stored are kept, and no process is left behind.
    """
    path, prepared, machine = Path(path), prepare(spec), machine or Machine()
    origin = provenance()
    store.check_store(path)
    total = spec.num_seeds * len(prepared.settings)

    def tell(message: str) -> None:
        on_progress(State(0, total, message))

    with locks.locked(path), execution.workers_of(machine, should_stop, tell) as workers:
        maker = execution.describe() if workers is None else workers.description
        origin |= {"device": maker["device"]}
        store.remove_scratch(path)
        blocks = Blocks(path, schema=records.SCHEMA)
        here = _checked_header(blocks, maker)
        num_sharing = machine.num_sharing if workers is None else workers.num_sharing
        platform = machine.devices[0].platform if workers is None else workers.platform
        sizes = _chunk_sizes(prepared, here, platform, num_sharing)
        prepared = prepared.in_chunks_of(sizes)
        blocks.set_header(here)
        start = time.monotonic()
        work = _Work(prepared, sizes, blocks, path / "checkpoints", should_stop, on_progress)
        with execution.executor_of(machine, workers, work.attended(machine)) as executor:
            for task, arrays in executor.run(work.groups(), should_stop):
                work.store(task, arrays)
        seconds = float(here[SECONDS]) + time.monotonic() - start
        blocks.set_header({**here, SECONDS: seconds})
        dataset = summarise(prepared, blocks, origin, seconds=seconds)
        if int(dataset["num_runs"].sum()):
            store.save(dataset, path)
    return dataset


def _checked_header(blocks: Blocks, maker: Mapping[str, str]) -> dict[str, Any]:
    """Return the header of a store, once it is sure that its runs were made as those to come.

    Args:
      blocks: of the store.
      maker: what computes the runs, as `execution.describe` has it.
    """
    here = {name: maker[name] for name in ("device", "cores", "XLA_FLAGS")}
    here["version_jax"] = maker["jax"]
    for name, value in here.items():
        if (found := blocks.header.get(name, value)) != value:
            raise ValueError(f"out: expected a store of {name} {value}, got {found}")
    return {SECONDS: 0.0, CHUNK_SIZES: {}, **blocks.header, **here}


def _chunk_sizes(
    prepared: Prepared, header: dict[str, Any], platform: str, num_sharing: int
) -> list[int]:
    """Return how many seeds the chunks of each setting have; note in the header what is chosen.

    A size that was chosen once stays, however much memory is free when a training goes on: chunks
    of the same seeds have the same bits.

    Raises:
      ValueError: if one seed of a setting does not fit into the memory.
    """
    wanted = prepared.spec.chunk_size
    if wanted != "auto":
        return [wanted] * len(prepared.keys)
    chosen = dict(header[CHUNK_SIZES])
    for setting, key in zip(prepared.settings, prepared.keys, strict=True):
        if key not in chosen:
            chosen[key] = memory.chunk_size(
                setting,
                prepared.task,
                num_seeds=prepared.spec.num_seeds,
                platform=platform,
                num_sharing=num_sharing,
            )
    header[CHUNK_SIZES] = chosen
    return [int(chosen[key]) for key in prepared.keys]


class _Work:
    """What there is to do, and what has been done of it."""

    def __init__(
        self,
        prepared: Prepared,
        sizes: list[int],
        blocks: Blocks,
        checkpoint_folder: Path,
        should_stop: Callable[[], bool],
        on_progress: Callable[[State], None],
    ):
        """Start with nothing."""
        self._prepared, self._sizes, self._blocks = prepared, sizes, blocks
        self._folder = checkpoint_folder
        self._should_stop, self._on_progress = should_stop, on_progress
        self._is_over = False
        self._num_stored = 0
        self._left: dict[str, int] = {}  # runs of each setting that was looked at
        self._parts: dict[str, float] = {}  # runs, of chunks under way

    def attended(self, machine: Machine) -> Attended:
        """Return what chunks in this process are computed with."""
        return Attended(machine.devices, self._folder, self._should_stop, self._on_part)

    def groups(self) -> Iterator[Iterator[ChunkTask]]:
        """Yield the chunks that are missing of each setting."""
        for place, key in enumerate(self._prepared.keys):
            if self._is_over:
                return
            yield self._tasks(place, self._missing(key))

    def store(self, task: ChunkTask, arrays: execution.Arrays) -> None:
        """Store the runs of a chunk."""
        for place, run in enumerate(task.runs):
            of_run = {name: x[place] for name, x in arrays.items()}
            records.write_run(self._blocks, task.key, run, of_run)
        checkpoints.remove(self._folder, task.name)
        self._parts.pop(task.name, None)
        self._num_stored += len(task.runs)
        self._left[task.key] -= len(task.runs)
        self._report()
        self._clear(task.key)

    def _missing(self, key: str) -> list[int]:
        """Return the runs of a setting that are not stored, or damaged."""
        present, num_seeds = set(), self._prepared.spec.num_seeds
        for run in self._blocks.present(key):
            if run >= num_seeds:
                continue
            try:
                records.read_run(self._blocks, key, run)
                present.add(run)
            except DamagedBlockError as error:
                self._report(f"{error}. It is computed again.")
        self._num_stored += len(present)
        self._left[key] = num_seeds - len(present)
        self._report()
        self._clear(key)
        return [run for run in range(num_seeds) if run not in present]

    def _tasks(self, place: int, missing: list[int]) -> Iterator[ChunkTask]:
        prepared, setting = self._prepared, self._prepared.settings[place]
        fixed = prepared.task, prepared.num_classes, prepared.spec.seed
        for runs in chunks_of(missing, self._sizes[place]):
            if self._should_stop():
                self._is_over = True
                return
            yield ChunkTask(prepared.keys[place], setting, *fixed, tuple(runs))

    def _clear(self, key: str) -> None:
        """Remove the checkpoints of a setting that is done, those of runs in other company too."""
        if not self._left[key]:
            checkpoints.remove(self._folder, f"{key}-*")

    def _on_part(self, task: ChunkTask, share: float) -> None:
        self._parts[task.name] = len(task.runs) * share
        self._report()

    def _report(self, message: str | None = None) -> None:
        total = self._prepared.spec.num_seeds * len(self._prepared.keys)
        done = self._num_stored + sum(self._parts.values())
        self._on_progress(State(done, total, message))


def chunks_of(missing: list[int], size: int) -> Iterator[list[int]]:
    """Yield the runs to compute together: those of a multiple of the size, and the next ones."""
    for number in sorted({run // size for run in missing}):
        yield [run for run in missing if run // size == number]
