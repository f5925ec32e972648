"""Signals end a command's process at any moment: one line, an exit code, nothing left behind."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers import signals_of_the_foreground

from gat_jax.runtime import stops

START = """
import os, sys, time
from pathlib import Path
from gat_jax.runtime import cli, stops
cli.begin()
folder = Path(sys.argv[1])
"""
# What a command may be at: asleep, computing in Python, in a callback that swallows exceptions, and
# below Python, where handlers of signals wait.
BODIES = {
    "asleep": "print('on', flush=True); time.sleep(60)",
    "computing": "print('on', flush=True)\nwhile True: pass",
    "swallowing": (
        "print('on', flush=True)\nwhile True:\n"
        "    try: time.sleep(0.01)\n    except BaseException: pass"
    ),
    "below": "import numpy as np\nx = np.ones((4000, 4000))\nprint('on', flush=True)\n"
    "while True: x @ x",
}
SCRATCH = """
with stops.scratch(folder / "scratch"):
    (folder / "scratch").mkdir()
    (folder / "scratch" / "file").write_text("x")
    stops.keep("the blocks are kept")
    print("on", flush=True)
    while True:  # as a thread that writes on while the process ends
        (folder / "scratch").mkdir(exist_ok=True)
        (folder / "scratch" / "file").write_text("x")
"""
PATIENT = """
with stops.patient() as should_stop:
    print("on", flush=True)
    while not (should_stop() and {is_brief}):
        time.sleep(0.01)
cli.leave(cli.ended_by(stops.received()))
"""


LOSING = """
def run(argv):
    with stops.patient(), stops.scratch(folder / "scratch"):
        (folder / "scratch").mkdir()
        print("on", flush=True)
        while (folder / "scratch").exists():
            pass
        raise OSError("lost")
cli.leave(cli.boundary(run, []))
"""


def begin(body: str, folder: Path) -> subprocess.Popen:
    """Start a command whose body is given, and wait until it is at it."""
    with signals_of_the_foreground():
        process = subprocess.Popen(
            [sys.executable, "-c", START + body, folder],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert process.stdout is not None
    assert process.stdout.readline() == "on\n"
    return process


def end(process: subprocess.Popen, *numbers: int) -> tuple[int, str, float]:
    """Send signals; return the exit code, stderr and the seconds that it took."""
    start = time.monotonic()
    for number in numbers:
        process.send_signal(number)
        time.sleep(0.01)
    _, errors = process.communicate(timeout=30)
    return process.returncode, errors, time.monotonic() - start


@pytest.mark.parametrize("name", sorted(BODIES))
@pytest.mark.parametrize(
    ("number", "said"), [(signal.SIGINT, "interrupted"), (signal.SIGTERM, "terminated")]
)
def test_a_signal_ends_a_command_at_once_whatever_it_is_at(tmp_path, name, number, said):
    code, errors, seconds = end(begin(BODIES[name], tmp_path), number)
    assert (code, errors) == (128 + number, f"error: {said}\n")
    assert seconds < 2


def test_a_second_signal_changes_nothing_and_scratch_is_removed(tmp_path):
    signals = signal.SIGINT, signal.SIGINT, signal.SIGTERM, signal.SIGINT
    code, errors, _ = end(begin(SCRATCH, tmp_path), *signals)
    assert (code, errors) == (130, "error: interrupted; the blocks are kept\n")
    assert list(tmp_path.iterdir()) == []


def test_a_patient_part_may_finish(tmp_path):
    code, errors, seconds = end(begin(PATIENT.format(is_brief=True), tmp_path), signal.SIGTERM)
    assert (code, errors) == (143, "error: terminated\n")
    assert seconds < stops.GRACE - 1


@pytest.mark.slow
def test_a_patient_part_that_does_not_finish_is_ended(tmp_path):
    process = begin(PATIENT.format(is_brief=False), tmp_path)
    code, errors, seconds = end(process, signal.SIGINT, signal.SIGINT)
    assert (code, errors) == (130, "error: interrupted\n")
    assert stops.GRACE <= seconds < 5


def test_what_fails_because_its_scratch_is_removed_says_nothing(tmp_path):
    code, errors, _ = end(begin(LOSING, tmp_path), signal.SIGTERM)
    assert (code, errors) == (143, "error: terminated\n")


def test_a_signal_that_is_ignored_stays_ignored(tmp_path):
    body = (
        "import signal\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "stops.restore()\nprint('on', flush=True)\n"
        "time.sleep(0.3)\ncli.leave(7)\n"
    )
    code, errors, _ = end(begin(body, tmp_path), signal.SIGINT)
    assert (code, errors) == (7, "")


def test_scratch_is_removed_where_the_process_is_no_command(tmp_path):
    def fail() -> None:
        with stops.scratch(tmp_path / "folder"):
            (tmp_path / "folder").mkdir()
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    with stops.scratch(tmp_path / "file"):
        (tmp_path / "file").touch()
    assert list(tmp_path.iterdir()) == []
    assert not stops._scratch & {tmp_path / "folder", tmp_path / "file"}


def test_nothing_is_patient_with_a_process_that_got_no_signal():
    with stops.patient() as should_stop:
        assert not should_stop()
    assert stops.received() is None
