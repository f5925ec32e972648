"""Processes that compute tasks: what they answer, how they die, and that none is left behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import executor_jobs
import pytest
from executor_jobs import HERE, Task, job

from gat_jax.runtime import pool as pool_module
from gat_jax.runtime.executors import Executor, TaskError
from gat_jax.runtime.pool import ProcessPool

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def without_jax(monkeypatch) -> None:
    """Processes that start fast, for these tasks do not need JAX."""
    monkeypatch.setattr(pool_module, "SETTINGS", ())
    monkeypatch.setattr(pool_module, "ONE_CORE", {})


def tasks(notes: Path, number: int) -> list[Task]:
    return [Task(k, str(notes)) for k in range(number)]


def results_of(function, wanted, num_processes=1, expected=HERE) -> dict:
    with ProcessPool(job(function, expected), num_processes) as pool:
        assert isinstance(pool, Executor)
        found = list(pool.run([wanted], lambda: False))
    assert len({task for task, _ in found}) == len(found)
    return {task.number: result for task, result in found}


def children() -> list[int]:
    """Processes of pools that this process has, by their ids."""
    found = subprocess.run(
        ["pgrep", "-P", str(os.getpid()), "-f", "worker.main"], capture_output=True, check=False
    )
    return [int(line) for line in found.stdout.split()]


def test_processes_give_every_result_and_end(tmp_path):
    assert results_of(executor_jobs.double, tasks(tmp_path, 9), 2) == {k: 2 * k for k in range(9)}
    assert children() == []


def test_without_tasks_no_process_is_started():
    with ProcessPool(job(executor_jobs.double), 2) as pool:
        assert list(pool.run([[], []], lambda: False)) == []
        assert children() == []


def test_what_a_killed_process_computed_is_computed_again(tmp_path):
    notes = tmp_path / "notes"
    found = results_of(executor_jobs.double_or_die_once, tasks(notes, 5))
    assert found == {k: 2 * k for k in range(5)}
    begun = sorted(map(int, notes.read_text().split()))
    assert begun == [0, 0, 1, 2, 3, 3, 4]  # and nothing else was begun twice


@pytest.mark.parametrize(
    ("function", "message", "times"),
    [
        ("die", r"task 0: failed 3 times, last with a process that ended with signal 9 \(", 3),
        ("fail", "task 0: failed 3 times, last with KeyError: 'no 0", 3),
    ],
)
def test_a_task_that_fails_three_times_is_an_error(tmp_path, function, message, times):
    notes = tmp_path / "notes"
    with pytest.raises(TaskError, match=message) as error:
        results_of(getattr(executor_jobs, function), tasks(notes, 1))
    assert len(notes.read_text().split()) == times
    assert ("in fail" in "".join(error.value.__notes__)) == (function == "fail")
    assert children() == []


def test_a_task_that_fails_twice_is_computed(tmp_path):
    assert results_of(executor_jobs.fail_twice, tasks(tmp_path / "notes", 2)) == {0: 0, 1: 2}


@pytest.mark.parametrize(
    ("expected", "message"),
    [
        (HERE, "number: expected another one, got 0"),
        ({"gat_jax": "2"}, "workers: expected gat_jax 2, got 1"),
    ],
)
def test_what_is_refused_is_not_tried_again(tmp_path, expected, message):
    notes = tmp_path / "notes"
    with pytest.raises(ValueError, match=message):
        results_of(executor_jobs.refuse, tasks(notes, 1), expected=expected)
    assert not notes.exists() or notes.read_text() == "0\n"


def test_a_process_that_cannot_start_is_told(monkeypatch):
    monkeypatch.setattr(pool_module, "PROGRAM", "raise SystemExit('no room')")
    message = r"task 0: failed 3 times, last with a process that ended with exit code 1 \(no room\)"
    with pytest.raises(TaskError, match=message):
        results_of(executor_jobs.double, [Task(0)])


def test_a_pool_that_is_to_stop_ends_what_takes_too_long(tmp_path):
    notes = tmp_path / "notes"
    begin = time.monotonic()
    with ProcessPool(job(executor_jobs.sleep), 1) as pool:
        assert list(pool.run([tasks(notes, 3)], notes.exists)) == []
    assert time.monotonic() - begin < 10
    assert notes.read_text() == "0\n"
    assert children() == []


ORPHANS = """
import sys
import executor_jobs
from executor_jobs import Task, job
from gat_jax.runtime import pool
from gat_jax.runtime.pool import ProcessPool

pool.SETTINGS, pool.ONE_CORE = (), {}
with ProcessPool(job(executor_jobs.sleep), 2) as pool:
    list(pool.run([[Task(k, sys.argv[1]) for k in range(4)]], lambda: False))
"""


def test_no_process_outlives_the_one_that_started_it(tmp_path):
    notes = tmp_path / "notes"
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    parent = subprocess.Popen([sys.executable, "-c", ORPHANS, notes], env=environment)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (notes.exists() and len(notes.read_text()) == 4):
        time.sleep(0.02)
    listed = subprocess.run(["pgrep", "-P", str(parent.pid)], capture_output=True, check=True)
    orphans = [int(line) for line in listed.stdout.split()]
    assert len(orphans) == 2
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and any(Path(f"/proc/{pid}").exists() for pid in orphans):
        time.sleep(0.02)
    assert not any(Path(f"/proc/{pid}").exists() for pid in orphans)
