"""NNX modules hold parameters and draw keys; all else is the pure functions."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from helpers import messy_graph

from gat_jax.graphs import tutorial_graph
from gat_jax.kernels import make_layout
from gat_jax.layers import (
    LayerConfig,
    LayerSettings,
    apply_layer,
    apply_network,
    flax_nnx,
    gat_configs,
    init_layer,
    init_network,
)

CONFIGS = gat_configs(3, heads=2, channels=4, initializer="tutorial")
WITH_EDGES = LayerConfig(heads=2, concat=False, num_edge_features=1, use_output_bias=True)
DROPOUT = LayerSettings(feature_dropout=0.5, attention_dropout=0.5)


def arrays(params):
    """The arrays of a module's parameters, in the pure functions' structure."""
    leaves = jax.tree.leaves(params, is_leaf=lambda leaf: isinstance(leaf, nnx.Variable))
    assert all(type(leaf) is nnx.Param for leaf in leaves)
    return nnx.as_pure(params)


@pytest.mark.parametrize(
    ("module", "layer", "config"),
    [
        (flax_nnx.GraphLayer, "gat", WITH_EDGES),
        (flax_nnx.GAT, "gat", WITH_EDGES),
        (flax_nnx.GATv2, "gatv2", WITH_EDGES),
        (flax_nnx.GCN, "gcn", LayerConfig()),
        (flax_nnx.GCN, "gcn", LayerConfig(gcn_normalization="symmetric")),
    ],
)
def test_layers_have_the_parameters_and_outputs_of_the_pure_ones(module, layer, config):
    graph = messy_graph(1, num_edge_features=config.num_edge_features)
    mask = np.arange(16) != 5
    module = module(config, 3, rngs=nnx.Rngs(0))
    config = LayerConfig(**(vars(config) | {"layer": layer}))
    assert module.config == config
    params = init_layer(nnx.Rngs(0).params(), config, 3)
    chex.assert_trees_all_equal(arrays(module.params), params)
    expected = apply_layer(params, graph, config=config, edge_mask=mask)
    chex.assert_trees_all_equal(module(graph, edge_mask=mask), expected)


def test_the_class_decides_the_layer_of_a_config():
    with pytest.raises(ValueError, match="layer: expected one head and no edge features for gcn"):
        flax_nnx.GCN(LayerConfig(heads=2), 3, rngs=nnx.Rngs(0))


def test_network_is_the_pure_one_under_jit_and_grad():
    graph = messy_graph(1)
    settings = LayerSettings(slope=0.1)
    module = flax_nnx.GraphNetwork(CONFIGS, 3, settings=settings, rngs=nnx.Rngs(0))
    params = init_network(nnx.Rngs(0).params(), CONFIGS, 3)
    chex.assert_trees_all_equal(arrays(module.params), params)

    def loss(params):
        outputs, infos = apply_network(params, graph, CONFIGS, settings=settings)
        return jnp.square(outputs).sum(), (outputs, infos)

    def module_loss(module):
        outputs, infos = module(graph)
        return jnp.square(outputs).sum(), (outputs, infos)

    expected, expected_aux = jax.jit(jax.grad(loss, has_aux=True))(params)
    gradient, aux = nnx.jit(nnx.grad(module_loss, has_aux=True))(module)
    chex.assert_trees_all_equal(aux, expected_aux)
    # The state of gradients has strings for the places in tuples.
    assert len(jax.tree.leaves(gradient)) == len(jax.tree.leaves(params)) == 8
    for depth, layer in enumerate(expected):
        for name, value in layer._asdict().items():
            if value is not None:
                np.testing.assert_array_equal(gradient["params"][depth][name][...], value)


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["segment", "bucketed"])
def test_network_maps_over_initialisations(layout):
    graph = tutorial_graph()
    prepared = make_layout(graph, layout)

    @nnx.split_rngs(splits=3)
    @nnx.vmap
    def ensemble(rngs):
        return flax_nnx.GraphNetwork(CONFIGS, 2, rngs=rngs)

    @nnx.jit
    @nnx.vmap
    def outputs(module):
        return module(graph, layout=prepared)[0]

    many = ensemble(nnx.Rngs(0))
    params = arrays(many.params)
    each = [jax.tree.map(lambda x, i=i: x[i], params) for i in range(3)]
    expected = [apply_network(one, graph, CONFIGS, layout=prepared)[0] for one in each]
    found = outputs(many)
    np.testing.assert_allclose(found, np.stack(expected), rtol=1e-5, atol=1e-6)
    assert float(jnp.abs(found[0] - found[1]).max()) > 0.1


@pytest.mark.parametrize("kind", [flax_nnx.GAT, flax_nnx.GraphNetwork])
def test_dropout_is_that_of_nnx(kind):
    graph = messy_graph(2)
    config = CONFIGS if kind is flax_nnx.GraphNetwork else CONFIGS[0]

    def outputs(module):
        return np.asarray(module(graph)[0])

    module, same = (kind(config, 3, settings=DROPOUT, rngs=nnx.Rngs(0)) for _ in range(2))
    first = outputs(module)
    assert np.array_equal(first, outputs(same))  # the key comes from the module's own stream
    assert not np.array_equal(first, outputs(module))  # and the next call draws another
    plain = kind(config, 3, rngs=nnx.Rngs(0))
    module.eval()
    assert np.array_equal(outputs(module), outputs(plain))
    module.train()
    assert not np.array_equal(outputs(module), outputs(plain))
    assert not jax.tree.leaves(nnx.state(plain, nnx.RngState))


@pytest.mark.slow
def test_members_of_an_ensemble_draw_dropout_of_their_own():
    graph = messy_graph(2)

    @nnx.split_rngs(splits=2)
    @nnx.vmap
    def ensemble(rngs):
        return flax_nnx.GAT(CONFIGS[0], 3, settings=DROPOUT, rngs=rngs)

    many = ensemble(nnx.Rngs(0))
    params = jax.tree.map(lambda x: jnp.stack([x[0], x[0]]), nnx.state(many, nnx.Param))
    nnx.update(many, params)  # equal members but for what they draw
    first, second = nnx.jit(nnx.vmap(lambda module: module(graph)[0]))(many)
    assert not np.array_equal(first, second)


@pytest.mark.slow
def test_a_layer_trains_within_a_users_module():
    class Model(nnx.Module):
        def __init__(self, rngs):
            self.gat = flax_nnx.GAT(CONFIGS[0], 2, settings=DROPOUT, rngs=rngs)
            self.head = nnx.Linear(8, 2, rngs=rngs)

        def __call__(self, graph):
            return self.head(nnx.elu(self.gat(graph)[0]))

    graph, labels = tutorial_graph(), jnp.array([0, 1, 1, 1])
    model = Model(nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, optax.adam(0.02), wrt=nnx.Param)

    def loss(model):
        return optax.softmax_cross_entropy_with_integer_labels(model(graph), labels).mean()

    @nnx.jit
    def step(model, optimizer):
        optimizer.update(model, nnx.grad(loss)(model))

    model.eval()
    before = float(loss(model))
    model.train()
    for _ in range(30):
        step(model, optimizer)
    model.eval()
    assert float(loss(model)) < before / 2
