"""Short trainings with remedies: what they separate, their loss, their order."""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from gat_jax import graphs
from gat_jax.diagnosis.diagnose import from_observed
from gat_jax.diagnosis.models.from_weights import observe_weights
from gat_jax.diagnosis.models.observed import ImportedLayer
from gat_jax.diagnosis.remedies import predictions as remedies
from gat_jax.diagnosis.remedies import trials
from gat_jax.diagnosis.results import RemedyReport
from gat_jax.layers import GCNParams, LayerConfig

try_remedies: Any = trials.try_remedies
question_of: Any = remedies.question_of
NODES = np.array([[1, 2], [2, 1], [3, 2], [1, 4]], np.float32)
# 0 and 1 receive from 2 and 3, and so do no other two nodes from the same ones.
GRAPH = graphs.from_edges([2, 3, 2, 3, 2, 3], [0, 0, 1, 1, 3, 2], nodes=NODES)


def observed(graph):
    config = LayerConfig(layer="gcn", channels=2, use_bias=False)
    params = GCNParams(jnp.ones((2, 1, 2)))
    return observe_weights([ImportedLayer("conv1", "a system", config, params)], graph)


@pytest.fixture(scope="module")
def model():
    return observed(GRAPH)


@pytest.fixture(scope="module")
def found(model):
    return from_observed(model, num_fresh=0)


def test_a_residual_path_learns_what_twins_cannot(found, model):
    calls = []
    first, second = try_remedies(
        found,
        model,
        num_runs=2,
        num_steps=300,
        names=("residual", "fresh"),
        progress=lambda *call: calls.append(call),
    )
    assert (first.name, second.name) == ("fresh", "residual")
    assert first.tried["separated_runs"] == [0, 0]
    assert second.tried["separated_runs"] == [1, 1]
    # One of each class among two equal nodes: their loss has a floor of ln 2.
    assert first.tried["final_loss"] >= np.log(2) - 1e-6
    assert second.tried["final_loss"] < first.tried["final_loss"]
    assert second.tried["final_loss"] == pytest.approx(np.mean(second.tried["final_loss_runs"]))
    assert second.evidence == "tried (2 runs of 300 steps)"
    assert second.tried["labels"] == trials.MADE_LABELS
    assert (second.tried["runs"], second.tried["steps"], second.tried["failed"]) == (2, 300, 0)
    assert second.separated is None  # nothing was predicted
    title = "a residual path in conv1"
    assert [call[:2] for call in calls] == [(title, 0), (first.title, 1), ("done", 2)]
    assert {call[2] for call in calls} == {2}


def test_what_is_known_of_a_prediction_stays_beside_a_trial(found, model):
    known = RemedyReport("fresh", "as it is", 1.0, (1.0, 1.0), "nothing", "exact")
    predicted = dataclasses.replace(found, remedies=(known,))
    (report,) = try_remedies(predicted, model, num_runs=1, num_steps=1, names=("fresh",))
    assert report.separated == 1.0
    assert report.tried["separated"] == 0.0
    assert report.evidence == "exact at the start, tried (1 run of 1 step)"


def test_made_up_classes_differ_in_every_merged_pair(found):
    labels, words = trials._labels(found, None)
    assert labels.tolist() == [0, 1, -1, -1]
    assert words == trials.MADE_LABELS
    own, words = trials._labels(found, np.array([2, 0, 1, -1]))
    assert own.tolist() == [2, 0, 1, -1]
    assert words == trials.OWN_LABELS


def test_the_network_has_an_output_for_each_class(found, model):
    question = question_of(found, model.layers)
    trial = trials._trial("fresh", found, model, question, num_classes=5)
    assert trial.configs[-1].num_outputs == 5
    trial = trials._trial("self_loops", found, model, question, num_classes=2)
    assert len(trial.graph.senders) == 6 + 4


def test_the_loss_is_the_mean_cross_entropy():
    logits = np.array([[0.0, np.log(3)], [1000.0, 0.0], [5.0, 7.0]])
    loss = trials._loss(logits, np.array([0, 1, -1]))
    assert loss == pytest.approx((np.log(4) + 1000) / 2)


@pytest.mark.parametrize(
    ("match", "options"),
    [
        ("num_runs: expected", {"num_runs": 0}),
        ("num_steps: expected", {"num_runs": 1, "num_steps": 0}),
        (r"labels: expected 4 whole numbers, got shape \[3\]", {"num_runs": 1, "labels": [0] * 3}),
        ("labels: expected at least one", {"num_runs": 1, "labels": [-1] * 4}),
        ("names: expected some of fresh, .*, got 'prayer'", {"num_runs": 1, "names": ["prayer"]}),
    ],
)
def test_what_cannot_be_tried_is_refused(found, model, match, options):
    with pytest.raises(ValueError, match=match):
        try_remedies(found, model, **options)


def test_a_model_that_merges_nothing_needs_no_trial(model):
    graph = graphs.from_edges([0, 1, 2, 3], [1, 2, 3, 0], nodes=NODES)
    other = observed(graph)
    assert try_remedies(from_observed(other, num_fresh=0), other, num_runs=1) == ()
