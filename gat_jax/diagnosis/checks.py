"""Named checks of a diagnosis: each is one question, answered by pass, warn or fail."""

from collections.abc import Callable, Iterator

import numpy as np

from gat_jax.diagnosis.results import Check, Findings, LayerDiagnosis, classes_of
from gat_jax.graphs import loss_floor
from gat_jax.report.numbers import count, percent

UNIFORM = 0.99  # mean normalised entropy above this is as good as uniform attention
SATURATED_SHARE = 0.5  # of receivers
SMOOTHED = 0.01  # distance of the outputs to their mean, in units of their norm
FLOOR = 1e-9  # nats: below it there is no floor


def checks_of(diagnosis: Findings) -> tuple[Check, ...]:
    """Return all checks, those of the whole model first."""
    found = [*_of_model(diagnosis)]
    for layer in diagnosis.layers:
        found.extend(check(layer) for check in OF_LAYER)
    return tuple(found)


def _of_model(diagnosis: Findings) -> Iterator[Check]:
    num_nodes = len(diagnosis.final)
    merged = len(diagnosis.merged.nodes)
    text = f"{merged:,} of {num_nodes:,} nodes are equal to another that could be told apart"
    yield Check("merged_nodes", "fail" if merged else "pass", text + ".")
    alike = sum(map(len, classes_of(diagnosis.colours)))
    text = f"{alike:,} nodes cannot be separated from another by any passing of messages"
    yield Check("inseparable_nodes", "warn" if alike else "pass", text + ".")
    if diagnosis.labels is not None and diagnosis.loss_floor is not None:
        yield _label_check(diagnosis)


def _label_check(diagnosis: Findings) -> Check:
    assert diagnosis.labels is not None
    model, least = diagnosis.loss_floor, diagnosis.unavoidable_loss_floor
    assert model is not None
    assert least is not None
    text = (
        f"Equal nodes with different labels keep the mean cross-entropy above {model:.4f} nats"
        f" ({least:.4f} of it is unavoidable)."
    )
    if model <= FLOOR:
        return Check("loss_floor", "pass", "No equal nodes have different labels.")
    return Check("loss_floor", "fail" if model > least + FLOOR else "warn", text)


# --- layers ---------------------------------------------------------------------------------------


def _twins(layer: LayerDiagnosis) -> Check:
    classes = layer.merged_classes()
    nodes = sum(map(len, classes))
    text = f"{layer.name} gives {count(nodes, 'node')} the same output as another"
    if not nodes:
        return _check(layer, "merged", "pass", f"{layer.name} merges no nodes that it could split.")
    return _check(layer, "merged", "fail", f"{text} (classes: {len(classes):,}).")


def _near(layer: LayerDiagnosis) -> Check:
    if not layer.num_near_misses:
        return _check(layer, "near_misses", "pass", f"{layer.name} leaves no pair nearly equal.")
    verb = "differs" if layer.num_near_misses == 1 else "differ"
    text = f"{count(layer.num_near_misses, 'pair')} of nodes {verb} by less than 1e-5"
    return _check(layer, "near_misses", "warn", f"{text} of the spread of {layer.name}'s outputs.")


def _entropy(layer: LayerDiagnosis) -> Check:
    entropy = layer.head_facts.entropy
    flat = [h for h, value in enumerate(entropy) if value > UNIFORM]
    if layer.kind == "gcn" or not np.isfinite(entropy).any():
        return _check(
            layer, "uniform_attention", "pass", f"{layer.name} has no attention to judge."
        )
    text = f"the mean entropy is {percent(float(np.nanmean(entropy)), 1)} of its uniform reference"
    if flat:
        return _check(
            layer, "uniform_attention", "warn", f"{_heads(layer, flat)} nearly uniform: {text}."
        )
    return _check(layer, "uniform_attention", "pass", f"In {layer.name} {text}.")


def _saturated(layer: LayerDiagnosis) -> Check:
    heads = [h for h, x in enumerate(layer.head_facts.saturated) if x > SATURATED_SHARE]
    return _head_check(layer, "saturated_heads", heads, "on one sender for most receivers")


def _dead(layer: LayerDiagnosis) -> Check:
    heads = np.flatnonzero(layer.head_facts.is_dead).tolist()
    return _head_check(layer, "dead_heads", heads, "dead: they give all nodes one output", "fail")


def _duplicates(layer: LayerDiagnosis) -> Check:
    same_as = layer.head_facts.same_as
    heads = [h for h in range(len(same_as)) if same_as[h] != h]
    if layer.kind == "gcn":
        heads = []
    what = "the same attention as an earlier one"
    return _head_check(layer, "duplicate_heads", heads, what, verbs=("has", "have"))


def _smoothing(layer: LayerDiagnosis) -> Check:
    if len(layer.outputs) == 1:
        return _check(layer, "over_smoothing", "pass", "A single node is like no other.")
    if not np.isfinite(layer.effective_rank):  # then there are no directions to speak of
        return _check(layer, "over_smoothing", "warn", f"All outputs of {layer.name} are 0.")
    text = (
        f"The outputs of {layer.name} fill {layer.effective_rank:.1f} directions, and their "
        f"distance to the mean is {percent(layer.distance_to_mean, 1)} of their norm"
    )
    if layer.distance_to_mean < SMOOTHED:
        return _check(layer, "over_smoothing", "warn", text + ": nearly all nodes are alike.")
    return _check(layer, "over_smoothing", "pass", text + ".")


def _agreement(layer: LayerDiagnosis) -> Check:
    if layer.note:
        return _check(layer, "reproduced", "fail", f"{layer.name}: {layer.note}.")
    return _check(layer, "reproduced", "pass", f"{layer.name} is reproduced by our own layer.")


OF_LAYER: tuple[Callable[[LayerDiagnosis], Check], ...] = (
    *(_twins, _near, _entropy, _saturated, _dead, _duplicates, _smoothing, _agreement),
)


def _check(layer: LayerDiagnosis, name: str, status, text: str) -> Check:
    return Check(f"{layer.name}.{name}", status, text)


def _head_check(
    layer: LayerDiagnosis,
    name: str,
    heads: list[int],
    what: str,
    status="warn",
    verbs: tuple[str, str] = ("is", "are"),
) -> Check:
    if heads:
        return _check(layer, name, status, f"{_heads(layer, heads, verbs)} {what}.")
    plain = name.replace("_", " ")
    return _check(layer, name, "pass", f"{layer.name} has no {plain}.")


def _heads(layer: LayerDiagnosis, heads: list[int], verbs: tuple[str, str] = ("is", "are")) -> str:
    if len(heads) == layer.heads and layer.heads > 1:
        return f"All {layer.heads} heads of {layer.name} {verbs[1]}"
    names = ", ".join(map(str, heads))
    verb, noun = (verbs[0], "head") if len(heads) == 1 else (verbs[1], "heads")
    return f"Of {layer.name}, {noun} {names} {verb}"


def floors_of(labels, final, colours) -> tuple[float | None, float | None]:
    """Return the floor of the loss that the model's classes leave, and the unavoidable one."""
    if labels is None:
        return None, None
    return loss_floor(labels, final), loss_floor(labels, colours)
