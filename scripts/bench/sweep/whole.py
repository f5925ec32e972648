"""The command `sweep` as a process: from its start to the summary in the store."""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench import common

SCRIPTS = Path(__file__).parents[2]


def check_against(against: Path | None, num_inits: tuple[int, ...]) -> None:
    """Refuse what cannot be compared.

    Raises:
      ValueError: says what was expected.
    """
    if against is None:
        return
    if not (against / "scripts" / "sweep.py").is_file():
        raise ValueError(f"against: expected a checkout, got {str(against)!r}")
    if not num_inits:
        raise ValueError("against: expected long sweeps to compare, got no --num-inits")


def compare_whole_sweeps(number: int, against: Path | None, repeats: int) -> list[dict[str, Any]]:
    """Time sweeps from start to summary: once, or in turn with those of another checkout."""
    if against is None:
        return [_whole_sweep("gat_jax", number, [time_whole_sweep(number, SCRIPTS.parent)])]
    checkouts = {
        "gat_jax": SCRIPTS.parent,
        f"gat_jax of {against.resolve().name}": against.resolve(),
    }
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in checkouts}
    for _ in range(repeats):
        for name, checkout in checkouts.items():
            times[name].append(time_whole_sweep(number, checkout))
    entries = [_whole_sweep(name, number, found) for name, found in times.items()]
    ours, theirs = ([seconds for seconds, _ in found] for found in times.values())
    entries[1]["ratio_to_peer"] = common.ratio(theirs, ours)
    return entries


def _whole_sweep(name: str, number: int, times: list[tuple[float, float]]) -> dict[str, Any]:
    seconds = statistics.median(seconds for seconds, _ in times)
    return {
        "case": f"sweep.py from start to summary, {number:.0e} initialisations",
        "system": name,
        "median_seconds": seconds,
        "throughput": number / seconds,
        "ratio_to_peer": None,
        "max_relative_error": None,
        "peak_mib": max(peak for _, peak in times),
    }


def time_whole_sweep(number: int, checkout: Path) -> tuple[float, float]:
    """Run `scripts/sweep.py` of a checkout as a process; return its seconds and its peak in MiB."""
    with tempfile.TemporaryDirectory() as folder:
        script = checkout / "scripts" / "sweep.py"
        command = [sys.executable, script, "--num-inits", str(number)]
        command += ["--out", str(Path(folder) / "sweep.zarr")]
        start, peak = time.perf_counter(), 0
        nowhere = subprocess.DEVNULL
        # The package of the checkout, whichever is installed.
        paths = [str(checkout), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
        with subprocess.Popen(command, stdout=nowhere, stderr=nowhere, env=environment) as process:
            while process.poll() is None:
                peak = max(peak, common.peak_kib(process.pid))
                time.sleep(0.05)
        seconds = time.perf_counter() - start
    if process.returncode:
        raise RuntimeError(f"{script}: expected exit code 0, got {process.returncode}")
    return seconds, peak / 1024
