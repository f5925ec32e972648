"""The command `diagnose`: what it reads, prints and writes, and how it refuses what is hostile."""

import json
import multiprocessing
import os
import pickle
import re
import subprocess
import sys
import zipfile
from dataclasses import fields
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pandas as pd
import pytest
from sweep_runs import one_line

from gat_jax.commands import diagnose
from gat_jax.diagnosis.models.observed import ObservedModel
from gat_jax.diagnosis.results import Check

SCRIPT = Path(__file__).parents[2] / "scripts" / "diagnose.py"
ODD = "<script>alert(1)</script>[red]\x1b[31m\u202e"  # of a node
NAMES = ("ann", "bob", "carl", "dora", ODD)
KEYS = {  # as docs/diagnosis.md says
    *("answer", "num_nodes", "num_edges", "twin_classes", "inseparable_classes", "layers"),
    *("loss_floor", "unavoidable_loss_floor", "checks", "remedies"),
}


def weights(**changes) -> dict[str, np.ndarray]:
    """Of a GATConv of one head, all of whose logits are positive on `inputs`."""
    arrays = {
        "conv.lin.weight": np.eye(2),
        "conv.att_src": np.ones((1, 1, 2)),
        "conv.att_dst": np.ones((1, 1, 2)),
        "conv.bias": np.zeros(2),
        "head.weight": np.zeros((3, 2)),
    }
    return arrays | {f"conv.{key}": array for key, array in changes.items()}


@pytest.fixture
def inputs(tmp_path, monkeypatch) -> Path:
    """Two nodes that send to three others, in the working folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GAT_JAX_COMPILE_CACHE", "off")
    lines = [f'{a},"{b}"' for a in NAMES[:2] for b in NAMES[2:]]
    Path("e.csv").write_text("sender,receiver\n" + "\n".join(lines), encoding="utf-8")
    rows = [f'"{name}",{k + 1},{2 * k}' for k, name in enumerate(NAMES)]
    Path("x.csv").write_text("id,a,b\n" + "\n".join(rows), encoding="utf-8")
    Path("y.csv").write_text(f'id,label\ncarl,red\n"{ODD}",blue\ndora,\n', encoding="utf-8")
    np.savez("w.npz", **weights())
    return tmp_path


GIVEN = {"--edges": "e.csv", "--features": "x.csv", "--weights": "w.npz"}


def option_of(field: str) -> str:
    """What the command line calls a field: `try` is a word of Python's own."""
    return field.replace("_", "-").removesuffix("-runs")


def run(*more, **changes) -> int:
    given = GIVEN | {f"--{name}": value for name, value in changes.items()}
    arguments = [x for pair in given.items() if pair[1] is not None for x in pair]
    return diagnose.main([str(argument) for argument in (*arguments, *more)])


def test_equal_nodes_are_found_told_and_written(inputs, capsys):
    outputs = ("--json", "out/d.json", "--csv", "d.csv")
    assert run(*outputs, "--no-self-loops", "--num-fresh", 0, labels="y.csv") == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert "\x1b" not in printed.out
    assert "  conv: PyG GATConv (2.5 and later), 1 head x 2 channels" in printed.out
    assert "head.weight" in printed.out  # which is no layer of attention
    found = json.loads(Path("out/d.json").read_text())
    assert set(found) >= KEYS
    assert printed.out.startswith(found["answer"] + "\n")
    # The receivers hear the same two senders, whose logits are all positive.
    assert (found["num_nodes"], found["num_edges"]) == (5, 6)
    assert list(NAMES[2:]) in found["layers"][0]["merged_classes"]
    (pair,) = [x for x in found["layers"][0]["pairs"] if x["nodes"] == ["carl", "dora"]]
    assert (pair["equal"], pair["causes"]) == (True, ["positive"])
    assert found["loss_floor"] == pytest.approx(np.log(2))  # two nodes, of which one is wrong
    assert found["unavoidable_loss_floor"] == 0
    table = pd.read_csv("d.csv")
    assert {("carl", "dora"), ("carl", ODD)} <= set(
        zip(table["first"], table["second"], strict=True)
    )
    assert sorted(x.name for x in inputs.iterdir() if x.name.startswith(".")) == []


# --- what follows a diagnosis ---------------------------------------------------------------------


@pytest.fixture
def found(inputs, monkeypatch) -> Mock:
    """A diagnosis that takes no time; it notes what it was asked for."""
    found = Mock(spec=diagnose.Diagnosis)
    found.asked = {}
    found.checks = (
        Check("inseparable_nodes", "warn", "Some are."),
        Check("conv.merged", "fail", "It merges."),
        Check("merged_nodes", "fail", "Two are equal."),
    )
    found.to_dict.return_value = {"answer": "yes", "names": [ODD]}
    found.frame.return_value = pd.DataFrame({"first": [ODD], "gap": [0.5]})
    found.summary.return_value = "The answer.\n  a table"

    def instead(model, **given):
        found.asked.update(given, model=model)
        return found

    monkeypatch.setattr(diagnose.diagnose, "from_observed", instead)
    return found


def test_the_graph_and_all_options_reach_the_diagnosis(found, capsys):
    np.savez("before.npz", **weights(bias=np.ones(2)))
    options = ("--before", "before.npz", "--num-fresh", 7, "--layers", "conv", "--slope", 0.5)
    assert run(*options, "--activation", "relu", labels="y.csv") == 0
    assert found.asked["node_names"] == NAMES
    assert found.asked["labels"].tolist() == [-1, -1, 1, -1, 0]
    assert found.asked["num_fresh"] == 7
    model, before = found.asked["model"], found.asked["before"]
    np.testing.assert_allclose(before.outputs, np.asarray(model.outputs) + 1)
    (layer,) = model.layers
    assert layer.layer.settings.slope == 0.5
    assert len(layer.graph.senders) == 6 + 5  # PyG adds self-loops
    assert capsys.readouterr().out.startswith("The answer.\n  a table\n")
    assert run("--no-self-loops") == 0
    assert len(found.asked["model"].layers[0].graph.senders) == 6
    assert found.asked["before"] is None


@pytest.mark.parametrize(("activation", "least"), [("relu", 0.0), ("none", -9.0)])
def test_the_activation_stands_between_layers(found, activation, least):
    layers = {"conv1": weights(bias=np.array([-10.0, 0.0])), "conv2": weights()}
    arrays = [(k.replace("conv", name), x) for name in layers for k, x in layers[name].items()]
    np.savez("two.npz", **dict(arrays))
    assert run("--activation", activation, weights="two.npz") == 0
    _, last = found.asked["model"].layers
    assert np.min(last.graph.nodes) == pytest.approx(least)


def test_options_of_trials_reach_them(found, monkeypatch):
    asked = {}
    monkeypatch.setattr(diagnose, "try_remedies", lambda *_, **given: asked.update(given) or ())
    options = diagnose.Options(Path("e.csv"), Path("w.npz"), try_runs=3, seed=7)
    diagnose._try_remedies(found, Mock(spec=ObservedModel), options)
    assert (asked["num_runs"], asked["seed"]) == (3, 7)


@pytest.mark.slow
def test_remedies_are_tried(inputs, capsys):
    options = ("--no-self-loops", "--num-fresh", 0, "--try", 2, "--json", "d.json")
    assert run(*options, labels="y.csv") == 0
    remedies = json.loads(Path("d.json").read_text())["remedies"]
    assert remedies
    assert all(remedy["tried"]["runs"] == 2 for remedy in remedies)
    assert "tried (2 runs of 100 steps)" in capsys.readouterr().out


def test_an_archive_may_hold_the_whole_graph(found):
    np.savez("g.npz", edge_index=[[0, 1], [1, 0]], x=np.ones((2, 2)), y=[0, 1])
    assert run(edges="g.npz", features=None) == 0
    assert found.asked["labels"].tolist() == [0, 1]
    assert found.asked["node_names"] is None


@pytest.mark.parametrize(
    ("wanted", "statuses", "reason"),
    [
        (None, ("warn", "fail", "fail"), None),
        ("merged", ("warn", "fail", "pass"), None),
        ("merged", ("warn", "fail", "fail"), "fail-on merged: merged_nodes: Two are equal."),
        ("fail", ("warn", "pass", "pass"), None),
        ("fail", ("warn", "fail", "fail"), "fail-on fail: conv.merged: It merges. (and 1 more)"),
        ("warn", ("pass", "pass", "pass"), None),
        ("warn", ("warn", "pass", "pass"), "fail-on warn: inseparable_nodes: Some are."),
    ],
)
def test_fail_on_decides_the_exit_code(found, capsys, wanted, statuses, reason):
    pairs = zip(found.checks, statuses, strict=True)
    found.checks = tuple(Check(check.name, status, check.text) for check, status in pairs)
    more = () if wanted is None else ("--fail-on", wanted)
    assert run(*more, "--json", "d.json") == (0 if reason is None else 1)
    printed = capsys.readouterr()
    assert "The answer." in printed.out
    expected = "" if reason is None else f"error: {reason}\n"
    assert printed.err == expected
    assert Path("d.json").is_file()


def test_a_page_that_fails_costs_one_line_and_code_1(found, capsys, monkeypatch):
    def write_page(diagnosis, path):
        found.asked["page"] = (diagnosis, path, Path("d.json").is_file())
        raise RuntimeError("no font\nat all")

    monkeypatch.setattr(diagnose.page, "write_page", write_page)
    outputs = ("--json", "d.json", "--csv", "d.csv", "--html", "why.html")
    assert run(*outputs, "--fail-on", "merged") == 1
    assert one_line(capsys) == (
        "error: missing: why.html (RuntimeError: no font); the numbers are in d.json and d.csv"
    )
    assert found.asked["page"] == (found, Path("why.html"), True)
    assert json.loads(Path("d.json").read_text()) == found.to_dict()
    assert pd.read_csv("d.csv").to_dict("list") == {"first": [ODD], "gap": [0.5]}
    monkeypatch.setattr(diagnose.page, "write_page", lambda _, path: path.write_text("<p>"))
    assert run(*outputs) == 0
    assert Path("why.html").read_text() == "<p>"


def test_numbers_that_cannot_be_written_cost_code_1_and_the_summary_is_printed(
    found, capsys, monkeypatch
):
    def refuse(*_):
        raise OSError(28, "No space left on device", "d.json")

    monkeypatch.setattr(diagnose, "_write", refuse)
    assert run("--json", "d.json") == 1
    printed = capsys.readouterr()
    assert printed.err == "error: No space left on device (d.json)\n"
    assert "The answer." in printed.out


# --- bad and hostile input ------------------------------------------------------------------------


class Payload:
    """What a pickle runs when it is opened."""

    def __reduce__(self):
        return os.mkdir, ("ran",)


def write_hostile() -> None:
    """Write files that claim or hide what they should not."""
    pickled = pickle.dumps(Payload())
    Path("plain.pt").write_bytes(pickled)
    with zipfile.ZipFile("zip.pt", "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/version", "3")
    Path("pickle.npy").write_bytes(pickled)
    np.save("objects.npy", np.array([Payload(), 1], object), allow_pickle=True)
    with zipfile.ZipFile("claim.npz", "w") as archive, archive.open("x.npy", "w") as member:
        header = {"descr": "<f4", "fortran_order": False, "shape": (2**20, 2**9)}
        np.lib.format.write_array_header_1_0(member, header)
    Path("wide.csv").write_text(",".join("0" * 10**6))
    Path("nul.csv").write_text("sender,receiver\nann,\0\n")
    Path("latin.csv").write_text("sender,receiver\n\xe4nn,bob\n", encoding="latin-1")
    Path("ids.csv").write_text("sender,receiver\n0,1\n7,1\n")
    Path("unknown.csv").write_text(f'sender,receiver\nann,"{ODD}x"\n', encoding="utf-8")
    bomb = "<!DOCTYPE g [<!ENTITY a 'ha'><!ENTITY b '&a;&a;'>]><graphml>&b;</graphml>"
    Path("bomb.graphml").write_text(bomb)
    np.save("x.npy", np.ones((5, 2)))
    np.save("nan.npy", np.full((5, 2), np.nan))
    np.save("short.npy", np.zeros(3, int))
    Path("none.csv").write_text("id,label\nann,\nbob,-1\n")
    np.savez("nan.npz", **weights(bias=np.array([np.nan, 0])))
    np.savez("nothing.npz", x=np.ones(3))
    Path("folder").mkdir()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights": "plain.pt"}, "plain.pt: expected weights as .pt, got "),
        ({"weights": "zip.pt"}, "zip.pt: expected weights as .pt, got "),
        ({"weights": "nan.npz"}, "nan.npz: conv.bias: expected finite numbers, got nan"),
        ({"weights": "nothing.npz"}, "nothing.npz: "),
        ({"weights": "claim.npz"}, "whose shape (1048576, 512) needs 2147483648"),
        ({"weights": "gone.npz"}, "gone.npz: expected weights as .npz, got no such file"),
        ({"before": "plain.pt"}, "plain.pt: expected weights as .pt, got "),
        ({"features": "pickle.npy"}, "pickle.npy: expected an array as .npy, got "),
        ({"features": "objects.npy"}, "with Python objects, which are not read"),
        ({"features": "claim.npz"}, "whose shape (1048576, 512) needs 2147483648"),
        ({"features": "wide.csv"}, "line 1: expected at most 100,000 columns, got 1,000,000"),
        ({"features": "nan.npy", "edges": "ids.csv"}, "nan.npy: expected finite numbers, got nan"),
        ({"features": "x.npy", "edges": "ids.csv"}, "ids.csv: line 3: expected ids in [0, 5)"),
        ({"edges": "wide.csv"}, "line 1: expected at most 100,000 columns, got 1,000,000"),
        ({"edges": "nul.csv"}, "nul.csv: expected a table (CSV), got a line with a NUL byte"),
        ({"edges": "latin.csv"}, "latin.csv: expected a table (CSV), got 'utf-8' codec can't"),
        ({"edges": "bomb.graphml"}, "bomb.graphml: expected a graph as .graphml, got <!DOCTYPE"),
        ({"edges": "unknown.csv"}, "unknown.csv: line 2: expected an id that x.csv has, got '<scr"),
        ({"edges": "folder"}, "folder: expected edges.csv or edge.csv.gz, got neither"),
        ({"labels": "none.csv"}, "labels: expected at least one label >= 0, got none"),
        ({"labels": "short.npy"}, "short.npy: expected 5 rows, one for each node of e.csv, got 3"),
        ({"json": "folder"}, "json: expected a file to write, got the folder folder"),
        ({"json": "w.npz"}, "json: expected a file of its own, got w.npz once more"),
        ({"csv": "a.csv", "html": "folder/../a.csv"}, "html: expected a file of its own, got "),
        ({"html": "e.csv/why.html"}, "html: expected a folder to write to, got e.csv"),
        ({"num-fresh": -1}, "num_fresh: expected at least 0, got -1"),
        ({"try": -1}, "try: expected at least 0, got -1"),
        ({"seed": -1}, "seed: expected a number in [0, 2^32), got -1"),
        ({"layers": "conv2"}, "w.npz: layers: expected names among "),
        ({"heads": 2}, "w.npz: heads: expected 1, as conv has them, got 2"),
        ({"activation": "selu"}, "activation"),
        ({"fail-on": "all"}, "fail-on"),
        ({"wieghts": "w.npz"}, "--wieghts"),
    ],
)
def test_bad_and_hostile_input_is_one_line_and_nothing_runs(found, capsys, changes, message):
    write_hostile()
    before = sorted(Path().iterdir())
    with pytest.raises(SystemExit) as stop:
        run(**({"json": "d.json"} | changes))
    assert stop.value.code == 2
    printed = capsys.readouterr()
    assert printed.err.count("\n") == 1
    assert message in printed.err
    assert "\x1b" not in printed.err
    assert found.asked == {}
    assert sorted(Path().iterdir()) == before  # nothing ran, and nothing was written
    assert multiprocessing.active_children() == []


def test_no_flag_takes_back_a_flag(found, capsys):
    with pytest.raises(SystemExit) as stop:
        run("--no-no-self-loops")
    assert stop.value.code == 2
    assert "--no-no-self-loops" in one_line(capsys)
    with pytest.raises(SystemExit) as stop:
        run("--seed", "1", "--seed", "2")
    assert "--seed: expected once, got twice" in one_line(capsys)


def test_help_names_the_options(capsys):
    with pytest.raises(SystemExit) as stop:
        diagnose.main(["--help"])
    assert stop.value.code == 0
    printed = capsys.readouterr().out
    for field in fields(diagnose.Options):
        assert f"--{option_of(field.name)}" in printed
    assert "--no-no-self-loops" not in printed


@pytest.mark.slow
def test_a_hostile_file_leaves_no_process(inputs):
    write_hostile()
    given = [x for pair in (GIVEN | {"--weights": "zip.pt"}).items() for x in pair]
    process = subprocess.Popen(
        [sys.executable, SCRIPT, *given],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    out, errors = process.communicate(timeout=120)
    assert (process.returncode, out) == (2, ""), errors
    assert errors.startswith("error: zip.pt: expected weights as .pt, got ")
    assert errors.count("\n") == 1
    assert not Path("ran").exists()
    with pytest.raises(ProcessLookupError):  # of its session nobody is left
        os.killpg(process.pid, 0)


def test_the_page_on_diagnoses_names_the_options_that_there_are():
    page = (SCRIPT.parents[1] / "docs" / "diagnosis.md").read_text(encoding="utf-8")
    known = {option_of(field.name) for field in fields(diagnose.Options)}
    assert set(re.findall(r"`--([a-z-]+)", page)) == known - {"compile-cache"}
