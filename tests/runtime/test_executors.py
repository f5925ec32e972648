"""Handing out tasks: lazily, a bounded number at a time, each once, and an end when asked."""

import itertools
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gat_jax.runtime import executors
from gat_jax.runtime.executors import ThisProcess, hand_out


class Workers:
    """Finishes the tasks under way in an order of its own, as many at once as it likes."""

    def __init__(self, capacity: int, choices=()):
        self.tasks, self.most, self._capacity = {}, 0, capacity
        self._choices = iter(choices)

    def capacity(self) -> int:
        return self._capacity

    def submit(self, number, task) -> None:
        assert number not in self.tasks
        self.tasks[number] = task
        self.most = max(self.most, len(self.tasks))

    def finished(self, seconds):
        del seconds
        choice = next(self._choices, 1)
        numbers = sorted(self.tasks, key=lambda number: (number * choice) % 7)[: choice % 3]
        return [(number, 2 * self.tasks.pop(number)) for number in numbers]


@given(
    groups=st.lists(st.lists(st.integers(), max_size=4), max_size=5),
    capacity=st.integers(1, 9),
    choices=st.lists(st.integers(0, 20), max_size=40),
)
def test_hand_out_gives_each_task_once_whatever_the_order(groups, capacity, choices):
    workers = Workers(capacity, choices)
    results = list(hand_out(workers, iter(groups), lambda: False))
    assert sorted(task for task, _ in results) == sorted(itertools.chain(*groups))
    assert all(result == 2 * task for task, result in results)
    assert workers.most <= capacity


def test_hand_out_reads_tasks_as_it_needs_them():
    read = []

    def tasks():
        for k in range(1000):
            read.append(k)
            yield k

    results = hand_out(Workers(3), [tasks()], lambda: False)
    assert read == []
    next(results)
    assert read == [0, 1, 2]
    next(results)
    assert read == [0, 1, 2, 3]


def test_hand_out_begins_nothing_once_it_is_to_stop():
    workers, seen = Workers(2), []
    for task, _ in hand_out(workers, [range(100)], lambda: len(seen) >= 5):
        seen.append(task)
    assert seen == [0, 1, 2, 3, 4, 5]  # the last one was under way
    assert list(hand_out(Workers(2), [range(100)], lambda: True)) == []


def test_hand_out_does_not_wait_for_ever_for_what_is_under_way(monkeypatch):
    monkeypatch.setattr(executors, "STOPPING", 0.05)
    workers = Workers(2, choices=[0] * 10**6)  # which finishes nothing
    begin, stop = time.monotonic(), iter([False])
    assert list(hand_out(workers, [range(9)], lambda: next(stop, True))) == []
    assert time.monotonic() - begin < 2
    assert len(workers.tasks) == 2


def test_what_is_finished_beside_a_failure_is_not_lost():
    class Failing(Workers):
        """Fails at its second task, when the third and the fourth are finished as well."""

        def __init__(self):
            super().__init__(4)
            self.events = [[(0, "a")], executors.TaskError("b: failed"), [(2, "c")], [(3, "d")]]
            self.events.insert(3, ValueError("e: refused"))

        def finished(self, seconds):
            event = self.events.pop(0) if self.events else []
            if isinstance(event, Exception):
                raise event
            return event

    results = hand_out(Failing(), ["abcd"], lambda: False)
    assert [next(results) for _ in range(3)] == [("a", "a"), ("c", "c"), ("d", "d")]
    with pytest.raises(executors.TaskError, match=r"^b: failed$"):
        next(results)


def test_this_process_computes_each_group_as_one_stream():
    groups = []

    def compute(tasks):
        groups.append([])
        for task in tasks:
            groups[-1].append(task)
            yield task, -task

    results = ThisProcess(compute).run([range(2), [], range(5, 7)], lambda: False)
    assert list(results) == [(0, 0), (1, -1), (5, -5), (6, -6)]
    assert groups == [[0, 1], [], [5, 6]]


@pytest.mark.parametrize("executor", [ThisProcess(iter)])
def test_executors_are_what_the_protocol_says(executor):
    assert isinstance(executor, executors.Executor)
