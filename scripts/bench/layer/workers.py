"""Parts of the benchmark of layers that run in processes of their own.

python -m bench.layer.workers WORKER REQUEST ANSWER    (in scripts/, called by `call`)
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench import common
from bench.layer import cases, measure, softmax
from bench.layer.systems import OURS
from bench.train import measure as training

# Tunables of the C library.
ENVIRONMENTS = {"default": (), "huge pages": ("glibc.malloc.hugetlb=1",)}


def call(worker: str, request: dict[str, Any], environment: str) -> Any:
    """Run one of `WORKERS` in a process of its own.

    Args:
      worker: its name.
      request: its arguments.
      environment: one of `ENVIRONMENTS`.

    Raises:
      RuntimeError: if it fails.
    """
    inherited = os.environ.get("GLIBC_TUNABLES", "").split(":")
    tunables = [x for x in inherited if x and not x.startswith("glibc.malloc.hugetlb")]
    tunables = {"GLIBC_TUNABLES": ":".join([*tunables, *ENVIRONMENTS[environment]])}
    path = [str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
    with tempfile.NamedTemporaryFile() as answer:
        process = subprocess.run(
            [
                *(sys.executable, "-W", "ignore", "-m", "bench.layer.workers"),
                *(worker, json.dumps(request), answer.name),
            ],
            env=os.environ | tunables | {"PYTHONPATH": os.pathsep.join(path)},
            stdout=subprocess.DEVNULL,
            check=False,
        )
        if process.returncode:
            raise RuntimeError(f"{worker}: expected exit code 0, got {process.returncode}")
        return json.loads(Path(answer.name).read_text())


def describe() -> dict[str, Any]:
    """Return what makes this process's environment, and its bandwidth."""
    pages = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    return {
        "GLIBC_TUNABLES": os.environ.get("GLIBC_TUNABLES", ""),
        "transparent_hugepage": pages.read_text().strip() if pages.exists() else "",
        "copy_bytes_per_second": common.bandwidth(),
    }


def measure_case(
    name: str,
    *,
    systems: list[str],
    is_small: bool,
    data_dir: str,
    folder: str,
    repeats: int,
    bandwidth: float,
) -> list[dict[str, Any]]:
    """Time ours and other systems on a case; its problem is left in the folder."""
    problem = cases.make_case(name, is_small=is_small, data_dir=Path(data_dir))
    problem.save(Path(folder))
    settings = {name: tried for name, tried in measure.SETTINGS.items() if name in (OURS, *systems)}
    return measure.measure_case(problem, settings, repeats, bandwidth)


def measure_training(data_dir: str, **sizes: int) -> list[dict[str, Any]]:
    """Time trainings."""
    return training.measure_training(Path(data_dir), **sizes)


WORKERS = {
    "describe": describe,
    "case": measure_case,
    "softmax": softmax.measure,
    "memory": measure.measure_memory,
    "growth": measure.measure_growth,
    "training": measure_training,
}


def main(worker: str, request: str, answer: str) -> None:
    """Answer a request."""
    Path(answer).write_text(json.dumps(WORKERS[worker](**json.loads(request))))


if __name__ == "__main__":
    main(*sys.argv[1:])
