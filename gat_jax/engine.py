"""Tiles of work onto devices: which are computed when, and added up in which order.

What makes results independent of chunks, devices and processes, bit for bit:

* the numbers of a tile depend on its number alone (`sampling`);
* one program computes one tile on one device: more devices run the same program on more tiles,
  and a chunk is a number of tiles under way at once, not a shape;
* tallies are added on the host, as int64 and float64, in the order of the tiles.

It rests on the same kind of device and the same versions of JAX and XLA: another machine's vector
instructions may round otherwise.
"""

import collections
import functools
import os
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import jax
import jraph
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from gat_jax import sampling
from gat_jax.compiling import jit_tiles
from gat_jax.sampling import Cell, Counts, Lanes, Shape, Tally, Task
from gat_jax.twins import TwinPairs

MAX_CALLS_UNDER_WAY = 16  # more of them hide no more of the host's work


class Tile(NamedTuple):
    """One tile of a task: its initialisations from `first` on."""

    first: int  # number of its first initialisation
    num_inits: int  # how many of them count


class Result(NamedTuple):
    """What came back of one tile, on the host."""

    tile: Tile
    tally: Tally
    lanes: Lanes | None


class Memory(NamedTuple):
    """Bytes that a task needs on each device."""

    running: int  # while a tile is computed
    result: int  # for each tile under way


def default_devices() -> tuple[jax.Device, ...]:
    """Return the devices of this process."""
    return tuple(jax.local_devices())


def total_memory() -> int:
    """Return the bytes of memory there are for the work: the accelerators', or the host's."""
    stats = jax.local_devices()[0].memory_stats()
    if stats and "bytes_limit" in stats:
        return stats["bytes_limit"] * jax.local_device_count()
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


@functools.cache
def _program(shape: Shape, devices: tuple[jax.Device, ...], *, keep_lanes: bool):
    """Return the function (inputs, first_batch [D], num_inits [D]) of one tile on each device."""
    mesh = Mesh(np.array(devices), ("init",))

    def on_one_device(inputs, first_batch, num_inits):
        result = sampling.run_tile(
            inputs, first_batch[0], num_inits[0], shape=shape, keep_lanes=keep_lanes
        )
        return jax.tree.map(lambda x: x[None], result)

    whole, split = PartitionSpec(), PartitionSpec("init")
    return jit_tiles(
        jax.shard_map(
            on_one_device,
            mesh=mesh,
            in_specs=(whole, split, split),
            out_specs=split,
            check_vma=False,
        )
    )


def measure_memory(task: Task, *, keep_lanes: bool = False) -> Memory:
    """Compile a task for one device and ask the compiler for its memory."""
    program = _program(task.shape, default_devices()[:1], keep_lanes=keep_lanes)
    numbers = np.zeros(1, np.uint32), np.zeros(1, np.int32)
    analysis = program.lower(task.inputs, *numbers).compile().memory_analysis()
    return Memory(analysis.temp_size_in_bytes, analysis.output_size_in_bytes)


def run_tiles(
    task: Task,
    tiles: Iterable[Tile],
    *,
    devices: tuple[jax.Device, ...],
    calls_under_way: int = MAX_CALLS_UNDER_WAY,
    keep_lanes: bool = False,
) -> Iterator[Result]:
    """Compute tiles, and yield their results in the order given.

    Args:
      task: what is computed.
      tiles: of that task, read as they are needed.
      devices: each computes one tile at a time.
      calls_under_way: how many tiles each device may have computed or be computing before the
        first of them is fetched.
      keep_lanes: also return values of every initialisation.
    """
    program = _program(task.shape, devices, keep_lanes=keep_lanes)
    under_way: collections.deque = collections.deque()
    tiles = iter(tiles)
    while True:
        while len(under_way) < calls_under_way:
            group = [tile for _, tile in zip(devices, tiles, strict=False)]
            if not group:
                break
            # A device without a tile of its own computes one that does not count.
            padded = [*group, *[Tile(0, 0)] * (len(devices) - len(group))]
            first = np.array([tile.first // task.shape.batch_size for tile in padded], np.uint32)
            num_inits = np.array([tile.num_inits for tile in padded], np.int32)
            under_way.append((group, program(task.inputs, first, num_inits)))
        if not under_way:
            return
        group, (tallies, lanes) = under_way.popleft()
        tallies = Tally(*map(np.asarray, tallies))
        lanes = None if lanes is None else Lanes(*map(np.asarray, lanes))
        for k, tile in enumerate(group):
            one = None if lanes is None else Lanes(*(x[k, : tile.num_inits] for x in lanes))
            yield Result(tile, Tally(*(x[k] for x in tallies)), one)


def split_into_tiles(first: int, stop: int, shape: Shape) -> Iterator[Tile]:
    """Cut the initialisations from `first`, a multiple of the tile size, to `stop` into tiles."""
    for start in range(first, stop, shape.tile_size):
        yield Tile(start, min(shape.tile_size, stop - start))


def add_up(tallies: Iterable[Tally]) -> Tally:
    """Add tallies in the order given, as int64 and float64."""
    total = None
    for tally in tallies:
        wide = Tally(
            *(np.asarray(x, np.int64 if x.dtype.kind in "iu" else np.float64) for x in tally)
        )
        total = wide if total is None else Tally(*map(np.add, total, wide))
    if total is None:
        raise ValueError("tallies: expected at least one, got none")
    return total


def sample(
    cell: Cell,
    graph: jraph.GraphsTuple,
    pairs: TwinPairs,
    *,
    num_inits: int,
    seed: int,
    only_signs: bool = False,
) -> Counts:
    """Draw initialisations of one cell and count what happens to its twins, on one device.

    Args:
      cell: what is drawn.
      graph: with raw features, which `cell.features` may replace.
      pairs: all pairs of non-trivial twins of the graph, at least one.
      num_inits: at least 1.
      seed: root of all random numbers.
      only_signs: leave out what needs attention weights; see `sampling.make_task`.

    Raises:
      ValueError: without pairs, or when less than one initialisation is asked for.
    """
    if num_inits < 1:
        raise ValueError(f"num_inits: expected at least 1, got {num_inits}")
    task = sampling.make_task(cell, graph, pairs, seed=seed, only_signs=only_signs)
    tiles = split_into_tiles(0, num_inits, task.shape)
    results = run_tiles(task, tiles, devices=default_devices()[:1])
    return sampling.decode(add_up(x.tally for x in results), num_inits, task.shape)
