"""Time trainings of many seeds on Cora; see `benchmark.py`."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench import common
from bench.train import cases, measure, records
from gat_jax.runtime import cli
from gat_jax.runtime.devices import provenance


@dataclasses.dataclass(frozen=True)
class Options:
    """Time trainings of many seeds at once against one after the other in PyG."""

    json: Path = Path("benchmarks/train.json")
    """file to write: a list of cases, with versions and the machine beside it"""
    data_dir: Path = Path("../shared/data")
    """folder with cora.npz"""
    repeats: int = 5
    """rounds; every system runs once in each"""
    num_seeds: int = 16
    """trainings of each round"""
    num_steps: int = 10
    """steps of each training"""
    records: bool = False
    """time what records and measures cost in our own runs, in place of a comparison with PyG"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns the exit code."""
    options = cli.parse(Options, argv)
    sizes = {name: getattr(options, name) for name in ("num_seeds", "num_steps", "repeats")}
    try:
        common.check_options(options.json, **sizes)
        if not options.records:
            common.check_has_torch()
        cases.load_task(options.data_dir)
    except ValueError as error:
        cli.fail(error)
    if options.records:
        entries = records.measure_records(options.data_dir, repeats=options.repeats)
        document = {"machine": provenance(), "entries": entries}
    else:
        entries = measure.measure_training(options.data_dir, **sizes)
        document = {"machine": provenance("torch", "torch_geometric"), "entries": entries}
    options.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    for case in dict.fromkeys(entry["case"] for entry in entries):
        Console(width=140).print(_table(case, [e for e in entries if e["case"] == case]))
    print(f"Written to {options.json}")
    return 0


def _table(case: str, entries: list[dict[str, Any]]) -> Table:
    table = Table(title=f"{case}, steps x seeds per second", title_justify="left")
    ratio = "we are faster by" if case == cases.CASE else "times as long"
    for name in ("system", "at its best", "steps/s", ratio, "error", "compile s"):
        table.add_column(name, justify="left" if name in ("system", "at its best") else "right")
    for entry in entries:
        seconds = entry["compile_seconds"]
        table.add_row(
            entry["system"],
            entry["setting"],
            f"{entry['throughput']:,.1f}",
            f"{entry['ratio_to_peer']:.3g}",
            f"{entry['max_relative_error']:.1e}",
            "" if seconds is None else f"{seconds:.1f}",
        )
    return table
