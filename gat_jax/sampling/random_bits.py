"""Random numbers of many initialisations at once: initialisations on the last axis.

Numbers depend on (key, batch, shape) alone.
"""

import hashlib
import math
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, UInt32

from gat_jax.runtime.threefry import draw_words

Distribution = Literal["uniform", "normal"]


def named_key(seed: int, name: str) -> Key[Array, ""]:
    """Return a key that depends on the seed and a stable hash of the name alone."""
    key = jax.random.key(seed)
    for word in np.frombuffer(hashlib.sha256(name.encode()).digest()[:8], "<u4"):
        key = jax.random.fold_in(key, word)
    return key


def draw_bits(
    key: UInt32[Array | np.ndarray, "2"], batch: UInt32[Array, ""], *, num: int, size: int
) -> UInt32[Array, "num size"]:
    """Draw `num` random words for each of the `size` initialisations of a batch.

    Args:
      key: data of a key.
      batch: number of the batch; may be traced.
      num: words per initialisation.
      size: initialisations per batch; another size gives other numbers.
    """
    return draw_words(key, (num, size), batch)


def from_bits(
    bits: UInt32[Array | np.ndarray, "*shape"], distribution: Distribution
) -> Float[Array, "*shape"]:
    """Turn words into float32 numbers of mean 0 and variance 1.

    Uniform numbers are multiples of 2^-22 sqrt(3) in [-sqrt(3), sqrt(3)), as `jax.random.uniform`
    makes them: 23 bits in the mantissa. Normal ones are the normal quantile of the middles of
    2^23 equal parts of (0, 1); none is infinite, and the largest is 5.3.
    """
    if distribution == "uniform":
        mantissa = (bits >> np.uint32(9)) | np.uint32(0x3F800000)
        number = jax.lax.bitcast_convert_type(mantissa, jnp.float32)  # in [1, 2)
        return (number - 1.5) * np.float32(2.0 * np.sqrt(3.0))
    # An odd whole number below 2^23 either side of zero, exact in float32. Written as a sum of
    # floats, XLA adds the constants first and rounds: one word in 2^23 then became -infinity.
    odd = ((bits >> np.uint32(9)) * np.uint32(2) + np.uint32(1)).astype(jnp.int32) - np.int32(2**23)
    centred = odd.astype(jnp.float32) * np.float32(2.0**-23)
    return np.float32(np.sqrt(2.0)) * jax.lax.erf_inv(centred)


def to_features(numbers: Float[Array, "..."], distribution: Distribution) -> Float[Array, "..."]:
    """Return features from numbers of mean 0 and variance 1: U[0, 1] or N(0, 1)."""
    return 0.5 + numbers / np.float32(math.sqrt(12.0)) if distribution == "uniform" else numbers
