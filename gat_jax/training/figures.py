"""Figures of a training, each a function from the summary's dataset to a matplotlib Figure.

They draw what `summary.summarise` returns, as far as it was recorded: `drawable` says which figures
there are. Nothing touches pyplot, so that there is no global state and no display is needed.
"""

import warnings
from collections.abc import Callable

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from gat_jax.report import Picture, count, percent, percent_range, style
from gat_jax.report.style import Theme
from gat_jax.runtime.stats import mean_share_interval
from gat_jax.training import panels
from gat_jax.training.summary import mean_and_interval
from gat_jax.training.survival import FirstExit, first_exit, kaplan_meier

MAX_ROWS = 40  # more cannot be read
BAND = (0.05, 0.95)  # quantiles over seeds


def accuracy(dataset: xr.Dataset, theme: Theme) -> Figure:
    """Draw the test accuracy of every seed, with mean and 95% interval, by setting."""
    colors = style.PALETTES[theme]
    rows = {name: runs["test_accuracy"].values for name, runs in panels.settings(dataset)}
    rows = {name: x[np.isfinite(x)] for name, x in rows.items() if panels.is_known(x)}
    shown = list(rows.items())[:MAX_ROWS]
    found = [mean_and_interval(values) for _, values in shown]
    title = _accuracy_title(np.array([x["mean"] for x in found]), len(rows), dataset.sizes["seed"])
    fig = style.new_figure(title, 1.3 + 0.85 * len(shown), colors)
    ax = fig.add_subplot()
    for row, ((name, values), summary) in enumerate(zip(shown, found, strict=True)):
        (low, high), mean = summary["interval"], summary["mean"]
        ax.plot(values, row + _spread(values), "o", color=colors.other, markersize=4, alpha=0.55)
        text = f"{name}: {percent(mean, 1)}"
        if low is not None and low < high:
            ax.hlines(row, low, high, color=colors.equal, linewidth=3, zorder=3)
            text += f", {percent(low, 1)} to {percent(high, 1)}"
        ax.plot(mean, row, "D", color=colors.equal, markersize=7, zorder=4)
        place = {"xycoords": ("axes fraction", "data"), "parse_math": False, "va": "center"}
        style.note(ax, text, (0, row - 0.36), (2, 0), colors.text, **place)
    style.style_axes(ax, colors, "Test accuracy: mean, 95% interval, each seed", "")
    _set_accuracies(ax)
    ax.set_ylim(len(shown) - 0.4, -0.6)
    ax.set_yticks([])
    return fig


def _set_accuracies(ax: Axes) -> None:
    """Leave room around runs that are all alike, and write few digits."""
    low, high = ax.get_xlim()
    room = max(0.02 - (high - low), 0.0) / 2
    ax.set_xlim(low - room, high + room)
    ticks = np.array(MaxNLocator(5, steps=[1, 2, 5, 10]).tick_values(low - room, high + room))
    is_fine = ticks[1] - ticks[0] < 0.0099
    style.set_ticks(ax.xaxis, ticks[ticks <= 1].tolist(), lambda x: f"{x:.{1 if is_fine else 0}%}")


def _spread(values: np.ndarray) -> np.ndarray:
    """Return heights at which points that lie on each other are seen apart, from 0 to 0.42."""
    order = np.lexsort((np.arange(len(values)), np.round(values, 3)))
    _, first, sizes = np.unique(np.round(values[order], 3), return_index=True, return_counts=True)
    rank = np.empty(len(values))
    rank[order] = np.arange(len(values)) - np.repeat(first, sizes)
    return 0.42 * rank / max(float(rank.max(initial=0.0)), 6.0)


def _accuracy_title(means: np.ndarray, num_settings: int, num_seeds: int) -> str:
    seeds = count(num_seeds, "seed")
    if num_settings == 1:
        return f"Test accuracy is {percent(means[0], 1)} in the mean of {seeds}"
    shown = "" if len(means) == num_settings else f" (the first {len(means)})"
    return (
        f"Test accuracy of {num_settings} settings{shown}: {percent_range(means)} in the mean "
        f"of {seeds}"
    )


# --- over steps ---------------------------------------------------------------------------------


def entropy(dataset: xr.Dataset, theme: Theme) -> Figure:
    """Draw the normalised attention entropy of each layer over steps, and 1, that of uniform."""
    last = np.array([panels.last(runs["entropy"]) for _, runs in panels.settings(dataset)])
    title = f"Attention entropy is {percent_range(last)} of uniform attention's after training"
    fig = _over_steps(dataset, "entropy", theme, title, "Normalised entropy", _quantile_band)
    for ax in fig.axes:
        ax.axhline(1.0, color=style.PALETTES[theme].text, linewidth=1, linestyle="--", zorder=1)
        panels.set_shares(ax)
    return fig


def twins(dataset: xr.Dataset, theme: Theme) -> Figure:
    """Draw the share of the pairs of twins that are equal in each layer, with its 95% interval."""
    name = twin_shares(dataset)
    found = [runs[name] for _, runs in panels.settings(dataset)]
    first = np.array([panels.mean(panels.defined(x)[:, 0]) for x in found])
    last = np.array([panels.last(x) for x in found])
    title = (
        f"Pairs of twins that are equal: {percent_range(first)} before training, "
        f"{percent_range(last)} after it"
    )
    fig = _over_steps(dataset, name, theme, title, "Share of pairs", _share_interval)
    for ax in fig.axes:
        panels.set_shares(ax)
    return fig


def rank(dataset: xr.Dataset, theme: Theme) -> Figure:
    """Draw the effective rank of each layer's outputs over steps."""
    title = "Effective rank of the outputs, over training"
    fig = _over_steps(dataset, "effective_rank", theme, title, "Effective rank", _quantile_band)
    for ax in fig.axes:
        ax.set_ylim(bottom=0.0)
        ax.yaxis.set_major_locator(MaxNLocator(5))
    return fig


def energy(dataset: xr.Dataset, theme: Theme) -> Figure:
    """Draw the Dirichlet energy of each layer's outputs over steps, on a logarithmic axis."""
    title = "Dirichlet energy of the outputs, over training"
    name = "dirichlet_energy"
    fig = _over_steps(dataset, name, theme, title, "Dirichlet energy", _quantile_band)
    for ax in fig.axes:
        ax.set_yscale("log", nonpositive="mask")
    return fig


Band = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray, np.ndarray]]


def _over_steps(
    dataset: xr.Dataset, name: str, theme: Theme, title: str, ylabel: str, band: Band
) -> Figure:
    """Draw a quantity of layers over steps: a panel for each layer, a curve for each setting."""
    colors = style.PALETTES[theme]
    curves, layers = panels.curves(dataset, name, colors), panels.layers_of(dataset, name)
    fig, axes = panels.new_panels(dataset, layers, title, colors)
    for layer, ax in axes:
        for curve in curves:
            values = curve.runs[name].transpose("seed", "step", "layer").values[..., layer]
            values = values[np.isfinite(values[:, 0])]
            # Where most runs have stopped, the others say nothing of all.
            steps = np.flatnonzero(2 * np.isfinite(values).sum(axis=0) >= max(len(values), 1))
            if not len(values) or not len(steps):
                continue
            middle, low, high = band(values[:, steps])
            at = dataset["step"].values[steps]
            ax.fill_between(at, low, high, color=curve.color, alpha=0.2, linewidth=0)
            ax.plot(at, middle, curve.line, color=curve.color, linewidth=2, label=curve.name)
        panels.set_steps(ax, dataset)
        style.style_axes(ax, colors, "", ylabel)
    axes[-1][1].set_xlabel(panels.STEPS)
    panels.set_legend(fig, axes[0][1])
    return fig


def _quantile_band(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return mean and quantiles over seeds of [seeds, steps]."""
    low, high = np.nanquantile(values, BAND, axis=0)
    return np.nanmean(values, axis=0), low, high


def _share_interval(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the mean and its 95% interval over seeds of shares [seeds, steps]."""
    ends = []
    for column in values.T:
        shares = column[np.isfinite(column)]
        # One part: all pairs of a run are equal, or none. Any number of parts else gives the same.
        num_parts = 1 if np.isin(shares, (0.0, 1.0)).all() else 2
        sums = np.array(num_parts * shares.sum()), np.array(np.square(shares).sum())
        ends.append(mean_share_interval(*sums, len(shares), num_parts))
    low, high = np.array(ends).T
    return np.nanmean(values, axis=0), low, high


# --- survival -----------------------------------------------------------------------------------


def survival(dataset: xr.Dataset, theme: Theme) -> Figure:
    """Draw the share of runs that have not left the equal state yet, of those that began in it."""
    colors = style.PALETTES[theme]
    name = twin_shares(dataset)
    curves = panels.curves(dataset, name, colors)
    exits = {
        layer: [_exits(curve.runs, name, layer) for curve in curves]
        for layer in panels.layers_of(dataset, name)
    }
    exits = {layer: x for layer, x in exits.items() if any(len(found.step) for found in x)}
    all_exits = [found for x in exits.values() for found in x]
    num_began = sum(len(found.step) for found in all_exits)
    num_left = sum(int(np.sum(~found.is_censored)) for found in all_exits)
    what = "runs" if dataset.sizes["layer"] == 1 else "layers of runs"
    title = f"Of {num_began:,} {what} that began with equal twins, {num_left:,} left that state"
    fig, axes = panels.new_panels(dataset, list(exits), title, colors)
    for layer, ax in axes:
        for curve, found in zip(curves, exits[layer], strict=True):
            line = kaplan_meier(found)
            if line is None:
                continue
            at = np.concatenate([[0.0], line.step])
            share, low, high = (np.concatenate([[1.0], x]) for x in line[1:])
            ax.fill_between(at, low, high, step="post", color=curve.color, alpha=0.2, linewidth=0)
            look = {"color": curve.color, "linestyle": curve.line, "linewidth": 2}
            label = f"{curve.name} ({count(len(found.step), 'run')})"
            ax.step(at, share, where="post", label=label, **look)
        style.style_axes(ax, colors, "", "Share of runs")
        panels.set_shares(ax)
        panels.set_steps(ax, dataset)
        panels.as_is(ax.legend(frameon=False, labelcolor="linecolor", loc="lower left"))
    axes[-1][1].set_xlabel(panels.STEPS)
    return fig


def _exits(runs: xr.Dataset, name: str, layer: int) -> FirstExit:
    """Return the first exits; a run that has stopped is no longer seen from then on."""
    values, steps = panels.defined(runs[name])[..., layer], runs["step"].values
    exits = []
    for row in values:
        num_seen = int(np.isfinite(row).sum())
        if num_seen:
            exits.append(first_exit((row[None, :num_seen] == 1.0), steps[:num_seen]))
    if not exits:
        return FirstExit(np.zeros(0, steps.dtype), np.zeros(0, bool))
    return FirstExit(*(np.concatenate(parts) for parts in zip(*exits, strict=True)))


def _has_survival(dataset: xr.Dataset) -> bool:
    name = twin_shares(dataset)
    return bool((dataset[name].isel(step=0) == 1.0).any())


# --- histogram ----------------------------------------------------------------------------------


def entropy_histogram(dataset: xr.Dataset, theme: Theme) -> Figure:
    """Draw how receivers are distributed by attention entropy after training.

    Before training as well, where `entropy_histogram` was recorded on the way.
    """
    colors = style.PALETTES[theme]
    name, dims = "kept_entropy_histogram", ("seed", "layer", "head", "entropy_bin")
    runs = panels.best(dataset, name)
    after = runs[name].transpose(*dims).values
    before = None
    if "entropy_histogram" in runs and panels.is_known(runs["entropy_histogram"]):
        before = runs["entropy_histogram"].isel(step=0).transpose(*dims).values
    title = "Attention entropy of receivers, after training"
    title += "" if before is None else " and before it"
    fig, axes = panels.new_panels(dataset, panels.layers_of(dataset, name), title, colors)
    edges = np.linspace(0.0, 1.0, after.shape[-1] + 1)
    for layer, ax in axes:
        if before is not None:
            before_b = panels.mean(panels.mean(before[:, layer]))
            ax.stairs(before_b, edges, color=colors.text, linestyle=":", label="before training")
        by_head = panels.mean(after[:, layer])
        heads = [head for head in by_head if np.isfinite(head).all()]
        for k, head in enumerate(heads):
            label = "" if k else "after, a line for each head"
            ax.stairs(head, edges, color=colors.equal, linewidth=1.4, alpha=0.7, label=label)
        if heads:
            middle = np.mean(heads, axis=0)
            ax.stairs(middle, edges, color=colors.equal, fill=True, alpha=0.2)
        ax.axvline(1.0, color=colors.other, linewidth=2, linestyle="--", label="uniform attention")
        ax.set_xlim(-0.01, 1.02)
        style.style_axes(ax, colors, "", "Share of\nreceivers")
        style.set_ticks(ax.xaxis, [0, 0.25, 0.5, 0.75, 1])
        ax.yaxis.set_major_formatter(lambda y, _: percent(y))
    axes[-1][1].set_xlabel("Normalised attention entropy")
    panels.set_legend(fig, axes[0][1])
    return fig


def twin_shares(dataset: xr.Dataset) -> str:
    """Return the name of the shares of equal pairs: of all non-trivial ones, if recorded."""
    return "twin_equal_share" if "twin_equal_share" in dataset else "collided"


# --- all of them --------------------------------------------------------------------------------

FIGURES: dict[str, Callable[[xr.Dataset, Theme], Figure]] = {
    figure.__name__: figure
    for figure in (accuracy, entropy, twins, survival, entropy_histogram, rank, energy)
}
NEEDS = {
    **{
        "accuracy": "test_accuracy",
        "entropy": "entropy",
        "entropy_histogram": "kept_entropy_histogram",
    },
    **{"rank": "effective_rank", "energy": "dirichlet_energy"},
}


def drawable(dataset: xr.Dataset) -> list[str]:
    """Return which of `FIGURES` have numbers: what was not recorded is no error."""

    def has_numbers(name: str) -> bool:
        needed = NEEDS.get(name) or twin_shares(dataset)
        if needed not in dataset or not panels.is_known(dataset[needed]):
            return False
        return name != "survival" or _has_survival(dataset)

    return [name for name in FIGURES if has_numbers(name)]


def draw(name: str, dataset: xr.Dataset) -> tuple[Picture, Picture]:
    """Draw one of `FIGURES`, light and dark."""
    figure = FIGURES[name]
    with warnings.catch_warnings():
        # A letter that the font lacks becomes a box, which is no reason for lines on a terminal.
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        return style.to_picture(figure(dataset, "light")), style.to_picture(figure(dataset, "dark"))
