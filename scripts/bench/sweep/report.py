"""Table and figure of the benchmark of sweeps, from the document that it writes."""

from typing import Any

from matplotlib.figure import Figure
from rich.table import Table

from gat_jax.report.style import PALETTES, new_figure, style_axes

COLORS = ("#00756b", "#b84a00", "#7b3294", "#5c6670", "#c2185b")


def table(entries: list[dict[str, Any]]) -> Table:
    """Return all cases and systems, for a terminal."""
    found = Table(title="Benchmark", title_justify="left")
    for name in ("case", "system", "inits/s", "we are faster by", "error", "peak MiB"):
        found.add_column(name, justify="left" if name in ("case", "system") else "right")
    for entry in entries:
        ratio, error, peak = (
            entry[name] for name in ("ratio_to_peer", "max_relative_error", "peak_mib")
        )
        found.add_row(
            entry["case"],
            entry["system"],
            f"{entry['throughput']:,.0f}",
            "" if ratio is None else f"{ratio:.3g}",
            "" if error is None else f"{error:.1e}",
            "" if peak is None else f"{peak:.0f}",
        )
    return found


def draw(document: dict[str, Any]) -> Figure:
    """Draw the throughput by number of initialisations that are computed at once."""
    colors = PALETTES["light"]
    figure = new_figure("Initialisations of the tutorial graph", 4.5, colors)
    figure.set_figwidth(9.0)
    axes = figure.subplots()
    systems = list(dict.fromkeys(row["system"] for row in document["at_once"]))
    for system, color in zip(systems, COLORS, strict=False):
        rows = [row for row in document["at_once"] if row["system"] == system]
        numbers, rates = zip(*((r["at_once"], r["throughput"]) for r in rows), strict=True)
        axes.plot(numbers, rates, marker="o", markersize=5, color=color, label=system)
    bound = [e for e in document["entries"] if e["system"] == "random words alone"]
    for entry in bound:
        axes.axhline(entry["throughput"], color=colors.text, linewidth=1, linestyle=":")
        axes.annotate(
            "random words alone, by XLA",
            (1, entry["throughput"]),
            xycoords=("axes fraction", "data"),
            xytext=(-4, 4),
            textcoords="offset points",
            ha="right",
            color=colors.text,
            fontsize=8.5,
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    style_axes(axes, colors, "initialisations at once", "initialisations a second")
    axes.legend(frameon=False, fontsize=9.5, ncols=2, loc="lower left", bbox_to_anchor=(0, 1))
    return figure
