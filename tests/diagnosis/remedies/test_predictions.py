"""What remedies are predicted to separate: against NumPy's own initialisations, and by hand."""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from gat_jax import graphs
from gat_jax.diagnosis.analysis import analyse_layer
from gat_jax.diagnosis.diagnose import from_observed
from gat_jax.diagnosis.models.from_weights import observe_weights
from gat_jax.diagnosis.models.observed import ImportedLayer
from gat_jax.diagnosis.remedies import changes
from gat_jax.diagnosis.remedies import predictions as remedies
from gat_jax.diagnosis.remedies.predictions import predict_remedies
from gat_jax.graphs import equal_rows
from gat_jax.layers import GATParams, GCNParams, LayerConfig

NUM_INITS = 60
# All four receive from all: every node is a twin of every other, while there are self-loops.
SENDERS, RECEIVERS = np.repeat(np.arange(4), 4), np.tile(np.arange(4), 4)
NODES = np.array([[1, 2], [2, 1], [3, 2], [1, 4]], np.float32)
GRAPH = graphs.from_edges(SENDERS, RECEIVERS, nodes=NODES)


def observed(layer: Any = "gat", graph=GRAPH):
    config = LayerConfig(layer=layer, channels=2, use_bias=False, initializer="glorot_uniform")
    ones = jnp.ones((1, 2))
    kernel = jnp.array([[[1.0, 2.0]], [[1.0, 2.0]]])
    # Every logit is positive, so that all twins are equal.
    params = GATParams(kernel, ones, ones) if layer == "gat" else GCNParams(kernel)
    return observe_weights([ImportedLayer("conv1", "a system", config, params)], graph)


def predicted(model, num_inits=NUM_INITS):
    """The findings without remedies, and the remedies by name, in their order."""
    found = from_observed(model, num_fresh=0)
    stages = [equal_rows(np.asarray(model.graph.nodes))]
    analysed = [analyse_layer(model.layers[0], stages, num_fresh=0)]
    reports = predict_remedies(found, analysed, num_inits=num_inits)
    return found, {report.name: report for report in reports}


@pytest.fixture(scope="module")
def gat():
    return predicted(observed())


def share_separated(nodes, heads, num=4000, seed=0):
    """NumPy's own initialisations: the mean share of the pairs (0, k) that are told apart.

    A head keeps a pair equal if and only if all logits of both rows have one sign.
    """
    rng = np.random.default_rng(seed)
    kernel = rng.uniform(-1, 1, size=(num, heads, 2, 2))
    query, key = rng.uniform(-1, 1, size=(2, num, heads, 2))
    z = np.einsum("nf,rhfc->rhnc", nodes.astype(np.float64), kernel)
    c, n = np.einsum("rhnc,rhc->rhn", z, query), np.einsum("rhnc,rhc->rhn", z, key)
    logits = c[..., None] + n[..., None, :]
    sign = (logits >= 0).all(-1).astype(int) - (logits <= 0).all(-1)
    is_equal = (sign[..., :1] == sign[..., 1:]) & (sign[..., 1:] != 0)
    return 1 - is_equal.all(axis=1).mean()


def test_predictions_agree_with_numpy(gat):
    found, reports = gat
    assert found.merged.nodes.tolist() == [0, 1, 2, 3]
    standard = (NODES - NODES.mean(0)) / NODES.std(0)
    expected = {
        "fresh": share_separated(NODES, 1),
        "more_heads": share_separated(NODES, 2),
        "eight_heads": share_separated(NODES, 8),
        "standardised_features": share_separated(standard, 1),
    }
    for name, share in expected.items():
        low, high = reports[name].interval
        assert low <= reports[name].separated <= high
        # Twice as far as the interval: four of them are looked at.
        assert 2 * low - high <= share <= 2 * high - low, name
        assert reports[name].evidence == "predicted (60 initialisations)"
    assert reports["fresh"].separated < reports["standardised_features"].separated


def test_what_is_exact_is_said_to_be(gat):
    for name in ("residual", "self_loops"):
        report = gat[1][name]
        assert (report.separated, report.interval) == (1.0, (1.0, 1.0))
        assert report.evidence == "exact"


def test_the_layer_as_it_is_comes_first_and_then_the_best(gat):
    reports = list(gat[1].values())
    assert next(report.name for report in reports) == "fresh"
    assert {report.name for report in reports} == set(changes.REMEDIES)
    shares = [report.separated for report in reports[1:]]
    assert shares == sorted(shares, reverse=True)
    # Of two that separate all, the one whose layer does less comes first.
    assert [report.name for report in reports[1:3]] == ["self_loops", "residual"]
    assert all(report.layer == "conv1" for report in reports)


def test_costs_have_numbers(gat):
    costs = {name: report.cost for name, report in gat[1].items()}
    # 4 numbers of a kernel and 2 + 2 of attention; of 4 nodes and 16 edges 16 + 32 multiply-adds.
    assert costs["more_heads"].startswith("2.0 times the parameters (+8) and 2.0 times the mult")
    assert costs["residual"].startswith("1.5 times the parameters (+4) and 1.3 times the multiply")
    assert costs["self_loops"] == "edges - 4; makes twins of 0 nodes"
    assert (
        costs["standardised_features"]
        == "no parameters; means and deviations of 2 columns are kept"
    )
    assert "for these nodes alone" in costs["positional_feature"]


def test_titles_say_where(gat):
    titles = {name: report.title for name, report in gat[1].items()}
    assert titles["eight_heads"] == "8 heads in conv1"
    assert titles["self_loops"] == "edges without self-loops"
    assert titles["standardised_features"] == "standardising the features"
    assert titles["gatv2"] == "GATv2 in place of GAT in conv1"


def test_nothing_helps_gcn_but_another_graph_or_layer():
    _, reports = predicted(observed("gcn"), num_inits=10)
    shares = {name: report.separated for name, report in reports.items()}
    assert shares.keys() == set(changes.REMEDIES) - {"more_heads", "eight_heads"}
    assert shares["fresh"] == shares["standardised_features"] == 0
    assert shares["positional_feature"] == 0
    assert shares["residual"] == shares["self_loops"] == 1
    assert reports["gatv2"].evidence == "predicted (10 initialisations)"
    assert next(iter(shares)) == "fresh"
    assert {list(shares)[-1], list(shares)[-2]} == {"standardised_features", "positional_feature"}


def test_new_twins_are_counted_in_the_cost():
    # 0 and 1 receive from 2 and 3; with a loop at each node they no longer do. 2 and 3 send to each
    # other, so that loops make twins of them.
    graph = graphs.from_edges([2, 3, 2, 3, 2, 3], [0, 0, 1, 1, 3, 2], nodes=NODES)
    _, reports = predicted(observed("gcn", graph), num_inits=2)
    assert reports["self_loops"].cost == "edges + 4; makes twins of 2 nodes"
    assert reports["self_loops"].title == "self-loops"
    assert reports["self_loops"].separated == 1


def test_nodes_that_other_layers_merge_count_as_not_separated(gat):
    found, _ = gat
    layers = observed().layers
    merged = found.merged._replace(layers=np.array([0, 0, 0, -1]))
    question: Any = remedies.question_of(dataclasses.replace(found, merged=merged), layers)
    assert (question.share, question.share_later) == (0.75, 0.75)
    nobody = found.merged._replace(layers=np.full(4, -1))
    assert remedies.question_of(dataclasses.replace(found, merged=nobody), layers) is None


def test_a_residual_path_adds_nothing_to_nodes_of_equal_features():
    """They differ in their number of neighbours alone, which an average does not show."""
    graph = graphs.from_edges([0, 1, 1, 2], [1, 0, 2, 1], nodes=np.ones((3, 2)))
    found, reports = predicted(observed(graph=graph), num_inits=2)
    assert found.merged.layers.tolist() == [0, 0, 0]
    assert reports["residual"].separated == 0
    assert reports["positional_feature"].separated == 1


def test_the_answer_names_the_best_remedy_and_not_the_layer_as_it_is(monkeypatch):
    monkeypatch.setattr(changes, "offered", lambda *_, **__: ("fresh", "residual"))
    found = from_observed(observed("gcn"), num_fresh=2)
    assert "a residual path in conv1 would separate about 4 of them" in found.answer
