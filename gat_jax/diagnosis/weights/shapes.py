"""Shapes of the arrays of a layer, which are checked before they are read."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from gat_jax.runtime.text import visible


def shaped(name: str, arrays: Mapping[str, np.ndarray], key: str, *shape: int | None) -> np.ndarray:
    """Return an array of a layer, if it has a shape.

    Args:
      name: of the layer.
      arrays: of the layer, by key; the key is one of them.
      key: of the array.
      *shape: that is expected; None stands for any size above 0.

    Raises:
      ValueError: names the key and both shapes.
    """
    found = np.shape(arrays[key])
    fits = len(found) == len(shape) and all(
        size > 0 and wanted in (None, size) for size, wanted in zip(found, shape, strict=True)
    )
    if not fits:
        wanted = ", ".join("any" if size is None else str(size) for size in shape)
        raise ValueError(f"{visible(name)}.{key}: expected shape [{wanted}], got {list(found)}")
    return arrays[key]


def torch_kernel(
    name: str, arrays: Mapping[str, np.ndarray], key: str, heads: int, channels: int
) -> Float[np.ndarray, "features heads channels"]:
    """Return a weight [H * C, F] of torch's as a kernel [F, H, C]; heads come first in a row."""
    weight = shaped(name, arrays, key, heads * channels, None)
    return np.ascontiguousarray(weight.T).reshape(-1, heads, channels)


def merged(by_head: np.ndarray, *, concat: bool) -> np.ndarray:
    """Return what is added to every head as what is added to the merged heads.

    Args:
      by_head: [..., H, C].
      concat: whether heads are concatenated, or else averaged.

    Returns:
      [..., H * C] or [..., C].
    """
    if concat:
        return by_head.reshape(*by_head.shape[:-2], -1)
    return by_head.mean(axis=-2, dtype=np.float64).astype(by_head.dtype)
