"""Elsewhere than on Linux: what macOS and Windows lack is hidden from a fresh process.

What this cannot show is that everything else is there on those systems.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Windows lacks all of this, macOS the first of the functions.
HIDE = """
# asyncio, and psutil where dask has brought it, use what goes below; elsewhere they have other
# modules.
import asyncio, builtins, contextlib, os, signal, sys, warnings

with contextlib.suppress(ImportError):
    import psutil

for name in ("sched_getaffinity", "sysconf", "fork", "getloadavg"):
    delattr(os, name)
os.process_cpu_count = os.cpu_count  # as Python itself has it there
for name in ("SIGALRM", "SIGHUP", "SIGKILL", "SIGUSR1"):
    delattr(signal, name)


import_here = builtins.__import__


def import_elsewhere(name, globals=None, *rest, **options):
    # Only the package misses them: asyncio, for one, has other modules there.
    is_hidden = name in ("fcntl", "grp", "pwd", "resource", "termios")
    if is_hidden and (globals or {}).get("__name__", "").startswith("gat_jax"):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    return import_here(name, globals, *rest, **options)


builtins.__import__ = import_elsewhere
# An encoding that is not named is the machine's: on Windows not UTF-8.
warnings.filterwarnings("error", category=EncodingWarning, module="gat_jax")
"""
IMPORT_ALL = """
import importlib, pkgutil, gat_jax

for module in pkgutil.walk_packages(gat_jax.__path__, "gat_jax."):
    importlib.import_module(module.name)
"""
REPRODUCE = """
from gat_jax.commands import reproduce

sizes = ["--num-inits", "2000", "--num-graph-inits", "100", "--num-runs", "8"]
sys.exit(reproduce.main([*sizes, "--out", "results"]))
"""
SWEEP = """
from gat_jax.commands import sweep

options = ["--num-inits", "3000", "--chunk-size", "1000", "--out", "sweep.zarr"]
sys.exit(sweep.main(options) or sweep.main(options))  # the second finds all blocks in the store
"""


def run(tmp_path: Path, script: str) -> None:
    """Run a script in a fresh process and an empty folder, where all of that is hidden."""
    command = [sys.executable, "-X", "warn_default_encoding", "-c", HIDE + script]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_every_module_is_imported_where_nothing_of_unix_is(tmp_path):
    run(tmp_path, IMPORT_ALL)


@pytest.mark.slow  # two minutes of compiling
def test_the_main_job_runs_where_nothing_of_unix_is(tmp_path):
    run(tmp_path, REPRODUCE)
    assert (tmp_path / "results" / "claims.json").is_file()


@pytest.mark.slow
def test_a_sweep_runs_where_nothing_of_unix_is(tmp_path):
    run(tmp_path, SWEEP)
    assert (tmp_path / "sweep.zarr" / "zarr.json").is_file()
    assert not (tmp_path / "sweep.zarr" / ".lock").exists()
