"""Tasks in processes of this machine, one on each core.

The processes are programs of their own that talk through pipes. They are neither forked (JAX has
threads) nor started by `multiprocessing`, which would run a user's script once more in each of
them. A process that dies costs what it was computing: that is computed again by a new one. None
outlives this process; see `worker`.
"""

import collections
import contextlib
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator
from typing import Any

import jax

from gat_jax.runtime import worker
from gat_jax.runtime.executors import FAILURES, Group, Job, ShouldStop, TaskError, hand_out
from gat_jax.runtime.text import visible

# What numbers, and the time that compiling takes, depend on, as it is in this process.
SETTINGS = (
    "jax_enable_x64",
    "jax_default_matmul_precision",
    "jax_enable_compilation_cache",
    "jax_compilation_cache_dir",
    "jax_persistent_cache_min_compile_time_secs",
    "jax_persistent_cache_min_entry_size_bytes",
)
ONE_CORE = {"jax_platforms": "cpu", "jax_num_cpu_devices": 1}
TASKS_OF_A_PROCESS = 2  # one that it computes, and one that it goes on with without waiting
# The process looks for the package where this one has found it.
PROGRAM = (
    "import ast, sys; sys.path[:] = ast.literal_eval(sys.argv[1]); "
    "from gat_jax.runtime import worker; worker.main()"
)


class ProcessPool:
    """Processes that compute tasks, started as they are needed; a context that ends them."""

    def __init__(self, job: Job, num_processes: int):
        """Take what is to be done, and how many processes may do it."""
        self._job = job
        self._num_processes = num_processes
        self._children: list[_Child] = []
        self._events: Events = queue.SimpleQueue()
        self._tasks: dict[int, Any] = {}  # those under way, by number
        self._failures: collections.Counter[int] = collections.Counter()

    def __enter__(self) -> "ProcessPool":
        """Start nothing yet."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the processes, whatever they are computing."""
        for child in self._children:
            child.end()
        self._children.clear()

    def run(self, groups: Iterable[Group], should_stop: ShouldStop) -> Iterator[tuple[Any, Any]]:
        """Compute tasks; see `executors.Executor` and `executors.hand_out`."""
        return hand_out(self, groups, should_stop)

    def capacity(self) -> int:
        """Return how many tasks there may be under way."""
        return TASKS_OF_A_PROCESS * self._num_processes

    def submit(self, number: int, task: Any) -> None:
        """Give a task to the process that has least to do."""
        self._tasks[number] = task
        child = min(self._children, key=lambda child: len(child.under_way), default=None)
        if child is None or (child.under_way and len(self._children) < self._num_processes):
            child = _Child(self._events)
            self._children.append(child)
        child.compute(number, worker.request(self._job, task))

    def finished(self, seconds: float) -> list[tuple[int, Any]]:
        """Return what has come of tasks; see `executors.Remote`.

        Raises:
          ValueError: if a task says that what it is given cannot be used.
          TaskError: if a task has failed, or a process that computed it has died, too often.
        """
        try:
            child, message = self._events.get(timeout=seconds)
        except queue.Empty:
            return []
        if message is None:
            self._bury(child)
            return []
        number, packed = worker.unpack(message)
        answer = worker.Answer(*worker.unpack(packed))
        child.under_way.remove(number)
        if answer.kind == "done":
            del self._tasks[number]
            return [(number, answer.value)]
        if answer.kind == "refused":
            error = ValueError(answer.value)
            error.add_note(answer.story)
            raise error
        self._try_again(number, answer.value, answer.story)
        return []

    def _bury(self, child: "_Child") -> None:
        """Give the tasks of a process that has died to others."""
        reason = child.end()
        self._children.remove(child)
        lost = list(child.under_way)
        for number in lost[1:]:  # these it had not begun
            self.submit(number, self._tasks[number])
        if lost:
            self._try_again(lost[0], f"a process that ended with {reason}")

    def _try_again(self, number: int, reason: str, story: str = "") -> None:
        self._failures[number] += 1
        if self._failures[number] == FAILURES:
            error = TaskError(f"{self._tasks[number]}: failed {FAILURES} times, last with {reason}")
            error.add_note(story)
            raise error
        self.submit(number, self._tasks[number])


class _Child:
    """A process, seen from here."""

    def __init__(self, events: "Events"):
        """Start it; its messages arrive as events, and None when it has ended."""
        self.under_way: list[int] = []  # numbers of tasks, in the order in which it computes them
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the process
        # In a group of its own: Ctrl-C in a terminal is meant for this process alone.
        group: dict[str, Any] = {"process_group": 0} if os.name == "posix" else {}
        self._process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, repr(sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            **group,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._stdin, self._stdout = self._process.stdin, self._process.stdout
        self._send({name: getattr(jax.config, name) for name in SETTINGS} | ONE_CORE)
        threading.Thread(target=self._listen, args=(events,), daemon=True).start()

    def compute(self, number: int, packed: bytes) -> None:
        """Let it compute a task, after those that it has."""
        self.under_way.append(number)
        self._send((number, packed))

    def end(self) -> str:
        """End it, if it has not ended; return how it did, in words."""
        self._process.kill()
        code = self._process.wait()
        for pipe in (self._stdin, self._stdout):
            with contextlib.suppress(OSError):  # what is left in it cannot be written any more
                pipe.close()
        with self._stderr as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 10_000))
            said = file.read().decode(errors="replace").split("\n")
        last = next((line.strip() for line in reversed(said) if line.strip()), "")
        if code < 0:
            return f"signal {-code} ({signal.strsignal(-code)})"
        return f"exit code {code}" + (f" ({visible(last)[:300]})" if last else "")

    def _send(self, value: Any) -> None:
        with contextlib.suppress(OSError):  # it has died, which is told as an event
            worker.send(self._stdin, worker.pack(value))

    def _listen(self, events: "Events") -> None:
        with contextlib.suppress(OSError, ValueError):  # closed under its hands, at the end
            while (message := worker.receive(self._stdout)) is not None:
                events.put((self, message))
        events.put((self, None))


Events = queue.SimpleQueue[tuple[_Child, bytes | None]]
