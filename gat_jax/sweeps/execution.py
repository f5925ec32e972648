"""Who computes the blocks of a sweep: its executor, made of what the user asked for."""

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import jax

from gat_jax import sampling
from gat_jax.runtime import cluster, worker
from gat_jax.runtime.blocks import Blocks
from gat_jax.runtime.cluster import Cluster
from gat_jax.runtime.executors import Executor, Job, ThisProcess
from gat_jax.runtime.pool import ProcessPool
from gat_jax.sweeps import tasks
from gat_jax.sweeps.grid import Grid
from gat_jax.sweeps.machine import FEW_TILES, Machine
from gat_jax.sweeps.tasks import Share


class Workers(NamedTuple):
    """The workers of a cluster, ready to be given work."""

    cluster: Cluster
    device: str  # what they compute on
    num_sharing: int  # of them on one machine


@contextlib.contextmanager
def workers_of(
    machine: Machine,
    should_stop: Callable[[], bool],
    on_message: Callable[[str], None],
    on_dashboard: Callable[[str], None],
) -> Iterator[Workers | None]:
    """Find the workers of a cluster, where there is to be one, and check what they are.

    Args:
      machine: says which cluster.
      should_stop: whether to wait no longer for the first worker.
      on_message: told when there is none.
      on_dashboard: told the address of the cluster's dashboard.

    Yields:
      The workers; None: there is to be no cluster.

    Raises:
      ValueError: if there is no scheduler, or the results of a worker would differ from others.
      WorkersLostError: if the cluster goes away, or a local one does not start.
    """
    if machine.scheduler is None:
        yield None
        return
    _check_alone("scheduler", machine.scheduler)
    here = tasks.describe()
    with cluster.connected(machine.scheduler, len(machine.devices)) as client:
        job = Job(tasks.measure_block, tasks.describe, here)
        workers = Cluster(client, job, machine.scheduler, on_message)
        if workers.dashboard is not None:
            on_dashboard(workers.dashboard)
        expected = expected_of(here, workers.descriptions(should_stop))
        workers.job = job._replace(expected=expected)
        yield Workers(workers, expected["device"], workers.num_workers_of_a_machine())


def expected_of(
    here: Mapping[str, str], workers: Mapping[str, Mapping[str, str]]
) -> dict[str, str]:
    """Return what every worker has to be, so that all results have the same bits.

    It is what this process is. Where this process has a CPU alone and the workers have accelerators
    (it runs on the front end of a cluster), their device counts instead.

    Args:
      here: what this process is, texts by name.
      workers: what each worker is, by its address.

    Raises:
      ValueError: names the first worker that is something else.
    """
    expected = dict(here)
    platforms = {found.get("platform") for found in workers.values()}
    if here["platform"] == "cpu" and workers and not platforms & {"cpu", None}:
        first = next(iter(workers.values()))
        expected |= {name: first[name] for name in ("platform", "device")}
    for address, found in workers.items():
        if (wrong := worker.mismatch(expected, found)) is not None:
            raise ValueError(f"{wrong} on {address}")
    return expected


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
        _check_alone("executor", machine.executor)
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


def _check_alone(field: str, value: str) -> None:
    if jax.process_count() > 1:
        raise ValueError(f"{field}: expected none beside `distributed`, got {value}")
