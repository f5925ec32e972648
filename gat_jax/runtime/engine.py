"""Any function over numbered tiles of work, on every device, with the same bits whichever way.

A *tile* is the smallest piece of work whose result comes back: a few thousand initialisations, or
one training run. A call of a program computes one on every device, or as many at once as suit it.
The engine is handed the function and knows nothing of what it computes; results are pytrees of
arrays, and stay so. What makes them independent of the number of devices and of how
many tiles are under way, bit for bit:

* the numbers of a tile depend on the tile's own arguments alone, which is the function's duty;
* more devices run the same program on more tiles, and how many calls are under way is no shape;
* an accelerator is kept busy by many tiles at once, mapped over: the function reduces each for
  itself, in the same order;
* results that are to be added are added on the host, as int64 and float64, in the order of the
  tiles (`add_up`).

This rests on the same kind of device and the same versions of JAX and XLA: the vector instructions
of another machine may round otherwise.

    work = Work(function, static, inputs, example=tile_0)
    for tiles_of_call, values in run_tiles(work, tiles, devices=default_devices()):
        ...
"""

import collections
import functools
import itertools
import operator
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from gat_jax.runtime.devices import Devices
from gat_jax.runtime.programs import jit_tiles

MAX_CALLS_UNDER_WAY = 16  # more of them hide no more of the host's work
MAX_PROGRAMS = 64  # kept compiled, the least recently used one going first; some MiB each


class Work(NamedTuple):
    """A function over tiles, with all that its tiles share."""

    function: Callable[[Any, Any, Any], Any]
    """(static, inputs, tile) -> pytree of arrays; traced, so it must be pure. Programs are shared
    by equal functions: one that is made anew for every call is compiled for every call"""
    static: Hashable
    """what the function is compiled for: works that differ in it have programs of their own"""
    inputs: Any
    """pytree of NumPy arrays or scalars that every tile reads; works that differ in their numbers,
    and not in shapes and dtypes, share a program"""
    example: Any
    """the arguments of one tile, a pytree of NumPy scalars or arrays; those of all other tiles
    have the same structure and shapes, and are converted to the same dtypes"""


class Results(NamedTuple):
    """What came back of the tiles of one call: K of them."""

    tiles: list[Any]
    values: Any  # the function's pytree, of NumPy arrays [K, ...] on the host


class Memory(NamedTuple):
    """Bytes that a program needs on all its devices together."""

    running: int  # while each computes its tiles of one call
    results: int  # of the tiles of one call

    @property
    def total(self) -> int:
        """Bytes of one call by itself."""
        return self.running + self.results


class Program:
    """The function of some work, compiled to compute tiles on each of some devices."""

    def __init__(
        self,
        function: Callable[[Any, Any, Any], Any],
        static: Hashable,
        inputs: Any,
        example: Any,
        devices: Devices,
        tiles_at_once: int,
    ):
        """Compile for inputs and tiles of these shapes and dtypes; see `Program.of`."""
        mesh = Mesh(np.array(devices), ("tile",))
        whole, split = PartitionSpec(), PartitionSpec("tile")

        def on_one_device(inputs, tiles):
            if tiles_at_once > 1:
                return jax.vmap(lambda tile: function(static, inputs, tile))(tiles)
            tile = jax.tree.map(lambda x: x[0], tiles)
            return jax.tree.map(lambda x: x[None], function(static, inputs, tile))

        on_every_device = jax.shard_map(
            on_one_device,
            mesh=mesh,
            in_specs=(whole, split),
            out_specs=split,
            check_vma=False,
        )
        self.devices = devices
        self.tiles_per_call = len(devices) * tiles_at_once
        self._example = example
        tiles = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct((self.tiles_per_call, *x.shape), x.dtype), example
        )
        # What is traced and how it is compiled depends on the devices, and not on JAX's own choice.
        with jax.default_device(devices[0]):
            self._compiled = jit_tiles(on_every_device).lower(inputs, tiles).compile()
        analysis = self._compiled.memory_analysis()
        sizes = analysis.temp_size_in_bytes, analysis.output_size_in_bytes
        self.memory = Memory(*(size * len(devices) for size in sizes))

    @staticmethod
    def of(work: Work, devices: Devices, tiles_at_once: int = 1) -> "Program":
        """Return the program of some work, compiled once for all work that may share it.

        Args:
          work: the function and what its tiles share.
          devices: of one kind.
          tiles_at_once: how many tiles each of them computes in one call, mapped over.
        """
        leaves, structure = jax.tree.flatten((work.inputs, work.example))
        types = tuple(jax.ShapeDtypeStruct(x.shape, x.dtype) for x in map(jax.typeof, leaves))
        # Under `jax_enable_x64` the same function may compute in other dtypes.
        dtype = jnp.result_type(float)
        return _compile(work.function, work.static, structure, types, devices, tiles_at_once, dtype)

    def __call__(self, inputs: Any, tiles: Sequence[Any]) -> Any:
        """Start computing at least one tile, at most `tiles_per_call`.

        Returns:
          The function's pytree, every leaf with a leading axis of `tiles_per_call`. In place of
          tiles that are missing the last one is computed again, and is to be left out.
        """
        padded = [*tiles, *[tiles[-1]] * (self.tiles_per_call - len(tiles))]
        stacked = jax.tree.map(
            lambda like, *values: np.stack([np.asarray(x, like.dtype) for x in values]),
            self._example,
            *padded,
        )
        return self._compiled(inputs, stacked)

    def calls_within(self, memory: int) -> int:
        """Return how many calls may be under way at once within a budget of bytes.

        Raises:
          ValueError: if there is no room for one.
        """
        needed = self.memory.total
        if needed > memory:
            raise ValueError(
                f"memory: expected at least {needed / 2**20:.1f} MiB for one tile on each device, "
                f"got {memory / 2**20:.1f}"
            )
        calls = (memory - self.memory.running) // max(1, self.memory.results)
        return min(calls, MAX_CALLS_UNDER_WAY)


@functools.lru_cache(maxsize=MAX_PROGRAMS)
def _compile(
    function: Callable[[Any, Any, Any], Any],
    static: Hashable,
    structure: Any,
    types: tuple[jax.ShapeDtypeStruct, ...],
    devices: Devices,
    tiles_at_once: int,
    default_dtype: np.dtype,
) -> Program:
    """Compile a program; its arguments are all that it depends on, and hold no arrays."""
    del default_dtype  # part of the key alone
    inputs, example = jax.tree.unflatten(structure, types)
    return Program(function, static, inputs, example, devices, tiles_at_once)


def run_tiles(
    work: Work,
    tiles: Iterable[Any],
    *,
    devices: Devices,
    tiles_at_once: int = 1,
    calls_under_way: int = MAX_CALLS_UNDER_WAY,
) -> Iterator[Results]:
    """Compute tiles, and yield their results in the order given, those of one call together.

    To look at each of thousands of tiles a second takes the host longer than an accelerator takes
    to compute them.

    Args:
      work: the function and what its tiles share.
      tiles: arguments of each tile, read as they are needed: an endless iterator will do.
      devices: of one kind.
      tiles_at_once: how many tiles each of them computes in one call, mapped over.
      calls_under_way: how many calls may be computed or being computed before the results of the
        first of them are fetched; see `Program.calls_within`.

    Raises:
      ValueError: if no call may be under way.
    """
    if calls_under_way < 1:
        raise ValueError(f"calls_under_way: expected at least 1, got {calls_under_way}")
    program = Program.of(work, devices, tiles_at_once)
    under_way: collections.deque = collections.deque()
    tiles = iter(tiles)
    while True:
        while len(under_way) < calls_under_way:
            group = list(itertools.islice(tiles, program.tiles_per_call))
            if not group:
                break
            under_way.append((group, program(work.inputs, group)))
        if not under_way:
            return
        group, values = under_way.popleft()
        values = jax.device_get(values)  # waits for the devices
        yield Results(group, jax.tree.map(operator.itemgetter(slice(len(group))), values))


def add_up(calls: Iterable[Any]) -> Any:
    """Add pytrees of arrays [K, ...] along K, one entry after the other, in the order given.

    Integers are added as int64, all else as float64. The order is part of the result: float64 sums
    of other orders differ in their last bits. How entries are divided into calls is not.

    Raises:
      ValueError: if there is nothing to add.
    """
    total = None
    for stacked in calls:
        total = add_up_each([stacked] if total is None else [total, stacked], 1)
    if total is None:
        raise ValueError("results: expected at least one to add, got none")
    return jax.tree.map(lambda x: x[0, ...], total)


def add_up_each(calls: Sequence[Any], number: int) -> Any:
    """Add pytrees of arrays [K, ...] along equal parts of K, each part for itself.

    The cost on the host is that of one call of `add_up`, not of as many as there are parts.

    Args:
      calls: what comes after each other; at least one.
      number: of parts; it divides the sum of their K.

    Returns:
      Pytree of arrays [number, ...]: of every part what `add_up` gives, to the last bit.
    """

    def add(*entries: np.ndarray) -> np.ndarray:
        joined = np.concatenate(entries)
        parts = joined.reshape(number, len(joined) // number, *joined.shape[1:])
        if joined.dtype.kind in "iub":  # exact in any order
            return parts.sum(axis=1, dtype=np.int64)
        # A sum of NumPy's would add in an order of its own.
        return np.add.accumulate(parts, axis=1, dtype=np.float64)[:, -1]

    return jax.tree.map(add, *calls)
