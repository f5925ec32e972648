"""`gat-jax train --lookup`: can a layer find each query's own key? GATv2 can, and GAT cannot.

    gat-jax train --lookup --out lookup

Writes lookup.json into the output folder, and then lookup.png and lookup_dark.png.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from gat_jax.commands.printing import print_line, print_table
from gat_jax.graphs import best_constant_ranking_accuracy
from gat_jax.report import percent, prepare_matplotlib
from gat_jax.runtime import cli, compile_cache, devices, stops, store
from gat_jax.studies import lookup
from gat_jax.studies.lookup import LookupConfig, LookupRuns


@dataclasses.dataclass(frozen=True)
class Options:
    """Train GAT and GATv2 on DictionaryLookup, where every query has to find its own key."""

    lookup: bool = False
    """this study, in place of one training"""
    out: Path = Path("lookup")
    """folder to write into"""
    num_seeds: int = 10
    """initialisations of each layer"""
    seed: int = 0
    """of the dictionaries and of the initialisations"""
    compile_cache: bool = True
    """keep compiled programs in the user's cache folder, and use those that are there"""


def run(arguments: Sequence[str]) -> int:
    """Run the study; nothing of it is kept before its end, which comes in minutes.

    Args:
      arguments: of the command, `--lookup` among them.

    Returns:
      The exit code 0.

    Raises:
      ValueError: if a number is out of its range, or the folder cannot be written.
      IncompleteError: if the numbers are there and the pictures are not.
    """
    options = cli.parse(Options, arguments, prog="gat-jax train")
    if options.num_seeds < 1:
        raise ValueError(f"num_seeds: expected at least 1, got {options.num_seeds}")
    if not 0 <= options.seed < 2**32:
        raise ValueError(f"seed: expected 0 to 4294967295, got {options.seed}")
    store.check_writable(options.out)
    cli.note(compile_cache.use_compile_cache(options.compile_cache))
    devices.check_backend()
    origin, config = devices.provenance(), LookupConfig()
    found: dict[str, LookupRuns] = {}
    for layer in lookup.LAYERS:
        print_line(f"Training {layer} from {options.num_seeds} seeds")
        found[layer] = lookup.train_lookup(
            layer, options.num_seeds, seed=options.seed, config=config
        )
    document = document_of(found, config) | {"seed": options.seed, "origin": origin}
    with store.staged(options.out) as scratch:
        text = json.dumps(document, indent=2, allow_nan=False)
        (scratch / "lookup.json").write_text(text + "\n", encoding="utf-8")
    stops.keep(f"the numbers are in {options.out / 'lookup.json'}")
    print_table(table_of(document))
    ceiling = percent(document["ceiling"], 1)
    print_line(f"One ranking of the keys, read as attention and a bias, answers {ceiling} at most.")
    _save_pictures(found, document["ceiling"], options.out)
    print_line(f"Written to {options.out}: lookup.json, lookup.png, lookup_dark.png")
    return 0


def document_of(found: Mapping[str, LookupRuns], config: LookupConfig) -> dict[str, Any]:
    """Return what is written as lookup.json: what one ranking reaches, and all runs."""
    return {
        "num_keys": config.num_keys,
        "num_dictionaries": config.num_dictionaries,
        "ceiling": best_constant_ranking_accuracy(config.num_keys),
        "layers": {
            layer: {name: array.tolist() for name, array in runs._asdict().items()}
            for layer, runs in found.items()
        },
    }


def table_of(document: Mapping[str, Any]) -> Table:
    """Return a row for each layer: what its runs answer at the end."""
    title = f"DictionaryLookup with {document['num_keys']} keys"
    table = Table(title=title, title_justify="left")
    for name in ("layer", "seeds", "all right", "least", "median", "most", "median, new"):
        table.add_column(name, justify="left" if name == "layer" else "right", no_wrap=True)
    for layer, runs in document["layers"].items():
        last = sorted(accuracy[-1] for accuracy in runs["accuracy"])
        new = sorted(runs["new_accuracy"])
        shares = (last[0], _median(last), last[-1], _median(new))
        solved = sum(share == 1 for share in last)
        table.add_row(layer, str(len(last)), str(solved), *(percent(x, 1) for x in shares))
    return table


def _median(ordered: Sequence[float]) -> float:
    middle = len(ordered) // 2
    return (ordered[middle] + ordered[-1 - middle]) / 2


def _save_pictures(found: Mapping[str, LookupRuns], ceiling: float, out: Path) -> None:
    """Draw the figure in both themes.

    Raises:
      IncompleteError: if it cannot be drawn, with the reason.
    """
    for name in ("lookup.png", "lookup_dark.png"):  # of other numbers
        (out / name).unlink(missing_ok=True)
    try:
        prepare_matplotlib()
        from gat_jax.studies import lookup_figure  # imports matplotlib: that may fail, and so late

        light, dark = lookup_figure.draw(found, ceiling)
        (out / "lookup.png").write_bytes(light.png)
        (out / "lookup_dark.png").write_bytes(dark.png)
    except Exception as error:
        raise cli.IncompleteError(f"missing: lookup.png ({cli.first_line(error)})") from error
