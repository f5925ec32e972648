"""A block as a task: what it takes to compute it, anywhere, and what comes of it.

A task is plain data and its record depends on it alone, so it may be computed by any worker of the
same kind, and more than once. Nothing is written here: records go to whoever has the store's lock.
"""

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from gat_jax import sampling
from gat_jax.runtime import crew, engine
from gat_jax.sampling import (
    Counts,
    InitValues,
    MeasuredTiles,
    PreparedCell,
    Tile,
    decode,
    measure_tiles,
)
from gat_jax.sweeps.grid import Entry
from gat_jax.sweeps.machine import Machine
from gat_jax.sweeps.records import SCHEMA


class Share(NamedTuple):
    """How much of a machine a worker may take; fields as those of `Machine`."""

    chunk_size: int | None
    memory: int | None
    num_sharing: int


class BlockTask(NamedTuple):
    """A block that is to be computed."""

    entry: Entry
    prepared: PreparedCell
    block: int  # its number
    share: Share  # of the worker that computes it; it changes no result

    def __str__(self) -> str:
        return f"block {self.block} of {self.entry.name}"


class Record(NamedTuple):
    """What comes of a block."""

    counts: Counts
    values: dict[str, np.ndarray]  # kept values of every initialisation, by name


def describe() -> dict[str, str]:
    """Return what the bits of a record depend on beside its task, as it is in this process."""
    return crew.describe(schema=str(SCHEMA), batches_per_tile=str(sampling.BATCHES_PER_TILE))


def measure_block(task: BlockTask) -> Record:
    """Compute a block with all devices of this process.

    Raises:
      ValueError: if numbers overflow float32, or the memory does not suffice.
    """
    machine = Machine(executor="thread", **task.share._asdict())
    num_inits = task.entry.inits_of(task.block)
    ((_, record),) = measure_blocks(iter([task]), machine, num_inits=num_inits)
    return record


def measure_blocks(
    tasks: Iterator[BlockTask], machine: Machine, *, num_inits: int | None = None
) -> Iterator[tuple[BlockTask, Record]]:
    """Compute blocks of one cell in this process, keeping its devices busy across their borders.

    Args:
      tasks: read as they are needed.
      machine: to compute on.
      num_inits: about how many initialisations they have; None: as many as the cell.

    Yields:
      Each task with its record, in their order.

    Raises:
      ValueError: if numbers overflow float32, or the memory does not suffice.
    """
    first_task = next(tasks, None)
    if first_task is None:  # nothing to do, and so nothing to compile
        return
    prepared, under_way = first_task.prepared, []
    shape = prepared.shape

    def tiles() -> Iterator[Tile]:
        for task in itertools.chain([first_task], tasks):
            first = task.block * task.entry.block_size
            stop = first + task.entry.inits_of(task.block)
            cut = list(sampling.split_into_tiles(first, stop, shape))
            under_way.append((task, len(cut)))
            yield from cut

    load = machine.load_of(prepared, num_inits or first_task.entry.num_inits)
    results = measure_tiles(
        prepared,
        tiles(),
        devices=machine.devices,
        tiles_at_once=load.tiles_at_once,
        calls_under_way=load.calls_under_way,
    )
    measured: list[MeasuredTiles] = []  # of the block that is next
    for found in results:
        while under_way and _num_tiles(measured) + len(found.num_inits) >= under_way[0][1]:
            task, num_tiles = under_way.pop(0)
            last, found = found.split(num_tiles - _num_tiles(measured))
            yield task, _record(task, [*measured, last])
            measured = []
        if found.num_inits:
            measured.append(found)


def _num_tiles(measured: list[MeasuredTiles]) -> int:
    return sum(len(tiles.num_inits) for tiles in measured)


def _record(task: BlockTask, measured: list[MeasuredTiles]) -> Record:
    """Return the record of a block from all its tiles.

    Raises:
      ValueError: if numbers overflow float32.
    """
    entry = task.entry
    tally = engine.add_up(tiles.tally for tiles in measured)
    counts = decode(tally, entry.inits_of(task.block))
    if not all(np.isfinite(getattr(counts, name)) for name in sampling.SUMS):
        raise ValueError(
            f"{entry.name}: expected numbers that float32 holds, got an overflow; "
            "use smaller features or a smaller gain"
        )
    kept = [values for tiles in measured if (values := tiles.kept()) is not None]
    return Record(counts, _joined(kept, entry.block_size) if entry.is_kept else {})


def _joined(kept: list[InitValues], length: int) -> dict[str, np.ndarray]:
    """Return the kept values of the tiles of a block, by name, filled up with zeros."""
    joined = {}
    for name in InitValues._fields:
        values = np.concatenate([getattr(one, name) for one in kept])
        joined[name] = np.zeros(length, values.dtype)
        joined[name][: len(values)] = values
    return joined
