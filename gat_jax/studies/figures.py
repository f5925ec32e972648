"""Figures of a study's results, each a function from the labelled dataset to a matplotlib Figure.

They draw what `study.run_study` stored. What a title states follows from the numbers. Nothing
touches pyplot, so that there is no global state and no display is needed.
"""

from collections.abc import Callable

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gat_jax.report import Picture, count, percent, percent_range, style
from gat_jax.report.style import Palette, Theme
from gat_jax.runtime.stats import binomial_interval
from gat_jax.studies.claim_ids import GCN, ONE_HEAD, RESIDUAL, Setting
from gat_jax.studies.claims import OPTIMIZERS

# What is compared with one head, and it itself: what a reader calls it, and its marker.
REMEDIES = {
    **{Setting("gat", h): (f"GAT with {count(h, 'head')}", "o") for h in (1, 2, 4, 8)},
    **{Setting("gatv2", 1, c): (f"GATv2 with {count(c, 'channel')}", "s") for c in (1, 2, 4, 8)},
    Setting("gat", 1, variant="standardised"): ("GAT with standardised features", "D"),
    RESIDUAL: ("GAT with a residual path", "D"),
    GCN: ("GCN (no attention)", "^"),
}


def collision_by_heads(dataset: xr.Dataset, theme: Theme) -> Figure:
    """Draw the probability of equal twins against the number of heads, and p_1^H beside it."""
    colors = style.PALETTES[theme]
    plain = [x for x in _settings(dataset) if x.heads and x == Setting("gat", x.heads)]
    heads = sorted(x.heads for x in plain if x.heads)
    rows = dataset.sel(setting=[Setting("gat", h).name for h in heads])
    share = rows["init_collision_probability"].values
    interval = rows["init_collision_interval"].transpose("bound", "setting").values
    law_heads = np.geomspace(heads[0], heads[-1], 101)
    law = np.maximum(share[0], 1e-9) ** (law_heads / heads[0])

    fig = style.new_figure(_heads_title(heads, share), 4.2, colors)
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
        style.note(ax, percent(y, 1), (x, y or high), (9, 4), colors.equal, weight="bold")
    label = "$p_1^{\\,H}$, if heads are\nindependent of each other"
    style.note(ax, label, (law_heads[50], law[50]), (-10, -8), colors.other, ha="right", va="top")

    drawn = np.concatenate([share, *interval, law])
    bottom = max(1e-6, 0.6 * float(drawn[drawn > 0].min()))
    ax.set_xlim(heads[0] * 0.85, heads[-1] * 1.55)
    ax.set_ylim(bottom, 1.3)
    ticks = [m * 10.0**k for k in range(-6, 1) for m in (1, 2, 5) if bottom <= m * 10.0**k <= 1]
    ylabel = "Initialisations with equal twins,\n95% interval"
    style.style_axes(ax, colors, "Attention heads H", ylabel)
    style.set_ticks(ax.xaxis, heads, "{:g}".format)
    style.set_ticks(ax.yaxis, ticks if len(ticks) < 10 else ticks[::-3])
    return fig


def _settings(dataset: xr.Dataset) -> list[Setting]:
    return [Setting.parse(str(name)) for name in dataset["setting"].values]


def _heads_title(heads: list[int], share: np.ndarray) -> str:
    law = share[0] ** (heads[-1] / heads[0])
    found = (
        f"twins are equal in {percent(share[0], 1)} of initialisations with "
        f"{count(heads[0], 'head')}, in {percent(share[-1], 1)} with {heads[-1]}"
    )
    if share[-1] >= share[0]:
        return f"More heads do not help: {found}"
    if abs(share[-1] - law) <= 0.1 * law:
        return f"Heads help, as if independent: {found}"
    return f"Heads help, {'less' if share[-1] > law else 'more'} than if independent: {found}"


def training(dataset: xr.Dataset, theme: Theme) -> Figure:
    """Draw equal twins and attention on one time axis, by optimiser, start and heads."""
    colors = style.PALETTES[theme]
    heads = dataset["heads"].values.tolist()
    names = ["the article's start,\none run"]
    names += [f"{count(h, 'head')}, {dataset.sizes['run']:,}\nrandom starts" for h in heads]
    last = max(int(dataset["step"][-1]), int(dataset["article_step"][-1]))
    fig = style.new_figure(_training_title(dataset), 8.0, colors)
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
        style.style_axes(ax, colors, xlabel, "" if column else names[row])
        style.set_time_axis(ax, last)
    handles, _ = axes[-1, 0].get_legend_handles_labels()
    legend = fig.legend(
        handles=handles, loc="outside lower left", frameon=False, fontsize=style.FONT_SIZE
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
    size = style.FONT_SIZE - 0.5
    ax.text(0.04, 0.06, text, transform=ax.transAxes, color=colors.equal, fontsize=size)


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
    style.end_labels(ax, int(steps[-1]), ends)


def _training_title(dataset: xr.Dataset) -> str:
    last = dataset.isel(step=-1)
    share, escaped = last["train_collided_share"].values, last["train_entropy_escaped"].values
    found = f"{percent_range(share)} of runs have equal twins after {int(last['step']):,} steps"
    has_escaped = bool(np.nanmin(escaped) >= 0.5)
    stays_equal = bool(np.nanmax(share) > 0.1)  # the claims call a tenth of the runs few
    uniform = "Attention does not stay uniform" if has_escaped else "Attention can stay uniform"
    equal = "twins can stay equal" if stays_equal else "twins do not stay equal"
    return f"{uniform}, {'but' if has_escaped == stays_equal else 'and'} {equal}: {found}"


def survival(dataset: xr.Dataset, theme: Theme) -> Figure:
    """Draw how many runs never left the equal state yet, and how many are in it all the same."""
    colors = style.PALETTES[theme]
    steps = dataset["step"].values
    fig = style.new_figure(_survival_title(dataset), 6.6, colors)
    axes = fig.subplots(len(OPTIMIZERS), 1, sharex=True, squeeze=False)[:, 0]
    for ax, optimizer in zip(axes, OPTIMIZERS, strict=True):
        ends = []
        for heads, color in zip(dataset["heads"].values.tolist(), colors.by_heads, strict=False):
            runs, name = dataset.sel(optimizer=optimizer, heads=heads), count(heads, "head")
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
        style.style_axes(
            ax, colors, xlabel if ax is axes[-1] else "", "Share of the runs\nthat began equal"
        )
        style.set_time_axis(ax, int(steps[-1]))
        style.end_labels(ax, int(steps[-1]), ends, distance=0.2)
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
        f"of the runs that began equal, {percent_range(never_left)} never left, "
        f"{percent_range(now)} are equal after {int(dataset['step'][-1]):,} steps"
    )
    if np.nanmin(never_left) > 0.9:
        return f"Few runs leave the equal state: {found}"
    # What is equal beyond those that never left has come back.
    if np.nanmax(now - never_left) > 0.05:
        return f"Leaving the equal state is not for good: {found}"
    return f"Runs that leave the equal state stay apart: {found}"


def remedies(dataset: xr.Dataset, theme: Theme) -> Figure:
    """Draw how often twins are equal at initialisation, for everything that may help."""
    colors = style.PALETTES[theme]
    shares = _equal_shares(dataset)
    baseline = shares[ONE_HEAD][0]
    fig = style.new_figure(_remedies_title(shares), 0.36 * len(shares) + 2.0, colors)
    ax = fig.add_subplot()
    ax.axvline(baseline, color=colors.text, linewidth=1, linestyle="--")
    for row, (setting, (share, low, high)) in enumerate(shares.items()):
        color = colors.equal if share < baseline else colors.other
        color = colors.text if setting == ONE_HEAD else color
        ax.hlines(row, share, baseline, color=color, linewidth=1.2, alpha=0.5)
        ax.hlines(row, low, high, color=color, linewidth=4)
        ax.plot(share, row, REMEDIES[setting][1], color=color, markersize=8, zorder=3)
        beside = {"va": "center", "annotation_clip": False}
        style.note(ax, percent(share, 1), (1, row), (14, 0), color, **beside)
    ax.set_ylim(len(shares) - 0.4, -0.6)
    ax.set_xlim(-0.1, 1.04)
    style.style_axes(ax, colors, "Initialisations with equal twins,\n95% interval", "")
    style.set_ticks(ax.xaxis, [0, 0.5, 1])
    ax.set_yticks(range(len(shares)), [REMEDIES[setting][0] for setting in shares])
    ax.yaxis.grid(visible=False)
    return fig


def _equal_shares(dataset: xr.Dataset) -> dict[Setting, tuple[float, float, float]]:
    """Return (share, low, high) by setting, worst first.

    A residual path leaves the attention as it is, so there outputs count.
    """
    shares = {}
    for setting in sorted(set(REMEDIES) & set(_settings(dataset)), key=lambda x: x.name):
        row = dataset.sel(setting=setting.name)
        equal = row["init_equal_outputs" if setting == RESIDUAL else "init_collisions"]
        low, high = binomial_interval(int(equal), int(row["init_num_inits"]))
        shares[setting] = (float(equal / row["init_num_inits"]), float(low), float(high))
    return dict(sorted(shares.items(), key=lambda item: -item[1][0]))


def _remedies_title(shares: dict[Setting, tuple[float, float, float]]) -> str:
    best, baseline = list(shares)[-1], percent(shares[ONE_HEAD][0], 1)
    if best == ONE_HEAD or shares[best][0] >= shares[ONE_HEAD][0]:
        return f"Nothing here helps: with 1 head twins are equal in {baseline} of initialisations"
    return (
        f"What helps most is {REMEDIES[best][0]}: twins are equal in {percent(shares[best][0], 1)} "
        f"of initialisations instead of {baseline}"
    )


# --- all of them --------------------------------------------------------------------------------

FIGURES: dict[str, Callable[[xr.Dataset, Theme], Figure]] = {
    figure.__name__: figure for figure in (training, collision_by_heads, survival, remedies)
}


def draw(name: str, dataset: xr.Dataset) -> tuple[Picture, Picture]:
    """Draw one of `FIGURES`, light and dark."""
    figure = FIGURES[name]
    return style.to_picture(figure(dataset, "light")), style.to_picture(figure(dataset, "dark"))
