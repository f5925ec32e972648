import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from jax.extend import random as jax_random

from gat_jax.sampling.random_bits import draw_bits, from_bits, named_key

KEY = np.array([0x13198A2E, 0x03707344], np.uint32)


def test_draw_bits_are_those_of_jax_for_these_counters():
    bits = jax.jit(lambda b: draw_bits(KEY, b, num=5, size=8))(jnp.uint32(7))
    x0 = np.arange(24, dtype=np.uint32)
    expected = jax_random.threefry2x32_p.bind(*jnp.asarray(KEY), x0, jnp.full(24, 7, jnp.uint32))
    np.testing.assert_array_equal(bits, np.concatenate(expected).reshape(6, 8)[:5])


def test_draw_bits_differ_between_keys_batches_and_places():
    bits = [
        np.asarray(draw_bits(key, jnp.uint32(batch), num=4, size=1024))
        for key in (KEY, KEY[::-1])
        for batch in (0, 1)
    ]
    values = np.concatenate([x.ravel() for x in bits])
    assert len(np.unique(values)) > len(values) - 10  # chance alone repeats 0.03 of 16384 words


@pytest.mark.parametrize(
    ("distribution", "expected"),
    [("uniform", scipy.stats.uniform(-np.sqrt(3), 2 * np.sqrt(3))), ("normal", scipy.stats.norm())],
)
def test_from_bits_has_its_distribution(distribution, expected):
    bits = draw_bits(KEY, jnp.uint32(0), num=8, size=50_000)
    numbers = np.asarray(from_bits(bits, distribution))
    assert numbers.dtype == np.float32
    assert scipy.stats.kstest(numbers.ravel(), expected.cdf).pvalue > 1e-3
    correlation = np.corrcoef(numbers) - np.eye(8)
    assert np.abs(correlation).max() < 5 / np.sqrt(50_000)


@pytest.mark.parametrize("distribution", ["uniform", "normal"])
def test_from_bits_is_finite_at_the_ends(distribution):
    ends = np.array([[0, 0xFFFFFFFF, 1 << 31]], np.uint32)
    low, high, middle = np.asarray(from_bits(ends, distribution))[0]
    assert np.isfinite([low, high, middle]).all()
    assert low < -1.7 < abs(middle) + 1.7 - 1e-6
    assert high > 1.7
    assert abs(middle) < 1e-6


def test_normal_numbers_are_quantiles_compiled_as_well():
    # XLA may add a chain's constants first: what is finite by itself was infinite in a sweep.
    parts = np.array([0, 1, 2**22 - 1, 2**22, 2**23 - 2, 2**23 - 1])
    bits = (parts << 9).astype(np.uint32)[:, None]
    quantiles = scipy.stats.norm.ppf((parts[:, None] + 0.5) / 2**23)
    compiled = jax.jit(lambda bits: from_bits(bits, "normal"))(bits)
    np.testing.assert_allclose(compiled, quantiles, rtol=1e-5)
    np.testing.assert_allclose(from_bits(bits, "normal"), quantiles, rtol=1e-5)


def test_named_key_is_a_stable_hash():
    # The numbers must be the same in every process and version.
    assert jax.random.key_data(named_key(0, "a")).tolist() == [3011824311, 2312571993]
    keys = [named_key(*x) for x in ((0, "a"), (1, "a"), (0, "b"))]
    assert len({tuple(jax.random.key_data(key).tolist()) for key in keys}) == 3
