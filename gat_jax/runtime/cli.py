"""What all command lines share: how options are read, and how a command ends.

A command is `main(argv) -> int`, whose body `boundary` runs. Exit codes: 0 all is well, 1 something
failed while the command ran, 2 bad input, 130 Ctrl-C, 143 SIGTERM. Whatever goes wrong costs one
line on stderr; with `--traceback` anywhere among the arguments the full story comes before it.

A process that is a command and nothing else (`gat-jax`, the scripts) begins with `begin` and ends
with `leave`. Between the two a signal ends it at once, as `stops` says; elsewhere, such as in a
notebook, Ctrl-C and SIGTERM unwind the command.
"""

import contextlib
import io
import os
import re
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import NoReturn, TextIO, TypeVar

from gat_jax.runtime import stops
from gat_jax.runtime.text import visible

Options = TypeVar("Options")

FAILED, BAD_INPUT, INTERRUPTED, TERMINATED = 1, 2, 130, 143  # the last two: 128 + the signal


class IncompleteError(Exception):
    """What was computed is there, but something that was to be made of it is not.

    The message says what is there and what is missing, for it becomes the command's last line.
    """


class _TerminatedError(BaseException):
    """SIGTERM came. Like KeyboardInterrupt it is no Exception, so that no `except` swallows it."""


def parse(
    options: type[Options],
    argv: Sequence[str] | None,
    *,
    default: Options | None = None,
    prog: str | None = None,
) -> Options:
    """Read a command line into a dataclass.

    Args:
      options: the dataclass.
      argv: arguments, without the command's name; None reads the process's own.
      default: what holds of options that are not given; None: the dataclass's own defaults.
      prog: the command's name in its help; None: the name of the process.

    Raises:
      SystemExit: code 0 after --help, code 2 after one line on stderr for anything unreadable.
    """
    import tyro  # takes a while: a process should `begin` before

    captured = io.StringIO()
    given = sys.argv[1:] if argv is None else argv
    try:
        with contextlib.redirect_stderr(captured), _unbroken_lines("--help" not in given):
            if default is None:
                return tyro.cli(options, args=argv, prog=prog)
            return tyro.cli(options, args=argv, prog=prog, default=default)
    except SystemExit as stop:
        if stop.code in (None, 0):
            raise
        fail(_message_of_tyro(captured.getvalue()))


def refuse_twice(arguments: Sequence[str]) -> None:
    """Refuse an option that is given twice: tyro takes the last one, and hours would be lost.

    Args:
      arguments: of the command line.

    Raises:
      ValueError: names the option.
    """
    names = [x.split("=")[0].replace("_", "-") for x in arguments if x.startswith("--")]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"{twice}: expected once, got twice")


@contextlib.contextmanager
def _unbroken_lines(is_wanted: bool) -> Iterator[None]:
    """Have messages drawn in a window so wide that no path in them is broken into lines."""
    before = os.environ.get("COLUMNS")
    if is_wanted:
        os.environ["COLUMNS"] = "10000"
    try:
        yield
    finally:
        if is_wanted:
            os.environ.pop("COLUMNS")
            os.environ.update({} if before is None else {"COLUMNS": before})


def fail(message: object) -> NoReturn:
    """Print one line on stderr and exit with code 2."""
    print_error(message)
    raise SystemExit(BAD_INPUT)


def begin() -> None:
    """Make this process a command, before it imports anything that takes long; see `stops`."""
    for number in (0, 1, 2):  # a file that is opened must not become the stdout that is closed
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    stops.begin()
    for stream in (sys.stdout, sys.stderr):
        # What the terminal's alphabet lacks is printed as an escape, and is no error.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    warnings.showwarning = _show_warning


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Say what a library warns of in one line: where in it that is helps no user of a command."""
    if file is None:
        note(first_line(category(str(message))))
    else:
        file.write(warnings.formatwarning(message, category, filename, lineno, line))


def boundary(run: Callable[[list[str]], int], argv: Sequence[str] | None) -> int:
    """Run a command's body; turn what goes wrong into one line on stderr and an exit code.

    A `ValueError` is bad input, as everywhere in this package. Any other exception is a failure
    while the command ran: an `OSError` (a full disk, a file that may not be read) is told by its
    reason and its file, an `IncompleteError` by its message, an unexpected one by its type and
    first line. What the command said by `stops.keep` is added to the line.

    Where the process is no command (`begin`), SIGTERM unwinds like Ctrl-C does, so that scratch
    files are removed.

    Args:
      run: takes the arguments without `--traceback` and returns the exit code.
      argv: arguments; None reads the process's own.

    Returns:
      The exit code: what `run` returned, or 1, 130 or 143.

    Raises:
      SystemExit: code 2 for bad input, code 0 after --help.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    tells_all = "--traceback" in arguments
    arguments = [argument for argument in arguments if argument != "--traceback"]
    stops.keep("")
    try:
        with _sigterm_unwinds():
            return run(arguments)
    except (Exception, KeyboardInterrupt, _TerminatedError) as error:
        if tells_all:
            traceback.print_exception(error)
        code, message = _explain(error)
        message = "; ".join(filter(None, [message, stops.kept()]))
        if code == BAD_INPUT:
            fail(message)
        print_error(message)
        return code


def ended_by(number: int) -> int:
    """Say that a signal ended the command, and return the exit code."""
    print_error("; ".join(filter(None, [stops.SAID[signal.Signals(number)], stops.kept()])))
    return 128 + number


def leave(code: int) -> NoReturn:
    """End the process with a command's exit code; after an early end without waiting.

    A thread that computes cannot be interrupted, and the interpreter would wait for it: a user who
    pressed Ctrl-C would look at a dead terminal for as long as a job takes.
    """
    stops.stand_still()
    for stream in (sys.stdout, sys.stderr):
        if stream is None:
            continue
        try:
            stream.flush()
        except OSError as error:  # nobody reads it any more, or its disk is full
            if stream is sys.stdout and code == 0:
                code, message = _explain(error)
                print_error(message)
            # The interpreter flushes once more as it ends, and would say so.
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    others = [thread for thread in threading.enumerate() if not thread.daemon]
    if code != 0 and len(others) > 1:
        stops.leave_now(code)
    sys.exit(code)


def print_error(message: object, kind: str = "error") -> None:
    """Print one line on stderr; see `visible` for what is in it.

    Args:
      message: what there is to say.
      kind: what the line begins with: "error", or "note" for what is no failure.
    """
    stops.stand_still()
    if sys.stderr is not None:  # then `print` would take stdout
        with contextlib.suppress(OSError):  # where nobody reads it, the exit code has to do
            print(f"{kind}: {visible(message)}", file=sys.stderr, flush=True)


def note(message: str | None) -> None:
    """Print what a user should know of something that went on without it; None says nothing."""
    if message is not None:
        print_error(message, "note")


def _explain(error: BaseException) -> tuple[int, str]:
    """Return the exit code and the line that an exception stands for."""
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED, "interrupted"
    if isinstance(error, _TerminatedError):
        return TERMINATED, "terminated"
    if isinstance(error, ValueError):
        return BAD_INPUT, str(error)
    if isinstance(error, IncompleteError):
        return FAILED, str(error)
    if isinstance(error, BrokenPipeError):
        return FAILED, "stdout: expected somebody to read it to its end, got a closed pipe"
    if isinstance(error, OSError) and error.strerror:
        return FAILED, error.strerror + (f" ({error.filename})" if error.filename else "")
    return FAILED, f"{first_line(error)} (--traceback shows the full story)"


def first_line(error: BaseException) -> str:
    """Return the type of an exception and the first line of its message, cut where it is long.

    An `OSError` is not cut, for it names a file.
    """
    if isinstance(error, OSError):
        return visible(f"{type(error).__name__}: {error}")
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return visible(": ".join([type(error).__name__, *lines[:1]])[:300])


@contextlib.contextmanager
def _sigterm_unwinds() -> Iterator[None]:
    """Turn SIGTERM into an exception, unless the process ignores it or somebody handles it."""

    def unwind(_number: int, _frame: FrameType | None) -> None:
        raise _TerminatedError

    is_ours = (
        threading.current_thread() is threading.main_thread()  # no other may set a handler
        and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    )
    if is_ours:
        signal.signal(signal.SIGTERM, unwind)
    try:
        yield
    finally:
        if is_ours:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _message_of_tyro(box: str) -> str:
    """Return tyro's message without its box, help texts and pointer to --help, as one line.

    tyro (as of 1.0) tells what is wrong in a drawn box alone: it exits with a code and no message,
    and its hook for parse errors is declared private and unstable, "pin an exact version". Its
    text, with the option that was perhaps meant, is what a user needs, so it is taken out of the
    drawing. Should a version draw otherwise, the line gets clumsier and the exit code stays;
    `tests/runtime/test_cli.py` holds the forms that are known.

    The box holds sections between rules: the message, help texts, the pointer. Its title stands in
    the frame, or, where the terminal knows no frames, in a section of its own before the others.
    """
    lines = [line.strip("│ ") for line in box.splitlines() if not line.startswith(("╭", "╰"))]
    sections: list[list[str]] = [[]]
    for line in lines:
        if line and not line.strip("─-"):
            sections.append([])
        elif line:
            sections[-1].append(line)
    known = [section for section in sections if section]
    if not known:
        return "options: expected some that can be read, got others"
    has_frame = "╭" in box or len(known) == 1
    message = known[0 if has_frame else 1]
    if "Perhaps you meant:" in lines[:-1]:
        option = lines[lines.index("Perhaps you meant:") + 1].split()[0]
        message = [*message, f"(perhaps you meant {option})"]
    # What a dataclass itself refuses, such as a value out of its range, names its own field.
    return re.sub(r"^Error parsing \S+: (?=\w+: expected )", "", " ".join(message))
