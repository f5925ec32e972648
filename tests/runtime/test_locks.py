"""Locks, with `flock` and without it as on Windows."""

import subprocess
import sys
import threading
import time

import pytest

from gat_jax.runtime import locks

HOLD = """
import sys, time
from pathlib import Path
from gat_jax.runtime import locks
if sys.argv[2] == "hidden":
    locks.fcntl = None
with locks.locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture(params=["flock", "hidden"])
def kind(request, monkeypatch) -> str:
    if request.param == "hidden":
        monkeypatch.setattr(locks, "fcntl", None)
    return request.param


@pytest.mark.usefixtures("kind")
def test_one_sweep_holds_a_store_and_another_is_refused(tmp_path):
    with (
        locks.locked(tmp_path),
        pytest.raises(locks.StoreInUseError, match=r"out: expected no other sweep on .*, got one"),
        locks.locked(tmp_path),
    ):
        pass
    with locks.locked(tmp_path):  # free again
        pass


@pytest.mark.usefixtures("kind")
def test_a_failure_under_the_lock_is_itself_and_frees_it(tmp_path):
    with pytest.raises(FileExistsError, match="mine"), locks.locked(tmp_path):
        raise FileExistsError("mine")
    with locks.locked(tmp_path):
        pass


@pytest.mark.usefixtures("kind")
def test_members_enter_a_shared_lock_and_others_do_not(tmp_path):
    with locks.locked(tmp_path) as lock:
        locks.share(lock)
        with locks.locked(tmp_path, is_member=True):
            pass
        with pytest.raises(locks.StoreInUseError), locks.locked(tmp_path):
            pass


def test_the_end_of_a_process_frees_its_lock_where_the_system_can(tmp_path, kind):
    command = [sys.executable, "-c", HOLD, tmp_path, kind]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process:
        assert process.stdout.readline() == "held\n"
        process.kill()
    if kind == "flock":
        with locks.locked(tmp_path):
            return
    # Without flock nobody knows that the holder is gone: the message says what to do.
    mark = tmp_path / ".lock-held"
    message = rf"got one: process {process.pid} on .*; if it has ended, delete {mark}"
    with pytest.raises(locks.StoreInUseError, match=message), locks.locked(tmp_path):
        pass
    mark.unlink()
    with locks.locked(tmp_path):
        pass


@pytest.mark.usefixtures("kind")
def test_summaries_are_replaced_one_after_the_other(tmp_path):
    seen = []

    def replace() -> None:
        with locks.one_at_a_time(tmp_path):
            seen.append("begin")
            time.sleep(0.05)
            seen.append("end")

    threads = [threading.Thread(target=replace) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == ["begin", "end"] * 3


def test_a_mark_on_the_summary_that_stays_is_named_and_removed_by_the_next_sweep(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(locks, "fcntl", None)
    monkeypatch.setattr(locks, "PATIENCE", 0.1)
    mark = tmp_path / ".summary-lock-held"
    mark.write_text("process 1 on another")
    with (
        pytest.raises(TimeoutError, match=rf"mark of process 1 on another; .* delete {mark}"),
        locks.one_at_a_time(tmp_path),
    ):
        pass
    locks.remove_stale(tmp_path)
    with locks.one_at_a_time(tmp_path):
        assert mark.exists()
    assert not mark.exists()
