"""What the figures of a training share: which settings and layers are drawn, and on which axes."""

import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend import Legend

from gat_jax.report import style
from gat_jax.report.style import Palette
from gat_jax.runtime.text import visible

# More curves cannot be told apart, nor more panels be read on one page.
MAX_CURVES, MAX_LAYERS = 4, 6
LINES = ("-", "--", "-.", ":")
STEPS = "Training step (log scale)"


class Curve(NamedTuple):
    """One setting as it is drawn: its runs and its looks."""

    name: str
    runs: xr.Dataset  # of the setting; dimensions seed, step, layer, head, ...
    color: str
    line: str


# --- settings and layers --------------------------------------------------------------------------


def settings(dataset: xr.Dataset) -> Iterator[tuple[str, xr.Dataset]]:
    """Yield the settings that have runs, named by the values that are not the same in all."""
    names = [str(name).split(", ") for name in dataset["setting"].values]
    common = set.intersection(*(set(parts) for parts in names)) if len(names) > 1 else set()
    for place, parts in enumerate(names):
        if int(dataset["num_runs"][place]):
            text = ", ".join(part for part in parts if part not in common) or ", ".join(parts)
            yield visible(text), dataset.isel(setting=place)


def curves(dataset: xr.Dataset, name: str, colors: Palette) -> list[Curve]:
    """Return the settings whose curves are drawn.

    Args:
      dataset: summary of a training.
      name: of the variable that is drawn; settings without it are left out.
      colors: of the theme.

    Returns:
      At most `MAX_CURVES`, those of the best validation, in the order of the grid.
    """
    found = [(text, runs) for text, runs in settings(dataset) if is_known(runs[name])]
    order = sorted(range(len(found)), key=lambda k: -_validation(found[k][1]))
    looks = zip((colors.equal, colors.other, *colors.by_heads), LINES, strict=True)
    chosen = sorted(order[:MAX_CURVES])
    return [Curve(*found[k], *look) for k, look in zip(chosen, looks, strict=False)]


def best(dataset: xr.Dataset, name: str) -> xr.Dataset:
    """Return the runs of the setting of the best validation that has numbers of this name."""
    return max((runs for _, runs in settings(dataset) if is_known(runs[name])), key=_validation)


def _validation(runs: xr.Dataset) -> float:
    values = runs["validation_score"].values if "validation_score" in runs else np.array([])
    return float(mean(values.ravel())) if is_known(values) else -np.inf


def layers_of(dataset: xr.Dataset, name: str) -> list[int]:
    """Return the layers that have numbers of this name, from first to last."""
    others = [dim for dim in dataset[name].dims if dim != "layer"]
    return np.flatnonzero(dataset[name].notnull().any(others).values).tolist()


# --- axes -----------------------------------------------------------------------------------------


def new_panels(
    dataset: xr.Dataset, layers: list[int], title: str, colors: Palette
) -> tuple[Figure, list[tuple[int, Axes]]]:
    """Return a figure with axes for each layer; of many layers `MAX_LAYERS` from all over them."""
    if len(layers) > MAX_LAYERS:
        picked = np.linspace(0, len(layers) - 1, MAX_LAYERS).round().astype(int)
        layers = [layers[k] for k in picked]
    fig = style.new_figure(title, 1.9 + 1.75 * len(layers), colors)
    axes = fig.subplots(len(layers), 1, sharex=True, squeeze=False)[:, 0]
    if dataset.sizes["layer"] > 1:
        for layer, ax in zip(layers, axes, strict=True):
            ax.set_title(f"Layer {layer + 1}", color=colors.text, fontsize=style.FONT_SIZE)
    return fig, list(zip(layers, axes, strict=True))


def set_steps(ax: Axes, dataset: xr.Dataset) -> None:
    """Show training steps to the right, on a logarithmic scale that begins with step 0."""
    steps = dataset["step"].values
    first, last = int(steps[min(1, len(steps) - 1)]), max(int(steps[-1]), 1)
    ax.set_xscale("symlog", linthresh=max(first, 1), linscale=0.3)
    ax.set_xlim(0, last)
    ticks = [0, *(10**k for k in range(7) if max(first, 1) <= 10**k <= last)]
    style.set_ticks(ax.xaxis, ticks, "{:,.0f}".format)


def set_shares(ax: Axes) -> None:
    """Show shares from none to all upwards."""
    ax.set_ylim(-0.04, 1.06)
    style.set_ticks(ax.yaxis, [0, 0.25, 0.5, 0.75, 1])


def set_legend(fig: Figure, ax: Axes) -> None:
    """Say below the panels which curve is which, if there are several."""
    handles, labels = ax.get_legend_handles_labels()
    if len(handles) > 1:
        options = {"loc": "outside lower left", "frameon": False, "labelcolor": "linecolor"}
        as_is(fig.legend(handles, labels, **options, fontsize=style.FONT_SIZE))


def as_is(legend: Legend) -> None:
    """Let no text of a legend be read as a formula."""
    for text in legend.get_texts():
        text.set_parse_math(False)


# --- numbers --------------------------------------------------------------------------------------


def defined(values: xr.DataArray) -> np.ndarray:
    """Return [seeds, steps, layers] of the runs that have any number."""
    found = values.transpose("seed", "step", "layer").values
    return found[np.isfinite(found).any(axis=(1, 2))]


def last(values: xr.DataArray) -> np.ndarray:
    """Return the mean over runs of the last number that each has, by layer."""
    found = defined(values)
    final = np.full((len(found), found.shape[2]), np.nan)
    for step in range(found.shape[1]):
        final = np.where(np.isfinite(found[:, step]), found[:, step], final)
    return mean(final)


def mean(values: np.ndarray) -> Any:
    """Return the mean over the first axis of what is not NaN; of nothing it is NaN."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Mean of empty slice", category=RuntimeWarning)
        return np.nanmean(values, axis=0)


def is_known(values: Any) -> bool:
    """Whether there is any number among values."""
    return bool(np.isfinite(np.asarray(values)).any())
