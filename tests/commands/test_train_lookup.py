"""`gat-jax train --lookup`: options, what it prints and what it writes."""

import json

import numpy as np
import pytest
from sweep_runs import one_line

from gat_jax.commands import train, train_lookup
from gat_jax.studies import lookup
from gat_jax.studies.lookup import LookupRuns


def made_up(layer, num_seeds, *, seed, config):
    """Runs without training: GATv2 ends at 1 but for the first seed, GAT at 0.2 from all."""
    accuracy = np.full((num_seeds, 2), 0.2)
    if layer == "gatv2":
        accuracy[1:, 1] = 1.0
    new = 0.01 * np.arange(num_seeds) + seed / 10
    return LookupRuns(np.array([0, 500]), accuracy, 1.0 - accuracy, new)


@pytest.fixture
def out(tmp_path, monkeypatch):
    """The output folder of runs that are not trained."""
    monkeypatch.setattr(lookup, "train_lookup", made_up)
    return tmp_path / "out"


def run(*arguments) -> int:
    return train.main(["--lookup", *(str(argument) for argument in arguments)])


def test_numbers_and_pictures_are_written(out, capsys):
    assert run("--num-seeds", 4, "--seed", 3, "--out", out) == 0
    assert {path.name for path in out.iterdir()} == {
        *("lookup.json", "lookup.png", "lookup_dark.png")
    }
    found = json.loads((out / "lookup.json").read_text())
    assert found["num_keys"] == 10
    assert found["seed"] == 3
    assert found["ceiling"] == pytest.approx(sum(1 / k for k in range(1, 11)) / 10)
    assert found["layers"]["gatv2"]["accuracy"] == [[0.2, 0.2], [0.2, 1.0], [0.2, 1.0], [0.2, 1.0]]
    assert found["layers"]["gat"]["new_accuracy"] == pytest.approx([0.3, 0.31, 0.32, 0.33])
    assert found["origin"]["version_jax"]
    printed = capsys.readouterr().out
    rows = {line.split()[1]: line for line in printed.splitlines() if "\u2502" in line}
    cells = [cell.strip() for cell in rows["gatv2"].strip("\u2502").split("\u2502")]
    assert cells == ["gatv2", "4", "3", "20.0%", "100%", "100%", "31.5%"]
    assert "29.3% at most" in printed
    assert f"Written to {out}: lookup.json, lookup.png, lookup_dark.png" in printed


def test_a_picture_that_cannot_be_drawn_costs_the_picture(out, capsys, monkeypatch):
    out.mkdir()
    (out / "lookup.png").write_bytes(b"of other numbers")

    def fail(*_):
        raise RuntimeError("no fonts")

    monkeypatch.setattr("gat_jax.studies.lookup_figure.draw", fail)
    assert run("--num-seeds", 2, "--out", out) == 1
    assert "missing: lookup.png (RuntimeError: no fonts)" in capsys.readouterr().err
    assert [path.name for path in out.iterdir()] == ["lookup.json"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--num-seeds", 0], "num_seeds: expected at least 1, got 0"),
        (["--seed", -1], "seed: expected 0 to 4294967295, got -1"),
        (["--seed", 2**32], "seed: expected 0 to 4294967295, got 4294967296"),
        (["--recipe", "tutorial"], "--recipe"),
        (["--study"], "--lookup"),
    ],
)
def test_bad_input_is_one_line(out, capsys, arguments, message):
    with pytest.raises(SystemExit) as stop:
        run(*arguments, "--out", out)
    assert stop.value.code == 2
    assert message in one_line(capsys)
    assert not out.exists()


def test_the_median_of_an_odd_number_is_the_middle():
    table = train_lookup.table_of(
        {
            "num_keys": 2,
            "ceiling": 0.75,
            "layers": {
                "gat": {
                    "accuracy": [[0.1], [0.9], [0.4], [0.8], [0.2]],
                    "new_accuracy": [0.1, 0.3, 0.2, 0.9, 0.0],
                }
            },
        }
    )
    assert [next(iter(column.cells)) for column in table.columns[3:]] == [
        *("10.0%", "40.0%", "90.0%", "20.0%")
    ]
