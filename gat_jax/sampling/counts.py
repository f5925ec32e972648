"""How what is measured of pairs and rows is counted, and what the counts are called.

A device adds up a `Tally` for each tile; the host adds those of many tiles and decodes the sum into
`Counts`, whose fields have names. `COUNT_FIELDS` says of each what it is made of, for those who
store it. To add a measured quantity: a field of `Counts` with its entry in `COUNT_FIELDS`, its part
of `tally` and `decode`, its part of the kernel for GPUs (`fused_tile`), and (of the sweeps) a line
of `sweeps/summary` and a new `SCHEMA` in `sweeps/records`.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt32

from gat_jax.sampling.binning import Bins, FlaggedBins, add_up_inits, add_up_rows, count
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

    collided_high: UInt32[Array | np.ndarray, "*tiles inits"]
    collided_low: UInt32[Array | np.ndarray, "*tiles inits"]
    mean_entropy: Float[Array | np.ndarray, "*tiles inits"]
    largest_gap: Float[Array | np.ndarray, "*tiles inits"]

    def of(self, is_picked: Bool[np.ndarray, "*tiles inits"]) -> InitValues:
        """Return those of the initialisations that are picked, on the host."""
        high, low, entropy, gap = (np.asarray(x)[is_picked] for x in self)
        return InitValues((high.astype(np.int64) << 32) + low, entropy, gap)


# --- on the device ------------------------------------------------------------------------------


class Tally(NamedTuple):
    """Counts of a tile as the device makes them, added up over tiles on the host.

    Every field is the one of `Counts` of its name, in int32 and float32. Without attention weights
    only signs can be known, and the fields of all else stay 0.
    """

    joint_causes: Int[Array | np.ndarray, " joint_causes"]
    regime_collisions: Int[Array | np.ndarray, ""]
    head_causes: Int[Array | np.ndarray, "heads causes"]
    all_pairs_collided: Int[Array | np.ndarray, ""]
    class_collisions: Int[Array | np.ndarray, ""]
    uniform_attention: Int[Array | np.ndarray, ""]
    equal_outputs: Int[Array | np.ndarray, ""]
    matching_outputs: Int[Array | np.ndarray, ""]
    entropy_histogram: Int[Array | np.ndarray, " entropy_bins"]
    gap_histogram: Int[Array | np.ndarray, " gap_bins"]
    squared_shares: Float[Array | np.ndarray, ""]
    deficit_sum: Float[Array | np.ndarray, ""]
    deficit_squares: Float[Array | np.ndarray, ""]
    log_gap_sum: Float[Array | np.ndarray, ""]
    log_gap_squares: Float[Array | np.ndarray, ""]
    # Limbs of how many of all pairs collide, which outgrows int32. None where all are compared, and
    # counted by their joint causes.
    collided_pairs: Int[Array | np.ndarray, " limbs"] | None


def empty_tally(shape: Shape) -> Tally:
    """Return the tally of nothing."""
    sizes = dim_sizes(shape.layer.heads)

    def zeros(field: CountField) -> Array:
        dtype = jnp.int32 if field.dtype is np.int64 else jnp.float32
        return jnp.zeros([sizes[dim] for dim in field.dims], dtype)

    named = {name: zeros(COUNT_FIELDS[name]) for name in Tally._fields if name in COUNT_FIELDS}
    limbs = jnp.zeros(NUM_LIMBS, jnp.int32) if shape.layout.is_by_class else None
    return Tally(**named, collided_pairs=limbs)


def tally(facts: PairFacts, is_counted: Bool[Array, " inits"], shape: Shape) -> Tally:
    """Count one batch.

    Args:
      facts: about its pairs.
      is_counted: False for the initialisations that are too many.
      shape: of the cell; static.
    """
    # For accelerators, where nothing is compiled apart: else XLA may compute the pairs anew for
    # each of the reductions below.
    facts = jax.lax.optimization_barrier(facts)
    heads = range(shape.layer.heads)
    lowest = over_heads(jnp.minimum, facts.causes)
    highest = over_heads(jnp.maximum, facts.causes)
    is_collided_pt = highest < NUM_EXACT_CAUSES
    joint = joint_cause(lowest, highest)
    bins = {f"head {h}": Bins(facts.causes[:, h], len(CAUSES)) for h in heads}
    flags = {"regime_collisions": over_heads(jnp.logical_and, facts.in_regime)}
    sums = {}
    if facts.gap is not None and facts.is_matching is not None and facts.deficit is not None:
        gap = over_heads(jnp.maximum, facts.gap)
        is_uniform = over_heads(jnp.logical_and, facts.deficit < UNIFORM_DEFICIT)
        first, second = np.array(shape.layout.pairs).T
        flags["equal_outputs"] = gap == 0
        flags["matching_outputs"] = over_heads(jnp.logical_and, facts.is_matching)
        flags["uniform_attention"] = is_uniform[first] & is_uniform[second]
        log_gap = jnp.log10(gap)  # -inf where the outputs are equal
        bins["entropy_histogram"] = Bins(entropy_bin(facts.deficit), NUM_ENTROPY_BINS)
        bins["gap_histogram"] = Bins(gap_bin(gap, log_gap), NUM_GAP_BINS)
        counted_deficit = jnp.where(is_counted[None, None], facts.deficit, 0.0)
        # A gap that is no number is counted, so that the sum shows it.
        counted_gap = jnp.where(is_counted[None] & (gap != 0), log_gap, 0.0)
        sums = {
            "deficit_sum": add_up_inits(counted_deficit),
            "deficit_squares": add_up_inits(counted_deficit**2),
            "log_gap_sum": add_up_inits(counted_gap),
            "log_gap_squares": add_up_inits(counted_gap**2),
        }
    counted = count(FlaggedBins(joint, len(JOINT_CAUSES), flags), bins, is_counted)
    head_causes = jnp.stack([counted.pop(f"head {h}") for h in heads])
    if facts.by_class is None:
        by_init = _by_init(is_collided_pt & is_counted[None], shape.layout)
    else:
        by_init = _by_class(facts.by_class, is_counted, shape.layout)
    return empty_tally(shape)._replace(head_causes=head_causes, **counted, **by_init, **sums)


def joint_cause(lowest: Array, highest: Array) -> Array:
    """Return the cause of all heads together, from the smallest and the largest of their causes."""
    is_collided = highest < NUM_EXACT_CAUSES
    differing = jnp.where(is_collided, JOINT_CAUSES.index("mixed"), CAUSES.index("separated"))
    return jnp.where(lowest == highest, lowest, differing)


def entropy_bin(deficit: Array) -> Array:
    """Return the bin of the histogram of normalised entropies, from 0 to 1."""
    entropy = 1.0 - deficit
    number = jnp.clip(entropy * NUM_ENTROPY_BINS, 0.0, NUM_ENTROPY_BINS - 1.0)
    return number.astype(jnp.int32)


def gap_bin(gap: Array, log_gap: Array) -> Array:
    """Return the bin of the histogram of gaps: 0 for none, 1 below the range, and so on."""
    low, high = GAP_RANGE
    steps = jnp.clip((log_gap - low) * (GAP_STEPS / (high - low)), -1.0, GAP_STEPS)
    return jnp.where(gap > 0, 2 + jnp.floor(steps).astype(jnp.int32), 0)


def over_heads(operation, x: Array) -> Array:
    """Reduce [P, H, T] to [P, T], head by head: XLA's own reduction of a middle axis is slow."""
    return functools.reduce(operation, [x[:, h] for h in range(x.shape[1])])


def _by_init(is_collided_pt: Array, layout: TwinLayout) -> dict[str, Array]:
    """Return how often all pairs are collided and all of a class, and the sum of squared shares."""
    num_pairs = len(layout.pairs)
    collided_t = jnp.sum(is_collided_pt.astype(jnp.float32), axis=0)
    if num_pairs == 1:
        collided = add_up_inits(collided_t)
        number = collided.astype(jnp.int32)
        return {
            "all_pairs_collided": number,
            "class_collisions": number,
            "squared_shares": collided,
        }
    # Counts below 2^24 are exact in float32.
    members = np.equal.outer(np.arange(layout.num_classes), layout.pair_classes)
    by_class = jnp.matmul(
        members.astype(np.float32),
        is_collided_pt.astype(jnp.float32),
        precision=jax.lax.Precision.HIGHEST,
    )
    is_whole = by_class == members.sum(axis=1).astype(np.float32)[:, None]
    is_all = collided_t == num_pairs
    return {
        "all_pairs_collided": add_up_inits(is_all.astype(jnp.float32)).astype(jnp.int32),
        "class_collisions": add_up_inits(is_whole.astype(jnp.float32)).astype(jnp.int32),
        "squared_shares": add_up_inits((collided_t / num_pairs) ** 2),
    }


def _by_class(facts: ClassFacts, is_counted: Array, layout: TwinLayout) -> dict[str, Array]:
    """Return what `_by_init` does, and the limbs of how many pairs are collided."""
    pairs = Wide(*(jnp.where(is_counted, word, np.uint32(0)) for word in facts.collided_pairs))
    classes = jnp.where(is_counted, facts.collided_classes, 0)
    shares = to_float(pairs) / np.float32(layout.num_pairs)
    is_whole = classes == layout.num_classes
    return {
        "all_pairs_collided": add_up_inits(is_whole.astype(jnp.float32)).astype(jnp.int32),
        "class_collisions": jnp.sum(classes),
        "squared_shares": add_up_inits(shares**2),
        "collided_pairs": to_limbs(wide_sum(pairs, axis=0)),
    }


def keep_values(facts: PairFacts) -> DeviceValues:
    """Return values of every initialisation of a batch; NaN for what was not measured."""
    is_collided_pt = over_heads(jnp.maximum, facts.causes) < NUM_EXACT_CAUSES
    nothing = jnp.full(is_collided_pt.shape[-1], jnp.nan)
    low = jnp.sum(is_collided_pt.astype(jnp.float32), axis=0).astype(jnp.uint32)
    collided = Wide(jnp.zeros_like(low), low)
    if facts.by_class is not None:
        collided = facts.by_class.collided_pairs
    return DeviceValues(
        *collided,
        nothing if facts.deficit is None else 1.0 - _mean_row(facts.deficit),
        nothing if facts.gap is None else jnp.max(facts.gap, axis=(0, 1)),
    )


def _mean_row(values: Float[Array, "rows heads inits"]) -> Float[Array, " inits"]:
    return add_up_rows(values) / (values.shape[0] * values.shape[1])


# --- on the host --------------------------------------------------------------------------------


def decode(total: Tally, num_inits: int | Int[np.ndarray, "..."]) -> Counts:
    """Turn sums of tallies into counts.

    Args:
      total: of `engine.add_up`, as int64 and float64, or of `engine.add_up_each`: several sums,
        whose axis comes first. Counts have it as well.
      num_inits: how many initialisations each is of.
    """
    joint, limbs = np.asarray(total.joint_causes), total.collided_pairs
    if limbs is not None:
        limbs = np.moveaxis(np.asarray(limbs), -1, 0)
    mixed = JOINT_CAUSES.index("mixed")
    collisions = joint[..., :NUM_EXACT_CAUSES].sum(axis=-1) + joint[..., mixed]
    named = {name: np.asarray(x) for name, x in total._asdict().items() if name in COUNT_FIELDS}
    return Counts(
        num_inits=np.array(num_inits, np.int64),
        collisions=collisions if limbs is None else from_limbs(limbs),
        **named,
    )
