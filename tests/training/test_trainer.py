import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import oracle
import pytest

from gat_jax import layers
from gat_jax.layers import LayerConfig
from gat_jax.layers import networks as models
from gat_jax.studies import tutorial_init as study_init
from gat_jax.studies import tutorial_training as study_training
from gat_jax.symmetry import CAUSES
from gat_jax.training import TrainConfig, TrainSettings
from gat_jax.training import trainer as training

TASK = study_training.task()


def start(heads, num_runs, *, dtype=jnp.float32, layer="gat"):
    config = LayerConfig(layer=layer, heads=heads, concat=False, initializer="tutorial")
    params = models.init_network(jax.random.key(heads), (config,), 2, batch_shape=(num_runs,))
    return (config,), jax.tree.map(lambda x: x.astype(dtype), params)


def run(configs, config, **options):
    """A compiled run: outside of jit every operation would be compiled for itself."""
    return jax.jit(
        functools.partial(training.train_run, task=TASK, configs=configs, config=config, **options)
    )


@pytest.mark.parametrize(("optimizer", "rate"), [("sgd", 0.1), ("adam", 0.005)])
@pytest.mark.parametrize("heads", [1, 4])
def test_train_run_is_the_oracle_step_by_step(x64, optimizer, rate, heads):
    configs, params = start(heads, 50, dtype=jnp.float64)
    train = run(configs, TrainConfig(optimizer, 60), settings=TrainSettings(rate))
    _, history = jax.jit(jax.vmap(train))(params)
    names = ("kernel", "bias", "a_recv", "a_send")
    expected = oracle.train(
        {name: np.asarray(getattr(params[0], name)) for name in names},
        optimizer=optimizer,
        learning_rate=rate,
        num_steps=60,
    )
    np.testing.assert_allclose(history.loss, expected["loss"], rtol=1e-8)
    np.testing.assert_allclose(history.twin_entropy[:, :, 0], expected["entropy"], atol=1e-8)
    np.testing.assert_array_equal(history.collided[:, :, 0] == 1, expected["collided"])


def test_momentum_is_optax_sgd_with_momentum():
    configs, params = start(1, 1)
    params = jax.tree.map(lambda x: x[0], params)
    settings = TrainSettings(0.05, momentum=0.8)
    trained, _ = run(configs, TrainConfig("momentum", 5), settings=settings)(params)
    optimizer = optax.sgd(0.05, momentum=0.8)
    state = optimizer.init(params)

    def loss(params):
        logits, _ = models.apply_network(params, TASK.graph, configs)
        return optax.softmax_cross_entropy_with_integer_labels(logits, TASK.labels).mean()

    gradient = jax.jit(jax.grad(loss))
    for _ in range(5):
        updates, state = optimizer.update(gradient(params), state)
        params = optax.apply_updates(params, updates)
    chex.assert_trees_all_close(trained, params, rtol=1e-5)


def test_history_is_measured_before_the_update_and_after_the_last():
    configs, params = start(1, 1)
    params = jax.tree.map(lambda x: x[0], params)
    trained, every = run(configs, TrainConfig("sgd", 12))(params)
    _, third = run(configs, TrainConfig("sgd", 12, record_every=3))(params)
    np.testing.assert_array_equal(every.step, np.arange(13))
    np.testing.assert_array_equal(third.step, [0, 3, 6, 9, 12])
    np.testing.assert_allclose(third.loss, every.loss[::3], rtol=1e-5)
    np.testing.assert_allclose(third.cause_share, every.cause_share[::3], atol=1e-6)
    logits, infos = models.apply_network(trained, TASK.graph, configs)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, TASK.labels)
    np.testing.assert_allclose(every.loss[-1], losses.mean(), rtol=1e-6)
    right = np.mean(np.argmax(logits, axis=1) == TASK.labels)
    np.testing.assert_allclose(every.accuracy[-1], right)
    gap = np.abs(infos[0].head_outputs[2] - infos[0].head_outputs[3]).max()
    np.testing.assert_allclose(every.twin_gap[-1, 0], gap, rtol=1e-5, atol=1e-7)


def test_history_has_every_layer_and_sums_causes_to_one():
    configs = models.gat_configs(2, heads=3, channels=4, initializer="tutorial")
    params = models.init_network(jax.random.key(1), configs, 2)
    _, history = run(configs, TrainConfig("adam", 4))(params)
    assert history.cause_share.shape == (5, 2, len(CAUSES))
    np.testing.assert_allclose(history.cause_share.sum(-1), 1.0, rtol=1e-6)
    assert history.grad_norm.shape == (5, 2, 3)
    assert np.isfinite(history.grad_norm).all()


@pytest.mark.parametrize(("layer", "missing"), [("gatv2", [0]), ("gcn", [0, 1])])
def test_gradient_norms_of_missing_parameters_are_nan(layer, missing):
    configs, params = start(1, 1, layer=layer)
    _, history = run(configs, TrainConfig("sgd", 2))(jax.tree.map(lambda x: x[0], params))
    is_nan = np.isnan(history.grad_norm[0, 0])
    np.testing.assert_array_equal(np.flatnonzero(is_nan), missing)
    assert history.status == -1


def test_gradient_to_a_recv_is_exactly_zero_in_a_regime():
    """All four rows of the article's start are in the positive regime."""
    configs = (study_training.layer_config(1),)
    _, history = run(configs, TrainConfig("sgd", 2))((study_init.article_params(),))
    assert history.grad_norm[0, 0, 0] == 0.0
    assert history.grad_norm[0, 0, 1] > 0.0
    assert history.twin_gap[0, 0] == 0.0


def test_a_failed_run_says_when_and_spoils_no_other():
    configs, params = start(1, 3)
    rates = TrainSettings(jnp.array([0.1, 1e38, 0.1]))
    axes = TrainSettings(0, None, layers.LayerSettings(None, None, None, None))
    train = run(configs, TrainConfig("sgd", 10))
    mapped = jax.vmap(lambda p, s: train(p, settings=s), in_axes=(0, axes))
    _, history = jax.jit(mapped)(params, rates)
    assert history.status[0] == history.status[2] == -1
    failed = int(history.status[1])
    assert 1 <= failed <= 2
    assert np.isfinite(history.loss[1, : failed - 1]).all()
    first = train(jax.tree.map(lambda x: x[0], params), settings=TrainSettings(0.1))[1]
    np.testing.assert_allclose(history.loss[0], first.loss, rtol=1e-4)


def test_settings_do_not_retrace():
    configs, params = start(1, 1)
    params = jax.tree.map(lambda x: x[0], params)

    @jax.jit
    @chex.assert_max_traces(n=1)
    def train(params, settings):
        return run(configs, TrainConfig("adam", 3))(params, settings=settings)

    slow, fast = (train(params, TrainSettings(rate))[1].loss for rate in (0.001, 0.1))
    assert float(slow[-1]) != float(fast[-1])


def test_dropout_is_off_without_a_key():
    configs, params = start(2, 1)
    params = jax.tree.map(lambda x: x[0], params)
    settings = TrainSettings(0.1, layer=layers.LayerSettings(attention_dropout=0.5))
    train = run(configs, TrainConfig("sgd", 5), settings=settings)
    plain = run(configs, TrainConfig("sgd", 5), settings=TrainSettings(0.1))(params)[1]
    np.testing.assert_allclose(train(params)[1].loss, plain.loss, rtol=1e-5)
    dropped = [np.asarray(train(params, jax.random.key(s))[1].loss) for s in (0, 0, 1)]
    np.testing.assert_array_equal(dropped[0], dropped[1])
    assert not np.array_equal(dropped[0], dropped[2])
    # What is recorded is measured without dropout, so all agree before the first update.
    np.testing.assert_allclose(dropped[0][0], plain.loss[0], rtol=1e-6)


def test_mask_leaves_nodes_out_of_the_loss():
    configs, params = start(1, 1)
    params = jax.tree.map(lambda x: x[0], params)
    mask = np.array([True, False, True, False])
    train = jax.jit(
        functools.partial(training.train_run, configs=configs, config=TrainConfig("sgd", 3))
    )
    results = [
        train(params, task=TASK._replace(labels=np.array(labels), label_mask=mask))[1]
        for labels in ([0, 0, 1, 0], [0, 1, 1, 1])
    ]
    np.testing.assert_array_equal(results[0].loss, results[1].loss)
    np.testing.assert_array_equal(results[0].accuracy, results[1].accuracy)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_steps": 0}, "num_steps=0"),
        ({"num_steps": 10, "record_every": 3}, "expected a divisor of num_steps"),
    ],
)
def test_train_config_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        TrainConfig(**options)
