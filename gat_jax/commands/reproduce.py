"""Test the article's eight claims end to end, without network or accelerator.

Writes claims.json, figures/, report.html and results.zarr into the output folder: all of them at
the end, or none.
"""

import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from gat_jax.graphs import datasets
from gat_jax.runtime import cli, devices, store
from gat_jax.studies import StudyConfig, claims, figures, run_study
from gat_jax.studies import page as report

VERDICT_STYLES = {"confirmed": "green", "refined": "yellow", "refuted": "red", "measured": "dim"}


@dataclasses.dataclass(frozen=True)
class Options:
    """Test the article's eight claims; the defaults take under two minutes on two cores."""

    out: Path = Path("results")
    """folder to write into; its results are replaced at the end, all at once"""
    data: Path | None = None
    """folder of .npz graphs to look at as well"""
    config: tyro.conf.OmitArgPrefixes[StudyConfig] = dataclasses.field(default_factory=StudyConfig)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the study and write its results; returns the exit code."""
    options = cli.parse(Options, argv)
    try:
        tasks = [] if options.data is None else datasets.load_directory(options.data)
        names = [task.name for task in tasks]
        for name in datasets.GRAPH_NAMES:
            if name in names:
                raise ValueError(f"data: expected other graphs than the built-in, got {name}")
        store.check_writable(options.out)
    except ValueError as error:
        cli.fail(error)

    provenance = devices.provenance()  # first: nothing that was computed may die of it
    # Where nobody can widen the window the table keeps one line per id.
    console = Console(width=None if sys.stdout.isatty() else 140)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    with Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True)) as progress:
        bar = progress.add_task("computing", total=None)
        result = run_study(
            options.config,
            tasks,
            on_progress=lambda done, total: progress.update(bar, completed=done, total=total),
        )
    entries = claims.judge(result.measured, result.extra_claims)
    dataset = result.dataset.assign_attrs(provenance)
    with store.staged(options.out) as folder:
        text = json.dumps(entries, indent=2, allow_nan=False)
        (folder / "claims.json").write_text(text + "\n", encoding="utf-8")
        store.save(dataset, folder / "results.zarr")
        figures.save_figures(dataset, folder / "figures")
        report.write_report(entries, dataset, folder / "report.html")
    console.print(_table(entries))
    console.print(f"Written to {options.out}: claims.json, figures/, report.html, results.zarr")
    return 0


def _table(entries: list[dict]) -> Table:
    table = Table(title="The claims", title_justify="left")
    table.add_column("claim", justify="right")
    table.add_column("id", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    table.add_column("estimate", justify="right", no_wrap=True)
    table.add_column("95% interval", justify="right", no_wrap=True)
    table.add_column("exact", justify="right", no_wrap=True)
    for entry in entries:
        low, high = entry["interval"]
        style = VERDICT_STYLES[entry["verdict"]]
        table.add_row(
            str(entry["article_claim"] or ""),
            entry["id"],
            f"[{style}]{entry['verdict']}[/{style}]",
            _number(entry["estimate"]) if entry["num_samples"] else "no twins",
            "" if low == high else rf"\[{_number(low)}, {_number(high)}]",
            "" if entry["exact"] is None else _number(entry["exact"]),
        )
    return table


def _number(value: float | None) -> str:
    return "never" if value is None else f"{value:.4g}"


if __name__ == "__main__":
    sys.exit(main())
