"""Norms between the layers of a network: over the features of a node, or over the nodes.

    y = scale * (x - mean) / sqrt(variance + 1e-5) + shift

Ba, Kiros and Hinton 2016 (arXiv:1607.06450), Ioffe and Szegedy 2015 (arXiv:1502.03167).
"""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from gat_jax.layers.checks import check_part
from gat_jax.runtime.arrays import check_size
from gat_jax.runtime.jax_arrays import check_array

NormName = Literal["layer", "batch", "none"]
NodeMask = Bool[Array | np.ndarray, " nodes"]
EPSILON = 1e-5  # in the variance's unit, as torch has it: keeps gradients of constant rows finite


class NormParams(NamedTuple):
    """Parameters of a norm."""

    scale: Float[Array, "*batch features"]
    shift: Float[Array, "*batch features"]


def init_norm(
    norm: NormName, num_features: int, *, batch_shape: tuple[int, ...] = ()
) -> NormParams | None:
    """Return the parameters that change nothing: scale 1, shift 0; None where there is no norm.

    Raises:
      ValueError: if they take more than a quarter of the host's memory.
    """
    if norm == "none":
        return None
    shape = (*batch_shape, num_features)
    check_size("the norm's parameters", 8 * int(np.prod(shape)))
    return NormParams(jnp.ones(shape, jnp.float32), jnp.zeros(shape, jnp.float32))


def check_norm(field: str, params: NormParams | None, norm: NormName, num_features: int) -> None:
    """Check that parameters are those of a norm of so many features.

    Args:
      field: what an error calls them.
      params: None where there is no norm.
      norm: its name.
      num_features: of its inputs.

    Raises:
      ValueError: names the field, or the parameter whose shape is another.
    """
    if norm == "none":
        if params is not None:
            raise ValueError(f"{field}: expected None, got {type(params).__name__}")
        return
    shapes = {"scale": (num_features,), "shift": (num_features,)}
    check_part(field, params, NormParams, shapes)


def check_node_mask(mask: NodeMask | None, num_nodes: int) -> None:
    """Check a mask [N] of the nodes, True = real; None stands for all of them.

    Raises:
      ValueError: unless it is an array of booleans of this length.
    """
    if mask is None:
        return
    check_array("node_mask", mask, "booleans")
    if mask.shape != (num_nodes,):
        raise ValueError(f"node_mask: expected shape {(num_nodes,)}, got {mask.shape}")


def apply_norm(
    params: NormParams | None,
    x: Float[Array, "nodes features"],
    norm: NormName,
    *,
    node_mask: NodeMask | None = None,
) -> Float[Array, "nodes features"]:
    """Apply a norm.

    Args:
      params: None for "none", which returns its inputs.
      x: [N, F].
      norm: "layer" takes mean and variance over the F features of each node; "batch" over the
        nodes, for each feature. The variance is that of a population (its divisor is the count).
      node_mask: [N], True = real. "batch" counts real nodes alone; None: all are.

    Returns:
      [N, F] in the dtype of x. Statistics are accumulated in float32 or wider.

    "batch" keeps no running statistics: training is full-batch, so the statistics of a step are
    those of the whole graph, and evaluation uses the same graph's at that moment. The output of a
    node thus depends on all real nodes. It differs from evaluation in torch, whose running means
    lag some steps behind the parameters.
    """
    if params is None or norm == "none":
        return x
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    if norm == "layer":
        mean = jnp.mean(wide, axis=1, keepdims=True)
        centred = wide - mean
        variance = jnp.mean(centred**2, axis=1, keepdims=True)
    else:
        is_real = (
            jnp.ones((len(x), 1), bool) if node_mask is None else jnp.asarray(node_mask)[:, None]
        )
        count = jnp.maximum(jnp.sum(is_real), 1).astype(wide.dtype)
        mean = jnp.sum(jnp.where(is_real, wide, 0.0), axis=0, keepdims=True) / count
        centred = wide - mean
        squares = jnp.where(is_real, centred, 0.0) ** 2
        variance = jnp.sum(squares, axis=0, keepdims=True) / count
    normed = centred * jax.lax.rsqrt(variance + EPSILON)
    scale, shift = (p.astype(wide.dtype)[None] for p in params)
    return (normed * scale + shift).astype(x.dtype)
