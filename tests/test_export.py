"""What runs here also lowers for accelerators: exporting needs none."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gat_jax import graphs, layers
from gat_jax.graphs import twins
from gat_jax.layers import LayerConfig, initializers
from gat_jax.layers import networks as models
from gat_jax.sampling import Cell, Tile, prepare_cell
from gat_jax.sampling.sampler import run_tile
from gat_jax.studies import tutorial_init
from gat_jax.studies import tutorial_training as study_training
from gat_jax.training import trainer as training

PLATFORMS = ("cpu", "cuda", "tpu")
GRAPH, PAIRS = tutorial_init.tutorial_twins()


def round_trip(function, *args):
    """Export for all platforms, through bytes and back, and call it here."""
    exported = jax.export.export(jax.jit(function), platforms=PLATFORMS)(*args)
    assert exported.platforms == PLATFORMS
    return jax.export.deserialize(exported.serialize()).call(*args)


@pytest.mark.few(1)
@pytest.mark.parametrize("layer", ["gat", "gatv2", "gcn"])
def test_layers_and_their_gradients_export(layer):
    config = LayerConfig(layer=layer, use_output_bias=True, use_residual=True)
    params = initializers.init_layer(jax.random.key(0), config, 2)

    def value_and_gradient(*leaves):
        def loss(p):
            return jnp.sum(layers.apply_layer(p, GRAPH)[0] ** 2)

        tree = jax.tree.unflatten(jax.tree.structure(params), leaves)
        value, grads = jax.value_and_grad(loss)(tree)
        return value, jax.tree.leaves(grads)

    leaves = jax.tree.leaves(params)
    value, grads = round_trip(value_and_gradient, *leaves)
    expected, expected_grads = jax.jit(value_and_gradient)(*leaves)
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    for grad, other in zip(grads, expected_grads, strict=True):
        np.testing.assert_allclose(grad, other, rtol=1e-5, atol=1e-6)


def test_a_training_run_exports():
    configs = (study_training.layer_config(2),)
    params = models.init_network(jax.random.key(0), configs, 2)
    run = functools.partial(
        training.train_run,
        task=study_training.task(),
        configs=configs,
        config=training.TrainConfig("adam", 5),
    )

    def losses(*leaves):
        return run(jax.tree.unflatten(jax.tree.structure(params), leaves))[1].loss

    leaves = jax.tree.leaves(params)
    np.testing.assert_allclose(round_trip(losses, *leaves), jax.jit(losses)(*leaves), rtol=1e-5)


@pytest.mark.few(1)
@pytest.mark.parametrize("graph", ["unrolled", "gathered", "by class"])
def test_a_tile_of_initialisations_exports(graph):
    cell = Cell("any", LayerConfig(heads=2, initializer="tutorial"))
    source = GRAPH
    if graph == "gathered":
        source = graphs.karate_club()
    elif graph == "by class":
        ends = np.array([(user, item) for item in range(2) for user in 2 + np.arange(60)])
        ends = np.concatenate([ends, ends[:, ::-1]])
        source = graphs.from_edges(*ends.T, nodes=np.arange(124.0, dtype=np.float32).reshape(62, 2))
    prepared = prepare_cell(cell, source, twins.twin_classes(source), seed=0)
    shape = prepared.shape
    assert shape.layout.is_by_class == (graph == "by class")
    assert shape.layout.is_unrolled(shape.num_features, 2) == (graph == "unrolled")
    leaves, structure = jax.tree.flatten(prepared.inputs)

    def tally(*leaves):
        inputs = jax.tree.unflatten(structure, leaves)
        return run_tile(shape, inputs, Tile(jnp.uint32(0), jnp.int32(100)))[0]._asdict()

    found, expected = round_trip(tally, *leaves), jax.jit(tally)(*leaves)
    assert np.sum(expected["joint_causes"]) > 0
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    for platform in PLATFORMS:
        text = jax.export.export(jax.jit(tally), platforms=[platform])(*leaves).mlir_module()
        assert ("stablehlo.scatter" in text) == (platform == "cpu")
