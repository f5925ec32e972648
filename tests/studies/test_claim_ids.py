"""Ids of claims: built and read in one place, and the same as ever."""

import pytest

from gat_jax.studies import claim_ids
from gat_jax.studies.claim_ids import GAUSSIAN, GCN, ONE_HEAD, RESIDUAL, Setting


@pytest.mark.parametrize(
    ("setting", "name"),
    [
        (ONE_HEAD, "gat.h1"),
        (Setting("gat", 8), "gat.h8"),
        (Setting("gatv2", 1, 4), "gatv2.h1.c4"),
        (Setting("gat", 1, variant="uniform01"), "gat.h1.uniform01"),
        (RESIDUAL, "gat.h1.residual"),
        (GAUSSIAN, "gat.gaussian"),
        (GCN, "gcn"),
        (Setting("gat", 16, 2, "standardised"), "gat.h16.c2.standardised"),
    ],
)
def test_setting_and_its_name_are_two_forms_of_one_thing(setting, name):
    assert setting.name == name
    assert Setting.parse(name) == setting


@pytest.mark.parametrize("name", ["", "gat.", "gat..h1", "gat.c2.h1", "gat.h1.a.b", "8"])
def test_parse_refuses_what_names_no_setting(name):
    with pytest.raises(ValueError, match="setting: expected a name such as"):
        Setting.parse(name)


def test_ids_are_those_of_every_claims_json():
    assert claim_ids.of_init("collision", Setting("gat", 8)) == "init.collision.gat.h8"
    run = claim_ids.run_name("sgd", 4)
    assert claim_ids.of_runs(run, 100) == "training.collided.sgd.h4.step100"
    found = claim_ids.of_article_start("adam", "collided_share")
    assert found == "training.article_start.adam.collided_share"
    found = claim_ids.of_graph("karate_club", "with", "loss_floor")
    assert found == "graph.karate_club.with_loops.loss_floor"
    found = claim_ids.of_graph_collision("karate_club", "without", 8)
    assert found == "graph.karate_club.without_loops.collision.gat.h8"
