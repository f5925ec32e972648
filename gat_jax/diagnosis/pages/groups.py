"""The groups of nodes that a page speaks of, with numbers: equal ones, and twins that differ."""

from collections import Counter
from typing import Literal, NamedTuple

import numpy as np

from gat_jax.diagnosis.explain import REASONS
from gat_jax.diagnosis.results import Findings, classes_of
from gat_jax.graphs.supports import sizes_of

Kind = Literal["merged", "inseparable", "separated"]


class Group(NamedTuple):
    """Some nodes that have something in common."""

    number: int  # 1, 2, ...
    # merged: equal in the end, though the model could separate them; inseparable: equal, and no
    # message passing can; separated: twins in the first layer's edges that differ from all others.
    kind: Kind
    members: list[int]  # at least two


def groups_of(found: Findings) -> list[Group]:
    """Return the groups: merged nodes, inseparable ones, separated twins; the largest first."""
    mixed = set(found.final[found.colours != found.colours[found.final]].tolist())
    equal = classes_of(found.final)
    merged = [members for members in equal if members[0] in mixed]
    inseparable = [members for members in equal if members[0] not in mixed]
    is_alone = sizes_of(found.final) == 1
    alone = np.flatnonzero(is_alone)
    twins = found.layers[0].twins
    # Members of other classes become classes of one node each.
    names = np.arange(len(twins))
    _, first, inverse = np.unique(twins[alone], return_index=True, return_inverse=True)
    names[alone] = alone[first][inverse]
    parts: tuple[tuple[Kind, list[list[int]]], ...] = (
        ("merged", merged),
        ("inseparable", inseparable),
        ("separated", classes_of(names)),
    )
    ordered: list[tuple[Kind, list[int]]] = [
        (kind, members)
        for kind, classes in parts
        for members in sorted(classes, key=lambda members: (-len(members), members[0]))
    ]
    return [Group(k + 1, kind, members) for k, (kind, members) in enumerate(ordered)]


def reasons_of(found: Findings, groups: list[Group]) -> list[str]:
    """Say of each group why its members are equal or differ, in words that end a sentence."""
    blamed = {
        int(node): (int(layer), reason)
        for node, layer, reason in zip(
            found.merged.nodes, found.merged.layers, found.merged.reasons, strict=True
        )
    }
    return [_reason(found, group, blamed) for group in groups]


def _reason(found: Findings, group: Group, blamed: dict[int, tuple[int, str]]) -> str:
    if group.kind == "inseparable":
        return "no passing of messages along these edges can separate them"
    if group.kind == "separated":
        return "twins that come out different"
    counted = Counter(blamed[node] for node in group.members if node in blamed)
    (layer, reason), _ = counted.most_common(1)[0]
    where = "" if layer < 0 else f"in {found.layers[layer].name} "
    others = "" if len(counted) == 1 else ", and for other reasons"
    return f"{where}{REASONS[reason]}{others}"
