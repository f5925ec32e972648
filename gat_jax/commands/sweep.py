"""Sweep layers, heads, channels, initialisers, features and slopes over random initialisations.

    python scripts/sweep.py --heads 1 2 4 8 --num-inits 1000000 --out STORE.zarr
    python scripts/sweep.py summarise STORE.zarr

The same command again goes on where the last one stopped.
"""

import contextlib
import dataclasses
import re
import shlex
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import jax
import tyro
import xarray as xr
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from gat_jax.runtime import cli, store
from gat_jax.runtime.devices import default_devices, total_memory, use_cores
from gat_jax.runtime.engine import Program
from gat_jax.sampling import split_into_tiles
from gat_jax.sweeps import Entry, SweepSpec, specfile
from gat_jax.sweeps import figures as sweep_figures
from gat_jax.sweeps import runner as sweep

UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


@dataclasses.dataclass(frozen=True)
class Options:
    """Sweep random initialisations; the same command again goes on where the last one stopped.

    "sweep.py summarise STORE" prints the table of a store and writes CSV and figures.
    """

    out: Path = Path("sweep.zarr")
    """store to write, or to go on with; xarray.open_zarr opens it"""
    spec: Path | None = None
    """TOML file with the fields of the spec; options given beside it replace its values"""
    dry_run: bool = False
    """say what there is to do and how long it takes, and do nothing"""
    chunk_size: Literal["auto"] | int = "auto"
    """initialisations under way at once, in whole tiles; changes no result"""
    memory: str | None = None
    """for chunks of automatic size, such as 500M or 8G; default: a quarter of what there is"""
    devices: int | None = None
    """how many to use; default: all accelerators, or one for each CPU core"""
    distributed: bool = False
    """be one of several processes that share the store: found on TPU pods and under Slurm"""
    coordinator: str | None = None
    """address:port of process 0, where it cannot be found"""
    process_id: int | None = None
    """number of this process, where it cannot be found"""
    num_processes: int | None = None
    """how many there are, where it cannot be found"""
    config: tyro.conf.OmitArgPrefixes[SweepSpec] = dataclasses.field(default_factory=SweepSpec)


@dataclasses.dataclass(frozen=True)
class SummariseOptions:
    """Print a sweep's table; write it as CSV, and figures."""

    store: tyro.conf.Positional[Path]
    """of a sweep"""
    out: Path | None = None
    """folder to write into; default: beside the store"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a sweep or summarise one; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments and not arguments[0].startswith("-") and arguments[0] != "summarise":
        cli.fail(f"command: expected summarise, or options of a sweep, got {arguments[0]}")
    try:
        if arguments[:1] == ["summarise"]:
            return summarise(cli.parse(SummariseOptions, arguments[1:]))
        return run(_parse(arguments), arguments)
    except ValueError as error:
        cli.fail(error)
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        place = f" ({error.filename})" if error.filename else ""
        reason = error.strerror or error
        print(f"error: {reason}{place}; finished blocks are kept", file=sys.stderr)
        return 1


def _parse(arguments: list[str]) -> Options:
    names = [argument.split("=")[0] for argument in arguments if argument.startswith("--")]
    names = [name.replace("_", "-") for name in names]
    for name in names:
        if names.count(name) > 1:
            cli.fail(f"{name}: expected once, got twice")
    path = None
    for k, argument in enumerate(arguments):
        if argument == "--spec" and k + 1 < len(arguments):
            path = Path(arguments[k + 1])
        elif argument.startswith("--spec="):
            path = Path(argument.removeprefix("--spec="))
    try:
        default = Options() if path is None else Options(config=specfile.load_spec(path))
        return cli.parse(Options, arguments, default=default)
    except ValueError as error:
        cli.fail(error)


# --- running ------------------------------------------------------------------------------------


def run(options: Options, arguments: Sequence[str]) -> int:
    """Run or plan the sweep."""
    spec = options.config
    if options.devices is not None and options.devices < 1:
        raise ValueError(f"devices: expected at least 1, got {options.devices}")
    if isinstance(options.chunk_size, int) and options.chunk_size < 1:
        raise ValueError(f"chunk_size: expected at least 1, got {options.chunk_size}")
    budget = None if options.memory is None else _bytes(options.memory)
    use_cores(options.devices)
    _start_processes(options)
    devices = default_devices()[: options.devices]
    if options.devices is not None and options.devices > len(devices):
        raise ValueError(f"devices: expected at most {len(devices)}, got {options.devices}")
    cells = sweep.entries(spec)
    budget = total_memory() // 4 if budget is None else budget

    def calls_under_way(entry: Entry) -> int:
        program = Program.of(entry.task.work, devices)
        if options.chunk_size == "auto":
            return program.calls_within(budget)
        return max(1, options.chunk_size // (entry.task.shape.tile_size * len(devices)))

    if options.dry_run:
        blocks = None
        if (options.out / "blocks").is_dir():
            blocks = store.Blocks(options.out)
            sweep.check_enlarges(blocks.header, sweep.header(spec))
        _print_plan(spec, cells, devices, calls_under_way, blocks)
        return 0
    with sweep.opened(spec, options.out) as blocks, _interruptible() as is_interrupted:
        with _progress_bar() as report:
            sweep.run_sweep(
                spec,
                cells,
                blocks,
                devices=devices,
                calls_under_way=calls_under_way,
                should_stop=is_interrupted,
                on_progress=report,
                process=(jax.process_index(), jax.process_count()),
            )
        dataset = sweep.summarise(spec, cells, blocks)
        is_complete = sweep.is_complete(dataset)
        if is_complete or is_interrupted() or jax.process_count() == 1:
            sweep.save_summary(dataset, options.out)
    console = _console()
    if is_interrupted():
        console.print("Interrupted. What is finished is stored; to go on, run:")
        command = shlex.join(["python", "scripts/sweep.py", *arguments])
        console.print(f"  {command}", soft_wrap=True, highlight=False)
        return 130
    if is_complete:
        console.print(_table(dataset))
        console.print(f"Written to {options.out}; python scripts/sweep.py summarise {options.out}")
    else:
        console.print("This process's share is done; the others' is not yet.")
    return 0


def _start_processes(options: Options) -> None:
    given = {
        "coordinator_address": options.coordinator,
        "process_id": options.process_id,
        "num_processes": options.num_processes,
    }
    if not options.distributed:
        if any(value is not None for value in given.values()):
            raise ValueError("distributed: expected together with coordinator and process numbers")
        return
    try:
        jax.distributed.initialize(**given)
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"distributed: could not start ({str(error).splitlines()[0]})") from None


@contextlib.contextmanager
def _interruptible() -> Iterator[Any]:
    """Turn the first Ctrl-C or SIGTERM into a flag; the second one acts as ever."""
    received: list[int] = []
    previous = {}

    def note(number: int, _) -> None:
        received.append(number)
        print("\nFinishing the blocks under way.", file=sys.stderr)
        signal.signal(number, previous[number])

    with contextlib.suppress(ValueError):  # only the main thread may set handlers
        for number in (signal.SIGINT, signal.SIGTERM):
            previous[number] = signal.signal(number, note)
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _progress_bar() -> Iterator[Any]:
    columns = (
        TextColumn("initialisations"),
        BarColumn(),
        TextColumn("{task.fields[counts]}"),
        TimeElapsedColumn(),
        TextColumn("left:"),
        TimeRemainingColumn(),
    )
    start = time.monotonic()
    with Progress(*columns, console=Console(stderr=True), speed_estimate_period=60) as progress:
        bar = progress.add_task("", total=None, counts="")

        def report(state: sweep.Progress) -> None:
            if state.message is not None:
                progress.console.print(state.message, soft_wrap=True)
            rate = state.computed / max(time.monotonic() - start, 1e-9)
            counts = f"{_short(state.done)} of {_short(state.total)}, {_short(rate)}/s"
            progress.update(bar, completed=state.done, total=state.total, counts=counts)

        yield report


# --- what is printed ----------------------------------------------------------------------------


def _print_plan(
    spec: SweepSpec,
    cells: list[Entry],
    devices,
    calls_under_way,
    blocks: store.Blocks | None,
) -> None:
    """Print what there is to do; `blocks` are those of a store that is there already."""
    table = Table(title=f"Sweep on {len(devices)} x {devices[0].device_kind}", title_justify="left")
    for name in ("cell", "blocks", "stored", "of", "chunk", "memory", "estimate"):
        table.add_column(name, justify="left" if name == "cell" else "right", no_wrap=True)
    total = 0.0
    seconds: dict[Program, float] = {}
    for entry in cells:
        size = entry.task.shape.tile_size * len(devices)
        program = Program.of(entry.task.work, devices)
        calls = calls_under_way(entry)
        stored = {} if blocks is None else sweep.read_blocks(spec, entry, blocks)[0]
        if program not in seconds:
            seconds[program] = _time_call(program, entry)
        missing = spec.num_inits - sum(int(record[0]) for record in stored.values())
        estimate = seconds[program] * -(-missing // size)
        total += estimate
        table.add_row(
            entry.key.rsplit("-", 1)[0],
            str(sweep.num_blocks(spec, entry)),
            str(len(stored)),
            _short(min(entry.block_size, spec.num_inits)),
            _short(min(calls * size, -(-spec.num_inits // size) * size)),
            f"{(program.memory.running + calls * program.memory.results) / 2**20:.1f} MiB",
            f"{estimate:.1f} s",
        )
    console = _console()
    console.print(table)
    console.print(
        f"{len(cells)} cells, {_short(len(cells) * spec.num_inits)} initialisations, "
        f"{len(seconds)} programs; about {total:.0f} s, by one timed call of each program, "
        "and compiling."
    )
    if spec.precision is not None:
        console.print("Cells that reach the precision earlier stop earlier.")


def _time_call(program: Program, entry: Entry) -> float:
    """Return the seconds that one tile on each device takes."""
    shape = entry.task.shape
    tiles = [*split_into_tiles(0, shape.tile_size, shape)] * len(program.devices)
    seconds = 0.0
    for _ in range(2):  # the first call also allocates
        start = time.perf_counter()
        jax.block_until_ready(program(entry.task.inputs, tiles))
        seconds = time.perf_counter() - start
    return seconds


def _table(dataset: xr.Dataset) -> Table:
    """Return one row per cell, with the axes that have several values."""
    frame = sweep.to_table(dataset)
    varying = [axis for axis in sweep.AXES if axis in dataset.dims and dataset.sizes[axis] > 1]
    table = Table(title="Collisions: twins equal by signs in every head", title_justify="left")
    for axis in varying or ["layer"]:
        table.add_column(axis, no_wrap=True)
    for name in ("initialisations", "probability", "95% interval", "all pairs equal"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in frame:
        labels = [str(row[axis]) for axis in varying or ["layer"]]
        if row["num_inits"] == 0:
            table.add_row(*labels, "none yet", "", "", "")
            continue
        table.add_row(
            *labels,
            _short(row["num_inits"]) + ("" if row["is_complete"] else ", incomplete"),
            f"{row['collision_probability']:.6f}",
            rf"\[{row['interval_low']:.6f}, {row['interval_high']:.6f}]",
            f"{row['all_pairs_equal'] / row['num_inits']:.6f}",
        )
    return table


def summarise(options: SummariseOptions) -> int:
    """Print the table of a store; write summary.csv and figures."""
    if not (options.store / "blocks").is_dir():
        raise ValueError(f"store: expected a sweep's store, got {options.store}")
    # From the blocks, not from the stored summary, which an interrupted sweep may not have.
    blocks = store.Blocks(options.store)
    spec = sweep.spec_of(blocks)
    dataset = sweep.summarise(spec, sweep.entries(spec), blocks)
    if not (dataset["num_inits"] > 0).any():
        raise ValueError(f"store: expected finished blocks, got none in {options.store}")
    out = options.out or options.store.with_name(options.store.stem + "_summary")
    store.check_writable(out)
    with store.staged(out) as folder:
        sweep.write_csv(dataset, folder / "summary.csv")
        axes = [axis for axis in sweep.AXES if axis in dataset.dims]
        names = sweep_figures.save_sweep_figures(dataset, axes, folder)
    console = _console()
    console.print(_table(dataset))
    console.print(f"Written to {out}: {', '.join(['summary.csv', *names])}")
    return 0


def _console() -> Console:
    # Where nobody can widen the window a row keeps to one line.
    return Console(width=None if sys.stdout.isatty() else 140)


def _bytes(text: str) -> int:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    if match is None:
        raise ValueError(f"memory: expected a size such as 500M or 8G, got {text!r}")
    return int(float(match[1]) * UNITS[match[2].upper()])


def _short(number: int | float) -> str:
    """Return a number with three digits and k, M or G."""
    for factor, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= factor:
            return f"{number / factor:.3g}{unit}"
    return f"{number:.3g}"


if __name__ == "__main__":
    sys.exit(main())
