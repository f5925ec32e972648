import numpy as np
import pytest

from gat_jax.graphs import datasets


def write(path, **changes):
    """Three nodes in a row, features [[1, 0], [0, 2], [0, 0]], the last one unlabelled."""
    arrays = {
        "num_nodes": np.int32(3),
        "feat_indptr": np.array([0, 1, 2, 2], np.int32),
        "feat_indices": np.array([0, 1], np.int32),
        "feat_data": np.array([1, 2], np.float32),
        "feat_shape": np.array([3, 2], np.int32),
        "labels": np.array([1, 0, 0], np.int32),
        "labelled": np.array([True, True, False]),
        "senders": np.array([0, 1, 1, 2], np.int32),
        "receivers": np.array([1, 0, 2, 1], np.int32),
    } | changes
    np.savez(path, **{name: value for name, value in arrays.items() if value is not None})


def test_load_reads_features_labels_and_edges(tmp_path):
    write(tmp_path / "small.npz")
    task = datasets.load(tmp_path / "small.npz")
    assert task.name == "small"
    np.testing.assert_array_equal(task.graph.nodes, [[1, 0], [0, 2], [0, 0]])
    np.testing.assert_array_equal(task.labels, [1, 0, -1])
    np.testing.assert_array_equal(task.graph.receivers, [0, 1, 1, 2])
    np.testing.assert_array_equal(task.graph.senders, [1, 0, 2, 1])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": None}, "labels"),
        ({"senders": np.array([0, 1, 1, 9])}, r"senders: expected ids in \[0, 3\), got 9"),
        ({"labels": np.array([1, 0]), "labelled": np.array([True, True])}, "expected 3 labels"),
        ({"feat_data": np.array([1, np.nan], np.float32)}, "expected finite numbers"),
        ({"feat_data": np.array([{}, {}], object)}, "allow_pickle=False"),
    ],
)
def test_load_refuses_in_one_line_with_the_file(tmp_path, changes, message):
    write(tmp_path / "bad.npz", **changes)
    with pytest.raises(ValueError, match=message) as error:
        datasets.load(tmp_path / "bad.npz")
    assert str(error.value).startswith(f"{tmp_path / 'bad.npz'}: ")
    assert "\n" not in str(error.value)


def test_load_refuses_other_files(tmp_path):
    (tmp_path / "text.npz").write_text("hello")
    for name in ("text.npz", "absent.npz"):
        with pytest.raises(ValueError, match=r"expected a graph as .npz, got no such file or"):
            datasets.load(tmp_path / name)


def test_load_directory_reads_all_in_order(tmp_path):
    with pytest.raises(ValueError, match=r"expected a directory with \.npz graphs"):
        datasets.load_directory(tmp_path)
    write(tmp_path / "b.npz")
    write(tmp_path / "a.npz")
    assert [task.name for task in datasets.load_directory(tmp_path)] == ["a", "b"]


def test_karate_club_has_its_two_clubs():
    task = datasets.karate_club()
    # Zachary: the instructor's (node 0) and the president's (node 33) sides, 17 members each.
    assert np.bincount(task.labels).tolist() == [17, 17]
    assert (task.labels[0], task.labels[33]) == (0, 1)
