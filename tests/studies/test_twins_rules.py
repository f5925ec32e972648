"""The rules of the study on real graphs: statements from rows of made-up numbers."""

import itertools

import numpy as np
import pytest

from gat_jax.studies import claims, twins_rules
from gat_jax.studies.twins_rules import BASE, GAT, REMEDIES, SEP, Network, Place, Row, Twins

GRAPHS, NUM_SEEDS = ("one", "two"), 4
MANY, FEW = Twins(20, 0, 12, 0), Twins(3, 5, 1, 5)


def rows(**places: Twins) -> dict[tuple[Place, Network], Row]:
    """Random rows of all networks; `places` says which twins a graph has, as `one_with`."""
    rng = np.random.default_rng(0)
    networks = [BASE, *REMEDIES.values(), GAT, SEP]
    return {
        (Place(graph, has_loops), network): Row(
            places.get(f"{graph}_{'with' if has_loops else 'without'}", FEW),
            *rng.uniform(0.2, 0.8, (8, NUM_SEEDS)),
        )
        for graph, has_loops, network in itertools.product(GRAPHS, (False, True), networks)
    }


def t_interval(values) -> tuple[float, float, float]:
    """Mean and ends by the table's quantile for three degrees of freedom."""
    values = np.asarray(values)
    half = 3.182446 * np.sqrt(np.sum((values - values.mean()) ** 2) / 3) / 2
    return values.mean(), values.mean() - half, values.mean() + half


def assert_is(measured, values) -> None:
    np.testing.assert_allclose(measured[:3], t_interval(values), rtol=1e-6)
    assert measured.num_samples == NUM_SEEDS


def test_everything_that_is_claimed_is_measured_and_judged():
    measured = twins_rules.measure(rows(one_with=MANY))
    found = claims.verdicts(twins_rules.CLAIMS | twins_rules.extra_claims(GRAPHS), measured)
    assert [entry["id"] for entry in found] == [
        *twins_rules.CLAIMS,
        *twins_rules.extra_claims(GRAPHS),
    ]
    assert {e["verdict"] for e in found if e["rule"].startswith("measured")} == {"measured"}


def test_means_are_of_the_places_with_many_twins():
    made = rows(one_with=MANY, two_without=MANY)
    measured = twins_rules.measure(made)
    places = Place("one", True), Place("two", False)
    start = [made[place, BASE].equal_at_start for place in places]
    assert_is(measured["start.equal.gat.h1"], np.mean(start, axis=0))
    assert "one with self-loops, two without self-loops" in (
        measured["start.equal.gat.h1"].explanation
    )
    lost = [
        made[place, BASE].other_accuracy - made[place, BASE].contested_accuracy for place in places
    ]
    assert_is(measured["after.contested_deficit.gat.h1"], np.mean(lost, axis=0))


@pytest.mark.parametrize("name", list(REMEDIES))
def test_a_remedy_is_compared_by_seed(name):
    made = rows(two_with=MANY)
    measured = twins_rules.measure(made)
    place = Place("two", True)
    new, old = made[place, REMEDIES[name]], made[place, BASE]
    change = new.contested_accuracy - old.contested_accuracy
    assert_is(measured[f"remedy.{name}.contested"], change)
    assert (f"remedy.{name}.equal" in measured) == (name != "residual")
    everywhere = [
        made[Place(g, h), REMEDIES[name]].test_accuracy - made[Place(g, h), BASE].test_accuracy
        for g in GRAPHS
        for h in (False, True)
    ]
    assert_is(measured[f"remedy.{name}.test"], np.mean(everywhere, axis=0))


def test_the_gap_is_the_sum_of_two_effects():
    made = rows()
    measured = twins_rules.measure(made)

    def accuracy(network, has_loops):
        by_graph = [made[Place(graph, has_loops), network].test_accuracy for graph in GRAPHS]
        return np.mean(by_graph, axis=0)

    assert_is(measured["benchmark.gap"], accuracy(SEP, False) - accuracy(GAT, True))
    sep, gat = (accuracy(network, True) + accuracy(network, False) for network in (SEP, GAT))
    assert_is(measured["benchmark.architecture"], (sep - gat) / 2)
    bare, looped = (accuracy(SEP, loops) + accuracy(GAT, loops) for loops in (False, True))
    assert_is(measured["benchmark.loops"], (bare - looped) / 2)
    sep, gat = (accuracy(network, False) - accuracy(network, True) for network in (SEP, GAT))
    assert_is(measured["benchmark.interaction"], sep - gat)
    for suffix in ("", ".one", ".two"):
        parts = [measured[f"benchmark.{x}{suffix}"].estimate for x in ("architecture", "loops")]
        assert sum(parts) == pytest.approx(measured[f"benchmark.gap{suffix}"].estimate)
        found = measured[f"benchmark.architecture_less_loops{suffix}"].estimate
        assert found == pytest.approx(parts[0] - parts[1])


def test_the_effect_of_loops_is_that_with_them_less_that_without():
    made = rows()
    low, high = (made[Place("two", x), BASE].test_accuracy for x in (False, True))
    assert_is(twins_rules.measure(made)["remedy.loops.test.two"], high - low)


def test_the_floor_is_that_of_plain_networks_where_there_is_one():
    made = rows()
    for number, key in enumerate(made):
        floor = np.full(NUM_SEEDS, 0.1 if key[1].form == "residual" else 0.0)
        made[key] = made[key]._replace(loss=np.full(NUM_SEEDS, 0.0), unavoidable_floor=floor)
        last = number
    assert twins_rules.measure(made)["floor.kept"].num_samples == 0  # paths escape from floors
    key = list(made)[last - 6]
    assert key[1] == BASE
    made[key] = made[key]._replace(
        loss=np.array([0.3, 0.5, np.nan, 0.1]), unavoidable_floor=np.array([0.2, 0.2, 0.2, 0.0])
    )
    measured = twins_rules.measure(made)["floor.kept"]
    assert measured.estimate == pytest.approx(0.1)
    assert "2 runs" in measured.explanation


def test_without_many_twins_nothing_is_decided():
    measured = twins_rules.measure(rows())
    found = claims.verdicts(twins_rules.CLAIMS | twins_rules.extra_claims(GRAPHS), measured)
    start = next(entry for entry in found if entry["id"] == "start.equal.gat.h1")
    assert start["verdict"] == "measured"
    assert start["estimate"] is None
    assert start["explanation"] == "Nothing to measure. Non-trivial twins of no graph."


def test_a_seed_without_a_number_is_left_out():
    values = [np.array([1.0, np.nan, 3.0, np.nan]), np.array([3.0, 5.0, np.nan, np.nan])]
    found = twins_rules.mean_over_seeds(values, "Made up.")
    assert found.num_samples == 3
    assert found.estimate == pytest.approx((2 + 5 + 3) / 3)
    assert twins_rules.mean_over_seeds([np.array([1.0, np.nan])], "Made up.").num_samples == 0


@pytest.mark.parametrize(
    ("rule", "low", "high", "verdict"),
    [
        (twins_rules.at_least(0.5, 0.1), 0.5, 9.0, "confirmed"),
        (twins_rules.at_least(0.5, 0.1), 0.1, 0.6, "refined"),
        (twins_rules.at_least(0.5, 0.1), -0.2, 0.2, "refuted"),
        (twins_rules.at_most(0.5, 0.7), -0.2, 0.5, "confirmed"),
        (twins_rules.at_most(0.5, 0.7), 0.4, 0.8, "refined"),
        (twins_rules.at_most(0.5, 0.7), 0.7, 0.8, "refuted"),
    ],
)
def test_rules_have_one_end(rule, low, high, verdict):
    measured = claims.Measurement((low + high) / 2, low, high, 4, "Made up.")
    assert rule.verdict(measured) == verdict
