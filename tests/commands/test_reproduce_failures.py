"""Nothing that was computed is lost to what comes after: the main job with a study made up."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import SMALL_STUDY, write_graph
from studies.test_figures import make_dataset

from gat_jax.commands import reproduce
from gat_jax.graphs import from_edges
from gat_jax.report import style
from gat_jax.runtime import devices, store
from gat_jax.studies import CLAIMS, Claim, Measurement, Study, figures

ROOT = Path(__file__).parents[2]
EVERYTHING = {"claims.json", "figures", "playground.html", "report.html", "results.zarr"}


def made_up_study(_prepared, *, on_progress) -> Study:
    """Return a study of the right form without computing it; a graph's name holds brackets."""
    extra = {"graph.g[bold].with_loops.loss_floor": Claim("A floor.")}
    measured = dict.fromkeys(CLAIMS | extra, Measurement(0.5, 0.4, 0.6, 1000, "Half of them."))
    on_progress(1, 1)
    return Study(measured, extra, make_dataset())


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """No study is computed, and each figure is an empty one."""
    monkeypatch.setattr(reproduce, "run_study", made_up_study)

    def draw(dataset, theme):
        return style.new_figure("A title", 1.0, style.PALETTES[theme])

    for name in figures.FIGURES:
        monkeypatch.setitem(figures.FIGURES, name, draw)


def fail(*_, **__):
    raise RuntimeError("it broke\nin two lines")


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def run(out: Path, *more: str) -> int:
    return reproduce.main(["--out", str(out), *more])


def assert_numbers_are_there(out: Path) -> None:
    entries = json.loads((out / "claims.json").read_text())
    assert {entry["id"] for entry in entries} > set(CLAIMS)
    attributes = store.load(out / "results.zarr").attrs
    assert attributes["version_gat_jax"] == devices.own_version()


def test_everything_is_written_and_ids_are_printed_as_they_are(tmp_path, capsys):
    out = tmp_path / "run[red]"
    assert run(out) == 0
    assert names(out) == EVERYTHING
    assert_numbers_are_there(out)
    assert len(names(out / "figures")) == 4
    printed = capsys.readouterr().out
    assert "graph.g[bold].with_loops.loss_floor" in printed
    assert "run[red]: claims.json" in printed.replace("\n", "")


def test_a_figure_that_raises_costs_one_line_and_that_figure(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(figures.FIGURES, "survival", fail)
    assert run(tmp_path) == 1
    assert names(tmp_path) == EVERYTHING
    assert_numbers_are_there(tmp_path)
    drawn = {f"{name}.png" for name in figures.FIGURES if name != "survival"}
    assert names(tmp_path / "figures") == drawn
    assert "This picture could not be drawn" in (tmp_path / "report.html").read_text()
    (line,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("error: ")]
    expected = "error: missing: figures/survival.png (RuntimeError: it broke); the numbers are in "
    assert line.startswith(expected)
    assert str(tmp_path / "claims.json") in line


def test_a_page_that_raises_costs_one_line_and_the_page(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(reproduce, "write_page", fail)
    assert run(tmp_path) == 1
    assert names(tmp_path) == EVERYTHING - {"report.html"}
    assert_numbers_are_there(tmp_path)
    assert capsys.readouterr().err.count("missing: report.html (RuntimeError: it broke)") == 1


def test_a_playground_that_raises_costs_one_line_and_its_link(tmp_path, monkeypatch, capsys):
    assert run(tmp_path) == 0
    assert 'href="playground.html"' in (tmp_path / "report.html").read_text()
    monkeypatch.setattr("gat_jax.diagnosis.pages.playground.write_playground", fail)
    assert run(tmp_path) == 1
    assert names(tmp_path) == EVERYTHING - {"playground.html"}
    assert 'href="playground.html"' not in (tmp_path / "report.html").read_text()
    assert capsys.readouterr().err.count("missing: playground.html (RuntimeError: it broke)") == 1


def test_matplotlib_that_does_not_import_costs_the_figures_alone(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "gat_jax.studies.figures", None)  # its import fails then
    monkeypatch.delattr("gat_jax.studies.figures", raising=False)
    assert run(tmp_path) == 1
    assert names(tmp_path) == EVERYTHING - {"figures"}
    assert_numbers_are_there(tmp_path)
    assert "missing: figures/ (" in capsys.readouterr().err


def test_traceback_tells_of_everything_that_is_missing(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(figures.FIGURES, "survival", fail)
    monkeypatch.setattr(reproduce, "write_page", fail)
    assert run(tmp_path, "--traceback") == 1
    printed = capsys.readouterr().err
    assert printed.count("RuntimeError: it broke\n") == 2
    assert "ExceptionGroup: what is missing" in printed


def test_pictures_of_other_numbers_do_not_stay(tmp_path, monkeypatch):
    assert run(tmp_path) == 0
    for name in figures.FIGURES:
        monkeypatch.setitem(figures.FIGURES, name, fail)
    monkeypatch.setattr(reproduce, "write_page", fail)
    assert run(tmp_path) == 1
    assert names(tmp_path) == EVERYTHING - {"report.html"}
    assert names(tmp_path / "figures") == set()


def test_a_store_that_cannot_be_written_leaves_claims_json_and_the_table(
    tmp_path, monkeypatch, capsys
):
    def full(*_):
        raise OSError(28, "No space left on device", "results.zarr")

    monkeypatch.setattr(store, "save", full)
    assert run(tmp_path) == 1
    assert names(tmp_path) == {"claims.json"}
    printed = capsys.readouterr()
    assert "No space left on device (results.zarr)" in printed.err
    assert "init.collision.gat.h1 " in printed.out


def test_provenance_is_taken_before_the_study(tmp_path, monkeypatch):
    order = []
    monkeypatch.setattr(devices, "provenance", lambda: order.append("provenance") or {})

    def study(*arguments, **options):
        order.append("study")
        return made_up_study(*arguments, **options)

    monkeypatch.setattr(reproduce, "run_study", study)
    assert run(tmp_path) == 0
    assert order == ["provenance", "study"]


def test_interruption_is_one_line_and_code_130(tmp_path, monkeypatch, capsys):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(reproduce, "run_study", interrupted)
    assert run(tmp_path) == 130
    assert names(tmp_path) == set()
    assert capsys.readouterr().err.splitlines()[-1] == "error: interrupted"


def test_data_with_a_self_loop_is_refused_in_one_line(tmp_path, capsys):
    data = tmp_path / "data"
    data.mkdir()
    graph = from_edges([0, 1, 0], [1, 0, 0], nodes=np.eye(2, dtype=np.float32))
    np.savez(
        data / "looped.npz",
        num_nodes=np.int32(2),
        senders=graph.senders,
        receivers=graph.receivers,
        feat_indptr=np.arange(3),
        feat_indices=np.arange(2),
        feat_data=np.ones(2, np.float32),
        feat_shape=np.array([2, 2]),
        labels=np.array([0, 1]),
        labelled=np.ones(2, bool),
    )
    with pytest.raises(SystemExit) as stop:
        run(tmp_path / "out", "--data", str(data))
    assert stop.value.code == 2
    expected = "error: looped: graph: expected no self-loops yet, got 1 (the first at node 0)\n"
    assert capsys.readouterr().err == expected
    assert not (tmp_path / "out").exists()


# A process as of a checkout that is not installed: no metadata, a cache that cannot be written,
# and a figure that raises. Nothing but the sizes is made smaller.
BROKEN = """
import importlib.metadata as metadata
import runpy, sys

known = metadata.version
def version(name):
    if name == "gat_jax":
        raise metadata.PackageNotFoundError(name)
    return known(name)
metadata.version = version

sys.path.insert(0, {root!r})
from gat_jax.report import prepare_matplotlib
prepare_matplotlib()  # as the command does before it imports matplotlib
from gat_jax.studies import figures
def fail(dataset, theme):
    raise ZeroDivisionError("made up")
figures.FIGURES["remedies"] = fail
sys.argv = ["reproduce.py", *sys.argv[1:]]
runpy.run_path({script!r}, run_name="__main__")
"""


@pytest.mark.slow
def test_a_checkout_without_metadata_and_cache_and_with_a_broken_figure(tmp_path):
    out = tmp_path / "out"
    (tmp_path / "file").touch()
    program = BROKEN.format(root=str(ROOT), script=str(ROOT / "scripts" / "reproduce.py"))
    argv = [sys.executable, "-c", program, "--out", str(out), *SMALL_STUDY]
    environment = {name: value for name, value in os.environ.items() if name != "HOME"}
    environment["MPLCONFIGDIR"] = str(tmp_path / "file" / "below")
    done = subprocess.run(
        argv, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    (line,) = [x for x in done.stderr.splitlines() if not x.startswith("computing")]
    assert "missing: figures/remedies.png (ZeroDivisionError: made up); the numbers" in line
    assert names(out) == EVERYTHING
    assert_numbers_are_there(out)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"senders": [0, 1, 1, 2, 2], "receivers": [1, 0, 2, 1, 2]}, "no self-loops yet, got 1"),
        ({"labelled": [False] * 3}, "g: labels: expected at least one label >= 0, got none"),
        ({"labels": [[1, 0, 0]]}, "g.npz: labels: expected shape (3,), got (1, 3)"),
        ({"labels": [0.5, 0, 0]}, "g.npz: labels: expected whole numbers, got 0.5 at [0]"),
        ({"feat_shape": [3, 0]}, "g.npz: feat_shape: expected at least one node and one feature"),
        ({"feat_shape": [3, 2**40]}, "g.npz: feat_shape: expected at most"),
        ({"feat_indices": [0, 10**9]}, "g.npz: feat_indices: expected columns in [0, 2), got 1000"),
        ({"num_nodes": 7}, "g.npz: num_nodes: expected 3 as in feat_shape, got 7"),
    ],
)
def test_a_graph_that_cannot_be_studied_is_refused_before_anything_is_computed(
    tmp_path, capsys, monkeypatch, changes, message
):
    (tmp_path / "data").mkdir()
    changes = {name: np.array(value) for name, value in changes.items()}
    write_graph(tmp_path / "data" / "g.npz", **changes)
    monkeypatch.setattr(reproduce, "run_study", None)
    with pytest.raises(SystemExit) as stop:
        reproduce.main(["--data", str(tmp_path / "data"), "--out", str(tmp_path / "out")])
    printed = capsys.readouterr().err
    assert stop.value.code == 2
    assert message in printed
    assert printed.startswith("error: ")
    assert printed.count("\n") == 1
    assert not (tmp_path / "out").exists()
