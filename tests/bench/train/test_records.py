"""What records cost: the same runs, with and without them; nothing is trained here."""

import json

import benchmark
import pytest
from bench.train import records
from bench_inputs import write_cora

from gat_jax.training.spec import DEFAULT_MEASURES

TUTORIAL = records.CASES[0]


class Fake:
    """A run that trains nothing."""

    def __init__(self, score):
        self.score = score

    def __call__(self):
        return self.score


def test_runs_differ_in_what_is_recorded_alone(tmp_path):
    task = records.load(TUTORIAL, tmp_path)
    runs = {system: records.make_run(TUTORIAL, task, system) for system in records.SYSTEMS}
    configs = [run.program.config for run in runs.values()]
    assert [config.record_every for config in configs] == [20_000, 10, 10]
    assert [config.measures for config in configs] == [(), (), DEFAULT_MEASURES]
    assert {config.num_steps for config in configs} == {20_000}
    assert len({run.program.configs for run in runs.values()}) == 1
    assert all(len(run.chunk.keys) == len(run.chunk.splits) == 8 for run in runs.values())


def test_main_writes_what_records_cost(tmp_path, monkeypatch, capsys):
    write_cora(tmp_path)
    monkeypatch.setattr(records, "make_run", lambda *_: Fake(0.5))
    path = tmp_path / "train_records.json"
    times = {"without records": [1.0, 2.0, 3.0], "records": [1.1, 2.2, 6.0]}
    times["records and measures"] = [2.0, 3.0, 3.0]
    monkeypatch.setattr(records.common, "interleave", lambda runs, repeats: times)
    options = ["--records", "--data-dir", str(tmp_path), "--json", str(path)]
    assert benchmark.main(["train", *options]) == 0
    entries = json.loads(path.read_text())["entries"]
    assert [entry["system"] for entry in entries] == 2 * list(records.SYSTEMS)
    assert [entry["ratio_to_peer"] for entry in entries[:3]] == pytest.approx([1.0, 1.1, 1.5])
    assert entries[0]["median_seconds"] == pytest.approx(2.0 / 160_000)
    assert entries[3]["throughput"] == pytest.approx(8 * 50 / 2.0)
    assert entries[3]["graph"] == "cora"
    printed = capsys.readouterr().out
    assert "tutorial graph, watched, steps x seeds per second" in printed
    assert "times as long" in printed


def test_records_that_change_a_run_are_found_out(tmp_path, monkeypatch):
    scores = iter([0.5, 0.5, 0.25])
    monkeypatch.setattr(records, "make_run", lambda *_: Fake(next(scores)))
    with pytest.raises(RuntimeError, match="tutorial graph, watched: expected the same score"):
        records.measure_records(tmp_path, repeats=1)
