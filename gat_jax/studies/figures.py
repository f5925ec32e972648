"""Figures of a study's results, each a function from the labelled dataset to a matplotlib Figure.

They draw what `study.run_study` stored. What a title states follows from the numbers. Nothing
touches pyplot, so that there is no global state and no display is needed.
"""

import io
import re
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from gat_jax.runtime.stats import binomial_interval

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

OPTIMIZERS = {"sgd": "SGD", "adam": "Adam"}
BASELINE = "gat.h1"
# What is compared with it, by setting of the dataset: its name, and its marker.
REMEDIES = {
    BASELINE: ("GAT with 1 head", "o"),
    **{f"gat.h{heads}": (f"GAT with {heads} heads", "o") for heads in (2, 4, 8)},
    "gatv2.h1.c1": ("GATv2 with 1 channel", "s"),
    **{f"gatv2.h1.c{c}": (f"GATv2 with {c} channels", "s") for c in (2, 4, 8)},
    "gat.h1.standardised": ("GAT with standardised features", "D"),
    "gat.h1.residual": ("GAT with a residual path", "D"),
    "gcn": ("GCN (no attention)", "^"),
}


def collision_by_heads(dataset: xr.Dataset, theme: Theme) -> Figure:
    """Draw the probability of equal twins against the number of heads, and p_1^H beside it."""
    colors = PALETTES[theme]
    settings = [str(name) for name in dataset["setting"].values]
    heads = sorted(int(s[5:]) for s in settings if re.fullmatch(r"gat\.h\d+", s))
    rows = dataset.sel(setting=[f"gat.h{h}" for h in heads])
    share = rows["init_collision_probability"].values
    interval = rows["init_collision_interval"].transpose("bound", "setting").values
    law_heads = np.geomspace(heads[0], heads[-1], 101)
    law = np.maximum(share[0], 1e-9) ** (law_heads / heads[0])

    fig = new_figure(_heads_title(heads, share), 4.2, colors)
    ax = fig.add_subplot()
    ax.set_xscale("log", base=2)
    ax.set_yscale("log", nonpositive="clip")
    ax.plot(law_heads, law, "--", color=colors.other, linewidth=1.8, zorder=2)
    # On a logarithmic axis 0 has no place: its point is left out, its interval shows.
    ax.vlines(heads, *interval, color=colors.equal, linewidth=2)
    for end in interval:
        ax.plot(heads, end, "_", color=colors.equal, markersize=14, markeredgewidth=2)
    ax.plot(heads, share, "o", color=colors.equal, markersize=7, zorder=3)
    for x, y, high in zip(heads, share, interval[1], strict=True):
        _note(ax, percent(y, 1), (x, y or high), (9, 4), colors.equal, weight="bold")
    label = "$p_1^{\\,H}$, if heads are\nindependent of each other"
    _note(ax, label, (law_heads[50], law[50]), (-10, -8), colors.other, ha="right", va="top")

    drawn = np.concatenate([share, *interval, law])
    bottom = max(1e-6, 0.6 * float(drawn[drawn > 0].min()))
    ax.set_xlim(heads[0] * 0.85, heads[-1] * 1.55)
    ax.set_ylim(bottom, 1.3)
    ticks = [m * 10.0**k for k in range(-6, 1) for m in (1, 2, 5) if bottom <= m * 10.0**k <= 1]
    style_axes(ax, colors, "Attention heads H", "Initialisations with equal twins,\n95% interval")
    _set_ticks(ax.xaxis, heads, "{:g}".format)
    _set_ticks(ax.yaxis, ticks if len(ticks) < 10 else ticks[::-3])
    return fig


def _heads_title(heads: list[int], share: np.ndarray) -> str:
    law = share[0] ** (heads[-1] / heads[0])
    found = (
        f"twins are equal in {percent(share[0], 1)} of initialisations with "
        f"{_count(heads[0], 'head')}, in {percent(share[-1], 1)} with {heads[-1]}"
    )
    if share[-1] >= share[0]:
        return f"More heads do not help: {found}"
    if abs(share[-1] - law) <= 0.1 * law:
        return f"Heads help, as if independent: {found}"
    return f"Heads help, {'less' if share[-1] > law else 'more'} than if independent: {found}"


def training(dataset: xr.Dataset, theme: Theme) -> Figure:
    """Draw equal twins and attention on one time axis, by optimiser, start and heads."""
    colors = PALETTES[theme]
    heads = dataset["heads"].values.tolist()
    names = ["the article's start,\none run"]
    names += [f"{_count(h, 'head')}, {dataset.sizes['run']:,}\nrandom starts" for h in heads]
    last = max(int(dataset["step"][-1]), int(dataset["article_step"][-1]))
    fig = new_figure(_training_title(dataset), 8.0, colors)
    axes = fig.subplots(len(names), len(OPTIMIZERS), sharex=True, sharey=True, squeeze=False)
    for (row, column), ax in np.ndenumerate(axes):
        optimizer = list(OPTIMIZERS)[column]
        chosen = dataset.sel(optimizer=optimizer)
        if row == 0:
            ax.set_title(OPTIMIZERS[optimizer], color=colors.text)
            _draw_article_start(ax, chosen, colors)
        else:
            _draw_runs(ax, chosen.sel(heads=heads[row - 1]), colors)
        xlabel = "Step (log scale)" if row == len(heads) else ""
        style_axes(ax, colors, xlabel, "" if column else names[row])
        _set_time_axis(ax, last)
    handles, _ = axes[-1, 0].get_legend_handles_labels()
    legend = fig.legend(
        handles=handles, loc="outside lower left", frameon=False, fontsize=FONT_SIZE
    )
    for text, handle in zip(legend.get_texts(), handles, strict=True):
        text.set_color(handle.get_color())
    return fig


def _draw_article_start(ax: Axes, run: xr.Dataset, colors: Palette) -> None:
    steps, is_collided = run["article_step"].values, run["article_is_collided"].values
    ax.fill_between(steps, 0, is_collided, step="post", color=colors.equal, alpha=0.18, linewidth=0)
    ax.step(steps, is_collided, where="post", color=colors.equal, linewidth=2.2)
    ax.plot(steps, run["article_twin_entropy"].values, "--", color=colors.other, linewidth=1.8)
    text = f"equal at {is_collided.sum():,}\nof {len(steps):,} steps"
    ax.text(0.04, 0.06, text, transform=ax.transAxes, color=colors.equal, fontsize=FONT_SIZE - 0.5)


def _draw_runs(ax: Axes, runs: xr.Dataset, colors: Palette) -> None:
    steps = runs["step"].values
    interval = runs["train_collided_interval"].transpose("bound", "step").values
    ax.fill_between(steps, *interval, color=colors.equal, alpha=0.25, linewidth=0)
    ends = []
    for name, line, color, label in (
        ("train_collided_share", "-", colors.equal, "Twins equal: share of runs, 95% interval"),
        ("train_twin_entropy", "--", colors.other, "Their attention entropy: mean, 100% = uniform"),
        ("train_entropy_escaped", ":", colors.other, "Their attention not uniform: share of runs"),
    ):
        values = runs[name].values.astype(float)
        ax.plot(steps, values, line, color=color, linewidth=2, label=label)
        ends.append((values[-1], percent(values[-1]), color))
    _end_labels(ax, int(steps[-1]), ends)


def _training_title(dataset: xr.Dataset) -> str:
    last = dataset.isel(step=-1)
    share, escaped = last["train_collided_share"].values, last["train_entropy_escaped"].values
    found = f"{_range(share)} of runs have equal twins after {int(last['step']):,} steps"
    has_escaped = bool(np.nanmin(escaped) >= 0.5)
    stays_equal = bool(np.nanmax(share) > 0.1)  # the claims call a tenth of the runs few
    uniform = "Attention does not stay uniform" if has_escaped else "Attention can stay uniform"
    equal = "twins can stay equal" if stays_equal else "twins do not stay equal"
    return f"{uniform}, {'but' if has_escaped == stays_equal else 'and'} {equal}: {found}"


def survival(dataset: xr.Dataset, theme: Theme) -> Figure:
    """Draw how many runs never left the equal state yet, and how many are in it all the same."""
    colors = PALETTES[theme]
    steps = dataset["step"].values
    fig = new_figure(_survival_title(dataset), 6.6, colors)
    axes = fig.subplots(len(OPTIMIZERS), 1, sharex=True, squeeze=False)[:, 0]
    for ax, optimizer in zip(axes, OPTIMIZERS, strict=True):
        ends = []
        for heads, color in zip(dataset["heads"].values.tolist(), colors.by_heads, strict=False):
            runs, name = dataset.sel(optimizer=optimizer, heads=heads), _count(heads, "head")
            never_left, now = runs["train_survival"].values, _equal_now(runs)
            if now is None:
                ends.append((0.5, f"{name}: no run\nbegan equal", color))
                continue
            interval = runs["train_survival_interval"].transpose("bound", "step").values
            ax.fill_between(steps, *interval, step="post", color=color, alpha=0.22, linewidth=0)
            ax.step(steps, never_left, where="post", color=color, linewidth=2.2)
            ax.plot(steps, now, ":", color=color, linewidth=1.8)
            ends.append((never_left[-1], f"{name}: {percent(never_left[-1])}\nnever left", color))
            ends.append((now[-1], f"{name}: {percent(now[-1])}\nequal now", color))
        ax.set_title(OPTIMIZERS[optimizer], color=colors.text)
        xlabel = "Training step (log scale)\nSolid: first exit (Kaplan-Meier, 95% interval)"
        xlabel += "\nDotted: equal at that step"
        style_axes(
            ax, colors, xlabel if ax is axes[-1] else "", "Share of the runs\nthat began equal"
        )
        _set_time_axis(ax, int(steps[-1]))
        _end_labels(ax, int(steps[-1]), ends, distance=0.2)
    return fig


def _equal_now(runs: xr.Dataset) -> np.ndarray | None:
    """Share of the runs that began equal which are equal at each step; None if none began so."""
    is_collided = runs["train_is_collided"].transpose("run", "step").values.astype(bool)
    began_equal = is_collided[is_collided[:, 0]]
    return began_equal.mean(axis=0) if len(began_equal) else None


def _survival_title(dataset: xr.Dataset) -> str:
    runs = dataset.stack(setting_=("optimizer", "heads"))
    now = [_equal_now(runs.isel(setting_=i)) for i in range(runs.sizes["setting_"])]
    now = np.array([np.nan if share is None else share[-1] for share in now])
    if np.isnan(now).all():
        return "No run began with equal twins"
    never_left = runs["train_survival"].isel(step=-1).values
    found = (
        f"of the runs that began equal, {_range(never_left)} never left, "
        f"{_range(now)} are equal after {int(dataset['step'][-1]):,} steps"
    )
    if np.nanmin(never_left) > 0.9:
        return f"Few runs leave the equal state: {found}"
    # What is equal beyond those that never left has come back.
    if np.nanmax(now - never_left) > 0.05:
        return f"Leaving the equal state is not for good: {found}"
    return f"Runs that leave the equal state stay apart: {found}"


def remedies(dataset: xr.Dataset, theme: Theme) -> Figure:
    """Draw how often twins are equal at initialisation, for everything that may help."""
    colors = PALETTES[theme]
    shares = _equal_shares(dataset)
    baseline = shares[BASELINE][0]
    fig = new_figure(_remedies_title(shares), 0.36 * len(shares) + 2.0, colors)
    ax = fig.add_subplot()
    ax.axvline(baseline, color=colors.text, linewidth=1, linestyle="--")
    for row, (setting, (share, low, high)) in enumerate(shares.items()):
        color = colors.equal if share < baseline else colors.other
        color = colors.text if setting == BASELINE else color
        ax.hlines(row, share, baseline, color=color, linewidth=1.2, alpha=0.5)
        ax.hlines(row, low, high, color=color, linewidth=4)
        ax.plot(share, row, REMEDIES[setting][1], color=color, markersize=8, zorder=3)
        _note(ax, percent(share, 1), (1, row), (14, 0), color, va="center", annotation_clip=False)
    ax.set_ylim(len(shares) - 0.4, -0.6)
    ax.set_xlim(-0.1, 1.04)
    style_axes(ax, colors, "Initialisations with equal twins,\n95% interval", "")
    _set_ticks(ax.xaxis, [0, 0.5, 1])
    ax.set_yticks(range(len(shares)), [REMEDIES[setting][0] for setting in shares])
    ax.yaxis.grid(visible=False)
    return fig


def _equal_shares(dataset: xr.Dataset) -> dict[str, tuple[float, float, float]]:
    """Return (share, low, high) by setting, worst first.

    A residual path leaves the attention as it is, so there outputs count.
    """
    shares = {}
    for setting in sorted(set(REMEDIES) & {str(name) for name in dataset["setting"].values}):
        row = dataset.sel(setting=setting)
        count = row["init_equal_outputs" if setting.endswith(".residual") else "init_collisions"]
        low, high = binomial_interval(int(count), int(row["init_num_inits"]))
        shares[setting] = (float(count / row["init_num_inits"]), float(low), float(high))
    return dict(sorted(shares.items(), key=lambda item: -item[1][0]))


def _remedies_title(shares: dict[str, tuple[float, float, float]]) -> str:
    best, baseline = list(shares)[-1], percent(shares[BASELINE][0], 1)
    if best == BASELINE or shares[best][0] >= shares[BASELINE][0]:
        return f"Nothing here helps: with 1 head twins are equal in {baseline} of initialisations"
    return (
        f"What helps most is {REMEDIES[best][0]}: twins are equal in {percent(shares[best][0], 1)} "
        f"of initialisations instead of {baseline}"
    )


# --- all of them --------------------------------------------------------------------------------

FIGURES: dict[str, Callable[[xr.Dataset, Theme], Figure]] = {
    figure.__name__: figure for figure in (training, collision_by_heads, survival, remedies)
}


class Rendered(NamedTuple):
    """A figure as bytes of a PNG file, its size in CSS pixels, and the title it bears."""

    png: bytes
    width: int
    height: int
    title: str


def render(name: str, dataset: xr.Dataset, theme: Theme) -> Rendered:
    """Draw one of `FIGURES` at twice the pixels of a common screen."""
    figure, file = FIGURES[name](dataset, theme), io.BytesIO()
    figure.savefig(file, format="png", dpi=200)
    width, height = (round(100 * inches) for inches in figure.get_size_inches())
    return Rendered(file.getvalue(), width, height, " ".join(figure.get_suptitle().split()))


def save_figures(dataset: xr.Dataset, directory: Path) -> None:
    """Write every figure as `<name>.png`, light."""
    directory.mkdir(parents=True, exist_ok=True)
    for name in FIGURES:
        (directory / f"{name}.png").write_bytes(render(name, dataset, "light").png)


def percent(share: float, decimals: int = 0) -> str:
    """Format a share; what is neither none nor all is never rounded to it."""
    smallest = 10.0 ** -(decimals + 2)
    if 0 < share < smallest / 2:
        return f"<{smallest:.{decimals}%}"
    if 1 - smallest / 2 < share < 1:
        return f">{1 - smallest:.{decimals}%}"
    return f"{share:.{decimals if 0 < share < 1 else 0}%}"


def _range(shares: np.ndarray) -> str:
    low, high = percent(np.nanmin(shares)), percent(np.nanmax(shares))
    return low if low == high else f"{low} to {high}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


# --- looks --------------------------------------------------------------------------------------


def new_figure(title: str, height: float, colors: Palette) -> Figure:
    """Return an empty figure with its title, `height` in inches."""
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


def _set_ticks(axis: Any, ticks: list[Any], text: Callable[[Any], str] | None = None) -> None:
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda x, _: (text or percent)(x)))


def _set_time_axis(ax: Axes, last: int) -> None:
    """Set steps from 0 to `last` on a logarithmic scale that has room for 0, against shares."""
    ax.set_xscale("symlog", linthresh=1, linscale=0.5)
    ax.set_xlim(0, last)
    ax.set_ylim(-0.04, 1.06)
    _set_ticks(ax.xaxis, [0, *(10**k for k in range(7) if 10**k <= last)], "{:,.0f}".format)
    _set_ticks(ax.yaxis, [0, 0.25, 0.5, 0.75, 1])


def _note(ax: Axes, text: str, where: Any, offset: Any, color: str, **options: Any) -> None:
    """Write beside a point, at an offset in points."""
    options = {"textcoords": "offset points", "fontsize": FONT_SIZE, "color": color} | options
    ax.annotate(text, where, offset, **options)


def _end_labels(
    ax: Axes, x: int, labels: list[tuple[float, str, str]], distance: float = 0.12
) -> None:
    """Write (height, text, colour) to the right of lines' ends, moved apart where too close."""
    labels = sorted(label for label in labels if np.isfinite(label[0]))
    heights = [height for height, _, _ in labels]
    for i in range(1, len(heights)):
        heights[i] = max(heights[i], heights[i - 1] + distance)
    top = 1.0
    for i in reversed(range(len(heights))):
        heights[i] = min(heights[i], top)
        top = heights[i] - distance
    for height, (_, text, color) in zip(heights, labels, strict=True):
        _note(ax, text, (x, height), (6, 0), color, va="center", annotation_clip=False)
