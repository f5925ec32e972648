"""A diagnosis in words: the answer, which is its first line, and a summary for a terminal."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from gat_jax.diagnosis.explain import REASONS
from gat_jax.diagnosis.results import Findings, LayerDiagnosis, classes_of
from gat_jax.report.numbers import count, percent
from gat_jax.runtime.text import visible

MAX_REASONS = 3  # that the answer names
MARKS = {"pass": "ok", "warn": "warn", "fail": "FAIL"}


def answer_of(found: Findings) -> str:
    """Return the answer in one sentence."""
    num_nodes = len(found.final)
    equal = sum(map(len, classes_of(found.final)))
    if equal == 0:
        return _all_differ(found)
    last = found.layers[-1].name
    head = (
        f"{equal:,} of {num_nodes:,} nodes cannot be told apart after {last} from at least one "
        "other node"
    )
    parts = _reasons(found)
    # Before the nodes that nothing separates, as "them" are those that something might.
    parts += _best_remedy(found)
    alike = equal - len(found.merged.nodes)
    if alike:
        parts.append(f"{alike:,} that no passing of messages along these edges can separate")
    return f"{head}: {'; '.join(parts)}."


def _best_remedy(found: Findings) -> list[str]:
    """Return what the answer says of the remedy that separates most: as it was tried, if it was."""
    # The first is the layer as it is, drawn again.
    for remedy in found.remedies[1:]:
        share = remedy.separated if remedy.tried is None else remedy.tried["separated"]
        num = round((share or 0.0) * len(found.merged.nodes))
        if num and remedy.tried is None:
            return [f"{remedy.title} would separate about {num:,} of them"]
        if num:
            return [f"{remedy.title} separated about {num:,} of them when it was tried"]
    return []


def _all_differ(found: Findings) -> str:
    twins = sum(map(len, classes_of(found.layers[0].twins)))
    if len(found.final) == 1:
        return "There is one node alone, and no other that it could be equal to."
    if twins == 0:
        return (
            f"All {len(found.final):,} nodes come out different, and no two have the same "
            "neighbours."
        )
    return (
        f"All {len(found.final):,} nodes come out different, the {twins:,} with a twin (the same "
        "neighbours) among them."
    )


def _reasons(found: Findings) -> list[str]:
    """Return what the answer says of merged nodes, the commonest reason first."""
    merged = found.merged
    groups = Counter(zip(merged.layers.tolist(), merged.reasons, strict=True)).most_common()
    parts = []
    for (layer, reason), num in groups[:MAX_REASONS]:
        where = "" if layer < 0 else f" in {found.layers[layer].name}"
        parts.append(f"{num:,} because{where} {REASONS[reason]}")
    others = sum(num for _, num in groups[MAX_REASONS:])
    if others:
        parts.append(f"{others:,} for other reasons")
    return parts


def summary_of(found: Findings) -> str:
    """Return the answer and tables; text from outside is made visible."""
    lines = [found.answer, ""]
    lines += _table(_layer_rows(found.layers))
    twins = found.layers[0].twin_counts()
    lines += [
        "",
        f"Twins, as {found.layers[0].name} sees the edges: {twins.nodes:,} nodes in "
        f"{twins.classes:,} classes, and {twins.trivial_nodes:,} trivial ones (of one sender or "
        "none).",
    ]
    if found.loss_floor is not None:
        lines.append(
            f"Loss floor: {found.loss_floor:.4f} nats as the model is, of which "
            f"{found.unavoidable_loss_floor:.4f} are unavoidable."
        )
    if found.before is not None:
        lines.append(moved(found))
    open_checks = [check for check in found.checks if check.status != "pass"]
    passed = len(found.checks) - len(open_checks)
    lines += ["", f"Checks: {passed} of {len(found.checks)} pass."]
    lines += [f"  {MARKS[check.status]:<5}{check.name}: {check.text}" for check in open_checks]
    if found.remedies:
        lines += ["", "Remedies, the best first:"]
        lines += _table(_remedy_rows(found))
    lines += [f"Note: {note}" for note in found.notes]
    return "\n".join(visible(line) for line in lines)


def moved(found: Findings) -> str:
    """Say how many nodes were equal at the earlier checkpoint, and are now."""
    assert found.before is not None
    earlier, now = (sum(map(len, classes_of(x.final))) for x in (found.before, found))
    if earlier == now:
        return f"Before, as now, {count(now, 'node')} were equal to another."
    return f"Before, {count(earlier, 'node')} were equal to another; now {now:,} are."


def _layer_rows(layers: Sequence[LayerDiagnosis]) -> list[list[str]]:
    rows = [["layer", "kind", "heads", "merged nodes", "entropy", "positive", "negative", "fresh"]]
    for layer in layers:
        merged = sum(map(len, layer.merged_classes()))
        facts = layer.head_facts
        fresh = "" if layer.fresh is None else percent(layer.fresh.probability)
        rows.append(
            [
                *(layer.name, layer.system, str(layer.heads), f"{merged:,}"),
                *(mean_share(x) for x in (facts.entropy, facts.positive, facts.negative)),
                fresh,
            ]
        )
    return rows


def mean_share(values: np.ndarray) -> str:
    """Write the mean of the shares that are known, such as "40%"; nothing if there are none."""
    known = values[np.isfinite(values)]
    return percent(float(known.mean())) if len(known) else ""


def _remedy_rows(found: Findings) -> list[list[str]]:
    was_tried = any(remedy.tried for remedy in found.remedies)
    shares = ["separates", "95% interval"]
    if was_tried:
        shares = ["separates at the start", "95% interval", "after training"]
    rows = [["remedy", *shares, "known", "cost"]]
    for remedy in found.remedies:
        share = "" if remedy.separated is None else percent(remedy.separated)
        ends = "" if remedy.interval is None else " to ".join(percent(x) for x in remedy.interval)
        tried = (remedy.tried or {}).get("separated")
        after = ["" if tried is None else percent(tried)] if was_tried else []
        rows.append([remedy.title, share, ends, *after, remedy.evidence, remedy.cost])
    return rows


def _table(rows: list[list[str]]) -> list[str]:
    """Return rows as lines of aligned columns; the first column is text, as is the last."""
    shown = [[visible(cell) for cell in row] for row in rows]
    widths = [max(len(row[k]) for row in shown) for k in range(len(shown[0]))]
    return [
        "  "
        + "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in shown
    ]
