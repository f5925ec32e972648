"""Folders of tables: edge lists with named nodes, OGB's layout, and every fault on its line."""

import gzip

import numpy as np
import pytest
from helpers import edge_rows

from gat_jax import graphs
from gat_jax.graphs import csv_lines, tables
from gat_jax.runtime import devices

NAMED = {
    "edges.csv": "sender,receiver\nbob,ann\nann,carl\nbob,ann\n",
    "nodes.csv": "id,age,label,size\nann,1.5,1,2\nbob,0,,-3\ncarl,1e3,0,4\n",
}
OGB = {
    "edge.csv.gz": "0,1\n2,1\n1,0\n",
    "num-node-list.csv.gz": "3\n",
    "node-feat.csv.gz": "1.5,2\n0,-3\n1e3,4\n",
    "node-label.csv.gz": "1\n0\n2.0\n",
    "split/time/train.csv.gz": "2\n",
    "split/time/valid.csv.gz": "0\n",
    "split/time/test.csv.gz": "1\n",
}
FEATURES = [[1.5, 2], [0, -3], [1e3, 4]]


def write(folder, files):
    for name, text in files.items():
        if text is None:
            continue
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        data = text.encode() if isinstance(text, str) else text
        path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)


def read(folder, files, **changes):
    """A task; a change is the text of a file by its name, with _ in place of the first dot."""
    by_field = {name.split(".")[0].split("/")[-1].replace("-", "_"): name for name in files}
    write(folder, files | {by_field[field]: text for field, text in changes.items()})
    return tables.read_tables(folder)


def refuses(folder, files, name, message, **changes):
    with pytest.raises(ValueError, match=message) as error:
        read(folder, files, **changes)
    text = str(error.value)
    assert text.startswith(f"{folder / name}: ")
    assert "\n" not in text
    assert len(text) < 300 + len(str(folder))


# --- edges.csv ------------------------------------------------------------------------------------


def test_nodes_have_the_order_of_their_table(tmp_path):
    task = read(tmp_path, NAMED)
    assert task.name == tmp_path.name
    assert tables.read_node_ids(tmp_path) == ["ann", "bob", "carl"]
    np.testing.assert_array_equal(task.graph.nodes, FEATURES)
    assert task.graph.nodes.dtype == np.float32
    assert task.labels.tolist() == [1, -1, 0]
    assert edge_rows(task.graph).tolist() == [[0, 1], [0, 1], [2, 0]]
    assert task.splits is None


def test_without_a_table_nodes_have_the_order_of_their_first_appearance(tmp_path):
    task = read(tmp_path, NAMED, nodes=None)
    assert tables.read_node_ids(tmp_path) == ["bob", "ann", "carl"]
    np.testing.assert_array_equal(task.graph.nodes, np.eye(3))
    assert task.labels is None
    assert edge_rows(task.graph).tolist() == [[1, 0], [1, 0], [2, 1]]


def test_columns_may_have_the_names_and_the_order_of_others(tmp_path):
    text = '\ufefftarget, source\r\n"a, b",10\r\n'  # as spreadsheets write it
    task = read(tmp_path, NAMED, nodes=None, edges=text)
    assert edge_rows(task.graph).tolist() == [[1, 0]]
    assert tables.read_node_ids(tmp_path) == ["10", "a, b"]


def test_labels_are_whole_numbers_or_names(tmp_path):
    lines = "id,label\nann,{}\nbob,{}\ncarl,{}\n"
    for words, expected in (
        (("3", "0", ""), [3, 0, -1]),
        (("red", "", "blue"), [1, -1, 0]),
        (("10", "9", "x"), [0, 1, 2]),
        (("", "", ""), [-1, -1, -1]),
    ):
        task = read(tmp_path, NAMED, nodes=lines.format(*words))
        assert task.labels.tolist() == expected
        np.testing.assert_array_equal(task.graph.nodes, np.eye(3))


@pytest.mark.parametrize(
    ("changes", "name", "message"),
    [
        ({"edges": ""}, "edges.csv", "line 1: expected the columns sender,receiver or source,t"),
        ({"edges": "a,b\n0,1"}, "edges.csv", "line 1: expected the columns .*, got 'a,b'$"),
        ({"edges": "sender,target\n0,1"}, "edges.csv", "line 1: expected the columns"),
        ({"edges": "sender,receiver,weight\n"}, "edges.csv", "line 1: expected the columns"),
        ({"edges": "sender,sender\n"}, "edges.csv", "line 1: .* column once, got 'sender' twice"),
        ({"edges": "sender,receiver\nann\n"}, "edges.csv", "line 2: expected 2 values, got 1$"),
        ({"edges": "sender,receiver\n\n"}, "edges.csv", "line 2: expected 2 values, got 0$"),
        ({"edges": "sender,receiver\nann,bob\nann,dan\n"}, "edges.csv", "line 3: .* got 'dan'$"),
        ({"edges": 'sender,receiver\nann,"bob\n'}, "edges.csv", r"table \(CSV\), got .* after l"),
        ({"edges": b"sender,receiver\n\xff\xfe,b\n"}, "edges.csv", r"got 'utf-8' codec can't"),
        ({"nodes": ""}, "nodes.csv", "line 1: expected a column id, got ''$"),
        ({"nodes": "name\nann\n"}, "nodes.csv", "line 1: expected a column id, got 'name'$"),
        ({"nodes": "id\n"}, "nodes.csv", "expected at least one node, got none$"),
        ({"nodes": "id\nann\nann\n"}, "nodes.csv", "line 3: .* id once, got 'ann' again$"),
        ({"nodes": "id,a\nann,1\nbob\n"}, "nodes.csv", "line 3: expected 2 values, got 1$"),
        ({"nodes": "id,a\nann,1\nbob,x\n"}, "nodes.csv", "line 3: expected numbers, got 'x'$"),
        ({"nodes": "id,a\nann,1\nbob,\n"}, "nodes.csv", "line 3: expected numbers, got ''$"),
        ({"nodes": "id,a\nann,1\nbob,nan\n"}, "nodes.csv", "line 3: expected finite .* got nan$"),
        ({"nodes": "id,a\nann,1\nbob,1e39\n"}, "nodes.csv", r"line 3: .* got 1e\+39$"),
        ({"nodes": "id,a\nann,16777217\n"}, "nodes.csv", "line 2: expected whole .* 16777217.0$"),
        ({"nodes": "id,label\nann,70000\n"}, "nodes.csv", r"line 2: .* in \[0, 65536\), got 70000"),
    ],
)
def test_a_wrong_line_is_named(tmp_path, changes, name, message):
    refuses(tmp_path, NAMED, name, message, **changes)


# --- OGB ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("below", ["", "raw/"])
def test_the_layout_of_ogb_is_read(tmp_path, below):
    task = read(tmp_path, {k if "/" in k else below + k: text for k, text in OGB.items()})
    np.testing.assert_array_equal(task.graph.nodes, FEATURES)
    assert task.labels.tolist() == [1, 0, 2]
    assert edge_rows(task.graph).tolist() == [[0, 1], [1, 0], [1, 2]]
    assert [np.argmax(mask) for mask in task.splits] == [2, 0, 1]
    assert [mask.sum() for mask in task.splits] == [1, 1, 1]


def test_every_folder_of_splits_is_one(tmp_path):
    others = {name.replace("time", "degree"): text for name, text in OGB.items() if "/" in name}
    others["split/degree/train.csv.gz"], others["split/degree/test.csv.gz"] = "1\n", "2\n"
    task = read(tmp_path, OGB | others)
    assert [np.argmax(mask, axis=1).tolist() for mask in task.splits] == [[1, 2], [0, 0], [2, 1]]


def test_ogb_may_have_no_features_no_labels_and_no_splits(tmp_path):
    few = {name: text for name, text in OGB.items() if name in (tables.OGB_EDGES, tables.OGB_COUNT)}
    task = read(tmp_path, few)
    np.testing.assert_array_equal(task.graph.nodes, np.eye(3))
    assert task.labels is None
    assert task.splits is None


def test_nan_is_how_ogb_says_that_there_is_no_label(tmp_path):
    task = read(tmp_path, {k: v for k, v in OGB.items() if "/" not in k}, node_label="nan\n0\n1\n")
    assert task.labels.tolist() == [-1, 0, 1]


@pytest.mark.parametrize(
    ("changes", "name", "message"),
    [
        ({"edge": "0,3\n"}, "edge.csv.gz", r"line 1: expected ids in \[0, 3\), got '3'$"),
        ({"edge": "0,1\n-1,0\n"}, "edge.csv.gz", r"line 2: expected ids in .*, got '-1'$"),
        ({"edge": "0,1\n0.0,0\n"}, "edge.csv.gz", r"line 2: expected ids in .*, got '0.0'$"),
        ({"edge": "0,1\n0," + "9" * 9999}, "edge.csv.gz", "line 2: expected ids in .*, got '999"),
        ({"edge": "0,1,2\n"}, "edge.csv.gz", "line 1: expected 2 values, got 3$"),
        ({"num_node_list": None}, "num-node-list.csv.gz", "got no such file or directory$"),
        ({"num_node_list": ""}, "num-node-list.csv.gz", "got an empty one$"),
        ({"num_node_list": "3\n4\n"}, "num-node-list.csv.gz", "one graph, got 2 lines$"),
        ({"num_node_list": "0\n"}, "num-node-list.csv.gz", "of one graph, got 0.0$"),
        ({"num_node_list": "3.5\n"}, "num-node-list.csv.gz", "of one graph, got 3.5$"),
        ({"num_node_list": "nan\n"}, "num-node-list.csv.gz", "of one graph, got nan$"),
        ({"num_node_list": "4\n"}, "node-feat.csv.gz", "expected 4 lines as num-.*, got 3$"),
        ({"node_feat": "1,2\n1\n1,2\n"}, "node-feat.csv.gz", "line 2: expected 2 values, got 1$"),
        ({"node_feat": "1\nx\n1\n"}, "node-feat.csv.gz", "line 2: expected numbers, got 'x'$"),
        ({"node_feat": "1\n\n1\n"}, "node-feat.csv.gz", "line 2: expected 1 values, got 0$"),
        ({"node_feat": "1\n1\ninf\n"}, "node-feat.csv.gz", "line 3: expected finite .* got inf$"),
        ({"node_label": "0\n1\n"}, "node-label.csv.gz", "expected 3 lines as .*, got 2$"),
        ({"node_label": "0\n1,2\n0\n"}, "node-label.csv.gz", "line 2: expected 1 values, got 2$"),
        ({"node_label": "0\n0.5\n0\n"}, "node-label.csv.gz", "line 2: .* class ids in .* got 0.5$"),
        ({"node_label": "0\n-1\n0\n"}, "node-label.csv.gz", "line 2: .* class ids in .* got -1.0$"),
        ({"node_label": "0\n1\ninf\n"}, "node-label.csv.gz", "line 3: .* class ids in .* got inf$"),
        ({"train": "x\n"}, "split/time/train.csv.gz", "line 1: expected ids in .*, got 'x'$"),
        ({"train": None}, "split/time/train.csv.gz", "got no such file or directory$"),
        ({"train": "0\n"}, "split/time", "valid.csv.gz: expected no node of train.csv.gz, got"),
        ({"train": "2\n2\n"}, "split/time", "train.csv.gz: .* once, got 2 several times$"),
        ({"test": ""}, "split/time", "test.csv.gz: expected nodes in every split, got none in"),
        ({"node_label": None}, "split/time", "labels: expected some for the nodes of splits"),
    ],
)
def test_a_wrong_line_of_ogb_is_named(tmp_path, changes, name, message):
    refuses(tmp_path, OGB, name, message, **changes)


# --- files that are none --------------------------------------------------------------------------


def test_damaged_files_are_told_apart(tmp_path):
    write(tmp_path, OGB)
    path = tmp_path / "edge.csv.gz"
    whole = path.read_bytes()
    for data, message in (
        (b"0,1\n", "got Not a gzipped file"),
        (whole[:-9], "got Compressed file ended before the end-of-stream marker was reached"),
        (whole[:12] + b"\xff\xff\xff\xff" + whole[16:], r"expected a table \(CSV\), got "),
    ):
        path.write_bytes(data)
        with pytest.raises(ValueError, match=f"^{path}: .*{message}"):
            tables.read_tables(tmp_path)
    path.unlink()
    path.mkdir()
    with pytest.raises(ValueError, match=f"^{path}: .* got a directory"):
        tables.read_tables(tmp_path)


def test_a_file_that_unfolds_to_more_than_the_memory_is_refused(tmp_path, monkeypatch):
    zeros = "0\n" * 100_000
    monkeypatch.setattr(devices, "host_memory", lambda: 4 * 8 * 3000)
    short = NAMED["edges.csv"] + "bob,ann\n" * 20_000
    for files, name, changes in (
        (OGB, "node-feat.csv.gz", {"node_feat": zeros}),
        (OGB, "node-label.csv.gz", {"node_label": zeros}),
        (OGB, "edge.csv.gz", {"edge": "0,0\n" * 100_000}),
        (NAMED, "edges.csv", {"edges": short}),
        (NAMED, "nodes.csv", {"nodes": "id\n" + "".join(f"{k}\n" for k in range(9999))}),
    ):
        folder = tmp_path / name
        refuses(folder, files, name, "expected at most a quarter of the memory", **changes)


def test_a_line_without_an_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(csv_lines, "MAX_LINE", 1000)
    refuses(tmp_path, OGB, "node-feat.csv.gz", "a line of more than 1,000", node_feat="0," * 999)


def test_a_folder_without_tables_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"expected edges\.csv or edge\.csv\.gz, got neither$"):
        graphs.load_task(tmp_path)


def test_load_task_reads_folders_of_tables(tmp_path, monkeypatch):
    write(tmp_path / "mine", NAMED)
    monkeypatch.chdir(tmp_path / "mine")
    for source in (tmp_path / "mine", f"{tmp_path}/mine", ".", "../mine+self_loops"):
        task = graphs.load_task(source)
        name = "mine+self_loops" if str(source).endswith("loops") else "mine"
        assert task.name == name
        assert len(task.graph.nodes) == 3
