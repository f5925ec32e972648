import re

import numpy as np
import pytest

from gat_jax.studies import CLAIMS, Claim, Measurement, Rule, claims

NAMED_IDS = [
    "tutorial.max_abs_error",
    "article.normalised_entropy",
    "article.twin_gap",
    "init.collision.gat.h1",
    "init.collision.gat.h2",
    "init.collision.gat.h4",
    "init.collision.gat.h8",
    "init.match_4_decimals.gat.h1",
    "init.uniform_attention.gat.h1",
    "init.explained_by_regime.gat.h1",
    "init.collision.gat.h1.uniform01",
    "init.collision.gat.h1.normal",
    "init.collision.gat.h1.standardised",
    "init.collision.gatv2.h1.c1",
    "init.collision.gatv2.h1.c2",
    "init.collision.gatv2.h1.c4",
    "init.collision.gatv2.h1.c8",
    "init.collision.gcn",
    "init.collision.gat.gaussian",
    "heads.power_law.h8",
    "training.collided.sgd.h1.step0",
    "training.collided.sgd.h1.step100",
    "training.collided.sgd.h1.step1000",
    "training.collided.sgd.h4.step0",
    "training.collided.sgd.h4.step100",
    "training.collided.sgd.h4.step1000",
    "training.collided.adam.h1.step0",
    "training.collided.adam.h1.step100",
    "training.collided.adam.h1.step1000",
    "training.collided.adam.h4.step0",
    "training.collided.adam.h4.step100",
    "training.collided.adam.h4.step1000",
    "training.loss_floor",
    "training.article_start.sgd.entropy_escape_step",
    "training.article_start.sgd.collided_share",
    "training.article_start.adam.entropy_escape_step",
    "training.article_start.adam.collided_share",
]


def number(value, *, width=0.0):
    return Measurement(value, value - width, value + width, 10, "made up")


def judged(**changes):
    """Verdicts of numbers that are 0.3 everywhere but where `changes` says otherwise."""
    made_up = {name: number(0.3) for name in CLAIMS} | changes
    return {entry["id"]: entry for entry in claims.judge(made_up, {})}


def test_every_named_id_is_in_the_table():
    assert set(NAMED_IDS) <= set(CLAIMS)


def test_every_claim_of_the_article_is_tested():
    assert {claim.article_claim for claim in CLAIMS.values()} == {None, *range(1, 9)}


def test_ids_without_a_claim_of_the_article_have_no_rule():
    for claim in CLAIMS.values():
        assert (claim.rule is None) == (claim.article_claim is None)


@pytest.mark.parametrize("name", [name for name, claim in CLAIMS.items() if claim.rule])
def test_every_verdict_of_every_rule_comes_out(name):
    """Numbers made from the thresholds themselves: the middle, the rim, outside, and never."""
    rule = CLAIMS[name].rule
    unit = 0.3 if rule.relative_to else 1.0
    # A range without an end is as good as one that ends at ten.
    (a, b), (c, d) = (
        np.nan_to_num(ends, posinf=10.0, neginf=-10.0) for ends in (rule.confirmed, rule.refined)
    )
    inside = 0.5 * (a + b) * unit
    # A point of the refined range that is not in the confirmed one.
    rim = unit * (0.5 * (b + d) if d > b else 0.5 * (c + a))
    outside = unit * (d + 1.0 + abs(d)) if np.isfinite(rule.refined[1]) else -5e-10
    found = [judged(**{name: number(x)})[name]["verdict"] for x in (inside, rim, outside)]
    assert found == ["confirmed", "refined", "refuted"]
    never = Measurement(None, None, None, 1, "never")
    assert judged(**{name: never})[name]["verdict"] == "refuted"


def test_confirmed_needs_the_whole_interval():
    rule = Rule(confirmed=(0.0, 0.5), refined=(0.0, 1.0))
    assert rule.verdict(number(0.45, width=0.01)) == "confirmed"
    assert rule.verdict(number(0.45, width=0.1)) == "refined"
    assert rule.verdict(number(0.45, width=0.1), unit=2.0) == "confirmed"


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(0.46, 0.54, "confirmed"), (0.40, 0.48, "refined"), (0.78, 0.79, "refuted")],
)
def test_about_half(low, high, verdict):
    measured = Measurement(0.5 * (low + high), low, high, 100, "made up")
    entry = judged(**{"init.match_4_decimals.gat.h1": measured})["init.match_4_decimals.gat.h1"]
    assert entry["verdict"] == verdict
    assert entry["interval"] == [low, high]


def test_judge_measures_without_a_rule_and_takes_further_claims():
    extra = {"graph.mine": Claim("Something.")}
    made_up = {name: number(0.3) for name in (*CLAIMS, "graph.mine")}
    entries = claims.judge(made_up, extra)
    assert entries[-1]["id"] == "graph.mine"
    assert entries[-1]["verdict"] == "measured"
    assert set(entries[0]) == {
        *("id", "claim", "article_claim", "verdict", "estimate", "interval", "exact"),
        *("num_samples", "rule", "explanation"),
    }


def test_judge_refuses_missing_and_unknown_ids():
    made_up = {name: number(0.3) for name in CLAIMS}
    with pytest.raises(ValueError, match=r"expected the ids.*training\.loss_floor"):
        claims.judge({k: v for k, v in made_up.items() if k != "training.loss_floor"}, {})
    with pytest.raises(ValueError, match=r"expected the ids.*odd"):
        claims.judge(made_up | {"odd": number(0.3)}, {})


def test_rules_say_their_thresholds():
    assert "interval is at most -1e-09; refined" in CLAIMS["article.lowest_logit"].rule.text()
    text = CLAIMS["training.collided.sgd.h1.step1000"].rule.text()
    assert re.search(r"\[0, 0\.1\] times training\.collided\.sgd\.h1\.step0", text)


def test_share_is_an_exact_binomial_interval():
    found = claims.share(0, 30, "none")
    assert (found.estimate, found.low) == (0.0, 0.0)
    # The exact upper bound p solves (1 - p)^30 = 0.025.
    assert (1 - found.high) ** 30 == pytest.approx(0.025)
