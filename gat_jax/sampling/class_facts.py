"""How many pairs of twins collide, and how many classes do as a whole, without listing pairs.

`symmetry.groups` says how pairs are counted from groups of equal twins.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from gat_jax.kernels import Scalar
from gat_jax.sampling.twin_layout import TwinLayout
from gat_jax.symmetry import RowSigns
from gat_jax.symmetry.groups import Wide, codes_of_twins, count_equal_pairs
from gat_jax.symmetry.groups import to_float as to_float  # `counts` has these from here, too
from gat_jax.symmetry.groups import wide_sum as wide_sum


class ClassFacts(NamedTuple):
    """What holds of all twins together, in each of T initialisations."""

    collided_pairs: Wide  # [T]
    collided_classes: Int[Array, " inits"]  # how many classes are one group


def measure_classes(
    signs: RowSigns, layout: TwinLayout, *, heads: int, slope: Scalar
) -> ClassFacts:
    """Count the pairs that collide, and the classes all of whose twins do.

    Args:
      signs: of all twins, lists over the parts of a score of arrays [R, B].
      layout: of the twins.
      heads: of the layer, the first of all initialisations first on the axis B.
      slope: of the LeakyReLU.
    """
    twins = codes_of_twins(signs, heads=heads, slope=slope)
    return ClassFacts(
        count_equal_pairs(twins, layout.classes),
        _collided_classes(*twins, layout),
    )


def _collided_classes(
    codes: Int[Array, "parts inits receivers"],
    is_finite: Bool[Array, "inits receivers"],
    layout: TwinLayout,
) -> Int[Array, " inits"]:
    """Return how many classes have one code in every part, and finite numbers only."""
    by_class = np.argsort(layout.classes, kind="stable")
    sizes = np.bincount(layout.classes)
    ends = np.cumsum(sizes)
    spokesman = by_class[np.repeat(ends - sizes, sizes)]  # of each twin in that order

    def step(found: Array, code: Array) -> tuple[Array, None]:
        return found | (code[:, by_class] != code[:, spokesman]), None

    is_other = jax.lax.scan(step, ~is_finite[:, by_class], codes)[0]
    others = jnp.cumsum(is_other.astype(jnp.int32), axis=1)
    others = jnp.concatenate([jnp.zeros_like(others[:, :1]), others], axis=1)
    is_whole = others[:, ends] == others[:, ends - sizes]
    return jnp.sum(is_whole.astype(jnp.int32), axis=1)


# --- limbs of wide numbers ----------------------------------------------------------------------

NUM_LIMBS, LIMB_BITS = 4, 16


def to_limbs(value: Wide) -> Int[Array, "limbs ..."]:
    """Cut wide numbers into limbs of 16 bits, the lowest first.

    Limbs are int32: those of up to 2^15 numbers can be added up without a carry.
    """
    mask = np.uint32(2**LIMB_BITS - 1)
    limbs = [x for word in (value.low, value.high) for x in (word & mask, word >> LIMB_BITS)]
    return jnp.stack(limbs).astype(jnp.int32)


def from_limbs(limbs: Int[Array | np.ndarray, "limbs ..."]) -> Int[np.ndarray, "..."]:
    """Put int64 numbers, below 2^63, together from sums of limbs."""
    shifts = LIMB_BITS * np.arange(NUM_LIMBS).reshape(-1, *[1] * (limbs.ndim - 1))
    return np.asarray((np.asarray(limbs, np.int64) << shifts).sum(axis=0))
