"""Sweeps for tests, run as users run them: in this process, and in others for real."""

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import xarray as xr
from helpers import signals_of_the_foreground

from gat_jax.commands import sweep
from gat_jax.runtime import blocks
from gat_jax.sweeps import SweepSpec

SCRIPT = Path(__file__).parents[1] / "scripts" / "sweep.py"
# Two programs, blocks of one tile and of two, and a last block that is not full.
GRID = ["--heads", "1", "2", "--num-inits", "600000", "--block-size", "131072"]
# One program that compiles fast: three blocks, the last one not full.
SIGNS = ["--measure", "collisions", "--block-size", "131072", "--num-inits", "300000"]


def signs_spec(**fields) -> SweepSpec:
    """The spec of `SIGNS`, with other fields."""
    return SweepSpec(
        **{"measure": "collisions", "block_size": 131072, "num_inits": 300_000} | fields
    )


def save_twins(path, twins: int = 4, hubs: int = 2) -> None:
    """Write the graph K(hubs, twins), both ways, as a file."""
    ends = np.array([(a, hubs + b) for a in range(hubs) for b in range(twins)])
    senders, receivers = np.concatenate([ends, ends[:, ::-1]]).T
    num_nodes = hubs + twins
    np.savez(
        path,
        num_nodes=num_nodes,
        senders=senders,
        receivers=receivers,
        feat_data=1.0 + np.arange(3 * num_nodes, dtype=np.float32) % 5,
        feat_indices=np.tile(np.arange(3), num_nodes),
        feat_indptr=3 * np.arange(num_nodes + 1),
        feat_shape=(num_nodes, 3),
        labels=np.arange(num_nodes) % 2,
        labelled=np.ones(num_nodes, bool),
    )


def run(*arguments) -> int:
    """The command in this process."""
    return sweep.main([str(argument) for argument in arguments])


def start(*arguments, limit="true") -> subprocess.Popen:
    """The script in another process, after a command of the shell."""
    command = ["bash", "-c", f'{limit}; exec "$0" "$@"', sys.executable, SCRIPT]
    command += map(str, arguments)
    pipe = subprocess.PIPE
    with signals_of_the_foreground():
        return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True)


def finish(process: subprocess.Popen) -> tuple[int, str, str]:
    """The exit code of a process, and what it wrote."""
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def wait_for_blocks(process: subprocess.Popen, path: Path, number: int) -> None:
    """Wait until the store has so many blocks, or the process has ended."""
    while process.poll() is None and number_of_blocks(path) < number:
        time.sleep(0.01)


def number_of_blocks(path: Path) -> int:
    """How many blocks a store has."""
    return sum(1 for _ in (path / "blocks").glob(f"*/{blocks.RECORD}/c/*/0"))


def assert_identical(first: Path, second: Path) -> None:
    """Compare two summaries to the last bit."""
    one, two = xr.open_zarr(first).load(), xr.open_zarr(second).load()
    assert set(one.data_vars) == set(two.data_vars)
    for name in one.variables:
        assert one[name].dtype == two[name].dtype
        assert one[name].values.tobytes() == two[name].values.tobytes() or (
            one[name].dtype == object and one[name].equals(two[name])
        ), name


def one_line(capsys) -> str:
    """The line of an error on stderr; there has to be exactly one."""
    lines = [x for x in capsys.readouterr().err.splitlines() if x.startswith("error:")]
    assert len(lines) == 1
    return lines[0]
