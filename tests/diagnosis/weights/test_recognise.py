"""Layers among the weights of a model: which they are, in which order, and how heads are merged."""

import jax
import numpy as np
import pytest
from helpers import fields, random_params

from gat_jax.diagnosis.weights import (
    FormOptions,
    describe,
    read_arrays,
    read_layers,
    read_model,
    recognise,
)
from gat_jax.layers import GATParams, LayerConfig

# --- models of arrays -----------------------------------------------------------------------------


def state(name, shapes):
    """Random arrays of these shapes, under a name."""
    rng = np.random.default_rng(0)
    return {f"{name}{key}": rng.normal(size=x).astype(np.float32) for key, x in shapes.items()}


def pyg(name, width, heads, channels, *, bias="concat"):
    widths = {"concat": heads * channels, "mean": channels}
    shapes = {"lin.weight": (heads * channels, width)}
    shapes |= {key: (1, heads, channels) for key in ("att_src", "att_dst")}
    return state(name, shapes | ({"bias": (widths[bias],)} if bias else {}))


def dgl(name, width, heads, channels):
    shapes = {"fc.weight": (heads * channels, width), "bias": (heads * channels,)}
    return state(name, shapes | {key: (1, heads, channels) for key in ("attn_l", "attn_r")})


def gatv2(name, width, heads, channels):
    ends = {"lin_l.weight": (heads * channels, width), "lin_r.weight": (heads * channels, width)}
    return state(name, {**ends, "att": (1, heads, channels)})


NORM = state("norm.", {"weight": (8,), "bias": (8,), "running_mean": (8,)})
LINEAR = state("lin.", {"weight": (8, 8), "bias": (8,)})
GCN = state("gcn.", {"lin.weight": (8, 3), "bias": (8,)})


def names_of(arrays, **options):
    return [layer.name for layer in read_layers(arrays, **options)]


# --- which layers there are -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arrays", "system"),
    [
        (pyg("conv.", 3, 2, 4), "PyG GATConv (2.5 and later)"),
        (gatv2("conv.", 3, 2, 4), "PyG GATv2Conv"),
        (dgl("conv.", 3, 2, 4), "DGL GATConv"),
        (
            state("conv.", {"fc_src.weight": (8, 3), "fc_dst.weight": (8, 3), "attn": (1, 2, 4)}),
            "DGL GATv2Conv",
        ),
        (
            state("conv.", {"projection.weight": (8, 3), "projection.bias": (8,), "a": (2, 8)}),
            "UvA tutorial GAT (PyTorch)",
        ),
        (
            state("conv.", {"projection.kernel": (3, 8), "projection.bias": (8,), "a": (2, 8)}),
            "UvA tutorial GAT (JAX)",
        ),
        (state("conv.", {"weight": (3, 8), "att": (1, 2, 8)}), "PyG GATConv (1.5 and earlier)"),
        (state("conv.", {"kernel": (3, 2, 4), "a_recv": (2, 4), "a_send": (2, 4)}), "gat_jax GAT"),
        (state("conv.", {"kernel_send": (3, 2, 4), "a": (2, 4)}), "gat_jax GATv2"),
        (state("conv.", {"kernel": (3, 1, 8), "bias": (1, 8)}), "gat_jax GCN"),
        (state("conv.", {"lin.weight": (8, 3), "bias": (8,)}), "PyG GCNConv (2.0 and later)"),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
@pytest.mark.parametrize("prefix", ["conv.", "net.layers.0.", ""])
def test_a_layer_is_known_by_its_keys(arrays, system, prefix):
    renamed = {prefix + key.removeprefix("conv."): array for key, array in arrays.items()}
    (layer,) = read_layers(renamed)
    assert (layer.system, layer.name) == (system, prefix.removesuffix(".") or "layer")
    assert layer.params[0].shape[0] == 3
    assert layer.config.num_outputs == 8


def test_keys_of_other_modules_are_left_out_and_named():
    dense = state("dense.", {"kernel": (8, 8), "bias": (8,)})  # of Flax
    others = NORM | LINEAR | dense
    model = read_model(pyg("conv.", 3, 2, 4) | others)
    assert [layer.name for layer in model.layers] == ["conv"]
    assert set(model.unread) == set(others)


def test_modules_inside_of_a_block_with_a_layer_are_others():
    arrays = pyg("block.conv.", 3, 2, 4) | {f"block.{key}": x for key, x in (NORM | LINEAR).items()}
    assert names_of(arrays) == ["block.conv"]


def test_a_layer_without_a_prefix_stands_beside_other_modules():
    model = read_model(pyg("", 3, 2, 4) | NORM)
    assert [layer.name for layer in model.layers] == ["layer"]
    assert set(model.unread) == set(NORM)


def test_a_linear_map_is_a_layer_only_where_it_is_named():
    old = state("conv.", {"weight": (3, 8), "bias": (8,)})
    bare = state("gcn.", {"lin.weight": (8, 8)})
    arrays = pyg("gat.", 3, 2, 4) | old | bare
    assert names_of(arrays) == ["gat"]
    systems = [x.system for x in read_layers(arrays, layers=["conv", "gcn"])]
    assert systems == ["PyG GCNConv (1.7 and earlier)", "PyG GCNConv (2.0 and later)"]


def test_layers_of_several_systems_stand_in_one_model():
    assert names_of(GCN | pyg("gat.", 8, 2, 4) | dgl("last.", 8, 1, 2)) == ["gcn", "gat", "last"]


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_parameters_of_flax_are_read_from_a_file(tmp_path, suffix):
    config = LayerConfig(heads=2, channels=4, use_output_bias=True)
    params = random_params(0, config, 3)
    nested = {f"params/layers/0/{key}": x.astype(np.float32) for key, x in fields(params).items()}
    path = tmp_path / f"w{suffix}"
    if suffix == ".npz":
        np.savez(path, **nested)
    else:
        import safetensors.numpy

        safetensors.numpy.save_file(nested, path)
    (layer,) = read_layers(read_arrays(path))
    assert (layer.name, layer.system) == ("layers.0", "gat_jax GAT")
    assert (layer.config, layer.settings.slope) == (config, 0.2)
    (layer,) = read_layers(read_arrays(path), options=FormOptions(slope=0.05))
    assert layer.settings.slope == 0.05
    assert isinstance(layer.params, GATParams)
    jax.tree.map(np.testing.assert_array_equal, layer.params, params)


@pytest.mark.parametrize(
    "config",
    [
        LayerConfig(layer="gatv2", heads=2, use_output_bias=True, use_residual=True),
        LayerConfig(layer="gatv2", heads=2, share_weights=True),
        LayerConfig(layer="gat", heads=3, concat=False, use_bias=False, use_residual=True),
        LayerConfig(layer="gat", heads=2, num_edge_features=2, num_receiver_features=5),
        LayerConfig(layer="gcn", channels=4, use_output_bias=True),
    ],
    ids=str,
)
def test_our_parameters_give_back_their_configuration(config):
    params = random_params(0, config, 3)
    arrays = {key: array.astype(np.float32) for key, array in fields(params).items()}
    (layer,) = read_layers(arrays)
    assert layer.config == config


# --- order ----------------------------------------------------------------------------------------


def test_layers_are_ordered_as_one_counts():
    arrays = {}
    for k in (10, 2, 1, 11):
        arrays |= pyg(f"conv{k}.", 8, 2, 4)
    assert names_of(arrays) == ["conv1", "conv2", "conv10", "conv11"]


def test_an_order_in_which_widths_do_not_fit_is_repaired():
    arrays = pyg("a_out.", 8, 1, 2) | pyg("b_in.", 3, 2, 5) | pyg("c_mid.", 10, 2, 4)
    assert names_of(arrays) == ["b_in", "c_mid", "a_out"]


def test_layers_whose_widths_fit_in_no_order_stay_as_they_count():
    arrays = pyg("conv2.", 7, 1, 2) | pyg("conv1.", 3, 2, 5)
    assert names_of(arrays) == ["conv1", "conv2"]


def test_many_layers_whose_widths_do_not_fit_are_not_permuted():
    arrays = {}
    for k in range(12):
        arrays |= pyg(f"conv{k}.", 8, 2, 4)
    arrays |= pyg("odd.", 9, 2, 5)
    assert names_of(arrays) == [*(f"conv{k}" for k in range(12)), "odd"]


def test_names_and_order_may_be_given():
    arrays = pyg("conv1.", 3, 2, 4) | pyg("conv2.", 8, 2, 4) | pyg("extra.", 8, 2, 4)
    assert names_of(arrays, layers=["extra", "conv1"]) == ["extra", "conv1"]
    model = read_model(arrays, layers=["conv1"])
    assert {key.split(".")[0] for key in model.unread} == {"conv2", "extra"}


# --- heads ----------------------------------------------------------------------------------------


def merged(arrays, **options):
    return [x.config.concat for x in read_layers(arrays, options=FormOptions(**options))]


@pytest.mark.parametrize("width", [8, 4])
def test_the_next_layers_inputs_show_how_heads_are_merged(width):
    arrays = dgl("conv1.", 3, 2, 4) | dgl("conv2.", width, 1, 2)
    assert merged(arrays)[0] is (width == 8)
    # What widths show is not asked of the option, which is for the last layer.
    for concat in (True, False):
        assert merged(arrays | dgl("conv2.", width, 2, 2), concat=concat) == [width == 8, concat]


def test_a_bias_shows_how_heads_are_merged():
    assert merged(pyg("conv.", 3, 2, 4, bias="mean")) == [False]
    assert merged(pyg("conv.", 3, 2, 4, bias="concat")) == [True]
    assert merged(pyg("conv.", 3, 2, 4, bias=None)) == [True]
    assert merged(pyg("conv.", 3, 2, 4, bias=None), concat=False) == [False]
    # What a bias shows is not asked of the option either.
    assert merged(pyg("conv.", 3, 2, 4, bias="mean"), concat=True) == [False]
    assert merged(pyg("conv.", 3, 2, 4, bias="concat"), concat=False) == [True]


@pytest.mark.parametrize("concat", [True, False])
def test_where_our_arrays_show_nothing_the_option_says_how_heads_are_merged(concat):
    params = random_params(0, LayerConfig(layer="gat", heads=2, channels=4), 3)
    assert merged(fields(params), concat=concat) == [concat]


def test_heads_that_are_averaged_count_in_the_search_for_an_order():
    arrays = dgl("a_out.", 4, 1, 2) | dgl("b_in.", 3, 2, 4)
    assert names_of(arrays) == ["b_in", "a_out"]
    assert merged(arrays)[0] is False


# --- what is refused ------------------------------------------------------------------------------


def refuses(match, arrays, **options):
    with pytest.raises(ValueError, match=match) as error:
        read_layers(arrays, **options)
    text = str(error.value)
    assert len(text) < 700
    assert text.isprintable()


def without(arrays, *keys):
    return {key: array for key, array in arrays.items() if key not in keys}


def test_missing_keys_are_named_with_those_that_are_there():
    refuses(
        r"conv1: expected the keys of a layer, such as those of PyG GATConv \(2\.5 and later\) "
        r"\(att_dst, att_src, lin\.weight and possibly .*bias.*\), got att_src, bias, lin\.weight$",
        without(pyg("conv1.", 3, 2, 4), "conv1.att_dst") | pyg("conv2.", 8, 2, 4),
    )
    refuses("got attn_l, attn_r, bias", without(dgl("conv.", 3, 2, 4), "conv.fc.weight"))


def test_keys_that_a_layer_should_not_have_are_refused():
    arrays = pyg("conv.", 3, 2, 4)
    refuses("conv: expected .*got att_dst, .*, gamma", arrays | state("conv.", {"gamma": (1,)}))
    refuses("conv: expected .*lin.bias", arrays | state("conv.", {"lin.bias": (8,)}))


def test_weights_without_a_layer_list_what_was_found_and_expected():
    refuses(
        r"weights: expected the keys of PyG GATConv \(att_dst, att_src, lin\.weight\), .*DGL "
        r"GATConv \(.*\), UvA .*, gat_jax GATv2 \(a, kernel_send\), got norm\.weight, norm\.bias",
        NORM | LINEAR,
    )
    refuses(
        r"got k0\.weight, .* and 88 more$", {f"k{k}.weight": np.ones(1, "f") for k in range(100)}
    )


def test_wrong_shapes_are_refused_by_key():
    refuses(
        r"conv\.lin\.weight: expected shape \[8, F\], got \[9, 3\]",
        pyg("conv.", 3, 2, 4) | state("conv.", {"lin.weight": (9, 3)}),
    )
    refuses(
        r"layer\.a_send: expected shape \(2, 4\), got \(2, 5\)",
        state("", {"kernel": (3, 2, 4), "a_recv": (2, 4), "a_send": (2, 5)}),
    )


def test_numbers_that_are_not_finite_are_refused_here_too():
    bad = pyg("conv.", 3, 2, 4) | {"conv.bias": np.full(8, np.nan)}
    refuses(r"conv\.bias: expected finite numbers, got nan at \[0\]", bad)


def test_names_that_are_not_there_are_refused():
    arrays = pyg("conv.", 3, 2, 4) | NORM
    refuses(
        "layers: expected names among conv, conv.lin, layer, norm, got 'x'", arrays, layers=["x"]
    )
    refuses("norm: expected the keys of a layer", arrays, layers=["norm"])


def test_systems_with_the_same_keys_are_refused(monkeypatch):
    twin = recognise.FORMS[0]._replace(system="another")
    monkeypatch.setattr(recognise, "FORMS", (*recognise.FORMS, twin))
    refuses(
        r"conv: expected the keys of one system, got .*, which are those of PyG .*, another",
        pyg("conv.", 3, 2, 4),
    )


def test_names_are_escaped_in_messages_and_descriptions():
    name = "\x1b[2J\u202econv."
    refuses(
        r"\\x1b\[2J\\u202econv\.lin\.weight: expected",
        pyg(name, 3, 2, 4) | state(name, {"lin.weight": (9, 3)}),
    )
    refuses(r"\\x1b\[2J\\u202econv: expected", without(pyg(name, 3, 2, 4), name + "att_src"))
    (line,) = describe(read_layers(pyg(name, 3, 2, 4)))
    assert line.startswith(r"\x1b[2J\u202econv: PyG GATConv")


# --- in words -------------------------------------------------------------------------------------


def test_describe_says_what_each_layer_is():
    arrays = pyg("conv1.", 3, 2, 4) | dgl("conv2.", 8, 2, 4) | pyg("conv3.", 4, 1, 5)
    assert describe(read_layers(arrays, options=FormOptions(slope=0.1))) == [
        "conv1: PyG GATConv (2.5 and later), 2 heads x 4 channels, concatenated, slope 0.1, "
        "adds self-loops",
        "conv2: DGL GATConv, 2 heads x 4 channels, averaged, slope 0.1, keeps edges as they are",
        "conv3: PyG GATConv (2.5 and later), 1 head x 5 channels, slope 0.1, adds self-loops",
    ]
    assert describe(read_layers(GCN)) == [
        "gcn: PyG GCNConv (2.0 and later), 8 channels, symmetric normalisation, adds self-loops"
    ]
    more = state("conv.", {"lin_edge.weight": (8, 2), "att_edge": (1, 2, 4), "res.weight": (8, 3)})
    (line,) = describe(read_layers(pyg("conv.", 3, 2, 4) | more))
    assert "slope 0.2, residual path, 2 edge features, adds self-loops" in line
