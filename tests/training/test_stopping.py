"""Rules that stop a run, held against loops that are written as the papers' codes are."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gat_jax.graphs import TwinPairs, random_graph
from gat_jax.layers import gat_configs, init_network
from gat_jax.training import Stopping, TrainConfig, TrainSettings, make_task, train_run
from gat_jax.training.stopping import look, start_watch


def by_loop(losses, scores, rule, patience):
    """The step that is kept, and the step after which the run stops (None: it does not)."""
    lowest, highest, waited, kept = np.inf, -np.inf, 0, 0
    for step, (loss, score) in enumerate(zip(losses, scores, strict=True), start=1):
        if rule == "loss_and_score":
            is_progress = score >= highest or loss <= lowest
            if score >= highest and loss <= lowest:
                kept = step
        else:
            is_progress = score > highest
            kept = step if is_progress else kept
        waited = 0 if is_progress else waited + 1
        lowest, highest = np.nanmin([lowest, loss]), np.nanmax([highest, score])
        if waited == patience:
            return kept, step
    return kept, None


@pytest.mark.parametrize("rule", ["loss_and_score", "score"])
@pytest.mark.parametrize("patience", [None, 1, 4])
def test_rules_are_those_of_a_loop(rule, patience):
    rng = np.random.default_rng(0)
    # Rounded, so that values are met again; runs are mapped over, and some losses are no numbers.
    losses = np.round(rng.normal(size=(40, 30)).cumsum(axis=1), 1).astype(np.float32)
    losses[:5, 7] = np.nan
    scores = np.round(rng.normal(size=(40, 30)).cumsum(axis=1), 0).astype(np.float32)
    stopping = Stopping(rule, patience)

    @jax.jit
    @jax.vmap
    def run(losses, scores):
        def step(watch, seen):
            number, loss, score = seen
            after = look(watch, number.astype(jnp.float32), number, loss, score, stopping)
            return after, watch.has_stopped

        numbers = jnp.arange(1, 31)
        watch = look(
            start_watch(jnp.float32(0)),
            jnp.float32(0),
            jnp.int32(0),
            *jnp.float32([-9, 9]),
            stopping,
        )
        return jax.lax.scan(step, watch, (numbers, losses, scores))

    watch, had_stopped = run(losses, scores)
    for k in range(40):
        kept, stopped = by_loop(losses[k], scores[k], rule, patience)
        assert watch.kept_step[k] == watch.kept[k] == kept
        assert watch.has_stopped[k] == (stopped is not None)
        expected = 30 if stopped is None else stopped
        assert np.sum(~had_stopped[k]) == expected


GRAPH = random_graph(0, num_nodes=30, num_edges=120, num_features=5, num_twins=3)
LABELS = np.random.default_rng(1).integers(3, size=30)
NONE = TwinPairs(np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0, bool))
CONFIGS = gat_configs(3, heads=2, channels=4)


def run_of(num_steps, stopping):
    task = make_task(GRAPH, LABELS, np.arange(30) < 10, NONE, validation_mask=np.arange(30) >= 20)
    return functools.partial(
        train_run,
        task=task,
        configs=CONFIGS,
        config=TrainConfig("adam", num_steps, stopping=stopping),
        settings=TrainSettings(0.05),
    )


@pytest.mark.slow
def test_a_run_that_stops_keeps_the_state_that_the_rule_chooses():
    params = init_network(jax.random.key(0), CONFIGS, 5, batch_shape=(4,))
    stopping = Stopping("score", 3)
    kept, history = jax.jit(jax.vmap(run_of(150, stopping)))(params)
    _, plain = jax.jit(jax.vmap(run_of(150, None)))(params)
    ends = []
    for k in range(4):
        losses, scores = plain.validation_loss[k, 1:], plain.validation_score[k, 1:]
        best, end = by_loop(np.asarray(losses), np.asarray(scores), "score", 3)
        assert end is not None  # or nothing is tested
        ends.append(end)
        steps = np.minimum(np.arange(151), end)
        np.testing.assert_array_equal(history.step[k], steps)
        np.testing.assert_allclose(history.loss[k], plain.loss[k][steps], rtol=1e-4)
        alone = jax.tree.map(lambda x, k=k: x[k], params)
        expected, _ = jax.jit(run_of(best, None))(alone)
        chex.assert_trees_all_close(
            jax.tree.map(lambda x, k=k: x[k], kept), expected, rtol=1e-3, atol=1e-4
        )
    assert len(set(ends)) > 1  # each run stops by itself


def test_rules_that_are_none_are_refused(unchecked):
    for options, message in (
        ({"rule": "accuracy"}, "rule: expected one of loss_and_score, score, got 'accuracy'"),
        ({"patience": 0}, "patience: expected at least 1, got 0"),
    ):
        with pytest.raises(ValueError, match=f"^{message}"):
            Stopping(**options)


def test_a_run_that_can_stop_needs_validation_nodes():
    task = make_task(GRAPH, LABELS, np.arange(30) < 10, NONE)
    config = TrainConfig("adam", 2, stopping=Stopping())
    params = init_network(jax.random.key(0), CONFIGS, 5)
    with pytest.raises(ValueError, match=r"^validation_mask: expected one, .* got none$"):
        train_run(params, task=task, configs=CONFIGS, config=config)
