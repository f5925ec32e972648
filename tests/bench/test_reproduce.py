"""The main job with an empty cache and with the filled one; nothing is computed here."""

import json
import subprocess
from pathlib import Path

import benchmark
import pytest
from bench.reproduce import command

from gat_jax.runtime import compile_cache


def test_main_writes_medians_of_rounds(tmp_path, monkeypatch, capsys):
    rounds = iter([[8.0, 4.0], [9.0, 3.0], [12.0, 2.0]])
    asked = []
    monkeypatch.setattr(command, "time_round", lambda sizes: asked.append(sizes) or next(rounds))
    path = tmp_path / "reproduce.json"
    assert benchmark.main(["reproduce", "--json", str(path), "--repeats=3", "--num-runs=64"]) == 0
    document = json.loads(path.read_text())
    first, second = document["entries"]
    assert [first["system"], second["system"]] == ["first run", "second run"]
    assert [first["median_seconds"], second["median_seconds"]] == [9.0, 3.0]
    assert [first["ratio_to_peer"], second["ratio_to_peer"]] == [1.0, 3.0]
    assert second["seconds"] == [4.0, 3.0, 2.0]
    assert document["options"]["repeats"] == 3
    assert document["options"]["num_runs"] == 64
    assert document["options"]["num_inits"] == 2**20  # the main job's own size
    assert document["machine"]["cores"]
    assert [sizes["num_runs"] for sizes in asked] == [64] * 3
    assert "round 2: 9.0 s, then 3.0 s (3.00)" in capsys.readouterr().out


def fake_runs(monkeypatch, claims=("[1]", "[1]"), codes=(0, 0)):
    """Let runs of the main job write claims and end; returns the caches that each of them finds."""
    found = []

    def run(arguments, *, env, **_):
        number = len(found)
        cache = Path(env[compile_cache.VARIABLE])
        found.append((cache, sorted(x.name for x in cache.glob("*"))))
        cache.mkdir(exist_ok=True)
        (cache / f"program {number}").touch()
        out = Path(arguments[arguments.index("--out") + 1])
        out.mkdir()
        (out / "claims.json").write_text(claims[number % 2])
        assert "--num-runs=64" in arguments
        return subprocess.CompletedProcess(arguments, codes[number % 2], "", "error: no\n")

    monkeypatch.setattr(command.subprocess, "run", run)
    return found


def test_the_second_run_finds_what_the_first_has_compiled(monkeypatch):
    found = fake_runs(monkeypatch)
    for _ in range(2):
        assert len(command.time_round({"num_runs": 64})) == 2
    caches = [cache for cache, _ in found]
    assert caches[0] == caches[1] != caches[2] == caches[3]
    assert [names for _, names in found] == [[], ["program 0"], [], ["program 2"]]


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        ({"claims": ("[1]", "[2]")}, "second run: expected the claims of the first, got others"),
        ({"codes": (0, 2)}, "second run: expected exit code 0, got error: no"),
    ],
)
def test_runs_that_fail_or_differ_are_no_measurement(monkeypatch, runs, message):
    fake_runs(monkeypatch, **runs)
    with pytest.raises(RuntimeError, match=message):
        command.time_round({"num_runs": 64})
