"""Remedies that are tried: short trainings of a network like the model, with each of the changes.

The network has the model's layers, freshly initialised, with ELU between them and nothing else:
what stood between the layers of the model, weights of edges and the weights themselves play no
part. All layers see the edges of the layer that is to blame, with the features of the graph.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jraph
import numpy as np
from jaxtyping import Array, Bool, Float, Int
from numpy.typing import ArrayLike

from gat_jax.diagnosis.models.observed import ImportedLayer, ObservedModel
from gat_jax.diagnosis.programs import compiled
from gat_jax.diagnosis.remedies import changes
from gat_jax.diagnosis.remedies import predictions as remedies
from gat_jax.diagnosis.remedies.predictions import Question
from gat_jax.diagnosis.results import Findings, RemedyReport
from gat_jax.graphs import TwinPairs, equal_rows
from gat_jax.layers import (
    LAYERS,
    AttentionInfo,
    LayerConfig,
    LayerSettings,
    NetworkParams,
    init_network,
    trace_network,
)
from gat_jax.report.numbers import count
from gat_jax.runtime.arrays import check_count
from gat_jax.symmetry import propagate_equality
from gat_jax.training import (
    TrainConfig,
    Training,
    TrainSettings,
    TrainTask,
    make_task,
)

Progress = Callable[[str, int, int], None]  # of the title, how many are done, and of how many

NUM_STEPS = 100
LAYOUT = "segment"
# None of the pairs is watched while a network trains: the final state is looked at.
NO_PAIRS = TwinPairs(np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0, bool))
OWN_LABELS = "the labels of the nodes"
MADE_LABELS = "two made-up classes, which differ in every merged pair"


class Trial(NamedTuple):
    """What is trained: a network and its graph."""

    configs: tuple[LayerConfig, ...]
    settings: LayerSettings
    graph: jraph.GraphsTuple


def try_remedies(
    findings: Findings,
    model: ObservedModel,
    *,
    num_runs: int,
    num_steps: int = NUM_STEPS,
    labels: ArrayLike | None = None,
    names: Sequence[str] | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> tuple[RemedyReport, ...]:
    """Train some short runs with each remedy, and report which merged pairs they separate.

    Args:
      findings: of the model.
      model: as an importer has observed it.
      num_runs: of each remedy, at least 1; they differ in their initialisation.
      num_steps: of Adam, at least 1.
      labels: [N] class ids, negative where a node has none; None: those of the findings, and if
        there are none, two made-up classes of the merged nodes that differ in every merged pair.
      names: of the remedies that are tried; None: all that the layer does not have yet.
      seed: of the initialisations, which all remedies share.
      progress: is called before each remedy, and at the end.

    Returns:
      The reports of the findings, or new ones without a prediction, with `tried`: `runs`, `steps`,
      `failed` (runs whose numbers did not stay finite), `labels` in words, `separated` (mean share
      of the merged nodes that differ from their partner after training), `separated_runs`,
      `final_loss` (mean, nats) and `final_loss_runs`; shares and losses are those of the other
      runs, and None where all failed. The layer as it is comes first, and then what separates
      most, at the lowest loss. Empty if no layer merges nodes.

    Raises:
      ValueError: for numbers out of their range, or labels that do not fit the graph.
    """
    check_count("num_runs", num_runs, 1)
    check_count("num_steps", num_steps, 1)
    question = remedies.question_of(findings, model.layers)
    if question is None:
        return ()
    classes, words = _labels(findings, labels)
    observed = question.observed
    found = changes.offered(observed.layer, has_edge_weight=observed.edge_weight is not None)
    names = found if names is None else tuple(names)
    if unknown := [name for name in names if name not in found]:
        raise ValueError(f"names: expected some of {', '.join(found)}, got {unknown[0]!r}")
    known = {report.name: report for report in findings.remedies}
    reports = []
    for k, name in enumerate(names):
        report = known.get(name) or remedies.describe(name, findings, question)
        if progress is not None:
            progress(report.title, k, len(names))
        trial = _trial(name, findings, model, question, num_classes=int(classes.max()) + 1)
        params, status = _train(trial, classes, num_runs, num_steps, seed)
        tried = _found(trial, params, status < 0, classes, findings)
        tried = {"runs": num_runs, "steps": num_steps, "labels": words} | tried
        evidence = f"tried ({count(num_runs, 'run')} of {count(num_steps, 'step')})"
        if report.separated is not None:  # what is known of that stays beside what was found
            evidence = f"{report.evidence} at the start, {evidence}"
        reports.append(dataclasses.replace(report, tried=tried, evidence=evidence))
    if progress is not None:
        progress("done", len(names), len(names))
    return tuple(sorted(reports, key=_rank))


def _rank(report: RemedyReport) -> tuple[bool, float, float]:
    tried = report.tried or {}
    separated, loss = tried["separated"], tried["final_loss"]
    return (
        report.name != remedies.BASELINE,
        1.0 if separated is None else -separated,
        float("inf") if loss is None else loss,
    )


# --- what is trained ------------------------------------------------------------------------------


def _labels(findings: Findings, labels: ArrayLike | None) -> tuple[Int[np.ndarray, " nodes"], str]:
    """Return labels, negative where a node has none, and what they are in words."""
    labels = findings.labels if labels is None else labels
    num_nodes = len(findings.final)
    if labels is not None:
        array = np.asarray(labels)
        if array.shape != (num_nodes,) or array.dtype.kind not in "iu":
            raise ValueError(
                f"labels: expected {num_nodes} whole numbers, got shape {list(array.shape)} of "
                f"{array.dtype}"
            )
        if not (array >= 0).any():
            raise ValueError("labels: expected at least one label >= 0, got none")
        return array.astype(np.int32), OWN_LABELS
    # A merged node has the colour of its class's first member, or its partner has.
    nodes = findings.merged.nodes
    made = np.full(num_nodes, -1, np.int32)
    made[nodes] = findings.colours[nodes] != findings.colours[findings.final[nodes]]
    return made, MADE_LABELS


def _trial(
    name: str, findings: Findings, model: ObservedModel, question: Question, *, num_classes: int
) -> Trial:
    """Return the network with a remedy, and the graph that it is trained on."""
    layers = [call.layer for call in model.layers]
    later = range(question.depth, len(layers)) if name == "residual" else [question.depth]
    configs = [layer.config for layer in layers]
    for k in later:
        configs[k] = changes.change_layer(name, layers[k]).config
    configs = [_alone(config) for config in configs]
    if configs[-1].num_outputs < num_classes:
        configs[-1] = dataclasses.replace(configs[-1], concat=False, channels=num_classes)
    readers = [call for call in model.layers if call.layer.config.num_edge_features]
    edges_of = (readers or [question.observed])[0]
    graph = edges_of.graph._replace(nodes=np.asarray(findings.graph.nodes, np.float32))
    graph = graph if readers else graph._replace(edges=None)
    graph = changes.change_graph(name, graph, edges_of.layer, seed=remedies.POSITION_SEED)
    return Trial(tuple(configs), _settings(question.observed.layer), graph)


def _alone(config: LayerConfig) -> LayerConfig:
    """Return a configuration that holds for any width of the features."""
    initializer = "glorot_normal" if config.initializer == "gaussian" else config.initializer
    return dataclasses.replace(config, num_receiver_features=0, initializer=initializer)


def _settings(layer: ImportedLayer) -> LayerSettings:
    """Return settings for all layers: of a number for each head the mean, and no dropout."""
    slope, temperature = (float(np.mean(np.asarray(x))) for x in layer.settings[:2])
    return LayerSettings(slope=slope, temperature=temperature)


def _train(
    trial: Trial, labels: Int[np.ndarray, " nodes"], num_runs: int, num_steps: int, seed: int
) -> tuple[NetworkParams, Int[np.ndarray, " runs"]]:
    """Train runs side by side; return their parameters and the first step that failed, or -1."""
    # Tables would be quicker by less than the time that their programs take to compile.
    task = make_task(trial.graph, labels, labels >= 0, NO_PAIRS, layout=LAYOUT)
    width = np.shape(trial.graph.nodes)[1]
    key = jax.random.key(seed)
    params = init_network(key, trial.configs, width, batch_shape=(num_runs,))
    config = TrainConfig("adam", num_steps)
    settings = TrainSettings(layer=trial.settings)

    static = {"configs": trial.configs, "config": config}
    trained, status = compiled(_train_runs)(params, task, settings, **static)
    return trained, np.asarray(status)


def _train_runs(
    params: Any,
    task: TrainTask,
    settings: TrainSettings,
    *,
    configs: tuple[LayerConfig, ...],
    config: TrainConfig,
) -> tuple[NetworkParams, Int[Array, " runs"]]:
    training = Training(task, configs, config, settings)

    def run(one: Any) -> tuple[NetworkParams, Int[Array, ""]]:
        # Without its history and its last record the program is a third as large.
        state, _ = training.advance(training.start(one), config.num_steps)
        return state.params, state.status

    return jax.vmap(run)(params)


def _look(
    params: Any,
    graph: jraph.GraphsTuple,
    settings: LayerSettings,
    *,
    configs: tuple[LayerConfig, ...],
) -> tuple[Float[Array, "nodes outputs"], tuple[AttentionInfo, ...]]:
    outputs, traces = trace_network(params, graph, configs, settings=settings)
    return outputs, tuple(trace.info for trace in traces)


# --- what it came to ------------------------------------------------------------------------------


def _found(
    trial: Trial,
    params: NetworkParams,
    is_finite: Bool[np.ndarray, " runs"],
    labels: Int[np.ndarray, " nodes"],
    findings: Findings,
) -> dict[str, Any]:
    """Return which share of the merged nodes each run separates, and its loss."""
    nodes, partners = findings.merged.nodes, findings.merged.partners
    shares, losses = [], []
    for run in np.flatnonzero(is_finite):
        one = jax.tree.map(lambda x, run=run: x[run], params)
        logits, infos = compiled(_look)(one, trial.graph, trial.settings, configs=trial.configs)
        classes = _classes(trial, infos)
        shares.append(float(np.mean(classes[nodes] != classes[partners])))
        losses.append(_loss(np.asarray(logits, np.float64), labels))
    return {
        "failed": int(np.sum(~is_finite)),
        "separated": float(np.mean(shares)) if shares else None,
        "separated_runs": shares,
        "final_loss": float(np.mean(losses)) if losses else None,
        "final_loss_runs": losses,
    }


def _loss(logits: Float[np.ndarray, "nodes outputs"], labels: Int[np.ndarray, " nodes"]) -> float:
    """Return the mean cross-entropy of the labelled nodes, in nats."""
    rows = np.flatnonzero(labels >= 0)
    shifted = logits[rows] - logits[rows].max(axis=1, keepdims=True)
    of_class = shifted[np.arange(len(rows)), labels[rows]]
    return float(np.mean(np.log(np.exp(shifted).sum(axis=1)) - of_class))


def _classes(trial: Trial, infos: tuple[AttentionInfo, ...]) -> Int[np.ndarray, " nodes"]:
    """Follow equality through the layers, from the features on."""
    slope = np.asarray(trial.settings.slope)
    classes = equal_rows(np.asarray(trial.graph.nodes))
    for info, config in zip(infos, trial.configs, strict=True):
        graph = trial.graph if config.num_edge_features else trial.graph._replace(edges=None)
        classes = propagate_equality(
            info,
            graph,
            classes,
            slope=slope,
            has_residual=config.use_residual,
            is_average=LAYERS[config.layer].is_average(config),
        )
    return classes
