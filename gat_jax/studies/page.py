"""One self-contained HTML page of a study: the answer, the claims, figures, graphs, how to redo it.

The page is a template, `study.html` of the folder `report/templates`; here is what it says.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import xarray as xr

from gat_jax.report import Picture, count, number, percent, render_page
from gat_jax.studies import claim_ids
from gat_jax.studies.claim_ids import ONE_HEAD, Setting
from gat_jax.studies.claims import ARTICLE_CLAIMS, FEW_PAIRS, OPTIMIZERS

SIGNS = {"confirmed": "✓", "refined": "≈", "refuted": "✗", "measured": "•"}
JUDGEMENTS = ("right", "right, with a correction", "right in part", "mostly wrong", "wrong")

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


def write_page(
    entries: Sequence[Mapping],
    dataset: xr.Dataset,
    pictures: Mapping[str, tuple[Picture, Picture]],
    path: Path,
    *,
    playground: str | None = None,
) -> None:
    """Write the page.

    Args:
      entries: of `claims.judge`, every id of `claims.CLAIMS` among them.
      dataset: of the same study.
      pictures: (light, dark) by the figure's name; of one that is not among them the page says
        that it could not be drawn.
      path: of the HTML file.
      playground: the name of the playground's file beside it, where there is one.
    """
    text = render_page(
        "study.html",
        playground=playground,
        signs=SIGNS,
        tally=_tally(entries),
        facts=_facts(entries, dataset),
        captions=CAPTIONS,
        pictures=pictures,
        claims=[_claim(claim, text, entries) for claim, text in ARTICLE_CLAIMS.items()],
        graphs=_graphs(dataset),
        measured=[entry for entry in entries if entry["article_claim"] is None],
        command=_command(dataset),
        provenance={
            str(name).replace("_", " "): str(value)
            for name, value in dataset.attrs.items()
            if name not in _sizes(dataset)
        },
    )
    path.write_text(text, encoding="utf-8")


def judgement(verdicts: Iterable[str]) -> str:
    """Sum up the verdicts on one claim of the article, which may concern several mechanisms."""
    found = set(verdicts)
    if "refuted" not in found:
        return "right" if found == {"confirmed"} else "right, with a correction"
    if found == {"refuted"}:
        return "wrong"
    return "right in part" if "confirmed" in found else "mostly wrong"


def _verdicts(article_claim: int, entries: Sequence[Mapping]) -> list[str]:
    return [entry["verdict"] for entry in entries if entry["article_claim"] == article_claim]


def _tally(entries: Sequence[Mapping]) -> dict[str, list[int]]:
    """Return the article's claims by judgement, the best first."""
    judged = {claim: judgement(_verdicts(claim, entries)) for claim in ARTICLE_CLAIMS}
    groups = {name: [claim for claim in judged if judged[claim] == name] for name in JUDGEMENTS}
    return {name: claims for name, claims in groups.items() if claims}


def _facts(entries: Sequence[Mapping], dataset: xr.Dataset) -> list[str]:
    """Say what was found, in sentences that are true whatever the numbers are."""
    found = {entry["id"]: entry["estimate"] for entry in entries}

    def share(name: str) -> str:
        return "none" if found[name] is None else percent(found[name], 1)

    def init_share(quantity: str, setting: Setting) -> str:
        return share(claim_ids.of_init(quantity, setting))

    last = dataset.isel(step=-1)
    collided = last["train_collided_share"].values
    escapes = " and ".join(
        f"{'never' if step is None else f'at step {step:.0f}'} with {name}"
        for key, name in OPTIMIZERS.items()
        for step in [found[claim_ids.of_article_start(key, "entropy_escape_step")]]
    )
    equal = " and ".join(
        f"{share(claim_ids.of_article_start(key, 'collided_share'))} of the steps with {name}"
        for key, name in OPTIMIZERS.items()
    )
    lowest = found[claim_ids.LOSS_FLOOR]
    below = (
        "No run ever had equal twins"
        if lowest is None
        else ("With equal twins of different labels, no run had a loss below " + number(lowest))
    )
    return [
        "How often: one head, initialised at random, makes the tutorial's twins equal in "
        f"{init_share('collision', ONE_HEAD)} of all cases, eight heads in "
        f"{init_share('collision', Setting('gat', 8))}.",
        f"Why: {init_share('explained_by_regime', ONE_HEAD)} of these collisions are due to a "
        "linear regime. All attention logits of both twins have one sign, so LeakyReLU is linear "
        "on them, and the softmax cancels what tells the twins apart. Uniform attention, the "
        "article's explanation, occurs in "
        f"{init_share('uniform_attention', ONE_HEAD)} of all cases.",
        f"Training, from the article's own parameters: attention stops being uniform {escapes}; "
        f"the twins are equal at {equal}.",
        f"Training, from random starts: after {int(last['step']):,} steps the twins are equal in "
        f"{percent(collided.min())} to {percent(collided.max())} of the runs, depending on "
        f"optimiser and heads. {below}; theory puts the floor at {number(math.log(2) / 2)} nats.",
    ]


def _claim(article_claim: int, text: str, entries: Sequence[Mapping]) -> dict[str, Any]:
    verdicts = _verdicts(article_claim, entries)
    return {
        "number": article_claim,
        "text": text,
        "judgement": judgement(verdicts),
        "counts": {name: verdicts.count(name) for name in SIGNS if name in verdicts},
        "entries": [entry for entry in entries if entry["article_claim"] == article_claim],
    }


def _graphs(dataset: xr.Dataset) -> dict[str, Any] | None:
    """Say how many twins the graphs have, and what they cost; None if there is no graph."""
    if "graph" not in dataset.coords or not dataset.sizes["graph"]:
        return None
    heads = [int(h) for h in dataset["graph_heads"].values]
    labels = ["Self-loops", "Nodes", "Edges", "Twin pairs", "Trivial pairs"]
    labels += [f"Equal, {count(h, 'head')}" for h in heads]
    labels += ["Loss floor", "Unavoidable floor"]
    rows = [
        {
            "name": str(graph).replace("_", " "),
            "cells": [str(loops), *_graph_cells(dataset.sel(graph=graph, loops=loops), heads)],
        }
        for graph in dataset["graph"].values
        for loops in dataset["loops"].values
    ]
    return {"labels": labels, "rows": rows}


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


def _sizes(dataset: xr.Dataset) -> dict[str, Any]:
    """Return the study's config among the dataset's attributes."""
    names = (name for name in dataset.attrs if name == "seed" or str(name).startswith("num_"))
    return {str(name): dataset.attrs[name] for name in names}


def _command(dataset: xr.Dataset) -> str:
    options = (f" --{name.replace('_', '-')} {x}" for name, x in _sizes(dataset).items())
    return f"gat-jax reproduce --out results{''.join(options)}"
