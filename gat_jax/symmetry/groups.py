"""Equal things among many, found by sorting: groups of equal twins, and distinct rows.

In a part of a score (`criterion`) every twin of a class has a *code*: the senders' part is
uniform (one code for all), the twin is positive, or negative, or it is itself, with its own query
for a code. A pair is equal in the part if its codes are equal. Indeed a twin is both positive and
negative only where all its logits are 0, so that the senders' part is uniform. A pair is equal in
some heads if its codes are equal in all parts of these heads, and both twins' numbers are finite;
so twins fall into groups, of which one of k twins has k (k - 1) / 2 pairs.

Groups are found by sorting a hash of 64 bits of each twin's class and codes, and neighbours are
compared code by code. Where two twins of one hash differ, everything is hashed anew: the counts are
exact, in time n log n for n twins.

Counts of pairs outgrow int32: they are *wide* numbers, of two words.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt32

from gat_jax.kernels import Scalar
from gat_jax.symmetry.criterion import RowSigns

# What is no query: the patterns of NaNs, which no finite query has.
UNIFORM, POSITIVE, NEGATIVE, NOT_FINITE = np.int32(0x7FC00001) + np.arange(4, dtype=np.int32)
# Odd numbers that mix words, and what mixes each of the two words of a hash (Murmur3's and others).
MULTIPLIERS = np.array([[0xCC9E2D51, 0x85EBCA6B], [0x9E3779B1, 0xC2B2AE35]], np.uint32)


class Wide(NamedTuple):
    """Whole numbers from 0 to 2^64."""

    high: UInt32[Array, "*shape"]
    low: UInt32[Array, "*shape"]


class TwinCodes(NamedTuple):
    """What twins are equal by, in T initialisations; P parts of a score in all heads, R twins."""

    codes: Int[Array, "parts inits receivers"]
    is_finite: Bool[Array, "inits receivers"]


def codes_of_twins(signs: RowSigns, *, heads: int, slope: Scalar | Array) -> TwinCodes:
    """Return the codes of all twins.

    Args:
      signs: of all twins, lists over the parts of a score of arrays [R, B].
      heads: of the layer, the first of all initialisations first on the axis B.
      slope: of the LeakyReLU; a number, or [1, B].
    """

    def by_init(x: Array) -> Array:  # [R, B] to [H, T, R]
        return jnp.moveaxis(x.reshape(len(x), heads, -1), 0, -1)

    codes = jnp.concatenate([by_init(x) for x in _codes(signs, slope)])
    is_finite = jnp.all(jnp.stack([by_init(x) for x in signs.is_finite]), axis=(0, 1))
    return TwinCodes(codes, is_finite)


def count_equal_pairs(twins: TwinCodes, classes: Int[Array | np.ndarray, " receivers"]) -> Wide:
    """Count the pairs of twins that are equal in all parts, exactly.

    Args:
      twins: of T initialisations.
      classes: [R] number of each twin's class.

    Returns:
      [T].
    """
    codes, is_finite = twins
    classes = jnp.broadcast_to(jnp.asarray(classes), is_finite.shape)
    order = _group(codes, classes)
    is_new = _differs_from_last(codes, classes, order)
    finite = jnp.take_along_axis(is_finite, order, axis=1, mode="promise_in_bounds")
    is_new |= ~finite  # a finite one after it differs, by its code
    # As many twins of its group stand before a twin as it makes pairs that are counted with it.
    place = jnp.arange(order.shape[1], dtype=jnp.int32)[None]
    before = place - jax.lax.cummax(jnp.where(is_new, place, 0), axis=1)
    return wide_sum(Wide(jnp.zeros_like(before, jnp.uint32), before.astype(jnp.uint32)), axis=1)


def count_distinct_rows(
    values: Float[Array, "rows columns"] | Int[Array, "rows columns"],
) -> Int[Array, ""]:
    """Count the rows that differ to the last bit; both zeros are one number.

    Args:
      values: [N, C]; a NaN equals itself where the bits do.

    Returns:
      A whole number, 0 without rows; exact, in time N log N and without a comparison of all pairs.
    """
    if len(values) == 0:
        return jnp.int32(0)
    columns = values.T.astype(jnp.int32) if values.dtype.kind in "iu" else values.T
    words = [columns] if values.dtype.kind in "iu" else words_of(columns)
    codes = jnp.concatenate(words)[:, None]
    classes = jnp.zeros((1, len(values)), jnp.int32)
    is_new = _differs_from_last(codes, classes, _group(codes, classes))
    return jnp.sum(is_new, dtype=jnp.int32)


def words_of(values: Float[Array, "*shape"]) -> list[Int[Array, "*shape"]]:
    """Return the bits of numbers, one word of float32 or narrower ones, two of float64.

    The two zeros are equal, and so are numbers that the device takes for zero.
    """
    values = values.astype(jnp.promote_types(values.dtype, jnp.float32))
    words = jax.lax.bitcast_convert_type(jnp.where(values == 0, 0.0, values), jnp.int32)
    return [words] if words.ndim == values.ndim else [words[..., 0], words[..., 1]]


def _codes(signs: RowSigns, slope: Scalar | Array) -> list[Int[Array, "receivers batch"]]:
    """Return the codes of each part of a score, two of float64; NOT_FINITE where one is not."""
    codes = []
    for query, is_uniform, is_positive, is_negative, is_finite in zip(
        signs.query,
        signs.is_uniform,
        signs.is_positive,
        signs.is_negative,
        signs.is_finite,
        strict=True,
    ):
        for code in words_of(query):
            code = jnp.where(is_negative, NEGATIVE, code)
            code = jnp.where(is_positive, POSITIVE, code)
            code = jnp.where(is_uniform | (jnp.asarray(slope) == 1), UNIFORM, code)
            codes.append(jnp.where(is_finite, code, NOT_FINITE))
    return codes


def _group(
    codes: Int[Array, "parts inits receivers"], classes: Int[Array, "inits receivers"]
) -> Int[Array, "inits receivers"]:
    """Return an order of the twins in which those of one class with equal codes are neighbours."""
    places = jnp.broadcast_to(jnp.arange(classes.shape[1], dtype=jnp.int32), classes.shape)

    def sort(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        salt = state[0] + np.uint32(1)
        first, second = _hashes(codes, classes, salt)
        first, second, order = jax.lax.sort((first, second, places), num_keys=2, is_stable=False)
        is_same_hash = (first == _shift(first, 0)) & (second == _shift(second, 0))
        is_clash = is_same_hash & _differs_from_last(codes, classes, order)
        return salt, order, jnp.any(is_clash[:, 1:])  # the first has none before it

    start = jnp.uint32(0), places, jnp.array(True)
    return jax.lax.while_loop(lambda state: state[2], sort, start)[1]


def _hashes(
    codes: Int[Array, "parts inits receivers"],
    classes: Int[Array, "inits receivers"],
    salt: UInt32[Array, ""],
) -> tuple[UInt32[Array, "inits receivers"], UInt32[Array, "inits receivers"]]:
    """Return two words for each twin, of its class and all its codes."""

    def mix(word: Array, code: Array, multipliers: np.ndarray) -> Array:
        word = (word ^ code) * multipliers[0]
        word = (word ^ (word >> np.uint32(15))) * multipliers[1]
        return word ^ (word >> np.uint32(13))

    def step(words: tuple[Array, Array], code: Array) -> tuple[tuple[Array, Array], None]:
        bits = jax.lax.bitcast_convert_type(code, jnp.uint32)
        first = mix(words[0], bits, MULTIPLIERS[0])
        # The second word takes the first in, so that neither is a function of the other's step.
        return (first, mix(words[1] + first, bits, MULTIPLIERS[1])), None

    zeros = jnp.zeros_like(classes, jnp.uint32)
    start = step((zeros + salt, zeros + ~salt), classes)[0]
    return jax.lax.scan(step, start, codes)[0]


def _differs_from_last(
    codes: Int[Array, "parts inits receivers"],
    classes: Int[Array, "inits receivers"],
    order: Int[Array, "inits receivers"],
) -> Bool[Array, "inits receivers"]:
    """Whether a twin differs from the one before it in an order; True of the first."""

    def differs(values: Array) -> Array:
        ordered = jnp.take_along_axis(values, order, axis=1, mode="promise_in_bounds")
        return ordered != _shift(ordered, 0)

    def step(found: Array, code: Array) -> tuple[Array, None]:
        return found | differs(code), None

    is_first = jnp.arange(order.shape[1], dtype=jnp.int32) == 0
    return jax.lax.scan(step, differs(classes), codes)[0] | is_first[None]


def _shift(values: Array, first: int) -> Array:
    """Return the value of the twin before, [T, R]."""
    start = jnp.full_like(values[:, :1], first)
    return jnp.concatenate([start, values[:, :-1]], axis=1)


# --- wide numbers -------------------------------------------------------------------------------


def wide_sum(values: Wide, *, axis: int) -> Wide:
    """Add up wide numbers along an axis, exactly as long as the sum is below 2^64."""

    def add(one: tuple[Array, Array], two: tuple[Array, Array]) -> tuple[Array, Array]:
        low = one[1] + two[1]
        carry = (low < one[1]).astype(jnp.uint32)
        return one[0] + two[0] + carry, low

    nothing = jnp.uint32(0), jnp.uint32(0)
    return Wide(*jax.lax.reduce(tuple(values), nothing, add, (axis,)))


def to_float(value: Wide) -> Array:
    """Return the float32 nearest to wide numbers, or one beside it."""
    return value.high.astype(jnp.float32) * np.float32(2.0**32) + value.low.astype(jnp.float32)
