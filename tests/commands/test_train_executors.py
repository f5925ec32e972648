"""The command `train` with other executors: how it ends, and options that do not fit."""

import contextlib
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers import signals_of_the_foreground
from sweep_runs import one_line
from training_runs import stored, write_inputs

from gat_jax.commands import train

SCRIPT = Path(__file__).parents[2] / "scripts" / "train.py"


def children_of(pid: int) -> set[int]:
    """Ids of the processes that a process has started, and those of theirs."""
    parents = {}
    for folder in Path("/proc").iterdir():
        # Those that have just ended.
        with contextlib.suppress(OSError):
            if folder.name.isdigit():
                words = (folder / "stat").read_text().rpartition(")")[2].split()
                parents[int(folder.name)] = int(words[1])
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {pid}


@pytest.mark.slow
@pytest.mark.parametrize("executor", [["--executor", "process"], ["--scheduler", "local"]])
def test_a_training_that_is_interrupted_leaves_no_process(tmp_path, executor):
    inputs = write_inputs(tmp_path)
    options = ["--data", inputs["data"], "--recipe", inputs["recipe"], "--measures", "entropy_mean"]
    options += ["--num-seeds", "5000", "--chunk-size", "2", "--out", str(tmp_path / "out")]
    command, pipe = [sys.executable, str(SCRIPT), *options, *executor], subprocess.PIPE
    with signals_of_the_foreground():
        process = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True)
    while process.poll() is None and not stored(tmp_path / "out" / "runs.zarr"):
        time.sleep(0.05)
    children = children_of(process.pid)
    assert len(children) >= 2
    begin = time.monotonic()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert time.monotonic() - begin < 5
    assert process.returncode == 130, err
    assert "the same command goes on" in out or "finished runs are kept" in err
    deadline = time.monotonic() + 5
    while any(Path("/proc", str(pid)).exists() for pid in children):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert stored(tmp_path / "out" / "runs.zarr")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--devices", 0], "devices: expected at least 1, got 0"),
        (["--scheduler", ""], "scheduler: expected an address or local, got an empty text"),
        (["--scheduler", "local", "--executor", "process"], "executor: expected none beside a sch"),
        (["--scheduler", "127.0.0.1:9"], "scheduler: expected a Dask scheduler that answers with"),
        (["--executor", "auto"], "executor"),
        (["--chunk-size", "many"], "chunk-size"),
    ],
)
def test_options_that_cannot_be_used_are_refused(tmp_path, capsys, arguments, message):
    with pytest.raises(SystemExit) as stop:
        train.main([*map(str, arguments), "--out", str(tmp_path / "out")])
    assert stop.value.code == 2
    assert message in one_line(capsys)
    assert not (tmp_path / "out" / "runs.zarr" / "blocks").exists()
