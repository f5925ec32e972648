"""Checkpoints: the same bits come back, and one that is damaged or not whole is none."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gat_jax.training import TrainHistory, checkpoints
from gat_jax.training.seeds import Progress
from gat_jax.training.stopping import Watch
from gat_jax.training.trainer import TrainState

RUNS = 3


def some_progress(num_records: int) -> Progress:
    """A chunk after so many records; its numbers are random, some are no numbers."""
    rng = np.random.default_rng(num_records)

    def some(*shape: int) -> jax.Array:
        return jnp.asarray(rng.normal(size=(RUNS, *shape)), jnp.float32).at[0].set(jnp.nan)

    params = ({"kernel": some(4, 2), "bias": some(2)},)
    whole = jnp.arange(RUNS, dtype=jnp.int32)
    watch = Watch(some(), some(), whole, whole, params, whole > 1)
    state = TrainState(params, (), whole + num_records, -whole, watch)
    records = []
    for _ in range(num_records):
        arrays = {name: some(1) for name in TrainHistory._fields} | {"step": whole[:, None]}
        arrays |= {"measures": {"entropy_mean": some(1, 2, 4)}, "status": None}
        records.append(TrainHistory(**arrays))
    return Progress(state, tuple(records), jnp.int32(num_records))


def assert_same(found: Progress | None, expected: Progress) -> None:
    assert found is not None
    assert found.num_begun == found.num_made == expected.num_made
    leaves, wanted = (jax.tree.leaves((x.state, x.history())) for x in (found, expected))
    assert len(leaves) == len(wanted)
    for one, other in zip(leaves, wanted, strict=True):
        assert one.dtype == other.dtype
        assert np.asarray(one).tobytes() == np.asarray(other).tobytes()


@pytest.mark.parametrize("num_records", [1, 5])
def test_the_same_bits_come_back(tmp_path, num_records):
    progress = some_progress(num_records)
    checkpoints.save(tmp_path, "chunk", progress)
    assert [path.name for path in tmp_path.iterdir()] == [f"chunk.{num_records}"]
    assert_same(checkpoints.load(tmp_path, "chunk", some_progress(1)), progress)
    assert checkpoints.load(tmp_path, "other", some_progress(1)) is None


def test_records_that_were_not_made_are_left_out(tmp_path):
    """Runs that have all stopped end a call before its last record."""
    progress, made = some_progress(5), 3
    records = tuple(jax.tree.map(lambda x, k=k: x + k, x) for k, x in enumerate(progress.records))
    stopped = Progress(progress.state, records, jnp.int32(made))
    checkpoints.save(tmp_path, "chunk", stopped)
    assert [path.name for path in tmp_path.iterdir()] == [f"chunk.{made}"]
    expected = Progress(progress.state, records[:made], jnp.int32(made))
    assert_same(checkpoints.load(tmp_path, "chunk", some_progress(1)), expected)


def test_a_checkpoint_takes_the_place_of_those_before_it(tmp_path):
    for number in (1, 2, 2):
        checkpoints.save(tmp_path, "chunk", some_progress(number))
        checkpoints.save(tmp_path, "chunk2", some_progress(number))
    assert {path.name for path in tmp_path.iterdir()} == {"chunk.2", "chunk2.2"}
    checkpoints.remove(tmp_path, "chunk")
    assert [path.name for path in tmp_path.iterdir()] == ["chunk2.2"]


def test_one_that_was_being_written_is_passed_over(tmp_path):
    """A process that is killed leaves one under Orbax's name, or without its checksum."""
    earlier = some_progress(2)
    checkpoints.save(tmp_path, "chunk", earlier)
    shutil.copytree(tmp_path / "chunk.2", tmp_path / "chunk.3")
    (tmp_path / "chunk.3" / checkpoints.CHECKSUM).unlink()
    shutil.copytree(tmp_path / "chunk.2", tmp_path / "chunk.4.orbax-checkpoint-tmp-1")
    assert_same(checkpoints.load(tmp_path, "chunk", some_progress(1)), earlier)
    checkpoints.save(tmp_path, "chunk", some_progress(3))
    assert [path.name for path in tmp_path.iterdir()] == ["chunk.3"]


def test_one_that_is_damaged_is_none(tmp_path, capfd):
    checkpoints.save(tmp_path, "chunk", some_progress(2))
    files = [path for path in (tmp_path / "chunk.2").rglob("*") if path.is_file()]
    assert len(files) > 4
    for file in files:
        whole = file.read_bytes()
        middle = len(whole) // 2
        flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
        for damage in (flipped, whole[:middle], None):
            file.unlink() if damage is None else file.write_bytes(damage)
            assert checkpoints.load(tmp_path, "chunk", some_progress(1)) is None
            file.write_bytes(whole)
    assert capfd.readouterr().err == ""
    assert_same(checkpoints.load(tmp_path, "chunk", some_progress(1)), some_progress(2))


def test_one_of_another_form_is_none(tmp_path):
    progress = some_progress(2)
    checkpoints.save(tmp_path, "chunk", progress)
    example = some_progress(1)
    example = example._replace(state=example.state._replace(watch=None))
    assert checkpoints.load(tmp_path, "chunk", example) is None
