"""Initialisers: how the numbers of a layer are drawn, for our layers and as other systems do it.

A scheme fixes a distribution and, for every parameter, the denominator of its variance

    std^2 = gain^2 * 2 / denominator,

where Glorot's denominator is fan_in + fan_out and He's is fan_in. Systems differ in what they
take the fans of an attention vector to be, so each scheme says so. Uniform numbers of standard
deviation std lie in +-sqrt(3) std.

Sources: Glorot and Bengio 2010; He et al. 2015; the code of the UvA deep learning notebooks
(tutorial 7, torch), of PyG (`GATConv`, `GATv2Conv`) and of DGL (`GATConv`, `GATv2Conv`).
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from gat_jax.kernels import Scalar
from gat_jax.layers.base import ParamSpec
from gat_jax.layers.checks import check_config, check_key, check_number
from gat_jax.layers.config import LAYERS, InitializerName, LayerConfig, LayerName, LayerParams
from gat_jax.runtime import arrays

Fans = Literal["glorot", "he", "tutorial", "pyg", "dgl", "unit"]


@dataclasses.dataclass(frozen=True)
class Scheme:
    """How one system initialises; see the module's equation."""

    distribution: Literal["uniform", "normal"]
    fans: Fans  # what the denominators of kernel and attention vectors are
    gain: float = 1.0
    has_zero_attention: bool = False
    has_identity_kernel: bool = False
    # Layers whose projection bias is uniform in +-1/sqrt(fan_in), as torch's Linear; else zeros.
    uniform_bias: tuple[LayerName, ...] = ()


SCHEMES: dict[InitializerName, Scheme] = {
    "glorot_uniform": Scheme("uniform", "glorot"),
    "glorot_normal": Scheme("normal", "glorot"),
    "he_normal": Scheme("normal", "he"),
    "tutorial": Scheme("uniform", "tutorial", 1.414, uniform_bias=("gat", "gatv2", "gcn")),
    "pyg": Scheme("uniform", "pyg", uniform_bias=("gatv2",)),
    "dgl": Scheme("normal", "dgl", math.sqrt(2.0)),
    # "Balanced" proposals start from a = 0: uniform attention, every twin pair equal.
    "balanced": Scheme("uniform", "glorot", has_zero_attention=True),
    # Where `probability.gaussian_collision_probability` is exact: W = I, a from N(0, I).
    "gaussian": Scheme("normal", "unit", has_identity_kernel=True),
}


def init_layer(
    key: Key[Array, ""],
    config: LayerConfig,
    num_features: int,
    *,
    gain: Scalar | None = None,
    batch_shape: tuple[int, ...] = (),
    dtype=jnp.float32,
) -> LayerParams:
    """Draw the parameters of the layer that `config` describes.

    Args:
      key: one key, also for a batch: one bulk draw is faster than a key per member.
      config: kind, shapes and initialiser.
      num_features: F, width of the node features.
      gain: replaces the scheme's own gain on kernels and attention vectors; may be traced.
      batch_shape: leading axes of independent initialisations.
      dtype: floating dtype of all parameters.

    Raises:
      ValueError: as `check_drawable`; for a gain that is no finite number, a batch that has no
        shape, or parameters that take more than a quarter of the host's memory.
    """
    check_drawable(config, num_features)
    check_key(key)
    if not isinstance(batch_shape, tuple | list):
        raise ValueError(f"batch_shape: expected a tuple of sizes, got {batch_shape!r}")
    for size in batch_shape:
        arrays.check_count("batch_shape", size, 0)
    scheme = SCHEMES[config.initializer]
    scales = draw_scales(config, num_features, gain=gain)
    # A scheme knows one distribution: everything is cut from one bulk draw.
    shape = (*batch_shape, num_draws(scales, config, num_features))
    entries = sum(math.prod(spec.shape) for spec in _specs(config, num_features).values())
    num_bytes = math.prod(batch_shape) * entries * jnp.dtype(dtype).itemsize
    arrays.check_size("the layer's parameters", num_bytes)
    if scheme.distribution == "normal":
        numbers = jax.random.normal(key, shape, dtype)
    else:
        bound = math.sqrt(3.0)
        numbers = jax.random.uniform(key, shape, dtype, -bound, bound)
    # Without the barrier XLA generates the numbers anew for each of their consumers.
    numbers = jax.lax.optimization_barrier(numbers)
    return assemble(numbers, scales, config, num_features, axis=-1)


def check_drawable(config: LayerConfig, num_features: int) -> None:
    """Refuse what no parameters can be drawn for.

    Raises:
      ValueError: if this is no configuration of a layer, if there are no features, or W = I is
        asked for where it cannot be.
    """
    if not isinstance(config, LayerConfig):
        raise ValueError(f"config: expected a LayerConfig, got {type(config).__name__}")
    check_config(config, config.layer)
    arrays.check_count("num_features", num_features, 1)
    if not SCHEMES[config.initializer].has_identity_kernel:
        return
    if config.layer != "gat":
        raise ValueError(f"layer: expected gat for {config.initializer!r}, got {config.layer!r}")
    if num_features != config.channels:
        raise ValueError(
            f"channels: expected {num_features}, one per feature, for W = I, got {config.channels}"
        )


def draw_scales(
    config: LayerConfig, num_features: int, *, gain: Scalar | None = None
) -> dict[str, Scalar]:
    """Return the standard deviation of every parameter that is random, in the order of the draw.

    Args:
      config: kind, shapes and initialiser.
      num_features: F.
      gain: replaces the scheme's own gain on kernels and attention vectors; may be traced.

    Raises:
      ValueError: for a gain that is no finite number, unless it is traced.
    """
    if gain is not None:
        check_number("gain", gain)
    scales: dict[str, Scalar] = {}
    for name, spec in _specs(config, num_features).items():
        scale = _scale(name, spec, num_features, config)
        if scale > 0.0:
            scales[name] = scale
            if gain is not None and spec.role != "bias":
                scales[name] = scale * (gain / SCHEMES[config.initializer].gain)
    return scales


def num_draws(scales: Mapping[str, Scalar], config: LayerConfig, num_features: int) -> int:
    """Return how many random numbers one initialisation with these scales takes."""
    specs = _specs(config, num_features)
    return sum(math.prod(specs[name].shape) for name in scales)


def assemble(
    numbers: Float[Array, "..."],
    scales: Mapping[str, Scalar],
    config: LayerConfig,
    num_features: int,
    *,
    axis: Literal[0, -1],
) -> LayerParams:
    """Cut parameters from numbers of mean 0 and variance 1.

    Args:
      numbers: [..., draws] for axis -1, [draws, ...] for axis 0; the other axes are those of a
        batch of initialisations, and stay where they are.
      scales: of `draw_scales`; only its keys are static.
      config: kind and shapes.
      num_features: F.
      axis: where the draws of one initialisation are.
    """
    specs = _specs(config, num_features)
    drawn = [name for name in specs if name in scales]  # a traced dict has lost its order
    ends = np.cumsum([math.prod(specs[name].shape) for name in drawn] or [0], dtype=int)
    pieces = dict(zip(drawn, jnp.split(numbers, ends[:-1], axis=axis), strict=True))
    dtype = numbers.dtype
    params = {}
    for name, (shape, _) in specs.items():
        batch = numbers.shape[1:] if axis == 0 else numbers.shape[:-1]
        full_shape = (*shape, *batch) if axis == 0 else (*batch, *shape)
        if name in pieces:
            params[name] = scales[name] * pieces[name].reshape(full_shape)
        elif name == "kernel" and SCHEMES[config.initializer].has_identity_kernel:
            identity = jnp.eye(config.channels, dtype=dtype)[:, None, :]
            identity = identity.reshape(*shape, *[1] * len(batch)) if axis == 0 else identity
            params[name] = jnp.broadcast_to(identity, full_shape)
        else:
            params[name] = jnp.zeros(full_shape, dtype)
    return LAYERS[config.layer].params(**params)


def _specs(config: LayerConfig, num_features: int) -> dict[str, ParamSpec]:
    return LAYERS[config.layer].specs(config, num_features)


def _scale(name: str, spec: ParamSpec, num_features: int, config: LayerConfig) -> float:
    """Return the standard deviation of a parameter; 0 where nothing is random.

    Denominators: a kernel's rows are its fan_in, all its other entries fan_out. An attention
    vector: glorot C + 1 (a maps C channels to one score, each half for itself, as the original
    GAT); he V C, with V = 2 halves for GAT and 1 for GATv2; tutorial V C + H (a torch matrix of
    shape H x VC); pyg H + C and dgl H C + C (a tensor of shape 1 x H x C, read by each system's
    rule for fans); unit 2, which is a variance of 1.
    """
    scheme = SCHEMES[config.initializer]
    shape, role = spec
    if role == "bias":
        # Uniform in +-1/sqrt(F).
        return 1.0 / math.sqrt(3 * num_features) if config.layer in scheme.uniform_bias else 0.0
    if role == "zeros" or (name == "kernel" and scheme.has_identity_kernel):
        return 0.0
    if role == "kernel":
        denominator = shape[0] if scheme.fans == "he" else shape[0] + math.prod(shape[1:])
    elif scheme.has_zero_attention:
        return 0.0
    else:
        heads, channels = shape
        halves = 2 if role == "half" else 1
        denominator = {
            "glorot": channels + 1,
            "he": halves * channels,
            "tutorial": halves * channels + heads,
            "pyg": heads + channels,
            "dgl": heads * channels + channels,
            "unit": 2,
        }[scheme.fans]
    return scheme.gain * math.sqrt(2.0 / denominator)
