"""The balance between what a unit is made of and what reads it, which gradient flow conserves."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from gat_jax.layers import LayerParams, LayerShape


def balances(params: LayerParams, after: LayerParams, config: LayerShape) -> Float[Array, " units"]:
    """Return the balance of every unit of a layer, [O] in the order of its outputs.

        |W[:, i]|^2 - |a_i|^2 - |W_next[i, :]|^2

    W holds all that a unit is made of: kernels, biases, the residual path; a what scores read of
    it; W_next all kernels of the next layer. Where heads are averaged, a unit is one channel of all
    of them. Gradient flow conserves it where the activation between the layers is homogeneous, as
    ReLU and none are: multiplying W by a factor and dividing a and W_next by it changes nothing.
    ELU is homogeneous above 0 alone.

    Args:
      params: of the layer.
      after: of the next layer, which reads the outputs of this one.
      config: of the layer.

    Source: Mustafa et al. 2023, arXiv:2310.07235, who have GATv2 without biases.
    """
    total = jnp.zeros((config.heads, config.channels))
    merged = jnp.zeros(config.num_outputs)
    has_edge_scores = hasattr(params, "a_edge")  # GAT's edges have a balance of their own
    for name, value in params._asdict().items():
        if value is None or name == "a_edge" or (name == "edge_kernel" and has_edge_scores):
            continue
        squares = jnp.square(value.astype(jnp.promote_types(value.dtype, jnp.float32)))
        if name.startswith("a"):
            total -= squares
        elif name in ("residual_kernel", "output_bias"):
            merged += jnp.sum(jnp.atleast_2d(squares), axis=0)
        else:
            total += jnp.sum(squares.reshape(-1, *total.shape), axis=0)
    for name, value in after._asdict().items():
        if value is not None and "kernel" in name and name != "edge_kernel":
            merged -= jnp.sum(jnp.square(value).reshape(len(value), -1), axis=1)
    return merged + (total.reshape(-1) if config.concat else jnp.sum(total, axis=0))
