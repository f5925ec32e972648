"""Say which nodes a trained model gives equal outputs, why, and what would separate them.

    gat-jax diagnose --edges edges.csv --features x.npy --weights model.safetensors --html why.html

The first line of the summary is the answer. Numbers are written as JSON and CSV, and after them the
page; a page that cannot be written costs one line and exit code 1.
"""

import dataclasses
import json as json_text
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn

from gat_jax.commands.printing import print_line, progress_of
from gat_jax.diagnosis import RemedyReport, diagnose, wording
from gat_jax.diagnosis import weights as importers
from gat_jax.diagnosis.diagnose import NUM_FRESH, Diagnosis
from gat_jax.diagnosis.inputs.graphs import NamedGraph, read_graph
from gat_jax.diagnosis.models.from_weights import ActivationName, observe_weights
from gat_jax.diagnosis.models.observed import ObservedModel
from gat_jax.diagnosis.pages import page
from gat_jax.diagnosis.remedies.trials import try_remedies
from gat_jax.runtime import cli, compile_cache, devices, stops, store
from gat_jax.runtime.text import visible

FailOn = Literal["merged", "warn", "fail"]
MERGED = "merged_nodes"  # the check that `--fail-on merged` looks at
MAX_NAMED = 8  # keys in a note


@dataclasses.dataclass(frozen=True)
class Options:
    """Say which nodes a trained model gives equal outputs, why, and what would separate them."""

    edges: Path
    """edge list (.csv, .tsv, .parquet, ...), graph (.npz, .graphml, ...), folder, built-in name"""
    weights: Path
    """weights (.safetensors, .npz, or .pt of tensors alone) of PyG, DGL, the tutorial, or ours"""
    features: Path | None = None
    """features of the nodes (.npy, .npz, .csv, .tsv); without it those of the graph, or one-hot"""
    labels: Path | None = None
    """classes of the nodes (.npy, .npz, .csv, .tsv, .txt); -1 or nothing is unlabelled"""
    before: Path | None = None
    """weights of an earlier checkpoint of the same model: what training moved"""
    no_self_loops: tyro.conf.FlagCreatePairsOff[bool] = False
    """keep the edges as they are given; without it each system's own handling: PyG adds loops"""
    activation: ActivationName = "elu"
    """what stands between two layers, which weights do not show"""
    layers: tuple[str, ...] = ()
    """names of the layers, in their order, where they are not found or ordered rightly"""
    heads: int | None = None
    """heads of a layer whose weights do not show them"""
    slope: float = 0.2
    """slope of the LeakyReLU of attention"""
    json: Path | None = None
    """file for the diagnosis as JSON"""
    csv: Path | None = None
    """file for the pairs of nodes as a table"""
    html: Path | None = None
    """file for the page"""
    fail_on: FailOn | None = None
    """exit with code 1 if nodes are merged that could be told apart, or by the worst check"""
    num_fresh: int = NUM_FRESH
    """fresh initialisations that are drawn of each layer and remedy; 0 for none"""
    try_runs: Annotated[int, tyro.conf.arg(name="try")] = 0
    """short trainings with each remedy, which say what it really does; 0 for none"""
    seed: int = 0
    """of these trainings"""
    compile_cache: bool = True
    """keep compiled programs in the user's cache folder, and use those that are there"""


def main(argv: Sequence[str] | None = None) -> int:
    """Diagnose.

    Args:
      argv: arguments; None reads the process's own.

    Returns:
      The exit code, as `cli.boundary` says; 1 also where `--fail-on` found what it looks for.

    Raises:
      SystemExit: code 2 after one line on stderr for bad input, code 0 after --help.
    """
    return cli.boundary(_run, argv)


def _run(arguments: list[str]) -> int:
    cli.refuse_twice(arguments)
    options = cli.parse(Options, arguments, prog="gat-jax diagnose")
    check_options(options)
    # All that can be refused is refused before anything computes.
    model_file = read_weights(options.weights, options)
    before_file = None if options.before is None else read_weights(options.before, options)
    named = read_graph(options.edges, options.features, options.labels)
    diagnose.check_labels(named.labels, len(named.graph.nodes))
    cli.note(compile_cache.use_compile_cache(options.compile_cache))
    devices.check_backend()
    model = observe(model_file, named, options)
    before = None if before_file is None else observe(before_file, named, options)
    found = diagnose.from_observed(
        model,
        labels=named.labels,
        node_names=named.node_names,
        before=before,
        num_fresh=options.num_fresh,
    )
    if options.try_runs:
        reports = _try_remedies(found, model, options)
        found = dataclasses.replace(found, remedies=reports)
        found = dataclasses.replace(found, answer=wording.answer_of(found))
    try:
        _save_numbers(found, options)
    finally:  # where the disk is full, the summary is all there is
        for line in found.summary().split("\n"):
            print_line(line)
        print_line("\nRead from the weights (other options say otherwise):")
        for line in importers.describe(model_file.layers):
            print_line(f"  {line}")
    _save_page(found, options)
    reason = reason_to_fail(found, options.fail_on)
    if reason is not None:
        cli.print_error(reason)
        return cli.FAILED
    return 0


# --- input --------------------------------------------------------------------------------------


def check_options(options: Options) -> None:
    """Refuse numbers out of their range and files that cannot be written, or would be overwritten.

    Raises:
      ValueError: names the option, what was expected and what came.
    """
    if options.num_fresh < 0:
        raise ValueError(f"num_fresh: expected at least 0, got {options.num_fresh}")
    if options.try_runs < 0:
        raise ValueError(f"try: expected at least 0, got {options.try_runs}")
    if not 0 <= options.seed < 2**32:
        raise ValueError(f"seed: expected a number in [0, 2^32), got {options.seed}")
    inputs = (options.edges, options.weights, options.features, options.labels, options.before)
    taken = {path.resolve() for path in inputs if path is not None}
    for field in ("json", "csv", "html"):
        path: Path | None = getattr(options, field)
        if path is None:
            continue
        if path.is_dir():
            raise ValueError(f"{field}: expected a file to write, got the folder {path}")
        if path.resolve() in taken:
            raise ValueError(f"{field}: expected a file of its own, got {path} once more")
        taken.add(path.resolve())
        store.check_writable(path.parent, field=field)


def read_weights(path: Path, options: Options) -> importers.ReadModel:
    """Read the layers of a file of weights, as the options say.

    Raises:
      ValueError: one line that says what was expected and what came.
    """
    arrays = importers.read_arrays(path)
    try:
        return importers.read_model(
            arrays,
            options=importers.FormOptions(heads=options.heads, slope=options.slope),
            layers=options.layers or None,
        )
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def observe(file: importers.ReadModel, named: NamedGraph, options: Options) -> ObservedModel:
    """Run the layers on the graph, and note what was decided for the user."""
    model = observe_weights(
        file.layers,
        named.graph,
        activation=options.activation,
        self_loops=False if options.no_self_loops else None,
    )
    notes = [*named.notes, *model.notes]
    if file.unread:
        names = ", ".join(visible(key) for key in file.unread[:MAX_NAMED])
        more = len(file.unread) - MAX_NAMED
        names += f" and {more} more" if more > 0 else ""
        notes.append(f"These weights belong to no layer of attention and were left out: {names}.")
    return model._replace(notes=tuple(notes))


def _try_remedies(
    found: Diagnosis, model: ObservedModel, options: Options
) -> tuple[RemedyReport, ...]:
    with progress_of(TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()) as bars:
        bar = bars.add_task("trying remedies", total=None)

        def tell(what: str, done: int, total: int) -> None:
            bars.update(bar, description=visible(what), completed=done, total=total)

        return try_remedies(
            found, model, num_runs=options.try_runs, seed=options.seed, progress=tell
        )


# --- output -------------------------------------------------------------------------------------


def _save_numbers(found: Diagnosis, options: Options) -> None:
    written = []
    if options.json is not None:
        text = json_text.dumps(found.to_dict(), indent=2, allow_nan=False)
        _write(options.json, text + "\n")
        written.append(str(options.json))
    if options.csv is not None:
        _write(options.csv, found.frame().to_csv(index=False, lineterminator="\n"))
        written.append(str(options.csv))
    if written:
        stops.keep(f"the numbers are in {' and '.join(written)}")


def _write(path: Path, text: str) -> None:
    """Replace a file as a whole; text that is no Unicode is written as escapes."""
    with store.staged(path.parent) as folder:
        (folder / path.name).write_text(text, encoding="utf-8", errors="backslashreplace")


def _save_page(found: Diagnosis, options: Options) -> None:
    if options.html is None:
        return
    try:
        page.write_page(found, options.html)
    except Exception as error:
        raise cli.IncompleteError(f"missing: {options.html} ({cli.first_line(error)})") from error


def reason_to_fail(found: Diagnosis, wanted: FailOn | None) -> str | None:
    """Return why a diagnosis ends with exit code 1, or None.

    Args:
      found: the diagnosis.
      wanted: "merged": nodes are equal that could be told apart; "fail": a check fails; "warn": one
        fails or warns; None: there is no reason.
    """
    kinds = {None: (), "merged": ("fail",), "fail": ("fail",), "warn": ("warn", "fail")}[wanted]
    checks = [check for check in found.checks if check.status in kinds]
    if wanted == "merged":
        checks = [check for check in checks if check.name == MERGED]
    if not checks:
        return None
    worst = next((check for check in checks if check.status == "fail"), checks[0])
    more = f" (and {len(checks) - 1} more)" if len(checks) > 1 else ""
    return f"fail-on {wanted}: {worst.name}: {worst.text}{more}"


if __name__ == "__main__":
    cli.begin()
    cli.leave(main())
