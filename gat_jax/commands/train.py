"""Train a recipe from many seeds, with the symmetry watched; the same command again goes on.

    gat-jax train --data cora --data-dir DIR --recipe gat_paper_cora --num-seeds 20 --out runs

Writes summary.json, runs.zarr and history.csv into the output folder, and then figures/ and
report.html. A picture that cannot be drawn costs that picture and one line.
"""

import contextlib
import dataclasses
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import tyro
import xarray as xr
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from gat_jax import training
from gat_jax.commands import train_lookup, train_study
from gat_jax.commands.printing import as_is, print_line, print_table, progress_of
from gat_jax.graphs import GRAPH_NAMES
from gat_jax.runtime import cli, cluster, compile_cache, devices, stops, store
from gat_jax.runtime.executors import TaskError, WorkersLostError
from gat_jax.training import Machine, TrainSpec, page, tensorboard


@dataclasses.dataclass(frozen=True)
class Options:
    """Train a recipe from many seeds; the same command again goes on where the last one stopped."""

    out: Path = Path("training")
    """folder to write into, or to go on with"""
    data_dir: Path | None = None
    """folder in which data are looked for by their name: NAME.npz, a folder NAME, or ind.NAME.*"""
    devices: int | None = None
    """how many to use, or processes to start; default: all devices, or one process per CPU core"""
    executor: training.ExecutorName = "thread"
    """who computes: this process (thread), or one process per CPU core (process)"""
    scheduler: str | None = None
    """address of a Dask scheduler whose workers compute, or "local" for a cluster made here"""
    compile_cache: bool = True
    """keep compiled programs in the user's cache folder, and use those that are there"""
    tensorboard: Path | None = None
    """folder for TensorBoard's event files of every run, which need the extra `tensorboard`"""
    study: bool = False
    """the study on real graphs in place of one training; its options: --study --help"""
    lookup: bool = False
    """GAT and GATv2 on DictionaryLookup in place of one training; its options: --lookup --help"""
    config: tyro.conf.OmitArgPrefixes[TrainSpec] = dataclasses.field(default_factory=TrainSpec)


def main(argv: Sequence[str] | None = None) -> int:
    """Train.

    Args:
      argv: arguments; None reads the process's own.

    Returns:
      The exit code, as `cli.boundary` says. Runs that are finished are stored in any case.

    Raises:
      SystemExit: code 2 after one line on stderr for bad input, code 0 after --help.
    """
    return cli.boundary(_run, argv)


def _run(arguments: list[str]) -> int:
    cli.refuse_twice(arguments)
    if "--study" in arguments:
        return train_study.run(arguments, _find_named, _progress)
    if "--lookup" in arguments:
        return train_lookup.run(arguments)
    options = cli.parse(Options, arguments, prog="gat-jax train")
    spec = dataclasses.replace(options.config, data=find_data(options))
    if options.tensorboard is not None:
        tensorboard.check_installed()
    machine = _start_machine(options)
    store.check_writable(options.out)
    if options.tensorboard is not None:
        store.check_writable(options.tensorboard, field="tensorboard")
    with stops.patient() as should_stop, _progress() as tell:
        path, told = options.out / "runs.zarr", {"should_stop": should_stop, "on_progress": tell}
        try:
            dataset = training.run_training(spec, path, machine=machine, **told)
        except (TaskError, WorkersLostError) as error:
            raise cli.IncompleteError(str(error)) from error
    if int(dataset["num_runs"].sum()):
        _save_numbers(dataset, options.out)
        if options.tensorboard is not None:
            tensorboard.write_events(dataset, options.tensorboard)
        print_table(table_of(dataset))
    number = stops.received()
    if number is not None:
        print_line("Interrupted. What is finished is stored; the same command goes on.")
        return cli.ended_by(number)
    missing = _save_pictures(dataset, options.out)
    if missing:
        reasons = "; ".join(f"{name} ({cli.first_line(error)})" for name, error in missing.items())
        failures = ExceptionGroup("what is missing", list(missing.values()))
        raise cli.IncompleteError(f"missing: {reasons}") from failures
    names = "summary.json, history.csv, runs.zarr, figures/, report.html"
    print_line(f"Written to {options.out}: {names}")
    if options.tensorboard is not None:
        print_line(f"Written to {options.tensorboard}: event files of TensorBoard")
    return 0


def _start_machine(options: Options) -> Machine:
    """Start JAX; return what is computed on.

    Raises:
      ValueError: if there are not so many devices, or they cannot be used in that way.
    """
    number = options.devices
    if number is not None and number < 1:
        raise ValueError(f"devices: expected at least 1, got {number}")
    if options.scheduler is not None:
        cluster.check_installed()
    is_here = options.scheduler is None and options.executor == "thread"
    if is_here and number is not None:
        devices.use_cores(number)
    cli.note(compile_cache.use_compile_cache(options.compile_cache))
    devices.check_backend()
    found = devices.default_devices()
    if is_here and number is not None and number > len(found):
        raise ValueError(f"devices: expected at most {len(found)}, got {number}")
    return Machine(found[:number], options.executor, options.scheduler, num_workers=number)


def find_data(options: Options) -> str:
    """Return the name or path of the data.

    Raises:
      ValueError: if there is a folder to look in, and nothing of that name in it.
    """
    name, folder = options.config.data, options.data_dir
    if folder is None or name in GRAPH_NAMES:
        return name
    if (folder / f"{name}.npz").is_file():
        return str(folder / f"{name}.npz")
    if (folder / name).is_dir():
        return str(folder / name)
    if any(folder.glob(f"ind.{name}.*")):
        return str(folder / f"ind.{name}")
    raise ValueError(
        f"data: expected {name}.npz, a folder {name} or ind.{name}.* in {folder}, got none of them"
    )


def _find_named(name: str, folder: Path | None) -> str:
    return find_data(Options(data_dir=folder, config=TrainSpec(data=name)))


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[training.State], None]]:
    """Show a progress bar on stderr; yields what `run_training` tells of its progress."""
    columns = (
        TextColumn("runs"),
        BarColumn(),
        TextColumn("{task.fields[counts]}"),
        TimeElapsedColumn(),
        TextColumn("left:"),
        TimeRemainingColumn(),
    )
    with progress_of(*columns) as progress:
        bar = progress.add_task("", total=None, counts="")

        def tell(state: training.State) -> None:
            if state.message is not None:
                progress.console.print(as_is(state.message), soft_wrap=True)
            if state.done >= 1:
                stops.keep("finished runs are kept")
            counts = f"{int(state.done)} of {state.total}"
            progress.update(bar, completed=state.done, total=state.total, counts=counts)

        yield tell


# --- files --------------------------------------------------------------------------------------


def _save_numbers(dataset: xr.Dataset, out: Path) -> None:
    """Replace the numbers; pictures of other numbers must not lie beside them."""
    text = json.dumps(training.in_short(dataset), indent=2, allow_nan=False)
    with store.staged(out) as folder:
        (folder / "summary.json").write_text(text + "\n", encoding="utf-8")
        training.write_history(dataset, folder / "history.csv")
    stops.keep(f"the numbers are in {out / 'summary.json'} and {out / 'runs.zarr'}")
    shutil.rmtree(out / "figures", ignore_errors=True)
    (out / "report.html").unlink(missing_ok=True)


def _save_pictures(dataset: xr.Dataset, out: Path) -> dict[str, Exception]:
    """Draw the figures and write the page; return what is missing, and why."""
    return page.save(dataset, training.in_short(dataset), out)


# --- what is printed ----------------------------------------------------------------------------


def table_of(dataset: xr.Dataset) -> Table:
    """Return a row for each setting: scores as mean, standard deviation and interval over seeds."""
    short = training.in_short(dataset)
    table = Table(title=f"{short['recipe']} on {short['data']}", title_justify="left")
    names = ("setting", "seeds", "test accuracy", "sd", "95% interval", "validation", "failed")
    for name in names:
        table.add_column(name, justify="left" if name == "setting" else "right", no_wrap=True)
    for entry in short["settings"]:
        test, validation = entry["test_accuracy"], entry["validation_score"]
        table.add_row(
            as_is(entry["setting"]),
            str(entry["num_seeds"]),
            _share(test["mean"]),
            _share(test["sd"]),
            " to ".join(_share(end) for end in test["interval"] if end is not None),
            _share(validation["mean"]),
            str(entry["num_failed"] or ""),
        )
    return table


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


if __name__ == "__main__":
    cli.begin()
    cli.leave(main())
