"""Time our layers and trainings on a GPU, kernel by kernel; see `benchmark.py`.

The time of a call on the host's clock is that of its kernels and of their launches; kernels alone
say what a loop takes that never waits for the device.
"""

import dataclasses
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench import common
from bench.kernels import trace
from bench.layer import cases, systems
from bench.train.cases import load_task
from bench.train.measure import make_ours
from gat_jax.runtime import cli, store
from gat_jax.runtime.devices import provenance

LAYERS = ("GAT 8x16", "GAT 1x128", "GATv2 8x16")
SHOWN = 8  # kernels of a case in the terminal; the file has all


@dataclasses.dataclass(frozen=True)
class Options:
    """Time our layers on the graph of arxiv's size, and trainings on Cora, kernel by kernel."""

    json: Path = Path("benchmarks/kernels.json")
    """file to write"""
    data_dir: Path = Path("../shared/data")
    """folder with cora.npz"""
    calls: int = 5
    """that are profiled, of each case"""
    num_seeds: tuple[int, ...] = (16, 128)
    """seeds of each training"""
    num_steps: int = 20
    """steps of a training; what is written is one step"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns the exit code."""
    options = cli.parse(Options, argv)
    try:
        if not common.is_on_gpu():
            raise ValueError("device: expected a GPU, whose kernels the profiler sees, got a CPU")
        load_task(options.data_dir)
        store.check_writable(options.json.parent)
    except ValueError as error:
        cli.fail(error)
    document: dict[str, Any] = {"machine": provenance(), "entries": []}
    for name, run, per_call in _cases(options):
        entry = _measure(name, run, per_call, options.calls)
        document["entries"].append(entry)
        options.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
        Console(width=140).print(_table(entry))
    print(f"Written to {options.json}")
    return 0


def _cases(options: Options) -> Iterator[tuple[str, Callable[[], object], int]]:
    """Yield the name of each case, what runs it, and how many steps a call makes."""
    for layer in LAYERS:
        case = f"{cases.ARXIV}, {layer}"
        problem = cases.make_case(case, is_small=False, data_dir=options.data_dir)
        runs = systems.make_ours(problem, systems.OURS).run
        for of in cases.PASSES:
            yield f"{case}, {of}", runs[of], 1
    task = load_task(options.data_dir)
    for number in options.num_seeds:
        trainer = make_ours(task, number, options.num_steps)
        yield f"Cora, a step of {number} seeds", trainer.run, options.num_steps


def _measure(name: str, run: Callable[[], object], per_call: int, calls: int) -> dict[str, Any]:
    seconds = common.interleave({name: run}, repeats=5)[name]
    kernels = trace.kernels_of(run, calls)
    return {
        "case": name,
        "milliseconds": sorted(seconds)[2] * 1e3 / per_call,
        "kernel_milliseconds": sum(k.milliseconds for k in kernels) / per_call,
        "launches": sum(k.launches for k in kernels) / per_call,
        "kernels": [[k.name, k.milliseconds / per_call, k.launches / per_call] for k in kernels],
    }


def _table(entry: dict[str, Any]) -> Table:
    times = f"{entry['milliseconds']:.3f} ms, kernels {entry['kernel_milliseconds']:.3f} ms"
    title = f"{entry['case']}: {times} in {entry['launches']:.0f} launches"
    table = Table("kernel", "ms", "launches", title=title, title_justify="left")
    for name, milliseconds, launches in entry["kernels"][:SHOWN]:
        table.add_row(name[:90], f"{milliseconds:.3f}", f"{launches:.1f}")
    return table
