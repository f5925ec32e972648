"""One self-contained HTML page of a study: the answer, the claims, figures, graphs, how to redo it.

No network, no scripts; light or dark as the reader's system is; tables become cards on a phone.
Every string that comes from data is escaped.
"""

import base64
import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path

import xarray as xr

from gat_jax.studies import figures
from gat_jax.studies.claims import ARTICLE_CLAIMS, FEW_PAIRS
from gat_jax.studies.figures import percent

SIGNS = {"confirmed": "✓", "refined": "≈", "refuted": "✗", "measured": "•"}

CAPTIONS = {
    "training": "The point of the study: once attention stops being uniform (orange), have the "
    "twins come apart (blue)? Top: one run from the article's own parameters. Below: random "
    "starts. SGD and Adam have different learning rates.",
    "collision_by_heads": "The tutorial graph before training, 2 channels per head: how often both "
    "twins get the same attention in every head. Dashed: what heads would give that collide "
    "independently of each other.",
    "survival": "Solid: the runs that have not left the equal state yet, a survival curve of the "
    "first exit alone. Dotted: the runs that are equal at that step, those that came back among "
    "them. Band: 95% interval.",
    "remedies": "The tutorial graph before training; a head of GAT has 2 channels. Blue is better "
    "than one head of GAT (dashed), orange is worse. Attention rows are compared, but with a "
    "residual path outputs, since it changes those alone.",
}

STYLE = """
:root { color-scheme: light dark; --page: #f6f8fa; --card: #ffffff; --text: #1b1f24;
  --muted: #57606a; --line: #d8dee4; --link: #0062a3; --confirmed: #0b5d35; --refined: #7a4b00;
  --refuted: #a3172c; --measured: #48525c; }
@media (prefers-color-scheme: dark) { :root { --page: #0d1117; --card: #161b22; --text: #e6edf3;
  --muted: #9da7b3; --line: #30363d; --link: #58b0f2; --confirmed: #4cc98a; --refined: #e5b04b;
  --refuted: #ff8a93; --measured: #a4abb5; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--text); overflow-wrap: break-word;
  font: 1rem/1.55 system-ui, "Segoe UI", Roboto, "Liberation Sans", sans-serif; }
header, main { max-width: 66rem; margin: 0 auto; padding: 2rem 1.25rem 0; }
main { padding: 0 1.25rem 3rem; } h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 1rem; }
h2 { font-size: 1.4rem; line-height: 1.25; margin: 2.5rem 0 .75rem; }
h3 { font-size: 1.1rem; line-height: 1.35; margin: 0; }
header > p, main > p { max-width: 46rem; } a, summary { color: var(--link); }
ul { padding-left: 1.2rem; margin-bottom: 0; } li { margin: .35rem 0; }
code { font: .85em/1.4 ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; }
td code { color: var(--muted); overflow-wrap: anywhere; }
.card, figure, pre { background: var(--card); border: 1px solid var(--line); margin: 1rem 0;
  border-radius: .6rem; padding: 1.1rem 1.25rem; }
.answer { border-left: .35rem solid var(--link); } .answer p { margin: 0; }
.claim > p { margin: .4rem 0 .6rem; }
.figures { columns: 27rem 2; column-gap: 1.25rem; }
figure { margin: 0 0 1.25rem; break-inside: avoid; }
figure img { display: block; width: 100%; max-width: 36rem; height: auto; margin: 0 auto; }
figcaption, details { color: var(--muted); font-size: .92rem; margin-top: .5rem; }
.badge { display: inline-block; white-space: nowrap; font-size: .82rem; font-weight: 600;
  border: 1.5px solid; border-radius: 1rem; padding: 0 .6rem; }
.confirmed { color: var(--confirmed); } .refined { color: var(--refined); }
.refuted { color: var(--refuted); } .measured { color: var(--measured); }
table { width: 100%; border-collapse: collapse; font-size: .92rem; }
th { text-align: left; } thead th { font-size: .82rem; color: var(--muted); }
th, td { padding: .5rem .7rem .5rem 0; vertical-align: top; border-top: 1px solid var(--line); }
thead th { border-top: 0; vertical-align: bottom; }
.number { font-variant-numeric: tabular-nums; }
.claims .number { white-space: nowrap; } .claims .main { width: 50%; }
details { margin-top: .2rem; } details p { margin: .3rem 0; }
summary { cursor: pointer; width: fit-content; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; }
dt { font-weight: 600; float: left; clear: left; margin-right: .6rem; } dd { margin: 0 0 .2rem; }
@media (max-width: 46rem) {
  h1 { font-size: 1.5rem; } h2 { font-size: 1.25rem; }
  header, main { padding-left: .7rem; padding-right: .7rem; }
  .card, figure, pre { padding: .8rem .7rem; }
  thead { position: absolute; clip-path: inset(50%); width: 1px; height: 1px; overflow: hidden; }
  tr { display: block; padding: .8rem 0; border-top: 1px solid var(--line); }
  tr:first-child { border-top: 0; padding-top: 0; }
  tbody th, td { display: block; border: 0; padding: .1rem 0; }
  td:empty { display: none; }
  td[data-label]::before { content: attr(data-label) ": "; color: var(--muted); }
  .claims .number { white-space: normal; } .claims .main { width: auto; }
  td code { font-size: .66rem; }
}
"""


def write_report(entries: Sequence[Mapping], dataset: xr.Dataset, path: Path) -> None:
    """Write the page.

    Args:
      entries: of `claims.judge`, every id of `claims.CLAIMS` among them.
      dataset: of the same study.
      path: of the HTML file.
    """
    measured = [entry for entry in entries if entry["article_claim"] is None]
    body = "\n".join(
        [
            _header(entries, dataset),
            "<main>",
            _figures(dataset),
            "<h2>The article's eight claims</h2>",
            "<p>Each claim is tested by one or more ids. A rule, committed before the first "
            "full run, turns each number into a verdict. <em>Refined</em> means: not as stated, "
            "but not wrong either.</p>",
            *(_claim(number, text, entries) for number, text in ARTICLE_CLAIMS.items()),
            _graphs(dataset),
            "<h2>Everything else that was measured</h2>",
            "<p>These numbers test no claim of the article.</p>",
            f'<div class="card">{_entry_table(measured, has_verdicts=False)}</div>',
            _how_to_redo(dataset),
            "</main>",
        ]
    )
    page = (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>When are a GAT's twins equal?</title>\n<style>{STYLE}</style>\n</head>\n"
        f"<body>\n{body}\n</body>\n</html>\n"
    )
    path.write_text(page, encoding="utf-8")


def judgement(verdicts: Iterable[str]) -> str:
    """Sum up the verdicts on one claim of the article, which may concern several mechanisms."""
    found = set(verdicts)
    if "refuted" not in found:
        return "right" if found == {"confirmed"} else "right, with a correction"
    if found == {"refuted"}:
        return "wrong"
    return "right in part" if "confirmed" in found else "mostly wrong"


def _header(entries: Sequence[Mapping], dataset: xr.Dataset) -> str:
    groups: dict[str, list[str]] = {}
    for number in ARTICLE_CLAIMS:
        verdicts = [e["verdict"] for e in entries if e["article_claim"] == number]
        link = f'<a href="#claim-{number}">{number}</a>'
        groups.setdefault(judgement(verdicts), []).append(link)
    order = ("right", "right, with a correction", "right in part", "mostly wrong", "wrong")
    tally = "; ".join(
        f"<strong>{name}</strong>: {', '.join(groups[name])}" for name in order if name in groups
    )
    facts = "".join(f"<li>{escape(fact)}</li>" for fact in _facts(entries, dataset))
    return (
        "<header><h1>Does graph attention tell twins apart?</h1>\n"
        "<p>Twins are nodes with the same neighbourhood. A graph convolution always gives them the "
        "same output. Graph attention (GAT) is said to tell them apart; an article on a well-known "
        "tutorial found that it sometimes does not, and made eight claims on how often, why, and "
        "whether training mends it. This page tests them.</p>\n"
        f'<div class="card answer"><p>Of the eight claims: {tally}.</p>'
        f"<ul>{facts}</ul></div></header>"
    )


def _facts(entries: Sequence[Mapping], dataset: xr.Dataset) -> list[str]:
    """Say what was found, in sentences that are true whatever the numbers are."""
    found = {entry["id"]: entry["estimate"] for entry in entries}
    share = {name: "none" if x is None else percent(x, 1) for name, x in found.items()}
    last = dataset.isel(step=-1)
    collided = last["train_collided_share"].values
    start = "training.article_start"
    escapes = " and ".join(
        f"{'never' if step is None else f'at step {step:.0f}'} with {name}"
        for key, name in figures.OPTIMIZERS.items()
        for step in [found[f"{start}.{key}.entropy_escape_step"]]
    )
    equal = " and ".join(
        f"{share[f'{start}.{key}.collided_share']} of the steps with {name}"
        for key, name in figures.OPTIMIZERS.items()
    )
    return [
        f"How often: one head, initialised at random, makes the tutorial's twins equal in "
        f"{share['init.collision.gat.h1']} of all cases, eight heads in "
        f"{share['init.collision.gat.h8']}.",
        f"Why: {share['init.explained_by_regime.gat.h1']} of these collisions are due to a linear "
        "regime. All attention logits of both twins have one sign, so LeakyReLU is linear on them, "
        "and the softmax cancels what tells the twins apart. Uniform attention, the article's "
        f"explanation, occurs in {share['init.uniform_attention.gat.h1']} of all cases.",
        f"Training, from the article's own parameters: attention stops being uniform {escapes}; "
        f"the twins are equal at {equal}.",
        f"Training, from random starts: after {int(last['step']):,} steps the twins are equal in "
        f"{percent(collided.min())} to {percent(collided.max())} of the runs, depending on "
        "optimiser and heads. With equal twins of different labels, no run had a loss below "
        f"{_number(found['training.loss_floor'])}; theory puts the floor at "
        f"{_number(math.log(2) / 2)} nats.",
    ]


def _figures(dataset: xr.Dataset) -> str:
    parts = []
    for name in figures.FIGURES:
        light, dark = (figures.render(name, dataset, theme) for theme in ("light", "dark"))
        caption = escape(CAPTIONS[name])
        parts.append(
            f'<figure id="{name}"><picture>'
            f'<source media="(prefers-color-scheme: dark)" srcset="{_data_uri(dark.png)}">'
            f'<img src="{_data_uri(light.png)}" width="{light.width}" height="{light.height}" '
            f'alt="{escape(light.title)}. {caption}"></picture>'
            f"<figcaption>{caption}</figcaption></figure>"
        )
    return f'<h2>In four pictures</h2>\n<div class="figures">{"".join(parts)}</div>'


def _data_uri(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"


def _claim(number: int, text: str, entries: Sequence[Mapping]) -> str:
    chosen = [entry for entry in entries if entry["article_claim"] == number]
    verdicts = [entry["verdict"] for entry in chosen]
    counts = " ".join(
        _badge(verdict, f"{verdicts.count(verdict)} {verdict}")
        for verdict in SIGNS
        if verdict in verdicts
    )
    return (
        f'<section class="card claim" id="claim-{number}"><h3>{number}. “{escape(text)}”</h3>'
        f"<p>This is <strong>{judgement(verdicts)}</strong>. {counts}</p>"
        f"{_entry_table(chosen, has_verdicts=True)}</section>"
    )


def _badge(verdict: str, text: str) -> str:
    return f'<span class="badge {escape(verdict)}">{SIGNS[verdict]} {escape(text)}</span>'


def _entry_table(entries: Sequence[Mapping], *, has_verdicts: bool) -> str:
    names = ["What was measured", "Estimate", "95% interval", "Exact", "Samples"]
    head = "".join(f'<th scope="col">{name}</th>' for name in ["Verdict"] * has_verdicts + names)
    rows = []
    for entry in entries:
        verdict = f"<td>{_badge(entry['verdict'], entry['verdict'])}</td>" * has_verdicts
        values = (
            _estimate(entry),
            _interval(entry),
            "" if entry["exact"] is None else _number(entry["exact"]),
            f"{entry['num_samples']:,}",
        )
        cells = "".join(
            f'<td class="number" data-label="{name}">{value}</td>' if value else "<td></td>"
            for name, value in zip(names[1:], values, strict=True)
        )
        rows.append(
            f'<tr>{verdict}<td class="main">{escape(entry["claim"])}<br>'
            f"<code>{escape(entry['id'])}</code><details><summary>Explanation and rule</summary>"
            f"<p>{escape(entry['explanation'])}</p><p>Rule: {escape(entry['rule'])}</p></details>"
            f"</td>{cells}</tr>"
        )
    return (
        f'<table class="claims"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table>"
    )


def _estimate(entry: Mapping) -> str:
    if entry["estimate"] is None:
        return "never" if entry["num_samples"] else "nothing to measure"
    low, high = entry["interval"]
    return _number(entry["estimate"], low, high)


def _interval(entry: Mapping) -> str:
    low, high = entry["interval"]
    if low is None or high is None:
        return "none"
    if low == high and entry["num_samples"] == 1:
        return "exact: no sampling"
    return f"[{_number(low, low, high)}, {_number(high, low, high)}]"


def _number(value: float, low: float | None = None, high: float | None = None) -> str:
    """Format with two digits of the interval's width, or five digits where there is none."""
    if not math.isfinite(value):
        return "undefined"
    if value == int(value):
        return f"{value:,.0f}"
    if low is not None and high is not None and high > low:
        return f"{value:,.{min(12, max(0, 1 - math.floor(math.log10(high - low))))}f}"
    if abs(value) < 1e-3:
        mantissa, exponent = f"{value:.1e}".split("e")
        return f"{mantissa} &times; 10<sup>{int(exponent)}</sup>"
    return f"{value:.5g}"


def _graphs(dataset: xr.Dataset) -> str:
    """Show how many twins the graphs have, and what they cost."""
    title = "<h2>Twins in real graphs</h2>"
    if "graph" not in dataset.coords or not dataset.sizes["graph"]:
        return f"{title}<p>No graph was looked at.</p>"
    heads = [int(h) for h in dataset["graph_heads"].values]
    names = ["Self-loops", "Nodes", "Edges", "Twin pairs", "Trivial pairs"]
    names += [f"Equal, {h} head{'s'[: h > 1]}" for h in heads]
    names += ["Loss floor", "Unavoidable floor"]
    rows = []
    for graph in dataset["graph"].values:
        for loops in dataset["loops"].values:
            row = dataset.sel(graph=graph, loops=loops)
            values = [str(loops), *_graph_cells(row, heads)]
            cells = "".join(
                f'<td class="number" data-label="{name}">{escape(value)}</td>'
                for name, value in zip(names, values, strict=True)
            )
            name = escape(str(graph).replace("_", " "))
            rows.append(f'<tr><th scope="row">{name}</th>{cells}</tr>')
    head = "".join(f'<th scope="col">{name}</th>' for name in ["Graph", *names])
    return (
        f"{title}\n<p>Self-loops decide who is a twin. Trivial twins have at most one neighbour to "
        "attend to and are equal for all parameters, so they are counted apart. "
        "<em>Equal</em> is the mean share of the other pairs that one layer makes equal at "
        "initialisation. Floors are in nats of mean cross-entropy: the lowest loss while all twins "
        "stay equal, and the lowest of one layer whatever its parameters.</p>\n"
        f'<div class="card"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _graph_cells(row: xr.Dataset, heads: Sequence[int]) -> list[str]:
    def pairs(kind: str) -> str:
        count, nodes = int(row[f"graph_{kind}pairs"]), int(row[f"graph_{kind}nodes"])
        return f"{count:,} ({nodes:,}\u00a0nodes)" if count else "none"

    def equal(num_heads: int) -> str:
        share = float(row["graph_collision_share"].sel(graph_heads=num_heads))
        if math.isnan(share):
            return "nothing to measure"
        too_few = ", too few pairs to say" if int(row["graph_pairs"]) < FEW_PAIRS else ""
        return percent(share, 2) + too_few

    def floor(kind: str) -> str:
        value = float(row[f"graph_{kind}loss_floor"])
        return "no labels" if math.isnan(value) else f"{value:.4g}"

    return [
        f"{int(row['graph_num_nodes']):,}",
        f"{int(row['graph_num_edges']):,}",
        pairs(""),
        pairs("trivial_"),
        *(equal(num_heads) for num_heads in heads),
        floor(""),
        floor("unavoidable_"),
    ]


def _how_to_redo(dataset: xr.Dataset) -> str:
    """Give the command line, and what the numbers were computed with."""
    sizes = {k: v for k, v in dataset.attrs.items() if k == "seed" or k.startswith("num_")}
    options = "".join(f" --{name.replace('_', '-')} {value}" for name, value in sizes.items())
    others = {k: v for k, v in dataset.attrs.items() if k not in sizes}
    items = "".join(
        f"<dt>{escape(str(k).replace('_', ' '))}</dt><dd>{escape(str(v))}</dd>"
        for k, v in others.items()
    )
    return (
        "<h2>How to redo it</h2>\n<p>In a checkout of the package; the same seed gives the same "
        "numbers on one kind of machine. Other graphs than the two built in need "
        "<code>--data</code>.</p>\n"
        f"<pre><code>python scripts/reproduce.py --out results{escape(options)}</code></pre>"
        + (f"\n<dl>{items}</dl>" if items else "")
    )
