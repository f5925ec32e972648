"""What a sweep is computed on, and by which executor."""

import dataclasses
import time
from typing import Literal, get_args

import jax

from gat_jax import sampling
from gat_jax.runtime import engine
from gat_jax.runtime.devices import Devices, default_devices
from gat_jax.sampling import PreparedCell

ExecutorName = Literal["auto", "thread", "process"]

# Processes of their own are worth their start where this process alone would take longer.
# Measured; see docs/sweeps.md.
WORTH_PROCESSES = 20.0  # seconds
FEW_TILES = 64  # take less time than that on any machine, and are not timed


@dataclasses.dataclass(frozen=True)
class Machine:
    """What a sweep is computed on, and how much of it at once. It changes no result.

    Raises:
      ValueError: if nothing can be computed on it.
    """

    devices: Devices = dataclasses.field(default_factory=default_devices)
    """each computes one tile at a time; all of them are of this process"""
    chunk_size: int | None = None
    """initialisations under way at once, in whole tiles of every device; None: by `memory`"""
    memory: int | None = None
    """bytes that it may take, to compile and to compute; None: a quarter of what there is, and as
    much as a `chunk_size` takes"""
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
        if self.chunk_size is not None and self.chunk_size < 1:
            raise ValueError(f"chunk_size: expected at least 1, got {self.chunk_size}")
        names = get_args(ExecutorName)
        if self.executor not in names:
            raise ValueError(f"executor: expected one of {', '.join(names)}, got {self.executor!r}")
        if self.scheduler is not None and not self.scheduler.strip():
            raise ValueError("scheduler: expected an address or local, got an empty text")
        if self.scheduler is not None and self.executor != "auto":
            raise ValueError(f"executor: expected none beside a scheduler, got {self.executor}")
        platform = self.devices[0].platform
        # An accelerator belongs to the process that has begun to use it, which is this one.
        if platform != "cpu" and self.executor == "process":
            raise ValueError(f"executor: expected thread on a {platform}, got process")
        if platform != "cpu" and self.scheduler == "local":
            raise ValueError(
                f"scheduler: expected an address, its workers with one {platform} each, got local"
            )

    @property
    def memory_limit(self) -> int:
        """Bytes that may be taken here."""
        is_shared = self.devices[0].platform == "cpu"
        return sampling.memory_limit(self.memory) // (self.num_sharing if is_shared else 1)

    def program_of(self, prepared: PreparedCell) -> engine.Program:
        """Return the compiled program of a cell, which it shares with all cells of its shape.

        Raises:
          ValueError: if the memory does not suffice to compile it.
        """
        sampling.check_memory(prepared.shape, self.memory_limit)
        return engine.Program.of(prepared.work, self.devices)

    def calls_under_way(self, prepared: PreparedCell) -> int:
        """Return how many tiles of a cell every device may have under way at once.

        Raises:
          ValueError: if the memory does not suffice for one.
        """
        calls = engine.MAX_CALLS_UNDER_WAY
        if self.chunk_size is None or self.memory is not None:
            calls = self.program_of(prepared).calls_within(self.memory_limit)
        if self.chunk_size is None:
            return calls
        wanted = max(1, self.chunk_size // self.call_size(prepared))
        return wanted if self.memory is None else min(wanted, calls)

    def call_size(self, prepared: PreparedCell) -> int:
        """Return the initialisations of one tile on every device."""
        return prepared.shape.tile_size * len(self.devices)

    def seconds_of_call(self, prepared: PreparedCell) -> float:
        """Return the seconds that one tile on each device takes, by a call of the program."""
        program, shape = self.program_of(prepared), prepared.shape
        (tile,) = sampling.split_into_tiles(0, shape.tile_size, shape)
        seconds = 0.0
        for _ in range(2):  # the first call also allocates
            start = time.perf_counter()
            jax.block_until_ready(program(prepared.inputs, [tile] * len(program.devices)))
            seconds = time.perf_counter() - start
        return seconds

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
