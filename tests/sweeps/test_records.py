import numpy as np
import pytest
import zarr

from gat_jax.runtime.blocks import RECORD, Blocks, DamagedBlockError
from gat_jax.sampling import Counts
from gat_jax.sweeps import SweepSpec, prepare, records

HEADS = 3


def some_counts(number: int, num_inits: int = 7) -> Counts:
    """Counts in which no two numbers are alike."""
    fields = records.fields_of(HEADS)
    record = number + np.arange(1.0, fields[-1].stop + 1)
    return records.from_record(record, fields)._replace(num_inits=np.array(num_inits))


def assert_equal(one: Counts, two: Counts) -> None:
    for name, first, second in zip(Counts._fields, one, two, strict=True):
        np.testing.assert_array_equal(first, second, err_msg=name)
        assert np.asarray(first).dtype == np.asarray(second).dtype, name


@pytest.fixture
def entry():
    (entry,) = prepare(SweepSpec(heads=(HEADS,))).entries
    return entry._replace(num_inits=20, block_size=7)


@pytest.fixture
def blocks(tmp_path) -> Blocks:
    return Blocks(tmp_path, schema=records.SCHEMA)


def test_the_fields_of_the_schema():
    # Whoever changes this list has to change the number of the schema as well.
    assert records.SCHEMA == 4
    assert [(x.name, x.shape, x.dtype, x.start) for x in records.fields_of(HEADS)] == [
        ("num_inits", (), "int64", 0),
        ("collisions", (), "int64", 1),
        ("joint_causes", (11,), "int64", 2),
        ("regime_collisions", (), "int64", 13),
        ("head_causes", (3, 10), "int64", 14),
        ("all_pairs_collided", (), "int64", 44),
        ("class_collisions", (), "int64", 45),
        ("uniform_attention", (), "int64", 46),
        ("equal_outputs", (), "int64", 47),
        ("matching_outputs", (), "int64", 48),
        ("entropy_histogram", (50,), "int64", 49),
        ("gap_histogram", (51,), "int64", 99),
        ("squared_shares", (), "float64", 150),
        ("deficit_sum", (), "float64", 151),
        ("deficit_squares", (), "float64", 152),
        ("log_gap_sum", (), "float64", 153),
        ("log_gap_squares", (), "float64", 154),
    ]


def test_records_keep_every_count():
    fields = records.fields_of(HEADS)
    counts = some_counts(2**52)._replace(deficit_sum=np.array(0.1))
    assert_equal(records.from_record(records.to_record(counts, fields), fields), counts)


def test_a_store_says_by_itself_where_each_count_stands(blocks, entry):
    counts = some_counts(5)
    records.write_block(blocks, entry, 1, counts, {})
    array = zarr.open_array(blocks.path / entry.key / RECORD, mode="r")
    for field in array.attrs["fields"]:
        start, shape = field["start"], field["shape"]
        numbers = array[1, start : start + int(np.prod(shape))].reshape(shape)
        np.testing.assert_array_equal(numbers, getattr(counts, field["name"]))
    assert {field["name"] for field in array.attrs["fields"]} == set(Counts._fields)


def test_blocks_come_back_by_number_and_not_beyond_the_last(blocks, entry):
    for block, num_inits in ((0, 7), (2, 6), (3, 7)):
        records.write_block(blocks, entry, block, some_counts(block, num_inits), {})
    found, messages = records.read_blocks(blocks, entry)
    assert messages == []
    assert sorted(found) == [0, 2]
    for block, num_inits in ((0, 7), (2, 6)):
        assert_equal(found[block], some_counts(block, num_inits))


def test_a_last_block_of_a_smaller_sweep_is_left_out(blocks, entry):
    records.write_block(blocks, entry, 1, some_counts(1, 3), {})
    assert records.read_blocks(blocks, entry) == ({}, [])


def test_a_damaged_block_is_left_out_and_named(blocks, entry):
    for block in (0, 1):
        records.write_block(blocks, entry, block, some_counts(block), {})
    (file,) = blocks.path.glob("*/record/c/1/0")
    whole = file.read_bytes()
    file.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
    found, messages = records.read_blocks(blocks, entry)
    assert list(found) == [0]
    assert len(messages) == 1
    assert messages[0].startswith(f"damaged block {file}: ")
    with pytest.raises(DamagedBlockError):
        records.read_block(blocks, entry, 1)


def test_a_block_whose_kept_values_are_missing_is_damaged(blocks, entry):
    entry = entry._replace(is_kept=True)
    values = {name: np.zeros(7, dtype) for name, dtype in records.INIT_VALUES.items()}
    records.write_block(blocks, entry, 0, some_counts(0), values)
    records.write_block(blocks, entry, 1, some_counts(1), {})
    found, messages = records.read_blocks(blocks, entry)
    assert list(found) == [0]
    assert len(messages) == 1
    assert "damaged block: expected a file" in messages[0]


def test_records_of_other_fields_are_refused_and_not_computed_again(tmp_path, blocks, entry):
    records.write_block(blocks, entry, 0, some_counts(0), {})
    group = zarr.open_array(blocks.path / entry.key / RECORD, mode="r+")
    fields = group.attrs["fields"]
    group.attrs["fields"] = [{**fields[0], "name": "num_draws"}, *fields[1:]]
    with pytest.raises(ValueError, match=r"out: expected the fields of schema 4, got others in"):
        records.read_blocks(Blocks(tmp_path, schema=records.SCHEMA), entry)


def test_a_prefix_adds_up_in_order_as_far_as_there_is_no_gap(entry):
    blocks = [some_counts(k, entry.inits_of(k)) for k in range(3)]
    prefix = records.Prefix(entry)
    for block, num_inits, is_done in ((2, 0, False), (0, 7, False), (1, 20, True)):
        prefix.add(block, blocks[block])
        assert prefix.counts.num_inits == num_inits
        assert prefix.is_done == is_done
    expected = Counts(*(x + y + z for x, y, z in zip(*blocks, strict=True)))
    assert_equal(prefix.counts, expected)


def test_a_prefix_ends_where_the_precision_is_reached(entry):
    entry = entry._replace(precision=0.6)
    even = some_counts(0, 7)._replace(collisions=np.array(3))
    prefix = records.Prefix(entry)
    prefix.add(0, even)  # 3 of 7: between 0.10 and 0.82
    assert not prefix.is_done
    prefix.add(1, even)  # 6 of 14: between 0.18 and 0.71
    assert prefix.is_done
    prefix.add(2, even)  # comes too late
    assert prefix.counts.num_inits == 14


def test_a_prefix_takes_in_what_others_have_stored(blocks, entry):
    prefix = records.Prefix(entry)
    for block in (0, 2):
        records.write_block(blocks, entry, block, some_counts(block, entry.inits_of(block)), {})
    prefix.look_for_more(blocks)
    assert prefix.counts.num_inits == 7
    records.write_block(blocks, entry, 1, some_counts(1), {})
    prefix.look_for_more(blocks)
    assert prefix.is_done
