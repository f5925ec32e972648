import os

import numpy as np
import pytest
import xarray as xr

from gat_jax.runtime import store


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


# --- blocks -------------------------------------------------------------------------------------

ATTRIBUTES = {"fields": [{"name": "one"}, {"name": "two"}]}
FORM = store.Form(2, np.float64, ATTRIBUTES)


def test_blocks_come_back_with_their_numbers_and_what_they_mean(tmp_path):
    blocks = store.Blocks(tmp_path, schema=7)
    for block in (3, 0):  # of which block 0 has values that are all zero
        values = {"gap": np.full(4, block, np.float32)}
        blocks.write("cell", block, np.array([block, 0.1]), ATTRIBUTES, values)
    again = store.Blocks(tmp_path, schema=7)
    assert again.present("cell") == [0, 3]
    assert again.present("another") == []
    assert again.read("cell", store.RECORD, 3, FORM).tolist() == [3, 0.1]
    assert again.read("cell", "gap", 3, store.Form(4, np.float32)).tolist() == [3] * 4


def test_a_block_of_zeros_is_there(tmp_path):
    blocks = store.Blocks(tmp_path, schema=7)
    blocks.write("cell", 0, np.zeros(2), ATTRIBUTES, {})
    assert blocks.present("cell") == [0]


def test_the_header_is_replaced_and_keeps_the_schema(tmp_path):
    blocks = store.Blocks(tmp_path, schema=7)
    assert blocks.header == {}
    blocks.set_header({"spec": {"seed": 1}})
    blocks.set_header({"spec": {"seed": 2}})
    assert store.Blocks(tmp_path, schema=7).header == {"spec": {"seed": 2}}


def test_a_store_of_another_schema_is_refused_and_left_alone(tmp_path):
    store.Blocks(tmp_path, schema=1).write("cell", 0, np.zeros(2), ATTRIBUTES, {})
    files = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    with pytest.raises(ValueError, match=r"out: expected a store of schema 2, got schema 1 in"):
        store.Blocks(tmp_path, schema=2)
    assert {file: file.read_bytes() for file in files} == files


@pytest.mark.parametrize(
    "form",
    [
        store.Form(3, np.float64, ATTRIBUTES),
        store.Form(2, np.float32, ATTRIBUTES),
        store.Form(2, np.float64),
        store.Form(2, np.float64, {"fields": [{"name": "one"}, {"name": "three"}]}),
    ],
)
def test_an_array_of_another_form_is_refused_and_is_no_damage(tmp_path, form):
    store.Blocks(tmp_path, schema=7).write("cell", 0, np.zeros(2), ATTRIBUTES, {})
    with pytest.raises(ValueError, match="out: expected the fields of schema 7, got others") as e:
        store.Blocks(tmp_path, schema=7).read("cell", store.RECORD, 0, form)
    assert not isinstance(e.value, store.DamagedBlockError)


@pytest.mark.parametrize("damage", ["flipped", "cut", "empty", "missing"])
def test_a_damaged_block_is_named(tmp_path, damage):
    blocks = store.Blocks(tmp_path, schema=7)
    blocks.write("cell", 0, np.ones(2), ATTRIBUTES, {})
    file = blocks.path / "cell" / store.RECORD / "c" / "0" / "0"
    whole = file.read_bytes()
    if damage == "missing":
        file.unlink()
    else:
        flipped = bytes([whole[0] ^ 1]) + whole[1:]
        file.write_bytes({"flipped": flipped, "cut": whole[:9], "empty": b""}[damage])
    with pytest.raises(store.DamagedBlockError, match=str(file)):
        blocks.read("cell", store.RECORD, 0, FORM)


def test_a_damaged_header_is_named(tmp_path):
    file = store.Blocks(tmp_path, schema=7).path / "zarr.json"
    file.write_text(file.read_text()[:50])
    with pytest.raises(ValueError, match=f"damaged file {file}"):
        store.Blocks(tmp_path, schema=7)


def test_damaged_metadata_of_an_array_are_written_anew(tmp_path):
    store.Blocks(tmp_path, schema=7).write("cell", 0, np.ones(2), ATTRIBUTES, {})
    file = tmp_path / "blocks" / "cell" / store.RECORD / "zarr.json"
    whole = file.read_text()
    file.write_text(whole[:50])
    again = store.Blocks(tmp_path, schema=7).read("cell", store.RECORD, 0, FORM)
    assert again.tolist() == [1, 1]
    assert file.read_text() == whole


def test_only_a_store_or_an_empty_folder_may_become_one(tmp_path):
    for leftover in (".lock", ".lock-held", ".new-abc"):
        (tmp_path / leftover).write_text("")
    store.check_store(tmp_path)
    (tmp_path / "thesis.txt").write_text("")
    with pytest.raises(ValueError, match="out: expected a sweep's store or a new path"):
        store.check_store(tmp_path)
    store.Blocks(tmp_path, schema=7)
    store.check_store(tmp_path)
