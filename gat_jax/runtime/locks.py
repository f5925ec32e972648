"""Locks on a folder of results: one sweep at a time writes to a store.

Where the operating system has `flock` (Linux, macOS), it keeps the lock and drops it with the
process, whatever ends it. Elsewhere (Windows) a file marks the holder. That is weaker, in two ways
that the messages say: a killed process leaves its mark, which somebody has to delete, and processes
that share a lock rely on the one that took it.
"""

import contextlib
import os
import platform
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

try:
    import fcntl
except ModuleNotFoundError:  # Windows has none
    fcntl = None  # pyright: ignore[reportAssignmentType]: the name of a module stands for "none"

STORE_LOCK, SUMMARY_LOCK = ".lock", ".summary-lock"
HELD = "-held"  # after the name of a lock: the file that marks its holder where there is no flock
PATIENCE = 60.0  # seconds to wait for a mark to go: what it guards takes less than one


class StoreInUseError(ValueError):
    """Another sweep is writing to the store."""


@contextlib.contextmanager
def locked(path: Path, *, is_member: bool = False) -> Iterator[IO[bytes] | None]:
    """Hold the lock of a store.

    Args:
      path: of the store, a folder that exists.
      is_member: share the lock with the other processes of one distributed sweep, after its first
        process has called `share`. Without `flock` a member holds nothing.

    Yields:
      What `share` takes to let members in.

    Raises:
      StoreInUseError: if another sweep holds the lock.
    """
    refusal = f"out: expected no other sweep on {path}, got one"
    if fcntl is None:
        with contextlib.ExitStack() as stack:
            try:
                if not is_member:
                    stack.enter_context(_marked(path / (STORE_LOCK + HELD)))
            except FileExistsError as mark:
                reason = f"{mark.strerror}; if it has ended, delete {mark.filename}"
                raise StoreInUseError(f"{refusal}: {reason}") from None
            yield None
        return
    with open(path / STORE_LOCK, "a+b") as file:  # NFS shares a lock only on readable files
        try:
            fcntl.flock(file, (fcntl.LOCK_SH if is_member else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StoreInUseError(refusal) from None
        yield file


def share(lock: IO[bytes] | None) -> None:
    """Let the other processes of this sweep share the lock, and still nobody else.

    Args:
      lock: what `locked` gave to the process that holds it.
    """
    if fcntl is not None and lock is not None:
        fcntl.flock(lock, fcntl.LOCK_SH)


@contextlib.contextmanager
def one_at_a_time(path: Path) -> Iterator[None]:
    """Wait until no other process of this sweep replaces the summary, and keep the others waiting.

    Args:
      path: of the store, whose lock this process holds or shares.

    Raises:
      TimeoutError: without `flock`, if the mark of another process does not go away.
    """
    if fcntl is not None:
        with open(path / SUMMARY_LOCK, "a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
        return
    deadline = time.monotonic() + PATIENCE
    with contextlib.ExitStack() as stack:
        while True:
            try:
                stack.enter_context(_marked(path / (SUMMARY_LOCK + HELD)))
                break
            except FileExistsError as mark:
                if time.monotonic() > deadline:
                    raise TimeoutError(
                        f"expected the summary to become free, got a mark of {mark.strerror}; "
                        f"if that has ended, delete {mark.filename}"
                    ) from None
                time.sleep(0.05)
        yield


def remove_stale(path: Path) -> None:
    """Remove what a killed process left of the lock on the summary; the store has to be locked."""
    (path / (SUMMARY_LOCK + HELD)).unlink(missing_ok=True)


@contextlib.contextmanager
def _marked(file: Path) -> Iterator[None]:
    """Mark this process as a holder, in a file that only one process can create.

    Raises:
      FileExistsError: if there is a mark; its `strerror` names the holder.
    """
    try:
        with open(file, "x", encoding="utf-8") as mark:
            mark.write(f"process {os.getpid()} on {platform.node()}")
    except FileExistsError as error:
        holder = ""
        with contextlib.suppress(FileNotFoundError):  # it may have gone by now
            holder = file.read_text(encoding="utf-8")
        raise FileExistsError(error.errno, holder or "another process", str(file)) from None
    try:
        yield
    finally:
        file.unlink(missing_ok=True)
