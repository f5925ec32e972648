import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from helpers import assert_close, fields, messy_graph, oracle_layer

from gat_jax import graphs, kernels
from gat_jax.layers import LayerConfig, PlainConfig, blocks_config, gat_configs
from gat_jax.layers import networks as models

CONFIGS = gat_configs(3, heads=2, channels=4, initializer="tutorial")


def test_gat_configs_concatenates_and_averages():
    hidden, last = gat_configs(7, heads=8, channels=5)
    assert (hidden.num_outputs, hidden.concat) == (40, True)
    assert (last.num_outputs, last.concat, last.heads) == (7, False, 8)
    with pytest.raises(ValueError, match="num_layers: expected at least 1, got 0"):
        gat_configs(7, num_layers=0)


def test_apply_network_is_the_oracle_layer_after_layer(x64):
    graph = messy_graph(0)
    params = models.init_network(jax.random.key(0), CONFIGS, 3)
    params = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), params)
    out, infos = models.apply_network(params, graph, CONFIGS)
    x = graph.nodes
    for layer, config, info in zip(params, CONFIGS, infos, strict=True):
        expected = oracle_layer(type(layer), fields(layer), graph._replace(nodes=x), config=config)
        np.testing.assert_allclose(info.attention, expected["attention"], atol=1e-12)
        x = np.where(expected["nodes"] > 0, expected["nodes"], np.expm1(expected["nodes"]))
    np.testing.assert_allclose(out, expected["nodes"], atol=1e-12)


def residual_network(norm):
    """Two layers with residual paths and a norm between them, its numbers drawn at random."""
    layers = gat_configs(3, heads=2, channels=4, use_residual=True)
    config = PlainConfig(layers, norm)
    params = models.init_network(jax.random.key(1), config, 3)
    rng = np.random.default_rng(2)
    norms = jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape), x.dtype), params.norms)
    return params._replace(norms=norms), config


@pytest.mark.parametrize("norm", ["layer", "batch"])
def test_a_norm_between_layers_agrees_with_the_oracle(x64, norm):
    params, config = residual_network(norm)
    graph = messy_graph(3)
    weights = np.random.default_rng(4).normal(size=(8, 3))
    params = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), params)

    def total(params):
        out, traces = models.trace_network(params, graph, config)
        return jnp.sum(weights * out), (out, traces)

    (_, (out, traces)), gradient = jax.jit(jax.value_and_grad(total, has_aux=True))(params)
    [between], layers = params.norms, params.layers
    arrays = {f"{k}.{name}": x for k in (0, 1) for name, x in fields(layers[k]).items()}
    arrays |= {"scale": np.asarray(between.scale), "shift": np.asarray(between.shift)}

    def expected(arrays):
        def layer(k, x):
            prefix = f"{k}."
            p = {n.removeprefix(prefix): a for n, a in arrays.items() if n.startswith(prefix)}
            options = {"config": config.layers[k]}
            return oracle_layer(type(layers[k]), p, graph._replace(nodes=x), **options)["nodes"]

        first = layer(0, graph.nodes)
        hidden = oracle.elu(oracle.norm(first, norm, arrays["scale"], arrays["shift"]))
        return first, hidden, layer(1, hidden)

    first, hidden, wanted = expected(arrays)
    assert_close(out, wanted, 1e-12)
    assert_close(traces[0].outputs, first, 1e-12)
    assert_close(traces[1].inputs, hidden, 1e-12)
    assert_close(traces[1].outputs, wanted, 1e-12)
    exact = oracle.complex_step_gradient(lambda p: np.sum(weights * expected(p)[2]), arrays)
    found = {f"{k}.{n}": x for k in (0, 1) for n, x in fields(gradient.layers[k]).items()}
    found |= {"scale": gradient.norms[0].scale, "shift": gradient.norms[0].shift}
    assert found.keys() == exact.keys()
    scale = max(np.abs(array).max() for array in exact.values())
    for name, value in found.items():
        assert np.abs(value - exact[name]).max() <= 1e-11 * scale, name


def test_a_plain_network_without_norms_is_the_tuple_of_its_layers():
    graph = messy_graph(5)
    named = PlainConfig(CONFIGS)
    params = models.init_network(jax.random.key(0), CONFIGS, 3)
    wrapped = models.init_network(jax.random.key(0), named, 3)
    for one, other in zip(jax.tree.leaves(params), jax.tree.leaves(wrapped), strict=True):
        np.testing.assert_array_equal(one, other)
    run = jax.jit(models.trace_network, static_argnames="configs")
    expected, (first, second) = run(params, graph, configs=CONFIGS)
    np.testing.assert_array_equal(run(wrapped, graph, configs=named)[0], expected)
    np.testing.assert_array_equal(first.inputs, graph.nodes)
    assert_close(second.inputs, jax.nn.elu(first.outputs), 1e-6)
    np.testing.assert_array_equal(second.outputs, expected)


def test_padding_does_not_enter_the_statistics_of_a_plain_network():
    params, config = residual_network("batch")
    graph = messy_graph(6)
    padded = graphs.pad(graph, num_nodes=10, num_edges=20)
    padded.nodes[8:] = 100.0
    masks = {"edge_mask": np.arange(20) < 16, "node_mask": np.arange(10) < 8}
    run = jax.jit(models.apply_network, static_argnames="configs")
    expected, _ = run(params, graph, configs=config)
    assert_close(run(params, padded, configs=config, **masks)[0][:8], expected, 1e-5)


def test_the_first_inputs_may_be_sparse():
    nodes = np.eye(8, 30, dtype=np.float32)
    graph = messy_graph(7)._replace(nodes=kernels.from_dense(nodes))
    params = models.init_network(jax.random.key(3), CONFIGS, 30)
    run = jax.jit(models.trace_network, static_argnames="configs")
    out, traces = run(params, graph, configs=CONFIGS)
    assert isinstance(traces[0].inputs, kernels.SparseFeatures)
    assert_close(out, run(params, graph._replace(nodes=nodes), configs=CONFIGS)[0], 1e-5)


@pytest.mark.parametrize(
    "configs", [CONFIGS, PlainConfig(CONFIGS, "layer"), blocks_config(3, width=4, heads=2, depth=2)]
)
def test_parts_of_a_network_are_found_in_every_form(configs):
    params = models.init_network(jax.random.key(4), configs, 5, batch_shape=(2,))
    layers = models.layer_configs(configs)
    assert models.num_outputs_of(configs) == 3
    assert len(layers) == len(models.layer_params(params)) == 2
    one = jax.tree.map(lambda x: x[0], params)
    models.check_network_params(one, configs, 5)
    for config, layer in zip(layers, models.layer_params(one), strict=True):
        assert layer.kernel.shape[1:] == (config.heads, config.channels)
    with pytest.raises(ValueError, match="expected shape"):
        models.check_network_params(one, configs, 6)


@pytest.mark.usefixtures("unchecked")
def test_networks_that_do_not_fit_are_refused():
    params, config = residual_network("layer")
    graph = messy_graph(8)

    def refuses(message, params=params, config=config):
        with pytest.raises(ValueError, match=message):
            models.apply_network(params, graph, config)
        with pytest.raises(ValueError, match=message):
            models.check_network_params(params, config, 3)

    refuses("params: expected PlainParams, got tuple", params.layers)
    refuses("params: expected an entry for each of 2 layers, got PlainParams", config=config.layers)
    refuses(r"params.norms: expected 1 between the layers, got 0", params._replace(norms=()))
    refuses(r"params.norms\[0\]: expected NormParams", params._replace(norms=(None,)))
    refuses(
        "params.layers: expected an entry for each of 2 layers, got 1",
        params._replace(layers=params.layers[:1]),
    )
    refuses("configs: expected a tuple with one for each layer, got LayerConfig", config=CONFIGS[0])
    with pytest.raises(ValueError, match="norm: expected one of layer, batch, none"):
        PlainConfig(CONFIGS, "other")
    with pytest.raises(ValueError, match="configs: expected one for each layer"):
        PlainConfig(())
    with pytest.raises(ValueError, match="configs: expected a LayerConfig for layer 1"):
        PlainConfig((LayerConfig(), 3))
