import os

import numpy as np
import pytest
import xarray as xr

from gat_jax.runtime import store
from gat_jax.runtime.blocks import Blocks


def test_save_and_load_keep_labels(tmp_path):
    dataset = xr.Dataset(
        {"share": (("layer", "heads"), np.eye(2))},
        coords={"layer": ["gat", "gatv2"], "heads": [1, 8]},
        attrs={"seed": 3},
    )
    store.save(dataset, tmp_path / "results.zarr")
    loaded = store.load(tmp_path / "results.zarr")
    assert float(loaded["share"].sel(layer="gatv2", heads=8)) == 1.0
    xr.testing.assert_identical(loaded.load(), dataset.assign_coords(layer=loaded["layer"]))


def test_load_refuses_what_is_not_there(tmp_path):
    with pytest.raises(ValueError, match=r"store: expected a Zarr store, got .*nothing"):
        store.load(tmp_path / "nothing")


def test_check_writable_names_the_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"out: expected a folder to write to, got .*file/results"):
        store.check_writable(tmp_path / "file" / "results")
    store.check_writable(tmp_path / "new" / "results")
    assert (tmp_path / "new" / "results").is_dir()
    assert os.listdir(tmp_path / "new" / "results") == []


def test_staged_replaces_files_and_folders(tmp_path):
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "old.png").write_text("old")
    (tmp_path / "claims.json").write_text("old")
    (tmp_path / "notes.txt").write_text("the user's own")
    with store.staged(tmp_path) as scratch:
        (scratch / "figures").mkdir()
        (scratch / "figures" / "new.png").write_text("new")
        (scratch / "claims.json").write_text("new")
        assert (tmp_path / "claims.json").read_text() == "old"
    assert sorted(os.listdir(tmp_path)) == ["claims.json", "figures", "notes.txt"]
    assert os.listdir(tmp_path / "figures") == ["new.png"]
    assert (tmp_path / "claims.json").read_text() == "new"


def test_staged_leaves_everything_when_the_body_fails(tmp_path):
    (tmp_path / "claims.json").write_text("old")

    def write():
        with store.staged(tmp_path) as scratch:
            (scratch / "claims.json").write_text("new")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write()
    assert os.listdir(tmp_path) == ["claims.json"]
    assert (tmp_path / "claims.json").read_text() == "old"


def test_only_a_store_or_an_empty_folder_may_become_one(tmp_path):
    for leftover in (".lock", ".lock-held", ".new-abc"):
        (tmp_path / leftover).write_text("")
    store.check_store(tmp_path)
    (tmp_path / "thesis.txt").write_text("")
    with pytest.raises(ValueError, match="out: expected a sweep's store or a new path"):
        store.check_store(tmp_path)
    Blocks(tmp_path, schema=7)
    store.check_store(tmp_path)
