"""The study on real graphs: what there is to train, and how rows are made of the runs."""

import json
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from training_runs import NUM_NODES, note_written, write_splits

from gat_jax.graphs import NodeTask, Splits, from_edges, random_graph
from gat_jax.studies import twins_rules, twins_study
from gat_jax.studies.twins_rules import BASE, GAT, REMEDIES, SEP, Place
from gat_jax.studies.twins_study import NETWORKS, TwinsConfig
from gat_jax.training import State, load_recipe

NUM_SEEDS = 3


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("inputs") / "small.npz"
    graph = random_graph(0, num_nodes=NUM_NODES, num_edges=80, num_features=5, num_twins=4)
    is_kept = np.asarray(graph.senders) != np.asarray(graph.receivers)
    write_splits(path, senders=graph.senders[is_kept], receivers=graph.receivers[is_kept])
    return str(path)


def leaves_and_pairs() -> NodeTask:
    """0 and 1 are hubs of 2 to 4 (a class of three); 5 and 6 are leaves of 0; 7 has no neighbour.

    Both directions of every edge; 2 and 3 are joined, which parts 4 from them, and makes closed
    twins of them.
    """
    ends = [(0, 2), (0, 3), (0, 4), (1, 2), (1, 3), (1, 4), (0, 5), (0, 6), (2, 3), (0, 8), (1, 8)]
    senders, receivers = np.array([*ends, *((b, a) for a, b in ends)]).T
    graph = from_edges(senders, receivers, nodes=np.eye(9, dtype=np.float32))
    labels = np.array([0, 0, 0, 1, 0, 1, 0, -1, 1], np.int32)
    everyone = labels >= 0
    train = np.stack([everyone, everyone & (np.arange(9) != 8), np.arange(9) < 2])
    return NodeTask("made up", graph, labels, Splits(train, ~train, ~train))


def test_facts_without_self_loops():
    facts = twins_study.facts_of(leaves_and_pairs(), False)
    # Open twins: 4 and 8, of hubs; trivial: 5 and 6, leaves of one.
    assert facts.twins == twins_rules.Twins(1, 1, 2, 2)
    pair = 2 * np.log(2)
    np.testing.assert_allclose(facts.floor, [2 * pair / 8, pair / 7, 0.0], atol=1e-12)
    np.testing.assert_allclose(facts.unavoidable_floor, [pair / 8, pair / 7, 0.0], atol=1e-12)


def test_facts_with_self_loops():
    facts = twins_study.facts_of(leaves_and_pairs(), True)
    assert facts.twins == twins_rules.Twins(1, 0, 2, 0)  # 2 and 3, which are joined
    pair = 2 * np.log(2)
    np.testing.assert_allclose(facts.floor, [pair / 8, pair / 7, 0.0], atol=1e-12)
    np.testing.assert_array_equal(facts.unavoidable_floor, np.zeros(3))


def test_contested_are_labelled_nodes_of_groups_with_two_labels():
    labels, groups = np.array([0, 1, -1, 2, 2, -1, 0]), np.array([7, 7, 7, 3, 3, 3, 5])
    expected = [True, True, False, False, False, False, False]
    assert twins_study.contested(labels, groups).tolist() == expected


@pytest.mark.parametrize("network", NETWORKS)
def test_a_spec_trains_the_network_that_it_is_of(source, network):
    spec = twins_study.spec_of(TwinsConfig(num_seeds=NUM_SEEDS, seed=7), source, network)
    assert (spec.num_seeds, spec.seed, spec.data) == (NUM_SEEDS, 7, source)
    without, with_loops = (setting.recipe for setting in spec.settings())
    assert (without.self_loops, with_loops.self_loops) == (False, True)
    assert without.features == network.features
    if network in (GAT, SEP):
        assert without.network.layer.heads == network.heads == 8
        assert without.network.layer.layer == network.layer
        assert without.network.sep == (network == SEP)
    else:
        assert without.config.stopping is None
        assert {layer.heads for layer in without.network} == {network.heads}
        assert {layer.layer for layer in without.network} == {network.layer}
        assert {layer.use_residual for layer in without.network} == {network.form == "residual"}
        assert without.network[0].num_outputs == 32


def test_all_networks_are_trained_alike():
    recipes = [
        load_recipe(twins_study.RECIPES / f"{name}.toml")
        for name in ("one_head", "eight_heads", "residual")
    ]
    assert len({(recipe.settings, recipe.config) for recipe in recipes}) == 1
    blocks = [load_recipe(twins_study.RECIPES / f"{name}_blocks.toml") for name in ("gat", "sep")]
    assert len({(recipe.settings, recipe.config) for recipe in blocks}) == 1


def test_steps_of_the_config_replace_those_of_the_recipes(source):
    spec = twins_study.spec_of(TwinsConfig(num_steps=6), source, BASE)
    assert {setting.recipe.config.num_steps for setting in spec.settings()} == {6}


def made_up(seed: int) -> xr.Dataset:
    """What a training of both places might return; run 1 of the second setting failed."""
    rng = np.random.default_rng(seed)
    names = ("test_accuracy", "contested_accuracy", "other_accuracy")
    by_run = {name: (("setting", "seed"), rng.uniform(size=(2, NUM_SEEDS))) for name in names}
    status = np.full((2, NUM_SEEDS), -1.0)
    status[1, 1] = 4.0
    return xr.Dataset(
        {
            **by_run,
            "loss": (("setting", "seed", "step"), rng.uniform(size=(2, NUM_SEEDS, 4))),
            "collided": (
                ("setting", "seed", "step", "layer"),
                rng.uniform(size=(2, NUM_SEEDS, 4, 2)),
            ),
            "status": (("setting", "seed"), status),
            "num_runs": ("setting", [NUM_SEEDS, NUM_SEEDS]),
        },
        coords={"seed": np.arange(NUM_SEEDS)},
    )


def test_a_row_is_of_the_last_layer_and_of_sound_runs():
    found = made_up(0)
    facts = twins_study.PlaceFacts(
        twins_rules.Twins(1, 0, 2, 0), np.array([0.1, 0.2]), np.array([0.0, 0.3])
    )
    row = twins_study.row_of(found.isel(setting=1), facts)
    keep = np.array([1.0, np.nan, 1.0])
    assert row.twins == facts.twins
    np.testing.assert_array_equal(row.equal_at_start, keep * found.collided.values[1, :, 0, 1])
    np.testing.assert_array_equal(row.equal_after, keep * found.collided.values[1, :, 3, 1])
    np.testing.assert_array_equal(row.loss, keep * found.loss.values[1, :, 3])
    for name in ("test_accuracy", "contested_accuracy", "other_accuracy"):
        np.testing.assert_array_equal(getattr(row, name), keep * found[name].values[1])
    np.testing.assert_array_equal(row.floor, [0.1, 0.2, 0.1])  # of splits 0, 1, 0
    np.testing.assert_array_equal(row.unavoidable_floor, [0.0, 0.3, 0.0])


def test_rows_are_made_of_all_stores_and_progress_adds_up(source, tmp_path, monkeypatch):
    paths, states = [], []

    def run_training(spec, path, *, should_stop, on_progress):
        on_progress(State(2, 6))
        paths.append(path)
        return made_up(len(paths))

    monkeypatch.setattr(twins_study, "run_training", run_training)
    config = TwinsConfig(num_seeds=NUM_SEEDS)
    prepared = twins_study.prepare_twins_study(config, {"one": source, "two": source})
    rows = twins_study.run_twins_study(prepared, tmp_path, on_progress=states.append)
    assert rows is not None
    assert set(rows) == {
        (Place(graph, has_loops), network)
        for graph in ("one", "two")
        for has_loops in (False, True)
        for network in NETWORKS
    }
    assert len(set(paths)) == len(paths) == 2 * len(NETWORKS)
    total = 2 * len(NETWORKS) * 2 * NUM_SEEDS
    assert prepared.num_runs == total
    assert [state.done for state in states] == [2 + 2 * NUM_SEEDS * k for k in range(len(paths))]
    assert {state.total for state in states} == {total}
    number = 1 + NETWORKS.index(REMEDIES["gatv2"])
    np.testing.assert_array_equal(
        rows[Place("one", True), REMEDIES["gatv2"]].loss[[0, 2]],
        made_up(number).loss.values[1, [0, 2], -1],
    )
    document = twins_study.document(prepared, rows)
    text = json.dumps(document, allow_nan=False)
    assert json.loads(text)["config"]["graphs"] == ["one", "two"]
    assert len(document["rows"]) == len(rows)
    first = document["rows"][0]
    assert (first["graph"], first["has_loops"], first["form"]) == ("one", False, "plain")
    assert document["rows"][-1]["loss"][1] is None
    ids = [entry["id"] for entry in document["verdicts"]]
    assert "benchmark.gap" in ids
    assert "benchmark.gap.two" in ids


def test_a_study_that_was_stopped_has_no_rows(source, tmp_path, monkeypatch):
    begun = []

    def run_training(spec, path, *, should_stop, on_progress):
        begun.append(path)
        return made_up(0).assign(num_runs=("setting", [NUM_SEEDS, 1]))

    monkeypatch.setattr(twins_study, "run_training", run_training)
    prepared = twins_study.prepare_twins_study(TwinsConfig(num_seeds=NUM_SEEDS), {"one": source})
    assert twins_study.run_twins_study(prepared, tmp_path) is None
    assert len(begun) == 1


def test_bad_graphs_are_refused_by_their_name(tmp_path):
    with pytest.raises(ValueError, match="tiny: expected labels and splits, got a graph without"):
        twins_study.prepare_twins_study(TwinsConfig(), {"tiny": "tutorial"})
    with pytest.raises(ValueError, match=r"none: .*none\.npz: expected a graph"):
        twins_study.prepare_twins_study(TwinsConfig(), {"none": str(tmp_path / "none.npz")})
    write_splits(tmp_path / "loops.npz")
    with pytest.raises(ValueError, match="round: self_loops: expected a graph without them"):
        twins_study.prepare_twins_study(TwinsConfig(), {"round": str(tmp_path / "loops.npz")})
    with pytest.raises(ValueError, match="num_seeds: expected at least 2, got 1"):
        TwinsConfig(num_seeds=1)


@pytest.mark.slow
def test_a_tiny_study_runs_and_goes_on(source, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(twins_study, "NETWORKS", (BASE, SEP))
    prepared = twins_study.prepare_twins_study(
        TwinsConfig(num_seeds=2, num_steps=4), {"small": source}
    )
    written = note_written(monkeypatch)
    rows = twins_study.run_twins_study(prepared, tmp_path)
    assert rows is not None
    assert len(written) == prepared.num_runs == 8
    for row in rows.values():
        assert np.isfinite(row.test_accuracy).all()
        assert np.isfinite(row.loss).all()
    again = twins_study.run_twins_study(prepared, tmp_path)
    assert len(written) == 8
    for key, row in rows.items():
        for one, other in zip(row[1:], again[key][1:], strict=True):
            np.testing.assert_array_equal(one, other)
