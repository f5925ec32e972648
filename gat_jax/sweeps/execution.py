"""Who computes the blocks of a sweep: its executor, made of what the user asked for."""

import contextlib
import functools
from collections.abc import Callable, Iterator

from gat_jax import sampling
from gat_jax.runtime import crew
from gat_jax.runtime.blocks import Blocks
from gat_jax.runtime.crew import Workers, check_alone
from gat_jax.runtime.executors import Executor, Job, ThisProcess
from gat_jax.runtime.pool import ProcessPool
from gat_jax.sweeps import tasks
from gat_jax.sweeps.grid import Grid
from gat_jax.sweeps.machine import FEW_TILES, Machine
from gat_jax.sweeps.tasks import Share


@contextlib.contextmanager
def workers_of(
    machine: Machine,
    should_stop: Callable[[], bool],
    on_message: Callable[[str], None],
    on_dashboard: Callable[[str], None],
) -> Iterator[Workers | None]:
    """Find the workers that compute blocks, where there is to be a cluster: `crew.workers_of`."""
    job = Job(tasks.measure_block, tasks.describe, tasks.describe())
    told = should_stop, on_message, on_dashboard
    with crew.workers_of(machine.scheduler, len(machine.devices), job, *told) as workers:
        yield workers


def decided(machine: Machine, cells: Grid, blocks: Blocks) -> Machine:
    """Return a machine whose executor is no longer "auto".

    Args:
      machine: with the user's wish.
      cells: of the sweep.
      blocks: that are there already.

    Raises:
      ValueError: if the memory does not suffice, or processes cannot be had here.
    """
    if machine.executor == "process":
        check_alone("executor", machine.executor)
    num_tiles, timed = 0, None
    for entry in cells.entries:
        present = len(blocks.present(entry.key))
        missing = max(0, entry.num_inits - present * entry.block_size)
        prepared = cells.prepared[entry.key]
        num_tiles += -(-missing // prepared.shape.tile_size)
        timed = timed or (prepared if missing else None)
    if machine.chosen(float("inf")).executor != "process" or timed is None:
        return machine.chosen(0.0)
    processes = machine.chosen(float("inf")).of_one_process()
    try:  # each of them compiles
        for prepared in cells.prepared.values():
            sampling.check_memory(prepared.shape, processes.memory_limit)
    except ValueError:
        if machine.executor == "process":
            raise
        return machine.chosen(0.0)
    if machine.executor == "process" or num_tiles < FEW_TILES:
        return machine.chosen(0.0)
    # Tiles of all cells take about the same time: the size of their batches sees to that.
    load = machine.load_of(timed, timed.shape.tile_size * len(machine.devices))
    calls = -(-num_tiles // load.program.tiles_per_call)
    return machine.chosen(calls * load.seconds_of_call(timed))


@contextlib.contextmanager
def executor_of(machine: Machine, workers: Workers | None) -> Iterator[tuple[Executor, Share]]:
    """Be ready to compute blocks.

    Args:
      machine: whose executor is decided.
      workers: of a cluster; None: without one.

    Yields:
      The executor, and how much of its machine each of its workers may take.
    """
    if workers is not None:
        yield workers.cluster, _share(machine, workers.num_sharing)
    elif machine.executor == "process":
        one = machine.of_one_process()
        job = Job(tasks.measure_block, tasks.describe, tasks.describe())
        with ProcessPool(job, machine.num_processes) as pool:
            yield pool, _share(one, one.num_sharing)
    else:
        compute = functools.partial(tasks.measure_blocks, machine=machine)
        yield ThisProcess(compute), _share(machine, machine.num_sharing)


def _share(machine: Machine, num_sharing: int) -> Share:
    return Share(machine.chunk_size, machine.memory, num_sharing)
