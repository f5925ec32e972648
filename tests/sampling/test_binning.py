"""Bins are counted as NumPy counts them; sums do not depend on the program they stand in."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gat_jax.sampling import binning
from gat_jax.sampling.binning import Bins, FlaggedBins, add_up_inits

ROWS, INITS = 3, 64


def kinds(seed: int) -> tuple[FlaggedBins, dict[str, Bins], np.ndarray]:
    """Numbers and flags of every kind, and which initialisations count."""
    rng = np.random.default_rng(seed)
    shape = ROWS, INITS
    flags = {name: jnp.asarray(rng.random(shape) < 0.3) for name in ("a", "b", "c")}
    joint = FlaggedBins(jnp.asarray(rng.integers(5, size=shape), jnp.int32), 5, flags)
    others = {
        "x": Bins(jnp.asarray(rng.integers(7, size=(2, *shape)), jnp.int32), 7),
        "y": Bins(jnp.asarray(rng.integers(2, size=shape), jnp.int32), 2),
    }
    return joint, others, rng.random(INITS) < 0.8


@pytest.mark.parametrize("count", [binning._by_scatter, binning._by_comparison, binning.count])
@pytest.mark.parametrize("seed", [0, 1])
def test_count_is_what_numpy_counts(count, seed):
    joint, others, is_counted = kinds(seed)
    found = count(joint, others, jnp.asarray(is_counted))
    bins = others | {"joint_causes": Bins(joint.numbers, joint.num_bins)}
    for name, (numbers, num_bins) in bins.items():
        counted = np.asarray(numbers)[..., is_counted].ravel()
        np.testing.assert_array_equal(found[name], np.bincount(counted, minlength=num_bins))
    for name, flag in joint.flags.items():
        assert found[name] == np.asarray(flag)[:, is_counted].sum()
    assert set(found) == {*bins, *joint.flags}
    assert {x.dtype for x in found.values()} == {np.dtype(np.int32)}


@pytest.mark.parametrize("flags", [{}, {"only": jnp.ones((ROWS, INITS), bool)}])
def test_count_takes_any_number_of_flags_and_nothing_that_counts(flags):
    joint = FlaggedBins(jnp.ones((ROWS, INITS), jnp.int32), 2, flags)
    for is_counted in (True, False):
        found = binning.count(joint, {}, jnp.full(INITS, is_counted))
        number = ROWS * INITS * is_counted
        assert found["joint_causes"].tolist() == [0, number]
        assert {name: int(found[name]) for name in flags} == dict.fromkeys(flags, number)


@pytest.mark.parametrize("shape", [(1, 1), (1, 16), (3, 64), (17, 2), (40, 512), (257, 32)])
def test_add_up_inits_is_the_sum(shape):
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    scale = np.abs(x).sum(dtype=np.float64)
    assert abs(float(add_up_inits(jnp.asarray(x))) - x.sum(dtype=np.float64)) <= 4e-7 * scale
    assert add_up_inits(jnp.ones(shape)) == np.prod(shape)


def test_add_up_inits_does_not_depend_on_what_is_mapped_or_fused():
    """Beside XLA's own sum, whose order is that of the program it stands in."""
    x = np.random.default_rng(1).normal(size=(5, 8, 1024)).astype(np.float32)

    def squares(values):
        return add_up_inits(values**2)

    alone = np.array([jax.jit(squares)(jnp.asarray(one)) for one in x])
    mapped = jax.jit(jax.vmap(squares))(jnp.asarray(x))
    assert alone.tobytes() == np.asarray(mapped).tobytes()
    # Pairs of sixteen terms, by hand: the order is a promise of stored sums.
    order = [x[0, k].astype(np.float32) ** 2 for k in range(8)]
    by_hand = functools.reduce(np.add, order)
    for size in (64, 4, 1):
        parts = np.split(by_hand, len(by_hand) // size)
        by_hand = functools.reduce(np.add, parts)
    assert by_hand[0] == alone[0]
