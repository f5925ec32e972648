"""A block as a task: what it takes to compute it, anywhere, and what comes of it.

A task is plain data and its record depends on it alone, so it may be computed by any worker of the
same kind, and more than once. Nothing is written here: records go to whoever has the store's lock.
"""

import collections
import itertools
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool

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


class _UnderWay(NamedTuple):
    """A block of which at least one tile is being computed."""

    task: BlockTask
    num_tiles: int


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
    prepared, shape = first_task.prepared, first_task.prepared.shape
    under_way: collections.deque[_UnderWay] = collections.deque()

    def tiles() -> Iterator[Tile]:
        for task in itertools.chain([first_task], tasks):
            first = task.block * task.entry.block_size
            stop = first + task.entry.inits_of(task.block)
            cut = list(sampling.split_into_tiles(first, stop, shape))
            under_way.append(_UnderWay(task, len(cut)))
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
        while under_way and _num_tiles([*measured, found]) >= under_way[0].num_tiles:
            number = 1
            if not measured and not shape.keep_values:
                number = _num_alike(under_way, len(found.num_inits))
            blocks = [under_way.popleft() for _ in range(number)]
            last, found = found.split(number * blocks[0].num_tiles - _num_tiles(measured))
            yield from _records([block.task for block in blocks], [*measured, last])
            measured = []
        if found.num_inits:
            measured.append(found)


def _num_tiles(measured: Iterable[MeasuredTiles]) -> int:
    return sum(len(tiles.num_inits) for tiles in measured)


def _num_alike(under_way: Iterable[_UnderWay], num_tiles: int) -> int:
    """Return how many of the next blocks have as many tiles as the first and are in `num_tiles`.

    They are added up together, which an accelerator's host needs: one has thousands a second.
    """
    sizes = [block.num_tiles for block in itertools.islice(under_way, num_tiles)]
    whole = itertools.takewhile(lambda size: size == sizes[0], sizes)
    return min(len(list(whole)), num_tiles // sizes[0])


def _records(
    tasks: list[BlockTask], measured: list[MeasuredTiles]
) -> Iterator[tuple[BlockTask, Record]]:
    """Yield blocks of a cell with their records, from all tiles of all of them.

    Args:
      tasks: one, or several of as many tiles each of which no values are kept.
      measured: those tiles.

    Raises:
      ValueError: if numbers overflow float32.
    """
    totals = engine.add_up_each([tiles.tally for tiles in measured], len(tasks))
    counts = decode(totals, np.array([task.entry.inits_of(task.block) for task in tasks]))
    is_finite: Bool[np.ndarray, " tasks"] = np.logical_and.reduce(
        [np.isfinite(getattr(counts, name)) for name in sampling.SUMS]
    )
    kept = [values for tiles in measured if (values := tiles.kept()) is not None]
    for place, task in enumerate(tasks):
        if not is_finite[place]:
            raise ValueError(
                f"{task.entry.name}: expected numbers that float32 holds, got an overflow; "
                "use smaller features or a smaller gain"
            )
        values = _joined(kept, task.entry.block_size) if task.entry.is_kept else {}
        yield task, Record(Counts(*(x[place, ...] for x in counts)), values)


def _joined(kept: list[InitValues], length: int) -> dict[str, np.ndarray]:
    """Return the kept values of the tiles of a block, by name, filled up with zeros."""
    joined = {}
    for name in InitValues._fields:
        values = np.concatenate([getattr(one, name) for one in kept])
        joined[name] = np.zeros(length, values.dtype)
        joined[name][: len(values)] = values
    return joined
