import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import oracle
import pytest

from gat_jax.graphs import pad
from gat_jax.layers import LayerConfig, LayerSettings, apply_network, gat_configs, init_network
from gat_jax.studies import tutorial_init, tutorial_training
from gat_jax.symmetry import CAUSES
from gat_jax.training import TrainConfig, TrainSettings, make_task, tasks, train_run, trainer

TASK = tutorial_training.task()


def start(heads, num_runs, *, dtype=jnp.float32, layer="gat"):
    config = LayerConfig(layer=layer, heads=heads, concat=False, initializer="tutorial")
    params = init_network(jax.random.key(heads), (config,), 2, batch_shape=(num_runs,))
    return (config,), jax.tree.map(lambda x: x.astype(dtype), params)


def run(configs, config, **options):
    """A compiled run: outside of jit every operation would be compiled for itself."""
    return jax.jit(
        functools.partial(train_run, task=TASK, configs=configs, config=config, **options)
    )


@pytest.mark.few(1)
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


def test_history_is_measured_before_the_update_and_after_the_last():
    configs, params = start(1, 1)
    params = jax.tree.map(lambda x: x[0], params)
    trained, every = run(configs, TrainConfig("sgd", 12))(params)
    _, third = run(configs, TrainConfig("sgd", 12, record_every=3))(params)
    np.testing.assert_array_equal(every.step, np.arange(13))
    np.testing.assert_array_equal(third.step, [0, 3, 6, 9, 12])
    np.testing.assert_allclose(third.loss, every.loss[::3], rtol=1e-5)
    np.testing.assert_allclose(third.cause_share, every.cause_share[::3], atol=1e-6)
    logits, infos = apply_network(trained, TASK.graph, configs)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, TASK.labels)
    np.testing.assert_allclose(every.loss[-1], losses.mean(), rtol=1e-6)
    right = np.mean(np.argmax(logits, axis=1) == TASK.labels)
    np.testing.assert_allclose(every.accuracy[-1], right)
    gap = np.abs(infos[0].head_outputs[2] - infos[0].head_outputs[3]).max()
    np.testing.assert_allclose(every.twin_gap[-1, 0], gap, rtol=1e-5, atol=1e-7)


def test_history_has_every_layer_and_sums_causes_to_one():
    configs = gat_configs(2, heads=3, channels=4, initializer="tutorial")
    params = init_network(jax.random.key(1), configs, 2)
    _, history = run(configs, TrainConfig("adam", 4))(params)
    assert history.cause_share.shape == (5, 2, len(CAUSES))
    np.testing.assert_allclose(history.cause_share.sum(-1), 1.0, rtol=1e-6)
    assert history.grad_norm.shape == (5, 2, 3)
    assert np.isfinite(history.grad_norm).all()


def test_gradient_to_a_recv_is_exactly_zero_in_a_regime():
    """All four rows of the article's start are in the positive regime."""
    configs = (tutorial_training.layer_config(1),)
    _, history = run(configs, TrainConfig("sgd", 2))((tutorial_init.article_params(),))
    assert history.grad_norm[0, 0, 0] == 0.0
    assert history.grad_norm[0, 0, 1] > 0.0
    assert history.twin_gap[0, 0] == 0.0


@pytest.mark.slow
def test_a_failed_run_says_when_and_spoils_no_other():
    configs, params = start(1, 3)
    rates = TrainSettings(jnp.array([0.1, 1e38, 0.1]))
    axes = TrainSettings(0, None, None, LayerSettings(None, None, None, None))
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


@pytest.mark.slow
def test_dropout_is_off_without_a_key():
    configs, params = start(2, 1)
    params = jax.tree.map(lambda x: x[0], params)
    settings = TrainSettings(0.1, layer=LayerSettings(attention_dropout=0.5))
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
    train = jax.jit(functools.partial(train_run, configs=configs, config=TrainConfig("sgd", 3)))
    results = [
        train(params, task=TASK._replace(labels=np.array(labels), label_mask=mask))[1]
        for labels in ([0, 0, 1, 0], [0, 1, 1, 1])
    ]
    np.testing.assert_array_equal(results[0].loss, results[1].loss)
    np.testing.assert_array_equal(results[0].accuracy, results[1].accuracy)


def dropout_run(config):
    """A run of a layer of two heads with dropout; compiled, with its parameters."""
    configs, params = start(2, 1)
    settings = TrainSettings(0.1, layer=LayerSettings(attention_dropout=0.5))
    return run(configs, config, settings=settings), jax.tree.map(lambda x: x[0], params)


@pytest.mark.few(1)
@pytest.mark.parametrize(("has_dropout", "at_the_end"), [(True, 0), (False, 1)])
def test_records_cost_no_gradient_of_their_own(monkeypatch, has_dropout, at_the_end):
    """Without dropout the last record, after which there is no update, has one of its own."""
    counted = []

    @jax.custom_vjp
    def watched(losses):
        return losses

    def backward(_, cotangent):
        jax.debug.callback(
            lambda: counted.append(1)
        )  # an effect: it is neither merged nor left out
        return (cotangent,)

    watched.defvjp(lambda losses: (losses, None), backward)
    losses_of = optax.softmax_cross_entropy_with_integer_labels
    name = "softmax_cross_entropy_with_integer_labels"
    monkeypatch.setattr(trainer.optax, name, lambda *x: watched(losses_of(*x)))
    train, params = dropout_run(TrainConfig("sgd", 6, record_every=2))
    _, history = train(params, jax.random.key(0) if has_dropout else None)
    jax.block_until_ready(history)
    jax.effects_barrier()
    assert len(counted) == 6 + at_the_end


@pytest.mark.slow
def test_with_dropout_gradient_norms_are_those_of_the_training_step():
    train, params = dropout_run(TrainConfig("sgd", 1))
    after, history = train(params, jax.random.key(0))
    grads = jax.tree.map(lambda p, q: np.asarray(p - q) / 0.1, params, after)[0]
    norms = [np.linalg.norm(x) for x in (grads.a_recv, grads.a_send, grads.kernel)]
    np.testing.assert_allclose(history.grad_norm[0, 0], norms, rtol=1e-3, atol=1e-6)
    assert np.isnan(history.grad_norm[1]).all()
    assert history.status == -1
    plain = train(params)[1].grad_norm
    assert not np.allclose(plain[0], history.grad_norm[0], rtol=1e-2)
    assert np.isfinite(plain).all()


@pytest.mark.slow
def test_a_history_that_is_not_returned_costs_nothing():
    train, params = dropout_run(TrainConfig("sgd", 64))

    def flops(function):
        return jax.jit(function).lower(params, jax.random.key(0)).compile().cost_analysis()["flops"]

    def step(k, params, key):
        def loss(params):
            settings = LayerSettings(attention_dropout=0.5)
            options = {"settings": settings, "key": jax.random.fold_in(key, k)}
            logits, _ = apply_network(params, TASK.graph, start(2, 1)[0], **options)
            return optax.softmax_cross_entropy_with_integer_labels(logits, TASK.labels).mean()

        return jax.tree.map(lambda p, g: p - 0.1 * g, params, jax.grad(loss)(params))

    def by_hand(params, key):
        return jax.lax.fori_loop(0, 64, lambda k, p: step(k, p, key), params)

    assert flops(lambda p, k: train(p, k)[0]) < 1.1 * flops(by_hand) < 0.9 * flops(train)


# --- what is refused ------------------------------------------------------------------------------


def changed(**fields):
    return TASK._replace(**fields)


NUM_NODES = len(TASK.graph.nodes)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("task", "message"),
    [
        (
            changed(labels=np.array([0, 0, 0, -1])),
            r"classes in \[0, 2\) .*, got -1 at node 3",
        ),
        (changed(labels=np.array([0, 2, 0, 1])), r"classes in \[0, 2\) where .*, got 2 at node 1"),
        (changed(labels=np.zeros(3, int)), r"labels: expected shape \(4,\), got \(3,\)"),
        (changed(labels=np.zeros(4)), "labels: expected an array of whole numbers, got float64"),
        (changed(labels=[0, 0, 0, 1]), "labels: expected an array of whole numbers, got list"),
        (changed(label_mask=np.ones(3, bool)), r"label_mask: expected shape \(4,\), got \(3,\)"),
        (changed(label_mask=np.ones(4)), "label_mask: expected an array of booleans, got float64"),
        (changed(label_mask=np.zeros(4, bool)), "label_mask: expected at least one node"),
        (changed(pairs=None), "pairs: expected TwinPairs, got NoneType"),
        (
            changed(pairs=TASK.pairs._replace(first=np.array([2, 2]))),
            "pairs.first, pairs.second: expected two vectors of one length",
        ),
        (
            changed(pairs=TASK.pairs._replace(is_trivial=np.array([False, False]))),
            r"pairs.is_trivial: expected shape \(1,\), got \(2,\)",
        ),
        (
            changed(pairs=TASK.pairs._replace(second=np.array([4]))),
            r"pairs.second: expected ids in \[0, 4\), got 4",
        ),
    ],
)
def test_tasks_that_do_not_fit_are_refused(task, message):
    configs, params = start(1, 1)
    params = jax.tree.map(lambda x: x[0], params)
    options = {"configs": configs, "config": TrainConfig("sgd", 1)}
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(lambda p: train_run(p, task=task, **options), params)
    if "[0, 2)" not in message.replace("\\", "") or "-1" in message:
        graph = jax.tree.map(np.asarray, task.graph)
        expected = message.replace(r"classes in \[0, 2\)", "classes >= 0")
        with pytest.raises(ValueError, match=expected):
            make_task(graph, task.labels, task.label_mask, task.pairs)


def test_nodes_without_a_label_are_left_out_by_the_mask():
    configs, params = start(1, 1)
    params = jax.tree.map(lambda x: x[0], params)
    masked = np.array([True, True, False, True])
    task = changed(labels=np.array([0, 0, -1, 1]), label_mask=masked)
    other = changed(labels=np.array([0, 0, 1, 1]), label_mask=masked)
    histories = [
        jax.jit(
            functools.partial(
                train_run, task=x, configs=configs, config=TrainConfig("sgd", 3), settings=SGD
            )
        )(params)[1]
        for x in (task, other)
    ]
    chex.assert_trees_all_equal(*histories)


SGD = TrainSettings(learning_rate=0.1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            TrainSettings(learning_rate=-1.0),
            "learning_rate: expected a finite number of at",
        ),
        (
            TrainSettings(learning_rate=np.nan),
            "learning_rate: expected a finite number of at",
        ),
        (TrainSettings(momentum=1.0), r"momentum: expected a finite number in \[0, 1\), got 1"),
        (TrainSettings(weight_decay=-0.1), "weight_decay: expected a finite number of at least 0"),
        (
            TrainSettings(layer=LayerSettings(attention_dropout=1.5)),
            r"attention_dropout: expected a finite number in \[0, 1\), got 1.5",
        ),
    ],
)
def test_settings_out_of_their_range_are_refused(settings, message):
    configs, params = start(1, 1)
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(
            lambda p: train_run(
                p, task=TASK, configs=configs, config=TrainConfig("sgd", 1), settings=settings
            ),
            jax.tree.map(lambda x: x[0], params),
        )


@pytest.mark.few(1)
@pytest.mark.parametrize("layout", ["segment", "bucketed"])
def test_padding_counts_in_no_record(layout):
    configs, params = start(2, 1)
    params = jax.tree.map(lambda x: x[0], params)
    graph = jax.tree.map(np.asarray, TASK.graph)
    padded = pad(graph, num_nodes=7, num_edges=20)
    labels, mask = np.append(TASK.labels, [1, 1, 1]), np.arange(7) < 4
    histories = [
        jax.jit(
            functools.partial(train_run, task=task, configs=configs, config=TrainConfig("sgd", 5))
        )(params)[1]
        for task in (
            make_task(graph, TASK.labels, np.ones(4, bool), TASK.pairs, layout=layout),
            make_task(padded, labels, mask, TASK.pairs, layout=layout),
        )
    ]
    chex.assert_trees_all_close(*histories, rtol=1e-5, atol=1e-6)
    assert np.isfinite(histories[1].entropy).all()
    with pytest.raises(ValueError, match="label_mask: expected real nodes alone, got padding at 4"):
        make_task(padded, labels, np.ones(7, bool), TASK.pairs)
    # A task made by hand has no mask: it is the same, and so is one with a mask of its own.
    made = make_task(padded, labels, mask, TASK.pairs, layout=layout)
    for edge_mask in (None, np.ones(20, bool)):
        by_hand = tasks.check_task(made._replace(edge_mask=edge_mask))
        np.testing.assert_array_equal(by_hand.edge_mask, made.edge_mask)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": tuple(TASK)}, "task: expected one of make_task, got tuple"),
        ({"task": None}, "task: expected one of make_task, got NoneType"),
        ({"task": changed(graph={})}, "graph: expected a jraph.GraphsTuple, got dict"),
        ({"task": changed(edge_mask=[True])}, "edge_mask: expected an array of booleans, got list"),
        ({"configs": ()}, "configs: expected one for each layer, at least one, got none"),
        ({"configs": LayerConfig()}, "configs: expected a tuple .*, got LayerConfig"),
        ({"configs": ({},)}, "configs: expected a LayerConfig for layer 0, got dict"),
        ({"config": {}}, "config: expected a TrainConfig, got dict"),
        ({"settings": {}}, "settings: expected TrainSettings, got dict"),
        ({"settings": LayerSettings()}, "settings: expected TrainSettings, got LayerSettings"),
        ({"settings": TrainSettings(layer=None)}, "settings.layer: expected LayerSettings, got No"),
        ({"key": 0}, "key: expected one key of jax.random.key, got int"),
    ],
)
def test_what_is_no_part_of_a_run_is_refused(options, message):
    configs, params = start(1, 1)
    given = {"task": TASK, "configs": configs, "config": TrainConfig("sgd", 1)} | options
    with pytest.raises(ValueError, match=message):
        train_run(jax.tree.map(lambda x: x[0], params), **given)
