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
import contextlib
import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar, NamedTuple

import jax
import jraph
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from gat_jax.graphs import TwinPairs
from gat_jax.runtime.devices import jit_tiles
from gat_jax.sampling import sampler as sampling
from gat_jax.sampling.sampler import Cell, Counts, InitValues, Shape, Tally, Task

Devices = tuple[Any, ...]  # of jax.Device, which is no type to a type checker
MAX_CALLS_UNDER_WAY = 16  # more of them hide no more of the host's work


class Tile(NamedTuple):
    """One tile of a task: its initialisations from `first` on."""

    first: int  # number of its first initialisation
    num_inits: int  # how many of them count


class Result(NamedTuple):
    """What came back of one tile, on the host."""

    tile: Tile
    tally: Tally
    values: InitValues | None


class Memory(NamedTuple):
    """Bytes that a program needs on all its devices together."""

    running: int  # while each computes a tile
    results: int  # of the tiles of one call


def default_devices() -> Devices:
    """Return the devices of this process."""
    return tuple(jax.local_devices())


def use_cores(num_devices: int | None) -> None:
    """Make one device of each CPU core, or as many as asked for, unless JAX is in use already."""
    cores = len(os.sched_getaffinity(0))
    with contextlib.suppress(RuntimeError):  # in use: its devices are as they are
        jax.config.update("jax_num_cpu_devices", num_devices or cores)


def total_memory() -> int:
    """Return the bytes of memory there are for the work: the accelerators', or the host's."""
    stats = jax.local_devices()[0].memory_stats()
    if stats and "bytes_limit" in stats:
        return stats["bytes_limit"] * jax.local_device_count()
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


class Program:
    """One tile on each of some devices, compiled."""

    _cache: ClassVar[dict[Any, "Program"]] = {}

    def __init__(self, task: Task, devices: Devices, *, keep_lanes: bool):
        """Compile; see `Program.of`."""
        mesh = Mesh(np.array(devices), ("init",))
        whole, split = PartitionSpec(), PartitionSpec("init")

        def on_one_device(inputs, first_batch, num_inits):
            result = sampling.run_tile(
                inputs, first_batch[0], num_inits[0], shape=task.shape, keep_lanes=keep_lanes
            )
            return jax.tree.map(lambda x: x[None], result)

        function = jax.shard_map(
            on_one_device,
            mesh=mesh,
            in_specs=(whole, split, split),
            out_specs=split,
            check_vma=False,
        )
        self.devices = devices
        zeros = np.zeros(len(devices), np.uint32), np.zeros(len(devices), np.int32)
        self._compiled = jit_tiles(function).lower(task.inputs, *zeros).compile()
        analysis = self._compiled.memory_analysis()
        sizes = analysis.temp_size_in_bytes, analysis.output_size_in_bytes
        self.memory = Memory(*(size * len(devices) for size in sizes))

    @classmethod
    def of(cls, task: Task, devices: Devices, *, keep_lanes: bool) -> "Program":
        """Return the program of a task, compiled once for all tasks of its shape."""
        key = task.shape, frozenset(task.inputs.scales), devices, keep_lanes
        if key not in cls._cache:
            cls._cache[key] = cls(task, devices, keep_lanes=keep_lanes)
        return cls._cache[key]

    def __call__(self, inputs: sampling.Inputs, tiles: Sequence[Tile], batch_size: int):
        """Start computing one tile on each device; a device without a tile counts nothing."""
        padded = [*tiles, *[Tile(0, 0)] * (len(self.devices) - len(tiles))]
        first = np.array([tile.first // batch_size for tile in padded], np.uint32)
        num_inits = np.array([tile.num_inits for tile in padded], np.int32)
        return self._compiled(inputs, first, num_inits)

    def calls_within(self, memory: int) -> int:
        """Return how many calls may be under way at once within a budget of bytes.

        Raises:
          ValueError: if there is no room for one.
        """
        needed = self.memory.running + self.memory.results
        if needed > memory:
            raise ValueError(
                f"memory: expected at least {needed / 2**20:.1f} MiB for one tile on each device, "
                f"got {memory / 2**20:.1f}"
            )
        calls = (memory - self.memory.running) // max(1, self.memory.results)
        return min(calls, MAX_CALLS_UNDER_WAY)


def run_tiles(
    task: Task,
    tiles: Iterable[Tile],
    *,
    devices: Devices,
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
    program = Program.of(task, devices, keep_lanes=keep_lanes)
    under_way: collections.deque = collections.deque()
    tiles = iter(tiles)
    while True:
        while len(under_way) < calls_under_way:
            group = list(itertools.islice(tiles, len(devices)))
            if not group:
                break
            under_way.append((group, program(task.inputs, group, task.shape.batch_size)))
        if not under_way:
            return
        group, (tallies, lanes) = under_way.popleft()
        tallies = Tally(*map(np.asarray, tallies))
        lanes = None if lanes is None else InitValues(*map(np.asarray, lanes))
        for k, tile in enumerate(group):
            one = None if lanes is None else InitValues(*(x[k, : tile.num_inits] for x in lanes))
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
