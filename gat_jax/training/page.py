"""Figures and one self-contained HTML page of a training: scores, settings, pictures, provenance.

The page is a template, `training.html` of the folder `report/templates`; here is what it says.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import xarray as xr

from gat_jax.report import Picture, count, percent, prepare_matplotlib, render_page, save_pictures

CAPTIONS = {
    "accuracy": "Each dot is a seed, of the state that validation nodes chose where there are any. "
    "Diamond and bar: the mean over seeds and its 95% interval (Student's t).",
    "entropy": "Attention entropy of a layer, divided by that of uniform attention (dashed, 100%): "
    "the mean over seeds, receivers and heads. Band: 5% to 95% of the seeds.",
    "twins": "Twins are nodes with the same neighbourhood. Share of their pairs that a layer gives "
    "equal rows of attention in every head: the mean over seeds and its 95% interval.",
    "survival": "Of the runs whose pairs of twins are all equal at step 0, those that have not "
    "been seen otherwise yet. First exits alone (Kaplan-Meier, 95% interval); a run may come back.",
    "entropy_histogram": "Receivers with at least two edges by their normalised attention entropy. "
    "Uniform attention would have all of them at 100%. Mean over seeds.",
    "rank": "The exponential of the entropy of the outputs' singular values: how many directions "
    "the nodes differ in. The mean over seeds; band: 5% to 95% of the seeds.",
    "energy": "Squared distance of the outputs of neighbours, summed over edges and divided by the "
    "number of nodes. The mean over seeds; band: 5% to 95% of the seeds.",
}
OF_BEST = "Of several settings, this is the one with the best validation score."
OF_SEVERAL = "At most four settings are drawn, those with the best validation score."
OVER_STEPS = "Lines end where more than half of the runs have stopped."


def save(dataset: xr.Dataset, short: Mapping[str, Any], out: Path) -> dict[str, Exception]:
    """Draw the figures and write the page.

    Args:
      dataset: summary of a training, `summary.summarise`.
      short: the same in short, `summary.in_short`.
      out: the folder, in which `figures/NAME.png` and `report.html` are replaced.

    Returns:
      What is missing, by its name, and why. Figures whose numbers were not recorded are not missed.
    """

    def begin() -> tuple[Sequence[str], Callable[[str], tuple[Picture, Picture]]]:
        prepare_matplotlib()
        from gat_jax.training import figures  # imports matplotlib: that may fail, and so late

        return figures.drawable(dataset), lambda name: figures.draw(name, dataset)

    def write(
        names: Sequence[str], pictures: Mapping[str, tuple[Picture, Picture]], path: Path
    ) -> None:
        write_page(dataset, short, names, pictures, path)

    return save_pictures(begin, write, out)


def write_page(
    dataset: xr.Dataset,
    short: Mapping[str, Any],
    names: Sequence[str],
    pictures: Mapping[str, tuple[Picture, Picture]],
    path: Path,
) -> None:
    """Write the page.

    Args:
      dataset: summary of a training.
      short: the same in short.
      names: of the figures that there should be.
      pictures: (light, dark) by the figure's name; of one that is not among them the page says
        that it could not be drawn.
      path: of the HTML file.
    """
    text = render_page(
        "training.html",
        recipe=short["recipe"],
        data=short["data"],
        facts=_facts(short),
        captions={name: _caption(name, dataset, short) for name in names},
        pictures=pictures,
        labels=_labels(short["settings"]),
        rows=[_row(entry, _labels(short["settings"])) for entry in short["settings"]],
        provenance={
            str(name).replace("_", " "): _written(name, value)
            for name, value in dataset.attrs.items()
            if name not in ("data", "recipe")
        },
    )
    path.write_text(text, encoding="utf-8")


def _written(name: Any, value: Any) -> str:
    return f"{value:,.0f}" if name == "seconds" else str(value)


def _caption(name: str, dataset: xr.Dataset, short: Mapping[str, Any]) -> str:
    """Say what is drawn, and what was left out."""
    sentences, num_settings = [CAPTIONS[name]], len(short["settings"])
    if name in ("entropy", "twins", "rank", "energy"):
        lengths = [steps for entry in short["settings"] for steps in entry["num_steps"]]
        if min(lengths, default=0) < int(dataset["step"][-1]):
            sentences.append(OVER_STEPS)
    if name == "entropy_histogram":
        sentences += [OF_BEST] if num_settings > 1 else []
    elif name != "accuracy" and num_settings > 4:
        sentences.append(OF_SEVERAL)
    return " ".join(sentences)


def _facts(short: Mapping[str, Any]) -> list[str]:
    """Say what was found, in sentences that are true whatever the numbers are."""
    settings = short["settings"]
    if not settings:
        return ["No run is finished."]
    mean, (low, high) = short["test_accuracy"]["mean"], short["test_accuracy"]["interval"]
    seeds = count(short["num_seeds"], "seed")
    facts = []
    if len(settings) > 1:
        facts.append(
            f"Of {len(settings)} settings, the one with the best validation score is "
            f"{short['setting']}. Test nodes choose nothing."
        )
    if mean is None:
        facts.append(f"Not all of its {seeds} have a test accuracy, and so there is no mean.")
    else:
        within = ""
        if low is not None and low < high:  # runs that are all alike show no spread to go by
            within = f" (95% interval {percent(low, 1)} to {percent(high, 1)})"
        facts.append(f"Its test accuracy is {percent(mean, 1)} in the mean of {seeds}{within}.")
    num_failed = sum(entry["num_failed"] for entry in settings)
    num_runs = sum(entry["num_seeds"] for entry in settings)
    if num_failed:
        facts.append(f"{num_failed:,} of {num_runs:,} runs met numbers that are not finite.")
    return facts


# --- the table of settings ------------------------------------------------------------------------


def _labels(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the columns that have something to say."""
    labels = ["Seeds", "Test accuracy", "sd", "95% interval"]
    if any(entry["test_score"]["values"] != entry["test_accuracy"]["values"] for entry in settings):
        labels.append("Test score")
    labels.append("Validation score")
    if any(entry["contested_accuracy"]["mean"] is not None for entry in settings):
        labels += ["On contested twins", "On other nodes"]
    labels.append("Steps")
    if any(entry["num_failed"] for entry in settings):
        labels.append("Failed")
    return labels


def _row(entry: Mapping[str, Any], labels: Sequence[str]) -> dict[str, Any]:
    test = entry["test_accuracy"]
    low, high = test["interval"]
    steps = sorted({min(entry["num_steps"]), max(entry["num_steps"])})
    cells = {
        "Seeds": f"{entry['num_seeds']:,}",
        "Test accuracy": _share(test["mean"]),
        "sd": _share(test["sd"]),
        "95% interval": "" if low is None else f"{_share(low)} to {_share(high)}",
        "Test score": _share(entry["test_score"]["mean"]),
        "Validation score": _share(entry["validation_score"]["mean"]),
        "On contested twins": _share(entry["contested_accuracy"]["mean"]),
        "On other nodes": _share(entry["other_accuracy"]["mean"]),
        "Steps": " to ".join(f"{number:,}" for number in steps),
        "Failed": f"{entry['num_failed']:,}" if entry["num_failed"] else "",
    }
    return {"name": entry["setting"], "cells": [cells[label] for label in labels]}


def _share(value: float | None) -> str:
    return "" if value is None else percent(value, 1)
