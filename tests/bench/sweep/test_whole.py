"""Whole sweeps of two checkouts, timed in turn."""

import benchmark
import pytest
from bench.sweep import whole
from performance_tables import OURS, whole_sweep_table

ROOT = whole.SCRIPTS.parent


@pytest.mark.torch
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--repeats", "0"], "repeats: expected at least 1, got 0"),
        (["--against", "nowhere"], "against: expected a checkout, got 'nowhere'"),
        (["--against", str(ROOT), "--num-inits"], "against: expected long sweeps to compare"),
    ],
)
def test_bad_input_is_one_line(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        benchmark.main(["sweep", "--json", "sweep.json", *arguments])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_checkouts_take_turns(tmp_path, monkeypatch):
    """The ratio is the median of ratios within a round, not the ratio of medians."""
    theirs = iter([(8.0, 100.0), (3.0, 300.0), (10.0, 200.0)])
    ours = iter([(2.0, 30.0), (1.0, 10.0), (5.0, 20.0)])
    turns = []

    def timed(number, checkout):
        turns.append(checkout)
        return next(ours if checkout == ROOT else theirs)

    monkeypatch.setattr(whole, "time_whole_sweep", timed)
    other = tmp_path / "abc123"
    mine, old = whole.compare_whole_sweeps(1_000_000, other, 3)
    assert turns == [ROOT, other] * 3
    assert (mine["system"], mine["median_seconds"], mine["peak_mib"]) == (OURS, 2.0, 30.0)
    assert (old["system"], old["median_seconds"]) == ("gat_jax of abc123", 8.0)
    assert old["ratio_to_peer"] == 3.0
    assert old["throughput"] == 125_000.0

    entries = {(entry["case"], entry["system"]): entry for entry in (mine, old)}
    monkeypatch.setattr("performance_tables._entries", lambda name: entries)
    assert whole_sweep_table("any").splitlines()[::2] == [
        "| size | seconds from start to summary | peak, MiB | `abc123` |",
        "| 1e+06 initialisations | 2.00 s | 30 | 8.00 s (3.0) |",
    ]


@pytest.mark.slow
def test_a_whole_sweep_is_timed():
    seconds, peak = whole.time_whole_sweep(10_000, ROOT)
    assert seconds > 0.5
    assert peak > 50
