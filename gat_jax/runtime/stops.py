"""How a command is stopped: Ctrl-C and SIGTERM end its process, whatever it is doing.

Python runs the handlers of signals on the main thread, between two of its own instructions. While
XLA compiles that may be minutes later, and an exception that such a handler raises can come out of
a callback that swallows it. A command (`begin`) therefore relies on neither. Below Python's own
handlers, `signal.set_wakeup_fd` writes the number of the signal to a socket at once; a thread of
this module waits for it and ends the process: it says so in one line, removes the scratch files
that are registered here, and exits with 128 plus the number. Nothing is unwound, so whatever has to
survive must be on disk, whole or absent, at every moment; `store` sees to that.

A part of a command that can be asked to finish early (`patient`) is given `GRACE` seconds to.

Only the standard library is imported here: until `begin` has run, Ctrl-C is a traceback.
"""

import atexit
import contextlib
import os
import select
import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import NoReturn

GRACE = 3.0  # seconds
SAID = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}

# A process has one set of signals, and so there is one of each of these.
_begun: list[socket.socket] = []  # both ends of the socket, once this process is a command
_received: list[int] = []  # signals, in their order
_patient: list[None] = []  # as many as there are `patient` parts under way
_ending: list[int] = []  # the signal that is just ending the process
_scratch: set[Path] = set()
_kept: list[str] = []  # at most one


def begin() -> None:
    """Make this process a command: from now on Ctrl-C and SIGTERM end it as the module says.

    A signal that the process was started to ignore (`nohup`, a shell's background job) stays
    ignored.
    """
    if _begun:
        return
    _begun.extend(socket.socketpair())
    _begun[1].setblocking(False)  # as `set_wakeup_fd` demands
    threading.Thread(target=_wait, name="stops", daemon=True).start()
    atexit.register(_ignore)  # the first that is registered runs last
    restore()


def restore() -> None:
    """Put back the handlers of a command, where somebody has replaced them."""
    if not _begun:
        return
    signal.set_wakeup_fd(_begun[1].fileno(), warn_on_full_buffer=False)
    for number in SAID:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _note)


def received() -> int | None:
    """Return the number of the first signal that asked this command to end, if one did."""
    return _received[0] if _received else None


@contextlib.contextmanager
def patient() -> Iterator[Callable[[], bool]]:
    """Let the body finish what it is at when it is asked to end, for `GRACE` seconds.

    Yields:
      A function that says whether the body has been asked to end.
    """
    _patient.append(None)
    try:
        yield lambda: bool(_received)
    finally:
        _patient.pop()


def keep(what: str) -> None:
    """Say what is safe from now on if the command ends early, such as "finished blocks are kept".

    Args:
      what: is added to the line that says why it ended; empty: nothing is.
    """
    _kept[:] = [what] if what else []


def kept() -> str:
    """Return what `keep` was told."""
    return _kept[0] if _kept else ""


@contextlib.contextmanager
def scratch(path: Path) -> Iterator[None]:
    """Remove a file or folder after the body, however the body or the process ends.

    Args:
      path: of what the body makes; it need not exist.
    """
    _scratch.add(path)
    try:
        yield
    finally:
        _remove(path)
        _scratch.discard(path)


def remove_at_end(path: Path) -> None:
    """Have a file or folder removed when the process ends by `leave_now`, or by a signal."""
    _scratch.add(path)


def stand_still() -> None:
    """Return at once; where a signal is just ending the process, never.

    Then scratch files vanish under whatever the process is at, and what it would say of that, or
    its own exit code, is not wanted any more.
    """
    if _ending:
        time.sleep(GRACE)
        os._exit(128 + _ending[0])


def leave_now(code: int) -> NoReturn:
    """End the process without waiting for anything, its scratch files removed."""
    # What another thread is writing now may come into being after it was removed, and once more.
    deadline = time.monotonic() + 0.5
    while True:
        for path in list(_scratch):
            _remove(path)
        time.sleep(0.02)
        if time.monotonic() > deadline or not any(map(os.path.lexists, list(_scratch))):
            os._exit(code)


def _remove(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()


def _note(number: int, _frame: FrameType | None) -> None:
    """Handle a signal on the main thread, which has only to stand still: `_wait` does the rest."""
    is_first = not _received
    _received.append(number)
    if is_first and not _patient:
        # It never returns: what the main thread would do next is not wanted any more. Should the
        # other thread have failed, the process ends all the same.
        time.sleep(GRACE)
        os._exit(128 + number)


def _ignore() -> None:
    """Let the interpreter end, with the exit code that it has: it puts back the usual handlers."""
    for number in SAID:
        signal.signal(number, signal.SIG_IGN)


def _wait() -> None:
    """Wait for a signal that ends the process, and end it."""
    number = 0
    while number not in SAID:  # others have handlers too, and are none of our business
        number = _begun[0].recv(1)[0]
    if _patient:
        time.sleep(GRACE)  # the process may have ended by itself before that is over
    _ending.append(number)
    _say("; ".join(filter(None, [f"error: {SAID[signal.Signals(number)]}", kept()])))
    leave_now(128 + number)


def _say(line: str) -> None:
    """Write a line to stderr without its lock, which the main thread may hold, and without waiting.

    On a terminal it takes the place of a progress bar, which has hidden the cursor.
    """
    with contextlib.suppress(OSError, ValueError):
        before = "\r\x1b[K\x1b[?25h" if os.isatty(2) else ""
        if os.name != "posix" or select.select([], [2], [], 0.5)[1]:
            os.write(2, f"{before}{line}\n".encode(errors="backslashreplace"))
