"""Where tasks are computed: in this process, in one process per core, on a cluster.

A *task* is plain data that can be pickled, and a *job* a function of a module that computes it;
what comes back depends on the task alone. So whoever computes a task, and however often it is
begun, the result is the same, and executors differ in speed only. They are handed *groups* of
tasks, those of one program each, and give back each task with its result, in the order in which
they are finished:

* `ThisProcess` computes a group as one stream, so that its devices stay busy between tasks;
* `pool.ProcessPool` has processes of its own, each of which computes a task at a time;
* `cluster.Cluster` gives tasks to the workers of a Dask cluster.

The last two are *remote*: what they share is here (`hand_out`), and what their workers do is in
`worker`. A remote executor takes tasks only as fast as it can have them under way.
"""

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

FAILURES = 3  # so many times a task is begun that raises, or whose worker dies
STOPPING = 1.0  # seconds that tasks under way are given once the work is to stop
POLL = 0.2  # seconds between two looks at whether it is to stop

Group = Iterable[Any]  # tasks of one program
ShouldStop = Callable[[], bool]


class Job(NamedTuple):
    """What workers do with every task."""

    function: Callable[[Any], Any]  # of a module: workers import it by its name
    describe: Callable[[], Mapping[str, str]]  # of a module too: what a worker is
    expected: Mapping[str, str]  # what it has to be, for its results to have the same bits


@runtime_checkable
class Executor(Protocol):
    """What computes tasks."""

    def run(self, groups: Iterable[Group], should_stop: ShouldStop) -> Iterator[tuple[Any, Any]]:
        """Compute tasks, each of them once.

        Args:
          groups: read as they are needed. A group that is empty costs nothing.
          should_stop: whether to leave undone what has not been begun.

        Yields:
          A task and its result, in the order in which they are finished.
        """
        ...


class TaskError(RuntimeError):
    """A task cannot be computed: it raised, or its worker died, once too often."""


class WorkersLostError(RuntimeError):
    """The workers, or those who hand out their work, are gone."""


class ThisProcess:
    """Computes every group as one stream."""

    def __init__(self, compute: Callable[[Iterator[Any]], Iterator[tuple[Any, Any]]]):
        """Take what computes a group: it yields each task with its result."""
        self._compute = compute

    def run(self, groups: Iterable[Group], should_stop: ShouldStop) -> Iterator[tuple[Any, Any]]:
        """Compute tasks; a group ends early by itself where the work is to stop."""
        del should_stop
        for group in groups:
            yield from self._compute(iter(group))


@runtime_checkable
class Remote(Protocol):
    """What computes tasks elsewhere, by their numbers."""

    def capacity(self) -> int:
        """Return how many tasks there may be under way, so that no worker waits."""
        ...

    def submit(self, number: int, task: Any) -> None:
        """Begin a task as soon as a worker is free for it."""
        ...

    def finished(self, seconds: float) -> list[tuple[int, Any]]:
        """Return numbers and results of tasks, waiting for the first one at most so long.

        What is finished when a task fails comes with this call or later ones: an error is raised
        by a call that returns nothing, and does not end what the others compute.

        Raises:
          ValueError: if a task says that what it is given cannot be used.
          TaskError: if a task cannot be computed.
          WorkersLostError: if none is computed any more.
        """
        ...


def hand_out(
    remote: Remote, groups: Iterable[Group], should_stop: ShouldStop
) -> Iterator[tuple[Any, Any]]:
    """Run tasks on a remote executor; see `Executor.run`.

    Once the work is to stop, tasks under way are waited for, but not longer than `STOPPING`.

    Raises:
      ValueError: as `Remote.finished` does, which raises all the others as well.
    """
    tasks = enumerate(task for group in groups for task in group)
    under_way: dict[int, Any] = {}
    has_more, deadline = True, float("inf")
    while True:
        if deadline == float("inf") and should_stop():
            has_more, deadline = False, time.monotonic() + STOPPING
        while has_more and len(under_way) < remote.capacity():
            number, task = next(tasks, (-1, None))
            has_more = number >= 0
            if has_more:
                under_way[number] = task
                remote.submit(number, task)
        if not under_way or time.monotonic() > deadline:
            return
        try:
            found = remote.finished(POLL)
        except (ValueError, TaskError):
            for number, result in _finished_beside(remote):
                yield under_way.pop(number), result
            raise
        for number, result in found:
            yield under_way.pop(number), result


def _finished_beside(remote: Remote) -> Iterator[tuple[int, Any]]:
    """Yield what is finished already when a task has failed: it is not lost to the failure."""
    # The first error is the one that is told.
    with contextlib.suppress(WorkersLostError):
        for _ in range(remote.capacity()):  # no more can be there
            with contextlib.suppress(ValueError, TaskError):
                yield from remote.finished(0.0)
