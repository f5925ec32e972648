"""What a worker answers, and how messages travel."""

import pickle
import tempfile

import executor_jobs
import pytest
from executor_jobs import HERE, Task, job
from hypothesis import given
from hypothesis import strategies as st

from gat_jax.runtime import worker
from gat_jax.runtime.worker import Answer, answer, attempt, request, unpack


def answer_of(function, task, expected=HERE) -> Answer:
    return Answer(*unpack(answer(request(job(function, expected), task))))


def test_an_answer_is_the_result():
    assert answer_of(executor_jobs.double, Task(4)) == Answer("done", 8)


def test_bad_input_is_refused_and_everything_else_has_failed(tmp_path):
    task = Task(4, str(tmp_path / "notes"))
    refused = answer_of(executor_jobs.refuse, task)
    assert refused[:2] == ("refused", "number: expected another one, got 4")
    failed = answer_of(executor_jobs.fail, task)
    assert failed[:2] == ("failed", "KeyError: 'no 4\\nat all'")
    assert "in fail" in failed.story
    with pytest.raises(RuntimeError) as error:  # for a scheduler that tries again
        attempt(request(job(executor_jobs.fail), task))
    assert error.value.args == (failed.value, error.value.args[1])
    packed = attempt(request(job(executor_jobs.refuse), task))
    assert unpack(packed)[0] == "refused"


@pytest.mark.parametrize(
    ("expected", "message"),
    [
        ({"gat_jax": "2"}, "workers: expected gat_jax 2, got 1"),
        (HERE | {"device": "slide rule"}, "workers: expected device slide rule, got abacus"),
        (HERE | {"jax": "0.10"}, "workers: expected jax 0.10, got none"),
        ({}, None),
        (HERE, None),
    ],
)
def test_a_worker_that_is_something_else_refuses(expected, message):
    assert worker.mismatch(expected, HERE) == message
    found = answer_of(executor_jobs.double, Task(1), expected)
    assert found[:2] == (("done", 2) if message is None else ("refused", message))


def test_a_worker_that_is_something_else_does_not_read_the_task():
    packed = worker.pack(({"gat_jax": "2"}, worker.pack(executor_jobs.describe), b"of the future"))
    assert unpack(answer(packed))[:2] == ("refused", "workers: expected gat_jax 2, got 1")


def test_a_worker_without_the_module_of_the_job_refuses():
    unknown = pickle.dumps(executor_jobs.describe).replace(b"executor_jobs", b"executor_jobz")
    packed = worker.pack(({"gat_jax": "2"}, unknown, b""))
    kind, line, _ = unpack(answer(packed))
    assert kind == "refused"
    assert line.startswith("workers: expected gat_jax 2, got one that cannot do it (ModuleNotFound")


def test_a_worker_describes_itself_once():
    assert unpack(worker.description(request(job(executor_jobs.double), None))) == HERE


@given(messages=st.lists(st.binary(max_size=40), max_size=5), lost=st.integers(0, 60))
def test_messages_come_whole_or_not_at_all(messages, lost):
    with tempfile.TemporaryFile() as stream:
        for message in messages:
            worker.send(stream, message)
        stream.truncate(max(0, stream.tell() - lost))
        stream.seek(0)
        received = list(iter(lambda: worker.receive(stream), None))
    assert received == messages[: len(received)]
    if lost == 0:
        assert received == messages
