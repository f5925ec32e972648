"""Time a layer of graph attention, forward and backward, against what users would pick instead.

    python scripts/benchmark.py layer --json benchmarks/layer.json

Every case runs in a process of its own, once in each *environment*: as it is, and with transparent
huge pages for what the C library allocates, a setting it reads when a process starts.
"""

import dataclasses
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from bench import common
from bench.layer import cases, measure, report, softmax, workers
from bench.layer.cases import PASSES
from gat_jax.graphs import datasets
from gat_jax.runtime import cli
from gat_jax.runtime.devices import num_cores, provenance

HOW = {
    "seconds": (
        "of every round; a system's first call in a round is not timed, see common.interleave"
    ),
    "forward+backward": "the inner product of the outputs with G, and its gradients",
    "ratio_to_peer": "median over rounds of the system's time by ours; above 1 we are faster",
    "peak_mib": (
        "one call in a process of its own, in the default environment: largest resident memory "
        "(VmHWM, set back before the call) less what was resident before it; inputs are resident, "
        "and a call before it has compiled. On a GPU what tensors take at most (torch), or what "
        "XLA plans for temporary arrays and results"
    ),
    "temporary_mib": "what XLA plans for temporary arrays: memory_analysis().temp_size_in_bytes",
    "max_relative_error": "against float64 NumPy, relative to the largest value of each array",
    "bound_seconds": "bytes_to_move (layer/cases, layer/softmax) by the bandwidth of copying",
    "prepare_in_steps_saved": "prepare_seconds / (step of segments - our step)",
    "edges": "all systems get the same edges, self-loops included; PyG's add_self_loops is off",
    "setting": "the fastest of settings_tried (seconds forward and backward) is measured",
}


@dataclasses.dataclass(frozen=True)
class Options:
    """Time a layer against its peers; the defaults take about one and a half hours on two cores."""

    json: Path = Path("benchmarks/layer.json")
    """file to write: a list of cases, with versions and the machine beside it; a figure of the same
    name goes beside it as .png"""
    data_dir: Path = Path("../shared/data")
    """folder with cora.npz; without it Cora is left out"""
    repeats: int = 5
    """rounds; every system runs once in each"""
    small: bool = False
    """shrink all graphs but Cora, to try the benchmark out"""
    huge_pages: bool = True
    """run everything a second time with huge pages"""
    training: bool = True
    """time 16 trainings on Cora too"""
    growth: bool = True
    """time graphs from 1e4 to 1e7 edges too"""
    memory: bool = True
    """measure memory too"""
    systems: str = ""
    """compare only with systems that have this in their name, or one of several texts separated by
    |; ours is always there"""
    only: str = ""
    """run only cases with this in their name, or with one of several texts separated by |"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns the exit code."""
    options = cli.parse(Options, argv)
    try:
        _check(options)
    except ValueError as error:
        cli.fail(error)
    document = _new_document(options)
    for name in workers.ENVIRONMENTS if options.huge_pages else ["default"]:
        for part, rows in _measure(name, options):
            if part == "environments":
                document[part][name] = rows
            else:
                document[part] += [row | {"environment": name} for row in rows]
            # Written after every case: a run takes long, and what is measured is measured.
            document["targets"] = report.judge(document)
            options.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    picture = options.json.with_suffix(".png")
    report.draw(document).savefig(picture, dpi=150)
    console = Console(width=140)
    for table in report.tables(document):
        console.print(table)
    for note in document["notes"]:
        print(f"Note: {note}")
    print(f"Written to {options.json} and {picture}")
    return 0


def _check(options: Options) -> None:
    """Refuse what cannot be run, before anything is.

    Raises:
      ValueError: says what was expected.
    """
    if options.json.suffix != ".json":
        raise ValueError(f"json: expected a file that ends in .json, got {options.json}")
    common.check_has_torch()
    if _has_cora(options):
        datasets.load_task(options.data_dir / "cora.npz")
    if not _cases(options):
        names = "; ".join(_all_cases(options))
        raise ValueError(f"only: expected part of one of {names}; got {options.only!r}")
    common.check_options(options.json, repeats=options.repeats)


def _has_cora(options: Options) -> bool:
    return (options.data_dir / "cora.npz").exists()


def _all_cases(options: Options) -> list[str]:
    return [softmax.CASE, *cases.case_names(has_cora=_has_cora(options))]


def _cases(options: Options) -> list[str]:
    names = _all_cases(options)
    return [name for name in names if _is_named(name, options.only)]


def _is_named(name: str, texts: str) -> bool:
    return any(text in name for text in texts.split("|"))


def _new_document(options: Options) -> dict[str, Any]:
    notes = []
    if not _has_cora(options):
        notes.append(f"no {options.data_dir / 'cora.npz'}: the Cora cases are left out")
    if options.small:
        notes.append("small graphs: the targets are not meant for them")
    load, cores = os.getloadavg()[0], num_cores()
    if load > 0.5 * cores:
        notes.append(
            f"the machine was busy at the start, with a load of {load:.1f} on {cores} cores: what "
            "runs on several threads, PyG above all, suffers most"
        )
    plain = {k: str(v) if isinstance(v, Path) else v for k, v in vars(options).items()}
    return {
        "machine": provenance("torch", "torch_geometric"),
        "how": HOW,
        "options": plain,
        "notes": notes,
        "environments": {},
        "entries": [],
        "growth": [],
    }


def _measure(environment: str, options: Options) -> Iterator[tuple[str, Any]]:
    """Measure everything in an environment; yields parts of the document and what to add."""

    def call(worker: str, **request: Any) -> Any:
        return workers.call(worker, request, environment)

    def say(what: str) -> None:
        print(f"{environment}: {what}", file=sys.stderr, flush=True)

    described = call("describe")
    yield "environments", described
    shared = {"repeats": options.repeats}
    systems = [name for name in measure.SETTINGS if _is_named(name, options.systems)]
    for name in _cases(options):
        say(name)
        bandwidth = described["copy_bytes_per_second"]
        if name == softmax.CASE:
            yield "entries", call("softmax", is_small=options.small, bandwidth=bandwidth, **shared)
            continue
        with tempfile.TemporaryDirectory() as folder:
            case = {"is_small": options.small, "data_dir": str(options.data_dir)}
            case |= {"name": name, "folder": folder, "bandwidth": bandwidth, "systems": systems}
            entries = call("case", **case, **shared)
            if options.memory and environment == "default":
                say(f"{name}: memory")
                _add_memory(entries, folder, call)
        yield "entries", entries
    if options.growth:
        say("growth")
        yield "growth", call("growth", is_small=options.small, **shared)
    if options.training and _has_cora(options):
        say("training")
        sizes = {"num_seeds": 2 if options.small else 16, "num_steps": 2 if options.small else 10}
        yield "entries", call("training", data_dir=str(options.data_dir), **sizes, **shared)


def _add_memory(entries: list[dict[str, Any]], folder: str, call: Any) -> None:
    """Fill in the peaks of all systems that were timed, where they are not known."""
    unknown = [entry for entry in entries if entry["median_seconds"] and entry["peak_mib"] is None]
    timed = {entry["system"]: entry["setting"] for entry in unknown}
    for system, setting in timed.items():
        try:
            peaks = call("memory", folder=folder, name=system, setting=setting)
        except RuntimeError as error:  # it may need more than there is
            peaks = dict.fromkeys(PASSES)
            print(f"memory of {system}: {error}", file=sys.stderr)
        for entry in entries:
            if entry["system"] == system:
                entry["peak_mib"] = peaks[entry["pass"]]
