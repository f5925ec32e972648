"""Graphs by name: the built-in ones, random ones, and files."""

from pathlib import Path

import numpy as np
import oracle
import pytest
from helpers import edge_rows
from scipy.spatial import distance

from gat_jax import graphs
from gat_jax.graphs import datasets

# --- built-in graphs ------------------------------------------------------------------------------


def test_tutorial_graph_is_the_oracles():
    graph = graphs.tutorial_graph()
    np.testing.assert_array_equal(graph.senders, oracle.SENDERS)
    np.testing.assert_array_equal(graph.receivers, oracle.RECEIVERS)
    np.testing.assert_array_equal(graph.nodes, oracle.FEATURES)


@pytest.mark.parametrize(
    ("graph", "num_nodes", "num_edges"),
    [
        (graphs.karate_club(), 34, 78),
        (graphs.les_miserables(), 77, 254),
    ],
)
def test_built_in_graphs_have_their_sizes_and_run_both_ways(graph, num_nodes, num_edges):
    assert (len(graph.nodes), len(graph.senders)) == (num_nodes, 2 * num_edges)
    ones = set(zip(graph.senders.tolist(), graph.receivers.tolist(), strict=True))
    assert ones == {(r, s) for s, r in ones}
    assert all(s != r for s, r in ones)
    assert np.array_equal(graph.nodes, np.eye(num_nodes))


@pytest.mark.parametrize("num_edge_features", [0, 2])
def test_random_graph_plants_twins_and_repeats_itself(num_edge_features):
    size = {"num_nodes": 12, "num_edges": 30, "num_features": 3}
    options = {**size, "num_edge_features": num_edge_features, "num_twins": 4}
    graph = graphs.random_graph(3, **options)
    pairs = oracle.twin_pairs(graph.senders, graph.receivers, 12, graph.edges)
    assert {(i, i + 4) for i in range(4, 8)} <= {pair[:2] for pair in pairs}
    np.testing.assert_array_equal(edge_rows(graph), edge_rows(graphs.random_graph(3, **options)))
    other = graphs.random_graph(4, **options)
    assert distance.cdist(graph.nodes, other.nodes).min() > 0


def test_random_graph_refuses_more_twins_than_pairs_of_nodes():
    with pytest.raises(ValueError, match="num_twins: expected 0 to 2, got 3"):
        graphs.random_graph(0, num_nodes=5, num_edges=4, num_features=1, num_twins=3)


# --- graphs by name -------------------------------------------------------------------------------


def test_load_task_knows_every_name_of_the_one_list():
    assert graphs.GRAPH_NAMES == ("tutorial", "karate_club", "les_miserables")
    for name in graphs.GRAPH_NAMES:
        task = graphs.load_task(name)
        assert task.name == name
        np.testing.assert_array_equal(edge_rows(graphs.load_graph(name)), edge_rows(task.graph))
        assert task.labels is None or len(task.labels) == len(task.graph.nodes)


def test_load_task_knows_labels():
    assert graphs.load_task("tutorial").labels.tolist() == [0, 0, 0, 1]
    assert graphs.load_task("les_miserables").labels is None
    # Zachary: the instructor's (node 0) and the president's (node 33) sides, 17 members each.
    clubs = graphs.load_task("karate_club").labels
    assert np.bincount(clubs).tolist() == [17, 17]
    assert (clubs[0], clubs[33]) == (0, 1)


def test_load_task_adds_self_loops_where_the_name_says_so(tmp_path):
    write(tmp_path / "small.npz")
    for source, name in (
        ("karate_club+self_loops", "karate_club+self_loops"),
        (f"{tmp_path / 'small.npz'}+self_loops", "small+self_loops"),
    ):
        task = graphs.load_task(source)
        without = graphs.load_graph(source.removesuffix("+self_loops"))
        assert task.name == name
        looped = graphs.add_self_loops(without)
        np.testing.assert_array_equal(edge_rows(task.graph), edge_rows(looped))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "petersen",
            r"^graph: expected tutorial, karate_club, les_miserables or a \.npz file",
        ),
        (Path("graph.csv"), r"or a \.npz file, got graph\.csv$"),
        ("petersen+self_loops", r"got petersen\+self_loops$"),
        ("tutorial+self_loops", "no self-loops yet, got 4"),
        ("absent.npz+self_loops", r"^absent\.npz: expected a graph as \.npz"),
    ],
)
def test_load_task_says_what_it_cannot_load(source, message):
    with pytest.raises(ValueError, match=message):
        graphs.load_task(source)


# --- files ----------------------------------------------------------------------------------------


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


def test_read_npz_reads_features_labels_and_edges(tmp_path):
    write(tmp_path / "small.npz")
    task = datasets.read_npz(tmp_path / "small.npz")
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
def test_read_npz_refuses_in_one_line_with_the_file(tmp_path, changes, message):
    write(tmp_path / "bad.npz", **changes)
    with pytest.raises(ValueError, match=message) as error:
        datasets.read_npz(tmp_path / "bad.npz")
    assert str(error.value).startswith(f"{tmp_path / 'bad.npz'}: ")
    assert "\n" not in str(error.value)


def test_read_npz_refuses_other_files(tmp_path):
    (tmp_path / "text.npz").write_text("hello")
    for name in ("text.npz", "absent.npz"):
        with pytest.raises(ValueError, match=r"expected a graph as .npz, got no such file or"):
            datasets.read_npz(tmp_path / name)


def test_load_directory_reads_all_in_order(tmp_path):
    with pytest.raises(ValueError, match=r"expected a directory with \.npz graphs"):
        datasets.load_directory(tmp_path)
    write(tmp_path / "b.npz")
    write(tmp_path / "a.npz")
    assert [task.name for task in datasets.load_directory(tmp_path)] == ["a", "b"]
