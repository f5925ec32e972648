"""`gat-jax train --study`: what training makes of twins on real graphs; the same command goes on.

    gat-jax train --study --data-dir DIR --out study

Writes study.json into the output folder as soon as all runs are there: every row, and verdicts by
the rules of `studies.twins_rules`. The runs are stored beside it, in a folder `runs`.
"""

import dataclasses
import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import tyro
from rich.table import Table

from gat_jax.commands.printing import as_is, print_line, print_table
from gat_jax.report import interval, number
from gat_jax.runtime import cli, compile_cache, devices, stops, store
from gat_jax.studies import twins_rules, twins_study
from gat_jax.studies.twins_study import TwinsConfig
from gat_jax.training import State

# A program is used for less time than it takes to compile it well. A flag that XLA does not know
# would end the process; JAX 0.10 and later know these.
QUICK_TO_COMPILE = (
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true "
    "--xla_backend_extra_options=xla_cpu_disable_new_fusion_emitters"
)


@dataclasses.dataclass(frozen=True)
class Options:
    """Train networks on real graphs; what becomes of twins, and what self-loops change."""

    study: bool = False
    """this study, in place of one training"""
    out: Path = Path("study")
    """folder to write into, or to go on with"""
    data_dir: Path | None = None
    """folder in which graphs are looked for by their name: NAME.npz, a folder, or ind.NAME.*"""
    graphs: tuple[str, ...] = twins_study.GRAPHS
    """what is trained on"""
    compile_cache: bool = True
    """keep compiled programs in the user's cache folder, and use those that are there"""
    config: tyro.conf.OmitArgPrefixes[TwinsConfig] = dataclasses.field(default_factory=TwinsConfig)


def run(
    arguments: Sequence[str],
    find_data: Callable[[str, Path | None], str],
    progress: Callable[[], AbstractContextManager[Callable[[State], None]]],
) -> int:
    """Run the study, or go on with it.

    Args:
      arguments: of the command, `--study` among them.
      find_data: returns what a graph's name in a folder stands for.
      progress: of all runs.

    Returns:
      The exit code: 0, or that of a signal.

    Raises:
      ValueError: if graphs are named twice or cannot be used.
    """
    options = cli.parse(Options, arguments, prog="gat-jax train")
    if len(set(options.graphs)) < len(options.graphs) or not options.graphs:
        names = ", ".join(options.graphs) or "none"
        raise ValueError(f"graphs: expected different graphs, got {names}")
    data = {name: find_data(name, options.data_dir) for name in options.graphs}
    prepared = twins_study.prepare_twins_study(options.config, data)
    compile_quickly()
    cli.note(compile_cache.use_compile_cache(options.compile_cache))
    devices.check_backend()
    store.check_writable(options.out)
    origin = devices.provenance()
    print_line(
        f"{len(prepared.specs)} networks, without and with self-loops, from "
        f"{options.config.num_seeds} seeds each: {prepared.num_runs} runs"
    )
    with stops.patient() as should_stop, progress() as tell:
        folder = options.out / "runs"
        rows = twins_study.run_twins_study(
            prepared, folder, should_stop=should_stop, on_progress=tell
        )
    if rows is None:
        print_line("Interrupted. What is finished is stored; the same command goes on.")
        return cli.ended_by(stops.received() or 0)
    found = {**twins_study.document(prepared, rows), "origin": origin}
    with store.staged(options.out) as scratch:
        text = json.dumps(found, indent=2, allow_nan=False)
        (scratch / "study.json").write_text(text + "\n", encoding="utf-8")
    print_table(table_of_rows(rows))
    print_table(table_of_verdicts(found["verdicts"]))
    print_line(f"Written to {options.out}: study.json, runs/")
    return 0


def compile_quickly() -> None:
    """Have XLA hardly optimise, unless its flags are set; it reads them with its first program."""
    os.environ.setdefault("XLA_FLAGS", QUICK_TO_COMPILE)


# --- what is printed ------------------------------------------------------------------------------


def table_of_rows(rows: twins_rules.Rows) -> Table:
    """Return a row for each network in each place, with means over seeds."""
    table = Table(title="Means over seeds, of the last layer", title_justify="left")
    names = (
        "graph",
        "self-loops",
        "network",
        "pairs",
        "contested",
        "equal at start",
        "equal after",
    )
    for name in (*names, "test accuracy", "contested", "others", "loss", "floor"):
        is_word = name in ("graph", "self-loops", "network")
        table.add_column(name, justify="left" if is_word else "right", no_wrap=True)
    for (place, network), row in rows.items():
        shares = (row.equal_at_start, row.equal_after, row.test_accuracy)
        accuracies = (row.contested_accuracy, row.other_accuracy)
        table.add_row(
            as_is(place.graph),
            "with" if place.has_loops else "without",
            as_is(twins_study.name_of(network)),
            f"{row.twins.pairs} + {row.twins.trivial_pairs}",
            f"{row.twins.contested} + {row.twins.trivial_contested}",
            *(_mean(values) for values in (*shares, *accuracies, row.loss, row.floor)),
        )
    return table


def _mean(values: Any) -> str:
    known = [float(x) for x in values if x == x]
    return f"{sum(known) / len(known):.3f}" if known else ""


def table_of_verdicts(entries: Sequence[Mapping[str, Any]]) -> Table:
    """Return a row for each statement: its verdict, estimate and interval."""
    table = Table(title="Statements", title_justify="left")
    for name in ("statement", "verdict", "estimate", "95% interval"):
        is_word = name in ("statement", "verdict")
        table.add_column(name, justify="left" if is_word else "right", no_wrap=True)
    for entry in entries:
        low, high = entry["interval"]
        is_known = entry["estimate"] is not None
        table.add_row(
            as_is(entry["id"]),
            entry["verdict"],
            number(entry["estimate"], low, high) if is_known else "nothing",
            as_is(interval(low, high, entry["num_samples"])) if is_known and low != high else "",
        )
    return table
