"""Command lines: one line on stderr for whatever goes wrong, and the exit code that it deserves."""

import dataclasses
import os
import signal
import subprocess
import sys
import threading
from typing import Literal

import pytest

from gat_jax.runtime import cli, stops


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of a command."""

    size: int = 1
    """how large"""
    kind: Literal["one", "other"] = "one"
    """which"""

    def __post_init__(self):
        """Refuse a negative size."""
        if self.size < 0:
            raise ValueError(f"size: expected at least 0, got {self.size}")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--siz", "3"], "error: Unrecognized options: --siz, 3 (perhaps you meant --size)\n"),
        (["--size", "x"], "error: Error parsing --size: invalid literal for int() with base 10: "),
        (["--size", "-3"], "error: size: expected at least 0, got -3\n"),
        (["--kind", "third"], "error: invalid choice 'third' for argument '--kind'"),
        (["--size"], "error: Missing value for argument '--size'. Expected 1 values.\n"),
    ],
)
@pytest.mark.parametrize("columns", ["200", "40"])
def test_parse_takes_the_message_out_of_the_drawing(argv, message, columns, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", columns)
    with pytest.raises(SystemExit) as stop:
        cli.parse(Options, argv)
    printed = capsys.readouterr().err
    assert stop.value.code == 2
    assert printed.startswith(message.rstrip())
    assert printed.count("\n") == 1
    assert not set(printed) & set("╭│╰─")


def test_message_of_a_drawing_without_frames_leaves_out_its_title():
    box = "Some title\n-----\nThe message\ngoes on.\n-----\nFor full helptext, run x --help\n"
    assert cli._message_of_tyro(box) == "The message goes on."


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ("", "options: expected some that can be read, got others"),
        ("plain words\nwithout a box", "plain words without a box"),
        ("Perhaps you meant:", "Perhaps you meant:"),
    ],
)
def test_message_of_a_form_that_is_not_known_is_a_line_all_the_same(box, message):
    assert cli._message_of_tyro(box) == message


def test_parse_takes_defaults_and_gives_help_its_name(capsys):
    assert cli.parse(Options, [], default=Options(size=7)) == Options(size=7)
    with pytest.raises(SystemExit) as stop:
        cli.parse(Options, ["--help"], prog="gat-jax something")
    assert stop.value.code == 0
    assert "usage: gat-jax something" in capsys.readouterr().out


def raising(error: BaseException):
    def run(arguments: list[str]) -> int:
        raise error

    return run


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (OSError(28, "No space left on device", "/x/y"), 1, "No space left on device (/x/y)"),
        (OSError("odd"), 1, "OSError: odd (--traceback shows the full story)"),
        (cli.IncompleteError("the numbers are there"), 1, "the numbers are there"),
        (KeyError("name"), 1, "KeyError: 'name' (--traceback shows the full story)"),
        (RuntimeError("one\n\ntwo"), 1, "RuntimeError: one (--traceback shows the full story)"),
        (AssertionError(), 1, "AssertionError (--traceback shows the full story)"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_boundary_turns_an_exception_into_one_line_and_a_code(error, code, line, capsys):
    assert cli.boundary(raising(error), []) == code
    assert capsys.readouterr().err == f"error: {line}\n"

    def run(arguments: list[str]) -> int:
        stops.keep("blocks are kept")
        raise error

    assert cli.boundary(run, []) == code
    assert capsys.readouterr().err == f"error: {line}; blocks are kept\n"


def test_boundary_treats_a_value_error_as_bad_input(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.boundary(raising(ValueError("size: expected 1,\n  got  2")), [])
    assert stop.value.code == 2
    assert capsys.readouterr().err == "error: size: expected 1,\\n  got  2\n"


def test_boundary_returns_the_code_and_passes_the_arguments(monkeypatch):
    seen = []

    def run(arguments: list[str]) -> int:
        seen.append(arguments)
        return 5

    monkeypatch.setattr(sys, "argv", ["name", "--size", "3"])
    assert cli.boundary(run, None) == 5
    assert cli.boundary(run, ["a", "--traceback", "b"]) == 5
    assert seen == [["--size", "3"], ["a", "b"]]


def test_traceback_comes_before_the_line(capsys):
    assert cli.boundary(raising(RuntimeError("odd")), ["--traceback"]) == 1
    printed = capsys.readouterr().err
    assert printed.startswith("Traceback (most recent call last):")
    assert printed.splitlines()[-1].startswith("error: RuntimeError: odd")


def test_first_line_is_cut_where_it_is_long():
    assert cli.first_line(RuntimeError("x" * 1000)) == "RuntimeError: " + "x" * 286


def test_sigterm_unwinds_and_the_handler_is_put_back(capsys):
    cleaned = []

    def run(arguments: list[str]) -> int:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            threading.Event().wait(10)
        finally:
            cleaned.append(True)
        return 0

    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert cli.boundary(run, []) == 143
    assert cleaned == [True]
    assert capsys.readouterr().err == "error: terminated\n"
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_boundary_leaves_a_handler_that_is_there_and_works_beside_the_main_thread():
    previous = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        handlers = []
        cli.boundary(lambda _: handlers.append(signal.getsignal(signal.SIGTERM)) or 0, [])
        assert handlers == [signal.SIG_IGN]
    finally:
        signal.signal(signal.SIGTERM, previous)
    codes = []
    thread = threading.Thread(target=lambda: codes.append(cli.boundary(lambda _: 4, [])))
    thread.start()
    thread.join()
    assert codes == [4]


LEAVE = """
import sys, threading, time
from gat_jax.runtime import cli
threading.Thread(target=time.sleep, args=(30,)).start()
print("said", end="")
cli.leave(130)
"""


def test_leave_does_not_wait_for_a_computing_thread_after_an_interruption():
    argv = [sys.executable, "-c", LEAVE]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=25)
    assert (done.returncode, done.stdout, done.stderr) == (130, "said", "")


@pytest.mark.parametrize("code", [0, 1, 130])
def test_leave_ends_like_any_process_where_no_thread_computes(code, monkeypatch):
    # Other tests may have left a thread behind; with it this process would end.
    monkeypatch.setattr(cli.threading, "enumerate", lambda: [threading.main_thread()])
    with pytest.raises(SystemExit) as stop:
        cli.leave(code)
    assert stop.value.code == code


WARN = """
import warnings
from gat_jax.runtime import cli
cli.begin()
warnings.warn("one\\ntwo", UserWarning)
cli.leave(0)
"""


def test_a_warning_costs_a_command_one_line():
    argv = [sys.executable, "-c", WARN]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=25)
    assert (done.returncode, done.stderr) == (0, "note: UserWarning: one\n")
