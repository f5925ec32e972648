"""Figures of a sweep: how often twins collide in each cell, and how far apart they are."""

import warnings
from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from gat_jax.report.style import PALETTES, Theme, new_figure, style_axes
from gat_jax.runtime.text import visible
from gat_jax.sweeps.spec import AXES

# More curves cannot be told apart, nor more rows be read.
MAX_CURVES, MAX_ROWS = 6, 60
CURVES = ("#0062a3", "#b84a00", "#00756b", "#7b3294", "#8a6d00", "#5c6670")


def collisions(dataset: xr.Dataset, axes: list[str], theme: Theme = "light") -> Figure:
    """Draw the collision probability of every cell with its 95% interval.

    Args:
      dataset: summary of a sweep.
      axes: dimensions that are axes of its grid.
      theme: light or dark.
    """
    colors = PALETTES[theme]
    cells = _cells(dataset, axes)
    shown = cells[:MAX_ROWS]
    title = "How often twins collide at initialisation"
    if len(shown) < len(cells):
        title += f" ({len(shown)} of {len(cells)} cells)"
    fig = new_figure(title, 1.6 + 0.3 * len(shown), colors)
    # Names of cells take room of their own beside the axis.
    longest = max((len(name) for name, _ in shown), default=0)
    fig.set_figwidth(fig.get_figwidth() + 0.07 * longest)
    ax = fig.add_subplot()
    for row, (_, cell) in enumerate(shown):
        low, high = cell["interval"].values
        value = float(cell["collision_probability"])
        ax.plot(value, row, "o", color=colors.equal, markersize=5, clip_on=False, zorder=3)
        ax.hlines(row, low, high, color=colors.equal, linewidth=7, alpha=0.35)
        is_right = value > 0.55  # the number stands on the side that has room
        ax.annotate(
            f"{value:.4f}",
            (low if is_right else high, row),
            xytext=(-9 if is_right else 9, 0),
            textcoords="offset points",
            ha="right" if is_right else "left",
            va="center",
            color=colors.text,
            fontsize=9,
            bbox={"facecolor": colors.background, "edgecolor": "none", "pad": 1},
        )
    ax.set_yticks(range(len(shown)), [name for name, _ in shown], parse_math=False)
    ax.set_xlim(-0.02, 1.02)
    ax.set_ylim(len(shown) - 0.4, -0.6)
    style_axes(ax, colors, "share of pairs that collide\n(95% interval shaded)", "")
    return fig


def histograms(dataset: xr.Dataset, axes: list[str], theme: Theme = "light") -> Figure:
    """Draw the distributions of normalised entropy and of the twins' gap, for the first cells."""
    colors = PALETTES[theme]
    cells = _cells(dataset, axes)
    title = "Attention entropy, and how far apart twins are"
    # Cells from all over the grid, in its order.
    picked = np.unique(np.linspace(0, len(cells) - 1, MAX_CURVES).round().astype(int))
    shown = [cells[k] for k in picked]
    if len(shown) < len(cells):
        title += f" ({len(shown)} of {len(cells)} cells)"
    fig = new_figure(title, 6.4 + 0.2 * len(shown), colors)
    fig.set_figwidth(fig.get_figwidth() + 1.2)
    top, bottom = fig.subplots(2, 1)
    for color, (name, cell) in zip(CURVES, shown, strict=False):
        counts = cell["entropy_histogram"].values
        edges = [*cell["entropy_low"].values, cell["entropy_high"].values[-1]]
        below = np.concatenate([[0.0], np.cumsum(counts)]) / max(counts.sum(), 1)
        top.plot(edges, below, color=color, linewidth=1.6, label=name)
        counts = cell["gap_histogram"].values
        edges = [*cell["log10_gap_low"].values[2:-1], cell["log10_gap_low"].values[-1]]
        share = counts / max(counts.sum(), 1)
        bottom.stairs(share[2:-1], edges, color=color, linewidth=1.6)
        text = f"{name}: {share[0]:.1%} exactly 0"
        if share[1] + share[-1] > 0.001:
            text += f", {share[1] + share[-1]:.1%} outside"
        bottom.plot([], [], color=color, label=text)
    style_axes(top, colors, "normalised entropy of a twin's row", "share of rows below")
    style_axes(bottom, colors, "log10 of the largest difference of outputs", "share of pairs")
    for ax in (top, bottom):
        legend = ax.legend(frameon=False, fontsize=8, labelcolor=colors.text, loc="upper left")
        for text in legend.get_texts():
            text.set_parse_math(False)
    return fig


def save_figure(name: str, dataset: xr.Dataset, path: Path) -> None:
    """Draw one figure of a sweep and write it.

    Args:
      name: of `collisions.png`, or of `histograms.png`, which needs a summary with histograms.
      dataset: summary of a sweep.
      path: of the PNG file.
    """
    draw = {"collisions.png": collisions, "histograms.png": histograms}[name]
    figure = draw(dataset, [axis for axis in AXES if axis in dataset.dims])
    with warnings.catch_warnings():
        # A letter that the font lacks becomes a box, which is no reason for lines on a terminal.
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        figure.savefig(path, dpi=200, facecolor=figure.get_facecolor())


def _cells(dataset: xr.Dataset, axes: list[str]) -> list[tuple[str, xr.Dataset]]:
    """Return the cells that have initialisations, named by the axes that vary."""
    varying = [axis for axis in axes if dataset.sizes[axis] > 1] or axes[1:2]
    found = []
    for index in np.ndindex(*(dataset.sizes[axis] for axis in axes)):
        cell = dataset.isel(dict(zip(axes, index, strict=True)))
        if cell["num_inits"] > 0:
            found.append((", ".join(_label(axis, cell[axis].item()) for axis in varying), cell))
    return found


def _label(axis: str, value) -> str:
    if isinstance(value, int | float):
        return f"{axis} {value}"
    text = visible(value)
    # matplotlib leaves labels that begin with an underscore out of legends.
    return f"{axis} {text}" if text.startswith("_") else text
