"""A diagnosis as JSON, and its pairs as a table."""

import dataclasses
from typing import Any

import numpy as np

from gat_jax.diagnosis.results import Findings, LayerDiagnosis, classes_of
from gat_jax.symmetry import CAUSES


def to_dict(found: Findings) -> dict[str, Any]:
    """Return a diagnosis as JSON has it: no NaN, and nodes as the user calls them."""

    def named(classes: list[list[int]]) -> list[list[int | str]]:
        return [[found.name_of(node) for node in members] for members in classes]

    return {
        "answer": found.answer,
        "num_nodes": len(found.final),
        "num_edges": len(found.graph.senders),
        "twin_classes": named(classes_of(found.layers[0].twins)),
        "twin_classes_without_self_loops": named(classes_of(found.twins_without_loops)),
        "twin_classes_with_self_loops": named(classes_of(found.twins_with_loops)),
        "inseparable_classes": named(classes_of(found.colours)),
        "equal_classes": named(classes_of(found.final)),
        "merged_nodes": _merged(found),
        "layers": [_layer(found, layer, named) for layer in found.layers],
        "loss_floor": found.loss_floor,
        "unavoidable_loss_floor": found.unavoidable_loss_floor,
        "checks": [dataclasses.asdict(check) for check in found.checks],
        "remedies": [_plain(dataclasses.asdict(remedy)) for remedy in found.remedies],
        "notes": list(found.notes),
        "before": None if found.before is None else to_dict(found.before),
    }


def frame(found: Findings) -> Any:
    """Return the pairs of all layers: layer, first, second, equal, gap, and a cause for each head.

    Heads that a layer does not have are None.
    """
    import pandas as pd  # here, as the import takes long

    rows = []
    for layer in found.layers:
        pairs = layer.pairs
        for k, causes in enumerate(pairs.primary()):
            row = {
                "layer": layer.name,
                "first": found.name_of(int(pairs.first[k])),
                "second": found.name_of(int(pairs.second[k])),
                "equal": bool(pairs.is_equal[k]),
                "gap": float(pairs.gap[k]),
            }
            rows.append(row | {f"head_{h}": cause for h, cause in enumerate(causes)})
    most = max(layer.heads for layer in found.layers)
    columns = ["layer", "first", "second", "equal", "gap", *(f"head_{h}" for h in range(most))]
    return pd.DataFrame(rows, columns=columns)


def _merged(found: Findings) -> list[dict[str, Any]]:
    merged = found.merged
    return [
        {
            "node": found.name_of(int(node)),
            "equal_to": found.name_of(int(partner)),
            "layer": None if layer < 0 else found.layers[layer].name,
            "reason": reason,
        }
        for node, partner, layer, reason in zip(*merged, strict=True)
    ]


def _layer(found: Findings, layer: LayerDiagnosis, named) -> dict[str, Any]:
    pairs = layer.pairs
    return {
        "name": layer.name,
        "system": layer.system,
        "kind": layer.kind,
        "heads": layer.heads,
        "num_edges": layer.num_edges,
        "twin_classes": named(classes_of(layer.twins)),
        "inseparable_classes": named(classes_of(layer.inseparable)),
        "equal_classes": named(classes_of(layer.outputs)),
        "merged_classes": named(layer.merged_classes()),
        "pairs": [
            {
                "nodes": [found.name_of(int(pairs.first[k])), found.name_of(int(pairs.second[k]))],
                "equal": bool(pairs.is_equal[k]),
                "causes": causes,
                "all_causes": [
                    [CAUSES[c] for c in np.flatnonzero(head)] for head in pairs.causes[k]
                ],
                "gap": float(pairs.gap[k]),
            }
            for k, causes in enumerate(pairs.primary())
        ],
        "cause_counts": {name: counts.tolist() for name, counts in layer.cause_counts.items()},
        "head_facts": {
            name: _plain(values.tolist()) for name, values in layer.head_facts._asdict().items()
        },
        "effective_rank": _plain(layer.effective_rank),
        "distance_to_mean": _plain(layer.distance_to_mean),
        "num_near_misses": layer.num_near_misses,
        "near_misses": [
            {"nodes": [found.name_of(i), found.name_of(k)], "gap": gap}
            for i, k, gap in layer.near_misses
        ],
        "fresh": None if layer.fresh is None else _plain(layer.fresh._asdict()),
        "note": layer.note,
    }


def _plain(value: Any) -> Any:
    """Return a value as JSON has it: numbers that are not finite are None."""
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, np.generic | np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
