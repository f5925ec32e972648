"""Tasks on a Dask cluster. Here its workers are threads; tests/sweeps has real ones."""

import importlib.util
import logging
import socket
from collections.abc import Iterator

import executor_jobs
import pytest
from executor_jobs import HERE, Task, job

from gat_jax.runtime import cluster, executors
from gat_jax.runtime.cluster import Cluster, connected
from gat_jax.runtime.executors import Executor, TaskError, WorkersLostError


def start(num_workers: int = 2):
    import distributed

    return distributed.LocalCluster(
        n_workers=num_workers,
        threads_per_worker=1,
        processes=False,
        protocol="tcp",
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",
        silence_logs=logging.CRITICAL + 1,
    )


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Of a scheduler with two workers."""
    with start() as here:
        yield here.scheduler_address


def results_of(address, function, wanted, expected=HERE) -> dict:
    with connected(address, 0) as client:
        there = Cluster(client, job(function, expected), address, print)
        assert isinstance(there, Executor)
        found = list(there.run([wanted], lambda: False))
    assert len({task for task, _ in found}) == len(found)
    return {task.number: result for task, result in found}


def test_workers_give_every_result(address, tmp_path):
    wanted = [Task(k, str(tmp_path)) for k in range(20)]
    assert results_of(address, executor_jobs.double, wanted) == {k: 2 * k for k in range(20)}


def test_a_task_that_raises_is_begun_three_times(address, tmp_path):
    notes = tmp_path / "notes"
    assert results_of(address, executor_jobs.fail_twice, [Task(1, str(notes))]) == {1: 2}
    with pytest.raises(TaskError, match="task 0: failed 3 times, last with KeyError: 'no 0") as e:
        results_of(address, executor_jobs.fail, [Task(0, str(notes))])
    assert notes.read_text().split() == ["1"] * 3 + ["0"] * 3
    assert "in fail" in "".join(e.value.__notes__)


def test_what_is_refused_is_not_begun_again(address, tmp_path):
    notes = tmp_path / "notes"
    with pytest.raises(ValueError, match="number: expected another one, got 5"):
        results_of(address, executor_jobs.refuse, [Task(5, str(notes))])
    assert notes.read_text() == "5\n"
    with pytest.raises(ValueError, match="workers: expected gat_jax 2, got 1"):
        results_of(address, executor_jobs.refuse, [Task(5, str(notes))], {"gat_jax": "2"})
    assert notes.read_text() == "5\n"


def test_a_worker_without_the_package_is_told(address, monkeypatch):
    nowhere = cluster.ATTEMPT.replace("gat_jax.runtime", "gat_jax_nowhere")
    monkeypatch.setattr(cluster, "ATTEMPT", nowhere)
    monkeypatch.setattr(cluster, "DESCRIPTION", nowhere)
    message = r"workers: expected gat_jax 1, got none \(No module named 'gat_jax_nowhere'\)"
    with pytest.raises(ValueError, match=message):
        results_of(address, executor_jobs.double, [Task(5)])
    with connected(address, 0) as client:
        there = Cluster(client, job(executor_jobs.double), address, print)
        with pytest.raises(ValueError, match=message + " on tcp://"):
            there.descriptions(lambda: False)


def test_workers_say_what_they_are(address):
    with connected(address, 0) as client:
        there = Cluster(client, job(executor_jobs.double), address, print)
        found = there.descriptions(lambda: False)
        assert len(found) == 2
        assert all(name.startswith("tcp://") and what == HERE for name, what in found.items())
        assert there.num_workers_of_a_machine() == 2
        assert there.dashboard.startswith("http://127.0.0.1:")
        assert there.capacity() == 4


def test_a_cluster_without_workers_is_waited_for_and_told_once(tmp_path):
    with start(0) as here, connected(here.scheduler_address, 0) as client:
        told, asked = [], []
        there = Cluster(client, job(executor_jobs.double), "there", told.append)
        assert there.descriptions(lambda: (asked.append(1), len(asked) > 3)[1]) == {}
        assert told == ["The cluster at there has no worker: waiting for one."]
        here.scale(1)
        assert there.descriptions(lambda: False) != {}
        assert list(there.run([[Task(3)]], lambda: False)) == [(Task(3), 6)]
        assert len(told) == 1


def test_a_scheduler_that_dies_is_told_in_one_line(tmp_path, monkeypatch):
    here = start()
    with connected(here.scheduler_address, 0) as client:
        there = Cluster(client, job(executor_jobs.double_slowly), "there", print)
        results = there.run([[Task(k) for k in range(1000)]], lambda: False)
        next(results)
        here.close()
        message = "scheduler: expected it to stay until the work ends, got no answer any more from"
        with pytest.raises(WorkersLostError, match=message):
            list(results)


def test_a_cluster_that_is_to_stop_drops_what_takes_too_long(address, tmp_path, monkeypatch):
    monkeypatch.setattr(executors, "STOPPING", 0.1)
    with connected(address, 0) as client:
        there, seen = Cluster(client, job(executor_jobs.double_slowly), address, print), []
        for task, _ in there.run([map(Task, range(1000))], lambda: bool(seen)):
            seen.append(task)
    assert 1 <= len(seen) <= 4


@pytest.mark.parametrize(
    "address", ["127.0.0.1:{port}", "tcp://127.0.0.1:{port}", "nonsense://", "x:y:z"]
)
def test_no_scheduler_is_one_line(address, monkeypatch):
    monkeypatch.setattr(cluster, "CONNECT", 0.3)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = address.format(port=free.getsockname()[1])
    message = "scheduler: expected a Dask scheduler that answers within .* s, got none at "
    with pytest.raises(ValueError, match=message + address) as error, connected(address, 0):
        pass
    assert "\n" not in str(error.value)


def test_something_else_that_listens_is_no_scheduler(monkeypatch):
    monkeypatch.setattr(cluster, "CONNECT", 0.3)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        address = f"127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(ValueError, match="got none at"), connected(address, 0):
            pass


@pytest.mark.parametrize("name", ["dask", "distributed"])
def test_without_dask_the_extra_is_named(monkeypatch, name):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda x: None if x == name else find(x))
    message = (
        r"scheduler: expected the extra `cluster` \(pip install 'gat_jax\[cluster\]'\), got no"
    )
    with pytest.raises(ValueError, match=message), connected("here", 0):
        pass


def test_loggers_are_as_they_were():
    import distributed  # noqa: F401 - sets its loggers up

    before = logging.getLogger("distributed.client").level
    with cluster._quiet():
        assert not logging.getLogger("distributed.client").isEnabledFor(logging.CRITICAL)
    assert logging.getLogger("distributed.client").level == before
