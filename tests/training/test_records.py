"""Runs as rows of numbers, and what is said of those that are damaged."""

import numpy as np
import pytest

from gat_jax.runtime.blocks import Blocks, DamagedBlockError
from gat_jax.training import TrainHistory, records
from gat_jax.training.seeds import Outcome

RUNS, RECORDS, LAYERS = 2, 3, 2
WHOLE = ("step", "kept_step", "num_steps", "status")


def some_run(seed: int = 0) -> tuple[TrainHistory, Outcome]:
    """History and outcome of two runs, in which no two numbers are alike and some are NaN."""
    rng = np.random.default_rng(seed)

    def some(name: str, *shape: int) -> np.ndarray:
        if name in WHOLE:
            return rng.integers(1000, size=shape).astype(np.int32)
        numbers = rng.normal(size=shape).astype(np.float32)
        numbers.flat[0] = np.nan
        return numbers

    wide = {"cause_share": (LAYERS, 10), "grad_norm": (LAYERS, 3)}
    layered = ("entropy", "twin_entropy", "twin_gap", "collided")
    shapes = dict.fromkeys(TrainHistory._fields, ()) | dict.fromkeys(layered, (LAYERS,)) | wide
    arrays = {name: some(name, RUNS, RECORDS, *shape) for name, shape in shapes.items()}
    arrays["measures"] = {"entropy_mean": some("", RUNS, RECORDS, LAYERS, 4)}
    arrays["status"] = some("status", RUNS)
    of_outcome = {"kept_entropy_histogram": (LAYERS, 4, 5)}
    outcome = Outcome(*(some(name, RUNS, *of_outcome.get(name, ())) for name in Outcome._fields))
    return TrainHistory(**arrays), outcome


@pytest.fixture
def blocks(tmp_path) -> Blocks:
    return Blocks(tmp_path, schema=records.SCHEMA)


def write(blocks: Blocks, arrays: dict[str, np.ndarray]) -> None:
    for run in range(RUNS):
        records.write_run(blocks, "key", run, {name: x[run] for name, x in arrays.items()})


def test_the_fields_of_schema_105(blocks):
    # Whoever changes this list has to change the number of the schema as well.
    assert records.SCHEMA == 105
    write(blocks, records.arrays_of(*some_run()))
    found = blocks.attributes("key", "record")["fields"]
    assert [(x["name"], tuple(x["shape"]), x["dtype"], x["start"]) for x in found] == [
        ("step", (3,), "int32", 0),
        ("loss", (3,), "float32", 3),
        ("accuracy", (3,), "float32", 6),
        ("entropy", (3, 2), "float32", 9),
        ("twin_entropy", (3, 2), "float32", 15),
        ("twin_gap", (3, 2), "float32", 21),
        ("collided", (3, 2), "float32", 27),
        ("cause_share", (3, 2, 10), "float32", 33),
        ("grad_norm", (3, 2, 3), "float32", 93),
        ("validation_loss", (3,), "float32", 111),
        ("validation_scores", (3,), "float32", 114),
        ("measures.entropy_mean", (3, 2, 4), "float32", 117),
        ("train_score", (), "float32", 141),
        ("validation_score", (), "float32", 142),
        ("test_score", (), "float32", 143),
        ("test_accuracy", (), "float32", 144),
        ("contested_accuracy", (), "float32", 145),
        ("other_accuracy", (), "float32", 146),
        ("kept_entropy_histogram", (2, 4, 5), "float32", 147),
        ("kept_step", (), "int32", 187),
        ("num_steps", (), "int32", 188),
        ("status", (), "int32", 189),
    ]


def test_runs_come_back_to_the_last_bit(blocks):
    arrays = records.arrays_of(*some_run())
    write(blocks, arrays)
    assert blocks.present("key") == [0, 1]
    for run in range(RUNS):
        found = records.read_run(blocks, "key", run)
        assert list(found) == list(arrays)
        for name, array in found.items():
            assert array.dtype == arrays[name].dtype
            assert array.tobytes() == arrays[name][run].tobytes(), name


def test_a_run_whose_file_is_damaged_is_named(blocks):
    write(blocks, records.arrays_of(*some_run()))
    (file,) = blocks.path.glob("key/record/c/1/0")
    whole = file.read_bytes()
    for damage in (bytes([whole[0] ^ 1]) + whole[1:], whole[:40], b""):
        file.write_bytes(damage)
        with pytest.raises(DamagedBlockError, match=f"^damaged block {file}"):
            records.read_run(blocks, "key", 1)
        records.read_run(blocks, "key", 0)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('"fields"', '"felds"'),
        ('"start"', '"begin"'),
        ('"zarr_format"', '"format"'),
    ],
)
def test_metadata_that_are_damaged_are_named_and_written_anew(tmp_path, blocks, before, after):
    arrays = records.arrays_of(*some_run())
    write(blocks, arrays)
    (file,) = blocks.path.glob("key/record/zarr.json")
    file.write_text(file.read_text().replace(before, after))
    opened = Blocks(tmp_path, schema=records.SCHEMA)
    with pytest.raises(DamagedBlockError, match=f"^damaged metadata of {blocks.path}/key: "):
        records.read_run(opened, "key", 0)


def test_scores_of_the_kept_state_and_of_every_record_are_told_apart():
    history, outcome = some_run()
    arrays = records.arrays_of(history, outcome)
    np.testing.assert_array_equal(arrays["validation_scores"], history.validation_score)
    np.testing.assert_array_equal(arrays["validation_score"], outcome.validation_score)
    assert len(arrays) == len(history) - 2 + len(history.measures) + len(outcome)
