"""A diagnosis as one self-contained HTML page: the answer, checks, drawings, remedies, layers.

The page is a template, `diagnosis.html` of the folder `report/templates`; here is what it says.
Text from outside is made visible here and escaped by the template.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gat_jax.diagnosis import wording
from gat_jax.diagnosis.pages import charts, drawings
from gat_jax.diagnosis.pages.groups import Group, groups_of, reasons_of
from gat_jax.diagnosis.results import Findings, LayerDiagnosis, RemedyReport, classes_of
from gat_jax.report.html import render_page
from gat_jax.report.numbers import count, percent
from gat_jax.runtime import store
from gat_jax.runtime.text import visible

MAX_NEIGHBOURHOODS = 6
MAX_GROUPS = 20  # rows of the table of groups
MAX_MEMBERS = 12  # that are named in a row
MAX_DRAWN_LAYERS = 6
MAX_LAYERS = 40  # rows of the table of layers
MAX_CHECKS = 60  # that are written out, of those that pass and of those that do not
MAX_NEAR = 10  # pairs in a row


def write_page(findings: Findings, path: str | Path) -> None:
    """Write the page of a diagnosis.

    Args:
      findings: of `diagnose.from_observed` or another of its kind.
      path: of the HTML file, which is replaced; folders on the way are made.

    Raises:
      ValueError: if nothing can be written there.
    """
    path = Path(path)
    page = render_page("diagnosis.html", **page_data(findings))
    if path.is_dir():
        raise ValueError(f"path: expected the path of a file, got the folder {path}")
    store.check_writable(path.parent)
    with store.staged(path.parent) as folder:
        (folder / path.name).write_text(page, encoding="utf-8")


def page_data(found: Findings) -> dict[str, Any]:
    """Return what the template says of a diagnosis: text, places and paths."""
    groups = groups_of(found)
    nodes = drawings.describe_nodes(found, groups)
    is_whole = len(found.final) <= drawings.MAX_WHOLE
    near = [] if is_whole else groups[:MAX_NEIGHBOURHOODS]
    reasons = [visible(reason) for reason in reasons_of(found, groups[:MAX_GROUPS])]
    drawn = found.layers[:MAX_DRAWN_LAYERS]
    return {
        "answer": visible(found.answer),
        "facts": _facts(found),
        "notes": [visible(note) for note in found.notes],
        "checks": _checks(found),
        "graph": drawings.draw_graph(found, nodes) if is_whole else None,
        "neighbourhoods": [
            (drawings.draw_neighbourhood(found, nodes, group), reason)
            for group, reason in zip(near, reasons, strict=False)
        ],
        "num_groups": len(groups),
        "groups": [_group(found, *row) for row in zip(groups, reasons, strict=False)],
        "has_labels": found.labels is not None,
        "remedies": [_remedy(report) for report in found.remedies],
        "was_tried": any(report.tried for report in found.remedies),
        "layers": [_layer(found, layer) for layer in found.layers[:MAX_LAYERS]],
        "num_layers": len(found.layers),
        "drawn": [_drawn(layer) for layer in drawn],
    }


def _facts(found: Findings) -> list[str]:
    """Say how large everything is, and what the nodes without attention to speak of are."""
    layer = found.layers[0]
    twins = layer.twin_counts()
    words = "there are none"
    if twins.nodes or twins.trivial_nodes:
        words = (
            f"{twins.nodes:,} nodes are twins, in {twins.classes:,} "
            f"{'class' if twins.classes == 1 else 'classes'}, and {twins.trivial_nodes:,} more are "
            "trivial ones, of one sender or none"
        )
    facts = [
        f"{count(len(found.final), 'node')}, {count(len(found.graph.senders), 'edge')} and "
        f"{count(len(found.layers), 'layer')}.",
        "Twins are nodes that receive from the same senders. As "
        f"{visible(layer.name)} sees the edges, {words}.",
    ]
    if found.loss_floor is not None and found.unavoidable_loss_floor is not None:
        least = found.unavoidable_loss_floor
        facts.append(
            "With these labels, equal nodes keep the mean cross-entropy at "
            f"{found.loss_floor:.4f} nats or above; {f'{least:.4f}' if least > 0 else 'none'} of "
            "it is unavoidable."
        )
    if found.before is not None:
        facts.append(visible(wording.moved(found)))
    return facts


def _checks(found: Findings) -> dict[str, Any]:
    """Return the checks that need a look, failed ones first, and those that pass."""
    rows = [
        {"name": visible(check.name), "status": check.status, "text": visible(check.text)}
        for check in found.checks
    ]
    failed, warned, passed = (
        [row for row in rows if row["status"] == status] for status in ("fail", "warn", "pass")
    )
    return {
        "counts": {"fail": len(failed), "warn": len(warned), "pass": len(passed)},
        "open": [*failed, *warned][:MAX_CHECKS],
        "num_open": len(failed) + len(warned),
        "passed": passed[:MAX_CHECKS],
        "num_passed": len(passed),
    }


# --- nodes ----------------------------------------------------------------------------------------


def _named(found: Findings, members: Sequence[int]) -> str:
    """Name some nodes, and say how many more there are."""
    names = ", ".join(visible(found.name_of(node)) for node in members[:MAX_MEMBERS])
    more = len(members) - MAX_MEMBERS
    return names if more <= 0 else f"{names} and {more:,} more"


def _group(found: Findings, group: Group, reason: str) -> dict[str, Any]:
    return {
        "number": group.number,
        "kind": group.kind,
        "size": f"{len(group.members):,}",
        "members": _named(found, group.members),
        "labels": _num_labels(found, group),
        "reason": reason,
    }


def _num_labels(found: Findings, group: Group) -> str:
    if found.labels is None:
        return ""
    labels = found.labels[group.members]
    return f"{len(set(labels[labels >= 0].tolist())):,}"


# --- remedies -------------------------------------------------------------------------------------


def _remedy(report: RemedyReport) -> dict[str, Any]:
    low, high = report.interval or (None, None)
    ends = ""
    if low is not None and high is not None and low < high:
        ends = f"{percent(low)} to {percent(high)}"
    tried = report.tried or {}
    return {
        "title": visible(report.title),
        "cost": visible(report.cost),
        "evidence": visible(report.evidence),
        "predicted": _bar(report.separated, ends, low, high),
        "tried": _bar(tried.get("separated"), _tried(tried)),
    }


def _tried(tried: dict[str, Any]) -> str:
    loss = tried.get("final_loss")
    failed = f"{count(tried['failed'], 'run')} failed" if tried.get("failed") else ""
    return ", ".join(x for x in ("" if loss is None else f"loss {loss:.3g}", failed) if x)


def _bar(
    share: float | None, text: str, low: float | None = None, high: float | None = None
) -> dict[str, Any] | None:
    """Return a bar of a share: numbers in percent of its length."""
    if share is None:
        return None
    start, stop = (share if x is None else x for x in (low, high))
    return {
        "share": percent(share),
        "text": text,
        "length": round(100 * share, 1),
        "start": round(100 * start, 1),
        "width": round(100 * (stop - start), 1),
    }


# --- layers ---------------------------------------------------------------------------------------


def _layer(found: Findings, layer: LayerDiagnosis) -> dict[str, Any]:
    facts = layer.head_facts
    has_attention = layer.kind != "gcn"
    near = [
        f"{visible(found.name_of(i))} and {visible(found.name_of(k))}: {gap:.1e}"
        for i, k, gap in layer.near_misses[:MAX_NEAR]
    ]
    more = layer.num_near_misses - len(near)
    fresh = layer.fresh
    cells = {
        "Heads": f"{layer.heads:,}",
        "Edges": f"{layer.num_edges:,}",
        "Merged": f"{sum(map(len, layer.merged_classes())):,}",
        "Inseparable": f"{sum(map(len, classes_of(layer.inseparable))):,}",
        "Entropy": wording.mean_share(facts.entropy) if has_attention else "",
        "Positive": wording.mean_share(facts.positive) if has_attention else "",
        "Negative": wording.mean_share(facts.negative) if has_attention else "",
        "Saturated": wording.mean_share(facts.saturated) if has_attention else "",
        "Directions": f"{layer.effective_rank:.1f}" if np.isfinite(layer.effective_rank) else "",
        "Spread": percent(layer.distance_to_mean, 1),
        "Fresh": ""
        if fresh is None
        else f"{percent(fresh.probability)} ({percent(fresh.interval[0])} to "
        f"{percent(fresh.interval[1])})",
    }
    return {
        "name": visible(layer.name),
        "system": visible(layer.system),
        "cells": cells,
        "note": visible(layer.note),
        "near": near + ([f"and {more:,} more"] if near and more > 0 else []),
    }


def _drawn(layer: LayerDiagnosis) -> dict[str, Any]:
    """Return the charts of a layer, and what was left out of them."""
    rows, maps = layer.regimes, charts.draw_regimes(layer)
    left_out = ""
    if rows is not None and maps:
        if rows.num_panels > len(rows.panels):
            unit = "channels of heads" if layer.kind == "gatv2" else "heads"
            left_out += f" Of {rows.num_panels:,} {unit}, the first {len(rows.panels)} are drawn."
        if rows.num_nodes > len(rows.nodes):
            left_out += f" Of {rows.num_nodes:,} rows, {len(rows.nodes):,} are drawn."
    return {
        "name": visible(layer.name),
        "kind": layer.kind,
        "maps": maps,
        "left_out": left_out.strip(),
        "histogram": charts.draw_entropies(layer),
    }
