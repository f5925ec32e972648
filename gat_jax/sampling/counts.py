"""How what is measured of pairs and rows is counted, and what the counts are called.

A device adds up a `Tally` for each tile; the host adds those of many tiles and decodes the sum into
`Counts`, whose fields have names. `COUNT_FIELDS` says of each what it is made of, for those who
store it. To add a measured quantity: a field of `Counts` with its entry in `COUNT_FIELDS`, its part
of `tally` and `decode`, and (of the sweeps) a line of `sweeps/summary`.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt32

from gat_jax.sampling.cells import Shape
from gat_jax.sampling.class_facts import (
    NUM_LIMBS,
    ClassFacts,
    Wide,
    from_limbs,
    to_float,
    to_limbs,
    wide_sum,
)
from gat_jax.sampling.pair_facts import PairFacts
from gat_jax.sampling.twin_layout import TwinLayout
from gat_jax.sampling.wide_rows import block_sum
from gat_jax.symmetry import CAUSES, NUM_EXACT_CAUSES

# An attention row counts as uniform when its normalised entropy is above one minus this.
UNIFORM_DEFICIT = 1e-6
# Causes of a pair in all heads together: the one they share, or `mixed` where they differ and each
# of them is exact.
JOINT_CAUSES = (*CAUSES, "mixed")
NUM_ENTROPY_BINS = 50  # of equal width on [0, 1]
# Bins of log10 of the gap: exactly 0, below the range, the range in steps, above the range.
GAP_RANGE, GAP_STEPS = (-8.0, 4.0), 48
NUM_GAP_BINS = GAP_STEPS + 3


class Counts(NamedTuple):
    """Numbers of initialisations (I), of initialisations and pairs (I P), and the like.

    H heads, K causes, R twins (rows). "Collided" means equal by signs in every head. Counts of
    pairs and rows are exact integers; sums are float64 sums of each tile's float32 sums. P are all
    pairs, and P' those that are compared: all of them, or a sample (`pair_sample`).
    """

    num_inits: Int[np.ndarray, ""]  # I
    collisions: Int[np.ndarray, ""]  # of I P
    joint_causes: Int[np.ndarray, " joint_causes"]  # of I P', in the order of JOINT_CAUSES
    regime_collisions: Int[np.ndarray, ""]  # of I P': each head in one linear regime
    head_causes: Int[np.ndarray, "heads causes"]  # of I P', by primary cause
    all_pairs_collided: Int[np.ndarray, ""]  # of I
    class_collisions: Int[np.ndarray, ""]  # of I x classes: all twins of the class equal
    uniform_attention: Int[np.ndarray, ""]  # of I P': in both rows, every head
    equal_outputs: Int[np.ndarray, ""]  # of I P': merged outputs equal to the last bit
    matching_outputs: Int[np.ndarray, ""]  # of I P': equal when rounded to 4 decimals
    entropy_histogram: Int[np.ndarray, " entropy_bins"]  # of I R H: normalised entropy of a row
    gap_histogram: Int[np.ndarray, " gap_bins"]  # of I P': log10 of the merged outputs' gap
    # Pairs of one initialisation are not independent: the sum over I of squared shares of pairs
    # collided gives the mean share its interval.
    squared_shares: Float[np.ndarray, ""]
    # The deficit is 1 - normalised entropy: near uniform attention it keeps more digits.
    deficit_sum: Float[np.ndarray, ""]  # over I R H
    deficit_squares: Float[np.ndarray, ""]
    log_gap_sum: Float[np.ndarray, ""]  # over the I P' with a gap above 0
    log_gap_squares: Float[np.ndarray, ""]

    @property
    def head_collisions(self) -> Int[np.ndarray, " heads"]:
        """Of I P', each head for itself."""
        return self.head_causes[:, :NUM_EXACT_CAUSES].sum(axis=1)


class CountField(NamedTuple):
    """What a field of `Counts` is made of."""

    dims: tuple[str, ...] = ()  # names of its axes; see `dim_sizes`
    dtype: type = np.int64  # float64: a sum of real numbers


COUNT_FIELDS: dict[str, CountField] = {
    "num_inits": CountField(),
    "collisions": CountField(),
    "joint_causes": CountField(("joint_cause",)),
    "regime_collisions": CountField(),
    "head_causes": CountField(("head", "cause")),
    "all_pairs_collided": CountField(),
    "class_collisions": CountField(),
    "uniform_attention": CountField(),
    "equal_outputs": CountField(),
    "matching_outputs": CountField(),
    "entropy_histogram": CountField(("entropy_bin",)),
    "gap_histogram": CountField(("gap_bin",)),
    "squared_shares": CountField(dtype=np.float64),
    "deficit_sum": CountField(dtype=np.float64),
    "deficit_squares": CountField(dtype=np.float64),
    "log_gap_sum": CountField(dtype=np.float64),
    "log_gap_squares": CountField(dtype=np.float64),
}
# The fields that are sums of real numbers: an overflow of float32 shows in them.
SUMS = tuple(name for name, field in COUNT_FIELDS.items() if field.dtype is np.float64)


def dim_sizes(heads: int) -> dict[str, int]:
    """Return the lengths of the axes that `COUNT_FIELDS` names, for a layer of so many heads."""
    return {
        "head": heads,
        "cause": len(CAUSES),
        "joint_cause": len(JOINT_CAUSES),
        "entropy_bin": NUM_ENTROPY_BINS,
        "gap_bin": NUM_GAP_BINS,
    }


class InitValues(NamedTuple):
    """What is kept of each initialisation of a tile, on request."""

    collided_pairs: Int[np.ndarray, " inits"]  # of all pairs
    mean_entropy: Float[np.ndarray, " inits"]  # normalised, over rows and heads
    largest_gap: Float[np.ndarray, " inits"]  # over the pairs that are compared


class DeviceValues(NamedTuple):
    """`InitValues` as a device has them."""

    collided_high: UInt32[Array | np.ndarray, " inits"]
    collided_low: UInt32[Array | np.ndarray, " inits"]
    mean_entropy: Float[Array | np.ndarray, " inits"]
    largest_gap: Float[Array | np.ndarray, " inits"]

    def first(self, num_inits: int | np.integer) -> InitValues:
        """Return those of the first initialisations, on the host."""
        high, low, entropy, gap = (np.asarray(x)[:num_inits] for x in self)
        return InitValues((high.astype(np.int64) << 32) + low, entropy, gap)


# --- on the device ------------------------------------------------------------------------------

# Flags of a pair in one initialisation, by the field of `Counts` that counts them. Without
# attention weights only the first can be known, and the others are never set.
FLAGS = ("regime_collisions", "equal_outputs", "matching_outputs", "uniform_attention")


class Tally(NamedTuple):
    """Counts of a tile as the device makes them, added up over tiles on the host.

    `bins` holds everything that is counted by pair or by row, side by side (`_bin_sizes`), for one
    scatter to count: on a CPU the fastest way. A scatter costs by the element, so each pair makes
    but one for all heads together, and carries its flags in the number of the bin:

        bin = joint cause + len(JOINT_CAUSES) * sum_k flag_k 2^k,    k the place in FLAGS

    `decode` adds the bins up again by name.
    """

    bins: Int[Array | np.ndarray, " bins"]
    all_pairs_collided: Int[Array | np.ndarray, ""]
    class_collisions: Int[Array | np.ndarray, ""]
    squared_shares: Float[Array | np.ndarray, ""]
    deficit_sum: Float[Array | np.ndarray, ""]
    deficit_squares: Float[Array | np.ndarray, ""]
    log_gap_sum: Float[Array | np.ndarray, ""]
    log_gap_squares: Float[Array | np.ndarray, ""]
    # Limbs of how many of all pairs collide, which outgrows int32. None where all are compared, and
    # counted in `bins`.
    collided_pairs: Int[Array | np.ndarray, " limbs"] | None


def empty_tally(shape: Shape) -> Tally:
    """Return the tally of nothing."""
    bins = jnp.zeros(sum(_bin_sizes(shape).values()), jnp.int32)
    collided = jnp.zeros(NUM_LIMBS, jnp.int32) if shape.layout.is_by_class else None
    return Tally(bins, *[jnp.int32(0)] * 2, *[jnp.float32(0.0)] * 5, collided_pairs=collided)


def tally(facts: PairFacts, is_counted: Bool[Array, " inits"], shape: Shape) -> Tally:
    """Count one batch.

    Args:
      facts: about its pairs.
      is_counted: False for the initialisations that are too many.
      shape: of the cell; static.
    """
    # Without the barrier XLA computes the pairs anew for each of the reductions below.
    facts = jax.lax.optimization_barrier(facts)
    lowest = over_heads(jnp.minimum, facts.causes)
    highest = over_heads(jnp.maximum, facts.causes)
    is_collided_pt = highest < NUM_EXACT_CAUSES
    differing = jnp.where(is_collided_pt, JOINT_CAUSES.index("mixed"), CAUSES.index("separated"))
    joint = jnp.where(lowest == highest, lowest, differing)
    heads = jnp.arange(shape.layer.heads, dtype=jnp.int32)[None, :, None]
    bins = {"head_causes": heads * len(CAUSES) + facts.causes}
    flags = {"regime_collisions": over_heads(jnp.logical_and, facts.in_regime)}
    moments = [jnp.float32(0.0)] * 4
    if facts.gap is not None and facts.is_matching is not None and facts.deficit is not None:
        gap = over_heads(jnp.maximum, facts.gap)
        is_uniform = over_heads(jnp.logical_and, facts.deficit < UNIFORM_DEFICIT)
        first, second = np.array(shape.layout.pairs).T
        flags["equal_outputs"] = gap == 0
        flags["matching_outputs"] = over_heads(jnp.logical_and, facts.is_matching)
        flags["uniform_attention"] = is_uniform[first] & is_uniform[second]
        log_gap = jnp.log10(gap)  # -inf where the outputs are equal
        bins["entropy_histogram"] = _entropy_bin(facts.deficit)
        bins["gap_histogram"] = _gap_bin(gap, log_gap)
        counted_deficit = jnp.where(is_counted[None, None], facts.deficit, 0.0)
        counted_gap = jnp.where(is_counted[None] & (gap > 0), log_gap, 0.0)
        total = _sum_of_rows if shape.layout.is_by_class else jnp.sum
        moments = [total(x) for x in (counted_deficit, counted_deficit**2)]
        moments += [jnp.sum(x) for x in (counted_gap, counted_gap**2)]
    for name, flag in flags.items():
        joint += flag * (len(JOINT_CAUSES) << FLAGS.index(name))
    bins["joint_causes"] = joint
    by_init, collided = _by_init(is_collided_pt & is_counted[None], shape.layout), None
    if facts.by_class is not None:
        by_init, collided = _by_class(facts.by_class, is_counted, shape.layout)
    counted_bins = _count_bins(bins, is_counted, _bin_sizes(shape))
    return Tally(counted_bins, *by_init, *moments, collided_pairs=collided)


def _bin_sizes(shape: Shape) -> dict[str, int]:
    """Return the parts of `Tally.bins` with their lengths, in their order."""
    sizes = {
        "head_causes": shape.layer.heads * len(CAUSES),
        "joint_causes": len(JOINT_CAUSES) << len(FLAGS),
    }
    if not shape.only_signs:
        sizes |= {"entropy_histogram": NUM_ENTROPY_BINS, "gap_histogram": NUM_GAP_BINS}
    return sizes | {"not_counted": 1}


def _entropy_bin(deficit: Array) -> Array:
    """Return the bin of the histogram of normalised entropies, from 0 to 1."""
    entropy = 1.0 - deficit
    number = jnp.clip(entropy * NUM_ENTROPY_BINS, 0.0, NUM_ENTROPY_BINS - 1.0)
    return number.astype(jnp.int32)


def _gap_bin(gap: Array, log_gap: Array) -> Array:
    """Return the bin of the histogram of gaps: 0 for none, 1 below the range, and so on."""
    low, high = GAP_RANGE
    steps = jnp.clip((log_gap - low) * (GAP_STEPS / (high - low)), -1.0, GAP_STEPS)
    return jnp.where(gap > 0, 2 + jnp.floor(steps).astype(jnp.int32), 0)


def _count_bins(bins: dict[str, Array], is_counted: Array, sizes: dict[str, int]) -> Array:
    """Count bins [..., T] of every part in one scatter; the last bin takes what does not count."""
    starts = dict(zip(sizes, np.cumsum([0, *sizes.values()]), strict=False))
    index = []
    for name in sorted(bins, key=list(sizes).index):
        by_init = starts[name] + bins[name].reshape(-1, len(is_counted))
        index.append(jnp.where(is_counted, by_init, starts["not_counted"]).reshape(-1))
    index = jnp.concatenate(index)
    counts = jnp.zeros(sum(sizes.values()), jnp.int32)
    return counts.at[index].add(1, mode="promise_in_bounds")


def over_heads(operation, x: Array) -> Array:
    """Reduce [P, H, T] to [P, T], head by head: XLA's own reduction of a middle axis is slow."""
    return functools.reduce(operation, [x[:, h] for h in range(x.shape[1])])


def _by_init(is_collided_pt: Array, layout: TwinLayout) -> tuple[Array, Array, Array]:
    """Return how often all pairs are collided and all of a class, and the sum of squared shares."""
    num_pairs = len(layout.pairs)
    collided_t = jnp.sum(is_collided_pt.astype(jnp.float32), axis=0)
    if num_pairs == 1:
        collided = jnp.sum(collided_t)
        return collided.astype(jnp.int32), collided.astype(jnp.int32), collided
    # Counts below 2^24 are exact in float32.
    members = np.equal.outer(np.arange(layout.num_classes), layout.pair_classes)
    by_class = jnp.matmul(
        members.astype(np.float32),
        is_collided_pt.astype(jnp.float32),
        precision=jax.lax.Precision.HIGHEST,
    )
    is_whole = by_class == members.sum(axis=1).astype(np.float32)[:, None]
    return (
        jnp.sum((collided_t == num_pairs).astype(jnp.float32)).astype(jnp.int32),
        jnp.sum(is_whole.astype(jnp.float32)).astype(jnp.int32),
        jnp.sum((collided_t / num_pairs) ** 2),
    )


def _by_class(
    facts: ClassFacts, is_counted: Array, layout: TwinLayout
) -> tuple[tuple[Array, Array, Array], Array]:
    """Return what `_by_init` does, and the limbs of how many pairs are collided."""
    pairs = Wide(*(jnp.where(is_counted, word, np.uint32(0)) for word in facts.collided_pairs))
    classes = jnp.where(is_counted, facts.collided_classes, 0)
    shares = to_float(pairs) / np.float32(layout.num_pairs)
    by_init = (
        jnp.sum((classes == layout.num_classes).astype(jnp.float32)).astype(jnp.int32),
        jnp.sum(classes),
        jnp.sum(shares**2),
    )
    return by_init, to_limbs(wide_sum(pairs, axis=0))


def _sum_of_rows(values: Float[Array, "receivers heads inits"]) -> Float[Array, ""]:
    """Return the sum of all, of many rows with the error of a sum of few."""
    return jnp.sum(block_sum(values))


def keep_values(facts: PairFacts) -> DeviceValues:
    """Return values of every initialisation of a batch; NaN for what was not measured."""
    is_collided_pt = over_heads(jnp.maximum, facts.causes) < NUM_EXACT_CAUSES
    nothing = jnp.full(is_collided_pt.shape[-1], jnp.nan)
    low = jnp.sum(is_collided_pt.astype(jnp.float32), axis=0).astype(jnp.uint32)
    collided = Wide(jnp.zeros_like(low), low)
    if facts.by_class is not None:
        collided = facts.by_class.collided_pairs
    entropy = nothing
    if facts.deficit is not None and facts.by_class is not None:
        rows, heads, _ = facts.deficit.shape
        entropy = 1.0 - jnp.sum(block_sum(facts.deficit), axis=(0, 1)) / np.float32(rows * heads)
    elif facts.deficit is not None:
        entropy = 1.0 - jnp.mean(facts.deficit, axis=(0, 1))
    return DeviceValues(
        *collided, entropy, nothing if facts.gap is None else jnp.max(facts.gap, axis=(0, 1))
    )


# --- on the host --------------------------------------------------------------------------------


def decode(total: Tally, num_inits: int, shape: Shape) -> Counts:
    """Turn a sum of tallies into counts.

    Args:
      total: of `engine.add_up`, as int64 and float64.
      num_inits: how many initialisations it is of.
      shape: of their cell.
    """
    sizes = _bin_sizes(shape)
    ends = np.cumsum([*sizes.values()])[:-1]
    parts = dict(zip(sizes, np.split(total.bins, ends), strict=True))
    # One axis for each flag, the last of FLAGS first, and then the joint cause.
    by_flag = parts["joint_causes"].reshape(*[2] * len(FLAGS), len(JOINT_CAUSES))
    joint = by_flag.sum(axis=tuple(range(len(FLAGS))))
    set_flags = {
        name: by_flag.take(1, axis=len(FLAGS) - 1 - k).sum() for k, name in enumerate(FLAGS)
    }
    histograms = {
        name: parts.get(name, np.zeros(size, np.int64))
        for name, size in (
            ("entropy_histogram", NUM_ENTROPY_BINS),
            ("gap_histogram", NUM_GAP_BINS),
        )
    }
    others = ("bins", "collided_pairs")
    sums = {
        name: np.asarray(value) for name, value in total._asdict().items() if name not in others
    }
    collisions = joint[:NUM_EXACT_CAUSES].sum() + joint[JOINT_CAUSES.index("mixed")]
    if total.collided_pairs is not None:
        collisions = from_limbs(total.collided_pairs)
    return Counts(
        num_inits=np.array(num_inits, np.int64),
        collisions=collisions,
        joint_causes=joint,
        head_causes=parts["head_causes"].reshape(shape.layer.heads, len(CAUSES)),
        **set_flags,
        **histograms,
        **sums,
    )
