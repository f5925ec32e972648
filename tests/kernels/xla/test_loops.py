"""What loops share, where no sum tests it."""

import jax
import jax.numpy as jnp
import numpy as np

from gat_jax.kernels.xla import loops


def test_truth_values_are_repeated_for_every_head():
    """In a program that LLVM fails to compile for some CPUs where it is one loop."""

    @jax.jit
    def program(trivial, other, cause, finite, gap, size):
        held = cause | (~cause & finite & loops.repeat_by_head(trivial, 8))
        held |= loops.repeat_by_head(other, 8)
        return (~held & ~(gap <= size * 1e-6) & finite)[..., None]

    rng = np.random.default_rng(0)
    trivial, other = rng.random((2, 100)) < 0.3
    cause, finite = rng.random((2, 100, 8)) < 0.5
    gap, size = rng.random((2, 100, 8)).astype(np.float32)
    found = program(*map(jnp.asarray, (trivial, other, cause, finite, gap, size)))
    held = cause | (finite & trivial[:, None]) | other[:, None]
    np.testing.assert_array_equal(found[..., 0], ~held & finite)
