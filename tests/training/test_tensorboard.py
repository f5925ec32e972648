"""Event files of TensorBoard, read back frame by frame."""

import importlib.util
import struct
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from tensorboardX.proto.event_pb2 import Event

from gat_jax.training import tensorboard

STEPS = np.array([0, 10, 20])


@pytest.fixture
def dataset() -> xr.Dataset:
    """Two settings of two seeds; the last run is not there, and the first one stopped early."""
    loss = np.arange(12.0).reshape(2, 2, 3)
    loss[0, 0, 2] = np.nan
    entropy = 100.0 + np.arange(48.0).reshape(2, 2, 3, 2, 2)
    by_run, by_step = ("setting", "seed"), ("setting", "seed", "step")
    return xr.Dataset(
        {
            "loss": (by_step, loss),
            "entropy_mean": ((*by_step, "layer", "head"), entropy),
            "grad_norm": ((*by_step, "gradient"), np.full((2, 2, 3, 2), 0.5)),
            "entropy_histogram": ((*by_step, "entropy_bin"), np.ones((2, 2, 3, 4))),
            "num_steps": (by_run, np.array([[12.0, 20.0], [20.0, np.nan]])),
        },
        {
            "setting": ["heads=1, features=raw", "a/b"],
            "seed": [0, 1],
            "step": STEPS,
            "gradient": ["a_recv", "kernel"],
        },
    )


def events_of(folder: Path) -> list[Event]:
    """A frame is a length, its checksum, that many bytes, and theirs."""
    (file,) = folder.iterdir()
    content, found = file.read_bytes(), []
    while content:
        (size,) = struct.unpack("<Q", content[:8])
        found.append(Event.FromString(content[12 : 12 + size]))
        content = content[16 + size :]
    assert found[0].file_version == "brain.Event:2"
    return found[1:]


def test_every_run_has_a_folder_and_every_quantity_a_curve(dataset, tmp_path):
    tensorboard.write_events(dataset, tmp_path / "new" / "events")
    runs = {
        str(path.parent.relative_to(tmp_path / "new" / "events"))
        for path in tmp_path.rglob("*.tf*")
    }
    assert runs == {f"heads=1, features=raw/seed_{k}" for k in (0, 1)} | {"a_b/seed_0"}
    events = events_of(tmp_path / "new" / "events" / "heads=1, features=raw" / "seed_0")
    assert [event.step for event in events] == [0, 10, 20]
    found = [{value.tag: value.simple_value for value in event.summary.value} for event in events]
    curves = {f"entropy_mean/layer_{i}/head_{j}" for i in (1, 2) for j in (1, 2)}
    curves |= {"grad_norm/a_recv", "grad_norm/kernel"}
    assert set(found[0]) == set(found[1]) == curves | {"loss"}
    assert set(found[2]) == curves  # a run that has stopped has no loss
    for record, values in enumerate(found):
        expected = dataset["entropy_mean"].values[0, 0, record]
        assert values["entropy_mean/layer_2/head_1"] == expected[1, 0]


def test_the_same_runs_are_written_anew_and_other_files_stay(dataset, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "events.out.tfevents.1").write_text("of another program")
    (tmp_path / "a_b" / "seed_0").mkdir(parents=True)
    others = [tmp_path / "a_b" / "thesis.txt", tmp_path / "a_b" / "seed_0" / "events.out.mine"]
    for file in others:
        file.write_text("of the user")
    for _ in range(2):
        tensorboard.write_events(dataset, tmp_path)
        (earlier,) = (tmp_path / "a_b" / "seed_0").glob("*.gat_jax")
        earlier.rename(earlier.with_name(f"events.of.an.hour.ago{tensorboard.SUFFIX}"))
    tensorboard.write_events(dataset, tmp_path)
    for file in others:
        assert file.read_text() == "of the user"
        file.unlink()
    assert len(events_of(tmp_path / "a_b" / "seed_0")) == len(STEPS)  # of one file
    assert (tmp_path / "mine" / "events.out.tfevents.1").is_file()


def test_without_tensorboardx_the_extra_is_named(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    extra = r"pip install 'gat_jax\[tensorboard\]'\), got no tensorboardX$"
    with pytest.raises(ValueError, match=rf"^tensorboard: expected the extra .*{extra}"):
        tensorboard.write_events(dataset, tmp_path / "events")
    assert not (tmp_path / "events").exists()
