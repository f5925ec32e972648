"""Live models of jraphx: on what was recorded, our layers return what theirs did."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from helpers import messy_graph
from recorded_layers import assert_reproduced

from gat_jax.diagnosis import diagnose
from gat_jax.diagnosis.models.flax import observe_flax

pytestmark = pytest.mark.torch  # which is for all of the extra `interop`


@pytest.fixture(autouse=True, scope="module")
def _ranks_of_jraphx():
    """Its layers add arrays of different ranks, which raises in the rest of the suite."""
    with jax.numpy_rank_promotion("allow"):
        yield


def arrays(num_edge_features=0, seed=3):
    """Features, edge index and edge features of a messy graph of eight nodes, shuffled."""
    graph = messy_graph(seed, num_edge_features=num_edge_features)
    order = np.random.default_rng(seed).permutation(len(graph.senders))
    ids = jnp.asarray(np.stack([graph.senders, graph.receivers])[:, order])
    edges = jnp.asarray(graph.edges[order]) if num_edge_features else None
    return jnp.asarray(graph.nodes), ids, edges


def randomised(module, seed=0):
    """The module with random numbers in all its parameters, biases too."""
    keys = nnx.Rngs(seed)
    for _, parameter in nnx.iter_graph(module):
        if isinstance(parameter, nnx.Param):
            parameter.set_value(0.5 * jax.random.normal(keys(), parameter.shape))
    return module


def made(name, *args, **options):
    import jraphx.nn

    return randomised(getattr(jraphx.nn, name)(*args, rngs=nnx.Rngs(0), **options))


@pytest.mark.parametrize("name", ["GATConv", "GATv2Conv"])
@pytest.mark.parametrize(
    "options",
    [
        {"heads": 2, "residual": True, "negative_slope": 0.4, "dropout": 0.6},
        {"heads": 3, "concat": False, "residual": True},
        {"heads": 2, "concat": False, "bias": False},
        {"heads": 2, "add_self_loops": False},
    ],
)
def test_layers_with_attention_are_read(name, options):
    x, ids, _ = arrays()
    model = observe_flax(made(name, 3, 2, **options), None, x, ids)
    assert_reproduced(model, name)
    [call] = model.layers
    assert call.layer.system == f"jraphx {name}"
    assert float(call.layer.settings.slope) == options.get("negative_slope", 0.2)
    loops = options.get("add_self_loops", True)
    assert call.layer.replaces_self_loops == loops
    num_loops = np.sum(np.asarray(call.graph.senders) == call.graph.receivers)
    assert num_loops == (8 if loops else np.sum(ids[0] == ids[1]))
    np.testing.assert_array_equal(model.outputs, call.outputs)
    np.testing.assert_array_equal(model.graph.nodes, x)
    assert len(model.graph.senders) == ids.shape[1]
    assert model.graph.edges is None


def test_shared_weights_are_one_map():
    x, ids, _ = arrays()
    model = observe_flax(made("GATv2Conv", 3, 2, heads=2, share_weights=True), None, x, ids)
    assert_reproduced(model, "GATv2Conv")
    assert model.layers[0].layer.config.share_weights


@pytest.mark.parametrize("name", ["GATConv", "GATv2Conv"])
@pytest.mark.parametrize("fill_value", ["mean", "max", "sum", 0.5])
def test_edge_features_are_read_with_those_of_the_loops(name, fill_value):
    x, ids, edges = arrays(2)
    assert np.any(ids[0] == ids[1])  # whose features count in those of the new loops
    conv = made(name, 3, 2, heads=2, edge_dim=2, fill_value=fill_value)
    model = observe_flax(conv, None, x, ids, edges)
    assert_reproduced(model, name)
    assert model.graph.edges.shape == (16, 2)
    without = observe_flax(conv, None, x, ids)
    assert_reproduced(without, name)
    assert without.layers[0].layer.config.num_edge_features == 0
    ignored = observe_flax(made(name, 3, 2), None, x, ids, edge_attr=edges)
    assert_reproduced(ignored, name)
    assert ignored.graph.edges is None


def test_edge_features_of_one_column_need_no_axis():
    x, ids, edges = arrays(1)
    conv = made("GATConv", 3, 2, edge_dim=1)
    assert_reproduced(observe_flax(conv, None, x, ids, edge_attr=edges[:, 0]), "GATConv")


@pytest.mark.parametrize("name", ["GATConv", "GATv2Conv"])
def test_a_layer_for_two_sets_is_read_on_one(name):
    x, ids, _ = arrays()
    conv = made(name, (3, 3), 2, heads=2)
    assert_reproduced(observe_flax(conv, None, x, ids), name)
    assert_reproduced(observe_flax(Paired(conv), None, x, ids), "conv")


class Paired(nnx.Module):
    """A layer that is given its nodes as senders and as receivers."""

    def __init__(self, conv, change=lambda x: (x, x)):
        self.conv, self.change = conv, change

    def __call__(self, x, edge_index):
        return self.conv(self.change(x), edge_index)


class Scaled(nnx.Module):
    """A layer in a model that is given something else between its nodes and its edges."""

    def __init__(self, conv):
        self.conv = conv

    def __call__(self, x, scale, edge_index):
        return self.conv(scale * x, edge_index)


def test_edges_by_name_are_those_of_the_graph_after_other_arguments():
    x, ids, _ = arrays()
    model = observe_flax(Scaled(made("GATConv", 3, 2)), None, x, 2.0, edge_index=ids)
    assert_reproduced(model, "conv")


@pytest.mark.parametrize("improved", [False, True])
@pytest.mark.parametrize("add_self_loops", [False, True])
def test_weights_of_a_gcn_are_those_of_jraphx(add_self_loops, improved):
    x, ids, _ = arrays()
    weight = jnp.asarray(np.random.default_rng(0).random(16), jnp.float32).at[:3].set(0.0)
    conv = made("GCNConv", 3, 2, improved=improved, add_self_loops=add_self_loops)
    model = observe_flax(conv, None, x, ids, edge_weight=weight)
    assert_reproduced(model, "GCNConv")
    assert model.layers[0].layer.system == "jraphx GCNConv"
    assert model.graph.edges.shape == (16, 1)
    plain = observe_flax(conv, None, x, ids)
    assert_reproduced(plain, "GCNConv")
    assert (plain.layers[0].edge_weight is None) == (not improved or not add_self_loops)


class Mixed(nnx.Module):
    """What stands between layers; a layer that is called twice, one never, and one of no kind."""

    def __init__(self, rngs):
        from jraphx.nn import GATConv, GATv2Conv, GCNConv, SAGEConv

        self.first = GATConv(3, 2, heads=2, dropout=0.5, rngs=rngs)
        self.norm = nnx.BatchNorm(4, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)
        self.shared = GATv2Conv(4, 4, rngs=rngs)
        self.inner = nnx.List([SAGEConv(4, 4, rngs=rngs), GCNConv(4, 5, rngs=rngs)])
        self.unused = GATConv(3, 2, rngs=rngs)

    def __call__(self, x, edge_index):
        x = self.drop(self.norm(self.first(x, edge_index)))
        for _ in range(2):
            x = x + nnx.relu(self.shared(x, edge_index))
        return self.inner[1](self.inner[0](x, edge_index), edge_index)


def test_a_model_is_read_in_evaluation_and_left_as_it_was():
    from jraphx.nn import GATConv, GATv2Conv, GCNConv

    x, ids, _ = arrays()
    module = randomised(Mixed(nnx.Rngs(0)))
    before = jax.tree.leaves(nnx.state(module))
    calls = [cls.__call__ for cls in (GATConv, GATv2Conv, GCNConv)]
    model = observe_flax(module, None, x, ids)
    assert_reproduced(model, "first", "shared#1", "shared#2", "inner.1")
    assert model.notes == (
        "'unused' was not read: the model does not call it, or inside of a transformation.",
        "'inner.0' is a SAGEConv, which passes messages too; it is not diagnosed.",
    )
    for one, other in zip(before, jax.tree.leaves(nnx.state(module)), strict=True):
        assert (one == other).all()
    assert not module.drop.deterministic
    assert calls == [cls.__call__ for cls in (GATConv, GATv2Conv, GCNConv)]
    module.eval()
    np.testing.assert_array_equal(model.outputs, module(x, ids))


def test_models_of_jraphx_are_diagnosed():
    """Twins 2 and 3 receive from 0 and 1; the slope 1 makes them equal."""
    x = jnp.asarray([[1.0, 0.0], [0.0, 1.0], [2.0, 1.0], [-1.0, 3.0]])
    ids = jnp.asarray([[0, 1, 0, 1, 2, 3], [2, 2, 3, 3, 0, 1]])
    conv = made("GATConv", 2, 4, add_self_loops=False, negative_slope=1.0)
    with pytest.raises(ValueError, match="as the third argument and not by name"):
        diagnose.from_flax(conv, None, x=x, edge_index=ids)
    found = diagnose.from_flax(conv, None, x, ids, num_fresh=0)
    assert found.merged.nodes.tolist() == [2, 3]
    assert found.merged.reasons == ("linear", "linear")
    assert all(check.status == "pass" for check in found.checks if "reproduced" in check.name)
    whole = made("GAT", 3, 4, 2, out_features=3, heads=2, norm="batch_norm", dropout_rate=0.5)
    x, ids, _ = arrays()
    assert_reproduced(observe_flax(whole, None, x, ids), "convs.0", "convs.1")


def refusals():
    """Each case: the model, what it is called with in place of the usual, the message."""
    from jraphx.nn import GATConv, GCNConv, SAGEConv

    class Other(GATConv):
        def __call__(self, x, edge_index):
            return super().__call__(2 * x, edge_index)

    class OtherNorm(GCNConv):
        def gcn_norm(self, edge_index, *args, **kwargs):
            return super().gcn_norm(edge_index, *args, **kwargs)

    rngs = nnx.Rngs(0)
    conv, (x, ids, _) = made("GATConv", 3, 2), arrays()
    gcn = made("GCNConv", 3, 2, add_self_loops=False)
    nan = made("GATConv", 3, 2)
    nan.att_src.set_value(nan.att_src[...].at[0, 1].set(jnp.nan))

    class Jitted(Paired):
        def __call__(self, x, edge_index):
            return nnx.jit(lambda m, *args: m(*args))(self.conv, x, edge_index)

    class Unused(Paired):
        def __call__(self, x, edge_index):
            return x

    class OnVmap(Paired):
        def __call__(self, x, edge_index):
            return jax.vmap(lambda x: self.conv(x, edge_index))(x[None])[0]

    return {
        "forward": (
            Other(3, 2, rngs=rngs),
            {},
            "Other: expected a GATConv as jraphx has it, got O",
        ),
        "norm": (OtherNorm(3, 2, rngs=rngs), {}, "OtherNorm with another gcn_norm"),
        "cached": (made("GCNConv", 3, 2, cached=True), {}, "expected cached=False, got True"),
        "not normalised": (
            made("GCNConv", 3, 2, normalize=False, add_self_loops=False),
            {},
            "GCNConv: expected normalize=True, got False",
        ),
        "other layers": (
            nnx.List([SAGEConv(3, 2, rngs=rngs)])[0],
            {},
            "expected a call of a layer of gat_jax.layers or jraphx, outside of transformations "
            "such as jit, got a model of Linear, SAGEConv; parameters of functions, such as those "
            "of jraph.GAT and of its drop-in layers.jraph_gat, cannot be seen",
        ),
        "jit": (
            Jitted(conv),
            {},
            "module: expected a call with numbers, got one of GATConv inside of a transformation "
            "such as jit, vmap or remat; call the module without it",
        ),
        "not called": (
            Unused(conv),
            {},
            "module: expected a call of 'conv', got none: the model does not call it, or inside of "
            "a transformation such as jit",
        ),
        "vmap": (OnVmap(conv), {}, "conv: expected a call with numbers, got one inside of a trans"),
        "two sets": (Paired(conv, lambda x: (x, x + 1)), {}, "conv: x: expected one set of nodes"),
        "one side": (Paired(conv, lambda x: (x, None)), {}, "conv: x: expected one set of nodes"),
        "other nodes": (
            Paired(conv, lambda x: jnp.concatenate([x, x])),
            {},
            "conv: x: expected 8 rows, one for each node of the model's graph, got 16; ",
        ),
        "size": (conv, {"size": (8, 9)}, "GATConv: size: expected None or 8 nodes, got (8, 9)"),
        "static": (
            made("GCNConv", 3, 2, static_num_nodes=9),
            {},
            "GCNConv: static_num_nodes: expected None or 8 nodes, got 9",
        ),
        "weights": (nan, {}, "GATConv.att_src: expected finite numbers, got nan at [0, 0, 1]"),
        "inputs": (conv, {"x": x.at[1, 2].set(jnp.nan)}, "x: expected finite numbers, got nan at"),
        "ids": (conv, {"edge_index": ids + 4}, "edge_index: expected ids in [0, 8), got "),
        "floats": (conv, {"edge_index": ids * 1.0}, "edge_index: expected an integer dtype, got "),
        "a list": (conv, {"edge_index": ids.T}, "edge_index: expected shape [2, E], got [16, 2]"),
        "alone": (
            conv,
            {"edge_index": None},
            "graph: expected a jraph.GraphsTuple, or features before an edge_index [2, E], got "
            "ArrayImpl alone",
        ),
        "by name": (
            conv,
            {"x": None},
            "graph: expected a jraph.GraphsTuple, or features before an edge_index [2, E], as the "
            "third argument and not by name",
        ),
        "negative": (
            gcn,
            {"edge_weight": -jnp.ones(16)},
            "GCNConv: edge_weight: expected weights whose sum at each node is at least 0, got -",
        ),
    }


REFUSALS = (
    *("forward", "norm", "cached", "not normalised", "other layers", "jit", "vmap", "two sets"),
    *("one side", "other nodes", "size", "static", "weights", "inputs", "ids", "floats"),
    *("a list", "alone", "by name", "not called", "negative"),
)


@pytest.fixture(scope="module")
def refused_cases():
    return refusals()


@pytest.mark.parametrize("case", REFUSALS)
def test_what_is_not_diagnosed_is_refused_in_one_line(refused_cases, case):
    assert set(refused_cases) == set(REFUSALS)
    model, changes, message = refused_cases[case]
    x, ids, _ = arrays()
    inputs = {"x": x, "edge_index": ids} | changes
    x = inputs.pop("x")
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the message is compared below)
        observe_flax(model, None, x, **inputs)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
