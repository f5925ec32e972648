"""The answer and the summary, of a diagnosis that is made by hand."""

import numpy as np
import pytest
from findings import make_findings, make_layer

from gat_jax.diagnosis import wording
from gat_jax.diagnosis.checks import checks_of
from gat_jax.diagnosis.pages.page import page_data
from gat_jax.diagnosis.results import RemedyReport

EDGES = [(0, 2), (1, 2), (0, 3), (1, 3), (0, 4), (0, 5)]
FINAL, COLOURS = [0, 1, 2, 2, 4, 4], [0, 1, 2, 3, 4, 4]
TRIED = {"separated": 0.5, "final_loss": 0.1, "failed": 0}


def findings(*reports):
    fresh = RemedyReport("fresh", "as it is", 0.0, (0.0, 0.1), "nothing", "predicted")
    return make_findings(EDGES, FINAL, COLOURS, remedies=(fresh, *reports))


def report(separated, tried=None):
    return RemedyReport("x", "a change", separated, None, "much", "somehow", tried)


def test_them_are_nodes_that_a_remedy_may_separate():
    assert wording.answer_of(findings(report(1.0))) == (
        "4 of 6 nodes cannot be told apart after conv1 from at least one other node: 2 because in "
        "conv1 every attention logit is positive; a change would separate about 2 of them; 2 that "
        "no passing of messages along these edges can separate."
    )


@pytest.mark.parametrize("predicted", [None, 0.0, 1.0])
def test_a_trial_counts_more_than_a_prediction(predicted):
    answer = wording.answer_of(findings(report(predicted, TRIED)))
    assert "a change separated about 1 of them when it was tried" in answer
    assert "would" not in answer


def test_a_change_that_separated_nothing_is_not_named():
    failed = TRIED | {"separated": None}
    for tried in (TRIED | {"separated": 0.0}, failed):
        assert "a change" not in wording.answer_of(findings(report(1.0, tried)))
    assert "a change" not in wording.answer_of(findings(report(None)))


def table_of(found):
    lines = found.split("Remedies, the best first:\n")[1].splitlines()
    return [line.split() for line in lines]


def test_the_summary_has_what_was_predicted_and_what_happened():
    header, fresh, changed, *_ = table_of(wording.summary_of(findings(report(1.0, TRIED))))
    words = "remedy separates at the start 95% interval after training known cost"
    assert header == words.split()
    assert fresh == ["as", "it", "is", "0%", "0%", "to", "10%", "predicted", "nothing"]
    assert changed == ["a", "change", "100%", "50%", "somehow", "much"]
    header, *_ = table_of(wording.summary_of(findings(report(1.0))))
    assert header == ["remedy", "separates", "95%", "interval", "known", "cost"]


def test_a_single_node_is_spoken_of_in_the_singular():
    found = make_findings(np.zeros((0, 2), np.int64), [0])
    assert wording.answer_of(found).startswith("There is one node alone")
    checks = {check.name: check for check in checks_of(found)}
    assert checks["conv1.over_smoothing"].status == "pass"


def test_heads_are_spoken_of_in_their_number():
    facts = make_layer(FINAL).head_facts._replace(same_as=np.array([0, 0]))
    layer = make_layer(FINAL, head_facts=facts, num_near_misses=1)
    found = make_findings(EDGES, FINAL, COLOURS, layers=(layer,))
    checks = {check.name: check.text for check in checks_of(found)}
    same = "Of conv1, head 1 has the same attention as an earlier one."
    assert checks["conv1.duplicate_heads"] == same
    near = "1 pair of nodes differs by less than 1e-5 of the spread of conv1's outputs."
    assert checks["conv1.near_misses"] == near


def test_outputs_of_zeros_have_no_directions():
    layer = make_layer(FINAL, effective_rank=np.nan, distance_to_mean=0.0)
    found = make_findings(EDGES, FINAL, COLOURS, layers=(layer,))
    checks = {check.name: check for check in checks_of(found)}
    assert checks["conv1.over_smoothing"].text == "All outputs of conv1 are 0."
    assert page_data(found)["layers"][0]["cells"]["Directions"] == ""
