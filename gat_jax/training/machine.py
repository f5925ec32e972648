"""What a training is computed on, and by which executor."""

import dataclasses
from typing import Literal, get_args

from gat_jax.runtime import crew
from gat_jax.runtime.devices import Devices, default_devices, num_cores

ExecutorName = Literal["thread", "process"]


@dataclasses.dataclass(frozen=True)
class Machine:
    """What a training is computed on. It changes no result.

    Raises:
      ValueError: if nothing can be computed on it.
    """

    devices: Devices = dataclasses.field(default_factory=default_devices)
    """all of them of this process, and of one kind; each computes a chunk at a time"""
    executor: ExecutorName = "thread"
    """who computes chunks: this process ("thread"), or processes of its own ("process")"""
    scheduler: str | None = None
    """address of a Dask scheduler whose workers compute the chunks, or "local" for a cluster of
    this machine; None: the executor does"""
    num_workers: int | None = None
    """processes, or workers of a local cluster; None: one for each core"""

    def __post_init__(self):
        """Refuse what nothing can be computed on."""
        if not self.devices:
            raise ValueError("devices: expected at least 1, got none")
        if self.num_workers is not None and self.num_workers < 1:
            raise ValueError(f"num_workers: expected at least 1, got {self.num_workers}")
        platform = self.devices[0].platform
        names = get_args(ExecutorName)
        crew.check_wish(self.executor, names, "thread", self.scheduler, platform)

    @property
    def num_processes(self) -> int:
        """How many processes, or workers of a local cluster, there would be."""
        return num_cores() if self.num_workers is None else self.num_workers

    @property
    def num_sharing(self) -> int:
        """How many chunks there are at once in the memory of one device, or of the host."""
        if self.devices[0].platform != "cpu":
            return 1
        is_here = self.executor == "thread" and self.scheduler is None
        return len(self.devices) if is_here else self.num_processes
