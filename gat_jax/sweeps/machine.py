"""What a sweep is computed on, and by which executor."""

import dataclasses
import math
import time
from typing import Literal, NamedTuple, get_args

import jax

from gat_jax import sampling
from gat_jax.runtime import crew, engine
from gat_jax.runtime.devices import Devices, default_devices
from gat_jax.sampling import PreparedCell

ExecutorName = Literal["auto", "thread", "process"]

# Processes of their own are taken where this process alone would take longer. On two threads of one
# core they take 1.2 times as long as two devices in this process, their start included (3e8
# initialisations: 31 s and 25 s); cores of their own may gain. So a long sweep alone takes them.
WORTH_PROCESSES = 600.0  # seconds
FEW_TILES = 64  # take less time than that on any machine, and are not timed


class Load(NamedTuple):
    """How a machine computes a cell."""

    program: engine.Program  # which cells of one shape share
    tiles_at_once: int  # that each device computes in one call
    calls_under_way: int  # before the results of the first are fetched
    call_size: int  # initialisations of one call, on all devices

    def seconds_of_call(self, prepared: PreparedCell) -> float:
        """Return the seconds that a call of the program takes, by one call of it."""
        shape = prepared.shape
        (tile,) = sampling.split_into_tiles(0, shape.tile_size, shape)
        seconds = 0.0
        for _ in range(2):  # the first call also allocates
            start = time.perf_counter()
            tiles = [tile] * self.program.tiles_per_call
            jax.block_until_ready(self.program(prepared.inputs, tiles))
            seconds = time.perf_counter() - start
        return seconds


@dataclasses.dataclass(frozen=True)
class Machine:
    """What a sweep is computed on, and how much of it at once. It changes no result.

    Raises:
      ValueError: if nothing can be computed on it.
    """

    devices: Devices = dataclasses.field(default_factory=default_devices)
    """all of them of this process, and of one kind"""
    chunk_size: int | None = None
    """initialisations under way at once, in whole tiles of every device; None: by `memory`"""
    memory: int | None = None
    """bytes that it may take, to compile and to compute; None: a quarter of what there is, and as
    much as a `chunk_size` takes"""
    tiles_at_once: int | None = None
    """tiles that each device computes in one call; None: as many as suit its kind, the memory and
    the cell"""
    executor: ExecutorName = "auto"
    """who computes blocks: this process ("thread"), or one process for each of its CPU devices
    ("process"); "auto": whichever is done sooner"""
    scheduler: str | None = None
    """address of a Dask scheduler whose workers compute the blocks, or "local" for a cluster of
    this machine with a worker for each device; None: the executor does"""
    num_sharing: int = 1
    """processes that share the memory, where it is the host's"""

    def __post_init__(self):
        """Refuse what nothing can be computed on."""
        if not self.devices:
            raise ValueError("devices: expected at least 1, got none")
        for field in ("chunk_size", "tiles_at_once"):
            value = getattr(self, field)
            if value is not None and value < 1:
                raise ValueError(f"{field}: expected at least 1, got {value}")
        platform = self.devices[0].platform
        crew.check_wish(self.executor, get_args(ExecutorName), "auto", self.scheduler, platform)

    @property
    def memory_limit(self) -> int:
        """Bytes that may be taken here."""
        is_shared = self.devices[0].platform == "cpu"
        return sampling.memory_limit(self.memory) // (self.num_sharing if is_shared else 1)

    def load_of(self, prepared: PreparedCell, num_inits: int) -> Load:
        """Return how the machine computes a cell, whose program is compiled for it.

        Args:
          prepared: the cell.
          num_inits: how many initialisations are to be computed.

        Raises:
          ValueError: if the memory does not suffice to compile it, or for one tile.
        """
        memory = self.memory_limit
        sampling.check_memory(prepared.shape, memory)
        at_once = self.tiles_at_once or self._suitable_tiles(prepared, num_inits)
        is_bounded = self.chunk_size is None or self.memory is not None
        while True:
            program = engine.Program.of(prepared.work_on(self.devices), self.devices, at_once)
            if at_once == 1 or not is_bounded or program.memory.total <= memory:
                break
            at_once //= 2
        calls = program.calls_within(memory) if is_bounded else engine.MAX_CALLS_UNDER_WAY
        size = prepared.shape.tile_size * program.tiles_per_call
        if self.chunk_size is not None:
            wanted = max(1, self.chunk_size // size)
            calls = wanted if self.memory is None else min(wanted, calls)
        return Load(program, at_once, calls, size)

    def _suitable_tiles(self, prepared: PreparedCell, num_inits: int) -> int:
        """Return a power of two: no more tiles than suit, than there are, or than a chunk holds."""
        tile_size, num_devices = prepared.shape.tile_size, len(self.devices)
        memory = self.memory_limit // num_devices
        most = sampling.tiles_at_once(self.devices[0].platform, memory)
        tiles = -(-num_inits // tile_size)
        if self.chunk_size is not None:
            tiles = min(tiles, self.chunk_size // tile_size)
        for_each = max(1, -(-tiles // num_devices))
        return min(most, 2 ** math.ceil(math.log2(for_each)))

    @property
    def num_processes(self) -> int:
        """How many processes compute here if the executor is "process", and 1 if it is not."""
        return len(self.devices) if self.executor == "process" else 1

    def of_one_process(self) -> "Machine":
        """Return what each of `num_processes` computes on: a share of devices, chunk and memory."""
        number = self.num_processes
        chunk_size = self.chunk_size if self.chunk_size is None else self.chunk_size // number
        return dataclasses.replace(
            self,
            devices=self.devices[: len(self.devices) // number],
            chunk_size=None if chunk_size is None else max(1, chunk_size),
            num_sharing=self.num_sharing * number,
        )

    def chosen(self, seconds: float) -> "Machine":
        """Return this machine with "auto" decided.

        Args:
          seconds: that this process would compute for, with all its devices.
        """
        if self.executor != "auto" or self.scheduler is not None:
            return self
        is_possible = (
            self.devices[0].platform == "cpu" and len(self.devices) > 1 and jax.process_count() == 1
        )
        is_worth_it = is_possible and seconds >= WORTH_PROCESSES
        return dataclasses.replace(self, executor="process" if is_worth_it else "thread")
