"""A diagnosis made by hand, for tests of what is said and drawn of it: no program is compiled."""

import dataclasses
from typing import Any

import numpy as np

from gat_jax import graphs
from gat_jax.diagnosis.results import (
    Check,
    Findings,
    HeadFacts,
    LayerDiagnosis,
    Merged,
    Pairs,
    RegimeRows,
    RemedyReport,
)

NUM_HEADS, NUM_BINS = 2, 40


def ints(values: Any) -> np.ndarray:
    return np.asarray(values, np.int64)


def make_layer(classes: Any, **changes: Any) -> LayerDiagnosis:
    """A layer that makes all twins of these classes equal; its numbers are made up."""
    classes = ints(classes)
    num = len(classes)
    half = np.full(NUM_HEADS, 0.5)
    none = np.zeros(0, np.int64)
    counts = np.zeros((NUM_HEADS, NUM_BINS), np.int64)
    counts[:, 20:22] = [1, 3]
    pairs = Pairs(none, none, none.astype(bool), np.zeros((0, NUM_HEADS, 10), bool), np.zeros(0))
    found = LayerDiagnosis(
        name="conv1",
        system="PyG GATConv",
        kind="gat",
        heads=NUM_HEADS,
        num_edges=4,
        twins=classes,
        is_trivial=np.zeros(num, bool),
        inputs=np.arange(num),
        inseparable=np.arange(num),
        candidates=classes,
        outputs=classes,
        pairs=pairs,
        cause_counts={},
        head_facts=HeadFacts(
            entropy=half,
            entropy_quantiles=np.full((NUM_HEADS, 5), 0.5),
            positive=half,
            negative=half,
            saturated=half,
            is_dead=np.zeros(NUM_HEADS, bool),
            same_as=np.arange(NUM_HEADS),
            entropy_counts=counts,
        ),
        effective_rank=2.0,
        distance_to_mean=0.5,
        near_misses=((0, 1, 1e-6),),
        num_near_misses=3,
        fresh=None,
        regimes=RegimeRows(
            panels=("head 0", "head 1"),
            num_panels=NUM_HEADS,
            nodes=ints([0, 1]),
            num_nodes=2,
            is_equal=np.array([True, False]),
            is_candidate=np.array([True, True]),
            receiver_parts=np.array([[1.0, -1.0], [2.0, 0.0]]),
            lowest=np.array([[0.0, -2.0], [-3.0, -1.0]]),
            highest=np.array([[3.0, -1.0], [1.0, -1.0]]),
        ),
    )
    return dataclasses.replace(found, **changes)


def make_findings(
    edges: list[tuple[int, int]] | np.ndarray, final: Any, colours: Any = None, **changes: Any
) -> Findings:
    """A diagnosis of a graph: equal outputs `final`, and what cannot be separated, `colours`."""
    final = ints(final)
    num = len(final)
    colours = np.arange(num) if colours is None else ints(colours)
    senders, receivers = np.asarray(edges).T
    graph = graphs.from_edges(senders, receivers, nodes=np.zeros((num, 1), np.float32))
    nodes = np.flatnonzero(
        [len(set(colours[final == final[k]].tolist())) > 1 for k in range(num)]
        if num < 1000
        else np.bincount(final, minlength=num)[final] > 1
    )
    merged = Merged(nodes, final[nodes], np.zeros(len(nodes), np.int64), ("positive",) * len(nodes))
    twins = graphs.twin_classes(graph).twin
    found = Findings(
        graph=graph,
        node_names=None,
        layers=(make_layer(final, twins=twins),),
        colours=colours,
        twins_without_loops=twins,
        twins_with_loops=twins,
        final=final,
        merged=merged,
        labels=None,
        loss_floor=None,
        unavoidable_loss_floor=None,
        checks=(
            Check("fine", "pass", "It is fine."),
            Check("odd", "warn", "It is odd."),
            Check("bad", "fail", "It is bad."),
        ),
        remedies=(
            RemedyReport("fresh", "the layer as it is", 0.25, (0.2, 0.3), "nothing", "predicted"),
            RemedyReport("other", "another layer", None, None, "much", "not predicted"),
        ),
        answer="This is the answer.",
        notes=("This is a note.",),
    )
    return dataclasses.replace(found, **changes)


def make_hub(num_leaves: int, **changes: Any) -> Findings:
    """A hub that all leaves receive from and send to; they come out equal."""
    leaves = np.arange(1, num_leaves + 1)
    hub = np.zeros_like(leaves)
    edges = np.concatenate([np.stack([hub, leaves], 1), np.stack([leaves, hub], 1)])
    return make_findings(edges, [0] + [1] * num_leaves, **changes)
