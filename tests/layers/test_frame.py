"""What layers refuse before they compute: wrong ids, parameters, settings, edge features."""

import re

import chex
import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gat_jax.graphs import TwinPairs, datasets
from gat_jax.kernels import check_traced_ends, make_layout
from gat_jax.layers import (
    LayerConfig,
    LayerSettings,
    apply_layer,
    apply_network,
    gat,
    gatv2,
    gcn,
    init_layer,
    init_network,
    jraph_gat,
)
from gat_jax.symmetry import (
    equal_nodes,
    normalised_entropy,
    normalised_entropy_deficit,
    pair_causes,
    propagate_equality,
    row_signs,
)
from gat_jax.training import TrainConfig, TrainTask, make_task, train_run
from gat_jax.training.history import measure_layer

# What users get wrong has to be refused in words: they have no checks of annotations.
pytestmark = pytest.mark.usefixtures("unchecked")

FUNCTIONS = {"gat": gat, "gatv2": gatv2, "gcn": gcn}
GRAPH = datasets.random_graph(0, num_nodes=6, num_edges=15, num_features=3)
WITH_EDGES = datasets.random_graph(
    0, num_nodes=6, num_edges=15, num_features=3, num_edge_features=2
)
PARAMS = {name: init_layer(jax.random.key(0), LayerConfig(layer=name), 3) for name in FUNCTIONS}
INFO = gat(PARAMS["gat"], GRAPH)[1]
PAIRS = TwinPairs(np.array([0], np.int32), np.array([2], np.int32), np.array([False]))
LAYOUTS = {name: make_layout(GRAPH, name) for name in ("segment", "bucketed", "fused")}


def shapes(function):
    """What a call would return: all checks, and no computing. What it closes over is not traced."""
    return jax.eval_shape(function)


def with_ids(field, index, value, *, as_jax=False):
    ids = getattr(GRAPH, field).copy()
    ids[index] = value
    return GRAPH._replace(**{field: jnp.asarray(ids) if as_jax else ids})


# --- ids ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("as_jax", [False, True], ids=["numpy", "jax"])
@pytest.mark.parametrize("value", [6, -1, 2**30, -(2**31)])
@pytest.mark.parametrize("field", ["senders", "receivers"])
@pytest.mark.parametrize("layer", FUNCTIONS)
def test_ids_out_of_range_are_refused_outside_of_jit(layer, field, value, as_jax):
    graph = with_ids(field, 4, value, as_jax=as_jax)
    message = re.escape(f"{field}: expected ids in [0, 6), got {value}")
    for _ in range(2):  # the second time the range of JAX's array is known
        with pytest.raises(ValueError, match=message):
            shapes(lambda: FUNCTIONS[layer](PARAMS[layer], graph))
    for name, layout in LAYOUTS.items():
        with pytest.raises(ValueError, match=message):
            make_layout(graph, name)
        with pytest.raises(ValueError, match="layout: expected one made of this graph's edges"):
            shapes(lambda layout=layout: FUNCTIONS[layer](PARAMS[layer], graph, layout=layout))


SUMS_OVER_EDGES = {
    "network": lambda graph: apply_network((PARAMS["gat"],), graph, (LayerConfig(),)),
    "equal_nodes": lambda graph: equal_nodes(PARAMS["gat"], graph),
    "propagate_equality": lambda graph: propagate_equality(INFO, graph, np.arange(6)),
    "jraph_gat": lambda graph: jraph_gat.gat(lambda x: x[:, None], lambda s, r, e: s[..., :1])(
        graph
    ),
    "row_signs": lambda graph: row_signs(INFO, graph),
    "pair_causes": lambda graph: pair_causes(INFO, graph, PAIRS),
    "measure_layer": lambda graph: measure_layer(INFO, graph, PAIRS, slope=0.2),
    "entropy": lambda graph: normalised_entropy(INFO.attention, graph.receivers, 6),
    "deficit": lambda graph: normalised_entropy_deficit(INFO.attention, graph.receivers, 6),
    "training": lambda graph: train_run(
        (PARAMS["gat"],),
        task=TrainTask(graph, np.zeros(6, int), np.ones(6, bool), PAIRS),
        configs=(LayerConfig(),),
        config=TrainConfig("sgd", 1),
    ),
    "make_task": lambda graph: make_task(graph, np.zeros(6, int), np.ones(6, bool), PAIRS),
}


@pytest.mark.parametrize("field", ["senders", "receivers"])
@pytest.mark.parametrize("name", SUMS_OVER_EDGES)
def test_everything_that_sums_over_edges_refuses_ids_out_of_range(name, field):
    call = SUMS_OVER_EDGES[name]
    if field == "senders" and name in ("entropy", "deficit"):
        return  # senders play no part
    with pytest.raises(ValueError, match=rf"{field}: expected ids in \[0, 6\), got 6"):
        call(with_ids(field, -1, 6))


def test_ids_that_are_no_vectors_of_whole_numbers_are_refused_traced_too():
    for ids in (GRAPH.senders.astype(np.float32), GRAPH.senders > 2, GRAPH.senders[:, None]):
        graph = GRAPH._replace(senders=ids)
        with pytest.raises(ValueError, match="senders"):
            gat(PARAMS["gat"], graph)
        with pytest.raises(ValueError, match="senders"):
            jax.eval_shape(gat, PARAMS["gat"], graph)


def test_jit_checks_nothing_and_chexify_checks_while_it_runs():
    graph = with_ids("senders", 3, 7)
    assert jax.eval_shape(gat, PARAMS["gat"], graph)[0].shape == (6, 2)

    @jax.jit
    def step(graph):
        check_traced_ends(graph)
        return gat(PARAMS["gat"], graph)[0]

    checked = chex.chexify(step, async_check=False)
    np.testing.assert_array_equal(checked(GRAPH), gat(PARAMS["gat"], GRAPH)[0])
    with pytest.raises(Exception, match=r"senders: expected ids in \[0, 6\), got 7"):
        checked(graph)


@pytest.mark.parametrize("layer", FUNCTIONS)
def test_a_layout_of_edges_that_changed_in_place_is_refused(layer):
    graph = GRAPH._replace(senders=GRAPH.senders.copy())
    layout = make_layout(graph, "bucketed")
    shapes(lambda: FUNCTIONS[layer](PARAMS[layer], graph, layout=layout))
    graph.senders[0] = (graph.senders[0] + 1) % 6
    with pytest.raises(ValueError, match="this graph's edges, got one with other senders"):
        shapes(lambda: FUNCTIONS[layer](PARAMS[layer], graph, layout=layout))
    ours, theirs = (jax.tree.map(jnp.asarray, x) for x in (graph, layout))
    for _ in range(2):
        with pytest.raises(ValueError, match="this graph's edges, got one with other senders"):
            shapes(lambda: FUNCTIONS[layer](PARAMS[layer], ours, layout=theirs))


# --- edge features --------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", FUNCTIONS)
def test_edge_features_that_a_layer_would_ignore_are_refused(layer):
    message = r"edges: expected none, as the layer has no parameters .*, got \(\d+, 2\)"
    with pytest.raises(ValueError, match=message):
        FUNCTIONS[layer](PARAMS[layer], WITH_EDGES)
    with pytest.raises(ValueError, match=message):  # under jit as well: shapes are known there
        jax.eval_shape(FUNCTIONS[layer], PARAMS[layer], WITH_EDGES)
    bare = WITH_EDGES._replace(edges=None)
    empty = WITH_EDGES._replace(edges=np.zeros((len(bare.senders), 0), np.float32))
    for graph in (bare, empty):
        shapes(lambda graph=graph: FUNCTIONS[layer](PARAMS[layer], graph))


def test_a_network_may_use_edge_features_in_some_layers():
    configs = (LayerConfig(num_edge_features=2), LayerConfig())
    params = init_network(jax.random.key(0), configs, 3)
    out, _ = apply_network(params, WITH_EDGES, configs)
    hidden, _ = gat(params[0], WITH_EDGES)
    bare = WITH_EDGES._replace(nodes=jax.nn.elu(hidden), edges=None)
    np.testing.assert_allclose(out, gat(params[1], bare)[0], rtol=1e-6)
    configs = (LayerConfig(), LayerConfig())
    with pytest.raises(ValueError, match="edges: expected none"):
        apply_network(init_network(jax.random.key(0), configs, 3), WITH_EDGES, configs)


# --- settings -------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [None, jax.random.key(1)], ids=["evaluation", "training"])
@pytest.mark.parametrize(
    ("name", "values", "range_in_words"),
    [
        ("attention_dropout", (1.5, -0.5, 1.0, np.nan, np.array([0.1, 1.1])), r"in \[0, 1\)"),
        ("feature_dropout", (1.5, -0.5, 1, jnp.float32(2.0), "0.5", None), r"in \[0, 1\)"),
        ("temperature", (0.0, -1.0, np.inf, np.nan, jnp.zeros(())), "above 0"),
        ("slope", (np.nan, np.inf, -np.inf, "a", 1j, True, [0.2], 10**400), ""),
        # What is in the range as it is written, and not in float32.
        ("temperature", (1e-300, np.float64(1e-50)), "above 0 in float32, got 1e-"),
        ("slope", (1e300, -1e39), "in float32, got "),
        ("feature_dropout", (0.99999999,), r"in \[0, 1\) in float32"),
        ("attention_dropout", (0.99999999,), r"in \[0, 1\) in float32"),
    ],
)
def test_settings_out_of_their_range_are_refused(name, values, range_in_words, key):
    for value in values:
        settings = LayerSettings(**{name: value})
        with pytest.raises(ValueError, match=f"{name}: expected a finite number ?{range_in_words}"):
            shapes(lambda settings=settings: gat(PARAMS["gat"], GRAPH, settings=settings, key=key))


# --- parameters -----------------------------------------------------------------------------------

RESTORED = flax.serialization.msgpack_restore(flax.serialization.to_bytes(PARAMS["gat"]))


@pytest.mark.parametrize(
    "params", [RESTORED, None, (), PARAMS["gat"].kernel], ids=["dict", "None", "tuple", "array"]
)
@pytest.mark.parametrize("call", [*FUNCTIONS.values(), apply_layer, equal_nodes])
def test_parameters_of_another_kind_are_refused(call, params):
    kind = "NoneType" if params is None else type(params).__name__
    with pytest.raises(ValueError, match=f"params: expected .*, got {kind}$"):
        call(params, GRAPH)


@pytest.mark.parametrize("other", FUNCTIONS)
@pytest.mark.parametrize("layer", FUNCTIONS)
def test_parameters_and_configs_of_another_layer_are_refused(layer, other):
    if layer == other:
        return
    with pytest.raises(ValueError, match="params: expected G"):
        FUNCTIONS[layer](PARAMS[other], GRAPH)
    with pytest.raises(
        ValueError, match=f"config: expected one of a {layer} layer, got .* {other}"
    ):
        FUNCTIONS[layer](PARAMS[layer], GRAPH, config=LayerConfig(layer=other))
    with pytest.raises(ValueError, match=f"params: expected those of {other}, got .* {layer}"):
        apply_layer(PARAMS[layer], GRAPH, config=LayerConfig(layer=other))


@pytest.mark.parametrize("params", [(RESTORED,), {"0": RESTORED}, (), PARAMS["gat"], RESTORED])
def test_a_network_refuses_what_is_not_an_entry_for_each_layer(params):
    with pytest.raises(ValueError, match="params: expected "):
        apply_network(params, GRAPH, (LayerConfig(),))


# --- numbers that become others -------------------------------------------------------------------


def wide(array, value):
    wide = np.array(array, np.float64)
    wide[(0,) * wide.ndim] = value
    return wide


def test_numbers_that_float32_does_not_hold_are_refused():
    params = PARAMS["gat"]
    cases = {
        "nodes": (params, GRAPH._replace(nodes=wide(GRAPH.nodes, 1e300))),
        "kernel": (params._replace(kernel=wide(params.kernel, -1e39)), GRAPH),
        "a_recv": (params._replace(a_recv=wide(params.a_recv, 1e39)), GRAPH),
    }
    for name, (weights, graph) in cases.items():
        with pytest.raises(ValueError, match=f"{name}: expected numbers that float32 holds, got"):
            gat(weights, graph)
    for dtype in (np.int64, np.uint32):
        whole = np.arange(18, dtype=dtype).reshape(6, 3)
        shapes(lambda whole=whole: gat(params, GRAPH._replace(nodes=whole)))
        whole[2, 1] = 2**24 + 1
        with pytest.raises(ValueError, match=r"nodes: expected whole numbers .*, got 167"):
            gat(params, GRAPH._replace(nodes=whole))
    with pytest.raises(ValueError, match="nodes: expected an array of real numbers, got complex64"):
        gat(params, GRAPH._replace(nodes=GRAPH.nodes.astype(np.complex64)))


@pytest.mark.usefixtures("x64")
def test_what_float64_holds_is_taken_in_64_bit_mode():
    graph = GRAPH._replace(nodes=wide(GRAPH.nodes, 1e300))
    shapes(lambda: gat(PARAMS["gat"], graph))
    whole = np.full((6, 3), 2**24 + 1)  # JAX makes float32 of whole numbers in this mode too
    with pytest.raises(ValueError, match="nodes: expected whole numbers that float32 holds"):
        gat(PARAMS["gat"], GRAPH._replace(nodes=whole))


@pytest.mark.parametrize(
    "mask",
    [np.ones(15, int), np.ones(14, bool), np.ones((15, 1), bool), [True] * 15],
    ids=["whole numbers", "too short", "matrix", "list"],
)
def test_masks_are_booleans_one_for_each_edge(mask):
    with pytest.raises(ValueError, match="edge_mask: expected "):
        gat(PARAMS["gat"], GRAPH, edge_mask=mask)
