"""Time our layers and trainings on a GPU, kernel by kernel; see `benchmark.py`.

The time of a call on the host's clock is that of its kernels and of their launches; kernels alone
say what a loop takes that never waits for the device.
"""

import dataclasses
import json
import statistics
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse
import scipy.sparse.csgraph
from jaxtyping import Int
from rich.console import Console
from rich.table import Table

from bench import common
from bench.kernels import trace
from bench.layer import cases, systems
from bench.layer.cases import Problem
from bench.train.cases import load_task
from bench.train.measure import make_ours
from gat_jax.kernels.layouts import ValuesName
from gat_jax.runtime import cli
from gat_jax.runtime.devices import provenance

LAYERS = ("GAT 8x16", "GAT 1x128", "GATv2 8x16")
VARIED = "GAT 8x16"  # also with rows in bfloat16, and with its nodes in another order
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
    sizes = {"calls": options.calls, "num_steps": options.num_steps}
    sizes |= {"num_seeds": min(options.num_seeds, default=1)}
    try:
        common.check_options(options.json, **sizes)
        if not common.is_on_gpu():
            raise ValueError("device: expected a GPU, whose kernels the profiler sees, got a CPU")
        load_task(options.data_dir)
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
    case = f"{cases.ARXIV}, {VARIED}"
    problem = cases.make_case(case, is_small=False, data_dir=options.data_dir)
    rounded: dict[str, ValuesName | None] = {"rows in bfloat16": "bfloat16", "for comparison": None}
    varied = {
        "nodes by degree": _reordered(problem, _by_degree(problem)),
        "nodes by reverse Cuthill-McKee": _reordered(problem, _by_bandwidth(problem)),
        **dict.fromkeys(rounded, problem),
    }
    for name, same in varied.items():
        runs = systems.make_ours(same, systems.OURS, values=rounded.get(name)).run
        yield f"{case}, forward+backward, {name}", runs["forward+backward"], 1
    task = load_task(options.data_dir)
    for number in options.num_seeds:
        trainer = make_ours(task, number, options.num_steps)
        yield f"Cora, a step of {number} seeds", trainer.run, options.num_steps


def _by_degree(problem: Problem) -> Int[np.ndarray, " nodes"]:
    return np.argsort(-np.bincount(problem.receivers, minlength=len(problem.x)), kind="stable")


def _by_bandwidth(problem: Problem) -> Int[np.ndarray, " nodes"]:
    ends = problem.receivers, problem.senders
    ones = np.ones(len(problem.senders), np.int8)
    adjacency = scipy.sparse.csr_array((ones, ends), shape=(len(problem.x),) * 2)
    return scipy.sparse.csgraph.reverse_cuthill_mckee(adjacency, symmetric_mode=True)


def _reordered(problem: Problem, order: Int[np.ndarray, " nodes"]) -> Problem:
    """Return the problem with its nodes in another order."""
    new = np.empty(len(order), np.int32)
    new[order] = np.arange(len(order), dtype=np.int32)
    senders, receivers = new[problem.senders], new[problem.receivers]
    by_receiver = np.lexsort((senders, receivers))
    return dataclasses.replace(
        problem,
        senders=senders[by_receiver],
        receivers=receivers[by_receiver],
        x=problem.x[order],
        cotangent=problem.cotangent[order],
    )


def _measure(name: str, run: Callable[[], object], per_call: int, calls: int) -> dict[str, Any]:
    seconds = common.interleave({name: run}, repeats=5)[name]
    kernels = trace.kernels_of(run, calls)
    return {
        "case": name,
        "milliseconds": statistics.median(seconds) * 1e3 / per_call,
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
