import os
import subprocess
import sys

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


# --- datasets change as a whole -------------------------------------------------------------------


def version(number: int, size: int = 3) -> xr.Dataset:
    """A dataset whose numbers all say which version it is; every third version is of zeros."""
    value = number % 3
    return xr.Dataset(
        {
            "count": (("layer", "heads"), np.full((2, size), value)),
            "share": (("layer", "heads"), np.full((2, size), float(value))),
            "by_bin": (("bin",), np.full(2, value)),
            "scalar": ((), value),
            "is_done": (("layer",), np.full(2, value > 0)),
        },
        coords={"layer": ["gat", f"gatv{number}"], "heads": np.arange(size) + number},
        attrs={"number": number},
    )


def number_of(dataset: xr.Dataset) -> int:
    """Which version was read; it has to be one, in all its parts."""
    dataset = dataset.load()
    number = dataset.attrs["number"]
    size = dataset.sizes["heads"]
    xr.testing.assert_equal(
        dataset.astype(float, keep_attrs=False).drop_vars("layer"),
        version(number, size).astype(float, keep_attrs=False).drop_vars("layer"),
    )
    assert dataset.layer.values.tolist() == ["gat", f"gatv{number}"]
    return number


class Killed(BaseException):
    """In the place of SIGKILL: nothing catches it, and nothing after it is done."""


@pytest.mark.parametrize("step", [9, pytest.param(1, marks=pytest.mark.slow)])
def test_a_kill_at_any_rename_leaves_the_old_dataset_or_the_new_one(tmp_path, monkeypatch, step):
    path, seen = tmp_path / "store", []
    store.save(version(0), path)
    replace = os.replace
    # Nothing is cleaned up after a kill.
    monkeypatch.setattr(store.stops, "_remove", lambda path: None)
    for number in range(1, 60, step):
        left = number

        def counting(source, target):
            nonlocal left
            left -= 1
            if left == 0:
                raise Killed
            replace(source, target)

        monkeypatch.setattr(os, "replace", counting)
        before = number_of(xr.open_zarr(path))
        try:
            store.save(version(before + 1, 3 + before % 2), path)
            seen.append("whole")
        except Killed:
            seen.append("killed")
        monkeypatch.setattr(os, "replace", replace)
        assert number_of(xr.open_zarr(path)) - before in (0, 1)
        if seen[-1] == "whole":
            break
    assert seen.count("killed") > 12 // step
    assert seen[-1] == "whole"


def test_a_reader_that_has_opened_a_dataset_reads_it_to_its_end(tmp_path):
    store.save(version(0), tmp_path / "store")
    for number in range(1, 6):
        opened = xr.open_zarr(tmp_path / "store", chunks=None)
        store.save(version(number), tmp_path / "store")
        assert number_of(opened) == number - 1
        assert number_of(xr.open_zarr(tmp_path / "store")) == number
        assert number_of(xr.open_zarr(tmp_path / "store", consolidated=False)) == number


def test_other_arrays_go_and_other_things_stay(tmp_path):
    store.save(version(0), tmp_path / "store")
    (tmp_path / "store" / "notes.txt").write_text("the user's own")
    # `count` has fewer dimensions now, so that its chunks have names that were folders.
    other = xr.Dataset({"count": (("heads",), np.arange(3))}, coords={"heads": [1, 2, 3]})
    for _ in range(5):
        store.save(other, tmp_path / "store")
        xr.testing.assert_equal(xr.open_zarr(tmp_path / "store").load(), other)
        arrays = {x.parent.name for x in (tmp_path / "store").glob("*/zarr.json")}
        assert arrays == {"count", "heads"}
        for number in (1, 2):  # three in all: each of them has each scheme of names once
            store.save(version(number), tmp_path / "store")
            assert number_of(xr.open_zarr(tmp_path / "store")) == number
    assert (tmp_path / "store" / "notes.txt").is_file()
    assert not list((tmp_path / "store").glob(".new-*"))


@pytest.mark.parametrize("damage", ["", "{", "[]", "{}", '{"consolidated_metadata": 3}', "\udcff"])
def test_a_damaged_dataset_is_replaced(tmp_path, damage):
    store.save(version(0), tmp_path / "store")
    (tmp_path / "store" / "zarr.json").write_bytes(damage.encode(errors="surrogateescape"))
    store.save(version(1), tmp_path / "store")
    assert number_of(xr.open_zarr(tmp_path / "store")) == 1


def test_scratch_of_processes_that_have_ended_is_removed_and_no_other(tmp_path):
    node = store.platform.node()
    ended = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    names = {
        f".new-{node}-{ended}-abc": False,
        f".new-{node}-{os.getpid()}-abc": True,
        f".new-{node}-1-abc": True,
        f".new-{node}-x-abc": True,
        f".new-elsewhere-{ended}-abc": True,
    }
    for name in names:
        (tmp_path / name).mkdir()
    with store.staged(tmp_path) as folder:
        (folder / "file").touch()
    assert {name: (tmp_path / name).exists() for name in names} == names
