"""How measures are computed of what is seen of a layer: of its attention, and of its twins.

Sums over edges go through the layout; what is left are arrays over rows, and over twins. Nothing is
scattered but ranges of large classes of twins.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from gat_jax.graphs import TwinPairs
from gat_jax.symmetry import (
    CAUSES,
    RowSigns,
    equal_by_signs,
    normalised_entropy,
    pair_causes,
    primary_cause,
    row_signs,
    twin_gap,
)
from gat_jax.symmetry.groups import codes_of_twins, count_equal_pairs, to_float
from gat_jax.symmetry.metrics import favourite_senders
from gat_jax.training.watched import Seen, TwinGroup, Watched

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
NUM_ENTROPY_BINS = 50  # of equal width on [0, 1]


@dataclasses.dataclass(frozen=True)
class Observed:
    """A layer at one moment and its graph, with what several measures share: computed once.

    Q receivers, H heads, P compared pairs of non-trivial twins.
    """

    seen: Seen
    watched: Watched

    @property
    def outputs(self) -> Float[Array, "nodes outputs"]:
        """Outputs of the real nodes."""
        return self.seen.outputs[: self.watched.num_nodes]

    @functools.cached_property
    def entropies(self) -> Float[Array, "heads receivers"]:
        """Normalised entropies of the rows of at least two edges."""
        watched, attention = self.watched, self.seen.info.attention
        entropy_nh = normalised_entropy(
            attention,
            watched.graph.receivers,
            len(self.seen.outputs),
            mask=watched.edge_mask,
            layout=watched.layout,
        )
        return entropy_nh[watched.entropy_rows].T

    @functools.cached_property
    def sorted_entropies(self) -> Float[Array, "heads receivers"]:
        """The same in ascending order, which quantiles and the histogram read."""
        return _sorted(self.entropies)

    @functools.cached_property
    def self_attention(self) -> Float[Array, "heads receivers"]:
        """Attention of receivers with a self-loop on themselves."""
        loops_sm = self.watched.loops
        attention_smh = self.seen.info.attention[loops_sm]
        is_loop_sm1 = jnp.asarray(loops_sm >= 0)[..., None]
        return jnp.sum(jnp.where(is_loop_sm1, attention_smh, 0.0), axis=1).T

    @functools.cached_property
    def sorted_self_attention(self) -> Float[Array, "heads receivers"]:
        """The same in ascending order."""
        return _sorted(self.self_attention)

    @functools.cached_property
    def signs(self) -> RowSigns:
        """Signs of the rows of all nodes, [N, H, D] each."""
        watched = self.watched
        options = {"mask": watched.edge_mask, "layout": watched.layout}
        return row_signs(self.seen.info, watched.graph, **options)

    @functools.cached_property
    def causes(self) -> Bool[Array, "pairs heads causes"]:
        """Causes for which compared pairs of non-trivial twins are equal, head by head."""
        seen, watched, twins = self.seen, self.watched, self.watched.twins
        return pair_causes(
            seen.info,
            watched.graph,
            TwinPairs(twins.first, twins.second, np.zeros(twins.first.shape, bool)),
            slope=watched.slope,
            mask=watched.edge_mask,
            layout=watched.layout,
        )

    @functools.cached_property
    def gaps(self) -> Float[Array, "pairs heads"]:
        """Gaps between the outputs of compared pairs of non-trivial twins, head by head."""
        twins = self.watched.twins
        return twin_gap(self.seen.info.head_outputs, twins.first, twins.second)


# --- attention ------------------------------------------------------------------------------------


def _sorted(values_hq: Float[Array, "heads receivers"]) -> Float[Array, "heads receivers"]:
    """Sort the numbers of each head; all are NaN where one is."""
    is_known_h1 = jnp.all(jnp.isfinite(values_hq), axis=1, keepdims=True)
    # As whole numbers of the same order, which XLA sorts five times as fast on a CPU as floats.
    whole = jnp.dtype(f"int{8 * values_hq.dtype.itemsize}")
    most, last = jnp.iinfo(whole).max, jnp.iinfo(whole).bits - 1

    def flip(bits: Array) -> Array:  # the order of negative numbers is the reverse of their bits'
        return bits ^ ((bits >> last) & most)

    found_hq = jnp.sort(flip(jax.lax.bitcast_convert_type(values_hq, whole)), axis=1)
    found_hq = jax.lax.bitcast_convert_type(flip(found_hq), values_hq.dtype)
    return jnp.where(is_known_h1, found_hq, jnp.nan)


def mean_of_rows(values_hq: Float[Array, "heads receivers"]) -> Float[Array, " heads"]:
    """Return the mean over receivers; NaN of none."""
    return jnp.sum(values_hq, axis=1) / (values_hq.shape[1] or jnp.nan)


def quantiles_of_rows(
    sorted_hq: Float[Array, "heads receivers"],
) -> Float[Array, "heads quantiles"]:
    """Interpolate linearly between neighbours, as NumPy does."""
    num_heads, num_rows = sorted_hq.shape
    if num_rows == 0:
        return jnp.full((num_heads, len(QUANTILES)), jnp.nan)
    place = np.array(QUANTILES) * (num_rows - 1)
    below = np.floor(place).astype(np.int32)
    low, high = sorted_hq[:, below], sorted_hq[:, np.minimum(below + 1, num_rows - 1)]
    return low + (high - low) * jnp.asarray(place - below, sorted_hq.dtype)[None]


def entropy_histogram(observed: Observed) -> Float[Array, "heads bins"]:
    """Return shares of receivers by bins that hold their lower border; the last holds 1, too."""
    entropy_hq = observed.sorted_entropies
    num_rows = entropy_hq.shape[1]
    borders = jnp.asarray(np.arange(1, NUM_ENTROPY_BINS) / NUM_ENTROPY_BINS, entropy_hq.dtype)
    # How many are below each border: by search in what is sorted, without a scatter.
    below = jax.vmap(lambda row: jnp.searchsorted(row, borders, side="left"))(entropy_hq)
    ends = [jnp.full((len(below), 1), number, below.dtype) for number in (0, num_rows)]
    counts = jnp.diff(jnp.concatenate([ends[0], below, ends[1]], axis=1), axis=1)
    is_known_h1 = jnp.all(jnp.isfinite(entropy_hq), axis=1, keepdims=True)
    share_hb = counts.astype(entropy_hq.dtype) / (num_rows or jnp.nan)
    return jnp.where(is_known_h1, share_hb, jnp.nan)


def favourite_share(observed: Observed) -> Float[Array, " heads"]:
    """Return the share of receivers whose favourite is that of most: the longest run of equals."""
    watched, attention = observed.watched, observed.seen.info.attention
    num_rows = len(watched.choosing_rows)
    if num_rows == 0:
        return jnp.full(attention.shape[1], jnp.nan)
    favourite_nh = favourite_senders(attention, watched.layout, mask=watched.edge_mask)
    found_hq = jnp.sort(favourite_nh[watched.choosing_rows].T.astype(jnp.int32), axis=1)
    place_hq = jax.lax.broadcasted_iota(jnp.int32, found_hq.shape, 1)
    is_new_hq = found_hq != jnp.roll(found_hq, 1, axis=1)
    start_hq = jax.lax.cummax(jnp.where(is_new_hq, place_hq, 0), axis=1)
    most_h = jnp.max(place_hq - start_hq, axis=1) + 1
    is_known_h = jnp.all(jnp.isfinite(attention), axis=0)
    return jnp.where(is_known_h, most_h.astype(favourite_nh.dtype) / num_rows, jnp.nan)


# --- twins ----------------------------------------------------------------------------------------


def cause_share(observed: Observed) -> Float[Array, "heads causes"]:
    """Return shares of pairs by primary cause, each compared pair with its weight."""
    weight_p = jnp.asarray(observed.watched.twins.weight, observed.seen.info.attention.dtype)
    primary_phk = primary_cause(observed.causes)[..., None] == jnp.arange(len(CAUSES))[None, None]
    return jnp.sum(primary_phk * weight_p[:, None, None], axis=0) / jnp.sum(weight_p)


def equal_share(observed: Observed, *, is_by_head: bool) -> Float[Array, " verdicts"]:
    """Return the share of all pairs that are equal by signs: in each head, or in all [1]."""
    twins, num_heads = observed.watched.twins, observed.seen.info.attention.shape[1]
    num_pairs = observed.watched.counts.pairs
    num_verdicts = num_heads if is_by_head else 1
    if num_pairs == 0:
        return jnp.full(num_verdicts, jnp.nan)
    if len(twins.large_nodes) == 0:  # all pairs are compared, at a third of the time of sorting
        is_equal_ph = equal_by_signs(observed.causes)
        is_equal_px = is_equal_ph if is_by_head else jnp.all(is_equal_ph, axis=1, keepdims=True)
        return jnp.sum(is_equal_px, axis=0, dtype=jnp.int32) / np.float32(num_pairs)
    rows = RowSigns(*(list(jnp.moveaxis(x[twins.nodes], -1, 0)) for x in observed.signs))
    slope_1h = jnp.broadcast_to(jnp.reshape(observed.watched.slope, (1, -1)), (1, num_heads))
    # A head in the place of an initialisation has a verdict of its own.
    codes = codes_of_twins(rows, heads=1 if is_by_head else num_heads, slope=slope_1h)
    return to_float(count_equal_pairs(codes, twins.classes)) / np.float32(num_pairs)


def median_gap(gap_px: Float[Array, "pairs parts"], twins: TwinGroup) -> Float[Array, " parts"]:
    """Return the smallest gap that half of all pairs do not exceed."""
    if len(gap_px) == 0:
        return jnp.full(gap_px.shape[1], jnp.nan, gap_px.dtype)
    weight_xp = jnp.broadcast_to(jnp.asarray(twins.weight, gap_px.dtype)[None], gap_px.T.shape)
    sorted_xp, weight_xp = jax.lax.sort((gap_px.T, weight_xp), dimension=1, num_keys=1)
    up_to_xp = jnp.cumsum(weight_xp, axis=1)
    place_x1 = jnp.argmax(up_to_xp >= up_to_xp[:, -1:] / 2, axis=1, keepdims=True)
    median_x = jnp.take_along_axis(sorted_xp, place_x1, axis=1)[:, 0]
    return jnp.where(jnp.all(jnp.isfinite(gap_px), axis=0), median_x, jnp.nan)


def _largest_gap(
    gap_px: Float[Array, "pairs parts"],
    values_nxc: Float[Array, "nodes parts channels"],
    twins: TwinGroup,
) -> Float[Array, " parts"]:
    """Return the largest gap of all pairs: over a large class, the widest range of a channel."""
    if len(gap_px) == 0:
        return jnp.full(gap_px.shape[1], jnp.nan, gap_px.dtype)
    largest_x = jnp.max(gap_px, axis=0)
    num_classes = len(twins.large_names)
    if num_classes:
        options = {"num_segments": num_classes, "indices_are_sorted": True}
        large = values_nxc[twins.large_nodes], jnp.asarray(twins.large_classes)
        range_kxc = jax.ops.segment_max(*large, **options) - jax.ops.segment_min(*large, **options)
        largest_x = jnp.maximum(largest_x, jnp.max(range_kxc, axis=(0, 2)))
    return largest_x


def largest_head_gap(observed: Observed) -> Float[Array, " heads"]:
    """Return the largest gap of all pairs of non-trivial twins in the outputs of every head."""
    head_outputs = observed.seen.info.head_outputs
    return _largest_gap(observed.gaps, head_outputs, observed.watched.twins)


def output_gaps(observed: Observed, *, is_median: bool) -> Float[Array, "2"]:
    """Return gaps of merged outputs: of non-trivial twins, and of trivial ones."""
    found = []
    for twins in (observed.watched.twins, observed.watched.trivial_twins):
        outputs = observed.seen.outputs
        gap_p1 = twin_gap(outputs, twins.first, twins.second)[:, None]
        of_pairs = median_gap(gap_p1, twins)
        found.append(of_pairs if is_median else _largest_gap(gap_p1, outputs[:, None], twins))
    return jnp.concatenate(found)
