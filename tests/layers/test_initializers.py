"""What initialisers draw, against the code of PyG, torch and the tutorial."""

import dataclasses
import math
from typing import get_args

import chex
import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from scipy import stats

from gat_jax.layers import InitializerName, LayerConfig, init_layer

F, H, C = 5, 3, 4
DRAWS, TORCH_DRAWS = 1000, 400  # one number of draws throughout: every shape compiles once


def draw(config, *, num_features=F, seed=0):
    """Parameters of many initialisations, by name, in float64."""
    params = init_layer(jax.random.key(seed), config, num_features, batch_shape=(DRAWS,))
    return {k: np.asarray(v, np.float64) for k, v in params._asdict().items() if v is not None}


def shapes_of(config, **options):
    """Shapes and dtypes of the parameters; nothing is drawn."""
    return jax.eval_shape(lambda: init_layer(jax.random.key(0), config, F, **options))


def config_of(initializer, layer="gat", **options):
    return LayerConfig(layer, heads=H, channels=C, initializer=initializer, **options)


def assert_same_distribution(ours, theirs):
    """Kolmogorov and Smirnov's test of two samples, and the same largest number if bounded."""
    ours, theirs = np.ravel(ours), np.ravel(theirs)
    if np.ptp(theirs) == 0.0:
        assert np.unique(ours) == np.unique(theirs)
        return
    assert stats.ks_2samp(ours, theirs).pvalue > 1e-3
    standard = np.abs(theirs).max() / theirs.std()
    if standard < 2.0:  # uniform: its bound is sqrt(3) standard deviations
        assert np.abs(ours).max() == pytest.approx(np.abs(theirs).max(), rel=0.01)


def samples_of_torch(make, names):
    """Numbers of every named parameter, over many layers."""
    import torch

    torch.manual_seed(0)
    layers = [dict(make().named_parameters()) for _ in range(TORCH_DRAWS)]
    return {
        name: np.stack([layer[name].detach().double().numpy() for layer in layers])
        for name in names
    }


@pytest.mark.torch
def test_init_layer_draws_gat_as_pyg_does():
    from torch_geometric.nn import GATConv

    names = {
        "lin.weight": "kernel",
        "att_dst": "a_recv",
        "att_src": "a_send",
        "bias": "output_bias",
        "lin_edge.weight": "edge_kernel",
        "att_edge": "a_edge",
        "res.weight": "residual_kernel",
    }
    theirs = samples_of_torch(lambda: GATConv(F, C, heads=H, edge_dim=2, residual=True), names)
    ours = draw(config_of("pyg", use_output_bias=True, use_residual=True, num_edge_features=2))
    for name, our_name in names.items():
        assert ours[our_name][0].size == theirs[name][0].size
        assert_same_distribution(ours[our_name], theirs[name])
    assert not ours["bias"].any()


@pytest.mark.torch
def test_init_layer_draws_gatv2_as_pyg_does():
    from torch_geometric.nn import GATv2Conv

    names = {
        "lin_l.weight": "kernel_send",
        "lin_r.weight": "kernel_recv",
        "lin_l.bias": "bias_send",
        "lin_r.bias": "bias_recv",
        "att": "a",
        "bias": "output_bias",
        "lin_edge.weight": "edge_kernel",
    }
    theirs = samples_of_torch(lambda: GATv2Conv(F, C, heads=H, edge_dim=2), names)
    ours = draw(config_of("pyg", "gatv2", use_output_bias=True, num_edge_features=2))
    for name, our_name in names.items():
        assert_same_distribution(ours[our_name], theirs[name])


def tutorial_layer():
    """A layer as the constructor of the tutorial's makes it."""
    import torch

    layer = torch.nn.Module()
    layer.projection = torch.nn.Linear(F, H * C)
    layer.a = torch.nn.Parameter(torch.Tensor(H, 2 * C))
    torch.nn.init.xavier_uniform_(layer.projection.weight.data, gain=1.414)
    torch.nn.init.xavier_uniform_(layer.a.data, gain=1.414)
    return layer


@pytest.mark.torch
def test_init_layer_draws_gat_as_the_tutorial_does():
    names = ["projection.weight", "projection.bias", "a"]
    theirs = samples_of_torch(tutorial_layer, names)
    ours = draw(config_of("tutorial"))
    assert_same_distribution(ours["kernel"], theirs["projection.weight"])
    assert_same_distribution(ours["bias"], theirs["projection.bias"])
    assert_same_distribution(ours["a_recv"], theirs["a"][..., :C])
    assert_same_distribution(ours["a_send"], theirs["a"][..., C:])


@pytest.mark.parametrize("layer", ["gat", "gatv2"])
def test_init_layer_draws_as_the_oracles_tutorial_does(layer):
    rng = np.random.default_rng(0)
    draw_oracle = {
        "gat": oracle.tutorial_initializer,
        "gatv2": oracle.tutorial_initializer_gatv2,
    }[layer]
    theirs = draw_oracle(rng, DRAWS, F, H, C)
    ours = draw(config_of("tutorial", layer))
    assert ours.keys() == theirs.keys()
    for name, sample in theirs.items():
        assert ours[name].shape == sample.shape
        assert_same_distribution(ours[name], sample)


# The function of torch's that each system calls, for a tensor of which shape, and its options. DGL
# cannot be installed beside this torch: its `reset_parameters` calls xavier_normal_ as here.
GAIN_OF_RELU = {"gain": math.sqrt(2)}
TORCH_TENSORS = {
    ("dgl", "kernel"): ("xavier_normal_", (H * C, F), GAIN_OF_RELU),
    ("dgl", "a_recv"): ("xavier_normal_", (1, H, C), GAIN_OF_RELU),
    ("glorot_normal", "kernel"): ("xavier_normal_", (H * C, F), {}),
    ("glorot_normal", "a_send"): ("xavier_normal_", (1, C), {}),
    ("glorot_uniform", "kernel"): ("xavier_uniform_", (H * C, F), {}),
    ("glorot_uniform", "a_recv"): ("xavier_uniform_", (1, C), {}),
    ("he_normal", "kernel"): ("kaiming_normal_", (H * C, F), {}),
    ("he_normal", "a_recv"): ("kaiming_normal_", (H, 2 * C), {}),
}


@pytest.mark.torch
@pytest.mark.parametrize(("initializer", "name"), TORCH_TENSORS)
def test_init_layer_draws_as_torch_does(initializer, name):
    import torch

    function, shape, options = TORCH_TENSORS[initializer, name]
    fill = getattr(torch.nn.init, function)
    torch.manual_seed(0)
    theirs = [fill(torch.empty(shape), **options).numpy() for _ in range(2000)]
    assert_same_distribution(draw(config_of(initializer))[name], theirs)


def formula(initializer, num_vectors):
    """Standard deviations of kernel and attention vectors, written out."""
    fan_sum = F + H * C
    return {
        "glorot_uniform": (math.sqrt(2 / fan_sum), math.sqrt(2 / (C + 1))),
        "glorot_normal": (math.sqrt(2 / fan_sum), math.sqrt(2 / (C + 1))),
        "he_normal": (math.sqrt(2 / F), math.sqrt(2 / (num_vectors * C))),
        "tutorial": (1.414 * math.sqrt(2 / fan_sum), 1.414 * math.sqrt(2 / (num_vectors * C + H))),
        "pyg": (math.sqrt(2 / fan_sum), math.sqrt(2 / (H + C))),
        "dgl": (math.sqrt(4 / fan_sum), math.sqrt(4 / (H * C + C))),
        "balanced": (math.sqrt(2 / fan_sum), 0.0),
    }[initializer]


NORMAL = ("glorot_normal", "he_normal", "dgl")
DRAWN = [name for name in get_args(InitializerName) if name != "gaussian"]


@pytest.mark.parametrize("initializer", DRAWN)
@pytest.mark.parametrize("layer", ["gat", "gatv2"])
def test_init_layer_has_the_standard_deviations_of_its_scheme(initializer, layer):
    params = draw(config_of(initializer, layer))
    kernels = ["kernel"] if layer == "gat" else ["kernel_send", "kernel_recv"]
    vectors = ["a_recv", "a_send"] if layer == "gat" else ["a"]
    stds = formula(initializer, len(vectors))
    for name, std in [(k, stds[0]) for k in kernels] + [(v, stds[1]) for v in vectors]:
        sample = params[name]
        assert sample.std() == pytest.approx(std, rel=0.03)
        assert abs(sample.mean()) <= 5 * std / math.sqrt(sample.size)
        if std > 0:
            largest = np.abs(sample).max() / std
            assert largest > 3 if initializer in NORMAL else 1.72 < largest <= 1.7321


def test_init_layer_gaussian_has_an_identity_and_unit_normal_vectors():
    config = LayerConfig("gat", heads=H, channels=C, initializer="gaussian")
    params = draw(config, num_features=C)
    expected = np.broadcast_to(np.eye(C)[:, None], (DRAWS, C, H, C))
    np.testing.assert_array_equal(params["kernel"], expected)
    assert not params["bias"].any()
    for name in ("a_recv", "a_send"):
        assert stats.kstest(params[name].ravel(), "norm").pvalue > 1e-3
    with pytest.raises(ValueError, match=r"channels: expected 5, one per feature.* got 4"):
        init_layer(jax.random.key(0), config, 5)


@pytest.mark.parametrize("layer", ["gatv2", "gcn"])
def test_init_layer_gaussian_is_for_gat_alone(layer):
    config = LayerConfig(layer, channels=F, initializer="gaussian")
    with pytest.raises(ValueError, match=f"layer: expected gat for 'gaussian', got '{layer}'"):
        init_layer(jax.random.key(0), config, F)


@pytest.mark.parametrize("layer", ["gat", "gatv2", "gcn"])
def test_init_layer_has_a_uniform_bias_where_torch_has_one(layer):
    heads = 1 if layer == "gcn" else H
    for initializer in DRAWN:
        config = LayerConfig(layer, heads=heads, channels=C, initializer=initializer)
        biases = [v for k, v in draw(config).items() if k.startswith("bias")]
        assert len(biases) == (2 if layer == "gatv2" else 1)
        is_uniform = initializer == "tutorial" or (initializer, layer) == ("pyg", "gatv2")
        for bias in biases:
            largest = np.abs(bias).max() * math.sqrt(F)
            assert 0.95 < largest <= 1.0 if is_uniform else largest == 0.0


@pytest.mark.parametrize("layer", ["gat", "gatv2"])
def test_init_layer_draws_every_parameter_from_numbers_of_its_own(layer):
    options = {"use_residual": True, "num_edge_features": F}
    params = draw(LayerConfig(layer, heads=1, channels=2, initializer="tutorial", **options))
    columns = np.concatenate([v.reshape(DRAWS, -1) for v in params.values()], axis=1)
    correlation = np.corrcoef(columns.T) - np.eye(columns.shape[1])
    assert np.abs(correlation).max() < 5.5 / math.sqrt(DRAWS)


def test_init_layer_gain_replaces_the_schemes_own_and_may_be_traced():
    key, config = jax.random.key(0), config_of("tutorial")

    def init(gain=None):
        return init_layer(key, config, F, gain=gain, batch_shape=(DRAWS,))

    own, scaled = init(), init(2 * 1.414)
    for name in ("kernel", "a_recv", "a_send"):
        np.testing.assert_allclose(getattr(scaled, name), 2 * getattr(own, name), rtol=1e-6)
    np.testing.assert_array_equal(scaled.bias, own.bias)
    chex.assert_trees_all_equal_shapes_and_dtypes(jax.eval_shape(init, jnp.float32(2.0)), own)


@pytest.mark.parametrize("layer", ["gat", "gatv2", "gcn"])
def test_init_layer_has_the_parts_its_config_asks_for(layer):
    heads = 1 if layer == "gcn" else H
    plain = LayerConfig(layer, heads=heads, channels=C, use_bias=False)
    names = {"gat": {"kernel", "a_recv", "a_send"}, "gcn": {"kernel"}}
    names["gatv2"] = {"kernel_send", "kernel_recv", "a"}
    params = shapes_of(plain)
    assert {k for k, v in params._asdict().items() if v is not None} == names[layer]
    options = {"use_output_bias": True, "use_residual": True, "concat": False}
    options |= {} if layer == "gcn" else {"num_edge_features": 2}
    options["share_weights"] = layer == "gatv2"
    full = LayerConfig(layer, heads=heads, channels=C, **options)
    params = shapes_of(full, batch_shape=(7, 2))
    kernel, bias = params[0], params.bias_send if layer == "gatv2" else params.bias
    chex.assert_shape(kernel, (7, 2, F, heads, C))
    chex.assert_shape(bias, (7, 2, heads, C))
    chex.assert_shape(params.output_bias, (7, 2, C))
    chex.assert_shape(params.residual_kernel, (7, 2, F, C))
    if layer != "gcn":
        chex.assert_shape(params.edge_kernel, (7, 2, 2, heads, C))
    if layer == "gatv2":
        assert params.kernel_recv is params.bias_recv is None


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_init_layer_draws_in_the_dtype_asked_for(dtype):
    config = config_of("tutorial", use_output_bias=True)
    leaves = jax.tree.leaves(shapes_of(config, dtype=dtype))
    assert {leaf.dtype for leaf in leaves} == {jnp.dtype(dtype)}


def test_init_layer_draws_the_same_numbers_from_the_same_key():
    config = config_of("pyg")
    first, again, other = (draw(config, seed=k) for k in (0, 0, 1))
    chex.assert_trees_all_equal(first, again)
    assert (first["kernel"] != other["kernel"]).all()


# --- bad input ------------------------------------------------------------------------------------


def test_init_layer_refuses_no_features():
    with pytest.raises(ValueError, match="num_features: expected at least 1, got 0"):
        init_layer(jax.random.key(0), LayerConfig(), 0)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"heads": 0}, "heads: expected at least 1, got 0"),
        ({"channels": -2}, "channels: expected at least 1, got -2"),
        ({"num_edge_features": -1}, "num_edge_features: expected at least 0, got -1"),
        ({"layer": "gin"}, "layer: expected one of gat, gatv2, gcn, got 'gin'"),
        ({"initializer": "zeros"}, "initializer: expected one of glorot_uniform, .* got 'zeros'"),
        ({"gcn_normalization": "sum"}, "gcn_normalization: expected one of .* got 'sum'"),
        ({"layer": "gcn", "heads": 2}, "layer: expected one head .* for gcn, got heads=2"),
        ({"layer": "gcn", "num_edge_features": 1}, "layer: expected .* got .*num_edge_features=1"),
    ],
)
def test_layer_config_names_what_is_wrong(options, message):
    with pytest.raises(ValueError, match=message):
        LayerConfig(**options)


def test_layer_config_is_hashable_and_knows_its_width():
    config = LayerConfig(heads=3, channels=4)
    assert config.num_outputs == 12
    assert dataclasses.replace(config, concat=False).num_outputs == 4
    assert hash(config) == hash(LayerConfig(heads=3, channels=4))
