"""Random numbers of many initialisations at once: initialisations on the last axis.

Threefry-2x32 (Salmon et al. 2011, 20 rounds: the cipher behind `jax.random`), with both words of
every output used and the rounds unrolled, so that XLA fuses a whole batch into one loop: on a CPU
twice as fast as `jax.random.bits`. Numbers depend on (key, batch, shape) alone.
"""

import hashlib
import math
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, UInt32

Distribution = Literal["uniform", "normal"]
# Lengths of the rotations, four rounds at a time; Salmon et al., table 2.
ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
PARITY = np.uint32(0x1BD11BDA)

Words = UInt32[Array | np.ndarray, "2"] | tuple[UInt32[Array, ""], UInt32[Array, ""]]
Word = UInt32[Array | np.ndarray, "..."] | np.uint32


def named_key(seed: int, name: str) -> Key[Array, ""]:
    """Return a key that depends on the seed and a stable hash of the name alone."""
    key = jax.random.key(seed)
    for word in np.frombuffer(hashlib.sha256(name.encode()).digest()[:8], "<u4"):
        key = jax.random.fold_in(key, word)
    return key


def threefry(key: Words, x0: Word, x1: Word) -> tuple[Word, Word]:
    """Encrypt counters (x0, x1), arrays of one shape, into as many pairs of random words."""
    keys = (key[0], key[1], key[0] ^ key[1] ^ PARITY)
    x0, x1 = x0 + keys[0], x1 + keys[1]
    for group in range(5):
        for length in ROTATIONS[group % 2]:
            x0 = x0 + x1
            x1 = ((x1 << np.uint32(length)) | (x1 >> np.uint32(32 - length))) ^ x0
        x0 = x0 + keys[(group + 1) % 3]
        x1 = x1 + keys[(group + 2) % 3] + np.uint32(group + 1)
    return x0, x1


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
    half = -(-num // 2)
    x0 = jax.lax.iota(jnp.uint32, half * size).reshape(half, size)
    words = threefry(key, x0, jnp.full_like(x0, batch))
    return jnp.concatenate(words)[:num]


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
