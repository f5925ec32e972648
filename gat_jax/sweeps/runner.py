"""Running a sweep: what is missing of every cell is computed, block by block, and summed up.

There is one way through a sweep, for Python and for the command alike (`run_sweep`): prepare the
cells, open the store under its lock, compute and store the missing blocks, and write the summary
from the blocks. Everything that can be refused is refused before the first block is computed, and
a block that is stored stays, whatever comes after it.
"""

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import xarray as xr
from jax.experimental import multihost_utils

from gat_jax.runtime import locks, store
from gat_jax.runtime.blocks import Blocks
from gat_jax.runtime.devices import provenance
from gat_jax.runtime.executors import Executor
from gat_jax.sampling import Counts
from gat_jax.sweeps import execution, grid, records
from gat_jax.sweeps.grid import Entry, Grid
from gat_jax.sweeps.header import check_enlarges, header_from
from gat_jax.sweeps.machine import Machine
from gat_jax.sweeps.spec import SweepSpec
from gat_jax.sweeps.summary import save_summary, summarise
from gat_jax.sweeps.tasks import BlockTask, Share


class SummaryError(RuntimeError):
    """The blocks are stored, but what they add up to could not be computed or written."""


class Progress(NamedTuple):
    """What is reported while a sweep runs."""

    done: int  # initialisations that are stored, or need not be computed
    total: int
    computed: int = 0  # of those, by this process in this run
    message: str | None = None  # something to tell, once
    dashboard: str | None = None  # address of the cluster's, told once


def run_sweep(
    spec: SweepSpec,
    path: Path | str,
    *,
    machine: Machine | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> xr.Dataset:
    """Run a sweep, or go on with one; return its summary, which the store holds as well.

    The same call again computes only what is missing: after an interruption, or for a spec that
    enlarges the one of the store. Where JAX runs as several processes, each of them calls this and
    computes a share; the last one writes the summary.

    Args:
      spec: what is swept.
      path: of the store, a folder; `xarray.open_zarr` opens it afterwards.
      machine: what to compute on; None: all devices of this process.
      should_stop: asked before each block; those under way are then finished and stored (in other
        processes those that take no longer than a second), and the summary says of each cell
        whether it is complete.
      on_progress: told of every stored block, and of damaged ones, which are computed again.

    Returns:
      The summary; see `summarise` for its dimensions and variables.

    Raises:
      ValueError: if a graph or a cell cannot be used, the numbers overflow float32, or the store
        cannot be written, is in use, of another schema, or conflicts with the spec.
      OSError: if the disk refuses a block.
      TaskError: if a worker cannot compute a block, after it was begun three times.
      WorkersLostError: if a cluster goes away, or a local one does not start.
      SummaryError: if the summary cannot be written; the same call writes it from the blocks.

    Whatever is raised, blocks that are stored are kept, and no process is left behind.
    """
    path, machine = Path(path), machine or Machine()
    cells = grid.prepare(spec, memory=machine.memory)
    # Taken first: a long computation must not be lost to what is unknown afterwards.
    origin = provenance()
    nothing = Progress(0, len(cells.entries) * spec.num_inits)
    with contextlib.ExitStack() as stack:
        workers = stack.enter_context(
            execution.workers_of(
                machine,
                should_stop,
                lambda text: on_progress(nothing._replace(message=text)),
                lambda text: on_progress(nothing._replace(dashboard=text)),
            )
        )
        if workers is not None:
            cells = cells._replace(header=cells.header._replace(device=workers.device))
            origin |= {"device": workers.device}
        blocks = stack.enter_context(opened(cells, path))
        machine = execution.decided(machine, cells, blocks)
        with execution.executor_of(machine, workers) as (executor, share):
            _compute_all(cells, blocks, executor, share, should_stop, on_progress)
        try:
            dataset = summarise(cells, blocks, origin)
            # Of several processes the last one has all blocks; interrupted ones do not wait for it.
            if is_complete(dataset) or should_stop() or jax.process_count() == 1:
                save_summary(dataset, path)
        except Exception as error:  # whatever it is, it must not look as if the numbers were lost
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise SummaryError(
                f"summary: expected to write it to {path}, got {reason}; the same sweep "
                "again writes it from the blocks that are stored"
            ) from error
    return dataset


def is_complete(dataset: xr.Dataset) -> bool:
    """Whether every cell that exists has all its blocks, or as many as its precision needs."""
    return bool((dataset["is_complete"] | (dataset["num_pairs"] == 0)).all())


# --- the store ----------------------------------------------------------------------------------


@contextlib.contextmanager
def opened(cells: Grid, path: Path) -> Iterator[Blocks]:
    """Open a store for a sweep, under its lock.

    Of the processes of one distributed sweep, the first one checks and locks the store, and lets
    the others in.

    Args:
      cells: what is to be computed.
      path: of the store.

    Raises:
      ValueError: if the store cannot be written, is in use, or conflicts with the spec.
    """
    is_first, refusal = jax.process_index() == 0, None
    with contextlib.ExitStack() as stack:
        try:
            if is_first:
                store.check_store(path)
                lock = stack.enter_context(locks.locked(path))
                store.remove_scratch(path)
                blocks = Blocks(path, schema=records.SCHEMA)
                check_enlarges(header_from(blocks.header, path), cells.header)
                blocks.set_header(cells.header.to_json())
                locks.share(lock)
        except Exception as error:  # the others wait for word, whatever it was
            refusal = error
        if jax.process_count() > 1:
            refusal = _agree(cells.header.to_json(), refusal)
        if refusal is not None:
            raise refusal
        if not is_first:
            stack.enter_context(locks.locked(path, is_member=True))
        yield Blocks(path, schema=records.SCHEMA)


def _agree(wanted: Mapping[str, Any], refusal: Exception | None) -> Exception | None:
    """Compare with process 0 what is to be computed; return what stands against it."""
    text = json.dumps(wanted, sort_keys=True).encode()
    mine = np.frombuffer(hashlib.sha256(text).digest()[:4], np.int32)
    word = np.array([refusal is None, mine[0]], np.int32)
    is_open, theirs = np.asarray(multihost_utils.broadcast_one_to_all(word))
    if refusal is None and not is_open:
        return ValueError("out: expected process 0 to open the store, but it refused")
    if refusal is None and theirs != mine[0]:
        return ValueError(
            "distributed: expected the same spec, graphs, devices and versions as process 0"
        )
    return refusal


# --- computing ----------------------------------------------------------------------------------


class _CellState:
    """What has been done of a cell."""

    def __init__(self, entry: Entry):
        """Start with nothing."""
        self.entry = entry
        self.prefix = records.Prefix(entry)
        self.stored = 0  # initialisations
        self.under_way = 0  # blocks
        self.is_handed_out = False  # all blocks that this process is to compute

    @property
    def done(self) -> int:
        """Initialisations that are stored, or need not be computed."""
        is_over = self.is_handed_out and not self.under_way
        return self.entry.num_inits if is_over else self.stored

    def add(self, block: int, counts: Counts) -> None:
        """Take in a block that is stored."""
        self.prefix.add(block, counts)
        self.stored += int(counts.num_inits)


def _compute_all(
    cells: Grid,
    blocks: Blocks,
    executor: Executor,
    share: Share,
    should_stop: Callable[[], bool],
    on_progress: Callable[[Progress], None],
) -> None:
    """Compute and store what is missing; arguments as in `run_sweep` and of `executor_of`."""
    states: dict[str, _CellState] = {}
    total, computed = len(cells.entries) * cells.spec.num_inits, 0

    def report(message: str | None = None) -> None:
        done = sum(state.done for state in states.values())
        on_progress(Progress(done, total, computed, message))

    def groups() -> Iterator[Iterator[BlockTask]]:
        for entry in cells.entries:
            if should_stop():
                return
            state = states[entry.key] = _CellState(entry)
            found, messages = records.read_blocks(blocks, entry)
            for message in messages:
                report(f"{message}. It is computed again.")
            for block in sorted(found):
                state.add(block, found[block])
            report()
            missing = [block for block in range(entry.num_blocks) if block not in found]
            prepared = cells.prepared[entry.key]
            numbers = _until_done(state, missing, blocks, should_stop)
            yield (BlockTask(entry, prepared, block, share) for block in numbers)
            report()

    for task, record in executor.run(groups(), should_stop):
        state = states[task.entry.key]
        records.write_block(blocks, task.entry, task.block, record.counts, record.values)
        state.add(task.block, record.counts)
        state.under_way -= 1
        computed += int(record.counts.num_inits)
        report()


def _until_done(
    state: _CellState,
    missing: list[int],
    blocks: Blocks,
    should_stop: Callable[[], bool],
) -> Iterator[int]:
    """Yield the blocks to compute, until the precision is reached or the user stops the sweep."""
    # A process computes the missing blocks whose number leaves its own when divided.
    for block in missing:
        if block % jax.process_count() != jax.process_index():
            continue
        if state.entry.precision is not None and jax.process_count() > 1:
            state.prefix.look_for_more(blocks)  # other processes decide with us when to stop
        if should_stop():
            return
        if state.prefix.is_done:
            break
        state.under_way += 1
        yield block
    state.is_handed_out = True
