"""Sweep layers, heads, channels, initialisers, features and slopes over random initialisations.

    gat-jax sweep --heads 1 2 4 8 --num-inits 1000000 --out STORE.zarr
    gat-jax sweep summarise STORE.zarr

The same command again goes on where the last one stopped.
"""

import dataclasses
import decimal
import functools
import os
import re
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import jax
import tyro
import xarray as xr

from gat_jax import report, sweeps
from gat_jax.commands import sweep_text
from gat_jax.commands.printing import print_line, print_table
from gat_jax.runtime import cli, cluster, compile_cache, devices, stops, store
from gat_jax.runtime.arrays import shown
from gat_jax.runtime.executors import TaskError, WorkersLostError
from gat_jax.runtime.text import shell_words
from gat_jax.sweeps import Machine, SweepSpec

UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


@dataclasses.dataclass(frozen=True)
class Options:
    """Sweep random initialisations; the same command again goes on where the last one stopped.

    "summarise STORE" in the place of options prints the table of a store and writes CSV and
    figures.
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
    """to compile and to compute, such as 500M or 8G; default: a quarter of what there is"""
    devices: int | None = None
    """how many to use, and processes to start; default: all accelerators, or one per CPU core"""
    executor: sweeps.ExecutorName = "auto"
    """who computes: this process (thread), one process per CPU core, or whichever is sooner done"""
    scheduler: str | None = None
    """address of a Dask scheduler whose workers compute, or "local" for a cluster made here"""
    compile_cache: bool = True
    """keep compiled programs in the user's cache folder, and use those that are there"""
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
    """Run a sweep, or summarise one.

    Args:
      argv: the arguments; None: those of this process.

    Returns:
      The exit code, as `cli.boundary` says; 1 also where a file of `summarise` is missing. What is
      finished is stored in any case.

    Raises:
      SystemExit: code 2 after one line on stderr for bad input, code 0 after --help.
    """
    return cli.boundary(_run, argv)


def _run(arguments: list[str]) -> int:
    if arguments[:1] == ["summarise"]:
        options = cli.parse(SummariseOptions, arguments[1:], prog="gat-jax sweep summarise")
        return summarise(options)
    if arguments and not arguments[0].startswith("-"):
        raise ValueError(f"command: expected summarise, or options of a sweep, got {arguments[0]}")
    return run(_parse(arguments), arguments)


def _parse(arguments: list[str]) -> Options:
    """Read the options; those of a spec's file are the defaults of the others.

    Raises:
      ValueError: if an option is given twice, or the file cannot be used.
    """
    cli.refuse_twice(arguments)
    options = cli.parse(Options, arguments, prog="gat-jax sweep")
    if options.spec is None:
        return options
    default = Options(config=sweeps.load_spec(options.spec))
    return cli.parse(Options, arguments, default=default, prog="gat-jax sweep")


# --- running ------------------------------------------------------------------------------------


def run(options: Options, arguments: Sequence[str]) -> int:
    """Run or plan the sweep.

    Args:
      options: what `arguments` say.
      arguments: as they were given, for the command that goes on with an interrupted sweep.

    Returns:
      The exit code.

    Raises:
      ValueError: if an option cannot be used.
    """
    machine, spec = _start_machine(options), options.config
    if options.dry_run:
        cells = sweeps.prepare(spec, memory=machine.memory)
        sweep_text.print_plan(list(sweeps.plan_sweep(cells, machine, options.out)), spec, machine)
        return 0
    with stops.patient() as should_stop, sweep_text.progress_bar() as tell:

        def report(state: sweeps.Progress) -> None:
            if state.done:
                stops.keep("finished blocks are kept")
            if state.dashboard is not None:
                print_line(f"Dashboard of the cluster: {state.dashboard}")
            tell(state)

        try:
            dataset = sweeps.run_sweep(
                spec, options.out, machine=machine, should_stop=should_stop, on_progress=report
            )
        except (sweeps.SummaryError, TaskError, WorkersLostError) as error:
            raise cli.IncompleteError(str(error)) from error
    number = stops.received()
    if number is not None:
        print_line("Interrupted. What is finished is stored; to go on, run:")
        print_line(f"  {shell_words([*invocation(), *arguments])}")
        return cli.ended_by(number)
    if sweeps.is_complete(dataset):
        print_table(sweep_text.table_of(dataset))
        command = shell_words([*invocation(), "summarise", str(options.out)])
        print_line(f"Written to {options.out}; to draw it: {command}")
    else:
        print_line("This process's share is done; the others' is not yet.")
    return 0


def _start_machine(options: Options) -> Machine:
    """Start JAX on the devices asked for, and join the other processes."""
    if options.devices is not None and options.devices < 1:
        raise ValueError(f"devices: expected at least 1, got {options.devices}")
    memory = None if options.memory is None else _bytes(options.memory)
    if options.scheduler is not None:
        cluster.check_installed()
    devices.use_cores(options.devices)
    cli.note(compile_cache.use_compile_cache(options.compile_cache))
    _start_processes(options)
    devices.check_backend()
    if memory is not None:  # more than there is would be planned with, and end the process
        memory = min(memory, devices.total_memory())
    found = devices.default_devices()
    if options.devices is not None and options.devices > len(found):
        raise ValueError(f"devices: expected at most {len(found)}, got {options.devices}")
    chunk_size = None if options.chunk_size == "auto" else options.chunk_size
    return Machine(
        found[: options.devices],
        chunk_size=chunk_size,
        memory=memory,
        executor=options.executor,
        scheduler=options.scheduler,
    )


def _bytes(text: str) -> int:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    if match is None:
        raise ValueError(f"memory: expected a size such as 500M or 8G, got {shown(text)}")
    num_bytes = int(decimal.Decimal(match[1]) * UNITS[match[2].upper()])
    if num_bytes == 0:
        raise ValueError(f"memory: expected more than nothing, got {text!r}")
    return num_bytes


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
        stops.restore()  # JAX waits for SIGTERM itself, where machines are taken away
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"distributed: could not start ({str(error).splitlines()[0]})") from None


def invocation() -> list[str]:
    """Return the words that call this command again, the way this process was called."""
    program = Path(sys.argv[0])
    if program.name == "sweep.py":
        here = shutil.which("python")
        is_here = here is not None and os.path.realpath(here) == os.path.realpath(sys.executable)
        return ["python" if is_here else sys.executable, sys.argv[0]]
    is_elsewhere = program.stem == "gat-jax" and shutil.which("gat-jax") is None
    return [sys.argv[0] if is_elsewhere else "gat-jax", "sweep"]


# --- summarising --------------------------------------------------------------------------------


def summarise(options: SummariseOptions) -> int:
    """Print the table of a store; write summary.csv and figures, each as far as it can be.

    Returns:
      The exit code.

    Raises:
      IncompleteError: if a file could not be made, which costs that file alone.
      ValueError: if the store or the folder to write into cannot be used.
    """
    # From the blocks, not from the stored summary, which an interrupted sweep may not have.
    cells, blocks = sweeps.load_blocks(options.store)
    beside = options.store if options.store.name else options.store.resolve()
    out = options.out or beside.with_name(f"{beside.stem}_summary")
    store.check_writable(out)
    dataset = sweeps.summarise(cells, blocks, devices.provenance(), on_damage=cli.note)
    if not (dataset["num_inits"] > 0).any():
        raise ValueError(f"store: expected finished blocks, got none in {options.store}")
    print_table(sweep_text.table_of(dataset))
    files: dict[str, Callable[[Path], None]] = {
        "summary.csv": functools.partial(sweeps.write_csv, dataset),
        "collisions.png": functools.partial(_draw, "collisions.png", dataset),
        "histograms.png": functools.partial(_draw, "histograms.png", dataset),
    }
    for name in list(files)[1:]:  # figures of other numbers must not lie beside these
        (out / name).unlink(missing_ok=True)
    if "gap_histogram" not in dataset:
        del files["histograms.png"]
    missing: dict[str, Exception] = {}
    for name, write in files.items():
        try:
            with store.staged(out) as folder:
                write(folder / name)
        except Exception as error:  # whatever one dies of, the others are still to be made
            missing[name] = error
    if written := [name for name in files if name not in missing]:
        print_line(f"Written to {out}: {', '.join(written)}")
    if missing:
        reasons = [f"{name} is missing ({cli.first_line(e)})" for name, e in missing.items()]
        failures = ExceptionGroup("what is missing", list(missing.values()))
        raise cli.IncompleteError("; ".join(reasons)) from failures
    return 0


def _draw(name: str, dataset: xr.Dataset, path: Path) -> None:
    # Imported where it is needed: a matplotlib that does not start costs the figures alone.
    report.prepare_matplotlib()
    from gat_jax.sweeps import figures

    figures.save_figure(name, dataset, path)


if __name__ == "__main__":
    cli.begin()
    cli.leave(main())
