"""The main job, run once at a reduced size; and its numbers, redone by the oracle."""

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import oracle
import pytest
from helpers import SMALL_STUDY

from gat_jax.commands import reproduce
from gat_jax.runtime import store
from gat_jax.studies import claims

# The whole study, if a small one: CI runs it with the other slow tests.
pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).parents[2] / "scripts" / "reproduce.py"
SIZES = {
    "num-inits": 100_000,
    "num-graph-inits": 1_000,
    "num-data-inits": 100,
    "num-runs": 500,
}


def write_graph(path):
    """Five nodes: 0, 1 and 4 are twins without self-loops, 2 and 3 with them."""
    pairs = np.array([(0, 2), (0, 3), (1, 2), (1, 3), (3, 4), (2, 4), (2, 3)])
    senders, receivers = np.concatenate([pairs, pairs[:, ::-1]]).T.astype(np.int32)
    np.savez(
        path,
        num_nodes=np.int32(5),
        feat_indptr=np.arange(6, dtype=np.int32),
        feat_indices=np.arange(5, dtype=np.int32),
        feat_data=np.ones(5, np.float32),
        feat_shape=np.array([5, 5], np.int32),
        labels=np.array([0, 1, 0, 0, 1], np.int32),
        labelled=np.ones(5, bool),
        senders=senders,
        receivers=receivers,
    )


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """The folder that one run of the script wrote."""
    out, data = tmp_path_factory.mktemp("results"), tmp_path_factory.mktemp("data")
    write_graph(data / "five.npz")
    sizes = [word for name, size in SIZES.items() for word in (f"--{name}", str(size))]
    assert reproduce.main(["--out", str(out), "--data", str(data), "--seed", "7", *sizes]) == 0
    return out


@pytest.fixture(scope="module")
def entries(results):
    return {e["id"]: e for e in json.loads((results / "claims.json").read_text())}


def test_main_writes_everything(results):
    names = {path.name for path in results.iterdir()}
    expected = {"claims.json", "figures", "playground.html", "report.html", "results.zarr"}
    assert names == expected
    assert len(list((results / "figures").glob("*.png"))) >= 4
    assert "<html" in (results / "playground.html").read_text()
    assert 'href="playground.html"' in (results / "report.html").read_text()
    dataset = store.load(results / "results.zarr")
    assert dataset.attrs["seed"] == 7
    assert float(dataset["train_collided_share"].sel(optimizer="sgd", heads=4, step=0)) > 0.2


def test_claims_json_has_the_agreed_form(entries):
    assert set(claims.CLAIMS) <= set(entries)
    for entry in entries.values():
        low, high = entry["interval"]
        assert entry["verdict"] in ("confirmed", "refined", "refuted", "measured")
        if entry["estimate"] is None:
            assert low is None
            assert high is None
        else:
            assert low <= entry["estimate"] <= high
            assert entry["num_samples"] >= 1
        assert len(entry["explanation"]) > 10


# --- every probability against the oracle's own draws ------------------------------------------

ORACLE_DRAWS = 200_000


def one_head(name):
    return lambda rng: oracle.init_one_head(rng, ORACLE_DRAWS)[name]


def collision(**settings):
    return lambda rng: oracle.init_collision(rng, ORACLE_DRAWS, **settings)


PROBABILITIES = {
    **{f"init.collision.gat.h{h}": collision(heads=h) for h in (1, 2, 4, 8)},
    **{f"init.{name}.gat.h1": one_head(name) for name in (
        "match_4_decimals", "uniform_attention", "explained_by_regime"
    )},
    **{f"init.collision.gat.h1.{f}": collision(features=f) for f in (
        "uniform01", "normal", "standardised"
    )},
    **{f"init.collision.gatv2.h1.c{c}": collision(layer="gatv2", channels=c) for c in (1, 2, 4, 8)},
    "init.collision.gcn": lambda rng: oracle.init_collision_gcn(rng, 200),
    "init.collision.gat.gaussian": lambda rng: oracle.gaussian_collision(rng, ORACLE_DRAWS),
}  # fmt: skip


def assert_same_probability(entry, estimate, num_samples):
    """Two independent samples: 4 standard errors of their difference, and its own interval."""
    ours, n = entry["estimate"], entry["num_samples"]
    pooled = (ours * n + estimate * num_samples) / (n + num_samples)
    error = math.sqrt(pooled * (1 - pooled) * (1 / n + 1 / num_samples))
    assert abs(ours - estimate) <= 4 * error, (entry["id"], ours, estimate, error)
    low, high = entry["interval"]
    assert high - low <= 2 * 1.96 * 1.2 * math.sqrt(pooled * (1 - pooled) / n) + 8 / n


@pytest.mark.parametrize("name", sorted(PROBABILITIES))
def test_probability_agrees_with_the_oracle(entries, name):
    estimate, num_samples = PROBABILITIES[name](np.random.default_rng(11))
    assert_same_probability(entries[name], estimate, num_samples)


@pytest.fixture(scope="module")
def oracle_runs():
    rng = np.random.default_rng(3)
    return {
        (optimizer, heads): oracle.training_runs(rng, 400, optimizer, heads)
        for optimizer in ("sgd", "adam")
        for heads in (1, 4)
    }


@pytest.mark.parametrize("step", [0, 100, 1000])
@pytest.mark.parametrize("heads", [1, 4])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_collided_share_agrees_with_the_oracle(entries, oracle_runs, optimizer, heads, step):
    collided = oracle_runs[optimizer, heads]["collided"][:, step]
    entry = entries[f"training.collided.{optimizer}.h{heads}.step{step}"]
    assert_same_probability(entry, collided.mean(), len(collided))


def test_loss_floor_is_approached_and_never_passed(entries, oracle_runs):
    entry = entries["training.loss_floor"]
    assert entry["exact"] == pytest.approx(np.log(2) / 2, abs=1e-12)
    assert entry["exact"] == pytest.approx(oracle.loss_floor(np.array([0, 0, 0, 1]), [[2, 3]]))
    lowest = oracle.lowest_collided_loss(oracle_runs.values())
    for value in (entry["estimate"], lowest):
        assert entry["exact"] <= value <= entry["exact"] + 0.01


def test_power_law_agrees_with_the_oracle(entries):
    ratio, per_head_ratio, _ = oracle.heads_power_law(np.random.default_rng(5), ORACLE_DRAWS)
    low, high = entries["heads.power_law.h8"]["interval"]
    spread = high - low
    assert abs(entries["heads.power_law.h8"]["estimate"] - ratio) < 2 * spread
    assert per_head_ratio == pytest.approx(1.0, abs=0.05)


def test_gaussian_exact_value_agrees_with_two_other_integrals(entries):
    z = oracle.FEATURES
    exact = entries["init.collision.gat.gaussian"]["exact"]
    assert exact == pytest.approx(oracle.polar_probability(z[2:], z[1:]), abs=1e-6)
    assert exact == pytest.approx(oracle.orthant_probability(z[2:], z[1:]), abs=1e-4)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_article_start_is_the_oracle_step_by_step(entries, optimizer):
    step, share = oracle.article_start(optimizer)
    prefix = f"training.article_start.{optimizer}"
    assert entries[f"{prefix}.entropy_escape_step"]["estimate"] == step
    assert entries[f"{prefix}.collided_share"]["estimate"] == pytest.approx(share, abs=1e-12)


def test_printed_layers_agree_with_the_oracle(entries):
    example = oracle.article_example()
    error = oracle.tutorial_max_abs_error()
    assert entries["tutorial.max_abs_error"]["estimate"] == pytest.approx(error, abs=2e-6)
    for name in ("normalised_entropy", "twin_gap"):
        estimate = entries[f"article.{name}"]["estimate"]
        assert estimate == pytest.approx(example[name], abs=1e-6)
    assert entries["article.twin_gap"]["estimate"] == 0.0
    assert entries["article.lowest_logit"]["estimate"] == pytest.approx(0.6, abs=1e-6)


def test_graph_of_the_data_folder_is_counted(entries):
    """Five nodes, made so that the counts are known."""
    open_twins = entries["graph.five.without_loops.collision.gat.h1"]
    closed_twins = entries["graph.five.with_loops.collision.gat.h1"]
    assert "3 non-trivial twin pairs in 1 classes of 3 nodes" in open_twins["explanation"]
    assert "Too few pairs" in open_twins["explanation"]
    assert 0 < open_twins["estimate"] < 1
    assert 0 < closed_twins["estimate"] < 1
    assert "1 non-trivial twin pairs in 1 classes of 2 nodes" in closed_twins["explanation"]
    nothing = entries["graph.karate_club.with_loops.collision.gat.h1"]
    assert nothing["estimate"] is None
    assert "no non-trivial twins" in nothing["explanation"]
    # The three twins have labels 0, 1, 1.
    floor = entries["graph.five.without_loops.loss_floor"]
    assert floor["estimate"] == pytest.approx((np.log(3) + 2 * np.log(1.5)) / 5)
    assert entries["graph.five.without_loops.unavoidable_loss_floor"]["estimate"] == 0.0


# --- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--sed", "3"], "Unrecognized options: --sed, 3 (perhaps you meant --seed)"),
        (["--seed", "three"], "invalid literal for int()"),
        (["--seed", "-1"], "seed: expected 0 to 4294967295, got -1"),
        (["--num-inits", "0"], "num_inits: expected at least 1, got 0"),
        (["--data", "/nowhere"], "data: expected a directory with .npz graphs, got /nowhere"),
        (["--out", "OUT/claims.json/below"], "out: expected a folder to write to"),
    ],
)
def test_bad_input_is_one_line_and_code_2(tmp_path, argv, message, capsys):
    (tmp_path / "claims.json").write_text("earlier")
    argv = [word.replace("OUT", str(tmp_path)) for word in argv]
    if "--out" not in argv:
        argv += ["--out", str(tmp_path)]
    with pytest.raises(SystemExit) as stop:
        reproduce.main(argv)
    printed = capsys.readouterr().err
    assert stop.value.code == 2
    assert printed.startswith("error: ")
    assert message in printed
    assert printed.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["claims.json"]
    assert (tmp_path / "claims.json").read_text() == "earlier"


def test_bad_graph_file_is_named(tmp_path, capsys):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "bad.npz").write_text("no graph")
    with pytest.raises(SystemExit) as stop:
        reproduce.main(["--data", str(tmp_path / "data"), "--out", str(tmp_path / "out")])
    assert stop.value.code == 2
    assert "bad.npz: expected a graph as .npz" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_script_exits_with_2_as_a_process():
    argv = [sys.executable, str(SCRIPT), "--seed", "three"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1


def test_the_same_seed_gives_the_same_claims(tmp_path):
    """Two whole processes: no order of threads and no state of a process gets into the numbers."""
    # More initialisations and runs than in the small study: they have to be worth several threads.
    sizes = [*SMALL_STUDY, "--num-inits", "20000", "--num-runs", "200"]
    for name in ("first", "second"):
        argv = [sys.executable, str(SCRIPT), "--out", str(tmp_path / name), *sizes]
        subprocess.run(argv, check=True, capture_output=True)
    first, second = ((tmp_path / n / "claims.json").read_bytes() for n in ("first", "second"))
    assert first == second
