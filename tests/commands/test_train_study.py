"""`gat-jax train --study`: options, exit codes, what it prints and what it writes."""

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
from sweep_runs import one_line
from training_runs import write_splits

from gat_jax.commands import train, train_study
from gat_jax.graphs import random_graph
from gat_jax.runtime import stops
from gat_jax.studies import twins_study
from gat_jax.studies.twins_rules import Row
from gat_jax.training import State


@pytest.fixture(autouse=True)
def flags(monkeypatch) -> None:
    """Flags of XLA that a study leaves as they are."""
    monkeypatch.setenv("XLA_FLAGS", os.environ.get("XLA_FLAGS", ""))


@pytest.fixture
def folder(tmp_path) -> Path:
    """A folder with two graphs that have no self-loops."""
    graph = random_graph(0, num_nodes=24, num_edges=80, num_features=5, num_twins=4)
    is_kept = np.asarray(graph.senders) != np.asarray(graph.receivers)
    ends = {"senders": graph.senders[is_kept], "receivers": graph.receivers[is_kept]}
    for name in ("one", "two"):
        write_splits(tmp_path / f"{name}.npz", **ends)
    return tmp_path


def run(*arguments) -> int:
    return train.main(["--study", *(str(argument) for argument in arguments)])


def made_up(prepared, folder, *, should_stop, on_progress):
    """Rows without runs."""
    rng = np.random.default_rng(0)
    on_progress(State(3, prepared.num_runs))
    assert not should_stop()
    return {
        (place, network): Row(facts.twins, *rng.uniform(size=(8, prepared.config.num_seeds)))
        for place, facts in prepared.places.items()
        for network in twins_study.NETWORKS
    }


def test_rows_and_verdicts_are_written_and_printed(folder, capsys, monkeypatch):
    monkeypatch.setattr(twins_study, "run_twins_study", made_up)
    options = ["--data-dir", folder, "--graphs", "one", "two", "--num-seeds", 3]
    assert run(*options, "--out", folder / "out") == 0
    found = json.loads((folder / "out" / "study.json").read_text())
    assert found["config"] == {"num_seeds": 3, "seed": 0, "num_steps": None} | {
        "graphs": ["one", "two"]
    }
    assert len(found["rows"]) == 2 * 2 * len(twins_study.NETWORKS)
    assert found["origin"]["version_jax"]
    printed = capsys.readouterr().out
    assert "14 networks, without and with self-loops, from 3 seeds each: 84 runs" in printed
    first, verdict = found["rows"][0], found["verdicts"][-1]
    mean = sum(first["test_accuracy"]) / 3
    rows = [line for line in printed.splitlines() if "plain_gat_h1_raw" in line]
    assert "without" in rows[0]
    assert f"{mean:.3f}" in rows[0]
    assert f"{first['pairs']} + {first['trivial_pairs']}" in rows[0]
    assert any(verdict["id"] in line and "measured" in line for line in printed.splitlines())
    assert "benchmark.gap" in printed
    assert f"Written to {folder / 'out'}: study.json, runs/" in printed


def test_a_study_that_is_asked_to_stop_says_so(folder, capsys, monkeypatch):
    monkeypatch.setattr(twins_study, "run_twins_study", lambda *_, **__: None)
    monkeypatch.setattr(stops, "received", lambda: signal.SIGINT.value)
    assert run("--data-dir", folder, "--graphs", "one", "--out", folder / "out") == 130
    assert "the same command goes on" in capsys.readouterr().out
    assert not (folder / "out" / "study.json").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--graphs", "one", "one"], "graphs: expected different graphs, got one, one"),
        (["--graphs", "three"], "data: expected three.npz, a folder three or ind.three.*"),
        (["--graphs", "tutorial"], "tutorial: expected labels and splits, got a graph without"),
        (["--graphs", "one", "--num-seeds", 1], "num_seeds: expected at least 2, got 1"),
        (["--graphs", "one", "--num-steps", 0], "num_steps: expected at least 1, got 0"),
        (["--graphs", "one", "--recipe", "tutorial"], "--recipe"),
    ],
)
def test_bad_input_is_one_line(folder, capsys, arguments, message):
    with pytest.raises(SystemExit) as stop:
        run(*arguments, "--data-dir", folder, "--out", folder / "out")
    assert stop.value.code == 2
    assert message in one_line(capsys)
    assert not (folder / "out").exists()


def test_help_names_the_options_of_the_study(capsys):
    with pytest.raises(SystemExit) as stop:
        run("--help")
    assert stop.value.code == 0
    printed = capsys.readouterr().out
    for option in ("--graphs", "--data-dir", "--num-seeds", "--num-steps", "--out"):
        assert option in printed
    with pytest.raises(SystemExit):
        train.main(["--help"])
    assert "--study" in capsys.readouterr().out


def test_a_verdict_without_a_number_says_so():
    entry = {"id": "x", "verdict": "measured", "estimate": None, "interval": [None, None]}
    (cell,) = train_study.table_of_verdicts([entry]).columns[2].cells
    assert cell == "nothing"


def test_flags_of_xla_are_set_where_there_are_none(monkeypatch):
    before = os.environ["XLA_FLAGS"]
    train_study.compile_quickly()
    assert os.environ["XLA_FLAGS"] == before
    monkeypatch.delenv("XLA_FLAGS")
    train_study.compile_quickly()
    assert "optimization_level=0" in os.environ["XLA_FLAGS"]
