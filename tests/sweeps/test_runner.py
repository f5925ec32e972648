"""Sweeps from start to summary: the same bits whichever way, and going on."""

import dataclasses
import random
import signal
import socket
import time
from pathlib import Path

import jax
import numpy as np
import pytest
import xarray as xr
import zarr
from sweep_runs import (
    GRID,
    SIGNS,
    assert_identical,
    finish,
    number_of_blocks,
    run,
    save_twins,
    signs_spec,
    start,
    wait_for_blocks,
)

from gat_jax.graphs import tutorial_graph
from gat_jax.runtime import blocks, locks
from gat_jax.sweeps import (
    Machine,
    Progress,
    SummaryError,
    SweepSpec,
    grid,
    is_complete,
    load_raw,
    records,
    run_sweep,
    runner,
)


@pytest.fixture(scope="module")
def reference(tmp_path_factory) -> Path:
    """One process, one device, one tile at a time."""
    path = tmp_path_factory.mktemp("sweep") / "reference.zarr"
    code, _, err = finish(start(*GRID, "--devices", 1, "--chunk-size", 1, "--out", path))
    assert code == 0, err
    return path


# --- identity -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_four_devices_and_the_largest_chunk_give_the_same_bits(reference, tmp_path):
    path = tmp_path / "four.zarr"
    code, _, err = finish(start(*GRID, "--devices", 4, "--chunk-size", 10**9, "--out", path))
    assert code == 0, err
    assert_identical(reference, path)


@pytest.mark.slow
def test_many_twins_go_on_and_have_the_same_bits_whatever_the_chunk(tmp_path):
    save_twins(tmp_path / "g.npz", twins=300)
    graph, one_tile = str(tmp_path / "g.npz"), 1
    spec = SweepSpec(graph=(graph,), heads=(2,), block_size=one_tile, keep="raw", num_inits=5000)
    (entry,) = grid.prepare(spec).entries
    assert entry.num_blocks >= 3
    assert entry.num_compared_pairs == 1024 < entry.num_pairs
    device = jax.local_devices()[0]
    whole = run_sweep(spec, tmp_path / "1.zarr", machine=Machine((device,), chunk_size=1))
    fewer = dataclasses.replace(spec, num_inits=entry.block_size + 1)
    run_sweep(fewer, tmp_path / "2.zarr", machine=Machine((device,), chunk_size=10**6))
    run_sweep(spec, tmp_path / "2.zarr", machine=Machine((device,)))
    assert_identical(tmp_path / "1.zarr", tmp_path / "2.zarr")
    cell, kept = whole.squeeze(), load_raw(tmp_path / "2.zarr")
    assert int(cell.num_compared_pairs) == 1024
    assert kept.collided_pairs.dtype == np.int64
    assert int(kept.collided_pairs.sum()) == int(cell.collisions)
    assert int((kept.collided_pairs == entry.num_pairs).sum()) == int(cell.all_pairs_equal)
    assert int(cell.joint_collisions_by_cause.sum()) == 1024 * 5000
    # The sample tells of the causes what all pairs tell of the collisions.
    exact = np.isin(cell.joint_cause, ["separated", "rounding", "undefined"], invert=True)
    share = float(cell.joint_collisions_by_cause[exact].sum()) / (1024 * 5000)
    assert share == pytest.approx(float(cell.collision_probability), abs=0.01)


@pytest.mark.slow
def test_two_distributed_processes_give_the_same_bits(reference, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        coordinator = f"127.0.0.1:{free.getsockname()[1]}"
    path = tmp_path / "two.zarr"
    common = [*GRID, "--devices", 1, "--out", path, "--distributed", "--coordinator", coordinator]
    processes = [start(*common, "--num-processes", 2, "--process-id", k) for k in range(2)]
    results = [finish(process) for process in processes]
    assert [code for code, _, _ in results] == [0, 0], results
    assert_identical(reference, path)
    # Both had a share: neither found everything there already.
    assert sum("Collisions" in out for _, out, _ in results) >= 1


@pytest.mark.slow
def test_processes_of_different_specs_refuse_each_other(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        coordinator = f"127.0.0.1:{free.getsockname()[1]}"
    common = [*SIGNS, "--devices", 1, "--out", tmp_path / "two.zarr", "--distributed"]
    common += ["--coordinator", coordinator, "--num-processes", 2]
    processes = [start(*common, "--process-id", k, "--seed", k) for k in range(2)]
    results = [finish(process) for process in processes]
    assert results[1][0] == 2
    assert "expected the same spec, graphs, devices and versions as process 0" in results[1][2]


@pytest.mark.slow
def test_ten_kills_at_random_moments_change_no_bit(tmp_path):
    grid = ["--num-inits", 40_000_000, "--block-size", 131072, "--devices", 1]
    whole, killed = tmp_path / "whole.zarr", tmp_path / "killed.zarr"
    code, _, err = finish(start(*grid, "--out", whole))
    assert code == 0, err
    moments, counts = random.Random(5), []
    for _ in range(10):
        process = start(*grid, "--out", killed)
        wait_for_blocks(process, killed, counts[-1] + 1 if counts else 1)
        time.sleep(moments.uniform(0.0, 0.1))
        process.send_signal(signal.SIGKILL)
        finish(process)
        counts.append(number_of_blocks(killed))
    assert len(set(counts)) == 10  # every one of them got somewhere,
    assert counts[-1] < 306  # and none of them to the end
    code, _, err = finish(start(*grid, "--out", killed))
    assert code == 0, err
    assert_identical(whole, killed)


# --- going on -----------------------------------------------------------------------------------


def test_python_and_the_command_go_the_same_way(tmp_path):
    dataset = run_sweep(signs_spec(), tmp_path / "python.zarr")
    assert (
        run(*SIGNS, "--devices", jax.local_device_count(), "--out", tmp_path / "command.zarr") == 0
    )
    assert_identical(tmp_path / "python.zarr", tmp_path / "command.zarr")
    xr.testing.assert_identical(xr.open_zarr(tmp_path / "python.zarr").load(), dataset)


def test_a_larger_grid_computes_only_what_is_new(tmp_path, monkeypatch):
    path, written, write = tmp_path / "sweep.zarr", [], blocks.Blocks.write

    def note(self, cell, block, *rest) -> None:
        written.append((cell, block))
        write(self, cell, block, *rest)

    monkeypatch.setattr(blocks.Blocks, "write", note)
    run_sweep(signs_spec(), path)
    assert [block for _, block in written] == [0, 1, 2]
    written.clear()
    run_sweep(signs_spec(), path)
    assert written == []
    more = signs_spec(num_inits=500_000, slope=(0.2, 0.5))
    dataset = run_sweep(more, path)
    # Blocks 0 and 1 are whole; block 2 was not full.
    assert [block for key, block in written if "s0.2" in key] == [2, 3]
    assert [block for key, block in written if "s0.5" in key] == [0, 1, 2, 3]
    assert dataset.num_inits.values.ravel().tolist() == [500_000, 500_000]
    # Slopes share their random numbers, and signs do not depend on them.
    assert len(set(dataset.collisions.values.ravel().tolist())) == 1
    run_sweep(more, tmp_path / "fresh.zarr")
    assert_identical(path, tmp_path / "fresh.zarr")


def test_a_sweep_that_is_stopped_keeps_its_blocks_and_goes_on(tmp_path):
    path, whole = tmp_path / "stopped.zarr", tmp_path / "whole.zarr"
    spec, reports = signs_spec(), []
    machine = Machine(tuple(jax.local_devices()[:1]), chunk_size=1)  # one block after the other
    stopped = run_sweep(
        spec,
        path,
        machine=machine,
        should_stop=lambda: any(x.computed > 0 for x in reports),
        on_progress=reports.append,
    )
    assert not is_complete(stopped)
    assert 0 < int(stopped.num_inits.squeeze()) < 300_000
    assert int(xr.open_zarr(path).num_inits.squeeze()) == int(stopped.num_inits.squeeze())
    before = {file: file.read_bytes() for file in (path / "blocks").glob("*/record/c/*/0")}
    assert is_complete(run_sweep(spec, path, machine=machine, on_progress=reports.append))
    assert {file: file.read_bytes() for file in before} == before
    assert reports[-1] == Progress(300_000, 300_000, 300_000 - int(stopped.num_inits.squeeze()))
    run_sweep(spec, whole)
    assert_identical(path, whole)


def test_precision_stops_at_the_same_block_whatever_the_chunk(tmp_path):
    paths = [tmp_path / f"{chunk}.zarr" for chunk in (1, 10**9)]
    spec = signs_spec(num_inits=10**7, precision=0.003)
    for path, chunk in zip(paths, (1, 10**9), strict=True):
        run_sweep(spec, path, machine=Machine(chunk_size=chunk))
    assert_identical(*paths)
    cell = xr.open_zarr(paths[0]).squeeze()
    low, high = cell.interval.values
    assert high - low <= 0.003
    assert cell.is_complete
    # One block less was not enough.
    blocks = int(cell.num_inits) // 131072
    assert int(cell.num_inits) == blocks * 131072 < 10**7
    assert 2 * 1.96 * np.sqrt(0.78 * 0.22 / (131072 * (blocks - 1))) > 0.003


# --- what can go wrong --------------------------------------------------------------------------


def test_damaged_blocks_and_values_are_named_and_computed_again(tmp_path):
    path, spec = tmp_path / "raw.zarr", signs_spec(keep="raw")
    summary = run_sweep(spec, path)
    values = load_raw(path)
    for name in ("record", "collided_pairs"):
        (file,) = (path / "blocks").glob(f"*/{name}/c/1/0")
        whole = file.read_bytes()
        for damage in (bytes([whole[0] ^ 1]) + whole[1:], whole[:40], b"", None):
            if name == "record" and damage is None:
                continue  # no record means no block: it is not damaged, it is missing
            file.unlink() if damage is None else file.write_bytes(damage)
            reports = []
            again = run_sweep(spec, path, on_progress=reports.append)
            (message,) = [x.message for x in reports if x.message is not None]
            assert message.startswith("damaged block")
            assert str(file) in message
            assert message.endswith("It is computed again.")
            assert file.read_bytes() == whole
            xr.testing.assert_identical(again, summary)
            xr.testing.assert_identical(load_raw(path), values)


@pytest.mark.slow
def test_values_that_are_all_zero_are_no_damage(tmp_path):
    # With so many channels twins rarely collide, and in these initialisations never.
    spec = signs_spec(layer=("gatv2",), channels=(32,), num_inits=4, keep="raw")
    path, reports = tmp_path / "raw.zarr", []
    run_sweep(spec, path)
    assert not load_raw(path).collided_pairs.any()
    run_sweep(spec, path, on_progress=reports.append)
    assert reports[-1].computed == 0
    assert all(x.message is None for x in reports)


@pytest.mark.parametrize("layer", ["gat", "gcn"])
def test_an_overflow_is_refused_and_not_counted(tmp_path, monkeypatch, layer):
    huge = tutorial_graph()
    # GCN has no softmax: what shows there is that the gap of two infinite outputs is no number.
    size = 4e37 if layer == "gat" else 3e38 / np.max(huge.nodes)
    huge = huge._replace(nodes=huge.nodes * np.float32(size))
    monkeypatch.setattr(grid, "load_graph", lambda name: huge)
    path = tmp_path / "sweep.zarr"
    with pytest.raises(ValueError, match="expected numbers that float32 holds, got an overflow"):
        run_sweep(SweepSpec(layer=(layer,), num_inits=1000), path)
    assert number_of_blocks(path) == 0


def test_a_summary_that_fails_costs_no_block(tmp_path, monkeypatch):
    path, spec = tmp_path / "sweep.zarr", signs_spec()

    def fail(*_) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(runner, "save_summary", fail)
    message = "summary: expected to write it to .*No space left on device; the same sweep again"
    with pytest.raises(SummaryError, match=message):
        run_sweep(spec, path)
    assert number_of_blocks(path) == 3
    monkeypatch.undo()
    reports = []
    run_sweep(spec, path, on_progress=reports.append)
    assert reports[-1] == Progress(300_000, 300_000, computed=0)
    assert is_complete(xr.open_zarr(path))


def test_provenance_is_taken_before_the_first_block(tmp_path, monkeypatch):
    seen = []
    take, write = runner.provenance, records.write_block

    def note(*arguments) -> None:
        seen.append("block")
        write(*arguments)

    monkeypatch.setattr(runner, "provenance", lambda: (seen.append("provenance"), take())[1])
    monkeypatch.setattr(records, "write_block", note)
    dataset = run_sweep(signs_spec(), tmp_path / "sweep.zarr")
    assert seen == ["provenance", "block", "block", "block"]
    assert dataset.attrs["commit"] == take()["commit"]


def test_a_store_of_another_schema_is_refused(tmp_path):
    path = tmp_path / "sweep.zarr"
    run_sweep(signs_spec(), path)
    group = zarr.open_group(path / "blocks", mode="r+")
    group.attrs["schema"] = 1
    files = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
    with pytest.raises(ValueError, match=r"out: expected a store of schema 4, got schema 1 in"):
        run_sweep(signs_spec(), path)
    assert {file: file.read_bytes() for file in files} == files


def test_sweeps_run_where_the_system_has_no_flock(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "fcntl", None)
    path = tmp_path / "sweep.zarr"
    with locks.locked(tmp_path):
        run_sweep(signs_spec(), path)
    assert not list(path.glob(".*"))
    (path / ".lock-held").write_text("process 1 on another")
    with pytest.raises(ValueError, match="got one: process 1 on another; if it has ended, delete"):
        run_sweep(signs_spec(), path)


def test_a_full_disk_loses_no_finished_block(tmp_path):
    path = tmp_path / "sweep.zarr"
    options = ["--keep", "raw", *SIGNS[:-1]]
    assert run(*options, 131072, "--out", path) == 0
    before = {file: file.read_bytes() for file in (path / "blocks").glob("*/*/c/0/0")}
    assert len(before) == 4
    # No file may grow beyond 100 KiB, and a block's values take 512.
    code, _, err = finish(start(*options, 600_000, "--out", path, limit="ulimit -f 100"))
    errors = [line for line in err.splitlines() if "error" in line.lower()]
    assert len(errors) == 1
    assert "finished blocks are kept" in errors[0]
    assert code == 1
    assert {file: file.read_bytes() for file in before} == before
    assert run(*options, 600_000, "--out", path) == 0
    assert int(xr.open_zarr(path).num_inits.squeeze()) == 600_000
