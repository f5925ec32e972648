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
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from gat_jax.attention import Scalar
from gat_jax.params import (
    GATParams,
    GATv2Params,
    GCNParams,
    InitializerName,
    LayerConfig,
    LayerName,
    LayerParams,
)

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
      ValueError: if there are no features.
    """
    if num_features < 1:
        raise ValueError(f"num_features: expected at least 1, got {num_features}")
    scheme = SCHEMES[config.initializer]
    keys = iter(jax.random.split(key, 8))  # one for each parameter drawn, in the order below
    heads, channels = config.heads, config.channels

    def kernel(rows: int = num_features, shape: tuple[int, int] = (heads, channels)):
        full_shape = (*batch_shape, rows, *shape)
        return _draw_kernel(next(keys), scheme, full_shape, gain, dtype)

    def attention_vectors(num_vectors: int):
        full_shape = (num_vectors, *batch_shape, heads, channels)
        return _draw_attention_vectors(next(keys), scheme, full_shape, gain, dtype)

    def bias():
        if not config.use_bias:
            return None
        full_shape = (*batch_shape, heads, channels)
        if config.layer not in scheme.uniform_bias:
            return jnp.zeros(full_shape, dtype)
        bound = 1.0 / math.sqrt(num_features)
        return jax.random.uniform(next(keys), full_shape, dtype, -bound, bound)

    output_bias = residual_kernel = edge_kernel = None
    if config.use_output_bias:
        output_bias = jnp.zeros((*batch_shape, config.num_outputs), dtype)
    if config.use_residual:
        residual_kernel = kernel(shape=(1, config.num_outputs))[..., 0, :]
    if config.num_edge_features:
        edge_kernel = kernel(config.num_edge_features)
    match config.layer:
        case "gat":
            a_recv, a_send = attention_vectors(2)
            a_edge = attention_vectors(1)[0] if config.num_edge_features else None
            return GATParams(
                kernel(), a_recv, a_send, bias(), output_bias, edge_kernel, a_edge, residual_kernel
            )
        case "gatv2":
            kernel_recv = bias_recv = None
            if not config.share_weights:
                kernel_recv, bias_recv = kernel(), bias()
            return GATv2Params(
                kernel_send=kernel(),
                a=attention_vectors(1)[0],
                kernel_recv=kernel_recv,
                bias_send=bias(),
                bias_recv=bias_recv,
                output_bias=output_bias,
                edge_kernel=edge_kernel,
                residual_kernel=residual_kernel,
            )
        case "gcn":
            return GCNParams(kernel(), bias(), output_bias, residual_kernel)


def _draw_kernel(key, scheme: Scheme, shape, gain, dtype) -> Float[Array, "..."]:
    """Draw projection weights [*batch, F, H, C]: fan_in = F, fan_out = H * C."""
    num_features, heads, channels = shape[-3:]
    if scheme.has_identity_kernel:
        if num_features != channels:
            raise ValueError(
                f"channels: expected {num_features}, one per feature, for W = I, got {channels}"
            )
        return jnp.broadcast_to(jnp.eye(channels, dtype=dtype)[:, None, :], shape)
    fans = num_features if scheme.fans == "he" else num_features + heads * channels
    return _draw(key, scheme, fans, shape, gain, dtype)


def _draw_attention_vectors(key, scheme: Scheme, shape, gain, dtype) -> Float[Array, "..."]:
    """Draw vectors [V, *batch, H, C]: V = 2 halves of GAT's a, V = 1 for GATv2.

    Denominators: glorot C + 1 (a maps C channels to one score, each half for itself, as the
    original GAT); he V C; tutorial V C + H (a torch matrix of shape H x VC); pyg H + C and
    dgl H C + C (a tensor of shape 1 x H x C, read by each system's rule for fans); unit 2, which
    is a variance of 1.
    """
    if scheme.has_zero_attention:
        return jnp.zeros(shape, dtype)
    num_vectors, (heads, channels) = shape[0], shape[-2:]
    denominator = {
        "glorot": channels + 1,
        "he": num_vectors * channels,
        "tutorial": num_vectors * channels + heads,
        "pyg": heads + channels,
        "dgl": heads * channels + channels,
        "unit": 2,
    }[scheme.fans]
    return _draw(key, scheme, denominator, shape, gain, dtype)


def _draw(key, scheme: Scheme, denominator: int, shape, gain, dtype) -> Float[Array, "..."]:
    std = (scheme.gain if gain is None else gain) * math.sqrt(2.0 / denominator)
    if scheme.distribution == "normal":
        return std * jax.random.normal(key, shape, dtype)
    return std * jax.random.uniform(key, shape, dtype, -math.sqrt(3.0), math.sqrt(3.0))
