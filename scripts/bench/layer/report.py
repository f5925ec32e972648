"""Tables, targets and figure of the benchmark of layers, from the document that it writes."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.table import Table

from bench.layer.cases import ARXIV, CORA
from bench.layer.softmax import CASE as SOFTMAX
from bench.layer.systems import (
    JRAPH,
    OURS,
    PYG_COMPILED,
    PYG_EAGER,
    SEGMENTS,
)
from bench.train.cases import CASE as TRAINING
from bench.train.cases import PYG as PYG_IN_TURN
from gat_jax.report.style import PALETTES, new_figure, style_axes

Document = dict[str, Any]
BOTH = "forward+backward"


class Target(NamedTuple):
    """A number that the benchmark has to reach."""

    case: str
    peer: str
    measure: str  # an entry's key; "ratio_to_peer" of the peer, "memory" by it, others of ours
    bound: float
    reach: float | None = None
    is_upper: bool = False  # at most instead of at least
    backend: str = "cpu"  # where it has to be reached

    def is_met(self, measured: float) -> bool:
        """Compare with the bound."""
        return measured <= self.bound if self.is_upper else measured >= self.bound


GAT, ONE_HEAD, GATV2 = (f"{ARXIV}, {x}, {BOTH}" for x in ("GAT 8x16", "GAT 1x128", "GATv2 8x16"))
# Ratios: how many times as fast we are, or how many times as much memory the peer needs.
TARGETS = (
    Target(GAT, PYG_EAGER, "ratio_to_peer", 7, 10),
    Target(GAT, PYG_COMPILED, "ratio_to_peer", 3, 5),
    Target(GAT, JRAPH, "ratio_to_peer", 8, 12),
    Target(GAT, PYG_EAGER, "memory", 6, 12),
    Target(ONE_HEAD, PYG_EAGER, "ratio_to_peer", 6, 10),
    Target(GATV2, PYG_EAGER, "ratio_to_peer", 3, 6),
    Target(f"{CORA}, GAT 8x8, {BOTH}", PYG_EAGER, "ratio_to_peer", 4, 8),
    Target(TRAINING, PYG_IN_TURN, "ratio_to_peer", 5, 10),
    Target(f"{SOFTMAX}, {BOTH}", SEGMENTS, "ratio_to_peer", 8, backend="gpu"),
    Target(GAT, OURS, "compile_seconds", 10, is_upper=True),
    Target(GAT, OURS, "prepare_seconds", 2, is_upper=True),
    Target(GAT, OURS, "prepare_in_steps_saved", 20, is_upper=True),
)
# Beside the targets: what a user gets who tries all of PyG's settings.
ASIDE = (GAT, ONE_HEAD, GATV2)
TEXTS = {
    "ratio_to_peer": "at least {}x as fast",
    "memory": "its peak at least {}x ours",
    "compile_seconds": "compiled in at most {} s",
    "prepare_seconds": "prepared in at most {} s",
    "prepare_in_steps_saved": "prepared in at most {} steps saved",
}


def judge(document: Document) -> list[dict[str, Any]]:
    """Return every target with what was measured in each environment, and whether it is met.

    What was not measured, or failed, is neither: None. Targets are meant for one kind of device.
    """
    rows = []
    backend = document["machine"]["backend"]
    for target in (x for x in TARGETS if x.backend == backend):
        row: dict[str, Any] = {**target._asdict(), "measured": {}, "is_met": {}}
        for environment in document["environments"]:
            measured = _measured(document, environment, target)
            row["measured"][environment] = measured
            is_met = None if measured is None else target.is_met(measured)
            if target.measure == "prepare_in_steps_saved" and measured is None:
                is_met = _never_pays(document, environment, target.case)
            row["is_met"][environment] = is_met
        rows.append(row)
    return rows


def _never_pays(document: Document, environment: str, case: str) -> bool | None:
    """Return False if preparing was measured, for then no step is saved; None if it was not."""
    target = Target(case, OURS, "prepare_seconds", 0)
    return None if _measured(document, environment, target) is None else False


def _measured(document: Document, environment: str, target: Target) -> float | None:
    entries = {
        entry["system"]: entry
        for entry in document["entries"]
        if (entry["case"], entry["environment"]) == (target.case, environment)
    }
    peer = entries.get(target.peer, {})
    if target.measure != "memory":
        return peer.get(target.measure)
    peaks = peer.get("peak_mib"), entries.get(OURS, {}).get("peak_mib")
    return peaks[0] / peaks[1] if peaks[0] is not None and peaks[1] else None


def fastest_pyg(document: Document, environment: str, case: str) -> float | None:
    """Return our ratio to PyG at its fastest, eager or compiled."""
    ratios = [
        _measured(document, environment, Target(case, peer, "ratio_to_peer", 1))
        for peer in (PYG_EAGER, PYG_COMPILED)
    ]
    return min((ratio for ratio in ratios if ratio is not None), default=None)


# --- tables -------------------------------------------------------------------------------------


def tables(document: Document) -> Iterator[Table]:
    """Yield the tables, the targets last."""
    yield _systems(document)
    yield _costs(document)
    if document["growth"]:
        yield _growth(document)
    yield _targets(document)


def _systems(document: Document) -> Table:
    environments = list(document["environments"])
    table = _table("Time, and how many times as fast we are", ["system", "at its best", "error"])
    for name in environments:
        table.add_column(f"{name}:\nms", justify="right")
        table.add_column("\nratio", justify="right")
    table.add_column("peak\nMiB", justify="right")
    cases: dict[str, dict[str, dict[str, Any]]] = {}
    for entry in document["entries"]:
        by_system = cases.setdefault(entry["case"], {})
        by_system.setdefault(entry["system"], {})[entry["environment"]] = entry
    for case, by_system in cases.items():
        table.add_section()
        table.add_row(f"[bold]{case}[/]")
        for system, found in by_system.items():
            settings = [_how(entry) for entry in found.values()]
            errors = [entry["max_relative_error"] for entry in found.values()]
            cells = [f"  {system}", "\n".join(dict.fromkeys(settings))]
            cells.append(_text(max((x for x in errors if x is not None), default=None), ".0e"))
            for name in environments:
                seconds = found.get(name, {}).get("median_seconds")
                cells.append(_text(None if seconds is None else 1e3 * seconds, ",.4g"))
                cells.append(_text(found.get(name, {}).get("ratio_to_peer")))
            table.add_row(*cells, _text(found.get("default", {}).get("peak_mib"), ",.0f"))
    return table


def _how(entry: dict[str, Any]) -> str:
    """Say how a system ran, or why it did not."""
    layout = entry.get("layout", "").partition(":")[0]
    features = "sparse features" if (entry["graph"], entry["system"]) == (CORA, OURS) else ""
    parts = entry.get("failure"), entry.get("setting") or layout, features
    return ", ".join(part for part in parts if part)


def _costs(document: Document) -> Table:
    title = "Ours: compilation, preparation of both directions, bytes that have to move"
    table = _table(title, ["case", "environment", "layout"])
    numbers = ["compile\ns", "prepare\ns", "in steps\nsaved"]
    numbers += ["bound\nms", "times\nbound", "temporary\nMiB"]
    for name in numbers:
        table.add_column(name, justify="right")
    for entry in document["entries"]:
        if entry["system"] != OURS or "times_bound" not in entry:
            continue
        table.add_row(
            entry["case"],
            entry["environment"],
            entry["layout"].partition(":")[0],
            _text(entry["compile_seconds"], ".1f"),
            _text(entry.get("prepare_seconds"), ".2g"),
            _text(entry.get("prepare_in_steps_saved"), ".1f"),
            _text(1e3 * entry["bound_seconds"], ".3g"),
            _text(entry["times_bound"], ".1f"),
            _text(entry["temporary_mib"], ",.0f"),
        )
    return table


def _growth(document: Document) -> Table:
    environments = list(document["environments"])
    table = _table("Growth: GAT 8x16, ns per edge forward and backward", ["edges"])
    columns = [(name, system) for name in environments for system in (OURS, SEGMENTS)]
    for name, system in columns:
        table.add_column(f"{name}: {system}", justify="right")
    by_size: dict[int, dict] = {}
    for row in document["growth"]:
        found = by_size.setdefault(row["edges"], {})
        found[row["environment"], row["system"]] = row["ns_per_edge"]
    for edges, found in by_size.items():
        table.add_row(f"{edges:,}", *(_text(found.get(column), ".0f") for column in columns))
    return table


def _targets(document: Document) -> Table:
    environments = list(document["environments"])
    table = _table("Targets, forward and backward", ["case", "against", "target"])
    for name in environments:
        table.add_column(name, justify="right")
    for row in document["targets"]:
        text = TEXTS[row["measure"]].format(f"{row['bound']:g}")
        text += f" (goal {row['reach']:g}x)" if row["reach"] else ""
        cells = [_short(row["case"]), "" if row["peer"] == OURS else row["peer"], text]
        cells += [_verdict(row["measured"][name], row["is_met"][name]) for name in environments]
        table.add_row(*cells)
    for case in ASIDE:
        found = [fastest_pyg(document, name, case) for name in environments]
        cells = [_short(case), "PyG, its fastest setting", "none: stated for comparison"]
        table.add_row(*cells, *(_text(x) for x in found))
    return table


def _short(case: str) -> str:
    return case.removesuffix(f", {BOTH}")


def _verdict(measured: float | None, is_met: bool | None) -> str:
    if is_met is None:
        return "not measured"
    style, word = ("green", "met") if is_met else ("red", "not met")
    number = "never" if measured is None else f"{measured:.3g}"
    return f"{number} [{style}]{word}[/]"


def _table(title: str, columns: list[str]) -> Table:
    table = Table(title=title, title_justify="left")
    for k, column in enumerate(columns):
        table.add_column(column, no_wrap=k == 0)
    return table


def _text(number: float | None, form: str = ".2f") -> str:
    return "" if number is None else format(number, form)


# --- figure -------------------------------------------------------------------------------------

DRAWN = (SEGMENTS, PYG_EAGER, PYG_COMPILED, JRAPH)
COLORS = ("#5c6670", "#b84a00", "#7b3294", "#00756b")


def draw(document: Document) -> Figure:
    """Draw how many times as long as ours the peers take, and our time per edge by size."""
    colors = PALETTES["light"]
    num_cases = len({e["case"] for e in document["entries"] if e["pass"] == BOTH})
    fig = new_figure("One layer, forward and backward", 2.5 + 0.9 * num_cases, colors)
    fig.set_figwidth(12.0 if document["growth"] else 8.0)
    if not document["growth"]:
        _draw_ratios(fig.subplots(), document)
        return fig
    left, right = fig.subplots(1, 2, width_ratios=(1.25, 1))
    _draw_ratios(left, document)
    _draw_growth(right, document)
    return fig


def _draw_ratios(ax: Axes, document: Document) -> None:
    colors = PALETTES["light"]
    entries = [
        e for e in document["entries"] if e.get("pass") == BOTH and e["environment"] == "default"
    ]
    cases = list(dict.fromkeys(entry["case"] for entry in entries))
    height, drawn = 0.8 / len(DRAWN), set()
    for entry in entries:
        if entry["system"] not in DRAWN or entry["ratio_to_peer"] is None:
            continue
        k = DRAWN.index(entry["system"])
        y = cases.index(entry["case"]) + (k - (len(DRAWN) - 1) / 2) * height
        label = None if k in drawn else entry["system"]
        drawn.add(k)
        ax.barh(y, entry["ratio_to_peer"], 0.9 * height, color=COLORS[k], label=label)
        ax.annotate(
            f"{entry['ratio_to_peer']:.1f}",
            (max(entry["ratio_to_peer"], 1), y),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            color=COLORS[k],
            fontsize=8.5,
        )
    ax.axvline(1, color=colors.text, linewidth=1)
    ax.set_yticks(
        range(len(cases)), [x.removesuffix(f", {BOTH}").replace(", ", "\n") for x in cases]
    )
    ax.set_ylim(len(cases) - 0.5, -0.5)
    ax.set_xlim(0, 1.12 * max([e["ratio_to_peer"] or 0 for e in entries], default=1))
    style_axes(ax, colors, "time relative to ours (line: ours = 1)", "")
    ax.yaxis.grid(visible=False)
    if drawn:
        _legend_above(ax)


def _draw_growth(ax: Axes, document: Document) -> None:
    colors = PALETTES["light"]
    for environment, style in zip(document["environments"], ("-", "--"), strict=False):
        for system, color, marker in ((SEGMENTS, COLORS[0], "s"), (OURS, colors.equal, "o")):
            rows = [
                row
                for row in document["growth"]
                if (row["environment"], row["system"]) == (environment, system)
            ]
            if rows:
                edges, times = zip(*((r["edges"], r["ns_per_edge"]) for r in rows), strict=True)
                label = f"{system}, {environment}" if environment != "default" else system
                ax.plot(edges, times, style, marker=marker, color=color, markersize=5, label=label)
    style_axes(ax, colors, "edges (mean degree 15)", "ns per edge, GAT 8x16")
    ax.set_xscale("log")
    ax.set_ylim(0, 1.08 * max(row["ns_per_edge"] for row in document["growth"]))
    _legend_above(ax)


def _legend_above(ax: Axes) -> None:
    ax.legend(frameon=False, fontsize=9.5, ncols=2, loc="lower left", bbox_to_anchor=(0, 1))
