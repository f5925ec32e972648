"""The command `sweep`: options, exit codes, what it prints and what it writes."""

import shutil
import signal
import sys

import pytest
import xarray as xr
from sweep_runs import (
    SCRIPT,
    SIGNS,
    finish,
    number_of_blocks,
    one_line,
    run,
    start,
    wait_for_blocks,
)

from gat_jax import sweeps
from gat_jax.commands import sweep
from gat_jax.runtime import devices, locks
from gat_jax.runtime.blocks import Blocks
from gat_jax.sweeps import figures, runner

LONG = [*SIGNS[:-1], 10**9]  # far more than a test has time for


@pytest.mark.few(1)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interruption_saves_and_says_how_to_go_on(tmp_path, number):
    path = tmp_path / "interrupted.zarr"
    options = [*LONG, "--devices", 1, "--out", path]
    process = start(*options)
    wait_for_blocks(process, path, 2)
    process.send_signal(number)
    code, out, _ = finish(process)
    assert code == 128 + number
    assert "to go on, run:" in out
    command = " ".join(map(str, [SCRIPT, *options]))
    assert out.splitlines()[-1].strip().endswith(command)
    dataset = xr.open_zarr(path)
    assert 2 * 131072 <= int(dataset.num_inits.squeeze()) < 10**9
    assert not dataset.is_complete.any()


@pytest.mark.parametrize(
    ("called", "expected"),
    [
        ("scripts/sweep.py", "PYTHON scripts/sweep.py"),
        ("/venv/bin/gat-jax", "/venv/bin/gat-jax sweep"),
        ("-c", "gat-jax sweep"),
        ("/venv/lib/pytest/__main__.py", "gat-jax sweep"),
    ],
)
def test_the_command_to_go_on_is_the_one_that_was_called(monkeypatch, called, expected):
    monkeypatch.setattr(sys, "argv", [called])
    monkeypatch.setattr(shutil, "which", {"gat-jax": None, "python": None}.get)
    command = " ".join(sweep.invocation())
    assert command == expected.replace("PYTHON", sys.executable)
    monkeypatch.setattr(
        shutil, "which", {"gat-jax": "/venv/bin/gat-jax", "python": sys.executable}.get
    )
    command = " ".join(sweep.invocation())
    assert command == expected.replace("PYTHON", "python").removeprefix("/venv/bin/")


def test_a_finished_sweep_prints_its_table_and_the_next_command(tmp_path, capsys):
    path = tmp_path / "sweep [1].zarr"
    assert run(*SIGNS, "--heads", 1, 2, "--seed", 3, "--out", path) == 0
    out = capsys.readouterr().out
    assert "probability" in out
    assert "0.78" in out
    assert f"sweep summarise '{path}'" in out
    assert xr.open_zarr(path).attrs["spec"].count('"seed": 3') == 1


# --- summaries ----------------------------------------------------------------------------------


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


def test_a_figure_that_fails_costs_that_figure_and_one_line(tmp_path, capsys, monkeypatch):
    path, out = tmp_path / "sweep.zarr", tmp_path / "out"
    assert run("--num-inits", 1000, "--out", path) == 0
    out.mkdir()
    (out / "collisions.png").write_text("of another sweep")

    def fail(*_) -> None:
        raise RuntimeError("no font\nat all")

    monkeypatch.setattr(figures, "collisions", fail)
    capsys.readouterr()
    assert run("summarise", path, "--out", out) == 1
    captured = capsys.readouterr()
    line = "error: collisions.png is missing (RuntimeError: no font)\n"
    assert captured.err == line
    assert f"Written to {out}: summary.csv, histograms.png" in captured.out
    assert {x.name for x in out.iterdir()} == {"summary.csv", "histograms.png"}


def test_a_matplotlib_that_does_not_start_costs_the_figures_alone(tmp_path, capsys, monkeypatch):
    path = tmp_path / "sweep.zarr"
    assert run(*SIGNS[:-1], 1000, "--out", path) == 0
    monkeypatch.delattr(sweeps, "figures")
    monkeypatch.delitem(sys.modules, "gat_jax.sweeps.figures")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert run("summarise", path) == 1
    assert "collisions.png is missing (ModuleNotFoundError" in one_line(capsys)
    assert {x.name for x in (tmp_path / "sweep_summary").iterdir()} == {"summary.csv"}


def test_a_summary_that_fails_is_one_line_and_exit_code_1(tmp_path, capsys, monkeypatch):
    def fail(*_) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(runner, "save_summary", fail)
    path = tmp_path / "sweep.zarr"
    assert run(*SIGNS[:-1], 1000, "--out", path) == 1
    line = one_line(capsys)
    assert "No space left on device; the same sweep again writes it" in line
    assert line.endswith("; finished blocks are kept")
    assert number_of_blocks(path) == 1


def test_a_conflicting_spec_is_refused_with_the_difference(tmp_path, capsys):
    path = tmp_path / "sweep.zarr"
    assert run(*SIGNS[:-1], 1000, "--out", path) == 0
    before = xr.open_zarr(path).load()
    with pytest.raises(SystemExit) as stop:
        run(*SIGNS[:-1], 1000, "--seed", 1, "--out", path)
    assert stop.value.code == 2
    assert "seed 0 in the store, 1 asked for" in one_line(capsys)
    xr.testing.assert_identical(xr.open_zarr(path).load(), before)


def test_a_damaged_block_is_told(tmp_path, capsys):
    path = tmp_path / "sweep.zarr"
    assert run(*SIGNS, "--out", path) == 0
    (file,) = (path / "blocks").glob("*/record/c/1/0")
    file.write_bytes(b"")
    capsys.readouterr()
    assert run(*SIGNS, "--out", path) == 0
    message = " ".join(capsys.readouterr().err.split())
    assert f"damaged block {file}" in message
    assert "It is computed again" in message


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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--graph", "petersen"],
            "graph: expected tutorial, karate_club, les_miserables, a",
        ),
        (["--graph", "nothing.npz"], "nothing.npz: expected a graph as .npz"),
        (["--graph", "les_miserables", "--num-inits", 0], "num_inits: expected at least 1, got 0"),
        (["--graph", "karate_club+self_loops"], "graph: expected non-trivial twins, got none in"),
        (["--heads", 0], "heads: expected at least 1, got 0"),
        (["--heads", 2, 2], "heads: expected different values, got 2 twice"),
        (["--layer", "gcn", "--heads", 2], "heads: expected 1 among them for gcn"),
        (["--seed", -1], "error: seed: expected 0 to 4294967295, got -1"),
        (["--precision", 2], "error: precision: expected between 0 and 1"),
        (["--precision", "nan"], "error: precision: expected between 0 and 1, got nan"),
        (["--graph", ""], "error: graph: expected names that are valid text, got ''"),
        (["--slope", "nan"], "slope: expected a finite number"),
        (["--memory", "much"], "memory: expected a size such as 500M or 8G, got 'much'"),
        (["--memory", "1K"], "memory: expected at least"),
        (["--memory", "0"], "error: memory: expected more than nothing, got '0'"),
        (["--memory", "0.0001K"], "error: memory: expected more than nothing, got '0.0001K'"),
        (["--chunk-size", 0], "chunk_size: expected at least 1, got 0"),
        (["--devices", 99], "devices: expected at most"),
        (["--seed", 1, "--seed", 2], "--seed: expected once, got twice"),
        (["--coordinator", "here:1"], "distributed: expected together with"),
        (["--spec", "nothing.toml"], "spec: expected a readable file, got nothing.toml"),
        (["--spec"], "spec"),
        (["sumarise"], "command: expected summarise, or options of a sweep, got sumarise"),
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


def test_a_store_of_another_schema_is_one_line(tmp_path, capsys):
    path = tmp_path / "sweep.zarr"
    path.mkdir()
    Blocks(path, schema=1)
    for arguments in (["--out", path], ["--dry-run", "--out", path], ["summarise", path]):
        with pytest.raises(SystemExit) as stop:
            run(*arguments)
        assert stop.value.code == 2
        assert "out: expected a store of schema 4, got schema 1 in" in one_line(capsys)


@pytest.mark.slow
def test_a_second_sweep_on_one_store_is_refused(tmp_path, capsys):
    path = tmp_path / "sweep.zarr"
    first = start(*LONG, "--devices", 1, "--out", path)
    wait_for_blocks(first, path, 1)
    with pytest.raises(SystemExit) as stop:
        run(*LONG, "--out", path)
    assert stop.value.code == 2
    assert "expected no other sweep on" in one_line(capsys)
    first.kill()
    first.communicate()
    # The lock went with its process.
    with locks.locked(path):
        pass


def test_dry_run_computes_and_writes_nothing(tmp_path, capsys):
    path = tmp_path / "sweep.zarr"
    assert run(*SIGNS, "--heads", 1, 2, "--dry-run", "--out", path) == 0
    out = capsys.readouterr().out
    assert "tutorial.gat.h2.c2.tutorial.raw.s0.2" in out
    assert "2 cells, 600k initialisations" in out
    assert "MiB" in out
    assert not path.exists()


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


def test_memory_is_at_most_what_there_is():
    machine = sweep._start_machine(sweep.Options(memory="99999999T"))
    assert machine.memory == devices.total_memory()
    assert sweep._start_machine(sweep.Options(memory="1.5M")).memory == 3 * 2**19
