"""What users see of a training: names of all dimensions, means with intervals, JSON and CSV."""

import json

import numpy as np
import pytest
import scipy.stats
import xarray as xr
from training_runs import read_csv, spec_of, write_inputs

from gat_jax.runtime.blocks import Blocks
from gat_jax.symmetry import CAUSES
from gat_jax.training import GRADIENTS, MEASURES, in_short, records, write_history
from gat_jax.training.plan import prepare
from gat_jax.training.summary import mean_and_interval, summarise

STEPS, HEADS = np.arange(0, 41, 2), (1, 2)
STOPPED = 9  # the step after which the second run stops


def arrays_of(run: int, heads: int) -> dict[str, np.ndarray]:
    """A run of one layer, whose numbers say where they stand."""
    number = len(STEPS)
    made = STOPPED if run == 1 else 40

    def some(*shape: int) -> np.ndarray:
        values = 100 * run + STEPS.reshape(-1, *[1] * len(shape))
        return np.broadcast_to(values, (number, *shape)).astype(np.float32)

    scores = dict.fromkeys(("train_score", "test_score", "test_accuracy"), np.float32(run / 4))
    return {
        "step": np.minimum(STEPS, made),
        "loss": some(),
        "validation_scores": some(),
        "twin_gap": some(1),
        "cause_share": some(1, len(CAUSES)),
        "grad_norm": some(1, len(GRADIENTS)),
        "measures.entropy_mean": some(1, heads) + np.arange(heads, dtype=np.float32)[None, None],
        "measures.twin_equal_share": some(1),
        **scores,
        "validation_score": np.float32(1 / heads - run / 8),  # the first setting has the best
        "contested_accuracy": np.float32(np.nan),
        "other_accuracy": np.float32(run / 4),
        "kept_entropy_histogram": np.full((1, heads, 50), run, np.float32),
        "kept_step": np.int32(4),
        "num_steps": np.int32(made),
        "status": np.int32(8 if (run, heads) == (1, 2) else -1),
    }


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> xr.Dataset:
    """Two settings of three runs; the second setting lacks the last one."""
    folder = tmp_path_factory.mktemp("summary")
    prepared = prepare(spec_of(write_inputs(folder), num_seeds=3, heads=HEADS))
    blocks = Blocks(folder, schema=records.SCHEMA)
    for key, heads in zip(prepared.keys, HEADS, strict=True):
        for run in range(4 - heads):
            arrays = {name: np.asarray(x) for name, x in arrays_of(run, heads).items()}
            records.write_run(blocks, key, run, arrays)
    return summarise(prepared, blocks, {"version_jax": "1"}, seconds=2.5)


def test_everything_has_its_dimensions_and_coordinates(dataset):
    recorded = ("setting", "seed", "step")
    assert {name: dataset[name].dims for name in ("loss", "validation_scores")} == {
        "loss": recorded,
        "validation_scores": recorded,
    }
    assert dataset.twin_gap.dims == (*recorded, "layer")
    assert dataset.cause_share.dims == (*recorded, "layer", "cause")
    assert dataset.grad_norm.dims == (*recorded, "layer", "gradient")
    assert dataset.entropy_mean.dims == (*recorded, "layer", "head")
    assert dataset.twin_equal_share.dims == (*recorded, "layer")
    of_kept = ("setting", "seed", "layer", "head", "entropy_bin")
    assert dataset.kept_entropy_histogram.dims == of_kept
    assert len(dataset.entropy_bin) == 50
    for name in ("test_score", "validation_score", "num_steps", "status", "kept_step"):
        assert dataset[name].dims == ("setting", "seed")
    assert dataset.setting.values.tolist() == ["heads=1", "heads=2"]
    assert dataset.seed.values.tolist() == [0, 1, 2]
    assert dataset.step.values.tolist() == STEPS.tolist()
    assert dataset.cause.values.tolist() == list(CAUSES)
    assert dataset.gradient.values.tolist() == list(GRADIENTS)
    assert dataset.attrs["version_jax"] == "1"
    assert dataset.attrs["seconds"] == 2.5


def test_measures_say_their_unit_and_what_they_are(dataset):
    for name in ("entropy_mean", "twin_equal_share"):
        measure = MEASURES[name]
        assert dataset[name].attrs == {"units": measure.unit, "long_name": measure.description}
    assert dataset.kept_entropy_histogram.attrs["units"] == "share of receivers"


def test_what_is_not_there_is_no_number(dataset):
    assert dataset.num_runs.values.tolist() == [3, 2]
    assert np.isnan(dataset.isel(setting=1, seed=2).loss).all()
    assert np.isnan(dataset.isel(setting=1, seed=2).test_score)
    entropy = dataset.entropy_mean.isel(layer=0)
    assert np.isnan(entropy.isel(setting=0, head=1)).all()
    assert entropy.isel(setting=1, seed=0, head=1).values.tolist() == (STEPS + 1).tolist()
    stopped = dataset.isel(setting=0, seed=1)
    for name in ("loss", "validation_scores", "twin_gap", "cause_share", "entropy_mean"):
        found = stopped[name].values.reshape(len(STEPS), -1)[:, 0]
        expected = np.where(STEPS <= STOPPED, 100.0 + STEPS, np.nan)
        np.testing.assert_array_equal(found, expected)


def test_means_and_intervals_are_those_of_scipy():
    values = np.random.default_rng(0).uniform(0.3, 0.6, size=7)
    found = mean_and_interval(values)
    assert found["mean"] == pytest.approx(values.mean())
    assert found["sd"] == pytest.approx(np.std(values, ddof=1))
    interval = scipy.stats.t.interval(0.95, 6, values.mean(), scipy.stats.sem(values))
    assert found["interval"] == pytest.approx(interval)
    assert found["values"] == values.tolist()


def test_means_of_few_values_and_of_none():
    nothing = {"mean": None, "sd": None, "interval": [None, None]}
    assert mean_and_interval([0.5]) == nothing | {"mean": 0.5, "values": [0.5]}
    assert mean_and_interval([]) == nothing | {"values": []}
    assert mean_and_interval([0.5, np.nan, np.inf]) == nothing | {"values": [0.5, None, None]}
    assert mean_and_interval([0.0, 1.0])["interval"] == [0.0, 1.0]  # they are shares


def test_the_setting_in_front_is_chosen_by_validation_alone(dataset):
    short = in_short(dataset)
    assert short["setting"] == "heads=1"
    assert [entry["setting"] for entry in short["settings"]] == ["heads=1", "heads=2"]
    assert [entry["num_seeds"] for entry in short["settings"]] == [3, 2]
    assert [entry["num_failed"] for entry in short["settings"]] == [0, 1]
    assert short["num_steps"] == [40, STOPPED, 40]
    assert short["validation_score"]["values"] == [1.0, 0.875, 0.75]
    assert short["test_accuracy"]["mean"] == pytest.approx(0.25)
    assert short["contested_accuracy"]["mean"] is None
    other = dataset.copy()
    other["validation_score"] = 1 - dataset.validation_score
    assert in_short(other)["setting"] == "heads=2"
    other["test_score"], other["test_accuracy"] = other.test_score * 0, other.test_accuracy * 0
    assert in_short(other)["setting"] == "heads=2"
    other["validation_score"][1] = np.nan  # no number is never the best
    assert in_short(other)["setting"] == "heads=1"


def test_no_number_is_null_in_json(dataset):
    broken = dataset.copy()
    broken["test_score"][0, 1] = np.nan
    text = json.dumps(in_short(broken), allow_nan=False)
    assert json.loads(text)["test_score"]["values"] == [0.0, None, 0.5]


def test_nothing_in_short_is_nothing(dataset, tmp_path):
    nothing = dataset[["num_runs"]] * 0
    nothing.attrs = dataset.attrs
    assert in_short(nothing)["settings"] == []
    write_history(nothing, tmp_path / "history.csv")
    assert read_csv(tmp_path / "history.csv") == []


def test_the_history_is_a_table(dataset, tmp_path):
    write_history(dataset, tmp_path / "history.csv")
    rows = read_csv(tmp_path / "history.csv")
    assert len(rows) == 2 * 3 * len(STEPS) * 1 * 2
    (row,) = [
        row
        for row in rows
        if (row["setting"], row["seed"], row["step"], row["head"]) == ("heads=2", "1", "4", "1")
    ]
    assert float(row["loss"]) == 104
    assert float(row["entropy_mean"]) == 105
    assert "cause_share" not in row  # it has a dimension of its own
    lacking = [row for row in rows if (row["setting"], row["seed"]) == ("heads=2", "2")]
    assert {row["loss"] for row in lacking} == {""}
