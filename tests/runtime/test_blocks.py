"""Blocks on disk: whole or absent, named where they are damaged, and never another's."""

import json
import os

import numpy as np
import pytest
import zarr

from gat_jax.runtime.blocks import RECORD, Blocks, DamagedBlockError, Form

ATTRIBUTES = {"fields": [{"name": "one"}, {"name": "two"}]}
FORM = Form(2, np.float64, ATTRIBUTES)


def test_blocks_come_back_with_their_numbers_and_what_they_mean(tmp_path):
    blocks = Blocks(tmp_path, schema=7)
    for block in (3, 0):  # of which block 0 has values that are all zero
        values = {"gap": np.full(4, block, np.float32)}
        blocks.write("cell", block, np.array([block, 0.1]), ATTRIBUTES, values)
    again = Blocks(tmp_path, schema=7)
    assert again.present("cell") == [0, 3]
    assert again.present("another") == []
    assert again.read("cell", RECORD, 3, FORM).tolist() == [3, 0.1]
    assert again.read("cell", "gap", 3, Form(4, np.float32)).tolist() == [3] * 4


def test_a_block_of_zeros_is_there(tmp_path):
    blocks = Blocks(tmp_path, schema=7)
    blocks.write("cell", 0, np.zeros(2), ATTRIBUTES, {})
    assert blocks.present("cell") == [0]


def test_the_header_is_replaced_and_keeps_the_schema(tmp_path):
    blocks = Blocks(tmp_path, schema=7)
    assert blocks.header == {}
    blocks.set_header({"spec": {"seed": 1}})
    blocks.set_header({"spec": {"seed": 2}})
    assert Blocks(tmp_path, schema=7).header == {"spec": {"seed": 2}}


def test_a_store_of_another_schema_is_refused_and_left_alone(tmp_path):
    Blocks(tmp_path, schema=1).write("cell", 0, np.zeros(2), ATTRIBUTES, {})
    files = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    with pytest.raises(ValueError, match=r"out: expected a store of schema 2, got schema 1 in"):
        Blocks(tmp_path, schema=2)
    assert {file: file.read_bytes() for file in files} == files


@pytest.mark.parametrize(
    "form",
    [
        Form(3, np.float64, ATTRIBUTES),
        Form(2, np.float32, ATTRIBUTES),
        Form(2, np.float64),
        Form(2, np.float64, {"fields": [{"name": "one"}, {"name": "three"}]}),
    ],
)
def test_an_array_of_another_form_is_refused_and_is_no_damage(tmp_path, form):
    Blocks(tmp_path, schema=7).write("cell", 0, np.zeros(2), ATTRIBUTES, {})
    with pytest.raises(ValueError, match="out: expected the fields of schema 7, got others") as e:
        Blocks(tmp_path, schema=7).read("cell", RECORD, 0, form)
    assert not isinstance(e.value, DamagedBlockError)


@pytest.mark.parametrize("damage", ["flipped", "cut", "empty", "missing"])
def test_a_damaged_block_is_named(tmp_path, damage):
    blocks = Blocks(tmp_path, schema=7)
    blocks.write("cell", 0, np.ones(2), ATTRIBUTES, {})
    file = blocks.path / "cell" / RECORD / "c" / "0" / "0"
    whole = file.read_bytes()
    if damage == "missing":
        file.unlink()
    else:
        flipped = bytes([whole[0] ^ 1]) + whole[1:]
        file.write_bytes({"flipped": flipped, "cut": whole[:9], "empty": b""}[damage])
    with pytest.raises(DamagedBlockError, match=str(file)):
        blocks.read("cell", RECORD, 0, FORM)


def test_a_damaged_header_is_named(tmp_path):
    file = Blocks(tmp_path, schema=7).path / "zarr.json"
    file.write_text(file.read_text()[:50])
    with pytest.raises(ValueError, match=f"damaged file {file}"):
        Blocks(tmp_path, schema=7)


def test_damaged_metadata_of_an_array_are_written_anew(tmp_path):
    Blocks(tmp_path, schema=7).write("cell", 0, np.ones(2), ATTRIBUTES, {})
    file = tmp_path / "blocks" / "cell" / RECORD / "zarr.json"
    whole = file.read_text()
    file.write_text(whole[:50])
    again = Blocks(tmp_path, schema=7).read("cell", RECORD, 0, FORM)
    assert again.tolist() == [1, 1]
    assert file.read_text() == whole


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64])
def test_chunks_are_those_that_zarr_writes_and_reads(tmp_path, dtype):
    values = {block: np.array([block, 0, 7 - block], dtype) for block in range(3)}
    blocks = Blocks(tmp_path, schema=7)

    def write(block):
        blocks.write("cell", block, np.zeros(2), ATTRIBUTES, {"kept": values[block]})

    write(0)
    array = zarr.open_array(tmp_path / "blocks" / "cell" / "kept", mode="r+")
    assert np.asarray(array[0]).tolist() == values[0].tolist()
    array[1] = values[1]
    assert blocks.read("cell", "kept", 1, Form(3, dtype)).tolist() == values[1].tolist()
    write(2)
    file = tmp_path / "blocks" / "cell" / "kept" / "c" / "2" / "0"
    ours = file.read_bytes()
    array[2] = values[2]
    assert file.read_bytes() == ours
    assert [x.name for x in file.parent.iterdir()] == ["0"]


def test_metadata_of_other_chunks_are_written_anew(tmp_path):
    Blocks(tmp_path, schema=7).write("cell", 0, np.ones(2), ATTRIBUTES, {})
    file = tmp_path / "blocks" / "cell" / RECORD / "zarr.json"
    whole = json.loads(file.read_text())
    others = ({"codecs": whole["codecs"][:1]}, {"chunk_key_encoding": {"name": "v2"}})
    for other in others:
        file.write_text(json.dumps({**whole, **other}))
        Blocks(tmp_path, schema=7).write("cell", 1, np.ones(2), ATTRIBUTES, {})
        assert json.loads(file.read_text()) == whole


def test_a_block_that_the_disk_refuses_leaves_nothing_behind(tmp_path, monkeypatch):
    blocks = Blocks(tmp_path, schema=7)
    blocks.write("cell", 0, np.ones(2), ATTRIBUTES, {})

    def refuse(*arguments):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", refuse)
        for block in (0, 1):
            with pytest.raises(OSError, match="No space"):
                blocks.write("cell", block, np.zeros(2), ATTRIBUTES, {})
    assert blocks.present("cell") == [0]
    assert blocks.read("cell", RECORD, 0, FORM).tolist() == [1, 1]
    assert [x.name for x in blocks.path.glob(f"cell/{RECORD}/c/*/*")] == ["0"]


@pytest.mark.parametrize("attributes", [None, [1], {}])
def test_metadata_that_say_nothing_are_damaged(tmp_path, attributes):
    made = Blocks(tmp_path, schema=3)
    form = Form(2, np.float64, {"fields": "a"})
    made.write("cell", 0, np.ones(2), form.attributes, {"kept": np.ones(3, np.float32)})
    file = made.path / "cell" / "record" / "zarr.json"
    text = json.dumps(json.loads(file.read_text()) | {"attributes": attributes})
    file.write_text(text)
    reader = Blocks(tmp_path, schema=3, is_read_only=True)
    with pytest.raises(DamagedBlockError, match=r"^damaged file .*record/zarr\.json"):
        reader.read("cell", "record", 0, form)
    assert len(reader.read("cell", "kept", 0, Form(3, np.float32))) == 3
    writer = Blocks(tmp_path, schema=3)
    np.testing.assert_array_equal(writer.read("cell", "record", 0, form), np.ones(2))
    assert reader.attributes("cell", "record") == form.attributes


def test_a_folder_in_the_place_of_metadata_is_damage(tmp_path):
    made = Blocks(tmp_path, schema=3)
    file = made.path / "cell" / "record" / "zarr.json"
    file.mkdir(parents=True)
    with pytest.raises(DamagedBlockError, match=r"^damaged file .*record/zarr\.json"):
        made.write("cell", 0, np.ones(2), {"fields": "a"}, {})


def test_metadata_that_zarr_consolidated_are_taken(tmp_path):
    made = Blocks(tmp_path, schema=3)
    made.write("cell", 7, np.ones(2), {"fields": "a"}, {})
    (made.path / "cell" / "record" / "c" / "08").mkdir()
    (made.path / "cell" / "record" / "c" / "08" / "0").write_bytes(b"of something else")
    with pytest.warns(zarr.errors.ZarrUserWarning, match="Consolidated metadata"):
        zarr.consolidate_metadata(made.path)
    assert Blocks(tmp_path, schema=3).present("cell") == [7]
