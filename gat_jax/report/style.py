"""How figures look: colours, letters and axes, without pyplot and its global state."""

import io
import textwrap
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from gat_jax.report.html import Picture
from gat_jax.report.numbers import Number, percent

Theme = Literal["light", "dark"]

WIDTH = 4.9  # inches: letters stay readable when a phone shows the figure 340 pixels wide
FONT_SIZE = 11.0
TITLE_LETTERS = 45  # per line


class Palette(NamedTuple):
    """Colours of a theme, told apart by all kinds of colour vision."""

    background: str
    text: str
    grid: str
    equal: str  # the twins are equal
    other: str  # what that is compared with
    by_heads: tuple[str, ...]


PALETTES: dict[Theme, Palette] = {
    "light": Palette("#ffffff", "#1b1f24", "#d8dee4", "#0062a3", "#b84a00", ("#7b3294", "#00756b")),
    "dark": Palette("#161b22", "#e6edf3", "#30363d", "#58b0f2", "#ff9a52", ("#cf9be8", "#3fc1ae")),
}


def new_figure(title: str, height: Number, colors: Palette) -> Figure:
    """Return an empty figure with its title.

    Args:
      title: one sentence; it is broken into lines of about equal length.
      height: in inches; the width is `WIDTH`.
      colors: of the theme.
    """
    fig = Figure(figsize=(WIDTH, height), layout="constrained", facecolor=colors.background)
    lines = textwrap.wrap(title, TITLE_LETTERS)
    widths = range(TITLE_LETTERS // 2, TITLE_LETTERS + 1)  # the narrowest, for even lines
    width = next(w for w in widths if len(textwrap.wrap(title, w)) <= len(lines))
    text = textwrap.fill(title, width)
    fig.suptitle(text, x=0.01, ha="left", color=colors.text, fontsize=FONT_SIZE + 1, weight="bold")
    return fig


def style_axes(ax: Axes, colors: Palette, xlabel: str, ylabel: str) -> None:
    """Give axes their labels, colours and grid."""
    ax.set_facecolor(colors.background)
    ax.set_xlabel(xlabel, color=colors.text, fontsize=FONT_SIZE)
    ax.set_ylabel(ylabel, color=colors.text, fontsize=FONT_SIZE)
    ax.tick_params(which="both", colors=colors.text, labelsize=FONT_SIZE - 0.5, length=0)
    ax.grid(color=colors.grid, linewidth=0.8)
    ax.set_axisbelow(True)
    ax.spines[:].set_visible(False)


def set_ticks(axis: Axis, ticks: Sequence[Number], text: Callable[[Number], str] = percent) -> None:
    """Put ticks at these places and no others.

    Args:
      axis: the x or the y axis of some axes.
      ticks: where.
      text: how a tick's number is written.
    """
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda x, _: text(x)))


def set_time_axis(ax: Axes, last: int) -> None:
    """Show shares against training steps.

    Args:
      ax: the axes; x becomes logarithmic, with room for step 0, and y goes from none to all.
      last: the last step.
    """
    ax.set_xscale("symlog", linthresh=1, linscale=0.5)
    ax.set_xlim(0, last)
    ax.set_ylim(-0.04, 1.06)
    set_ticks(ax.xaxis, [0, *(10**k for k in range(7) if 10**k <= last)], "{:,.0f}".format)
    set_ticks(ax.yaxis, [0, 0.25, 0.5, 0.75, 1])


def note(ax: Axes, text: str, where: Any, offset: Any, color: str, **options: Any) -> None:
    """Write beside a point.

    Args:
      ax: the axes.
      text: what is written.
      where: (x, y) of the point, in the axes' own numbers.
      offset: (right, up) of the text from the point, in typographic points.
      color: of the text.
      **options: of matplotlib's `annotate`.
    """
    options = {"textcoords": "offset points", "fontsize": FONT_SIZE, "color": color} | options
    ax.annotate(text, where, offset, **options)


def end_labels(
    ax: Axes, x: Number, labels: Sequence[tuple[Number, str, str]], distance: float = 0.12
) -> None:
    """Write what lines are to the right of their ends, moved apart where they are too close.

    Args:
      ax: the axes, with shares from 0 to 1 upwards.
      x: where the lines end.
      labels: (height, text, colour) of each line; a height that is not finite is left out.
      distance: of two texts at least, as a share.
    """
    shown = sorted(label for label in labels if np.isfinite(label[0]))
    heights = [height for height, _, _ in shown]
    for i in range(1, len(heights)):
        heights[i] = max(heights[i], heights[i - 1] + distance)
    top = 1.0
    for i in reversed(range(len(heights))):
        heights[i] = min(heights[i], top)
        top = heights[i] - distance
    for height, (_, text, color) in zip(heights, shown, strict=True):
        note(ax, text, (x, height), (6, 0), color, va="center", annotation_clip=False)


def to_picture(figure: Figure) -> Picture:
    """Return a figure as a PNG of twice the pixels of a common screen."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=200, facecolor=figure.get_facecolor())
    width, height = (round(100 * inches) for inches in figure.get_size_inches())
    return Picture(file.getvalue(), width, height, " ".join(figure.get_suptitle().split()))
