"""Linear maps of a network: before, between and after its attention layers."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from gat_jax.kernels import projections
from gat_jax.layers.checks import check_part
from gat_jax.runtime.arrays import check_size


class LinearParams(NamedTuple):
    """Parameters of a linear map."""

    kernel: Float[Array, "*batch features outputs"]
    bias: Float[Array, "*batch outputs"]


def init_linear(
    key: Key[Array, ""], num_features: int, num_outputs: int, *, batch_shape: tuple[int, ...] = ()
) -> LinearParams:
    """Draw a linear map: kernel and bias uniform in +-1 / sqrt(num_features), as torch draws them.

    Args:
      key: one key, also for a batch.
      num_features: of its inputs.
      num_outputs: of its outputs.
      batch_shape: leading axes of independent initialisations.

    Raises:
      ValueError: if it takes more than a quarter of the host's memory.
    """
    kernel_shape, bias_shape = (num_features, num_outputs), (num_outputs,)
    num_numbers = math.prod(batch_shape) * (num_features + 1) * num_outputs
    check_size("the network's parameters", 4 * num_numbers)
    bound = 1.0 / math.sqrt(num_features)
    kernel_key, bias_key = jax.random.split(key)
    return LinearParams(
        jax.random.uniform(kernel_key, (*batch_shape, *kernel_shape), jnp.float32, -bound, bound),
        jax.random.uniform(bias_key, (*batch_shape, *bias_shape), jnp.float32, -bound, bound),
    )


def check_linear(field: str, params: Any, num_features: int, num_outputs: int) -> None:
    """Check that parameters are those of a linear map of this shape.

    Args:
      field: what an error calls them.
      params: of the map.
      num_features: of its inputs.
      num_outputs: of its outputs.

    Raises:
      ValueError: names the field, or the array that does not fit.
    """
    shapes = {"kernel": (num_features, num_outputs), "bias": (num_outputs,)}
    check_part(field, params, LinearParams, shapes)


def linear(params: LinearParams, x: Any) -> Float[Array, "nodes outputs"]:
    """Return x W + b for features [N, F]; of `SparseFeatures` on the non-zeros alone.

    Accumulates in float32 or wider and returns that, as `projections.project`.
    """
    return projections.project(x, params.kernel[:, None, :], params.bias[None])[:, :, 0]
