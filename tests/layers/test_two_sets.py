"""Graphs of two sets of nodes: those that send and those that receive."""

import chex
import jax
import jax.numpy as jnp
import jraph
import numpy as np
import pytest
from helpers import from_torch, random_params

from gat_jax.kernels import SparseFeatures, check_traced_ends, from_dense, make_layout
from gat_jax.layers import (
    GATParams,
    GATv2Params,
    LayerConfig,
    LayerShape,
    apply_layer,
    flax_linen,
    gcn,
    init_layer,
)
from gat_jax.symmetry import row_signs

NUM_SENDERS, NUM_RECEIVERS, NUM_EDGES = 7, 5, 16
RNG = np.random.default_rng(0)
SENDERS = RNG.integers(NUM_SENDERS, size=NUM_EDGES).astype(np.int32)
RECEIVERS = np.sort(RNG.integers(NUM_RECEIVERS - 1, size=NUM_EDGES)).astype(np.int32)
EDGES = RNG.normal(size=(NUM_EDGES, 2)).astype(np.float32)
SENT = RNG.normal(size=(NUM_SENDERS, 3)).astype(np.float32)
RECEIVED = RNG.normal(size=(NUM_RECEIVERS, 4)).astype(np.float32)


def two_sets(received=RECEIVED, edges=None):
    return jraph.GraphsTuple(
        nodes=(SENT, received),
        edges=edges,
        senders=SENDERS,
        receivers=RECEIVERS,
        globals=None,
        n_node=np.array([NUM_RECEIVERS]),
        n_edge=np.array([NUM_EDGES]),
    )


def config_of(layer, **options):
    return LayerConfig(layer, heads=2, channels=3, num_receiver_features=4, **options)


def as_one_set(params, graph):
    """The same layer on one set of nodes, senders first, and features side by side.

    Biases would be added to receivers and senders alike, as they are in two sets.
    """
    sent, received = graph.nodes
    nodes = np.zeros((NUM_SENDERS + NUM_RECEIVERS, 7), np.float32)
    nodes[:NUM_SENDERS, :3], nodes[NUM_SENDERS:, 3:] = sent, received
    kernel = np.concatenate([params[0], params.kernel_recv])
    changes = {params._fields[0]: kernel}
    changes["kernel_recv"] = kernel if isinstance(params, GATv2Params) else None
    if params.residual_kernel is not None:
        none = np.zeros((3, params.residual_kernel.shape[1]), np.float32)
        changes["residual_kernel"] = np.concatenate([none, params.residual_kernel])
    one = graph._replace(nodes=nodes, receivers=graph.receivers + NUM_SENDERS)
    return params._replace(**changes), one


@pytest.mark.few(2)
@pytest.mark.parametrize("layout", ["segment", "bucketed", "fused"])
@pytest.mark.parametrize("num_edge_features", [0, 2])
@pytest.mark.parametrize("layer", ["gat", "gatv2"])
def test_two_sets_are_one_set_with_features_side_by_side(layer, num_edge_features, layout):
    config = config_of(layer, num_edge_features=num_edge_features, use_residual=True)
    params = random_params(1, config, 3)
    graph = two_sets(edges=EDGES if num_edge_features else None)
    prepared = make_layout(graph, layout)
    weight = RNG.normal(size=(NUM_RECEIVERS, 6))

    def loss(params, nodes, layout):
        out, info = apply_layer(params, graph._replace(nodes=nodes), config=config, layout=layout)
        return jnp.sum(jnp.asarray(weight, out.dtype) * out), (out, info)

    compute = jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))
    (_, (out, info)), gradients = compute(params, graph.nodes, prepared)
    one_params, one = as_one_set(params, graph)
    expected, expected_info = apply_layer(one_params, one)
    np.testing.assert_allclose(out, expected[NUM_SENDERS:], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(info.attention, expected_info.attention, rtol=1e-4, atol=1e-5)
    assert out.shape == (NUM_RECEIVERS, 6)
    assert info.sender_scores.shape[0] == NUM_SENDERS
    assert info.receiver_scores.shape[0] == NUM_RECEIVERS
    _, plain = compute(params, graph.nodes, make_layout(graph, "segment"))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4), gradients, plain
    )
    signs, one_signs = row_signs(info, graph, layout=prepared), row_signs(expected_info, one)
    for a, b in zip(signs[:3], one_signs[:3], strict=True):
        np.testing.assert_array_equal(a, b[NUM_SENDERS:])


def test_dropout_of_the_two_sets_is_drawn_apart_and_sparse_features_are_taken():
    config = config_of("gat")
    params = random_params(1, config, 3)
    graph = two_sets()
    sparse = graph._replace(nodes=(from_dense(SENT), from_dense(RECEIVED)))
    assert isinstance(sparse.nodes[0], SparseFeatures)
    expected, _ = apply_layer(params, graph)
    np.testing.assert_allclose(apply_layer(params, sparse)[0], expected, rtol=1e-5, atol=1e-6)
    module = flax_linen.GAT(config)
    variables = module.init(jax.random.key(0), graph)
    assert variables["params"]["layer"].kernel_recv.shape == (4, 2, 3)


@pytest.mark.torch
@pytest.mark.parametrize("shares", [False, True], ids=["two projections", "one projection"])
@pytest.mark.parametrize("num_edge_features", [0, 2])
@pytest.mark.parametrize("name", ["GATConv", "GATv2Conv"])
def test_two_sets_agree_with_pyg(name, num_edge_features, shares):
    import torch
    import torch_geometric.nn

    torch.manual_seed(0)
    received = RECEIVED[:, :3] if shares else RECEIVED
    graph = two_sets(received, EDGES if num_edge_features else None)
    options = {"share_weights": True} if shares and name == "GATv2Conv" else {}
    pyg = getattr(torch_geometric.nn, name)(
        3 if shares else (3, 4),
        3,
        heads=2,
        edge_dim=num_edge_features or None,
        add_self_loops=False,
        residual=True,
        **options,
    ).double()
    for parameter in pyg.parameters():
        torch.nn.init.normal_(parameter)
    ids = torch.tensor(np.stack([SENDERS, RECEIVERS]).astype(np.int64))
    pair = tuple(torch.tensor(x).double() for x in graph.nodes)
    edges = None if graph.edges is None else torch.tensor(graph.edges).double()
    expected = pyg(pair, ids, edges).detach().numpy()

    common = {
        "output_bias": from_torch(pyg.bias, -1),
        "residual_kernel": from_torch(pyg.res.weight, received.shape[1], -1),
    }
    if num_edge_features:
        common["edge_kernel"] = from_torch(pyg.lin_edge.weight, 2, 2, 3)
    if name == "GATConv":
        first = pyg.lin if shares else pyg.lin_src
        params = GATParams(
            kernel=from_torch(first.weight, 3, 2, 3),
            a_recv=from_torch(pyg.att_dst, 2, 3),
            a_send=from_torch(pyg.att_src, 2, 3),
            a_edge=from_torch(pyg.att_edge, 2, 3) if num_edge_features else None,
            kernel_recv=None if shares else from_torch(pyg.lin_dst.weight, 4, 2, 3),
            **common,
        )
    else:
        params = GATv2Params(
            kernel_send=from_torch(pyg.lin_l.weight, 3, 2, 3),
            a=from_torch(pyg.att, 2, 3),
            kernel_recv=None if shares else from_torch(pyg.lin_r.weight, 4, 2, 3),
            bias_send=from_torch(pyg.lin_l.bias, 2, 3),
            bias_recv=None if shares else from_torch(pyg.lin_r.bias, 2, 3),
            **common,
        )
    out, _ = apply_layer(params, graph)
    np.testing.assert_allclose(out, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.usefixtures("unchecked")
def test_two_sets_that_do_not_fit_are_refused():
    params = init_layer(jax.random.key(0), config_of("gat"), 3)
    graph = two_sets()
    cases = {
        r"nodes of senders: expected shape \[N, 3\], got \(7, 2\)": (SENT[:, :2], RECEIVED),
        r"senders: expected ids in \[0, 5\), got 6": (RECEIVED, RECEIVED),
        r"nodes of receivers: expected shape \[N, 4\], got \(7, 3\)": (SENT, SENT),
        r"nodes: expected an array of NumPy .*, or a pair of them, got tuple": (SENT,),
        r"nodes: expected a pair, .* num_receiver_features=4, got one array": SENT,
    }
    for message, nodes in cases.items():
        with pytest.raises(ValueError, match=message):
            apply_layer(params, graph._replace(nodes=nodes))
    for field in ("senders", "receivers"):
        wrong = np.full_like(SENDERS, NUM_SENDERS if field == "senders" else NUM_RECEIVERS)
        with pytest.raises(ValueError, match=rf"{field}: expected ids in \[0, "):
            apply_layer(params, graph._replace(**{field: wrong}))
    with pytest.raises(ValueError, match="num_receiver_features: expected 0 for gcn"):
        LayerConfig("gcn", num_receiver_features=2)
    with pytest.raises(ValueError, match="nodes: expected one set of nodes for gcn"):
        gcn(init_layer(jax.random.key(0), LayerConfig("gcn"), 3), two_sets(RECEIVED[:, :3]))


def test_traced_ids_are_checked_against_their_own_set():
    checked = chex.chexify(jax.jit(check_traced_ends), async_check=False)
    checked(two_sets())  # senders up to 6, in a pair of arrays
    for field, number in (("senders", NUM_SENDERS), ("receivers", NUM_RECEIVERS)):
        wrong = two_sets()._replace(**{field: np.full_like(SENDERS, number)})
        with pytest.raises(Exception, match=rf"{field}: expected ids in \[0, {number}\)"):
            checked(wrong)


def test_a_config_of_one_set_takes_two_sets_of_one_width():
    graph = two_sets(RECEIVED[:, :3])
    config = LayerShape(heads=2, channels=3)
    params = random_params(0, LayerConfig(heads=2, channels=3), 3)
    out, _ = apply_layer(params, graph, config=config)
    both = params._replace(kernel_recv=params.kernel)
    np.testing.assert_allclose(out, apply_layer(both, graph)[0], rtol=1e-5, atol=1e-6)
