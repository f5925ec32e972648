import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gat_jax.layers import LayerConfig, apply_network, init_network
from gat_jax.studies import tutorial_training
from gat_jax.training import (
    GAT_PAPER_CORA,
    OPTIMIZERS,
    RECIPES,
    TrainConfig,
    TrainSettings,
    train_run,
)

TASK = tutorial_training.task()
CONFIGS = (LayerConfig(heads=2, concat=False, initializer="tutorial"),)
PARAMS = init_network(jax.random.key(0), CONFIGS, 2)


def penalised_loss(params, decay):
    logits, _ = apply_network(params, TASK.graph, CONFIGS)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, TASK.labels)
    return losses.mean() + decay / 2 * sum(jnp.sum(x**2) for x in jax.tree.leaves(params))


def trained(config, settings):
    options = {"task": TASK, "configs": CONFIGS, "config": config}
    return jax.jit(functools.partial(train_run, **options))(PARAMS, settings=settings)[0]


@pytest.mark.few(1)
@pytest.mark.parametrize("decay", [None, 0.3])
@pytest.mark.parametrize(
    ("name", "peer"),
    [
        ("sgd", optax.sgd(0.05)),
        ("momentum", optax.sgd(0.05, momentum=0.8)),
        ("adam", optax.adam(0.05)),
    ],
)
def test_optimisers_are_those_of_optax_on_the_loss_with_its_penalty(name, peer, decay):
    found = trained(TrainConfig(name, 5), TrainSettings(0.05, 0.8, weight_decay=decay))
    gradient = jax.jit(jax.grad(penalised_loss))
    params, state = PARAMS, peer.init(PARAMS)
    for _ in range(5):
        updates, state = peer.update(gradient(params, decay or 0.0), state)
        params = optax.apply_updates(params, updates)
    chex.assert_trees_all_close(found, params, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_an_optimiser_is_one_entry(monkeypatch):
    monkeypatch.setitem(OPTIMIZERS, "sign", lambda settings: optax.scale_by_sign())
    found = trained(TrainConfig("sign", 1), TrainSettings(0.125))
    moved = jax.tree.map(lambda p, q: np.abs(p - q), PARAMS, found)
    np.testing.assert_allclose(moved[0].kernel, 0.125, rtol=1e-5)


@pytest.mark.slow
def test_weight_decay_can_be_mapped_over():
    options = {"task": TASK, "configs": CONFIGS, "config": TrainConfig("sgd", 2)}

    def train(decay):
        return train_run(PARAMS, settings=TrainSettings(0.1, weight_decay=decay), **options)[0]

    kernels = jax.jit(jax.vmap(train))(jnp.array([0.0, 1.0]))[0].kernel
    none, much = (trained(options["config"], TrainSettings(0.1, weight_decay=x)) for x in (None, 1))
    np.testing.assert_allclose(kernels[0], none[0].kernel, rtol=1e-5)
    np.testing.assert_allclose(kernels[1], much[0].kernel, rtol=1e-5)


def test_the_paper_on_cora_has_its_number_of_parameters():
    """92,373, as PyTorch Geometric's example of the paper has, too."""
    configs = GAT_PAPER_CORA.configs(7)
    shapes = jax.eval_shape(lambda: init_network(jax.random.key(0), configs, 1433))
    assert sum(np.prod(x.shape, dtype=int) for x in jax.tree.leaves(shapes)) == 92_373
    assert configs[-1].num_outputs == 7


def test_recipes_are_hashable_and_named():
    assert len({hash(recipe) for recipe in RECIPES.values()}) == len(RECIPES)
    assert all(name == name.lower() for name in RECIPES)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_steps": 0}, "num_steps: expected at least 1, got 0"),
        ({"num_steps": "3"}, "num_steps: expected a whole number, got '3'"),
        ({"num_steps": 1.0}, "num_steps: expected a whole number, got 1.0"),
        ({"num_steps": True}, "num_steps: expected a whole number, got True"),
        ({"record_every": None}, "record_every: expected a whole number, got None"),
        ({"optimizer": ["adam"]}, "optimizer: expected one of sgd, momentum, adam, got"),
        ({"num_steps": 10, "record_every": 3}, "expected a divisor of num_steps"),
        ({"optimizer": "adamw"}, "expected one of sgd, momentum, adam, got 'adamw'"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_train_config_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        TrainConfig(**options)
