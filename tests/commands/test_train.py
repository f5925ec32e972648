"""The command `train`: options, exit codes, what it prints and what it writes."""

import contextlib
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import xarray as xr
from helpers import signals_of_the_foreground
from sweep_runs import one_line
from training_runs import note_written, read_csv, stored, write_inputs, write_splits

from gat_jax.commands import train
from gat_jax.runtime import stops
from gat_jax.training import seeds

SCRIPT = Path(__file__).parents[2] / "scripts" / "train.py"


@pytest.fixture(scope="module")
def few(tmp_path_factory) -> list[str]:
    """Options of two runs that compile fast."""
    inputs = write_inputs(tmp_path_factory.mktemp("inputs"))
    options = ["--data", inputs["data"], "--recipe", inputs["recipe"], "--num-seeds", "2"]
    return [*options, "--chunk-size", "2", "--measures", "entropy_mean"]


@pytest.fixture
def no_pictures(monkeypatch) -> None:
    """They have tests of their own."""
    monkeypatch.setattr(train, "_save_pictures", lambda *_: {})


def run(*arguments) -> int:
    return train.main([str(argument) for argument in arguments])


@pytest.mark.usefixtures("no_pictures")
def test_numbers_are_written_and_printed_and_the_same_command_goes_on(
    few, tmp_path, capsys, monkeypatch
):
    assert run(*few, "--out", tmp_path) == 0
    short = json.loads((tmp_path / "summary.json").read_text())
    printed = capsys.readouterr().out
    assert f"{short['recipe']} on {short['data']}" in " ".join(printed.split())
    assert "95% interval" in printed
    assert f"{short['test_accuracy']['mean']:.4f}" in printed
    assert f"Written to {tmp_path}: summary.json" in printed
    assert short["num_seeds"] == 2
    assert "NaN" not in (tmp_path / "summary.json").read_text()
    rows = read_csv(tmp_path / "history.csv")
    assert {row["seed"] for row in rows} == {"0", "1"}
    assert xr.open_zarr(tmp_path / "runs.zarr").num_runs.values.tolist() == [2]
    written = note_written(monkeypatch)
    (tmp_path / "report.html").write_text("of other numbers")
    assert run(*few, "--out", tmp_path) == 0
    assert written == []
    again = json.loads((tmp_path / "summary.json").read_text())
    assert again | {"seconds": 0} == short | {"seconds": 0}
    assert not (tmp_path / "report.html").exists()


@pytest.mark.usefixtures("no_pictures")
def test_event_files_are_written_of_a_finished_store_too(few, tmp_path, capsys, monkeypatch):
    assert run(*few, "--out", tmp_path / "out") == 0
    written, events = note_written(monkeypatch), tmp_path / "events"
    assert run(*few, "--out", tmp_path / "out", "--tensorboard", events) == 0
    assert written == []
    assert {path.parent.name for path in events.glob("recipe/*/events.out.*")} == {
        "seed_0",
        "seed_1",
    }
    assert f"Written to {events}: event files of TensorBoard" in capsys.readouterr().out


def test_without_tensorboardx_nothing_is_computed(few, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SystemExit) as ended:
        run(*few, "--out", tmp_path / "out", "--tensorboard", tmp_path / "events")
    assert ended.value.code == 2
    assert "pip install 'gat_jax[tensorboard]'" in one_line(capsys)
    assert not list(tmp_path.iterdir())


def test_a_picture_that_fails_costs_that_picture_and_code_1(few, tmp_path, capsys, monkeypatch):
    failure = {"accuracy.png": RuntimeError("no font\nat all")}
    monkeypatch.setattr(train, "_save_pictures", lambda *_: failure)
    assert run(*few, "--out", tmp_path) == 1
    line = one_line(capsys)
    assert line.startswith("error: missing: accuracy.png (RuntimeError: no font); the numbers are")
    assert (tmp_path / "summary.json").is_file()


@pytest.mark.usefixtures("no_pictures")
def test_a_training_that_is_asked_to_stop_says_so(few, tmp_path, capsys, monkeypatch):
    @contextlib.contextmanager
    def hasty():
        asked = []
        yield lambda: asked.append(None) or len(asked) > 2

    monkeypatch.setattr(seeds, "MOST_RECORDS_OF_A_CALL", 1)  # else all are made in one call
    monkeypatch.setattr(stops, "patient", hasty)
    monkeypatch.setattr(stops, "received", lambda: signal.SIGINT.value)
    assert run(*few, "--out", tmp_path) == 130
    assert "the same command goes on" in capsys.readouterr().out
    assert not (tmp_path / "summary.json").exists()  # no run was finished
    assert len(list(tmp_path.glob("runs.zarr/checkpoints/*"))) == 1
    monkeypatch.undo()
    monkeypatch.setattr(train, "_save_pictures", lambda *_: {})
    assert run(*few, "--out", tmp_path) == 0
    assert len(stored(tmp_path / "runs.zarr")) == 2


@pytest.mark.slow
def test_interruption_keeps_what_is_finished(few, tmp_path):
    options = [*few, "--out", str(tmp_path)]
    options[options.index("--num-seeds") + 1] = "5000"
    command, pipe = [sys.executable, str(SCRIPT), *options], subprocess.PIPE
    with signals_of_the_foreground():
        process = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True)
    while process.poll() is None and not stored(tmp_path / "runs.zarr"):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    # On a busy machine the chunk under way may outlast the seconds of grace that a stop leaves it.
    if "the same command goes on" in out:
        assert json.loads((tmp_path / "summary.json").read_text())["num_seeds"] >= 2
    else:
        assert "finished runs are kept" in err
    assert len(stored(tmp_path / "runs.zarr")) >= 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "petersen"], "graph: expected tutorial, karate_club, les_miserables"),
        (["--data", "nothing.npz"], "nothing.npz: expected a graph as .npz"),
        (["--data", "cora", "--data-dir", "."], "data: expected cora.npz, a folder cora or"),
        (["--recipe", "gat"], "recipe: expected gat_paper_cora, "),
        (["--recipe", "nothing.toml"], "recipe: expected a readable file, got nothing.toml"),
        (["--recipe", "bad.toml"], "bad.toml: layers: expected heads, channels"),
        (["--measures", "entropy"], "measures: expected some of entropy_mean"),
        (["--recipe", "platonov_gat"], "data: expected splits, as the recipe stops by validation"),
        (["--data", "loops.npz", "--self-loops", "True"], "self_loops: expected a graph without"),
        (["--num-seeds", 0], "num_seeds: expected at least 1, got 0"),
        (["--num-steps", 15], "record_every: expected a divisor of num_steps"),
        (["--learning-rate", "nan"], "learning_rate: expected a finite number of at least 0"),
        (["--heads", 2, 2], "heads: expected different values, got 2 twice"),
        (["--layer", "gin"], "layer"),
        (["--num-sedes", 3], "--num-sedes"),
        (["--seed", 1, "--seed", 2], "--seed: expected once, got twice"),
    ],
)
def test_bad_input_is_one_line(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    Path("bad.toml").write_text("[[layers]]\nhead = 3\n")
    write_splits(Path("loops.npz"))
    with pytest.raises(SystemExit) as stop:
        run(*arguments, "--out", "out")
    assert stop.value.code == 2
    assert message in one_line(capsys)
    assert not Path("out", "runs.zarr", "blocks").exists()


def test_a_folder_that_cannot_be_written_is_refused(few, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit) as stop:
        run(*few, "--out", tmp_path / "file")
    assert stop.value.code == 2
    assert "out: expected a folder to write to" in one_line(capsys)


def test_help_names_the_options(capsys):
    with pytest.raises(SystemExit) as stop:
        run("--help")
    assert stop.value.code == 0
    printed = capsys.readouterr().out
    for option in ("--data", "--recipe", "--num-seeds", "--learning-rate", "--heads", "--out"):
        assert option in printed


def test_data_are_found_by_their_name_in_a_folder(tmp_path):
    def found(name: str) -> str:
        spec = train.TrainSpec(data=name)
        return train.find_data(train.Options(data_dir=tmp_path, config=spec))

    (tmp_path / "one.npz").write_text("")
    (tmp_path / "two").mkdir()
    (tmp_path / "ind.three.x").write_text("")
    assert found("one") == str(tmp_path / "one.npz")
    assert found("two") == str(tmp_path / "two")
    assert found("three") == str(tmp_path / "ind.three")
    assert found("tutorial") == "tutorial"
