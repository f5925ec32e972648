"""Graphs by name: the built-in ones, random ones, and files."""

from pathlib import Path

import numpy as np
import oracle
import pytest
from helpers import edge_rows, write_graph
from scipy.spatial import distance

from gat_jax import graphs

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


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": -1}, "seed: expected at least 0, got -1"),
        ({"num_nodes": 0}, "num_nodes: expected at least 1, got 0"),
        ({"num_edges": -1}, "num_edges: expected at least 0, got -1"),
        ({"num_features": -1}, "num_features: expected at least 0, got -1"),
        ({"num_edge_features": -1}, "num_edge_features: expected at least 0, got -1"),
        *(
            ({field: value}, f"{field}: expected a whole number, got ")
            for field in ("seed", "num_nodes", "num_edges", "num_features", "num_twins")
            for value in ("3", 3.0, True, None)
        ),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_random_graph_refuses_sizes_that_are_none(changes, message):
    size = {"seed": 0, "num_nodes": 5, "num_edges": 4, "num_features": 1} | changes
    with pytest.raises(ValueError, match=message):
        graphs.random_graph(**size)


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
    write_graph(tmp_path / "small.npz")
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
            r"^graph: expected tutorial, karate_club, les_miserables, a folder or a \.npz file",
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


def test_load_directory_reads_all_in_order(tmp_path):
    with pytest.raises(ValueError, match=r"expected a directory with \.npz graphs"):
        graphs.load_directory(tmp_path)
    write_graph(tmp_path / "b.npz")
    write_graph(tmp_path / "a.npz")
    (tmp_path / "notes.txt").write_text("no graph")
    assert [task.name for task in graphs.load_directory(tmp_path)] == ["a", "b"]


@pytest.mark.usefixtures("unchecked")
def test_load_directory_takes_a_path_as_text_and_nothing_else(tmp_path):
    write_graph(tmp_path / "a.npz")
    assert [task.name for task in graphs.load_directory(str(tmp_path))] == ["a"]
    for directory in (None, 3, [tmp_path], b"x"):
        with pytest.raises(ValueError, match=r"^data: expected the path of a directory, got "):
            graphs.load_directory(directory)
    with pytest.raises(ValueError, match=r"^data: expected a directory .*, got nothing$"):
        graphs.load_directory("nothing")


def test_a_graph_without_a_name_is_refused():
    for source, got in (("", "''"), ("+self_loops", r"\+self_loops"), ("x", "x")):
        with pytest.raises(ValueError, match=rf"^graph: expected .* or a \.npz file, got {got}$"):
            graphs.load_task(source)


def test_load_directory_refuses_a_folder_with_the_name_of_a_graph(tmp_path):
    (tmp_path / "a.npz").mkdir()
    with pytest.raises(ValueError, match=r"a\.npz: expected a graph as \.npz, got a directory"):
        graphs.load_directory(tmp_path)


@pytest.mark.parametrize(
    "name", ["a b", "[red]", "netz\u00e9", "\u7db2", "it's", "a.b", "50%", "#1"]
)
def test_a_file_is_read_under_any_name_and_any_spelling(tmp_path, monkeypatch, name):
    write_graph(tmp_path / f"{name}.npz")
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path)
    spellings = (f"{name}.npz", f"./{name}.npz", f"below/../{name}.npz", tmp_path / f"{name}.npz")
    for source in spellings:
        task = graphs.load_task(source)
        assert task.name == name
        assert len(task.graph.nodes) == 3
    assert [task.name for task in graphs.load_directory(tmp_path)] == [name]
