"""Tasks on a Dask cluster: one that is running somewhere, or one made here for the purpose.

Dask is the extra `cluster`, imported where it is needed. The scheduler keeps the tasks, gives those
of a worker that is lost to others, and begins one that raises again; this process, its client, has
a bounded number of them under way and takes their results.

Neither the scheduler nor the client runs code that comes from the other, and a worker is asked what
it is before it is given work: it may lack the package, or be a machine whose results would differ.
"""

import asyncio
import concurrent.futures
import contextlib
import importlib.util
import logging
import os
import signal
import tempfile
import time
import uuid
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import CancelledError
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

from gat_jax.runtime import stops, worker
from gat_jax.runtime.executors import (
    FAILURES,
    POLL,
    Group,
    Job,
    ShouldStop,
    TaskError,
    WorkersLostError,
    hand_out,
)
from gat_jax.runtime.text import visible

LOCAL = "local"
CONNECT = 5.0  # seconds to wait for a scheduler
START = 120.0  # and for the workers of a local cluster
TASKS_OF_A_THREAD = 2  # one that it computes, and one that it goes on with without waiting
LOOK = 2.0  # seconds between two looks at the workers
# Expressions and not functions: a scheduler without this package, or with another Python, can
# pass them on.
MODULE = "__import__('importlib').import_module('gat_jax.runtime.worker')"
ATTEMPT, DESCRIPTION = f"{MODULE}.attempt(packed)", f"{MODULE}.description(packed)"


def check_installed() -> None:
    """Check that Dask is there.

    Raises:
      ValueError: says how to install it.
    """
    if any(importlib.util.find_spec(name) is None for name in ("dask", "distributed")):
        raise ValueError(
            "scheduler: expected the extra `cluster` (pip install 'gat_jax[cluster]'), got no dask"
        )


@contextlib.contextmanager
def connected(scheduler: str, num_workers: int) -> Iterator[Any]:
    """Be a client of a Dask cluster.

    Args:
      scheduler: its address, or `LOCAL` for a cluster of this machine that ends with the context.
      num_workers: of a local cluster, each with one thread.

    Yields:
      The client.

    Raises:
      ValueError: if Dask is not installed, or there is no scheduler.
      WorkersLostError: if a local cluster does not start.
    """
    check_installed()
    with contextlib.ExitStack() as stack:
        stack.enter_context(_quiet())
        import dask.config
        import distributed

        timeouts = {
            "distributed.comm.timeouts.connect": f"{CONNECT}s",
            "distributed.admin.large-graph-warning-threshold": "1GiB",
        }
        stack.enter_context(dask.config.set(timeouts))
        address = scheduler
        if scheduler == LOCAL:
            address = stack.enter_context(_local_cluster(num_workers)).scheduler_address
        try:
            _knock(address)
            client = distributed.Client(address, timeout=CONNECT, set_as_default=False)
        except Exception as error:  # whatever an address without a scheduler comes to
            raise ValueError(
                f"scheduler: expected a Dask scheduler that answers within {CONNECT:.0f} s, "
                f"got none at {address} ({_line(error)})"
            ) from error
        stack.callback(client.close, timeout=1)
        yield client


def _knock(address: str) -> None:
    """Shake hands with a scheduler: Dask's client would wait for ever for one that does not.

    Raises:
      TimeoutError: if there is none in time.
    """
    from distributed import Security
    from distributed.comm.core import connect

    async def shake_hands() -> None:
        arguments = Security().get_connection_args("client")
        comm = await connect(address, timeout=CONNECT, **arguments)
        comm.abort()

    # In a thread, for this one may have a loop that runs, such as a notebook's.
    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, asyncio.wait_for(shake_hands(), CONNECT)).result()


@contextlib.contextmanager
def _local_cluster(num_workers: int) -> Iterator[Any]:
    import distributed

    # Dask leaves its folder behind where this process is ended at once.
    folder = Path(tempfile.mkdtemp(prefix="gat-jax-dask-"))
    with stops.scratch(folder), _without_warnings():
        try:
            cluster = distributed.LocalCluster(
                n_workers=0,
                threads_per_worker=1,
                processes=True,
                host="127.0.0.1",
                dashboard_address="127.0.0.1:0",  # any port that is free
                memory_limit=None,  # the budget of the work is kept by the work itself
                local_directory=str(folder),
                silence_logs=logging.CRITICAL + 1,
            )
            cluster.sync(_shelter)
            cluster.scale(num_workers)
            cluster.wait_for_workers(num_workers, timeout=START)
        except Exception as error:  # whatever kept it from starting
            raise WorkersLostError(
                f"scheduler: expected a local cluster to start, got {_line(error)}"
            ) from error
        try:
            yield cluster
        finally:
            # Closed politely, each worker would finish what it is computing for nobody.
            for nanny in cluster.workers.values():
                nanny.auto_restart = False
                if nanny.pid is not None:
                    with contextlib.suppress(ProcessLookupError):  # it has just died by itself
                        os.kill(nanny.pid, signal.SIGKILL)
            cluster.close()


async def _shelter() -> None:
    """Keep Ctrl-C from workers: started by this thread, they inherit that it is blocked.

    A terminal sends it to all of its processes, and each would show how it was interrupted.
    """
    if hasattr(signal, "pthread_sigmask"):
        resource_tracker.ensure_running()  # as it starts, it would take the block away
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})


@contextlib.contextmanager
def _without_warnings() -> Iterator[None]:
    """Have processes that are started in the body show no warnings.

    One of them is `multiprocessing`'s own, which misses its semaphores where this process is ended
    at once; the system frees them all the same.
    """
    before = os.environ.get("PYTHONWARNINGS")
    os.environ["PYTHONWARNINGS"] = "ignore"
    try:
        yield
    finally:
        os.environ.pop("PYTHONWARNINGS")
        os.environ.update({} if before is None else {"PYTHONWARNINGS": before})


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what Dask logs and warns of from the terminal: what matters is told in one line."""
    with contextlib.suppress(ImportError):
        import distributed  # noqa: F401 - it sets its loggers up
    names = [x for x in logging.root.manager.loggerDict if x.split(".")[0] == "distributed"]
    loggers = [logging.getLogger(name) for name in (*names, "asyncio", "tornado")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="distributed")
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


class Cluster:
    """Computes tasks with the workers of a cluster."""

    def __init__(self, client: Any, job: Job, scheduler: str, on_message: Callable[[str], None]):
        """Take a client and what is to be done.

        Args:
          client: of `connected`.
          job: of the workers.
          scheduler: its name for messages.
          on_message: told when there is no worker (any more).
        """
        self._client = client
        self.job = job
        self._scheduler = scheduler
        self._on_message = on_message
        self._tasks: dict[int, Any] = {}  # those under way, by number, and below what becomes of it
        self._futures: dict[int, Any] = {}
        self._errors: list[Exception] = []  # to be raised when nothing finished is left
        self._name = uuid.uuid4().hex  # no other work has tasks of these names
        self._looked, self._num_threads = float("-inf"), -1  # not yet

    @property
    def dashboard(self) -> str | None:
        """Address of the dashboard; None: the scheduler was started without one."""
        try:
            return self._client.dashboard_link
        except KeyError:
            return None

    def run(self, groups: Iterable[Group], should_stop: ShouldStop) -> Iterator[tuple[Any, Any]]:
        """Compute tasks; see `executors.Executor` and `executors.hand_out`."""
        return hand_out(self, groups, should_stop)

    def capacity(self) -> int:
        """Return how many tasks there may be under way, for the workers that there are now."""
        self._look()
        return TASKS_OF_A_THREAD * max(1, self._num_threads)

    def submit(self, number: int, task: Any) -> None:
        """Hand a task to the scheduler."""
        self._check_connection()
        self._tasks[number] = task
        self._futures[number] = self._client.submit(
            eval,
            ATTEMPT,
            {"packed": worker.request(self.job, task)},
            key=f"task-{self._name}-{number}",
            retries=FAILURES - 1,
            pure=False,
        )

    def finished(self, seconds: float) -> list[tuple[int, Any]]:
        """Return what has come of tasks; see `executors.Remote`.

        Raises:
          ValueError: if a task or a worker refuses.
          TaskError: if a task has failed, or its worker was lost, too often.
          WorkersLostError: if the scheduler is gone.
        """
        import distributed

        self._look()
        futures = [] if self._errors else list(self._futures.values())
        try:
            with self._client.as_current(), contextlib.suppress(TimeoutError):
                distributed.wait(futures, timeout=seconds, return_when="FIRST_COMPLETED")
        except CancelledError as error:
            raise self._lost() from error
        self._check_connection()
        found = []
        for number in [number for number, future in self._futures.items() if future.done()]:
            try:
                found.append((number, self._result(number)))
            except (ValueError, TaskError, WorkersLostError) as error:
                self._errors.append(error)
        if self._errors and not found:
            raise self._errors.pop(0)
        return found

    def descriptions(self, should_stop: ShouldStop) -> dict[str, Mapping[str, str]]:
        """Ask the workers what they are, and wait for the first one if there is none.

        Args:
          should_stop: whether to wait no longer.

        Returns:
          What each worker is, by its address; none if the work is to stop.

        Raises:
          ValueError: if a worker lacks the package.
          WorkersLostError: if the scheduler is gone.
        """
        while self._look() == 0:
            if should_stop():
                return {}
            time.sleep(POLL)
        packed = worker.request(self.job, None)
        try:
            found = self._client.run(eval, DESCRIPTION, {"packed": packed}, on_error="return")
        except (OSError, CancelledError) as error:
            raise self._lost() from error
        for address, what in found.items():
            if isinstance(what, ModuleNotFoundError):
                raise ValueError(f"{self._without_package(what)} on {address}") from what
            if isinstance(what, Exception):
                raise WorkersLostError(f"workers: {_line(what)} on {address}") from what
        return {address: worker.unpack(what) for address, what in found.items()}

    def num_workers_of_a_machine(self) -> int:
        """Return how many threads of workers share a machine, where there are most of them."""
        machines: dict[str, int] = {}
        for address, threads in self._threads().items():
            machine = address.rsplit(":", 1)[0]
            machines[machine] = machines.get(machine, 0) + threads
        return max(machines.values(), default=1)

    def _result(self, number: int) -> Any:
        future, task = self._futures.pop(number), self._tasks.pop(number)
        try:
            # It is computed once more if the worker that has it is lost just now.
            answer = worker.Answer(*worker.unpack(future.result()))
        except (OSError, CancelledError) as error:  # it cannot be fetched any more
            raise self._lost() from error
        except ModuleNotFoundError as error:
            raise ValueError(self._without_package(error)) from error
        except Exception as error:  # what a worker raised, or Dask's word on workers that died
            raise _failure(task, error) from error
        if answer.kind == "refused":
            refusal = ValueError(answer.value)
            refusal.add_note(answer.story)
            raise refusal
        return answer.value

    def _without_package(self, error: ModuleNotFoundError) -> str:
        return f"workers: expected gat_jax {self.job.expected['gat_jax']}, got none ({error})"

    def _look(self) -> int:
        """Return how many threads the workers have, as of lately; say it if there is none."""
        before = self._num_threads
        if before == 0 or time.monotonic() - self._looked > LOOK:
            self._num_threads = sum(self._threads().values())
            self._looked = time.monotonic()
        # Those of a local cluster are started again by themselves.
        if self._num_threads == 0 and before != 0 and self._scheduler != LOCAL:
            self._on_message(f"The cluster at {self._scheduler} has no worker: waiting for one.")
        return self._num_threads

    def _threads(self) -> Mapping[str, int]:
        """Return the number of threads of each worker, by its address."""
        self._check_connection()
        try:
            return self._client.nthreads()
        except (OSError, CancelledError, AttributeError) as error:  # gone since the check
            raise self._lost() from error

    def _check_connection(self) -> None:
        if self._client.status != "running":
            raise self._lost()

    def _lost(self) -> WorkersLostError:
        return WorkersLostError(
            f"scheduler: expected it to stay until the work ends, got no answer any more from "
            f"{self._scheduler}"
        )


def _failure(task: Any, error: Exception) -> TaskError:
    """Return the error of a task that is not begun again."""
    from distributed.scheduler import KilledWorker

    if isinstance(error, KilledWorker):
        reason = f"{error.allowed_failures + 1} workers that were lost while they computed it"
        return TaskError(f"{task}: failed, with {reason}")
    told = error.args if isinstance(error, RuntimeError) and len(error.args) == 2 else None
    reason, story = told or (_line(error), "")
    failure = TaskError(f"{task}: failed {FAILURES} times, last with {reason}")
    failure.add_note(story)
    return failure


def _line(error: BaseException) -> str:
    return visible(" ".join(f"{type(error).__name__}: {error}".split()))[:300]
