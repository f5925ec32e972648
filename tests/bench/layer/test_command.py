import json
import subprocess
import sys

import benchmark
import numpy as np
import pytest
from bench.layer import measure, report, systems, workers
from bench.layer.cases import PASSES
from bench.layer.systems import OURS, SEGMENTS
from bench_inputs import NUMBERS, write_cora


@pytest.mark.slow
def test_main_writes_entries_a_figure_and_tables(tmp_path, monkeypatch, capsys):
    def call(worker, request, environment):
        request = json.loads(json.dumps(request))
        return json.loads(json.dumps(workers.WORKERS[worker](**request)))

    settings = {OURS: ("",), systems.DENSE_FEATURES: ("",), SEGMENTS: ("",)}
    monkeypatch.setattr(workers, "call", call)
    monkeypatch.setattr(measure, "SETTINGS", settings)
    write_cora(tmp_path)
    path = tmp_path / "layer.json"
    options = ["--small", "--repeats", "1", "--no-huge-pages", "--no-training", "--only", "8x8"]
    options += ["--data-dir", str(tmp_path), "--json", str(path)]
    assert benchmark.main(["layer", *options]) == 0
    document = json.loads(path.read_text())
    assert {entry["case"] for entry in document["entries"]} == {
        f"Cora, GAT 8x8, {of}" for of in PASSES
    }
    assert len(document["entries"]) == 2 * len(settings)
    for entry in document["entries"]:
        assert entry["environment"] == "default"
        assert all(np.isfinite(entry[name]) for name in (*NUMBERS, "peak_mib"))
    assert [row["edges"] for row in document["growth"]] == [1_000, 1_000, 10_000, 10_000]
    assert document["machine"]["version_jax"]
    assert path.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    out = capsys.readouterr().out
    assert "Targets" in out.split("Growth")[1]
    assert "not measured" in out


@pytest.mark.torch
@pytest.mark.slow
def test_a_small_run_measures_every_system_in_processes_of_their_own(tmp_path):
    write_cora(tmp_path)
    path = tmp_path / "layer.json"
    options = ["--small", "--repeats", "1", "--only", "Cora", "--data-dir", str(tmp_path)]
    options += ["--no-growth"]  # ours alone, which the test above has measured
    command = [sys.executable, benchmark.__file__, "layer", *options, "--json", str(path)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    document = json.loads(path.read_text())
    tunables = {name: x["GLIBC_TUNABLES"] for name, x in document["environments"].items()}
    assert tunables == {"default": "", "huge pages": "glibc.malloc.hugetlb=1"}
    entries = [e for e in document["entries"] if e["case"] != report.TRAINING]
    assert {e["system"] for e in entries} == set(measure.SETTINGS)
    for entry in entries:
        if entry["system"] == systems.PYG_COMPILED and "failure" in entry:
            continue  # where there is no compiler
        assert all(np.isfinite(entry[name]) for name in NUMBERS)
        assert (entry["peak_mib"] is not None) == (entry["environment"] == "default")
    trainings = [e for e in document["entries"] if e["case"] == report.TRAINING]
    assert len(trainings) == 6
    assert all(np.isfinite(entry[name]) for entry in trainings for name in NUMBERS)
