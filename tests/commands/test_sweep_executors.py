"""The command `sweep` with each executor: the same bits, and one line for what goes wrong."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import distributed
import jax
import pytest
from helpers import signals_of_the_foreground
from sweep_runs import (
    GRID,
    SCRIPT,
    SIGNS,
    assert_identical,
    finish,
    number_of_blocks,
    one_line,
    run,
    wait_for_blocks,
)

from gat_jax import sweeps
from gat_jax.commands import sweep_text
from gat_jax.runtime import cluster

ROOT = SCRIPT.parents[1]
LONG = [*SIGNS[:-1], 10**9]  # far more than a test has time for
DISTURBED = [*SIGNS[:-1], 12_000_000]  # 92 blocks, of which the last worker dies after 41
MARK = "GAT_JAX_TEST"  # a variable whose value all processes of one sweep have
OTHER_VERSION = "from gat_jax.runtime import devices; devices.own_version = lambda: '0.0.9'"
PROCESS, LOCAL = ["--executor", "process"], ["--scheduler", "local"]


def environment(**more: str) -> dict[str, str]:
    paths = [more.pop("PYTHONPATH", ""), str(ROOT)]
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))} | more


def start(mark: str, *arguments, limit: str = "true") -> subprocess.Popen:
    command = ["bash", "-c", f'{limit}; exec "$0" "$@"', sys.executable, SCRIPT, *arguments]
    with signals_of_the_foreground():
        return subprocess.Popen(
            list(map(str, command)),
            env=environment(**{MARK: mark}),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )


def marked(mark: str) -> list[int]:
    """Ids of the processes of one sweep."""
    found = []
    for folder in Path("/proc").iterdir():
        # Processes of others, and those that have just ended.
        with contextlib.suppress(OSError):
            if folder.name.isdigit() and f"{MARK}={mark}".encode() in (
                (folder / "environ").read_bytes().split(b"\0")
            ):
                found.append(int(folder.name))
    return found


def is_child_that_computes(pid: int) -> bool:
    """Whether a process is one of a pool, or a worker of a local cluster."""
    with contextlib.suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes()
        return b"worker.main" in words or b"spawn_main" in words
    return False


def assert_nobody_is_left(mark: str) -> None:
    deadline = time.monotonic() + 5
    while marked(mark) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert marked(mark) == []


@contextlib.contextmanager
def scheduler() -> Iterator[tuple[subprocess.Popen, str]]:
    """A scheduler in a process of its own, and its address."""
    command = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--no-dashboard"]
    command += ["--host", "127.0.0.1", "--port", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment())
    try:
        address = ""
        while not address:
            line = process.stderr.readline()
            assert line, "the scheduler has ended"
            address = line.split()[-1] if "Scheduler at" in line else ""
        yield process, address
    finally:
        process.kill()
        process.communicate()


@contextlib.contextmanager
def worker(address: str, **variables: str) -> Iterator[subprocess.Popen]:
    command = [sys.executable, "-m", "distributed.cli.dask_worker", address]
    command += ["--nthreads", "1", "--no-nanny", "--no-dashboard", "--local-directory", "/tmp"]
    process = subprocess.Popen(
        command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=environment(**variables)
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def blocks_of(path: Path) -> dict[str, bytes]:
    """The files of all blocks, by their place in the store."""
    files = (path / "blocks").glob("*/*/c/*/0")
    return {str(file.relative_to(path)): file.read_bytes() for file in files}


@pytest.fixture(scope="module")
def reference(tmp_path_factory) -> Path:
    """A sweep in one process, and all that it keeps."""
    path = tmp_path_factory.mktemp("sweep") / "reference.zarr"
    options = [*GRID, "--keep", "raw", "--executor", "thread", "--out", path]
    code, _, err = finish(start("", *options))
    assert code == 0, err
    return path


@pytest.mark.slow
@pytest.mark.parametrize("executor", [PROCESS, LOCAL, [*LOCAL, "--devices", 3]], ids=str)
def test_every_executor_writes_the_same_blocks(reference, tmp_path, executor):
    path, mark = tmp_path / "sweep.zarr", uuid.uuid4().hex
    code, out, err = finish(start(mark, *GRID, "--keep", "raw", *executor, "--out", path))
    assert (code, err) == (0, "")
    assert ("Dashboard of the cluster: http://127.0.0.1:" in out) == (executor[0] == "--scheduler")
    assert_nobody_is_left(mark)
    assert blocks_of(path) == blocks_of(reference)
    assert_identical(path, reference)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A sweep of many blocks that nobody has disturbed."""
    path = tmp_path_factory.mktemp("sweep") / "whole.zarr"
    code, _, err = finish(start("", *DISTURBED, "--executor", "thread", "--out", path))
    assert code == 0, err
    return path


@pytest.mark.slow
@pytest.mark.parametrize(
    "executor", [[*PROCESS, "--devices", 2], [*LOCAL, "--devices", 2], [*LOCAL, "--devices", 3]]
)
def test_workers_killed_at_five_random_moments_change_no_bit(whole, tmp_path, executor):
    path, mark = tmp_path / "sweep.zarr", uuid.uuid4().hex
    moments = random.Random(str(executor))
    process = start(mark, *DISTURBED, *executor, "--out", path)
    for kill in range(5):
        wait_for_blocks(process, path, 1 + 10 * kill)
        time.sleep(moments.uniform(0.0, 0.3))
        workers = []
        while not workers and process.poll() is None:
            workers = [x for x in marked(mark) if is_child_that_computes(x)]
        assert process.poll() is None, "it was done before it was disturbed"
        os.kill(moments.choice(workers), signal.SIGKILL)
    code, _, err = finish(process)
    assert (code, err) == (0, "")
    assert_nobody_is_left(mark)
    assert blocks_of(path) == blocks_of(whole)
    assert_identical(path, whole)


@pytest.mark.slow
@pytest.mark.parametrize("executor", [PROCESS, LOCAL])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_sweep_that_is_ended_leaves_no_process(tmp_path, executor, number):
    path, mark = tmp_path / "sweep.zarr", uuid.uuid4().hex
    process = start(mark, *LONG, *executor, "--out", path)
    wait_for_blocks(process, path, 3)
    begin = time.monotonic()
    # As a terminal does it: to all processes of the foreground.
    os.killpg(process.pid, number) if number == signal.SIGINT else process.send_signal(number)
    code, out, err = finish(process)
    assert time.monotonic() - begin < 5
    assert code == (-9 if number == signal.SIGKILL else 128 + number)
    assert_nobody_is_left(mark)
    if number != signal.SIGKILL:
        assert err.count("\n") == 1, err
        assert err.endswith("; finished blocks are kept\n")
        assert "to go on, run:" in out
    before = blocks_of(path)
    assert len(before) >= 3
    assert {name: blocks_of(path)[name] for name in before} == before


@pytest.mark.slow
@pytest.mark.parametrize("executor", [PROCESS, LOCAL])
def test_a_full_disk_is_one_line_and_leaves_no_process(tmp_path, executor):
    path, mark = tmp_path / "sweep.zarr", uuid.uuid4().hex
    options = ["--keep", "raw", *SIGNS[:-1]]
    assert run(*options, 131072, "--out", path) == 0
    before = blocks_of(path)
    # No file may grow beyond 100 KiB, and a block's values take 512.
    limit = "ulimit -f 100"
    process = start(mark, *options, 600_000, *executor, "--out", path, limit=limit)
    code, _, err = finish(process)
    assert code == 1
    assert err.count("\n") == 1, err
    assert "finished blocks are kept" in err
    assert_nobody_is_left(mark)
    assert {name: blocks_of(path)[name] for name in before} == before
    assert run(*options, 600_000, "--out", path) == 0


@pytest.mark.slow
def test_a_scheduler_that_dies_costs_no_finished_block(tmp_path):
    path, mark = tmp_path / "sweep.zarr", uuid.uuid4().hex
    with scheduler() as (there, address), worker(address), worker(address):
        process = start(mark, *LONG, "--scheduler", address, "--out", path)
        wait_for_blocks(process, path, 3)
        there.kill()
        begin = time.monotonic()
        code, _, err = finish(process)
        assert time.monotonic() - begin < 10
    assert code == 1
    # A busy machine's workers may come after the sweep has begun, which says so.
    waiting = f"The cluster at {address} has no worker: waiting for one."
    (line,) = (line for line in err.splitlines() if line != waiting)
    assert line.startswith("error: scheduler: expected it to stay until the work ends, got no")
    assert line.endswith(f"from {address}; finished blocks are kept")
    assert number_of_blocks(path) >= 3
    assert_nobody_is_left(mark)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("site", "message", "is_late"),
    [
        ("import sys; sys.modules['gat_jax'] = None", "expected gat_jax 0.1.0, got none (", False),
        (OTHER_VERSION, "expected gat_jax 0.1.0, got 0.0.9", False),
        (OTHER_VERSION, "expected gat_jax 0.1.0, got 0.0.9", True),
        ("import jax; jax.__version__ = '0.9.9'", "expected jax ", False),
        (
            "from gat_jax.runtime import devices; devices.device_name = lambda: 'Abacus 1'",
            "expected device ",
            False,
        ),
        ("from gat_jax.sweeps import tasks; tasks.SCHEMA = 1", "expected schema ", True),
    ],
    ids=["none", "version", "version-late", "jax", "device", "schema-late"],
)
def test_a_worker_that_is_something_else_is_refused(tmp_path, site, message, is_late):
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(site)
    path, mark = tmp_path / "sweep.zarr", uuid.uuid4().hex
    with contextlib.ExitStack() as stack:
        _, address = stack.enter_context(scheduler())
        stack.enter_context(worker(address))
        process = start(mark, *LONG, "--scheduler", address, "--out", path) if is_late else None
        if process is not None:
            wait_for_blocks(process, path, 2)
        stack.enter_context(worker(address, PYTHONPATH=str(tmp_path / "site")))
        if process is None:
            with distributed.Client(address) as client:
                client.wait_for_workers(2)
            process = start(mark, *LONG, "--scheduler", address, "--out", path)
        code, _, err = finish(process)
    assert code == 2
    assert err.startswith(f"error: workers: {message}")
    assert err.count("\n") == 1, err
    assert err.endswith("; finished blocks are kept\n") == is_late
    assert (number_of_blocks(path) > 0) == is_late
    assert_nobody_is_left(mark)


# --- without a cluster ----------------------------------------------------------------------------


def test_no_scheduler_is_one_line_and_no_store(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(cluster, "CONNECT", 0.3)
    path = tmp_path / "sweep.zarr"
    with pytest.raises(SystemExit) as stop:
        run(*SIGNS, "--scheduler", "127.0.0.1:9", "--out", path)
    assert stop.value.code == 2
    message = "error: scheduler: expected a Dask scheduler that answers within"
    assert one_line(capsys).startswith(message)
    assert not path.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--scheduler", ""], "scheduler: expected an address or local, got an empty text"),
        (["--scheduler", "local", "--executor", "process"], "executor: expected none beside a sch"),
        (["--executor", "threads"], "executor"),
    ],
)
def test_options_that_cannot_be_used_are_refused(tmp_path, capsys, arguments, message):
    with pytest.raises(SystemExit) as stop:
        run(*SIGNS, *arguments, "--out", tmp_path / "sweep.zarr")
    assert stop.value.code == 2
    assert message in one_line(capsys)
    assert not (tmp_path / "sweep.zarr").exists()


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"executor": "process"}, "2 x {kind}, executor process: 2 processes"),
        ({"executor": "thread"}, "2 x {kind}, executor thread: this process"),
        ({"scheduler": "local"}, "a local Dask cluster of 2 workers"),
        (
            {"scheduler": "there:1"},
            "the Dask cluster at there:1 (memory and times: 2 x {kind} here)",
        ),
    ],
)
def test_a_plan_says_who_would_compute(capsys, fields, words):
    devices = tuple(jax.local_devices()[:1]) * 2
    sweep_text.print_plan([], sweeps.SweepSpec(), sweeps.Machine(devices, **fields))
    title = f"Sweep on {words.format(kind=devices[0].device_kind)}"
    assert title in " ".join(capsys.readouterr().out.split())
