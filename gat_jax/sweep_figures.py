"""Figures of a sweep: how often twins collide in each cell, and how far apart they are."""

from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from gat_jax.figures import PALETTES, Theme, new_figure, style_axes

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
    ax = fig.add_subplot()
    for row, (_, cell) in enumerate(shown):
        low, high = cell["interval"].values
        value = float(cell["collision_probability"])
        ax.hlines(row, low, high, color=colors.equal, linewidth=2)
        ax.plot(value, row, "o", color=colors.equal, markersize=6)
        # On the side that has room.
        is_right = value > 0.7
        ax.annotate(
            f"{value:.4f}",
            (low if is_right else high, row),
            xytext=(-7 if is_right else 7, 0),
            textcoords="offset points",
            ha="right" if is_right else "left",
            va="center",
            color=colors.text,
            fontsize=9,
        )
    ax.set_yticks(range(len(shown)), [name for name, _ in shown])
    ax.set_xlim(-0.03, 1.03)
    ax.set_ylim(len(shown) - 0.4, -0.6)
    style_axes(ax, colors, "share of pairs equal by signs in every head", "")
    return fig


def histograms(dataset: xr.Dataset, axes: list[str], theme: Theme = "light") -> Figure:
    """Draw the distributions of normalised entropy and of the twins' gap, for the first cells."""
    colors = PALETTES[theme]
    cells = _cells(dataset, axes)
    shown = cells[:MAX_CURVES]
    title = "Attention entropy, and how far apart twins are"
    if len(shown) < len(cells):
        title += f" ({len(shown)} of {len(cells)} cells)"
    fig = new_figure(title, 6.6 + 0.2 * len(shown), colors)
    top, bottom = fig.subplots(2, 1)
    for color, (name, cell) in zip(CURVES, shown, strict=False):
        counts = cell["entropy_histogram"].values
        edges = [*cell["entropy_low"].values, cell["entropy_high"].values[-1]]
        density = counts / max(counts.sum(), 1) / np.diff(edges)
        top.stairs(density, edges, color=color, linewidth=1.6, label=name)
        counts = cell["gap_histogram"].values
        edges = [*cell["log10_gap_low"].values[2:], cell["log10_gap_high"].values[-2]]
        equal = counts[0] / max(counts.sum(), 1)
        share = counts[2:-1] / max(counts.sum(), 1)
        bottom.stairs(share, edges[: len(share) + 1], color=color, linewidth=1.6)
        bottom.plot([], [], color=color, label=f"{equal:.1%} exactly 0")
    style_axes(top, colors, "normalised entropy of a twin's row", "density")
    style_axes(bottom, colors, "log10 of the largest difference of outputs", "share of pairs")
    for ax in (top, bottom):
        ax.legend(frameon=False, fontsize=8, labelcolor=colors.text)
    return fig


def save_sweep_figures(dataset: xr.Dataset, axes: list[str], directory: Path) -> list[str]:
    """Write the figures as PNG; return their names."""
    figures = {"collisions.png": collisions(dataset, axes)}
    if "gap_histogram" in dataset:
        figures["histograms.png"] = histograms(dataset, axes)
    for name, figure in figures.items():
        figure.savefig(directory / name, dpi=200, facecolor=figure.get_facecolor())
    return list(figures)


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
    return f"{axis} {value}" if isinstance(value, int | float) else str(value)
