"""Graph files: every array, whatever is in it."""

import numpy as np
import pytest
from helpers import write_graph

from gat_jax import graphs
from gat_jax.graphs import files
from gat_jax.runtime import devices

ARRAYS = {
    "senders": np.array([0, 1, 1, 2]),
    "receivers": np.array([1, 0, 2, 1]),
    "feat_indptr": np.array([0, 1, 2, 2]),
    "feat_indices": np.array([0, 1]),
    "feat_data": np.array([1.0, 2.0]),
    "feat_shape": np.array([3, 2]),
    "labels": np.array([1, 0, 0]),
    "labelled": np.array([True, True, False]),
}
FLOATING = {"feat_data", "labels", "labelled"}  # arrays that may hold whole numbers as floats
PARTS = {"train": 0, "val": 1, "test": 2}
NEGATIVE = {"feat_data"}
ALL = {"labelled": [True] * 3}  # a split needs a label for each of its nodes
MASK = [[True, False, False]]
MASKS = ALL | {"train_masks": MASK, "val_masks": [[0, 1, 0]], "test_masks": [[0.0, 0.0, 1.0]]}
IDS = ALL | {"train_idx": [0], "val_idx": [1], "test_idx": [2]}


def read(folder, **changes):
    write_graph(folder / "g.npz", **changes)
    return files.read_npz(folder / "g.npz")


def refuses(folder, match=None, **changes):
    """One line that begins with the file's name and holds a word on what was expected."""
    with pytest.raises(ValueError, match=match) as error:
        read(folder, **changes)
    text = str(error.value)
    assert text.startswith(f"{folder / 'g.npz'}: ")
    assert "expected" in text
    assert "\n" not in text


def test_read_npz_reads_features_labels_and_edges(tmp_path):
    task = read(tmp_path)
    assert task.name == "g"
    np.testing.assert_array_equal(task.graph.nodes, [[1, 0], [0, 2], [0, 0]])
    np.testing.assert_array_equal(task.labels, [1, 0, -1])
    np.testing.assert_array_equal(task.graph.receivers, [0, 1, 1, 2])
    np.testing.assert_array_equal(task.graph.senders, [1, 0, 2, 1])
    assert task.graph.nodes.dtype == np.float32
    assert task.labels.dtype == np.int32


def test_read_npz_reads_splits(tmp_path):
    labelled = np.array([True] * 3)
    eye = np.eye(3, dtype=bool)
    masks = {f"{part}_masks": np.stack([eye[k], eye[k - 1]]) for part, k in PARTS.items()}
    ids = {f"{part}_idx": np.array([k], np.uint8) for part, k in PARTS.items()}
    assert read(tmp_path).splits is None
    for found, num_splits in (
        (read(tmp_path, labelled=labelled, **masks).splits, 2),
        (read(tmp_path, labelled=labelled, **ids).splits, 1),
        (read(tmp_path, labelled=labelled, **masks, **ids).splits, 2),
    ):
        assert [x.dtype for x in found] == [bool] * 3
        for mask, expected in zip(found, masks.values(), strict=True):
            np.testing.assert_array_equal(mask, expected[:num_splits])


# --- every array x everything it may be -----------------------------------------------------------


@pytest.mark.parametrize("name", ARRAYS)
@pytest.mark.parametrize("dtype", ["i1", "u1", ">i2", "u8", ">i8", "i8"])
def test_integers_of_every_size_and_byte_order_are_read(tmp_path, name, dtype):
    task = read(tmp_path, **{name: ARRAYS[name].astype(dtype)})
    np.testing.assert_array_equal(task.graph.nodes, [[1, 0], [0, 2], [0, 0]])
    assert task.labels.tolist() == [1, 0, -1]


@pytest.mark.parametrize("name", ARRAYS)
@pytest.mark.parametrize("dtype", ["f2", "f4", ">f8", "f8", "?"])
def test_floats_and_truth_values_are_read_where_they_can_be_meant(tmp_path, name, dtype):
    changes = {name: ARRAYS[name].astype(dtype)}
    if name not in FLOATING:
        refuses(tmp_path, match=f"{name}: expected an integer dtype, got ", **changes)
    elif dtype != "?" or name != "feat_data":
        assert read(tmp_path, **changes).labels.tolist() == [1, 0, -1]
    else:
        np.testing.assert_array_equal(
            read(tmp_path, **changes).graph.nodes, [[1, 0], [0, 1], [0, 0]]
        )


@pytest.mark.parametrize("name", ARRAYS)
@pytest.mark.parametrize(
    "make",
    [
        lambda x: x.astype(str),
        lambda x: x.astype(bytes),
        lambda x: x.astype(complex),
        lambda x: x.astype("datetime64[s]"),
        lambda x: x.astype("timedelta64[s]"),
        lambda x: x.astype(object),
        lambda x: np.array([{} for _ in x], object),
        lambda x: x.astype([("a", int)]),
        lambda x: np.array(3),
        lambda x: np.array(None),
        lambda x: x[None],
        lambda x: np.stack([x, x]),
        lambda x: x[:0],
        lambda x: x[:-1],
        lambda x: np.append(x, x[:1]),
        lambda x: np.append(x, x),
    ],
    ids=[
        *("text", "bytes", "complex", "date", "time", "object", "dicts", "record"),
        *("scalar", "none", "row", "rows", "empty", "short", "long", "double"),
    ],
)
def test_arrays_of_another_kind_or_shape_are_refused(tmp_path, name, make):
    refuses(tmp_path, match=name, **{name: make(ARRAYS[name])})


@pytest.mark.parametrize("name", ARRAYS)
@pytest.mark.parametrize("value", [-1, -(2**63), 2**31, 2**40, 2**63 - 1])
@pytest.mark.parametrize("place", [0, -1])
def test_integers_out_of_range_are_refused(tmp_path, name, value, place):
    array = ARRAYS[name].astype(np.int64)
    array[place] = value
    if name == "feat_data" and value in (-1, -(2**63), 2**31, 2**40):
        assert (
            read(tmp_path, feat_data=array).graph.nodes[(0, 0) if place == 0 else (1, 1)] == value
        )
    elif name == "labels" and place == -1:  # unlabelled: anything may stand there
        assert read(tmp_path, labels=array).labels.tolist() == [1, 0, -1]
    else:
        refuses(tmp_path, **{name: array})


@pytest.mark.parametrize("name", ARRAYS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 0.5, 1e300])
def test_floats_that_are_no_numbers_of_the_kind_are_refused(tmp_path, name, value):
    array = ARRAYS[name].astype(np.float64)
    array[0] = value
    if name == "feat_data" and value == 0.5:
        assert read(tmp_path, feat_data=array).graph.nodes[0, 0] == 0.5
    else:
        refuses(tmp_path, match=f": {name}: expected ", **{name: array})


@pytest.mark.parametrize("name", ARRAYS)
def test_a_missing_array_is_named(tmp_path, name):
    refuses(tmp_path, match=f"got no array '{name}'$", **{name: None})


# --- one field after the other --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"senders": [0, 1, 1, 9]}, r"senders: expected ids in \[0, 3\), got 9"),
        ({"senders": [0, 1, 1]}, r"receivers: expected as many as senders \(3\), got 4"),
        ({"feat_indices": [0, 2]}, r"feat_indices: expected columns in \[0, 2\), got 2"),
        ({"feat_indices": [-1, 1]}, r"feat_indices: expected columns in \[0, 2\), got -1"),
        ({"feat_indptr": [0, 2, 1, 2]}, r"starts of rows that rise from 0, got 1 at \[2\]"),
        (
            {"feat_indptr": [0, 1, 2, 9]},
            r"feat_indices: expected 9 entries, as .* got shape \(2,\)",
        ),
        ({"feat_indptr": [1, 1, 2, 2]}, r"starts of rows that rise from 0, got 1 at \[0\]"),
        ({"feat_indptr": [0, 1, 2]}, r"feat_indptr: expected 4 entries, got shape \(3,\)"),
        ({"feat_indptr": [0, -1, 2, 2]}, r"feat_indptr: expected starts of rows in \[0, 9223"),
        ({"feat_data": [1.0, 2.0, 3.0]}, r"feat_data: expected 2 entries, .* got shape \(3,\)"),
        ({"feat_data": [1.0, 2**24 + 1]}, None),
        ({"feat_data": [1, 2**24 + 1]}, r"feat_data: expected whole numbers that float32 holds"),
        ({"feat_shape": [4, 2]}, "feat_indptr: expected 5 entries, got shape"),
        ({"feat_shape": [3, 0]}, r"feat_shape: expected at least one node and one feature, got \["),
        ({"feat_shape": [-3, -2]}, "feat_shape: expected at least one node and one feature"),
        ({"feat_shape": [3, 2, 1]}, r"feat_shape: expected two numbers, got shape \(3,\)"),
        ({"feat_shape": [3, 2**40]}, "feat_shape: expected at most .* GiB, a quarter"),
        ({"feat_shape": [2**62, 2**62]}, "feat_shape: expected at most .* GiB, a quarter"),
        ({"labels": [1, 0]}, r"labels: expected shape \(3,\), got \(2,\)"),
        ({"labels": [0.5, 0, 0]}, r"labels: expected whole numbers, got 0\.5 at \[0\]"),
        ({"labels": [1, np.nan, 0]}, r"labels: expected whole numbers, got nan at \[1\]"),
        ({"labels": [1, 0.0, np.nan]}, None),
        ({"labels": [-1, 0, 0]}, r"labels: expected class ids in \[0, 65536\), got -1"),
        ({"labels": [1, 10**6, 0]}, r"labels: expected class ids in \[0, 65536\), got 1000000"),
        ({"labelled": [1, 2, 0]}, "labelled: expected true or false, got 2"),
        ({"labelled": [1, 1, 0]}, None),
        ({"labelled": [0.0, 0.0, 0.0]}, None),
        ({"num_nodes": 4}, r"num_nodes: expected 3 as in feat_shape, got 4"),
        ({"num_nodes": [3]}, None),
        ({"num_nodes": 3.0}, None),
        ({"num_nodes": None}, None),
        ({"num_nodes": [3, 3]}, r"num_nodes: expected 3 as in feat_shape, got \[3, 3\]"),
        ({"num_nodes": np.nan}, "num_nodes: expected whole numbers, got nan"),
        ({"num_nodes": "three"}, "num_nodes: expected whole numbers, got dtype <U5"),
        ({"train_masks": MASK}, r"val_masks: expected it beside train_masks, got no such array"),
        ({"test_idx": [0]}, r"train_idx: expected it beside test_idx, got no such array"),
        (MASKS | {"val_masks": None}, "val_masks: expected it beside train_masks, got no such"),
        (MASKS | {"val_masks": [True]}, r"val_masks: expected shape \[splits, 3\], got \[1\]"),
        (MASKS | {"val_masks": [[True]]}, r"expected shape \[splits, 3\], got \[1, 1\]"),
        (MASKS | {"val_masks": np.zeros((0, 3), bool)}, r"\[splits, 3\], got \[0, 3\]"),
        (MASKS | {"val_masks": [[0, 1, 0]] * 2}, "val_masks: expected 1 splits as in train_masks"),
        (MASKS | {"val_masks": [[0.0, 2.0, 0.0]]}, "val_masks: expected true or false, got 2"),
        (MASKS | {"val_masks": [[0, -1, 0]]}, "val_masks: expected true or false, got -1"),
        (MASKS | {"val_masks": [[0, np.nan, 0]]}, "val_masks: expected whole numbers, got nan at"),
        (MASKS | {"val_masks": [["a", "b", "c"]]}, "val_masks: expected whole numbers, got dtype"),
        (MASKS | {"val_masks": [[False] * 3]}, "val_masks: expected nodes in every split, got"),
        (MASKS | {"val_masks": [[1, 0, 0]]}, "val_masks: expected no node of train_masks, got n"),
        (MASKS | {"labelled": [1, 1, 0]}, "test_masks: expected nodes with a label, got node 2 in"),
        (MASKS | {"train_idx": "anything"}, None),
        (MASKS, None),
        (IDS, None),
        (IDS | {"val_idx": [9]}, r"val_idx: expected ids in \[0, 3\), got 9"),
        (IDS | {"val_idx": [-1]}, r"val_idx: expected ids in \[0, 3\), got -1"),
        (IDS | {"val_idx": [1.0]}, "val_idx: expected an integer dtype, got float64"),
        (IDS | {"val_idx": [True]}, "val_idx: expected an integer dtype, got bool"),
        (IDS | {"val_idx": 1}, r"val_idx: expected a vector of node ids, got shape \(\)"),
        (IDS | {"val_idx": [[1]]}, r"val_idx: expected a vector of node ids, got shape \(1, 1\)"),
        (IDS | {"val_idx": [1, 1]}, "val_idx: expected every node once, got 1 several times"),
        (IDS | {"val_idx": []}, "val_idx: expected nodes in every split, got none in split 0"),
        (IDS | {"val_idx": [0]}, "val_idx: expected no node of train_idx, got node 0 in split 0"),
        ({"notes": np.array({"any": "thing"}, object)}, None),
    ],
)
def test_read_npz_says_what_each_array_has_to_be(tmp_path, changes, message):
    changes = {k: v if v is None else np.array(v) for k, v in changes.items()}
    if message is None:
        assert len(read(tmp_path, **changes).labels) == 3
    else:
        refuses(tmp_path, match=message, **changes)


def test_entries_that_a_row_holds_twice_are_added_up(tmp_path):
    task = read(
        tmp_path,
        feat_indptr=np.array([0, 3, 4, 4]),
        feat_indices=np.array([1, 0, 1, 1]),
        feat_data=np.array([200, 1, 100, 7], np.uint8),
    )
    np.testing.assert_array_equal(task.graph.nodes, [[1, 300], [0, 7], [0, 0]])
    refuses(
        tmp_path,
        match="feat_data: expected numbers that float32 holds, got 6e",
        feat_indptr=np.array([0, 2, 2, 2]),
        feat_indices=np.array([1, 1]),
        feat_data=np.array([3e38, 3e38]),
    )


def test_columns_of_a_row_may_stand_in_any_order(tmp_path):
    task = read(
        tmp_path,
        feat_indptr=np.array([0, 2, 2, 4]),
        feat_indices=np.array([1, 0, 1, 0]),
        feat_data=np.array([1.0, 2.0, 3.0, 4.0]),
    )
    np.testing.assert_array_equal(task.graph.nodes, [[2, 1], [0, 0], [4, 3]])


def test_a_graph_without_edges_is_read(tmp_path):
    none = np.zeros(0, np.int64)
    assert len(read(tmp_path, senders=none, receivers=none).graph.senders) == 0


def test_features_of_float64_that_float32_does_not_hold_are_refused_where_float64_is_on(
    tmp_path, x64
):
    del x64
    refuses(
        tmp_path,
        match=r"nodes: expected finite numbers, got inf at \[0, 0\]",
        feat_data=np.array([1e300, 2.0]),
    )


def test_a_dense_matrix_beyond_a_quarter_of_the_memory_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(devices, "host_memory", lambda: 4 * 4 * 3 * 1000)
    more = {"feat_shape": np.array([3, 1000])}
    assert read(tmp_path, **more).graph.nodes.shape == (3, 1000)
    refuses(tmp_path, match="feat_shape: expected at most", feat_shape=np.array([3, 1001]))


def test_a_name_that_no_result_could_be_written_under_is_refused(tmp_path):
    path = tmp_path / "caf\udce9.npz"  # bytes in Latin-1, as Python reads them
    write_graph(path)
    with pytest.raises(ValueError, match=r"graph: expected a name in UTF-8, got 'caf\\udce9\.npz'"):
        graphs.load_task(path)
