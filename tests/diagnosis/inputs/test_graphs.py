"""Graphs, features and labels of users: every format, which node is which, and every fault."""

import gzip
import io
import zipfile

import networkx as nx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.sparse
from helpers import edge_rows, write_graph

from gat_jax.diagnosis.inputs import graphs as inputs
from gat_jax.diagnosis.inputs import networks as inputs_networks
from gat_jax.graphs import csv_lines, datasets

NUMBERS = "sender,receiver\n0,2\n1,2\n3,0\n"
NAMES = "source\ttarget\nbob\tann\nann\tcarl\n"
EDGES = [[0, 3], [2, 0], [2, 1]]  # of NUMBERS, receivers first
X = np.array([[0.5, 1], [2, 3], [4, 5], [6, 7]], np.float32)


@pytest.fixture
def write(tmp_path):
    """A function that writes text, bytes or an array into a file, and returns its path."""

    def write(name, content):
        path = tmp_path / name
        if isinstance(content, np.ndarray):
            np.save(path, content)
        elif isinstance(content, dict):
            np.savez(path, **content)
        else:
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


def refuses(message, *paths):
    with pytest.raises(ValueError, match=message) as error:
        inputs.read_graph(*paths)
    text = str(error.value)
    assert "\n" not in text
    assert "expected" in text
    assert len(text) < 400 + sum(len(str(path)) for path in paths)


# --- edges ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("e.csv", NUMBERS),
        ("e.csv", "\ufeffreceiver, sender\r\n2,0\r\n2, 1\r\n0,3\r\n"),
        ("e.csv.gz", gzip.compress(NUMBERS.encode(), mtime=0)),
        ("e.tsv", NUMBERS.replace(",", "\t")),
        ("e.edgelist", "# a comment\n\n0 2\n1\t2\n 3   0 \n"),
        ("e.txt", "source target\n0 2\n1 2\n3 0\n"),
    ],
)
def test_edge_lists_of_numbers_are_read(write, name, text):
    found = inputs.read_graph(write(name, text), write("x.npy", X))
    assert edge_rows(found.graph).tolist() == EDGES
    np.testing.assert_array_equal(found.graph.nodes, X)
    assert found.node_names is None
    assert found.labels is None
    assert found.notes == ()


def test_names_are_numbered_as_they_appear_and_have_one_hot_features(write):
    found = inputs.read_graph(write("e.tsv", NAMES))
    assert found.node_names == ("bob", "ann", "carl")
    assert edge_rows(found.graph).tolist() == [[1, 0], [2, 1]]
    np.testing.assert_array_equal(found.graph.nodes, np.eye(3))
    assert "one-hot" in found.notes[0]


def test_numbers_from_0_are_the_nodes_and_others_are_names(write):
    found = inputs.read_graph(write("e.csv", "sender,receiver\n2,1\n0,1\n"))
    assert (found.node_names, edge_rows(found.graph).tolist()) == (None, [[1, 0], [1, 2]])
    found = inputs.read_graph(write("e.csv", "sender,receiver\n31,12\n7,12\n"))
    assert (found.node_names, edge_rows(found.graph).tolist()) == (
        ("31", "12", "7"),
        [[1, 0], [1, 2]],
    )
    found = inputs.read_graph(write("e.csv", "sender,receiver\n00,1\n0,1\n"))
    assert found.node_names == ("00", "1", "0")


def test_columns_of_numbers_are_edge_features(write):
    text = "weight,sender,kind,receiver\n0.5,0,1,1\n2,1,0,0\n"
    for name, content in (("e.csv", text), ("e.edges", "0 1 0.5 1\n1 0 2 0\n")):
        found = inputs.read_graph(write(name, content))
        assert edge_rows(found.graph).tolist() == [[0, 1, 2, 0], [1, 0, 0.5, 1]]
        assert "2 features, the columns " in found.notes[0]
    found = inputs.read_graph(write("e.csv", "sender,receiver,w\n0,1,2\n1,0,1\n"))
    assert found.notes[0] == "Edges have 1 feature, the column 'w' of the edge list."


def test_parquet_is_read(write, tmp_path):
    path = tmp_path / "e.parquet"
    pq.write_table(pa.table({"source": [0, 1, 3], "target": [2, 2, 0]}), path)
    found = inputs.read_graph(path, write("x.npy", X))
    assert (found.node_names, edge_rows(found.graph).tolist()) == (None, EDGES)
    names = pa.array(["bob", "ann", "bob"]).dictionary_encode()
    pq.write_table(pa.table({"sender": names, "w": [1, 2, 3], "receiver": ["a", "a", "b"]}), path)
    found = inputs.read_graph(path)
    assert found.node_names == ("bob", "a", "ann", "b")
    assert edge_rows(found.graph).tolist() == [[1, 0, 1], [1, 2, 2], [3, 0, 3]]
    for table, message in (
        ({"sender": [0, None], "receiver": [1, 1]}, "row 2: expected the id of a node"),
        ({"sender": [0.5], "receiver": [1]}, "sender: expected text or whole numbers, got double"),
        ({"sender": [0], "receiver": [1], "w": ["x"]}, "w: expected numbers, got string"),
        ({"sender": [0], "receiver": [1], "w": pa.array([None], pa.int8())}, "row 1: expected num"),
        ({"a": [0], "receiver": [1]}, "expected the columns sender,receiver"),
        ({"sender": [], "receiver": []}, "sender: expected text or whole numbers, got null"),
    ):
        pq.write_table(pa.table(table), path)
        refuses(message, path)
    pq.write_table(pa.table({"sender": [0, 9], "receiver": [1, 1]}), path)
    refuses(
        r"row 2: expected ids in \[0, 4\), as there are rows of features, got '9'",
        path,
        tmp_path / "x.npy",
    )
    path.write_bytes(b"PAR1 and more")
    refuses(r"expected a table \(Parquet\), got", path)


def test_a_table_of_parquet_beyond_the_memory_is_not_read(tmp_path, monkeypatch):
    # A run of a million equal numbers takes a few bytes.
    pq.write_table(
        pa.table({"sender": np.zeros(10**6, int), "receiver": np.zeros(10**6, int)}),
        tmp_path / "e.parquet",
    )
    assert (tmp_path / "e.parquet").stat().st_size < 10**5
    monkeypatch.setattr("gat_jax.diagnosis.inputs.edges.memory_limit", lambda: 10**8)
    refuses("over a quarter of the memory", tmp_path / "e.parquet")


@pytest.mark.parametrize("kind", ["graphml", "gexf", "gml"])
def test_formats_of_networkx_keep_names_and_attributes(tmp_path, kind):
    graph = nx.DiGraph()
    graph.add_node("ann", age=3.5)
    graph.add_node("bob", age=4.5)
    graph.add_edge("bob", "ann", weight=0.5)
    path = tmp_path / f"g.{kind}"
    getattr(nx, f"write_{kind}")(graph, path)
    found = inputs.read_graph(path)
    assert found.node_names == ("ann", "bob")
    assert edge_rows(found.graph).tolist() == [[0, 1, 0.5]]
    np.testing.assert_array_equal(found.graph.nodes, [[3.5], [4.5]])
    assert found.notes == (
        "The file's attribute 'weight' is read as edge features.",
        "The file's attribute 'age' is read as node features.",
    )
    labels = tmp_path / "y.csv"
    labels.write_text("bob,1\n")
    assert inputs.read_graph(path, None, labels).labels.tolist() == [-1, 1]


def test_undirected_edges_of_networkx_run_both_ways(tmp_path):
    nx.write_graphml(nx.path_graph(3), tmp_path / "g.graphml")
    found = inputs.read_graph(tmp_path / "g.graphml")
    assert edge_rows(found.graph).tolist() == [[0, 1], [1, 0], [1, 2], [2, 1]]
    np.testing.assert_array_equal(found.graph.nodes, np.eye(3))


def test_nodes_of_gml_without_labels_have_their_ids(write):
    text = "graph [ directed 1 node [ id 5 ] node [ id 7 ] edge [ source 5 target 7 ] ]"
    found = inputs.read_graph(write("g.gml", text))
    assert (found.node_names, edge_rows(found.graph).tolist()) == (("5", "7"), [[1, 0]])


BOMB = '<!DOCTYPE g [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]>'


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("g.graphml", BOMB + "<graphml>&b;</graphml>", "got <!DOCTYPE, which is not read"),
        ("g.gexf", "<!doctype g SYSTEM '/etc/passwd'><gexf/>", "got <!DOCTYPE, which is not"),
        ("g.graphml", BOMB.encode("utf-16"), "codec can't decode"),
        ("g.graphml", BOMB.encode("utf-16-le"), "got a NUL byte"),
        ("g.gexf", "<?xml version='1.0' encoding='cp037'?><gexf/>", "the encoding 'cp037'"),
        ("g.graphml", "<graphml>", "expected a graph as .graphml, got"),
        ("g.graphml", "", "expected a graph as .graphml, got"),
        ("g.gml", "graph [ node [ id 1", "expected a graph as .gml, got"),
        ("g.gml", "graph [" * 5000, "expected a graph as .gml, got"),
        ("g.gml", "graph [ ]", "expected at least one node, got none"),
    ],
)
def test_a_damaged_or_hostile_file_of_networkx_is_refused(write, name, data, message):
    refuses(message, write(name, data))


def test_a_file_that_would_fill_the_memory_is_not_parsed(write, monkeypatch):
    monkeypatch.setattr(inputs_networks, "memory_limit", lambda: 1000)
    refuses("too many for the memory", write("g.gml", "graph [ node [ id 1 label 2 ] ]"))


def test_archives_are_data_files_or_plain_arrays(write, tmp_path):
    write_graph(tmp_path / "data.npz")
    found = inputs.read_graph(tmp_path / "data.npz")
    assert found.labels.tolist() == [1, 0, -1]
    ends = {"edge_index": np.array([[0, 1, 3], [2, 2, 0]])}
    path = write("plain.npz", {**ends, "x": X, "y": [[1], [0], [-1], [2]], "edge_attr": [1, 2, 3]})
    found = inputs.read_graph(path)
    assert edge_rows(found.graph).tolist() == [[0, 3, 3], [2, 0, 1], [2, 1, 2]]
    assert found.labels.tolist() == [1, 0, -1, 2]
    found = inputs.read_graph(write("called.npz", {**ends, "features": X, "labels": [1, 0, 0, 2]}))
    np.testing.assert_array_equal(found.graph.nodes, X)
    assert found.labels.tolist() == [1, 0, 0, 2]
    found = inputs.read_graph(write("p.npz", {"senders": [0, 1], "receivers": [1, 1]}))
    assert (len(found.graph.nodes), len(found.notes)) == (2, 1)
    for arrays, message in (
        ({"edge_index": np.zeros((3, 2), int)}, r"edge_index: expected shape \[2, E\], got"),
        ({"senders": [0]}, "no array 'receivers'"),
        ({"senders": [0], "receivers": [-1]}, r"receivers: expected ids in \[0"),
        ({**ends, "x": X[:3]}, r"edge_index: expected ids in \[0, 3\), got 3"),
        ({**ends, "x": X * np.nan}, r"x: expected finite numbers, got nan at \[0, 0\]"),
        ({**ends, "y": [0, 1]}, "y: expected 4 labels, got 2"),
        ({**ends, "x": np.array([object()])}, "with Python objects, which are not read"),
    ):
        refuses(message, write("bad.npz", arrays))


def test_folders_and_built_in_names_are_read(tmp_path):
    found = inputs.read_graph(datasets.Path("tutorial"))
    assert found.labels.tolist() == [0, 0, 0, 1]
    (tmp_path / "edges.csv").write_text("sender,receiver\nbob,ann\n")
    assert inputs.read_graph(tmp_path).node_names == ("bob", "ann")
    (tmp_path / "x.csv").write_text("id,a\nann,1\nbob,2\n")
    assert inputs.read_graph(tmp_path, tmp_path / "x.csv").graph.nodes.tolist() == [[2], [1]]
    folder = tmp_path / "one"
    folder.mkdir()
    refuses("expected edges.csv or", folder)
    write_graph(folder / "a.npz")
    assert len(inputs.read_graph(folder).graph.nodes) == 3
    write_graph(folder / "b.npz")
    refuses("expected a folder with one graph, got 2", folder)


# --- features -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "0.5,1\n2,3\n4,5\n6,7\n",
        "a,b\n0.5,1\n2,3\n4,5\n6,7\n",
        "a,id,b\n6,3,7\n0.5,0,1\n2,1,3\n4,2,5\n",
        ",0,1\n0,0.5,1\n1,2,3\n2,4,5\n3,6,7\n",
    ],
)
def test_tables_of_features_have_a_header_and_ids_or_not(write, text):
    found = inputs.read_graph(write("e.csv", NUMBERS), write("x.csv", text))
    np.testing.assert_array_equal(found.graph.nodes, X)
    assert edge_rows(found.graph).tolist() == EDGES
    assert found.node_names is None


@pytest.mark.parametrize("header", ["", "Node\tage\n"])
def test_rows_of_features_with_names_give_the_nodes_their_order(write, header):
    table = write("x.tsv", header + "ann\t1\ndora\t2\ncarl\t3\nbob\t4\n")
    found = inputs.read_graph(write("e.tsv", NAMES), table)
    assert found.node_names == ("ann", "dora", "carl", "bob")
    assert edge_rows(found.graph).tolist() == [[0, 3], [2, 0]]
    np.testing.assert_array_equal(found.graph.nodes, [[1], [2], [3], [4]])


def test_archives_of_features_are_one_array_or_a_sparse_matrix(write, tmp_path):
    edges = write("e.csv", NUMBERS)
    sparse = scipy.sparse.csr_array(X)
    scipy.sparse.save_npz(tmp_path / "scipy.npz", sparse)
    parts = {"indptr": sparse.indptr, "indices": sparse.indices, "data": sparse.data}
    ours = {f"feat_{name}": part for name, part in parts.items()} | {"feat_shape": [4, 2]}
    for path in (
        tmp_path / "scipy.npz",
        write("ours.npz", ours),
        write("one.npz", {"anything": X}),
        write("two.npz", {"x": X, "other": X[:1]}),
    ):
        np.testing.assert_array_equal(inputs.read_graph(edges, path).graph.nodes, X)
    scipy.sparse.save_npz(tmp_path / "csc.npz", sparse.tocsc())
    refuses("format: expected csr, got", edges, tmp_path / "csc.npz")
    refuses(
        "expected one array, or one named x, got 'a, b'", edges, write("b.npz", {"a": X, "b": X})
    )


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.npy", X[:3], r"e.csv: line 4: expected ids in \[0, 3\), as there are rows of features"),
        ("x.npy", X[0], r"x.npy: expected an array \[rows, columns\], got shape"),
        ("x.npy", X * np.nan, r"x.npy: expected finite numbers, got nan at \[0, 0\]"),
        ("x.npy", X.astype(complex), "expected real numbers"),
        ("x.npy", b"hello", "expected an array as .npy, got"),
        ("x.npy", np.array([None, 1]), "with Python objects, which are not read"),
        ("x.pt", b"hello", "features: expected a file .npy, .npz, .csv or .tsv, got"),
        ("x.csv", "", "expected a row of features for each node, got none"),
        ("x.csv", "a,b\n", "expected a row of features for each node, got none"),
        ("x.csv", "1,2\n3\n", "line 2: expected 2 values, got 1"),
        ("x.csv", "1,2\n3,y\n", "line 2: expected numbers, got 'y'"),
        ("x.csv", "1,2\n3,nan\n", "line 2: expected finite numbers of float32, got nan"),
        ("x.csv", "id,a\n0,1\n0,2\n", "line 3: expected every id once, got '0' again"),
        ("x.csv", "id,a\n0,1\n,2\n", "line 3: expected the id of a node, got nothing"),
        ("x.csv", "id,a\n0,1\n1,2\n2,3\n", "line 4: expected an id that .*x.csv has, got '3'"),
        ("x.csv", b"1,2\n\xff,3\n", "codec can't decode byte 0xff"),
        ("x.csv", "1,2\n3,\0\n", "a line with a NUL byte after line 1"),
        ("x.csv", ",".join("0" * 10**6), "line 1: expected at most 100,000 columns, got 1,000,000"),
    ],
)
def test_faults_of_features_are_told_with_their_place(write, name, content, message):
    refuses(message, write("e.csv", NUMBERS), write(name, content))


def test_features_of_a_graph_that_lists_its_nodes_have_a_row_for_each(write):
    edges = write("g.npz", {"senders": [0, 1], "receivers": [1, 2], "x": X})
    table = write("x.csv", "id,a\n2,1\n0,2\n1,3\n3,4\n")
    assert inputs.read_graph(edges, table).graph.nodes.tolist() == [[2], [3], [1], [4]]
    refuses(
        "expected a row for every node, got none for 3",
        edges,
        write("x.csv", "id,a\n0,1\n1,1\n2,1\n"),
    )
    refuses(
        "line 3: expected the id of a node of .*g.npz, got '7'",
        edges,
        write("x.csv", "id,a\n0,1\n7,1\n"),
    )
    refuses(
        "x.npy: expected 4 rows, one for each node of .*g.npz, got 3", edges, write("x.npy", X[:3])
    )


def test_one_hot_features_beyond_the_memory_are_not_made(write, monkeypatch):
    monkeypatch.setattr("gat_jax.runtime.arrays.memory_limit", lambda: 10)
    refuses("expected a file of features for so many nodes", write("e.csv", NUMBERS))


# --- what files claim -----------------------------------------------------------------------------


def test_a_header_that_claims_two_gigabytes_is_not_believed(write, tmp_path):
    member = io.BytesIO()
    header = {"descr": "<f4", "fortran_order": False, "shape": (2**20, 2**9)}
    np.lib.format.write_array_header_1_0(member, header)
    edges = write("e.csv", NUMBERS)
    refuses("whose shape .* needs 2147483648", edges, write("x.npy", member.getvalue()))
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("x.npy", member.getvalue())
    refuses("whose shape .* needs 2147483648", edges, tmp_path / "x.npz")
    refuses("whose shape .* needs 2147483648", edges, None, write("y.npy", member.getvalue()))


def test_an_array_beyond_the_memory_is_not_read(write, monkeypatch):
    monkeypatch.setattr("gat_jax.graphs.archives.memory_limit", lambda: 10)
    refuses("over a quarter of the memory", write("e.csv", NUMBERS), write("x.npy", X))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("e.csv", "sender,receiver\n0,x\n", r"line 2: .* rows of features, got 'x'; a column id"),
        ("e.csv", "sender,receiver\n0,1\n4,1\n", r"line 3: expected ids in \[0, 4\), .*, got '4'$"),
        ("e.csv", "sender,receiver\n0,-1\n", r"line 2: expected ids in \[0, 4\)"),
        ("e.csv", "sender,receiver\n0,1\n99999999999999999999,1\n", "line 3: expected ids in"),
        ("e.csv", "a,b\n0,1\n", "line 1: expected the columns sender,receiver or source,target"),
        ("e.csv", "sender,receiver\n0\n", "line 2: expected 2 values, got 1"),
        ("e.csv", "sender,receiver\n0,\n", "line 2: expected the id of a node, got nothing"),
        (
            "e.csv",
            f"sender,receiver\n0,{'x' * 1001}\n",
            "an id of at most 1,000 letters, got 1,001",
        ),
        ("e.csv", "sender,receiver,w\n0,1,x\n", "line 2: expected numbers, got 'x'"),
        ("e.csv", "sender,receiver,w\n0,1,inf\n", "line 2: expected finite"),
        ("e.csv", "sender,receiver\n", "expected at least one edge, got none"),
        ("e.csv", "", "line 1: expected the columns"),
        ("e.csv", "sender,receiver\n0,\0\n", "a line with a NUL byte after line 1"),
        ("e.csv", NUMBERS.encode("utf-16"), "codec can't decode"),
        ("e.csv", "sender,receiver\n\xe9,1\n".encode("latin-1"), "codec can't decode"),
        ("e.csv", ",".join(map(str, range(10**6))), "at most 100,000 columns, got 1,000,000"),
        ("e.csv", "x" * 2**25, "a line of more than 16,777,216 letters"),
        ("e.txt", "0\n", "line 1: expected a sender and a receiver, got 1 words"),
        ("e.txt", "0 1\n\n1 2 3\n", "line 3: expected 2 values, got 3"),
        ("e.pt", b"", "edges: expected tutorial, .* or a file .csv, .tsv"),
        ("gone/e.csv", None, "no such file or directory"),
    ],
)
def test_faults_of_edges_are_told_with_their_place(write, tmp_path, name, content, message):
    path = tmp_path / name if content is None else write(name, content)
    refuses(message, path, write("x.npy", X))


# --- labels ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "expected", "names"),
    [
        ("y.npy", np.array([1, -1, 0, 2]), [1, -1, 0, 2], None),
        ("y.npy", np.array([[1.0], [np.nan], [0], [2]]), [1, -1, 0, 2], None),
        ("y.npy", np.array(["b", "", "a", "b"]), [1, -1, 0, 1], ("a", "b")),
        ("y.npz", {"y": [1, 0, 0, 1], "other": [1]}, [1, 0, 0, 1], None),
        ("y.txt", "red\n\nblue hat\nred\n", [1, -1, 0, 1], ("blue hat", "red")),
        ("y.csv", "label\n1\n-1\n\n0\n", [1, -1, -1, 0], None),
        ("y.csv", "1.0\nnan\n0.0\n10.0\n", [1, -1, 0, 10], None),
        ("y.csv", "age,Label,id\n5,red,2\n5,<b>,0\n", [0, -1, 1, -1], ("<b>", "red")),
        ("y.tsv", "3\tx\n0\ty\n", [1, -1, -1, 0], ("x", "y")),
    ],
)
def test_labels_are_numbers_or_names(write, name, content, expected, names):
    path = write(name, content)
    found = inputs.read_graph(write("e.csv", NUMBERS), write("x.npy", X), path)
    assert found.labels.tolist() == expected
    assert found.label_names == names


def test_labels_without_ids_say_how_many_nodes_there_are(write):
    found = inputs.read_graph(write("e.csv", NUMBERS), None, write("y.npy", np.arange(6)))
    assert found.graph.nodes.shape == (6, 6)
    assert edge_rows(found.graph).tolist() == EDGES


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("y.npy", np.zeros(3, int), "y.npy: expected 4 rows, one for each node of .*e.csv, got 3"),
        ("y.npy", np.zeros((4, 2), int), "expected one label for each node, got shape"),
        ("y.npy", np.full(4, 0.5), r"expected whole numbers, got 0.5 at \[0\]"),
        ("y.npy", np.full(4, -2), r"expected class ids in \[0, 65536\), got -2"),
        ("y.csv", "0\n1\n2\n", "y.csv: expected 4 rows, .* got 3"),
        ("y.csv", "0\n1\n2\n70000\n", r"line 4: expected class ids in \[0, 65536\), got 70000"),
        ("y.csv", "a,b,c\n", "line 1: expected a column label, or id and label, got 'a,b,c'"),
        ("y.csv", "id,label\n9,1\n", "line 2: expected the id of a node of .*e.csv, got '9'"),
        ("y.csv", "0,1\n0,2\n", "line 2: expected every id once"),
        ("y.json", "[]", "labels: expected a file .npy"),
    ],
)
def test_faults_of_labels_are_told_with_their_place(write, name, content, message):
    refuses(message, write("e.csv", NUMBERS), write("x.npy", X), write(name, content))


def test_names_may_be_anything_but_nothing(write):
    odd = "<script>alert(1)</script>\n[red]x[/red]\x1b[31m\u202e"
    text = f'sender,receiver\n"{odd}",b\n'
    assert inputs.read_graph(write("e.csv", text)).node_names == (odd, "b")
    refuses(r"got '<script>.*x1b\[31m", write("e.csv", text), write("x.npy", X[:2]))


def test_many_names_are_told_apart(write):
    ends = np.random.default_rng(0).integers(50, size=(400, 2))
    text = "sender,receiver\n" + "\n".join(f"n{a},n{b}" for a, b in ends.tolist())
    found = inputs.read_graph(write("e.csv", text))
    rows = [
        [found.node_names[int(k)] for k in row[::-1]] for row in edge_rows(found.graph).tolist()
    ]
    assert sorted(rows) == sorted([f"n{a}", f"n{b}"] for a, b in ends.tolist())


def test_the_memory_of_a_table_is_bounded(write, monkeypatch):
    monkeypatch.setattr("gat_jax.diagnosis.inputs.edges.memory_limit", lambda: 100)
    refuses("expected at most a quarter of the memory", write("e.csv", NUMBERS))
    assert csv_lines.MAX_COLUMNS == 100_000
