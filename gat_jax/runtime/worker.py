"""What a worker does: it checks that it is what it should be, computes a task, and answers.

`answer` and `attempt` are what the workers of remote executors call. They take and return bytes,
and read the task only after the check: one of another version may not even be able to read it.

As a program (`main`) this is one of the processes of `pool.ProcessPool`. It reads tasks from its
stdin and writes answers to what was its stdout. It ends at once when its stdin ends, whatever it is
computing: so it does not outlive the process that started it, however that one ends.

Only the standard library is imported here: a process that has just been started listens at once.
"""

import functools
import os
import pickle
import queue
import sys
import threading
import traceback
from collections.abc import Mapping
from typing import IO, Any, NamedTuple

from gat_jax.runtime.executors import Job

LENGTH = 8  # bytes that say how long a message is


class Answer(NamedTuple):
    """What became of a task."""

    kind: str  # "done", "refused" (it can never be computed) or "failed" (it may be tried again)
    value: Any  # the result, or a line on what is wrong
    story: str = ""  # the traceback of what went wrong


def pack(value: Any) -> bytes:
    """Return something as bytes, for a worker or from one."""
    return pickle.dumps(value, pickle.HIGHEST_PROTOCOL)


def unpack(packed: bytes) -> Any:
    """Undo `pack`."""
    return pickle.loads(packed)


def request(job: Job, task: Any) -> bytes:
    """Pack a task, and what is to be done with it, for `answer`."""
    # In layers: of a worker of another version only the first one is sure to be readable.
    return pack((dict(job.expected), pack(job.describe), pack((job.function, task))))


def answer(packed: bytes) -> bytes:
    """Compute a task, or say what is wrong with it or with this worker.

    Args:
      packed: of `request`.

    Returns:
      An `Answer` as a packed tuple.
    """
    return pack(tuple(_answer(packed)))


def _answer(packed: bytes) -> Answer:
    try:
        expected, describe, inner = unpack(packed)
        if (wrong := mismatch(expected, _described(describe))) is not None:
            return Answer("refused", wrong)
        function, task = unpack(inner)
        return Answer("done", function(task))
    except ValueError as error:  # bad input, as everywhere in this package
        return Answer("refused", str(error), traceback.format_exc())
    except (Exception, SystemExit) as error:  # whatever it is, others have to hear of it
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        line = ": ".join([type(error).__name__, *lines[:1]])
        return Answer("failed", line[:300], traceback.format_exc())


def attempt(packed: bytes) -> bytes:
    """Be `answer` for a scheduler that begins a task again if it raises.

    Raises:
      RuntimeError: with the line and the traceback of what failed.
    """
    found = _answer(packed)
    if found.kind == "failed":
        raise RuntimeError(found.value, found.story)
    return pack(tuple(found))


def description(packed: bytes) -> bytes:
    """Say what this worker is.

    Args:
      packed: of `request`, for any task.

    Returns:
      Texts by name, as a packed dictionary.
    """
    return pack(dict(_described(unpack(packed)[1])))


@functools.lru_cache(maxsize=8)
def _described(describe: bytes) -> Mapping[str, str]:
    """Return what this worker is, which does not change while it lives."""
    try:
        function = unpack(describe)
    except (ImportError, AttributeError) as error:  # it is of another version, or lacks a package
        return {"gat_jax": f"one that cannot do it ({type(error).__name__}: {error})"}
    return function()


def mismatch(expected: Mapping[str, str], found: Mapping[str, str]) -> str | None:
    """Return a line that says in what a worker differs from what it should be; None: in nothing.

    Args:
      expected: what it should be, texts by name.
      found: what it is. More than what is expected is no difference.
    """
    for name, value in expected.items():
        if found.get(name) != value:
            return f"workers: expected {name} {value}, got {found.get(name, 'none')}"
    return None


# --- one of the processes of a pool ---------------------------------------------------------------


def main() -> None:
    """Be a process of a pool, until its stdin ends."""
    source = sys.stdin.buffer
    sink = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever prints must not print into the answers
    messages: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(source, messages), daemon=True).start()
    _configure(unpack(messages.get()))
    while True:
        number, packed = unpack(messages.get())
        send(sink, pack((number, answer(packed))))


def _listen(source: IO[bytes], messages: queue.SimpleQueue) -> None:
    while (message := receive(source)) is not None:
        messages.put(message)
    os._exit(0)  # nobody waits for answers any more


def _configure(settings: Mapping[str, Any]) -> None:
    """Set JAX up as it is in the process that waits for the answers."""
    for name, value in settings.items():
        import jax  # takes a while

        jax.config.update(name, value)


def send(stream: IO[bytes], message: bytes) -> None:
    """Write a message, its length before it.

    Raises:
      OSError: if nobody reads it any more.
    """
    stream.write(len(message).to_bytes(LENGTH, "big") + message)
    stream.flush()


def receive(stream: IO[bytes]) -> bytes | None:
    """Return the next whole message; None: the stream has ended."""
    start = stream.read(LENGTH)
    length = int.from_bytes(start, "big")
    message = stream.read(length) if len(start) == LENGTH else b""
    return message if len(start) == LENGTH and len(message) == length else None
