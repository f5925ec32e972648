"""What dropout keeps: its share, word by word, and how it is mapped over keys and rates."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend import random as jax_random

from gat_jax.layers.frame import ATTENTION, SENDERS, drop_features

WIDTH = 501


def kept(key, rate, shape=(401, WIDTH), stream=SENDERS):
    return np.asarray(drop_features(key, stream, rate, jnp.ones(shape, jnp.float32)))


def test_a_value_has_its_own_word_of_the_cipher():
    """JAX's own cipher encrypts the counters; the first words of all pairs come first."""
    key, shape, rate = jax.random.key(3), (7, 9), 0.375
    words = jax.random.bits(jax.random.fold_in(key, ATTENTION), (2,), jnp.uint32)
    counter = jnp.arange(32, dtype=jnp.uint32)
    pairs = jax_random.threefry2x32_p.bind(*words, counter, jnp.zeros(32, jnp.uint32))
    numbers = np.concatenate(pairs)[:63].reshape(shape) / 2.0**32
    expected = np.where(numbers >= rate, np.float32(1 / (1 - rate)), 0)
    np.testing.assert_allclose(kept(key, rate, shape, ATTENTION), expected, rtol=1e-6)


@pytest.mark.parametrize("rate", [0.003, 0.2, 0.5, 0.6, 0.97])
def test_it_keeps_its_share_everywhere_and_neighbours_are_independent(rate):
    mask = kept(jax.random.key(5), rate) > 0
    sigma = np.sqrt(rate * (1 - rate))
    assert abs(mask.mean() - (1 - rate)) < 5 * sigma / np.sqrt(mask.size)
    assert np.abs(mask.mean(0) - (1 - rate)).max() < 6 * sigma / np.sqrt(len(mask))
    flat = mask.reshape(-1) - (1 - rate)
    half = -(-flat.size // 2)  # the other word of the same pair
    for shift in (1, 2, WIDTH, half):
        products = flat[shift:] * flat[:-shift]
        assert abs(products.mean()) < 5 * sigma**2 / np.sqrt(products.size)


def test_streams_and_keys_draw_apart():
    masks = [
        kept(jax.random.key(seed), 0.5, stream=stream) > 0
        for seed in (0, 1)
        for stream in (SENDERS, ATTENTION)
    ]
    for k, mask in enumerate(masks):
        for other in masks[:k]:
            assert abs((mask == other).mean() - 0.5) < 0.01


def test_a_rate_that_is_traced_and_a_key_that_is_mapped_draw_the_same():
    keys = jax.random.split(jax.random.key(0), 3)
    rates = jnp.array([0.0, 0.2, 0.6], jnp.float32)
    x = jnp.linspace(1.0, 2.0, 35).reshape(5, 7)
    mapped = jax.jit(jax.vmap(lambda key, rate: drop_features(key, SENDERS, rate, x)))(keys, rates)
    for key, rate, found in zip(keys, (0.0, 0.2, 0.6), mapped, strict=True):
        np.testing.assert_allclose(found, drop_features(key, SENDERS, rate, x), rtol=1e-6)
    np.testing.assert_array_equal(mapped[0], x)


@pytest.mark.parametrize("impl", ["rbg", "unsafe_rbg"])
def test_keys_of_other_generators_are_taken(impl):
    key = jax.random.key(0, impl=impl)
    mask = kept(key, 0.5) > 0
    assert abs(mask.mean() - 0.5) < 0.01
    np.testing.assert_array_equal(mask, kept(key, 0.5) > 0)


@pytest.mark.parametrize("shape", [(0, 4), (1, 1), (1, 3)])
def test_few_values_or_none(shape):
    found = np.stack([kept(jax.random.key(seed), 0.5, shape) for seed in range(20)])
    assert found.shape == (20, *shape)
    assert set(found.reshape(-1)) == ({0.0, 2.0} if found.size else set())


def test_wide_numbers_have_the_same_words(x64):
    key, x = jax.random.key(7), np.linspace(1.0, 2.0, 6_000).reshape(60, 100)
    wide = drop_features(key, SENDERS, 0.3, jnp.asarray(x))
    narrow = drop_features(key, SENDERS, jnp.float32(0.3), jnp.asarray(x, jnp.float32))
    assert (wide.dtype, narrow.dtype) == (np.float64, np.float32)
    np.testing.assert_array_equal(np.asarray(wide) == 0, np.asarray(narrow) == 0)
    is_kept = np.asarray(wide) != 0
    np.testing.assert_allclose(wide[is_kept], x[is_kept] / 0.7, rtol=1e-15)
    assert abs(is_kept.mean() - 0.7) < 5 * np.sqrt(0.21 / x.size)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32])
def test_rates_of_every_dtype_are_taken(dtype):
    key, rate = jax.random.key(1), jnp.asarray(0.25, dtype)  # which all of them have
    np.testing.assert_array_equal(kept(key, rate) > 0, kept(key, 0.25) > 0)


def test_a_rate_next_to_one_keeps_next_to_nothing():
    for rate in (1 - 2**-24, 1 - 1e-12, float(np.nextafter(1.0, 0.0))):
        assert (kept(jax.random.key(1), rate) > 0).sum() <= 1
