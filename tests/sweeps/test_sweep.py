"""Sweeps, run as users run them: in this process where that will do, and in others for real."""

import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr

from gat_jax.commands import sweep as script
from gat_jax.graphs import build as graphs
from gat_jax.graphs import datasets
from gat_jax.layers import LayerConfig
from gat_jax.runtime import stats, store
from gat_jax.sampling import Cell, Counts, sample
from gat_jax.studies import tutorial_init as study_init
from gat_jax.sweeps import SweepSpec
from gat_jax.sweeps import runner as sweep

SCRIPT = Path(__file__).parents[2] / "scripts" / "sweep.py"
# Two programs, blocks of one tile and of two, and a last block that is not full.
GRID = ["--heads", "1", "2", "--num-inits", "600000", "--block-size", "131072"]
# One program that compiles fast.
SIGNS = ["--measure", "collisions", "--block-size", "131072", "--num-inits", "300000"]


def run(*arguments) -> int:
    return script.main([str(argument) for argument in arguments])


def start(*arguments, limit="true") -> subprocess.Popen:
    command = ["bash", "-c", f'{limit}; exec "$0" "$@"', sys.executable, SCRIPT]
    command += map(str, arguments)
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def assert_identical(first: Path, second: Path):
    one, two = xr.open_zarr(first).load(), xr.open_zarr(second).load()
    assert set(one.data_vars) == set(two.data_vars)
    for name in one.variables:
        assert one[name].dtype == two[name].dtype
        assert one[name].values.tobytes() == two[name].values.tobytes() or (
            one[name].dtype == object and one[name].equals(two[name])
        ), name


@pytest.fixture(scope="module")
def reference(tmp_path_factory) -> Path:
    """One process, one device, one tile at a time."""
    path = tmp_path_factory.mktemp("sweep") / "reference.zarr"
    code, _, err = finish(start(*GRID, "--devices", 1, "--chunk-size", 1, "--out", path))
    assert code == 0, err
    return path


# --- identity -----------------------------------------------------------------------------------


def test_four_devices_and_the_largest_chunk_give_the_same_bits(reference, tmp_path):
    path = tmp_path / "four.zarr"
    code, _, err = finish(start(*GRID, "--devices", 4, "--chunk-size", 10**9, "--out", path))
    assert code == 0, err
    assert_identical(reference, path)


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
        blocks, before = killed / "blocks", counts[-1] if counts else 0
        while process.poll() is None and number_of_blocks(blocks) <= before:
            time.sleep(0.01)
        time.sleep(moments.uniform(0.0, 0.1))
        process.send_signal(signal.SIGKILL)
        finish(process)
        counts.append(number_of_blocks(blocks))
    assert len(set(counts)) == 10  # every one of them got somewhere,
    assert counts[-1] < 306  # and none of them to the end
    code, _, err = finish(start(*grid, "--out", killed))
    assert code == 0, err
    assert_identical(whole, killed)


def number_of_blocks(blocks: Path) -> int:
    return sum(1 for _ in blocks.glob("*/record/c/*/0"))


def test_interruption_saves_and_says_how_to_go_on(tmp_path):
    path = tmp_path / "interrupted.zarr"
    process = start("--num-inits", 10**9, "--devices", 1, "--out", path)
    while process.poll() is None and number_of_blocks(path / "blocks") < 2:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    code, out, _ = finish(process)
    assert code == 130
    assert "to go on, run:" in out
    assert f"--num-inits {10**9}" in out
    dataset = xr.open_zarr(path)
    assert 2 * 2**20 <= int(dataset.num_inits.squeeze()) < 10**9
    assert not dataset.is_complete.any()


# --- what is in the store -----------------------------------------------------------------------


def test_the_summary_is_labelled_and_agrees_with_sampling(tmp_path, capsys):
    path = tmp_path / "sweep.zarr"
    grid = ["--layer", "gat", "gcn", "--heads", 1, 2, "--num-inits", 50_000, "--seed", 3]
    assert run(*grid, "--out", path) == 0
    assert "0.6" in capsys.readouterr().out
    dataset = xr.open_zarr(path)
    assert dataset.collisions.dims == (
        *("graph", "layer", "heads", "channels", "initializer", "features", "slope"),
    )
    cell = dataset.sel(layer="gat", heads=2).squeeze()
    graph, pairs = study_init.tutorial_twins()
    layer = LayerConfig(heads=2, initializer="tutorial")
    counts = sample(Cell("tutorial", layer), graph, pairs, num_inits=50_000, seed=3)
    assert cell.num_inits == 50_000
    assert cell.collisions == counts.collisions
    assert cell.collision_probability == counts.collisions / 50_000
    low, high = stats.binomial_interval(counts.collisions, 50_000)
    assert cell.interval.values.tolist() == [low, high]
    np.testing.assert_array_equal(cell.head_collisions_by_cause, counts.head_causes)
    np.testing.assert_array_equal(cell.pair_collisions_by_cause, counts.head_causes.sum(axis=0))
    np.testing.assert_array_equal(cell.entropy_histogram, counts.entropy_histogram)
    np.testing.assert_array_equal(cell.gap_histogram, counts.gap_histogram)
    rows = counts.entropy_histogram.sum()
    assert float(cell.entropy_mean) == pytest.approx(1.0 - counts.deficit_sum / rows)
    variance = counts.deficit_squares / rows - (counts.deficit_sum / rows) ** 2
    assert float(cell.entropy_variance) == pytest.approx(variance)
    missing = dataset.sel(layer="gcn", heads=2).squeeze()
    assert missing.num_inits == 0
    assert np.isnan(missing.collision_probability)
    assert dataset.attrs["schema"] == store.SCHEMA
    assert {"spec", "device", "version_jax", "commit"} <= set(dataset.attrs)
    assert float(dataset.sel(layer="gcn", heads=1).collision_probability.squeeze()) == 1.0


def test_several_pairs_have_an_interval_of_their_own(tmp_path):
    path = tmp_path / "karate.zarr"
    assert run("--graph", "karate_club", *SIGNS[:-1], 20_000, "--out", path) == 0
    cell = xr.open_zarr(path).squeeze()
    assert int(cell.num_pairs) == 11
    probability = float(cell.collision_probability)
    assert probability == int(cell.collisions) / (11 * 20_000)
    low, high = cell.interval.values
    # Pairs of one initialisation go together, so it is wider than that of independent pairs.
    naive = stats.binomial_interval(int(cell.collisions), 11 * 20_000)
    assert low < probability < high
    assert high - low > 1.3 * float(naive[1] - naive[0])
    assert "entropy_histogram" not in cell


def test_raw_values_of_every_initialisation_are_kept(tmp_path):
    path = tmp_path / "raw.zarr"
    options = ["--keep", "raw", "--block-size", 131072, "--num-inits", 150_000]
    assert run(*options, "--heads", 1, 2, "--out", path) == 0
    raw = sweep.load_raw(path, heads=1)
    summary = xr.open_zarr(path).sel(heads=1).squeeze()
    assert raw.sizes == {"init": 150_000}
    np.testing.assert_array_equal(raw.init, np.arange(150_000))
    assert int(raw.collided_pairs.sum()) == int(summary.collisions)
    assert int((raw.largest_gap == 0).sum()) == int(summary.equal_outputs)
    assert float(raw.mean_entropy.mean()) == pytest.approx(float(summary.entropy_mean), rel=1e-5)
    with pytest.raises(ValueError, match="labels: expected to name one cell, got 2"):
        sweep.load_raw(path)


def test_summarise_writes_a_table_and_figures(tmp_path, capsys):
    path = tmp_path / "sweep.zarr"
    assert run("--heads", 1, 2, "--num-inits", 50_000, "--out", path) == 0
    assert run("summarise", path) == 0
    out = tmp_path / "sweep_summary"
    assert {x.name for x in out.iterdir()} == {"summary.csv", "collisions.png", "histograms.png"}
    header, *lines = (out / "summary.csv").read_text().splitlines()
    assert len(lines) == 2
    assert {"heads", "collision_probability", "interval_low"} <= set(header.split(","))
    assert "probability" in capsys.readouterr().out
    with pytest.raises(SystemExit) as stop:
        run("summarise", tmp_path / "nothing")
    assert stop.value.code == 2


# --- going on -----------------------------------------------------------------------------------


def test_a_larger_grid_computes_only_what_is_new(tmp_path, monkeypatch):
    path = tmp_path / "sweep.zarr"
    assert run(*SIGNS, "--out", path) == 0
    written = []
    write = store.Blocks.write
    monkeypatch.setattr(
        store.Blocks, "write", lambda self, *a: (written.append(a[:2]), write(self, *a))
    )
    assert run(*SIGNS, "--out", path) == 0
    assert written == []
    more = [*SIGNS[:-1], "500000"]
    assert run(*more, "--slope", 0.2, 0.5, "--out", path) == 0
    # Blocks 0 and 1 are whole; block 2 was not full.
    assert [block for key, block in written if "s0.2" in key] == [2, 3]
    assert [block for key, block in written if "s0.5" in key] == [0, 1, 2, 3]
    dataset = xr.open_zarr(path)
    assert dataset.num_inits.values.ravel().tolist() == [500_000, 500_000]
    # Slopes share their random numbers, and signs do not depend on them.
    assert len(set(dataset.collisions.values.ravel().tolist())) == 1
    fresh = tmp_path / "fresh.zarr"
    assert run(*more, "--slope", 0.2, 0.5, "--out", fresh) == 0
    assert_identical(path, fresh)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--seed", 1], "seed 0 in the store, 1 asked for"),
        (["--measure", "all"], "measure collisions in the store, all asked for"),
        (["--num-inits", 1000], "num_inits 300000 in the store, 1000 now"),
        (["--heads", 2], "heads without 1, which the store has"),
        (["--gain", 2], "gain given"),
        (["--precision", 0.1], "precision None in the store, 0.1 now"),
    ],
)
def test_a_conflicting_spec_is_refused_with_the_difference(tmp_path, capsys, change, message):
    path = tmp_path / "sweep.zarr"
    assert run(*SIGNS, "--out", path) == 0
    before = xr.open_zarr(path).load()
    replaced = {change[0], str(change[0])}
    kept = [
        x for k in range(0, len(SIGNS), 2) if SIGNS[k] not in replaced for x in SIGNS[k : k + 2]
    ]
    with pytest.raises(SystemExit) as stop:
        run(*kept, *change, "--out", path)
    assert stop.value.code == 2
    assert message in one_line(capsys)
    xr.testing.assert_identical(xr.open_zarr(path).load(), before)


def one_line(capsys) -> str:
    lines = [x for x in capsys.readouterr().err.splitlines() if x.startswith("error:")]
    assert len(lines) == 1
    return lines[0]


def test_precision_stops_at_the_same_block_whatever_the_chunk(tmp_path):
    paths = [tmp_path / f"{chunk}.zarr" for chunk in (1, 10**9)]
    for path, chunk in zip(paths, (1, 10**9), strict=True):
        options = [*SIGNS[:-1], 10**7, "--precision", 0.003, "--chunk-size", chunk]
        assert run(*options, "--out", path) == 0
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


def test_a_damaged_block_is_named_and_computed_again(tmp_path, capsys):
    path = tmp_path / "sweep.zarr"
    assert run(*SIGNS, "--out", path) == 0
    before = xr.open_zarr(path).load()
    (file,) = (path / "blocks").glob("*/record/c/1/0")
    whole = file.read_bytes()
    capsys.readouterr()
    for damage in (bytes([whole[0] ^ 1]) + whole[1:], whole[:40], b""):
        file.write_bytes(damage)
        assert run(*SIGNS, "--out", path) == 0
        message = " ".join(capsys.readouterr().err.split())
        assert f"damaged block {file}" in message
        assert "It is computed again" in message
        assert file.read_bytes() == whole
        xr.testing.assert_identical(xr.open_zarr(path).load(), before)


def test_damaged_or_missing_values_of_initialisations_are_computed_again(tmp_path, capsys):
    path = tmp_path / "raw.zarr"
    assert run("--keep", "raw", *SIGNS, "--out", path) == 0
    before = sweep.load_raw(path)
    (file,) = (path / "blocks").glob("*/collided_pairs/c/1/0")
    whole = file.read_bytes()
    capsys.readouterr()
    for damage in (bytes([whole[0] ^ 1]) + whole[1:], None):
        file.unlink() if damage is None else file.write_bytes(damage)
        assert run("--keep", "raw", *SIGNS, "--out", path) == 0
        assert "It is computed again" in " ".join(capsys.readouterr().err.split())
        assert file.read_bytes() == whole
        xr.testing.assert_identical(sweep.load_raw(path), before)


def test_summarise_takes_the_blocks_that_a_killed_sweep_left(tmp_path, capsys):
    path = tmp_path / "sweep.zarr"
    assert run(*SIGNS, "--out", path) == 0
    for entry in path.iterdir():  # as a kill before the end leaves it
        if entry.name not in ("blocks", ".lock"):
            entry.unlink() if entry.is_file() else shutil.rmtree(entry)
    (last,) = (path / "blocks").glob("*/record/c/2/0")
    last.unlink()
    (path / ".new-left").mkdir()
    capsys.readouterr()
    assert run("summarise", path) == 0
    assert "262k, incomplete" in capsys.readouterr().out
    assert run(*SIGNS, "--out", path) == 0
    assert not (path / ".new-left").exists()
    assert int(xr.open_zarr(path).num_inits.squeeze()) == 300_000


def test_a_damaged_header_is_named(tmp_path, capsys):
    path = tmp_path / "sweep.zarr"
    assert run(*SIGNS, "--out", path) == 0
    file = path / "blocks" / "zarr.json"
    file.write_text(file.read_text()[:50])
    with pytest.raises(SystemExit) as stop:
        run(*SIGNS, "--out", path)
    assert stop.value.code == 2
    assert f"damaged file {file}" in one_line(capsys)


def test_an_overflow_is_refused_and_not_counted(tmp_path, capsys, monkeypatch):
    huge = graphs.tutorial_graph()
    huge = huge._replace(nodes=huge.nodes * np.float32(4e37))
    monkeypatch.setitem(sweep.BUILT_IN_GRAPHS, "tutorial", lambda: huge)
    with pytest.raises(SystemExit):
        run("--num-inits", 1000, "--out", tmp_path / "sweep.zarr")
    assert "expected numbers that float32 holds" in one_line(capsys)


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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--graph", "petersen"], "graph: expected tutorial, karate_club, les_miserables or"),
        (["--graph", "nothing.npz"], "nothing.npz: expected a graph as .npz"),
        (["--graph", "les_miserables", "--num-inits", 0], "num_inits: expected at least 1, got 0"),
        (["--graph", "karate_club+self_loops"], "graph: expected non-trivial twins, got none in"),
        (["--heads", 0], "heads: expected at least 1, got 0"),
        (["--heads", 2, 2], "heads: expected different values, got 2 twice"),
        (["--layer", "gcn", "--heads", 2], "heads: expected 1 among them for gcn"),
        (["--seed", -1], "seed: expected 0 to 4294967295, got -1"),
        (["--precision", 2], "precision: expected between 0 and 1"),
        (["--slope", "nan"], "slope: expected a finite number"),
        (["--memory", "much"], "memory: expected a size such as 500M or 8G, got 'much'"),
        (["--memory", "1K"], "memory: expected at least"),
        (["--chunk-size", 0], "chunk_size: expected at least 1, got 0"),
        (["--devices", 99], "devices: expected at most"),
        (["--seed", 1, "--seed", 2], "--seed: expected once, got twice"),
        (["--coordinator", "here:1"], "distributed: expected together with"),
        (["--spec", "nothing.toml"], "spec: expected a readable file, got nothing.toml"),
        (["--initialiser", "pyg"], "initializer"),
    ],
)
def test_bad_input_is_one_line(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        run(*arguments, "--out", "sweep.zarr")
    assert stop.value.code == 2
    assert message in one_line(capsys)
    assert not (tmp_path / "sweep.zarr" / "blocks" / "c").exists()


def test_a_path_that_cannot_be_written_is_refused(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    for out in ("file", "file/below.zarr"):
        with pytest.raises(SystemExit) as stop:
            run(*SIGNS, "--out", tmp_path / out)
        assert stop.value.code == 2
        assert "out: expected a folder to write to" in one_line(capsys)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("")
    with pytest.raises(SystemExit):
        run(*SIGNS, "--out", tmp_path / "other")
    assert "expected a sweep's store or a new path" in one_line(capsys)


def test_a_store_of_a_newer_schema_is_refused(tmp_path, capsys):
    path = tmp_path / "sweep.zarr"
    assert run(*SIGNS, "--out", path) == 0
    group = zarr.open_group(path / "blocks", mode="r+")
    group.attrs["schema"] = store.SCHEMA + 1
    files = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
    with pytest.raises(SystemExit) as stop:
        run(*SIGNS, "--out", path)
    assert stop.value.code == 2
    assert f"expected a store of schema {store.SCHEMA}, got schema 2" in one_line(capsys)
    assert {file: file.read_bytes() for file in files} == files


def test_a_second_sweep_on_one_store_is_refused(tmp_path, capsys):
    path = tmp_path / "sweep.zarr"
    first = start("--num-inits", 10**9, "--devices", 1, "--out", path)
    while first.poll() is None and number_of_blocks(path / "blocks") < 1:
        time.sleep(0.05)
    with pytest.raises(SystemExit) as stop:
        run("--num-inits", 10**9, "--out", path)
    assert stop.value.code == 2
    assert "expected no other sweep on" in one_line(capsys)
    first.kill()
    first.communicate()
    # The lock went with its process.
    with store.locked(path):
        pass


def test_dry_run_computes_and_writes_nothing(tmp_path, capsys):
    path = tmp_path / "sweep.zarr"
    assert run(*SIGNS, "--heads", 1, 2, "--dry-run", "--out", path) == 0
    out = capsys.readouterr().out
    assert "tutorial.gat.h2.c2.tutorial.raw.s0.2" in out
    assert "2 cells, 600k initialisations" in out
    assert "MiB" in out
    assert not path.exists()


# --- specs --------------------------------------------------------------------------------------


def test_a_spec_file_and_options_that_override_it(tmp_path, capsys):
    spec = tmp_path / "spec.toml"
    spec.write_text('heads = [1, 2]\nslope = 1\nnum_inits = 300000\nmeasure = "collisions"\n')
    path = tmp_path / "sweep.zarr"
    assert run("--spec", spec, "--num-inits", 20_000, "--out", path) == 0
    dataset = xr.open_zarr(path)
    assert dataset.heads.values.tolist() == [1, 2]
    assert dataset.slope.values.tolist() == [1.0]
    assert dataset.num_inits.values.ravel().tolist() == [20_000, 20_000]
    assert (dataset.collision_probability == 1).all()  # slope 1 makes all twins equal


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("head = [1]", "expected no key 'head' (perhaps you meant heads)"),
        ("xyz = 1", "expected no key 'xyz'"),
        ("seed = 1\nseed = 2", "expected each key once, got 'seed' again in line 2"),
        ('heads = ["1"]', "heads: expected int, got '1'"),
        ("num_inits = 1.5", "num_inits: expected int, got 1.5"),
        ("seed = true", "seed: expected int, got True"),
        ('layer = "gta"', "layer: expected one of gat, gatv2, gcn, got gta"),
        ("seed = ", "spec.toml"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_a_bad_spec_file_is_refused(tmp_path, capsys, text, message):
    spec = tmp_path / "spec.toml"
    spec.write_text(text)
    with pytest.raises(SystemExit) as stop:
        run("--spec", spec, "--out", tmp_path / "sweep.zarr")
    assert stop.value.code == 2
    assert message in one_line(capsys)


def test_a_graph_from_a_file(tmp_path):
    source = datasets.tutorial().graph
    rows, columns = source.nodes.nonzero()
    file = tmp_path / "four.npz"
    np.savez(
        file,
        num_nodes=4,
        senders=source.senders,
        receivers=source.receivers,
        feat_data=source.nodes[rows, columns],
        feat_indices=columns,
        feat_indptr=np.searchsorted(rows, np.arange(5)),
        feat_shape=(4, 2),
        labels=np.zeros(4, int),
        labelled=np.ones(4, bool),
    )
    path = tmp_path / "sweep.zarr"
    assert run(*SIGNS, "--graph", file, "--out", path) == 0
    cell = xr.open_zarr(path).squeeze()
    assert abs(float(cell.collision_probability) - 0.7825) < 0.005
    np.savez(file, **{**np.load(file), "feat_data": 2 * source.nodes[rows, columns]})
    with pytest.raises(SystemExit):
        run(*SIGNS, "--graph", file, "--out", path)


def test_records_keep_every_count():
    cells = sweep.entries(SweepSpec(heads=(2,)))
    graph, pairs = study_init.tutorial_twins()
    counts = sample(cells[0].task.cell, graph, pairs, num_inits=1000, seed=0)
    again = sweep.from_record(sweep.to_record(counts), cells[0])
    for name, one, two in zip(Counts._fields, counts, again, strict=True):
        np.testing.assert_array_equal(one, two, err_msg=name)
        assert np.asarray(one).dtype == two.dtype
