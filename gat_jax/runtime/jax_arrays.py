"""What compiled functions are given: checked by type and dtype, since it may be traced.

Functions on the host make an array of whatever they are given (`arrays.as_array`). What is handed
to JAX has to be an array of NumPy or JAX already: JAX refuses much else in words of its own, and a
few things it takes for others.
"""

from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from gat_jax.runtime.arrays import FLOAT_DTYPES

# The kinds of NumPy's dtypes that are taken for each, beside those above for real numbers.
KINDS = {"booleans": "b", "whole numbers": "iu", "real numbers": "biu"}


def check_array(
    field: str, array: Any, kind: Literal["booleans", "whole numbers", "real numbers"]
) -> None:
    """Refuse what is no array that JAX computes with; its numbers are not looked at.

    Args:
      field: what an error calls the array.
      array: what a user gave; it may be traced.
      kind: what its entries have to be.

    Raises:
      ValueError: names the type or the dtype.
    """
    wanted = f"{field}: expected an array of {kind}, got"
    if not isinstance(array, np.ndarray | jax.Array):
        raise ValueError(f"{wanted} {type(array).__name__}")
    if isinstance(array, np.ma.MaskedArray):
        raise ValueError(f"{wanted} one with a mask; its filled() has none")
    dtype = array.dtype
    if isinstance(dtype, np.dtype) and not dtype.isnative:
        raise ValueError(
            f"{field}: expected an array in this machine's byte order, got dtype {dtype.str}; "
            "astype(array.dtype.newbyteorder('=')) turns it round"
        )
    name = str(dtype)  # random keys have a dtype of JAX's own, without a kind
    if name in FLOAT_DTYPES:
        is_of_kind = kind == "real numbers"
    else:
        is_of_kind = getattr(dtype, "kind", "?") in KINDS[kind]
    if not is_of_kind:
        raise ValueError(f"{wanted} {name}")


def to_jax(array: np.ndarray | jax.Array) -> jax.Array:
    """Return numbers as an array of JAX, whole numbers of 64 bits as float32.

    JAX itself would cut these to 32 bits without a word: 2^40, which float32 holds, would become 0.
    """
    if isinstance(array, np.ndarray) and array.dtype.kind in "iu" and array.dtype.itemsize == 8:
        return jnp.asarray(array.astype(np.float32))
    return jnp.asarray(array)
