import jax
import numpy as np
import optax
import pytest

from gat_jax.graphs import best_constant_ranking_accuracy, dictionary_lookup
from gat_jax.studies.lookup import LookupConfig, init_lookup, train_lookup


def test_train_lookup_records_runs_and_tries_new_dictionaries():
    config = LookupConfig(
        num_keys=2, num_dictionaries=10, channels=6, num_steps=100, record_every=50
    )
    runs = train_lookup("gatv2", 2, config=config)
    np.testing.assert_array_equal(runs.step, [0, 50, 100])
    assert runs.accuracy.shape == (2, 3)
    assert runs.new_accuracy.shape == (2,)
    assert (runs.accuracy[:, -1] > runs.accuracy[:, 0]).all()
    # There are two dictionaries of two keys, and both were seen.
    np.testing.assert_allclose(runs.new_accuracy, runs.accuracy[:, -1], atol=0.2)


@pytest.mark.slow
def test_gatv2_solves_what_gat_cannot():
    ceiling = best_constant_ranking_accuracy(10)
    gat, gatv2 = (train_lookup(layer, 3) for layer in ("gat", "gatv2"))
    assert (gat.accuracy[:, -1] <= ceiling).all()
    assert (gat.new_accuracy <= ceiling).all()
    assert (gat.accuracy[:, -1] >= 1 / 10).all()
    assert np.median(gatv2.accuracy[:, -1]) == 1.0
    assert np.median(gatv2.new_accuracy) >= 0.99


def test_a_run_is_descent_on_the_cross_entropy_of_the_queries():
    """Against the network spelled out on arrays, without graphs, segments or layouts."""
    config = LookupConfig(
        num_keys=3, num_dictionaries=4, channels=5, num_steps=6, record_every=2, learning_rate=0.1
    )
    runs = train_lookup("gatv2", 2, config=config)
    params = init_lookup(jax.random.key(0), "gatv2", 2, config)
    for run in range(2):
        known, new = (dictionary_lookup(3, 4, seed) for seed in (0, 1))
        found, trained = _spelled_out(jax.tree.map(lambda x, run=run: x[run], params), known)
        np.testing.assert_allclose(runs.accuracy[run], found, atol=1e-6)
        np.testing.assert_allclose(runs.new_accuracy[run], _share(trained, new), atol=1e-6)


def _spelled_out(params, task):
    """Return the share of right answers at steps 0, 2, 4, 6 and the parameters after them."""
    optimizer = optax.adam(0.1)
    state, shares = optimizer.init(params), [_share(params, task)]

    def loss_of(params):
        log_p_dkv = jax.nn.log_softmax(_answers(params, task))
        return -(log_p_dkv * jax.nn.one_hot(_values(task), 3)).sum(-1).mean()

    for step in range(1, 7):
        updates, state = optimizer.update(jax.grad(loss_of)(params), state, params)
        params = optax.apply_updates(params, updates)
        if step % 2 == 0:
            shares.append(_share(params, task))
    return shares, params


def _answers(params, task):
    """Logits [4, 3, 3] of the values, for each query of each dictionary."""
    layer, output = params
    keys_dkf, queries_dkf = np.moveaxis(np.reshape(task.graph.nodes, (4, 2, 3, 6)), 1, 0)
    sent = keys_dkf @ layer.kernel_send[:, 0]
    asked = queries_dkf @ layer.kernel_recv[:, 0]
    if layer.bias_send is not None:
        sent, asked = (x + b[None] for x, b in ((sent, layer.bias_send), (asked, layer.bias_recv)))
    hidden = asked[:, :, None] + sent[:, None]
    attention = jax.nn.softmax(jax.nn.leaky_relu(hidden, 0.2) @ layer.a[0], axis=-1)
    outputs = attention @ sent
    if layer.output_bias is not None:
        outputs += layer.output_bias[None, None]
    return outputs @ output.kernel + output.bias[None, None]


def _values(task):
    return np.reshape(task.labels, (4, 2, 3))[:, 1]


def _share(params, task):
    return float(np.mean(np.argmax(_answers(params, task), axis=-1) == _values(task)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_keys": 1}, "num_keys: expected"),
        ({"num_steps": 0}, "num_steps: expected"),
        ({"num_steps": 90}, "num_steps: expected a multiple of record_every 50, got 90"),
        ({"channels": 0}, "channels: expected"),
    ],
)
def test_numbers_that_make_no_study_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        train_lookup("gat", 1, config=LookupConfig(**change))
