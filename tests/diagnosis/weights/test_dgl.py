"""DGL's layers: their weights in our terms compute what DGL computes, by a plain NumPy oracle."""

import numpy as np
import pytest
from helpers import assert_close, fields, messy_graph, oracle_layer

from gat_jax.diagnosis.weights import FormOptions, dgl
from gat_jax.layers import GATParams, GATv2Params

GAT, TWO_SETS, GATV2 = dgl.FORMS
WIDTH, SLOPE = 3, 0.1
OPTIONS = FormOptions(slope=SLOPE)


def weights(seed, heads, channels, *, v2=False, **parts):
    """A state dict of DGL's; `parts` are shapes of further arrays."""
    rng = np.random.default_rng(seed)
    total = heads * channels
    shapes = {"fc.weight": (total, WIDTH), "attn_l": (1, heads, channels)}
    shapes["attn_r"] = (1, heads, channels)
    if v2:
        shapes = {"fc_src.weight": (total, WIDTH), "fc_dst.weight": (total, WIDTH)}
        shapes["attn"] = (1, heads, channels)
    return {key: rng.normal(size=shape) for key, shape in (shapes | parts).items()}


def attend(scores, values, graph):
    """Softmax over the edges that arrive at a node, and the sum of the values of their sources."""
    attention, out = np.zeros_like(scores), np.zeros((len(graph.nodes), *values.shape[1:]))
    for node in set(np.asarray(graph.receivers).tolist()):
        edges = [e for e, receiver in enumerate(graph.receivers) if receiver == node]
        for head in range(scores.shape[1]):
            raised = np.exp(scores[edges, head] - scores[edges, head].max())
            attention[edges, head] = raised / raised.sum()
            for edge in edges:
                source = graph.senders[edge]
                out[node, head] += attention[edge, head] * values[source, head]
    return attention, out


def dgl_layer(state, graph, *, is_identity=False):
    """What DGL's modules return, [N, H, C] before heads are merged, with the attention [E, H].

    el is the source's part and er the destination's; edges run from source to destination.
    """
    x, v2 = np.asarray(graph.nodes, np.float64), "attn" in state
    _, heads, channels = state["attn" if v2 else "attn_l"].shape
    project = {
        key: (x @ state[f"{key}.weight"].T + state.get(f"{key}.bias", 0)).reshape(
            -1, heads, channels
        )
        for key in ("fc", "fc_src", "fc_dst", "res_fc")
        if f"{key}.weight" in state
    }
    source = project["fc_src" if v2 else "fc"]
    if v2:
        both = source[graph.senders] + project["fc_dst"][graph.receivers]
        scores = (np.where(both > 0, both, SLOPE * both) * state["attn"]).sum(-1)
    else:
        el, er = ((source * state[key]).sum(-1) for key in ("attn_l", "attn_r"))
        sums = el[graph.senders] + er[graph.receivers]
        scores = np.where(sums > 0, sums, SLOPE * sums)
    attention, out = attend(scores, source, graph)
    out = out + project.get("res_fc", 0)
    if is_identity:
        out = out + x.reshape(-1, heads, channels)
    return out + state.get("bias", np.zeros(heads * channels)).reshape(heads, channels), attention


def assert_same_layer(form, state, *, options=OPTIONS, is_identity=False):
    graph = messy_graph(0)
    arrays = {key: array.astype(np.float32) for key, array in state.items()}
    layer = form.read("conv", arrays, options)
    expected, attention = dgl_layer(state, graph, is_identity=is_identity)
    merged = expected.reshape(len(expected), -1) if layer.config.concat else expected.mean(1)
    kind = type(layer.params)
    slope = float(layer.settings.slope)
    found = oracle_layer(kind, fields(layer.params), graph, config=layer.config, slope=slope)
    assert_close(found["nodes"], merged, 1e-6)
    assert_close(found["attention"], attention, 1e-6)
    assert not layer.replaces_self_loops
    assert layer.config.initializer == "dgl"
    return layer


@pytest.mark.parametrize("concat", [True, False])
@pytest.mark.parametrize(
    "parts",
    [
        {},
        {"bias": (6,)},
        {"res_fc.weight": (6, WIDTH), "res_fc.bias": (6,)},
        {"res_fc.weight": (6, WIDTH), "bias": (6,)},  # as before 2.0
        {"res_fc.weight": (6, WIDTH), "res_fc.bias": (6,), "bias": (6,)},
        {"res_fc.weight": (6, WIDTH)},
    ],
    ids=str,
)
def test_a_gat_computes_what_dgl_does(parts, concat):
    options = OPTIONS._replace(concat=concat)
    layer = assert_same_layer(GAT, weights(1, 2, 3, **parts), options=options)
    assert isinstance(layer.params, GATParams)
    assert layer.config.concat is concat


@pytest.mark.parametrize("concat", [True, False])
@pytest.mark.parametrize("has_residual", [False, True])
@pytest.mark.parametrize("has_bias", [False, True])
def test_a_gatv2_computes_what_dgl_does(has_bias, has_residual, concat):
    keys = ["fc_src", "fc_dst", *(["res_fc"] if has_residual else [])]
    parts = {f"{key}.bias": (6,) for key in keys} if has_bias else {}
    parts |= {"res_fc.weight": (6, WIDTH)} if has_residual else {}
    state = weights(2, 2, 3, v2=True, **parts)
    layer = assert_same_layer(GATV2, state, options=OPTIONS._replace(concat=concat))
    assert isinstance(layer.params, GATv2Params)
    assert not layer.config.share_weights


@pytest.mark.parametrize("parts", [{}, {"fc_src.bias": (6,), "fc_dst.bias": (6,)}], ids=str)
def test_a_gatv2_that_shares_its_projection_is_known_by_equal_arrays(parts):
    state = weights(3, 2, 3, v2=True, **parts)
    state["fc_dst.weight"] = state["fc_src.weight"]
    if not parts:
        assert assert_same_layer(GATV2, state).config.share_weights
        return
    assert not assert_same_layer(GATV2, state).config.share_weights
    state["fc_dst.bias"] = state["fc_src.bias"]
    assert assert_same_layer(GATV2, state).config.share_weights


@pytest.mark.parametrize("concat", [True, False])
@pytest.mark.parametrize(("form", "v2"), [(GAT, False), (GATV2, True)])
def test_an_identity_residual_is_an_option(form, v2, concat):
    state = weights(4, 3, 1, v2=v2)
    options = OPTIONS._replace(residual=True, concat=concat)
    assert_same_layer(form, state, options=options, is_identity=True)
    assert form.read("conv", state, OPTIONS).params.residual_kernel is None
    # Where widths differ there can be none.
    wide = weights(4, 3, 2, v2=v2)
    assert form.read("conv", wide, options).params.residual_kernel is None


def test_two_sets_of_nodes_have_a_projection_each():
    state = weights(5, 2, 3, **{"fc_src.weight": (6, 4), "fc_dst.weight": (6, 5), "bias": (6,)})
    del state["fc.weight"]
    layer = TWO_SETS.read("conv", state, OPTIONS)
    assert layer.config.num_receiver_features == 5
    x_send, x_recv = np.arange(4.0), np.arange(5.0)
    for x, kernel, key in (
        (x_send, layer.params.kernel, "fc_src.weight"),
        (x_recv, layer.params.kernel_recv, "fc_dst.weight"),
    ):
        projected = np.einsum("f,fhc->hc", x, np.asarray(kernel))
        assert_close(projected.reshape(-1), state[key] @ x, 1e-6)


@pytest.mark.parametrize(
    ("form", "changes", "options", "message"),
    [
        (
            GAT,
            {"attn_l": (2, 3)},
            {},
            r"conv\.attn_l: expected shape \[1, any, any\], got \[2, 3\]",
        ),
        (GAT, {"attn_r": (1, 3, 2)}, {}, r"attn_r: expected shape \[1, 2, 3\], got \[1, 3, 2\]"),
        (GAT, {"fc.weight": (5, 3)}, {}, r"fc\.weight: expected shape \[6, any\], got \[5, 3\]"),
        (GAT, {"fc.weight": (6, 0)}, {}, r"fc\.weight: expected shape \[6, any\], got \[6, 0\]"),
        (GAT, {"bias": (3,)}, {}, r"conv\.bias: expected shape \[6\], got \[3\]"),
        (GAT, {"res_fc.weight": (6, 4)}, {}, r"conv\.res_fc\.weight: expected 3 input .* got 4"),
        (GAT, {"res_fc.bias": (6,)}, {}, "conv: expected res_fc.weight beside res_fc.bias"),
        (GAT, {}, {"heads": 4}, "heads: expected 2, as conv has them, got 4"),
        (GATV2, {"attn": (1, 1, 0)}, {}, r"attn: expected shape \[1, any, any\], got \[1, 1, 0\]"),
        (GATV2, {"fc_src.bias": (6,)}, {}, "conv: expected fc_src.bias and fc_dst.bias, got one"),
    ],
)
def test_what_does_not_fit_is_refused(form, changes, options, message):
    state = weights(6, 2, 3, v2=form is GATV2, **changes)
    with pytest.raises(ValueError, match=message):
        form.read("conv", state, OPTIONS._replace(**options))
