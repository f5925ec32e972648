"""Every form of PyTorch Geometric's weights, against its own layers on directed graphs."""

import functools

import jax
import jax.numpy as jnp
import jraph
import numpy as np
import pytest
from helpers import messy_graph

from gat_jax.diagnosis.models.loops import attended_graph
from gat_jax.diagnosis.weights import pyg
from gat_jax.diagnosis.weights.forms import FormOptions
from gat_jax.layers import apply_layer

SLOPE = 0.3
RECENT = ("lin.weight", "att_src", "att_dst")


def named(**renamed):
    """A function that gives arrays other names; arrays that are not named stay as they are."""

    def rename(arrays):
        rest = {key: array for key, array in arrays.items() if key not in RECENT}
        return rest | {key: arrays[old] for new, old in renamed.items() for key in new.split("|")}

    return rename


def as_before_1_6(arrays):
    both = np.concatenate([arrays["att_dst"], arrays["att_src"]], axis=-1)
    return {"weight": arrays["lin.weight"].T, "att": both, "bias": arrays["bias"]}


def without_lin_r(arrays):
    return {key: array for key, array in arrays.items() if not key.startswith("lin_r")}


OLD_NAMES = {
    "2.0": named(
        **{"lin_src.weight|lin_dst.weight": "lin.weight", "att_src": "att_src"}, att_dst="att_dst"
    ),
    "2.0, one copy": named(
        **{"lin_dst.weight": "lin.weight"}, att_src="att_src", att_dst="att_dst"
    ),
    "1.7": named(**{"lin_l.weight|lin_r.weight": "lin.weight"}, att_l="att_src", att_r="att_dst"),
    "1.7, one copy": named(**{"lin_l.weight": "lin.weight"}, att_l="att_src", att_r="att_dst"),
    "1.5": as_before_1_6,
}
CASES = {
    "gat": ("GATConv", {"heads": 3}, None),
    "gat, heads averaged": ("GATConv", {"heads": 2, "concat": False}, None),
    "gat, edges and residual": ("GATConv", {"heads": 2, "edge_dim": 2, "residual": True}, None),
    "gat, one head and no bias": ("GATConv", {"heads": 1, "bias": False}, None),
    "gat, two projections": ("GATConv", {"in_channels": (3, 3), "heads": 2}, None),
    **{f"gat of {name}": ("GATConv", {"heads": 3}, rename) for name, rename in OLD_NAMES.items()},
    "gat of 1.5, averaged": ("GATConv", {"heads": 2, "concat": False}, as_before_1_6),
    "gatv2": ("GATv2Conv", {"heads": 3}, None),
    "gatv2, all": (
        "GATv2Conv",
        {"heads": 2, "concat": False, "edge_dim": 2, "residual": True},
        None,
    ),
    "gatv2, shared": ("GATv2Conv", {"heads": 2, "share_weights": True}, None),
    "gatv2, one copy": ("GATv2Conv", {"heads": 2, "share_weights": True}, without_lin_r),
    "gatv2 without bias": ("GATv2Conv", {"heads": 1, "bias": False}, None),
    "gcn": ("GCNConv", {}, None),
    "gcn of 1.7": (
        "GCNConv",
        {},
        lambda arrays: {"weight": arrays["lin.weight"].T, "bias": arrays["bias"]},
    ),
}


def torch_layer(name, options):
    """A layer of float64 with random parameters, biases too."""
    import torch
    import torch_geometric.nn

    torch.manual_seed(0)
    slope = {} if name == "GCNConv" else {"negative_slope": SLOPE}
    options = {"in_channels": 3, "out_channels": 4} | slope | options
    layer = getattr(torch_geometric.nn, name)(**options).double()
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter)
    return layer


def arrays_of(layer, *, grad=False):
    """The state dict as arrays; with `grad`, the gradients in the same places."""
    state = layer.state_dict(keep_vars=True)
    return {key: (x.grad if grad else x).detach().numpy() for key, x in state.items()}


def form_of(arrays):
    keys = set(arrays)
    [form] = [f for f in pyg.FORMS if f.required <= keys <= f.required | f.optional]
    return form


@functools.partial(jax.jit, static_argnames="config")
def outputs_and_gradients(params, graph, weight, settings, config):
    """Outputs and attention, with the gradient of a weighted sum of the outputs."""

    def loss(params):
        out, info = apply_layer(params, graph, config=config, settings=settings)
        return jnp.sum(weight * out), (out, info.attention)

    gradients, (out, attention) = jax.grad(loss, has_aux=True)(params)
    return out, attention, gradients


def by_edge(senders, receivers, attention):
    """Rows of attention in one order; parallel edges by their attention."""
    return attention[np.lexsort((attention[:, 0].round(9), senders, receivers))]


@pytest.mark.torch
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("case", CASES)
def test_forms_read_what_the_layers_of_pyg_compute(case):
    import torch

    name, options, rename = CASES[case]
    rename = rename or (lambda arrays: arrays)
    layer = torch_layer(name, options)
    graph = messy_graph(5, num_edge_features=2)
    ids = torch.tensor(np.stack([graph.senders, graph.receivers]).astype(np.int64))
    extra = [torch.tensor(graph.edges).double()] if "edge_dim" in options else []
    x = torch.tensor(graph.nodes).double()
    expected = layer(x, ids, *extra)
    weight = np.random.default_rng(1).normal(size=expected.shape)
    (torch.tensor(weight) * expected).sum().backward()

    arrays = rename(arrays_of(layer))
    form, form_options = form_of(arrays), FormOptions(slope=SLOPE)
    found = form.read("conv1", arrays, form_options)
    assert (found.name, found.system) == ("conv1", form.system)
    assert found.config.initializer == "pyg"
    wide = graph._replace(nodes=graph.nodes.astype(float), edges=graph.edges.astype(float))
    attended = attended_graph(found, wide)
    static = attended._replace(n_node=np.array([8]), n_edge=np.array([len(attended.senders)]))
    out, attention, gradients = outputs_and_gradients(
        found.params, static, weight, found.settings, found.config
    )
    np.testing.assert_allclose(out, expected.detach(), rtol=1e-9, atol=1e-9)
    wanted = form.read("conv1", rename(arrays_of(layer, grad=True)), form_options).params
    assert jax.tree.structure(gradients) == jax.tree.structure(wanted)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-9), gradients, wanted
    )
    if name != "GCNConv":
        _, (ends, alpha) = layer(x, ids, *extra, return_attention_weights=True)
        np.testing.assert_allclose(
            by_edge(attended.senders, attended.receivers, np.asarray(attention)),
            by_edge(*ends.numpy(), alpha.detach().numpy()),
            rtol=1e-8,
        )


@pytest.mark.torch
@pytest.mark.parametrize("case", [case for case, (*_, rename) in CASES.items() if rename is None])
def test_to_pyg_gives_the_state_that_was_read(case):
    import torch

    name, options, _ = CASES[case]
    layer = torch_layer(name, options).float()
    arrays = arrays_of(layer)
    state = pyg.to_pyg(form_of(arrays).read("", arrays, FormOptions(slope=SLOPE)))
    assert set(state) == set(arrays)
    for key, array in state.items():
        np.testing.assert_array_equal(array, arrays[key])
    again = torch_layer(name, options).float()
    again.load_state_dict({key: torch.from_numpy(x) for key, x in state.items()}, strict=True)


@pytest.mark.torch
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", ["GATConv", "GATv2Conv"])
def test_two_sets_of_nodes_are_read(name):
    import torch

    layer = torch_layer(name, {"in_channels": (3, 5), "heads": 2, "add_self_loops": False})
    rng = np.random.default_rng(2)
    senders, receivers = rng.integers(6, size=9), np.sort(rng.integers(4, size=9))
    sides = rng.normal(size=(6, 3)), rng.normal(size=(4, 5))
    ids = torch.tensor(np.stack([senders, receivers]))
    expected = layer(tuple(map(torch.tensor, sides)), ids).detach()
    arrays = arrays_of(layer)
    found = form_of(arrays).read("conv1", arrays, FormOptions(slope=SLOPE))
    assert found.config.num_receiver_features == 5
    graph = jraph.GraphsTuple(
        nodes=sides,
        edges=None,
        senders=senders,
        receivers=receivers,
        globals=None,
        n_node=np.array([4]),
        n_edge=np.array([9]),
    )
    out, _ = apply_layer(found.params, graph, config=found.config, settings=found.settings)
    np.testing.assert_allclose(out, expected, rtol=1e-9, atol=1e-9)
    assert set(pyg.to_pyg(found)) == set(arrays)


# --- arrays alone ---------------------------------------------------------------------------------


def gat_arrays(**changes):
    rng = np.random.default_rng(0)
    arrays = {
        "lin.weight": rng.normal(size=(4, 3)),
        "att_src": rng.normal(size=(1, 2, 2)),
        "att_dst": rng.normal(size=(1, 2, 2)),
    }
    return {key: x for key, x in (arrays | changes).items() if x is not None}


def read(arrays, **options):
    return form_of(arrays).read("conv1", arrays, FormOptions(**options))


def test_concat_comes_from_the_bias_or_the_residual_path_or_the_options():
    assert read(gat_arrays()).config.concat
    assert not read(gat_arrays(), concat=False).config.concat
    assert not read(gat_arrays(bias=np.zeros(2))).config.concat
    assert read(gat_arrays(bias=np.zeros(4))).config.concat
    assert not read(gat_arrays(**{"res.weight": np.zeros((2, 3))})).config.concat
    message = r"concat: expected False, as conv1.bias has shape \[2\], got True"
    with pytest.raises(ValueError, match=message):
        read(gat_arrays(bias=np.zeros(2)), concat=True)


def test_half_precision_becomes_float32():
    half = {key: array.astype(np.float16) for key, array in gat_arrays().items()}
    assert read(half).params.kernel.dtype == np.float32


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        (
            {"lin.weight": np.zeros((5, 3))},
            {},
            r"conv1.lin.weight: expected shape \[4, F\], got \[5, 3\]",
        ),
        (
            {"att_dst": np.zeros((1, 2, 3))},
            {},
            r"conv1.att_dst: expected shape \[1, 2, 2\], got \[1, 2, 3\]",
        ),
        ({"att_src": np.zeros((2, 2))}, {}, r"expected shape \[1, H, C\], got \[2, 2\]"),
        ({"att_src": np.zeros((1, 0, 2))}, {}, r"expected shape \[1, H, C\], got \[1, 0, 2\]"),
        ({"bias": np.zeros(3)}, {}, r"conv1.bias: expected shape \[4\], got \[3\]"),
        (
            {"att_src": np.full((1, 2, 2), np.nan)},
            {},
            r"conv1.att_src: expected finite numbers, got nan at \[0, 0, 0\]",
        ),
        ({}, {"heads": 3}, "heads: expected 2, as conv1 has them, got 3"),
        (
            {"att_edge": np.zeros((1, 2, 2))},
            {},
            "conv1: expected lin_edge.weight and att_edge together, got one of them",
        ),
        (
            {key: None for key in RECENT} | {"weight": np.ones((3, 2)), "att": np.ones((1, 2, 3))},
            {},
            "conv1.att: expected an even number of columns, got 3",
        ),
        (
            {key: None for key in RECENT}
            | {
                "lin_l.weight": np.ones((4, 3)),
                "att": np.ones((1, 2, 2)),
                "lin_r.bias": np.ones(4),
            },
            {},
            "conv1: expected lin_l and lin_r with the same parts, got others",
        ),
    ],
)
def test_arrays_that_do_not_fit_are_refused(changes, options, message):
    with pytest.raises(ValueError, match=message):
        read(gat_arrays(**changes), **options)


def test_forms_tell_layers_apart_by_their_keys():
    for form in pyg.FORMS:
        for other in pyg.FORMS:
            fits = other.required <= form.required <= other.required | other.optional
            assert fits == (form is other)


def test_to_pyg_refuses_what_pyg_has_not():
    layer = read(gat_arrays())
    biased = layer.params._replace(bias=jnp.zeros((2, 2)))
    message = "bias: expected none, as PyG's GATConv projects without, got one"
    with pytest.raises(ValueError, match=message):
        pyg.to_pyg(layer._replace(params=biased))
    cold = layer._replace(settings=layer.settings._replace(temperature=2.0))
    with pytest.raises(ValueError, match="settings: expected one slope and a temperature of 1"):
        pyg.to_pyg(cold)
    gcn = read({"lin.weight": np.ones((2, 3))})
    mean = gcn._replace(config=type(gcn.config)("gcn", use_bias=False))
    with pytest.raises(ValueError, match="gcn_normalization: expected symmetric, as in PyG, got m"):
        pyg.to_pyg(mean)
    residual = gcn._replace(params=gcn.params._replace(residual_kernel=jnp.zeros((3, 2))))
    with pytest.raises(ValueError, match="residual_kernel: expected none, as PyG's GCNConv"):
        pyg.to_pyg(residual)


def test_to_pyg_gives_gatv2_its_three_biases_or_none():
    arrays = {"lin_l.weight": np.ones((4, 3)), "att": np.ones((1, 2, 2))}
    layer = read(arrays)
    assert set(pyg.to_pyg(layer)) == {"att", "lin_l.weight", "lin_r.weight"}
    params = layer.params._replace(output_bias=jnp.ones(4))
    state = pyg.to_pyg(layer._replace(params=params))
    for key, expected in (("bias", 1.0), ("lin_l.bias", 0.0), ("lin_r.bias", 0.0)):
        np.testing.assert_array_equal(state[key], np.full(4, expected))
