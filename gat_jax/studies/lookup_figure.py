"""The figure of DictionaryLookup: how many queries each kind of attention answers in training."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gat_jax.report import Picture, count, percent, percent_range, style
from gat_jax.report.style import Palette, Theme
from gat_jax.studies.lookup import LookupRuns

NAMES: dict[str, str] = {"gat": "GAT", "gatv2": "GATv2"}


def lookup_accuracy(runs: Mapping[str, LookupRuns], ceiling: float, theme: Theme) -> Figure:
    """Draw the share of right answers over training: every seed, and the median of each layer.

    Args:
      runs: of "gat" and "gatv2", with the same steps.
      ceiling: the best share that one ranking of the keys reaches, where a value is read as the
        attention of its key and a bias.
      theme: light or dark.
    """
    colors = style.PALETTES[theme]
    fig = style.new_figure(lookup_title(runs, ceiling), 4.4, colors)
    ax = fig.add_subplot()
    last = int(runs["gat"].step[-1])
    style.style_axes(ax, colors, "Training step", "Share of queries answered right")
    ax.set_xlim(0, last)
    ax.set_ylim(-0.04, 1.06)
    style.set_ticks(ax.xaxis, np.linspace(0, last, 6).round().tolist(), "{:,.0f}".format)
    style.set_ticks(ax.yaxis, [0, 0.25, 0.5, 0.75, 1])
    ends = [
        _draw_layer(ax, name, runs[layer], color)
        for (layer, name), color in zip(NAMES.items(), (colors.equal, colors.other), strict=True)
    ]
    _draw_ceiling(ax, ceiling, colors)
    style.end_labels(ax, last, ends)
    return fig


def _draw_layer(ax: Axes, name: str, runs: LookupRuns, color: str) -> tuple[float, str, str]:
    """Draw the seeds and the median of a layer; return what stands at the end of the median."""
    middle = np.median(runs.accuracy, axis=0)
    ax.plot(runs.step, runs.accuracy.T, color=color, linewidth=0.9, alpha=0.4)
    ax.plot(runs.step, middle, color=color, linewidth=2.4)
    return float(middle[-1]), f"{name}\nmedian\n{percent(float(middle[-1]), 1)}", color


def _draw_ceiling(ax: Axes, ceiling: float, colors: Palette) -> None:
    ax.axhline(ceiling, color=colors.text, linewidth=1.2, linestyle="--", zorder=1)
    text = f"one ranking: {percent(ceiling, 1)}"
    place = {"xycoords": ("axes fraction", "data"), "ha": "right"}
    style.note(ax, text, (1, ceiling), (-3, 4), colors.text, **place)


def lookup_title(runs: Mapping[str, LookupRuns], ceiling: float) -> str:
    """Say from how many seeds GATv2 answers every query, and what GAT reaches."""
    gat, gatv2 = runs["gat"].accuracy[:, -1], runs["gatv2"].accuracy[:, -1]
    solved = f"GATv2 answers every query from {int(np.sum(gatv2 == 1)):,} of "
    solved += f"{count(len(gatv2), 'seed')}; GAT answers {percent_range(gat)}"
    return f"{solved}, and one ranking read as it is {percent(ceiling)}"


def draw(runs: Mapping[str, LookupRuns], ceiling: float) -> tuple[Picture, Picture]:
    """Draw the figure, light and dark."""
    light, dark = (lookup_accuracy(runs, ceiling, theme) for theme in ("light", "dark"))
    return style.to_picture(light), style.to_picture(dark)
