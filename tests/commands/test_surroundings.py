"""Every command where little is as on a developer's machine; what is missing costs one line."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import SMALL_STUDY
from sweep_runs import assert_identical, save_twins

SCRIPTS = Path(__file__).parents[2] / "scripts"
# Right-to-left, a space, markup of rich, a glob and a quote: all of a path that tools trip over.
ODD = "x [red]*ü א'"
COMMANDS = {
    "sweep": ["sweep.py", "--graph", "g.npz", "--num-inits", "300", "--out", "s.zarr"],
    "plan": ["sweep.py", "--graph", "g.npz", "--dry-run", "--out", "s.zarr"],
    "summarise": ["sweep.py", "summarise", "done.zarr"],
    "reproduce": ["reproduce.py", *SMALL_STUDY, "--out", "r"],
}


def run(name: str, folder: Path, *, python=(), limit: str = "true", **environment: str | None):
    """A command in a folder, with variables set, or with None taken away."""
    changed = {**os.environ, **environment}
    script, *arguments = COMMANDS[name]
    return subprocess.run(
        [
            *("/bin/bash", "-c", f'{limit}; exec "$0" "$@"', sys.executable, *python),
            *(SCRIPTS / script, *arguments),
        ],
        cwd=folder,
        env={key: value for key, value in changed.items() if value is not None},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
        timeout=300,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A graph, and a finished store of it."""
    folder = tmp_path_factory.mktemp(ODD)
    save_twins(folder / "g.npz")
    assert run("sweep", folder).returncode == 0
    (folder / "s.zarr").rename(folder / "done.zarr")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_a_bare_machine_costs_nothing(name, folder, tmp_path):
    """No home, no git, no folder for caches, ASCII, no assertions, a narrow terminal."""
    here = tmp_path / ODD
    shutil.copytree(folder, here)
    done = run(
        name,
        here,
        python=("-O",),
        HOME=None,
        MPLCONFIGDIR=None,
        XDG_CACHE_HOME=None,
        PATH="/nowhere",
        LC_ALL="C",
        PYTHONUTF8="0",
        TERM="dumb",
        COLUMNS="20",
    )
    assert (done.returncode, done.stderr) == (0, "")
    if name == "sweep":
        assert_identical(here / "s.zarr", folder / "done.zarr")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sweep", "summarise", "reproduce"])
def test_a_disk_that_is_full_costs_one_line_and_nothing_that_was_there(name, folder, tmp_path):
    here = tmp_path / "here"
    shutil.copytree(folder, here)
    # A folder of compiled programs that cannot be written would cost a note.
    unwritten = {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "1e9"}
    done = run(name, here, limit="ulimit -f 1", **unwritten)  # KiB
    lines = done.stderr.splitlines()
    assert (done.returncode, len(lines)) == (1, 1), done.stderr
    assert lines[0].startswith("error: ")
    assert_identical(here / "done.zarr", folder / "done.zarr")
    assert not list(here.rglob(".new-*"))
    assert run(name, here).returncode == 0
    if name == "sweep":
        assert_identical(here / "s.zarr", folder / "done.zarr")
