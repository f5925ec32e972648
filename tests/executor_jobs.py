"""Jobs for executors, which workers in other processes import by their names."""

import os
import signal
import time
from pathlib import Path
from typing import NamedTuple

from gat_jax.runtime.executors import Job

HERE = {"gat_jax": "1", "device": "abacus"}


class Task(NamedTuple):
    """A number, and a file that says how often it was begun."""

    number: int
    notes: str = ""

    def __str__(self) -> str:
        return f"task {self.number}"


def describe() -> dict[str, str]:
    return HERE


def job(function, expected=HERE) -> Job:
    return Job(function, describe, expected)


def double(task: Task) -> int:
    print("whatever is printed is no answer")
    os.write(1, b"nor is this\n")
    return 2 * task.number


def double_slowly(task: Task) -> int:
    time.sleep(0.3)
    return 2 * task.number


def times_begun(task: Task) -> int:
    """How often a task was begun, this time included."""
    with Path(task.notes).open("a") as file:
        file.write(f"{task.number}\n")
    return Path(task.notes).read_text().split().count(str(task.number))


def double_or_die_once(task: Task) -> int:
    if times_begun(task) == 1 and task.number % 3 == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return 2 * task.number


def die(task: Task) -> None:
    times_begun(task)
    os.kill(os.getpid(), signal.SIGKILL)


def fail(task: Task) -> None:
    times_begun(task)
    raise KeyError(f"no {task.number}\nat all")


def fail_twice(task: Task) -> int:
    if times_begun(task) < 3:
        raise KeyError("not yet")
    return 2 * task.number


def refuse(task: Task) -> None:
    times_begun(task)
    raise ValueError(f"number: expected another one, got {task.number}")


def sleep(task: Task) -> None:
    times_begun(task)
    time.sleep(60)
