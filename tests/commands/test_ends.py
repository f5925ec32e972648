"""Every command, ended at any moment: in time, with one line, and the next run makes it whole."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers import SMALL_STUDY, signals_of_the_foreground
from sweep_runs import assert_identical, save_twins

from gat_jax.runtime import cli

SCRIPTS = Path(__file__).parents[2] / "scripts"
GRID = ["--graph", "g.npz", "tutorial", "--heads", "1", "2", "--num-inits", "300"]
COMMANDS = {
    "sweep": ["sweep.py", *GRID, "--keep", "raw", "--out", "s.zarr"],
    "plan": ["sweep.py", *GRID, "--dry-run", "--out", "s.zarr"],
    "summarise": ["sweep.py", "summarise", "done.zarr"],
    "reproduce": ["reproduce.py", *SMALL_STUDY, "--data", "folder", "--out", "r"],
    "help": ["reproduce.py", "--help"],
}
LINES = {signal.SIGINT: "error: interrupted", signal.SIGTERM: "error: terminated"}


def start(folder: Path, *arguments: str) -> subprocess.Popen:
    """A script in a folder, as in a shell's foreground."""
    with signals_of_the_foreground():
        return subprocess.Popen(
            [sys.executable, SCRIPTS / arguments[0], *arguments[1:]],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )


def assert_ended_well(process: subprocess.Popen, number: int, folder: Path) -> None:
    """It ends within 5 seconds, unless it had just done so: one line, no scratch, no child."""
    begin = time.monotonic()
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    if process.returncode == 0:
        assert errors == ""
        return
    assert time.monotonic() - begin < 5
    if number == signal.SIGKILL:
        assert process.returncode == -9
        return
    assert process.returncode == 128 + number, errors
    assert errors.startswith(LINES[signal.Signals(number)])
    assert errors.count("\n") == 1, errors
    assert not list(folder.rglob(".new-*"))
    with pytest.raises(ProcessLookupError):  # of its session nobody is left
        os.killpg(process.pid, 0)


def whole(folder: Path, name: str) -> None:
    """The same command again ends well, with all that it is to make."""
    process = start(folder, *COMMANDS[name])
    _, errors = process.communicate(timeout=300)
    assert (process.returncode, errors) == (0, "")
    if name == "sweep":
        assert_identical(folder / "s.zarr", folder / "done.zarr")
    if name == "reproduce":
        found = {path.name for path in (folder / "r").iterdir()}
        pages = {"playground.html", "report.html"}
        assert found == {"claims.json", "figures", "results.zarr"} | pages
    assert not list(folder.rglob(".new-*"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A graph, a folder of graphs, and a store that nobody has interrupted."""
    folder = tmp_path_factory.mktemp("commands")
    save_twins(folder / "g.npz")
    (folder / "folder").mkdir()
    save_twins(folder / "folder" / "g[1].npz")
    process = start(folder, *COMMANDS["sweep"][:-1], "done.zarr")
    assert process.communicate(timeout=300)[1] == ""
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_a_command_that_is_ended_at_any_moment(folder, name):
    """What one signal leaves, the next run finds; the last of all has to end well."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        moments = random.Random(f"{name}{number}")
        for latest in (3.0, 8.0, 20.0):
            process = start(folder, *COMMANDS[name])
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(moments.uniform(1.0, latest))
            assert_ended_well(process, number, folder)
        if name == "sweep":  # a study would take half a minute each time
            whole(folder, name)
    whole(folder, name)


def test_a_command_that_is_interrupted_while_it_starts(tmp_path):
    process = start(tmp_path, *COMMANDS["sweep"])
    time.sleep(1.0)
    assert_ended_well(process, signal.SIGINT, tmp_path)
    assert process.returncode == cli.INTERRUPTED


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_sweep_that_compiles_for_a_minute_ends_in_time(tmp_path, number):
    """Of twins with 60 neighbours each; XLA does not look at signals."""
    save_twins(tmp_path / "hubs.npz", twins=60)
    options = ["--graph", "hubs.npz", "--layer", "gatv2", "--out", "s.zarr"]
    process = start(tmp_path, "sweep.py", *options)
    time.sleep(12)
    assert process.poll() is None
    assert_ended_well(process, number, tmp_path)
    assert process.returncode == 128 + number
