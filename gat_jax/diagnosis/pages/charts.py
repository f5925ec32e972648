"""What the charts of a page consist of: regime maps and histograms of entropy, as SVG paths."""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from gat_jax.diagnosis.results import LayerDiagnosis
from gat_jax.report.numbers import percent

MAX_HEADS = 8
WIDTH, HEIGHT = 280.0, 264.0  # of a regime map
LEFT, RIGHT, TOP, BOTTOM = 50.0, 8.0, 6.0, 44.0  # from its sides to what is plotted
ROOM = 0.06  # around the points, as a share of their extent
STRIP, BARS = 62, 38  # of a head in the histogram, and its largest bar
CHART, CHART_LEFT, CHART_RIGHT = 300.0, 8.0, 22.0


class Tick(NamedTuple):
    """A mark of an axis."""

    place: float
    text: str


class RegimeMap(NamedTuple):
    """Rows of a head in the plane of the receiver's part (right) and the senders' parts (up)."""

    name: str
    fact: str
    # Corners of the half-plane in which logits are positive, and its border, where they are 0; both
    # reach out of the plot.
    positive: str
    border: str
    equal: str
    different: str
    others: str
    x_ticks: list[Tick]
    y_ticks: list[Tick]


class Strip(NamedTuple):
    """The histogram of one head."""

    text: str
    y: float  # of the bars' foot
    bars: str
    mean: float | None  # its place


class Histogram(NamedTuple):
    """Entropies of the heads of a layer, below each other."""

    height: int
    strips: list[Strip]
    x_ticks: list[Tick]
    num_others: int  # heads that are not drawn


# --- regime maps ----------------------------------------------------------------------------------


def draw_regimes(layer: LayerDiagnosis) -> list[RegimeMap]:
    """Draw the rows of a layer, a map for each head; none where no node has two senders."""
    rows = layer.regimes
    if rows is None or len(rows.nodes) == 0:
        return []
    kinds = (rows.is_equal, ~rows.is_equal & rows.is_candidate, ~rows.is_equal & ~rows.is_candidate)
    return [_regime_map(layer, k, kinds) for k in range(len(rows.panels))]


def _regime_map(layer: LayerDiagnosis, panel: int, kinds: tuple[np.ndarray, ...]) -> RegimeMap:
    rows, facts = layer.regimes, layer.head_facts
    assert rows is not None
    own = rows.receiver_parts[:, panel]
    low, high = rows.lowest[:, panel], rows.highest[:, panel]
    x_range, y_range = _range(own), _range(np.concatenate([low, high]))

    def x_of(values):
        return _between(values, x_range, LEFT, WIDTH - RIGHT)

    def y_of(values):
        return _between(values, y_range, HEIGHT - BOTTOM, TOP)

    def path(kept: np.ndarray) -> str:
        places = np.stack([x_of(own[kept]), y_of(low[kept]), y_of(high[kept])], axis=1)
        # Rows that look alike are drawn once.
        places = np.unique(np.round(places, 1), axis=0)
        return "".join(f"M{x:g} {a:g}V{b:g}" for x, a, b in places.tolist())

    (left, right), top = x_range, 10.0 * max(map(abs, (*x_range, *y_range)))
    corners = [(left, -left), (right, -right), (right, top), (left, top)]
    places = [f"{x_of(x):.1f},{y_of(y):.1f}" for x, y in corners]
    fact = ""
    if layer.kind == "gat" and math.isfinite(facts.positive[panel]):
        positive, negative = (float(x[panel]) for x in (facts.positive, facts.negative))
        fact = f"{percent(positive)} of all rows positive, {percent(negative)} negative"
    return RegimeMap(
        rows.panels[panel],
        fact,
        " ".join(places),
        f"M{places[0]}L{places[1]}",
        path(kinds[0]),
        path(kinds[1]),
        path(kinds[2]),
        [Tick(round(float(x_of(t)), 1), text) for t, text in _ticks(*x_range)],
        [Tick(round(float(y_of(t)), 1), text) for t, text in _ticks(*y_range)],
    )


def _range(values: Float[np.ndarray, " values"]) -> tuple[float, float]:
    """Return the ends of an axis, with 0 between them."""
    low, high = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
    room = ROOM * (high - low) if high > low else 1.0
    return low - room, high + room


def _between(values, ends: tuple[float, float], start: float, stop: float):
    low, high = ends
    return start + (values - low) / (high - low) * (stop - start)


def _ticks(low: float, high: float) -> list[tuple[float, str]]:
    """Return three to six round numbers of an axis, and how they are written."""
    rough = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(x * power for x in (1, 2, 5, 10) if x * power >= rough * 0.8)
    places = np.arange(math.ceil(low / step), math.floor(high / step) + 1) * step
    return [(float(x), f"{x:.3g}") for x in places + 0.0]


# --- entropies ------------------------------------------------------------------------------------


def draw_entropies(layer: LayerDiagnosis) -> Histogram | None:
    """Draw the normalised entropies of a layer; None where there is no attention to speak of."""
    counts = layer.head_facts.entropy_counts
    if layer.kind == "gcn" or not counts.any():
        return None
    num = min(layer.heads, MAX_HEADS)
    edges = _between(np.linspace(0, 1, counts.shape[1] + 1), (0.0, 1.0), *_ends())
    strips = []
    for head in range(num):
        foot, heights = STRIP * (head + 1) - 4, BARS * counts[head] / max(counts[head].max(), 1)
        bars = "".join(
            f"M{left:.1f} {foot}V{foot - max(height, 1.0):.1f}H{right - 0.5:.1f}V{foot}Z"
            for left, right, height in zip(edges[:-1], edges[1:], heights, strict=True)
            if height > 0
        )
        mean = float(layer.head_facts.entropy[head])
        text = f"head {head}: {percent(mean, 1)} in the mean"
        strips.append(Strip(text, foot, bars, round(_between(mean, (0.0, 1.0), *_ends()), 1)))
    ticks = [Tick(_between(x, (0.0, 1.0), *_ends()), percent(x)) for x in (0.0, 0.5, 1.0)]
    return Histogram(STRIP * num + 20, strips, ticks, layer.heads - num)


def _ends() -> tuple[float, float]:
    return CHART_LEFT, CHART - CHART_RIGHT
