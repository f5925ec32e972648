"""Every input of a layer against what it may not be: each is refused in one line."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pandas
import pytest
import scipy.sparse
from hypothesis import given
from hypothesis import strategies as st

from gat_jax.graphs import datasets
from gat_jax.layers import (
    GATParams,
    LayerConfig,
    LayerSettings,
    apply_layer,
    apply_network,
    check_key,
    check_number,
    flax_linen,
    flax_nnx,
    gat,
    gatv2,
    gcn,
    init_layer,
    init_network,
)

pytestmark = pytest.mark.usefixtures("unchecked")


class Tensor:
    """As PyTorch has them: no array of NumPy's, though one can be made of it."""

    def __init__(self, values):
        self.dtype, self.shape, self.ndim = values.dtype, values.shape, values.ndim
        self._values = values

    def __array__(self, dtype=None, copy=None):
        return self._values


FUNCTIONS = {"gat": gat, "gatv2": gatv2, "gcn": gcn}
GRAPH = datasets.random_graph(0, num_nodes=6, num_edges=15, num_features=3)
PARAMS = {name: init_layer(jax.random.key(0), LayerConfig(layer=name), 3) for name in FUNCTIONS}
MASKED = np.ma.array(GRAPH.nodes, mask=GRAPH.nodes > 1)

WRONG = {  # by the argument, or "nodes": values, each with the end of the message
    "config": [({}, "got dict"), ("gat", "got str"), (PARAMS["gat"], "got GATParams")],
    "settings": [({}, "got dict"), (None, "got NoneType"), ((0.2, 1.0, 0.0, 0.0), "got tuple")],
    "key": [
        (0, "got int"),
        (np.zeros(2), "got an array of float64"),
        (jax.random.split(jax.random.key(0), 2), r"got an array of shape (2,)"),
    ],
    "edge_mask": [(Tensor(np.ones(15, bool)), "got Tensor"), ([True] * 15, "got list")],
    "edge_weight": [
        (Tensor(np.ones(15)), "got Tensor"),
        ([1.0] * 15, "got list"),
        (np.ones(15, ">f4"), "got dtype >f4"),
        (np.full(15, 2**24 + 1), "got 16777217"),
        (np.ones(15, complex), "got complex128"),
    ],
    "nodes": [
        (scipy.sparse.csr_array(GRAPH.nodes), "got csr_array"),
        (scipy.sparse.coo_matrix(GRAPH.nodes), "got coo_matrix"),
        (Tensor(np.ones((6, 3))), "got Tensor"),
        (pandas.DataFrame(GRAPH.nodes), "got DataFrame"),
        (GRAPH.nodes.tolist(), "got list of list"),
        (MASKED, "one with a mask"),
        (GRAPH.nodes.astype(">f4"), "got dtype >f4"),
        (GRAPH.nodes.astype(np.longdouble), "got float128"),
        (np.zeros((6, 3), "U1"), "got <U1"),
        (np.float32(1), "got float32"),
        (np.zeros(6), "got (6,)"),
    ],
    "edges": [([1.0] * 15, "got list"), ([None] * 15, "got list")],
    "senders": [
        (GRAPH.senders.astype(">i4"), "got dtype >i4"),
        (GRAPH.senders.tolist(), "got list"),
        (Tensor(np.zeros(15, np.int32)), "got Tensor"),
    ],
    "receivers": [(GRAPH.receivers.astype(">i8"), "got dtype >i8"), (None, "got NoneType")],
}
CASES = [(field, *case) for field, cases in WRONG.items() for case in cases]


@pytest.mark.parametrize("layer", FUNCTIONS)
def test_what_is_no_input_of_a_layer_is_refused_in_one_line(layer):
    for field, value, end in CASES:
        graph, options = GRAPH, {}
        if field in GRAPH._fields:
            graph = GRAPH._replace(**{field: value})
        else:
            options[field] = value
        for call in (FUNCTIONS[layer], apply_layer):
            with pytest.raises(
                ValueError, match=f"^{field}: expected .*{re.escape(end)}"
            ) as caught:
                call(PARAMS[layer], graph, **options)
            assert "\n" not in str(caught.value).split("\n---")[0]


@pytest.mark.parametrize("graph", [None, {}, (), tuple(GRAPH), GRAPH.nodes])
def test_what_is_no_graph_is_refused(graph):
    configs = (LayerConfig(), LayerConfig())
    params = (PARAMS["gat"],) * 2
    for call in (
        *(lambda graph, name=name: FUNCTIONS[name](PARAMS[name], graph) for name in FUNCTIONS),
        lambda graph: apply_layer(PARAMS["gat"], graph),
        lambda graph: apply_network(params, graph, configs),
        lambda graph: flax_linen.GAT(LayerConfig()).init(jax.random.key(0), graph),
    ):
        with pytest.raises(ValueError, match=r"^graph: expected a jraph.GraphsTuple, got "):
            call(graph)


@pytest.mark.parametrize("layer", FUNCTIONS)
def test_parameters_that_are_no_arrays_or_are_missing_are_refused(layer):
    params = PARAMS[layer]
    for name, array in params._asdict().items():
        if array is None:
            continue
        values = [np.asarray(array).tolist(), Tensor(np.asarray(array)), "a"]
        values += [] if name in params._field_defaults else [None]
        for value in values:
            with pytest.raises(ValueError, match=f"^{name}: expected an? .* got|^{name}: expected"):
                FUNCTIONS[layer](params._replace(**{name: value}), GRAPH)


@pytest.mark.parametrize("name", ["slope", "temperature", "attention_dropout"])
def test_settings_are_one_number_or_one_for_each_head(name):
    params = init_layer(jax.random.key(0), LayerConfig(heads=2), 3)
    for shape in ((3,), (1,), (2, 1), (15, 1)):
        settings = LayerSettings(**{name: np.full(shape, 0.5, np.float32)})
        with pytest.raises(ValueError, match=f"^{name}: expected a number, or one for each of 2"):
            gat(params, GRAPH, settings=settings)
    for value in (0.5, np.float32(0.5), np.full(2, 0.5, np.float32)):
        settings = LayerSettings(**{name: value})
        jax.eval_shape(lambda settings=settings: gat(params, GRAPH, settings=settings))


def test_the_rate_of_the_features_is_one_number():
    # Of [F] it would be a rate for each feature, of [H] an error in JAX's words.
    params = init_layer(jax.random.key(0), LayerConfig(heads=2), 3)
    for shape in ((3,), (1,), (2,), (8, 1)):
        settings = LayerSettings(feature_dropout=np.full(shape, 0.5, np.float32))
        with pytest.raises(ValueError, match=r"^feature_dropout: expected one number, got shape"):
            gat(params, GRAPH, settings=settings, key=jax.random.key(1))


@given(
    st.floats(allow_nan=True, allow_infinity=True), st.sampled_from([float, np.float64, np.array])
)
def test_numbers_are_checked_as_float32_sees_them(number, kind):
    with np.errstate(over="ignore"):
        held = np.float32(number)
    value = kind(number)
    for is_in_range in (lambda x: x > 0, lambda x: (x >= 0) & (x < 1)):
        if np.isfinite(held) and is_in_range(held):
            check_number("field", value, " in range", is_in_range)
        else:
            with pytest.raises(ValueError, match=r"^field: expected a finite number in range"):
                check_number("field", value, " in range", is_in_range)


def test_keys_old_and_new_are_taken():
    for key in (jax.random.key(0), jax.random.PRNGKey(0), np.zeros(2, np.uint32)):
        check_key(key)
    jax.eval_shape(check_key, jax.random.key(0))


# --- configurations -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "field", ["concat", "use_bias", "use_output_bias", "use_residual", "share_weights"]
)
@pytest.mark.parametrize("value", ["False", "no", 0, 1, None, 1.0])
def test_truth_values_of_a_config_are_truth_values(field, value):
    message = f"^{field}: expected True or False, got {re.escape(repr(value))}$"
    with pytest.raises(ValueError, match=message):
        LayerConfig(**{field: value})
    LayerConfig(**{field: np.bool_(True)})


@pytest.mark.parametrize("layer", FUNCTIONS)
def test_options_that_a_layer_would_ignore_are_refused(layer):
    options = {"share_weights": (True, "gatv2"), "gcn_normalization": ("symmetric", "gcn")}
    for name, (value, owner) in options.items():
        config = LayerConfig(layer=layer, **{name: value})
        if owner == layer:
            init_layer(jax.random.key(0), config, 3)
            continue
        for call in (
            lambda config=config: init_layer(jax.random.key(0), config, 3),
            lambda config=config: init_network(jax.random.key(0), (config,), 3),
            lambda config=config: FUNCTIONS[layer](PARAMS[layer], GRAPH, config=config),
        ):
            with pytest.raises(ValueError, match=f"^{name}: expected .*, as {layer} does not"):
                call()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"config": {}}, "config: expected a LayerConfig, got dict"),
        ({"config": "gat"}, "config: expected a LayerConfig, got str"),
        ({"num_features": 3.0}, "num_features: expected a whole number, got 3.0"),
        ({"num_features": True}, "num_features: expected a whole number, got True"),
        ({"key": 0}, "key: expected one key of jax.random.key, got int"),
        ({"gain": np.nan}, "gain: expected a finite number, got nan"),
        ({"gain": "1"}, "gain: expected a finite number, got '1' of type str"),
        ({"gain": 1e39}, "gain: expected a finite number in float32, got 1e+39"),
        ({"batch_shape": 4}, "batch_shape: expected a tuple of sizes, got 4"),
        ({"batch_shape": (-1,)}, "batch_shape: expected at least 0, got -1"),
        ({"batch_shape": (2.0,)}, "batch_shape: expected a whole number, got 2.0"),
        ({"batch_shape": (10**12,)}, "the layer's parameters: expected at most"),
        ({"config": LayerConfig(heads=10**9, channels=10**9)}, "the layer's parameters: expected"),
        ({"config": LayerConfig(channels=10**12)}, "the layer's parameters: expected at most"),
    ],
)
def test_init_layer_refuses_what_it_cannot_draw(options, message):
    given = {"key": jax.random.key(0), "config": LayerConfig(), "num_features": 3} | options
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        init_layer(given.pop("key"), given.pop("config"), given.pop("num_features"), **given)


# --- networks and modules -------------------------------------------------------------------------


@pytest.mark.parametrize("configs", [(), LayerConfig(), None, ({},), (LayerConfig(), "gat")])
def test_configs_of_a_network_are_one_for_each_layer(configs):
    for call in (
        lambda: init_network(jax.random.key(0), configs, 3),
        lambda: apply_network((PARAMS["gat"],), GRAPH, configs),
    ):
        with pytest.raises(ValueError, match=r"^configs: expected "):
            call()


def test_parameters_of_one_layer_are_none_of_a_network():
    with pytest.raises(
        ValueError, match=r"^params: expected an entry for each of 1 layers, got GATP"
    ):
        apply_network(PARAMS["gat"], GRAPH, (LayerConfig(),))


@pytest.mark.parametrize("num_senders", [6, 9, 4])
def test_deep_networks_refuse_two_sets_of_nodes(num_senders):
    """Outputs are of receivers alone: the next layer would read them as the senders' features."""
    graph = GRAPH._replace(
        nodes=(np.ones((num_senders, 3), np.float32), GRAPH.nodes),
        senders=GRAPH.senders % num_senders,
    )
    configs = (LayerConfig(heads=1, channels=3),) * 2
    params = init_network(jax.random.key(0), configs, 3)
    message = "^nodes: expected one set of nodes in a network of more than one layer, got two$"
    with pytest.raises(ValueError, match=message):
        apply_network(params, graph, configs)
    with pytest.raises(ValueError, match=message):
        flax_nnx.GraphNetwork(configs, 3, rngs=flax_nnx.nnx.Rngs(0))(graph)
    one = jax.eval_shape(lambda: apply_network(params[:1], graph, configs[:1])[0])
    assert one.shape == (6, 3)


def test_linen_refuses_variables_of_another_form_or_config():
    layer = PARAMS["gat"]
    module = flax_linen.GAT(LayerConfig())
    wide = init_layer(jax.random.key(0), LayerConfig(heads=2), 3)
    for stored, message in (
        (layer._asdict(), "params: expected one of GATParams, .*, got dict"),
        (PARAMS["gcn"], "params: expected those of gat, got those of gcn"),
        (wide, "kernel: expected shape .*, got"),
        (layer._replace(bias=None), "bias: expected shape .*, got none"),
    ):
        with pytest.raises(ValueError, match=f"^{message}"):
            module.apply({"params": {"layer": stored}}, GRAPH)
    network = flax_linen.GraphNetwork((LayerConfig(),))
    for stored in (layer, (layer, layer), [layer._asdict()], {"0": layer}, (wide,)):
        with pytest.raises(ValueError, match=r"^params: expected|^kernel: expected shape"):
            network.apply({"params": {"layers": stored}}, GRAPH)
    with pytest.raises(ValueError, match=r"^nodes: expected shape \[N, F\], got \(6,\)"):
        module.init(jax.random.key(0), GRAPH._replace(nodes=np.ones(6, np.float32)))
    for classes in (flax_linen, flax_nnx):
        with pytest.raises(ValueError, match=r"^config: expected a LayerConfig, got dict"):
            classes.GCN({}, *([3] if classes is flax_nnx else []))


# --- whole numbers --------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [2**40, -(2**62), 2**24 + 2])
def test_whole_numbers_of_64_bits_that_float32_holds_reach_the_layer(value):
    """JAX itself would cut them to 32 bits: 2^40 would be 0."""
    params = GATParams(*(jnp.ones(shape) for shape in ((1, 1, 1), (1, 1), (1, 1))))
    nodes = np.full((6, 1), value)
    out, _ = gat(params, GRAPH._replace(nodes=nodes))
    has_edges = np.isin(np.arange(6), GRAPH.receivers)
    np.testing.assert_array_equal(np.asarray(out)[has_edges], np.float32(value))
    with pytest.raises(ValueError, match=r"^nodes: .*float32 holds .* got 16777217 at \[0, 0\]"):
        gat(params, GRAPH._replace(nodes=nodes * 0 + 2**24 + 1))
