"""Trainings from start to summary: stopped and gone on with, damaged, and grown."""

import json
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from training_runs import (
    assert_same_numbers,
    note_written,
    spec_of,
    stop_at,
    stored,
    write_inputs,
    write_splits,
)

from gat_jax.runtime import locks
from gat_jax.training import execution, in_short, run_training, runner, seeds


@pytest.fixture(autouse=True, scope="module")
def _short_calls():
    """Of one record each, after every one of which a training can be stopped."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(seeds, "MOST_RECORDS_OF_A_CALL", 1)
        yield


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> dict[str, str]:
    return write_inputs(tmp_path_factory.mktemp("inputs"))


@pytest.fixture(scope="module")
def whole(inputs, tmp_path_factory) -> Path:
    """The store of a training without a stop; tests copy it."""
    path = tmp_path_factory.mktemp("training") / "runs.zarr"
    run_training(spec_of(inputs), path)
    return path


@pytest.fixture
def path(whole, tmp_path) -> Path:
    """A copy of that store."""
    return Path(shutil.copytree(whole, tmp_path / "copy.zarr"))


def summary(path: Path) -> xr.Dataset:
    return xr.open_zarr(path).load()


# --- going on -----------------------------------------------------------------------------------


def test_a_training_stopped_anywhere_goes_on_to_the_same_bits(inputs, whole, tmp_path):
    spec, expected, counts = spec_of(inputs), stored(whole), set()
    for number in (0, 1, 4, 8):
        path = tmp_path / f"{number}.zarr"
        dataset = run_training(spec, path, should_stop=stop_at(number))
        counts.add(int(dataset.num_runs.sum()))
        run_training(spec, path)
        assert stored(path) == expected
        assert not any((path / "checkpoints").glob("*"))
        assert_same_numbers(summary(path), summary(whole))
    assert {0, 2} <= counts


def test_a_training_stopped_at_every_call_comes_to_its_end(inputs, whole, tmp_path, monkeypatch):
    """It never begins a chunk again: every start makes at least one record more."""
    starts, compute = [], seeds.compute

    def note(program, chunk, progress=None):
        starts.append(0 if progress is None else int(progress.num_made))
        yield from compute(program, chunk, progress)

    monkeypatch.setattr(seeds, "compute", note)
    path, spec = tmp_path / "runs.zarr", spec_of(inputs, num_seeds=2)
    for _ in range(30):
        dataset = run_training(spec, path, should_stop=stop_at(1))
        if int(dataset.num_runs.sum()) == 2:
            break
    assert starts == list(range(len(starts)))
    assert len(starts) > 3
    first_two = {name: x for name, x in stored(whole).items() if name.split("/")[-2] in "01"}
    assert stored(path) == first_two


def test_a_checkpoint_is_left_now_and_then_and_one_that_is_damaged_is_none(
    inputs, whole, tmp_path, monkeypatch
):
    monkeypatch.setattr(execution, "CHECKPOINT_SECONDS", 0.0)

    class KilledError(Exception):
        """Ends a training where it stands."""

    reports = []

    def kill(state) -> None:
        reports.append(state)
        if len(reports) == 4:
            raise KilledError

    path, spec = tmp_path / "runs.zarr", spec_of(inputs)
    with pytest.raises(KilledError):
        run_training(spec, path, on_progress=kill)
    (left,) = (path / "checkpoints").iterdir()
    assert left.name.endswith(".3")
    killed = Path(shutil.copytree(path, tmp_path / "killed.zarr"))
    run_training(spec, path)
    assert stored(path) == stored(whole)
    (file, *_) = sorted(killed.glob("checkpoints/*/d/*"))
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    run_training(spec, killed)
    assert stored(killed) == stored(whole)


def test_progress_rises_to_the_number_of_runs(inputs, tmp_path):
    reports = []
    run_training(spec_of(inputs), tmp_path / "runs.zarr", on_progress=reports.append)
    done = [report.done for report in reports]
    assert done == sorted(done)
    assert done[0] == 0
    assert done[-1] == 4
    assert len(set(done)) > 4  # parts of runs are told as well
    assert {(report.total, report.message) for report in reports} == {(4, None)}


# --- growing ------------------------------------------------------------------------------------


def test_more_seeds_and_settings_compute_only_what_is_new(inputs, path, monkeypatch):
    written, before = note_written(monkeypatch), stored(path)
    run_training(spec_of(inputs), path)
    assert written == []
    run_training(spec_of(inputs, num_seeds=6), path)
    assert [run for _, run in written] == [4, 5]
    written.clear()
    grown = run_training(spec_of(inputs, num_seeds=4, learning_rate=(0.1, 0.02, 0.2)), path)
    assert [run for _, run in written] == 2 * [0, 1, 2, 3]  # 0.02 is the recipe's own
    assert before.items() <= stored(path).items()
    assert grown.num_runs.values.tolist() == [4, 4, 4]
    assert grown.setting.values.tolist() == [f"learning_rate={x}" for x in (0.1, 0.02, 0.2)]
    (alone,) = summary_of_setting(path, inputs)
    np.testing.assert_array_equal(grown.loss[1], alone.loss)
    assert (grown.loss[0, :, 1] != grown.loss[1, :, 1]).all()


def summary_of_setting(path, inputs):
    dataset = run_training(spec_of(inputs), path)
    return [dataset.isel(setting=k) for k in range(dataset.sizes["setting"])]


def test_fewer_seeds_show_fewer_and_leave_the_others(inputs, path):
    before = stored(path)
    assert run_training(spec_of(inputs, num_seeds=1), path).sizes["seed"] == 1
    assert stored(path) == before


def test_chunks_are_of_the_runs_of_a_multiple_of_their_size():
    assert list(runner.chunks_of([0, 3, 4, 5, 9], 4)) == [[0, 3], [4, 5], [9]]


def test_checkpoints_of_other_company_go_when_a_setting_is_done(inputs, tmp_path):
    path = tmp_path / "runs.zarr"
    run_training(spec_of(inputs, num_seeds=1), path, should_stop=stop_at(2))
    run_training(spec_of(inputs, num_seeds=2), path, should_stop=stop_at(2))
    assert len(list((path / "checkpoints").iterdir())) == 2
    run_training(spec_of(inputs, num_seeds=2), path)
    assert list((path / "checkpoints").iterdir()) == []


# --- what can go wrong --------------------------------------------------------------------------


def test_damaged_runs_are_named_and_computed_again(inputs, path, whole):
    spec = spec_of(inputs)
    (record,) = (path / "blocks").glob("*/record/c/1/0")
    (other,) = (path / "blocks").glob("*/record/c/0/0")
    for damage in (b"", record.read_bytes()[:40]):
        record.write_bytes(damage)
        other.write_bytes(damage)
        reports = []
        dataset = run_training(spec, path, on_progress=reports.append)
        messages = [report.message for report in reports if report.message is not None]
        assert [message.split(":")[0] for message in messages] == [
            f"damaged block {file}" for file in (other, record)
        ]
        assert all(message.endswith("It is computed again.") for message in messages)
        assert stored(path) == stored(whole)
        assert_same_numbers(dataset, run_training(spec, whole))


def test_damaged_metadata_cost_the_runs_and_not_the_training(inputs, path, whole):
    (file,) = (path / "blocks").glob("*/record/zarr.json")
    file.write_text(file.read_text()[:100])
    reports = []
    run_training(spec_of(inputs), path, on_progress=reports.append)
    assert sum(report.message is not None for report in reports) == 4
    assert stored(path) == stored(whole)


@pytest.mark.parametrize("name", ["device", "cores", "version_jax", "XLA_FLAGS"])
def test_a_store_whose_bits_would_be_others_is_refused(inputs, path, name):
    file = path / "blocks" / "zarr.json"
    metadata = json.loads(file.read_text())
    here = metadata["attributes"][name]
    metadata["attributes"][name] = "abacus"
    file.write_text(json.dumps(metadata))
    with pytest.raises(
        ValueError, match=f"^out: expected a store of {name} {re.escape(here)}, got abacus"
    ):
        run_training(spec_of(inputs), path)


def test_a_store_in_use_is_refused(inputs, path):
    with (
        locks.locked(path),
        pytest.raises(ValueError, match=r"^out: expected no other"),
    ):
        run_training(spec_of(inputs), path)


def test_data_that_do_not_fit_the_recipe_are_refused_before_anything(inputs, tmp_path):
    path = tmp_path / "runs.zarr"
    no_masks = dict.fromkeys(("train_masks", "val_masks", "test_masks"))
    write_splits(tmp_path / "no_splits.npz", **no_masks)
    write_splits(tmp_path / "no_labels.npz", labelled=np.zeros(24, bool), **no_masks)
    (tmp_path / "auc.toml").write_text('[[layers]]\nconcat = false\n[training]\nscore = "roc_auc"')
    for changes, message in (
        ({"data": "nothing"}, "graph: expected tutorial, .* got nothing"),
        ({"data": str(tmp_path / "no_splits.npz")}, "data: expected splits, .* in no_splits"),
        ({"data": str(tmp_path / "no_labels.npz")}, "data: expected a graph with labels, got"),
        ({"self_loops": (True,)}, "self_loops: expected a graph without them, got some in small"),
        ({"recipe": str(tmp_path / "auc.toml")}, "score: expected two classes for roc_auc, got 3"),
    ):
        with pytest.raises(ValueError, match=f"^{message}"):
            run_training(spec_of(inputs, **changes), path)
    assert not path.exists()


def test_a_rate_at_which_runs_diverge_is_told_and_spoils_no_other(tmp_path):
    (tmp_path / "sgd.toml").write_text(
        "[[layers]]\nconcat = false\n[training]\n"
        'optimizer = "sgd"\nnum_steps = 6\nrecord_every = 2\n'
    )
    inputs = {"data": "tutorial", "recipe": str(tmp_path / "sgd.toml")}
    spec = spec_of(inputs, num_seeds=2, learning_rate=(0.01, 1e30), measures=())
    dataset = run_training(spec, tmp_path / "runs.zarr")
    fine = spec_of(inputs, num_seeds=2, learning_rate=(0.01,), measures=())
    alone = run_training(fine, tmp_path / "alone.zarr")
    assert_same_numbers(dataset.isel(setting=[0]), alone)
    assert (dataset.status[0] == -1).all()
    assert (dataset.status[1] >= 0).all()
    short = in_short(dataset)
    assert [entry["num_failed"] for entry in short["settings"]] == [0, 2]
    assert "NaN" not in json.dumps(short, allow_nan=False)


# --- kills --------------------------------------------------------------------------------------

# The command, with a checkpoint after every call.
COMMAND = """
import sys
from gat_jax.runtime import cli
cli.begin()
from gat_jax.training import execution, seeds
execution.CHECKPOINT_SECONDS = 0.0
seeds.MOST_RECORDS_OF_A_CALL = 1
from gat_jax.training import TrainSpec, run_training
data, recipe, path = sys.argv[1:]
measures = ("entropy_mean", "twin_equal_share")
run_training(TrainSpec(data, recipe, num_seeds=40, chunk_size=2, measures=measures), path)
"""


@pytest.mark.slow
def test_ten_kills_at_random_moments_change_no_bit(inputs, tmp_path):
    moments = random.Random(5)
    whole, killed = tmp_path / "whole.zarr", tmp_path / "killed.zarr"

    def start(path: Path) -> subprocess.Popen:
        arguments = [inputs["data"], inputs["recipe"], str(path)]
        return subprocess.Popen([sys.executable, "-c", COMMAND, *arguments])

    def seen() -> tuple[int, list[str]]:
        return len(stored(killed)), sorted(x.name for x in killed.glob("checkpoints/*"))

    assert start(whole).wait() == 0
    marks = []
    for _ in range(10):
        before, process = seen(), start(killed)
        while process.poll() is None and seen() == before:
            time.sleep(0.01)
        time.sleep(moments.uniform(0.0, 0.3))
        process.send_signal(signal.SIGKILL)
        process.wait()
        marks.append(seen())
    assert len({str(mark) for mark in marks}) == 10  # every one of them got somewhere,
    assert marks[-1][0] < 40  # and none of them to the end
    assert start(killed).wait() == 0
    assert stored(killed) == stored(whole)
    assert_same_numbers(summary(killed), summary(whole))
