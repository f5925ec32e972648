"""Counts by class against counts of every pair, which NumPy makes in the most obvious way."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gat_jax import graphs, sampling
from gat_jax.graphs import twins
from gat_jax.layers import LayerConfig
from gat_jax.sampling import Cell, pair_sample, twin_layout
from gat_jax.sampling.class_facts import (
    NUM_LIMBS,
    Wide,
    from_limbs,
    measure_classes,
    to_float,
    to_limbs,
    wide_sum,
)
from gat_jax.sampling.twin_layout import TwinLayout
from gat_jax.symmetry import groups, signs_of_rows

SIZES = (2, 9, 3, 21)
CLASSES = np.random.default_rng(1).permutation(np.repeat(np.arange(len(SIZES)), SIZES))
PAIRS = np.array(
    [(i, k) for i, k in itertools.combinations(range(len(CLASSES)), 2) if CLASSES[i] == CLASSES[k]]
)
NUM_INITS = 16


def layout_of(classes: np.ndarray) -> TwinLayout:
    """Twins of these classes; of their supports nothing is read here."""
    nothing = np.zeros(0, np.int32)
    return TwinLayout(
        num_nodes=len(classes),
        receivers=np.arange(len(classes), dtype=np.int32),
        classes=classes.astype(np.int32),
        starts=np.zeros(classes.max() + 2, np.int64),
        senders=nothing,
        gcn_weights=nothing.astype(float),
        pairs=np.zeros((0, 2), np.int32),
        num_pairs=10**6,
    )


LAYOUT = layout_of(CLASSES)


@functools.cache
def counter(heads: int):
    """One compiled program for each number of heads, and of parts."""

    def count(query, lowest, highest, is_dead, slope):
        parts = [signs_of_rows(*x) for x in zip(query, lowest, highest, strict=True)]
        signs = type(parts[0])(*map(list, zip(*parts, strict=True)))
        flags = zip(signs.is_uniform, is_dead, strict=True)
        signs = signs._replace(is_uniform=[one | other for one, other in flags])
        return signs, measure_classes(signs, LAYOUT, heads=heads, slope=slope)

    return jax.jit(count, compiler_options={"xla_backend_optimization_level": 0})


def draw_rows(seed: int, heads: int, parts: int):
    """Scores of few values, so that everything happens: equal ones, zeros, NaN, one sign, none."""
    rng = np.random.default_rng(seed)
    batch = heads * NUM_INITS
    width = rng.integers(1, 5, size=batch)  # how many values there are, by initialisation

    def numbers(rows: int) -> np.ndarray:
        found = rng.integers(-2, 3, size=(parts, rows, batch)) % width - width // 2
        return found.astype(np.float32) * rng.choice([1.0, -0.0, 0.37], size=(1, 1, batch))

    bounds = np.sort([numbers(len(SIZES)), numbers(len(SIZES))], axis=0)
    lowest, highest = bounds[:, :, CLASSES].astype(np.float32)
    query = numbers(len(CLASSES)).astype(np.float32)
    query[rng.random(query.shape) < 0.01] = rng.choice([np.nan, np.inf, -np.inf])
    is_dead = np.broadcast_to(rng.random((parts, 1, batch)) < 0.1, query.shape)
    return query, lowest, highest, is_dead


def count_pairs(signs, heads: int, slope: float) -> tuple[np.ndarray, np.ndarray]:
    """Return by initialisation how many pairs collide, and how many classes do as a whole."""
    positive, negative, uniform, query, finite = map(np.array, signs)
    i, k = PAIRS.T
    is_equal = query[:, i] == query[:, k]
    for flag in (positive, negative, uniform):
        is_equal |= flag[:, i] & flag[:, k]
    is_equal |= slope == 1
    is_equal &= finite[:, i] & finite[:, k]
    collided = is_equal.all(axis=0).reshape(len(PAIRS), heads, NUM_INITS).all(axis=1)
    whole = [collided[CLASSES[i] == number].all(axis=0) for number in range(len(SIZES))]
    return collided.sum(axis=0), np.sum(whole, axis=0)


@pytest.mark.parametrize(("heads", "parts"), [(1, 1), (8, 1), (2, 3)])
@given(seed=st.integers(0, 2**32 - 1), slope=st.sampled_from([0.2, 0.0, -1.0, 1.0]))
@settings(max_examples=60, deadline=None)
def test_groups_make_as_many_pairs_as_there_are(heads, parts, seed, slope):
    rows = draw_rows(seed, heads, parts)
    signs, found = counter(heads)(*rows, jnp.float32(slope))
    pairs, whole = count_pairs(signs, heads, slope)
    np.testing.assert_array_equal(found.collided_pairs.low, pairs)
    np.testing.assert_array_equal(found.collided_pairs.high, 0)
    np.testing.assert_array_equal(found.collided_classes, whole)


def test_twins_of_one_hash_are_told_apart(monkeypatch):
    """Where hashes clash, everything is hashed anew: here they say nothing in three rounds."""
    rounds, hashes = [], groups._hashes

    def poor(codes, classes, salt):
        jax.debug.callback(lambda salt: rounds.append(int(salt)), salt)
        nothing = jnp.zeros_like(classes, jnp.uint32)
        good = hashes(codes, classes, salt)
        return tuple(jnp.where(salt < 4, nothing, word) for word in good)

    rows = draw_rows(3, heads=1, parts=1)
    expected = counter(1)(*rows, jnp.float32(0.2))[1]
    monkeypatch.setattr(groups, "_hashes", poor)
    counter.cache_clear()
    found = counter(1)(*rows, jnp.float32(0.2))[1]
    counter.cache_clear()
    jax.block_until_ready(found)
    jax.effects_barrier()
    assert rounds == [1, 2, 3, 4]
    np.testing.assert_array_equal(found.collided_pairs.low, expected.collided_pairs.low)


def test_hashes_of_few_values_do_not_clash():
    """All vectors of 18 codes of two values: 2^18 twins, and no two of one hash."""
    bits = np.arange(2**18)
    codes = (bits >> np.arange(18)[:, None]) & 1
    words = groups._hashes(
        jnp.asarray(codes[:, None], jnp.int32), jnp.zeros((1, 2**18), jnp.int32), jnp.uint32(1)
    )
    high, low = (np.asarray(word, np.uint64)[0] for word in words)
    assert len(np.unique((high << np.uint64(32)) | low)) == 2**18
    for word in (high, low):  # and each of the words is nearly as good as random numbers
        assert len(np.unique(word)) > 2**18 - 40


# --- wide numbers -------------------------------------------------------------------------------


@jax.jit
def added_up(wide: Wide):
    total = wide_sum(wide, axis=0)
    return total, to_float(total), to_limbs(total)


@given(st.lists(st.integers(0, 2**54), min_size=1, max_size=40))
@settings(deadline=None)
def test_wide_numbers_add_up_beyond_every_word(values):
    numbers = np.zeros(40, np.uint64)  # of one length, for one program
    numbers[: len(values)] = values
    wide = Wide(jnp.asarray(numbers >> np.uint64(32), jnp.uint32), jnp.asarray(numbers, jnp.uint32))
    total, number, limbs = jax.tree.map(np.asarray, added_up(wide))
    assert int(total.high) * 2**32 + int(total.low) == sum(values)
    assert float(number) == pytest.approx(float(sum(values)), rel=3e-7)
    assert limbs.shape == (NUM_LIMBS,)
    assert from_limbs(limbs) == sum(values)
    # The limbs of as many tiles as a block has, added up without a carry.
    assert from_limbs(limbs.astype(np.int64) * 7) == 7 * sum(values)


def test_a_class_of_a_hundred_thousand_is_counted_exactly():
    before = jnp.arange(100_000, dtype=jnp.uint32)[None]
    total = wide_sum(Wide(jnp.zeros_like(before), before), axis=1)
    assert from_limbs(np.asarray(to_limbs(total)))[0] == 100_000 * 99_999 // 2 > 2**32


# --- the whole way, against all pairs -----------------------------------------------------------


def users_and_items(seed: int, is_repeated: bool):
    """Classes of 2 to 40 users, who share 2 to 5 items; with repeated features if asked for."""
    rng = np.random.default_rng(seed)
    sizes, num_items = (2, 17, 40, 5), 8
    ends = [
        (item, num_items + user)
        for number, size in enumerate(sizes)
        for item in rng.choice(num_items, 2 + number, replace=False)
        for user in sum(sizes[:number]) + np.arange(size)
    ]
    nodes = rng.normal(size=(num_items + sum(sizes), 3)).astype(np.float32)
    if is_repeated:
        nodes = nodes[rng.integers(0, len(nodes) // 3, len(nodes))]
    senders, receivers = np.array(ends).T
    return graphs.from_edges(senders, receivers, nodes=nodes)


@pytest.mark.few(1)
@pytest.mark.parametrize(
    ("layer", "features", "slope", "is_repeated"),
    [
        (LayerConfig(heads=3, channels=4), "raw", 0.2, True),
        (LayerConfig(heads=8), "normal", 0.0, False),
        (LayerConfig(heads=2, use_residual=True, concat=False), "standardised", -1.0, True),
        (LayerConfig(heads=2), "raw", 1.0, False),
        (LayerConfig("gatv2", heads=2), "raw", 0.2, True),
        (LayerConfig("gatv2", channels=3), "uniform01", -0.5, False),
        (LayerConfig("gcn"), "raw", 0.2, False),
        (LayerConfig(heads=2, initializer="balanced"), "raw", 0.2, False),
    ],
)
def test_counts_by_class_are_counts_of_all_pairs(monkeypatch, layer, features, slope, is_repeated):
    monkeypatch.setattr(pair_sample, "MAX_COMPARED_PAIRS", 0)
    monkeypatch.setattr(pair_sample, "MAX_PAIRS_PER_TWIN", 0)
    monkeypatch.setattr(twin_layout, "NUM_SAMPLED_PAIRS", 50)
    graph = users_and_items(len(features), is_repeated)
    classes = twins.twin_classes(graph)
    pairs = twins.twin_pairs(classes)
    cell = Cell("users", layer, features, slope=slope)
    of_pairs, by_class = (
        sampling.sample(cell, graph, members, num_inits=500, seed=1) for members in (pairs, classes)
    )
    for name in (
        *("num_inits", "collisions", "all_pairs_collided", "class_collisions"),
        *("squared_shares", "entropy_histogram"),
    ):
        np.testing.assert_array_equal(getattr(by_class, name), getattr(of_pairs, name), name)
    assert by_class.deficit_sum == pytest.approx(of_pairs.deficit_sum, rel=1e-5)
    assert of_pairs.collisions > 0
    # Of the sample, as much as of all pairs, give or take what a sample of 50 does.
    assert by_class.joint_causes.sum() == by_class.gap_histogram.sum() == 50 * 500
    shares = by_class.joint_causes / (50 * 500), of_pairs.joint_causes / (len(pairs.first) * 500)
    np.testing.assert_allclose(*shares, atol=0.1)
    np.testing.assert_array_equal(by_class.head_causes.sum(axis=1), 50 * 500)
