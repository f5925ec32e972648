"""Blocks on disk: whole or absent, named where they are damaged, and never another's."""

import numpy as np
import pytest

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
