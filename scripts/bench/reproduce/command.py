"""Time the main job's second run on a machine beside its first; see `benchmark.py`.

The first run finds an empty folder of compiled programs and fills it, the second one finds them.
"""

import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tyro

from bench import common
from gat_jax.runtime import cli, compile_cache
from gat_jax.runtime.devices import provenance
from gat_jax.studies import StudyConfig

SCRIPTS = Path(__file__).parents[2]
RUNS = ("first run", "second run")


@dataclasses.dataclass(frozen=True)
class Options:
    """Time the main job with an empty cache of compiled programs, and again with the filled one."""

    json: Path = Path("benchmarks/reproduce.json")
    """file to write: one entry a run, with versions and the machine beside it"""
    repeats: int = 5
    """rounds of one run after the other, each with an empty cache of its own"""
    config: tyro.conf.OmitArgPrefixes[StudyConfig] = dataclasses.field(default_factory=StudyConfig)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns the exit code."""
    options = cli.parse(Options, argv)
    try:
        common.check_options(options.json, repeats=options.repeats)
    except ValueError as error:
        cli.fail(error)
    sizes = dataclasses.asdict(options.config)
    document = {"machine": provenance(), "options": {}, "entries": []}
    seconds: dict[str, list[float]] = {run: [] for run in RUNS}
    for done in range(1, options.repeats + 1):
        for run, taken in zip(RUNS, time_round(sizes), strict=True):
            seconds[run].append(taken)
        # What was measured is not lost to what fails later.
        document |= {"options": {"repeats": done, **sizes}, "entries": entries_of(seconds)}
        options.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
        first, second = (seconds[run][-1] for run in RUNS)
        print(
            f"round {done}: {first:.1f} s, then {second:.1f} s ({first / second:.2f})", flush=True
        )
    print(f"Written to {options.json}")
    return 0


def entries_of(seconds: dict[str, list[float]]) -> list[dict[str, Any]]:
    """Return what the file says of each of `RUNS`, from its seconds round by round.

    `ratio_to_peer` is how many times as long the first run took as this one.
    """
    return [
        {
            "case": "reproduce.py from start to end",
            "system": run,
            "median_seconds": statistics.median(seconds[run]),
            "seconds": list(seconds[run]),
            "ratio_to_peer": common.ratio(seconds[RUNS[0]], seconds[run]),
        }
        for run in RUNS
    ]


def time_round(sizes: dict[str, int]) -> list[float]:
    """Return the seconds of each of `RUNS`, as processes.

    Args:
      sizes: of the main job, by the names of its options.

    Raises:
      RuntimeError: if a run fails, or if they find different numbers.
    """
    arguments = [f"--{name.replace('_', '-')}={number}" for name, number in sizes.items()]
    seconds, found = [], []
    with tempfile.TemporaryDirectory() as folder:
        cache = {compile_cache.VARIABLE: str(Path(folder) / "compiled")}
        for run in RUNS:
            out = Path(folder) / run
            command = [sys.executable, SCRIPTS / "reproduce.py", "--out", out, *arguments]
            start = time.perf_counter()
            done = subprocess.run(
                command, env=os.environ | cache, capture_output=True, text=True, check=False
            )
            seconds.append(time.perf_counter() - start)
            if done.returncode:
                raise RuntimeError(f"{run}: expected exit code 0, got {done.stderr.strip()}")
            found.append((out / "claims.json").read_bytes())
    if found[0] != found[1]:
        raise RuntimeError("second run: expected the claims of the first, got others")
    return seconds
