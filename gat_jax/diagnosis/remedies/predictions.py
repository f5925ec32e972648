"""What would separate the nodes that a model merges, and what that costs.

A remedy is judged by the layer that merges most of the nodes: on the inputs that this layer has,
and freshly initialised, which share of the merged pairs gets different outputs? Where it is exact,
it is said; else some initialisations are drawn. What later layers make of the outputs is not
predicted: a layer without residual path can merge twins again. `trials` trains the whole model.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from gat_jax.diagnosis import fresh
from gat_jax.diagnosis.analysis import Analysed
from gat_jax.diagnosis.models.observed import ObservedLayer
from gat_jax.diagnosis.remedies import changes
from gat_jax.diagnosis.results import Findings, RemedyReport
from gat_jax.graphs import TwinPairs, equal_rows, output_classes, twin_classes
from gat_jax.graphs.supports import sizes_of
from gat_jax.layers import LAYERS, LayerConfig
from gat_jax.report.numbers import count

BASELINE = "fresh"  # the layer as it is, drawn again: a remedy is as good as what it adds to this
POSITION_SEED = 0  # of the positional feature that predictions and trials use
# Multiply-adds that the initialisations of one remedy may take, some seconds; but at least so many
# initialisations are drawn.
MAX_WORK = 2e10
MIN_INITS = 20
NOTHING = "not predicted"


class Question(NamedTuple):
    """Which merged pairs are asked about, and the layer that is changed."""

    depth: int
    observed: ObservedLayer
    first: Int[np.ndarray, " pairs"]  # at most 512 of those that the layer merges, first < second
    second: Int[np.ndarray, " pairs"]
    share: float  # of all merged nodes, those that this layer merges
    # Those that this layer or a later one merges although their inputs to it differ.
    share_later: float


def predict_remedies(
    findings: Findings, analysed: Sequence[Analysed], *, num_inits: int
) -> tuple[RemedyReport, ...]:
    """Predict what each change would do to the pairs that are merged.

    Args:
      findings: whose `merged` are the pairs: each node with its partner.
      analysed: the layers, with their inputs.
      num_inits: how many initialisations are drawn for each prediction that is not exact, at least
        1; fewer if they would take long.

    Returns:
      The layer as it is, freshly initialised, and then the remedies: those that separate most
      first, and of equals the cheaper one. Nodes that other layers merge count as not separated.
      Empty if no layer merges nodes that could be told apart.
    """
    question = question_of(findings, [layer.seen.observed for layer in analysed])
    if question is None:
        return ()
    layer = question.observed.layer
    names = changes.offered(layer, has_edge_weight=question.observed.edge_weight is not None)
    reports = [
        _predicted(describe(name, findings, question), question, num_inits) for name in names
    ]
    return ranked(reports, question)


def question_of(findings: Findings, layers: Sequence[ObservedLayer]) -> Question | None:
    """Return what is asked of the layer that merges most nodes; None if no layer merges any."""
    merged = findings.merged
    # What only rounding makes equal, other parameters of one layer do not separate.
    by_layer = np.where(np.array(merged.reasons) == "rounding", -1, merged.layers)
    blamed = by_layer[by_layer >= 0]
    if len(blamed) == 0:
        return None
    depth = int(np.argmax(np.bincount(blamed)))
    here = np.flatnonzero(by_layer == depth)
    kept = np.unique(np.linspace(0, len(here) - 1, min(len(here), fresh.MAX_PAIRS)).astype(int))
    ends = np.stack([merged.nodes[here[kept]], merged.partners[here[kept]]])
    # A pair of a class is there twice where each of two nodes is the other's partner.
    first, second = np.unique(np.sort(ends, axis=0), axis=1).astype(np.int32)
    num = len(merged.nodes)
    differs = np.zeros(num, bool)
    for k, layer in enumerate(findings.layers):
        differs |= (by_layer == k) & (layer.inputs[merged.nodes] != layer.inputs[merged.partners])
    share_later = float(np.sum(differs & (by_layer >= depth))) / num
    return Question(depth, layers[depth], first, second, len(here) / num, share_later)


def ranked(reports: Sequence[RemedyReport], question: Question) -> tuple[RemedyReport, ...]:
    """Put the baseline first, and after it what separates most, at the lowest cost."""

    def key(report: RemedyReport) -> tuple[bool, float, float]:
        separated = -1.0 if report.separated is None else report.separated
        return report.name != BASELINE, -separated, _changed_work(report.name, question)

    return tuple(sorted(reports, key=key))


# --- predictions ----------------------------------------------------------------------------------


def _predicted(report: RemedyReport, question: Question, num_inits: int) -> RemedyReport:
    """Fill in which share is separated, with its interval, and how it is known."""
    observed = question.observed
    if report.name == "residual":  # where inputs differ, so does what it adds
        return _exact(report, question.share_later)
    layer = changes.change_layer(report.name, observed.layer)
    graph = changes.change_graph(report.name, observed.graph, layer, seed=POSITION_SEED)
    classes = output_classes(
        graph,
        equal_rows(np.asarray(graph.nodes)),
        is_average=LAYERS[layer.config.layer].is_average(layer.config),
        edge_weight=observed.edge_weight,
    )
    first, second = question.first, question.second
    # Receivers of different senders differ but for parameters of measure zero.
    is_open = classes.smallest[first] == classes.smallest[second]
    is_trivial = classes.is_trivial[first[is_open]]
    apart = 1.0 - float(is_open.mean())
    if layer.config.layer == "gcn" or is_trivial.all():
        return _exact(report, question.share * apart)
    pairs = TwinPairs(first[is_open], second[is_open], is_trivial)
    num = _affordable(num_inits, layer.config, graph, pairs)
    shares = fresh.equal_shares(
        layer.config,
        layer.settings,
        graph,
        pairs,
        num_inits=num,
        edge_weight=observed.edge_weight,
    )
    equal, (low, high) = fresh.mean_and_interval(shares)
    separated, least, most = (
        question.share * (apart + (1.0 - apart) * (1.0 - x)) for x in (equal, high, low)
    )
    evidence = f"predicted ({count(num, 'initialisation')})"
    return dataclasses.replace(
        report, separated=separated, interval=(least, most), evidence=evidence
    )


def _exact(report: RemedyReport, separated: float) -> RemedyReport:
    interval = separated, separated
    return dataclasses.replace(report, separated=separated, interval=interval, evidence="exact")


def _affordable(num_inits: int, config: LayerConfig, graph, pairs: TwinPairs) -> int:
    """Return how many initialisations are drawn, where their edges and nodes are many."""
    is_asked = np.zeros(len(graph.nodes), bool)
    is_asked[pairs.first] = is_asked[pairs.second] = True
    kept = is_asked[np.asarray(graph.receivers)]
    num_nodes = len(np.unique(np.asarray(graph.senders)[kept])) + int(is_asked.sum())
    width = np.shape(graph.nodes)[1]
    work = _work(config, width, num_nodes, int(kept.sum()))
    return max(1, min(num_inits, max(MIN_INITS, int(MAX_WORK / work))))


# --- words ----------------------------------------------------------------------------------------


def describe(name: str, findings: Findings, question: Question) -> RemedyReport:
    """Return the report of a remedy with its title and its cost, but without a prediction."""
    title = _title(name, findings, question)
    cost = _cost(name, findings, question)
    return RemedyReport(name, title, None, None, cost, NOTHING, layer=question.observed.layer.name)


def _title(name: str, findings: Findings, question: Question) -> str:
    layer, where = question.observed.layer, question.observed.layer.name
    changed = changes.change_layer(name, layer)
    is_read = _is_read(findings, question)
    later = " and the layers after it" if question.depth + 1 < len(findings.layers) else ""
    kinds = {"gat": "GAT", "gatv2": "GATv2", "gcn": "GCN"}
    return {
        BASELINE: f"{where} as it is, freshly initialised",
        "more_heads": f"{count(changed.config.heads, 'head')} in {where}",
        "eight_heads": f"{count(changed.config.heads, 'head')} in {where}",
        "gatv2": f"GATv2 in place of {kinds[layer.config.layer]} in {where}",
        "standardised_features": "standardising the features"
        if is_read
        else f"standardising the inputs of {where}",
        "residual": f"a residual path in {where}{later}",
        "self_loops": "edges without self-loops" if _has_loops(question) else "self-loops",
        "positional_feature": f"a positional feature of {changes.NUM_POSITIONAL} random numbers"
        + ("" if is_read else f" at {where}"),
    }[name]


def _cost(name: str, findings: Findings, question: Question) -> str:
    where = question.observed.layer.name
    if name == BASELINE:
        return "nothing but a new training"
    if name == "standardised_features":
        width = np.shape(question.observed.graph.nodes)[1]
        return f"no parameters; means and deviations of {count(width, 'column')} are kept"
    if name == "self_loops":
        return _cost_of_loops(question)
    old, new = question.observed.layer.config, _config(name, question)
    width = _width(name, question)
    sizes = [_num_parameters(old, _width(BASELINE, question)), _num_parameters(new, width)]
    times = _changed_work(name, question) / _changed_work(BASELINE, question)
    cost = (
        f"{sizes[1] / sizes[0]:.1f} times the parameters ({sizes[1] - sizes[0]:+,}) and "
        f"{times:.1f} times the multiply-adds of {where}"
    )
    if new.num_outputs != old.num_outputs:
        cost += f"; outputs {new.num_outputs:,} wide instead of {old.num_outputs:,}"
    if name == "residual" and question.depth + 1 < len(findings.layers):
        cost += ", and so for each layer after it"
    if name == "positional_feature":
        cost += "; the model then holds for these nodes alone"
        alike = len(findings.colours) - int(np.sum(sizes_of(findings.colours) == 1))
        if alike:
            cost += f"; {count(alike, 'node')} that no layer can separate now get other inputs"
    return cost


def _cost_of_loops(question: Question) -> str:
    """Say how many edges come or go, and who becomes a twin."""
    before = question.observed.graph
    after = changes.change_graph("self_loops", before, question.observed.layer)
    num = len(after.senders) - len(before.senders)
    twins = twin_classes(after)
    received = np.bincount(np.asarray(after.receivers), minlength=len(after.nodes))
    is_twin: Bool[np.ndarray, " nodes"] = (sizes_of(twins.twin) > 1) & (received > 0)
    trivial = int(np.sum(is_twin & twins.is_trivial))
    cost = f"edges {'+' if num > 0 else '-'} {abs(num):,}; "
    cost += f"makes twins of {count(int(is_twin.sum()), 'node')}"
    cost += f", {trivial:,} of them trivial" if trivial else ""
    alone = int(np.sum(received == 0))
    return cost + (f"; {count(alone, 'node')} then receive nothing" if alone else "")


def _is_read(findings: Findings, question: Question) -> bool:
    graph = question.observed.graph
    return question.depth == 0 and changes.reads_features(findings.graph, graph)


def _has_loops(question: Question) -> bool:
    return changes.has_loops(question.observed.graph)


# --- costs ----------------------------------------------------------------------------------------


def _config(name: str, question: Question) -> LayerConfig:
    return changes.change_layer(name, question.observed.layer).config


def _width(name: str, question: Question) -> int:
    width = np.shape(question.observed.graph.nodes)[1]
    return width + (changes.NUM_POSITIONAL if name == "positional_feature" else 0)


def _num_parameters(config: LayerConfig, width: int) -> int:
    specs = LAYERS[config.layer].specs(config, width)
    return sum(math.prod(spec.shape) for spec in specs.values())


def _work(config: LayerConfig, width: int, num_nodes: int, num_edges: int) -> float:
    """Return the multiply-adds of a layer's forward pass: its linear maps, scores and sums."""
    specs = LAYERS[config.layer].specs(config, width)
    work = float(num_edges * config.heads * config.channels)
    if config.layer == "gatv2":  # its scores are made of all channels, edge by edge
        work *= 2
    for name, spec in specs.items():
        if spec.role == "kernel":
            work += (num_edges if name == "edge_kernel" else num_nodes) * math.prod(spec.shape)
    return work


def _changed_work(name: str, question: Question) -> float:
    """Return the multiply-adds of the layer after a remedy."""
    graph = question.observed.graph
    num_edges = len(graph.senders)
    if name == "self_loops":
        num_edges = len(changes.change_graph(name, graph, question.observed.layer).senders)
    size = _width(name, question), len(graph.nodes), num_edges
    return _work(_config(name, question), *size)
