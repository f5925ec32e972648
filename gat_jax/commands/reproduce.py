"""Test the article's eight claims end to end, without network or accelerator.

Writes claims.json and results.zarr into the output folder as soon as the numbers are there, and
after them figures/, report.html and playground.html. A picture that cannot be drawn costs that
picture and one line.
"""

import dataclasses
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import tyro
import xarray as xr
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from gat_jax.commands.printing import as_is, print_line, print_table, progress_of
from gat_jax.graphs import datasets
from gat_jax.report import Picture, interval, number, prepare_matplotlib, save_pictures
from gat_jax.runtime import cli, compile_cache, devices, stops, store
from gat_jax.studies import (
    PreparedStudy,
    Study,
    StudyConfig,
    claims,
    prepare_study,
    run_study,
    write_page,
)

PLAYGROUND = "playground.html"
VERDICT_STYLES = {"confirmed": "green", "refined": "yellow", "refuted": "red", "measured": "dim"}


@dataclasses.dataclass(frozen=True)
class Options:
    """Test the article's eight claims; the defaults take under two minutes on two cores."""

    out: Path = Path("results")
    """folder to write into; what an earlier run wrote there is replaced once there are numbers"""
    data: Path | None = None
    """folder of .npz graphs to look at as well"""
    compile_cache: bool = True
    """keep compiled programs in the user's cache folder, and use those that are there"""
    config: tyro.conf.OmitArgPrefixes[StudyConfig] = dataclasses.field(default_factory=StudyConfig)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the study and write its results.

    Args:
      argv: arguments; None reads the process's own.

    Returns:
      The exit code, as `cli.boundary` says.

    Raises:
      SystemExit: code 2 after one line on stderr for bad input, code 0 after --help.
    """
    return cli.boundary(_run, argv)


def _run(arguments: list[str]) -> int:
    options = cli.parse(Options, arguments, prog="gat-jax reproduce")
    # All that can be refused is refused now: nothing about the input may stop a study that runs.
    tasks = [] if options.data is None else datasets.load_directory(options.data)
    for task in tasks:
        if task.name in datasets.GRAPH_NAMES:
            raise ValueError(f"data: expected other graphs than the built-in, got {task.name}")
    cli.note(compile_cache.use_compile_cache(options.compile_cache))
    devices.check_backend()
    prepared = prepare_study(options.config, tasks)
    store.check_writable(options.out)
    if (options.out / "results.zarr").exists():
        store.check_writable(options.out / "results.zarr")
    provenance = devices.provenance()

    result = _compute(prepared)
    entries = claims.judge(result.measured, result.extra_claims)
    dataset = result.dataset.assign_attrs(provenance)
    try:
        _save_numbers(entries, dataset, options.out)
    except Exception:  # such as a full disk: then the table is all there is
        print_table(_table(entries))
        raise
    missing = _save_pictures(entries, dataset, options.out)
    print_table(_table(entries))
    if missing:
        reasons = "; ".join(f"{name} ({cli.first_line(error)})" for name, error in missing.items())
        failures = ExceptionGroup("what is missing", list(missing.values()))
        raise cli.IncompleteError(f"missing: {reasons}") from failures
    names = f"claims.json, figures/, {PLAYGROUND}, report.html, results.zarr"
    print_line(f"Written to {options.out}: {names}")
    return 0


def _compute(prepared: PreparedStudy) -> Study:
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    with progress_of(*columns, TimeElapsedColumn()) as progress:
        bar = progress.add_task("computing", total=None)
        return run_study(
            prepared,
            on_progress=lambda done, total: progress.update(bar, completed=done, total=total),
        )


# --- files --------------------------------------------------------------------------------------


def _save_numbers(entries: Sequence[Mapping], dataset: xr.Dataset, out: Path) -> None:
    """Replace the numbers in the folder, then remove the pictures of other numbers.

    `claims.json` comes first and by itself, for it is small: a disk that has no room for the store
    may have room for it.
    """
    text = json.dumps(entries, indent=2, allow_nan=False)
    with store.staged(out) as folder:
        (folder / "claims.json").write_text(text + "\n", encoding="utf-8")
    stops.keep(f"the claims are in {out / 'claims.json'}")
    store.save(dataset, out / "results.zarr")
    stops.keep(f"the numbers are in {_numbers(out)}")
    shutil.rmtree(out / "figures", ignore_errors=True)
    for name in ("report.html", PLAYGROUND):
        (out / name).unlink(missing_ok=True)


def _numbers(out: Path) -> str:
    return f"{out / 'claims.json'} and {out / 'results.zarr'}"


def _save_pictures(
    entries: Sequence[Mapping], dataset: xr.Dataset, out: Path
) -> dict[str, Exception]:
    """Draw the figures and write the page.

    Returns:
      What is missing, by its name, and why.
    """

    def begin() -> tuple[Sequence[str], Callable[[str], tuple[Picture, Picture]]]:
        prepare_matplotlib()
        from gat_jax.studies import figures  # imports matplotlib: that may fail, and so late

        return list(figures.FIGURES), lambda name: figures.draw(name, dataset)

    def write(
        _: Sequence[str], pictures: Mapping[str, tuple[Picture, Picture]], path: Path
    ) -> None:
        write_page(entries, dataset, pictures, path, playground=None if failed else PLAYGROUND)

    failed: dict[str, Exception] = {}
    try:
        from gat_jax.diagnosis.pages.playground import write_playground

        write_playground(out / PLAYGROUND)
    except Exception as error:  # it must not take the others with it
        failed[PLAYGROUND] = error
    return save_pictures(begin, write, out) | failed


# --- what is printed ----------------------------------------------------------------------------


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
            as_is(entry["id"]),
            as_is(entry["verdict"], style),
            _estimate(entry),
            "" if low == high else as_is(interval(low, high, entry["num_samples"])),
            "" if entry["exact"] is None else number(entry["exact"]),
        )
    return table


def _estimate(entry: Mapping) -> str:
    if entry["estimate"] is None:
        return "never" if entry["num_samples"] else "no twins"
    return number(entry["estimate"], *entry["interval"])


if __name__ == "__main__":
    cli.begin()
    cli.leave(main())
