"""What the sweep command prints: tables, the plan of a dry run, and the progress bar."""

import contextlib
import math
import time
from collections.abc import Callable, Iterator

import xarray as xr
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from gat_jax import sweeps
from gat_jax.commands.printing import as_is, print_line, print_table, progress_of
from gat_jax.report import short
from gat_jax.sweeps import Machine, SweepSpec


@contextlib.contextmanager
def progress_bar() -> Iterator[Callable[[sweeps.Progress], None]]:
    """Show a progress bar on stderr; yields what `run_sweep` tells of its progress."""
    columns = (
        TextColumn("initialisations"),
        BarColumn(),
        TextColumn("{task.fields[counts]}"),
        TimeElapsedColumn(),
        TextColumn("left:"),
        TimeRemainingColumn(),
    )
    start = time.monotonic()
    with progress_of(*columns) as progress:
        bar = progress.add_task("", total=None, counts="")

        def report(state: sweeps.Progress) -> None:
            if state.message is not None:
                progress.console.print(as_is(state.message), soft_wrap=True)
            rate = state.computed / max(time.monotonic() - start, 1e-9)
            counts = f"{short(state.done)} of {short(state.total)}, {short(rate)}/s"
            progress.update(bar, completed=state.done, total=state.total, counts=counts)

        yield report


def print_plan(plans: list[sweeps.CellPlan], spec: SweepSpec, machine: Machine) -> None:
    """Print what a sweep would do: a line for each cell, and a sentence on all of them."""
    seconds = math.fsum(cell.seconds for cell in plans)
    title = f"Sweep on {_computed_on(machine.chosen(seconds))}"
    table = Table(title=title, title_justify="left")
    names = ("blocks", "stored", "of", "at once", "chunk", "memory", "compiling", "estimate")
    for name in ("cell", *names):
        table.add_column(name, justify="left" if name == "cell" else "right", no_wrap=True)
    for cell in plans:
        table.add_row(
            as_is(cell.name),
            str(cell.num_blocks),
            str(cell.num_stored),
            short(cell.block_size),
            short(cell.at_once),
            short(cell.chunk_size),
            f"{cell.memory / 2**20:.1f} MiB",
            f"{cell.compiling / 2**20:.0f} MiB",
            f"{cell.seconds:.1f} s",
        )
    print_table(table)
    print_line(
        f"{len(plans)} cells, {short(len(plans) * spec.num_inits)} initialisations, "
        f"{len({cell.program for cell in plans})} programs; about "
        f"{seconds:.0f} s, by one timed call of each program, "
        "and compiling."
    )
    if spec.precision is not None:
        print_line("Cells that reach the precision earlier stop earlier.")


def _computed_on(machine: Machine) -> str:
    """Return who computes a sweep, and on what."""
    devices = f"{len(machine.devices)} x {machine.devices[0].device_kind}"
    if machine.scheduler == "local":
        return f"a local Dask cluster of {len(machine.devices)} workers"
    if machine.scheduler is not None:
        return f"the Dask cluster at {machine.scheduler} (memory and times: {devices} here)"
    if machine.executor == "process":
        return f"{devices}, executor process: {machine.num_processes} processes"
    return f"{devices}, executor thread: this process"


def table_of(dataset: xr.Dataset) -> Table:
    """Return one row per cell, with the axes that have several values."""
    varying = [axis for axis in sweeps.AXES if dataset.sizes.get(axis, 0) > 1] or ["layer"]
    table = Table(title="Collisions: twins equal by signs in every head", title_justify="left")
    for axis in varying:
        table.add_column(axis, no_wrap=True)
    for name in ("initialisations", "probability", "95% interval", "all pairs equal"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in sweeps.to_table(dataset):
        labels = [as_is(row[axis]) for axis in varying]
        if row["num_inits"] == 0:
            table.add_row(*labels, "none yet", "", "", "")
            continue
        table.add_row(
            *labels,
            short(row["num_inits"]) + ("" if row["is_complete"] else ", incomplete"),
            f"{row['collision_probability']:.6f}",
            as_is(f"[{row['interval_low']:.6f}, {row['interval_high']:.6f}]"),
            f"{row['all_pairs_equal'] / row['num_inits']:.6f}",
        )
    return table
