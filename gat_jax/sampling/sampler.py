"""Random initialisations of one setting, measured and counted, a tile at a time.

A *batch* is a fixed number of initialisations whose random numbers are drawn in bulk; a *tile* is
a fixed number of batches, the work of one call of one program on one device. The numbers of
initialisation i depend on (seed, cell, i) alone: it is lane i % T of batch i // T, where T depends
on the cell and not on the machine. What comes back are counts, so memory does not grow with the
number of initialisations.

Programs are shared by all cells of one shape: everything that is not a shape (key, features,
scales of the initialiser, slope) is an argument. On one kind of device and one version of JAX the
same tile gives the same counts, bit for bit, whichever process computes it and when.
"""

import dataclasses
import functools
import json
import math
from collections.abc import Iterable, Iterator
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import jraph
import numpy as np
from jaxtyping import Array, Float, Int, UInt32

from gat_jax import graphs
from gat_jax.graphs import TwinPairs
from gat_jax.layers import (
    SCHEMES,
    InitializerName,
    LayerConfig,
    assemble,
    check_fits,
    draw_scales,
    num_draws,
)
from gat_jax.runtime import engine
from gat_jax.runtime.devices import Devices, default_devices
from gat_jax.sampling import random_bits as draws
from gat_jax.sampling import twin_rows as lanes
from gat_jax.sampling.twin_rows import TwinLayout
from gat_jax.symmetry import CAUSES, NUM_EXACT_CAUSES

FeatureName = Literal["raw", "standardised", "uniform01", "normal"]

BATCHES_PER_TILE = 8
# An attention row counts as uniform when its normalised entropy is above one minus this.
UNIFORM_DEFICIT = 1e-6
# Causes of a pair in all heads together: the one they share, or `mixed` if they differ.
JOINT_CAUSES = (*CAUSES, "mixed")
NUM_ENTROPY_BINS = 50  # of equal width on [0, 1]
# Bins of log10 of the gap: exactly 0, below the range, the range in steps, above the range.
GAP_RANGE, GAP_STEPS = (-8.0, 4.0), 48
NUM_GAP_BINS = GAP_STEPS + 3

# The fields of `Counts` that are sums of real numbers.
SUMS = ("squared_shares", "deficit_sum", "deficit_squares", "log_gap_sum", "log_gap_squares")


@dataclasses.dataclass(frozen=True)
class Cell:
    """One setting whose initialisations are sampled."""

    graph: str  # name of the graph: part of the identity of the random numbers
    layer: LayerConfig
    features: FeatureName = "raw"  # uniform01 and normal are drawn anew for every initialisation
    slope: float = 0.2  # of the LeakyReLU
    gain: float | None = None  # replaces the initialiser's own

    def __post_init__(self):
        """Refuse what cannot be sampled."""
        if self.features not in get_args(FeatureName):
            names = ", ".join(get_args(FeatureName))
            raise ValueError(f"features: expected one of {names}, got {self.features!r}")
        if not math.isfinite(self.slope):
            raise ValueError(f"slope: expected a finite number, got {self.slope}")
        # Wider ones overflow float32 with ordinary features, and NaN compares as anything.
        if abs(self.slope) > 1e6:
            raise ValueError(f"slope: expected at most 1e6 in size, got {self.slope}")
        if self.gain is not None and not 1e-6 <= self.gain <= 1e6:
            raise ValueError(f"gain: expected between 1e-6 and 1e6, got {self.gain}")
        if self.layer.num_edge_features:
            raise ValueError(
                "num_edge_features: expected 0 where initialisations are sampled, "
                f"got {self.layer.num_edge_features}"
            )

    @property
    def identity(self) -> str:
        """What its random numbers depend on: all but slope and gain, which only scale them."""
        settings = dataclasses.asdict(self)
        del settings["slope"], settings["gain"]
        return json.dumps(settings, sort_keys=True)


class Counts(NamedTuple):
    """Numbers of initialisations (I), of initialisations and pairs (I P), and the like.

    H heads, K causes, R twins (rows). "Collided" means equal by signs in every head. Counts of
    pairs and rows are exact integers; sums are float64 sums of each tile's float32 sums.
    """

    num_inits: Int[np.ndarray, ""]  # I
    collisions: Int[np.ndarray, ""]  # of I P
    joint_causes: Int[np.ndarray, " joint_causes"]  # of I P, in the order of JOINT_CAUSES
    regime_collisions: Int[np.ndarray, ""]  # of I P: each head in one linear regime
    head_causes: Int[np.ndarray, "heads causes"]  # of I P, by primary cause
    all_pairs_collided: Int[np.ndarray, ""]  # of I
    class_collisions: Int[np.ndarray, ""]  # of I x classes: all twins of the class equal
    uniform_attention: Int[np.ndarray, ""]  # of I P: in both rows, every head
    equal_outputs: Int[np.ndarray, ""]  # of I P: merged outputs equal to the last bit
    matching_outputs: Int[np.ndarray, ""]  # of I P: equal when rounded to 4 decimals
    entropy_histogram: Int[np.ndarray, " entropy_bins"]  # of I R H: normalised entropy of a row
    gap_histogram: Int[np.ndarray, " gap_bins"]  # of I P: log10 of the merged outputs' gap
    # Pairs of one initialisation are not independent: the sum over I of squared shares of pairs
    # collided gives the mean share its interval.
    squared_shares: Float[np.ndarray, ""]
    # The deficit is 1 - normalised entropy: near uniform attention it keeps more digits.
    deficit_sum: Float[np.ndarray, ""]  # over I R H
    deficit_squares: Float[np.ndarray, ""]
    log_gap_sum: Float[np.ndarray, ""]  # over the I P with a gap above 0
    log_gap_squares: Float[np.ndarray, ""]

    @property
    def head_collisions(self) -> Int[np.ndarray, " heads"]:
        """Of I P, each head for itself."""
        return self.head_causes[:, :NUM_EXACT_CAUSES].sum(axis=1)


class InitValues(NamedTuple):
    """What is kept of each initialisation of a tile, on request."""

    collided_pairs: Int[Array | np.ndarray, " inits"]
    mean_entropy: Float[Array | np.ndarray, " inits"]  # normalised, over rows and heads
    largest_gap: Float[Array | np.ndarray, " inits"]  # over pairs


@dataclasses.dataclass(frozen=True)
class Shape:
    """What a program is compiled for."""

    layer: LayerConfig  # its initialiser stands for all with the same kind of numbers
    layout: TwinLayout
    num_features: int
    drawn_features: draws.Distribution | None
    batch_size: int  # T
    is_monotone: bool  # slope >= 0
    only_signs: bool
    keep_values: bool

    @property
    def tile_size(self) -> int:
        """Initialisations of a tile."""
        return BATCHES_PER_TILE * self.batch_size


class Inputs(NamedTuple):
    """What a program is called with: traced."""

    key: UInt32[np.ndarray, "2"]
    feature_key: UInt32[np.ndarray, "2"]
    nodes: Float[np.ndarray, "nodes features"]  # of the layout's nodes; unused where drawn
    scales: dict[str, Any]  # of `initializers.draw_scales`: float32 scalars
    slope: Any  # float32 scalar


class Tile(NamedTuple):
    """One tile of a cell: the initialisations from its first batch on."""

    first_batch: int | np.integer | Array  # number of its first batch, uint32
    num_inits: int | np.integer | Array  # how many of its initialisations count: the first ones


class PreparedCell(NamedTuple):
    """A cell ready to be computed."""

    cell: Cell
    shape: Shape
    inputs: Inputs

    @property
    def work(self) -> engine.Work:
        """What the engine runs: a function over `Tile`s."""
        return engine.Work(run_tile, self.shape, self.inputs, Tile(np.uint32(0), np.int32(0)))


class Tally(NamedTuple):
    """Counts of a tile as the device makes them: of pairs and rows by bin, of others by sum."""

    bins: Int[Array | np.ndarray, " bins"]  # see `_bin_sizes`
    all_pairs_collided: Int[Array | np.ndarray, ""]
    class_collisions: Int[Array | np.ndarray, ""]
    squared_shares: Float[Array | np.ndarray, ""]
    deficit_sum: Float[Array | np.ndarray, ""]
    deficit_squares: Float[Array | np.ndarray, ""]
    log_gap_sum: Float[Array | np.ndarray, ""]
    log_gap_squares: Float[Array | np.ndarray, ""]


# --- what is computed -----------------------------------------------------------------------


class MeasuredTile(NamedTuple):
    """What comes back of one tile."""

    num_inits: int | np.integer  # how many were counted
    tally: Tally
    values: InitValues | None  # of the initialisations counted, where they are kept


def prepare_cell(
    cell: Cell,
    graph: jraph.GraphsTuple,
    pairs: TwinPairs,
    *,
    seed: int,
    only_signs: bool = False,
    keep_values: bool = False,
) -> PreparedCell:
    """Prepare a cell.

    Args:
      cell: what is drawn.
      graph: with raw features, which `cell.features` may replace.
      pairs: all pairs of non-trivial twins of the graph, at least one.
      seed: root of all random numbers.
      only_signs: count collisions and nothing that needs attention weights: no `rounding`, no
        entropies, gaps or outputs.
      keep_values: return values of every initialisation as well.

    Raises:
      ValueError: without pairs, or when cell and graph do not fit.
    """
    layout, ids = lanes.twin_layout(graph, pairs)
    nodes = np.asarray(graph.nodes, np.float32)
    if cell.features == "standardised":
        nodes = graphs.standardise(nodes)
    num_features = nodes.shape[1]
    check_fits(cell.layer, num_features)
    scheme = SCHEMES[cell.layer.initializer]
    representatives: dict[draws.Distribution, InitializerName] = {
        "uniform": "glorot_uniform",
        "normal": "glorot_normal",
    }
    representative = representatives[scheme.distribution]
    if scheme.has_identity_kernel:
        representative = cell.layer.initializer
    drawn: dict[str, draws.Distribution] = {"uniform01": "uniform", "normal": "normal"}
    scales = draw_scales(cell.layer, num_features, gain=cell.gain)
    shape = Shape(
        layer=dataclasses.replace(cell.layer, initializer=representative),
        layout=layout,
        num_features=num_features,
        drawn_features=drawn.get(cell.features),
        batch_size=batch_size(cell.layer, layout, num_draws(scales, cell.layer, num_features)),
        is_monotone=cell.slope >= 0,
        only_signs=only_signs,
        keep_values=keep_values,
    )
    inputs = Inputs(
        key=_key_data(seed, cell.identity),
        feature_key=_key_data(seed, "features of " + cell.identity),
        nodes=nodes[ids],
        scales={name: np.float32(scale) for name, scale in scales.items()},
        slope=np.float32(cell.slope),
    )
    return PreparedCell(cell, shape, inputs)


def _key_data(seed: int, name: str) -> UInt32[np.ndarray, "2"]:
    return np.asarray(jax.random.key_data(draws.named_key(seed, name)))


def batch_size(layer: LayerConfig, layout: TwinLayout, num_numbers: int) -> int:
    """Return T, the initialisations drawn in bulk: a power of two, for the cache of one core."""
    slots = sum(map(len, layout.supports))
    outputs = layout.num_nodes * layer.heads * layer.channels
    total = num_numbers + outputs + slots * layer.heads
    return int(2 ** np.clip(np.floor(np.log2(2**19 / total)), 4, 14))


def run_tile(shape: Shape, inputs: Inputs, tile: Tile) -> tuple[Tally, InitValues | None]:
    """Draw and measure one tile.

    Args:
      shape: of the cell; static.
      inputs: of the cell.
      tile: which initialisations.
    """
    size = shape.batch_size
    first_batch = jnp.asarray(tile.first_batch, jnp.uint32)

    def step(tally: Tally, k: Array) -> tuple[Tally, InitValues | None]:
        facts = _measure_batch(inputs, first_batch + k.astype(jnp.uint32), shape)
        is_counted = jnp.arange(size) < tile.num_inits - k * size
        added = _tally(facts, is_counted, shape)
        kept = _keep(facts) if shape.keep_values else None
        return jax.tree.map(jnp.add, tally, added), kept

    start = Tally(jnp.zeros(sum(_bin_sizes(shape)), jnp.int32), *[jnp.int32(0)] * 2, *[0.0] * 5)
    start = jax.tree.map(jnp.asarray, start)
    tally, kept = jax.lax.scan(step, start, jnp.arange(BATCHES_PER_TILE))
    return tally, None if kept is None else InitValues(*(x.reshape(-1) for x in kept))


def split_into_tiles(first: int, stop: int, shape: Shape) -> Iterator[Tile]:
    """Cut the initialisations from `first`, a multiple of the tile size, to `stop` into tiles."""
    for start in range(first, stop, shape.tile_size):
        yield Tile(start // shape.batch_size, min(shape.tile_size, stop - start))


def measure_tiles(
    prepared: PreparedCell,
    tiles: Iterable[Tile],
    *,
    devices: Devices,
    calls_under_way: int = engine.MAX_CALLS_UNDER_WAY,
) -> Iterator[MeasuredTile]:
    """Compute tiles of a cell, and yield what they measured in the order given.

    Args:
      prepared: the cell.
      tiles: of `split_into_tiles`, read as they are needed.
      devices: each computes one tile at a time.
      calls_under_way: as in `engine.run_tiles`.
    """
    results = engine.run_tiles(
        prepared.work, tiles, devices=devices, calls_under_way=calls_under_way
    )
    for tile, (tally, values) in results:
        if values is not None:
            values = InitValues(*(x[: tile.num_inits] for x in values))
        yield MeasuredTile(tile.num_inits, tally, values)


def sample(
    cell: Cell,
    graph: jraph.GraphsTuple,
    pairs: TwinPairs,
    *,
    num_inits: int,
    seed: int,
    only_signs: bool = False,
) -> Counts:
    """Draw initialisations of one cell and count what happens to its twins, on one device.

    Args:
      cell: what is drawn.
      graph: with raw features, which `cell.features` may replace.
      pairs: all pairs of non-trivial twins of the graph, at least one.
      num_inits: at least 1.
      seed: root of all random numbers.
      only_signs: leave out what needs attention weights; see `prepare_cell`.

    Raises:
      ValueError: without pairs, or when less than one initialisation is asked for.
    """
    if num_inits < 1:
        raise ValueError(f"num_inits: expected at least 1, got {num_inits}")
    prepared = prepare_cell(cell, graph, pairs, seed=seed, only_signs=only_signs)
    tiles = split_into_tiles(0, num_inits, prepared.shape)
    results = measure_tiles(prepared, tiles, devices=default_devices()[:1])
    return decode(engine.add_up(x.tally for x in results), num_inits, prepared.shape)


def _measure_batch(inputs: Inputs, batch: Array, shape: Shape) -> lanes.PairFacts:
    layer, size = shape.layer, shape.batch_size

    def draw(key, num: int, distribution: draws.Distribution) -> Array:
        # The barrier keeps XLA from drawing the numbers anew for each of their consumers.
        bits = draws.draw_bits(key, batch, num=num, size=size)
        return draws.from_bits(jax.lax.optimization_barrier(bits), distribution)

    # All heads of all initialisations are lanes of a layer of one head.
    head = dataclasses.replace(layer, heads=1)
    num = num_draws(inputs.scales, head, shape.num_features)
    numbers = draw(inputs.key, num * layer.heads, SCHEMES[layer.initializer].distribution)
    numbers = numbers.reshape(num, layer.heads * size)
    params = assemble(numbers, inputs.scales, head, shape.num_features, axis=0)
    nodes = jnp.asarray(inputs.nodes)[..., None]
    if shape.drawn_features is not None:
        dims = shape.layout.num_nodes, shape.num_features
        nodes = draw(inputs.feature_key, math.prod(dims), shape.drawn_features)
        nodes = nodes.reshape(*dims, size)
        if shape.drawn_features == "uniform":
            nodes = 0.5 + nodes / np.float32(math.sqrt(12.0))  # U[0, 1]
    return lanes.measure_pairs(
        params,
        nodes,
        shape.layout,
        layer,
        slope=inputs.slope,
        is_monotone=shape.is_monotone,
        only_signs=shape.only_signs,
    )


# --- how it is counted --------------------------------------------------------------------------

NUM_FLAGS = 4  # of a pair: in a regime, equal outputs, matching outputs, uniform attention


def _bin_sizes(shape: Shape) -> tuple[int, ...]:
    """Return the widths of the parts of `Tally.bins`; the last one takes what does not count."""
    pairs = shape.layer.heads * len(CAUSES), len(JOINT_CAUSES) << NUM_FLAGS
    return *pairs, *([] if shape.only_signs else [NUM_ENTROPY_BINS, NUM_GAP_BINS]), 1


def _tally(facts: lanes.PairFacts, is_counted: Array, shape: Shape) -> Tally:
    """Count one batch: all counts of pairs and rows in one scatter, the fastest way on a CPU."""
    # Without the barrier XLA computes the pairs anew for each of the reductions below.
    facts = jax.lax.optimization_barrier(facts)
    lowest = _over_heads(jnp.minimum, facts.causes)
    highest = _over_heads(jnp.maximum, facts.causes)
    is_collided_pt = highest < NUM_EXACT_CAUSES
    differing = jnp.where(is_collided_pt, JOINT_CAUSES.index("mixed"), CAUSES.index("separated"))
    joint = jnp.where(lowest == highest, lowest, differing)
    flags = [_over_heads(jnp.logical_and, facts.in_regime)]
    gap = None
    if facts.gap is not None and facts.is_matching is not None and facts.deficit is not None:
        gap = _over_heads(jnp.maximum, facts.gap)
        is_uniform = _over_heads(jnp.logical_and, facts.deficit < UNIFORM_DEFICIT)
        first, second = np.array(shape.layout.pairs).T
        flags += [gap == 0, _over_heads(jnp.logical_and, facts.is_matching)]
        flags += [is_uniform[first] & is_uniform[second]]
    for bit, flag in enumerate(flags):
        joint += flag * (len(JOINT_CAUSES) << bit)
    heads = jnp.arange(shape.layer.heads, dtype=jnp.int32)[None, :, None]
    bins = [heads * len(CAUSES) + facts.causes, joint]
    moments = [jnp.float32(0.0)] * 4
    if gap is not None and facts.deficit is not None:
        entropy = 1.0 - facts.deficit
        log_gap = jnp.log10(gap)  # -inf where the outputs are equal
        low, high = GAP_RANGE
        steps = jnp.clip((log_gap - low) * (GAP_STEPS / (high - low)), -1.0, GAP_STEPS)
        gap_bin = jnp.where(gap > 0, 2 + jnp.floor(steps).astype(jnp.int32), 0)
        entropy_bin = jnp.clip(entropy * NUM_ENTROPY_BINS, 0.0, NUM_ENTROPY_BINS - 1.0)
        bins += [entropy_bin.astype(jnp.int32), gap_bin]
        counted_deficit = jnp.where(is_counted[None, None], facts.deficit, 0.0)
        counted_gap = jnp.where(is_counted[None] & (gap > 0), log_gap, 0.0)
        moments = [jnp.sum(x) for x in (counted_deficit, counted_deficit**2)]
        moments += [jnp.sum(x) for x in (counted_gap, counted_gap**2)]
    sizes = _bin_sizes(shape)
    starts = np.cumsum([0, *sizes])
    trash = starts[-2]
    index = [
        jnp.where(is_counted, start + bin_, trash).reshape(-1)
        for start, bin_ in zip(starts, (x.reshape(-1, x.shape[-1]) for x in bins), strict=False)
    ]
    bins = jnp.zeros(sum(sizes), jnp.int32)
    bins = bins.at[jnp.concatenate(index)].add(1, mode="promise_in_bounds")
    return Tally(bins, *_by_init(is_collided_pt & is_counted[None], shape.layout), *moments)


def _over_heads(operation, x: Array) -> Array:
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


def _keep(facts: lanes.PairFacts) -> InitValues:
    is_collided_pt = _over_heads(jnp.maximum, facts.causes) < NUM_EXACT_CAUSES
    nothing = jnp.full(is_collided_pt.shape[-1], jnp.nan)
    return InitValues(
        jnp.sum(is_collided_pt.astype(jnp.float32), axis=0).astype(jnp.int32),
        nothing if facts.deficit is None else 1.0 - jnp.mean(facts.deficit, axis=(0, 1)),
        nothing if facts.gap is None else jnp.max(facts.gap, axis=(0, 1)),
    )


def decode(tally: Tally, num_inits: int, shape: Shape) -> Counts:
    """Turn a sum of tallies, as int64 and float64 on the host, into counts."""
    ends = np.cumsum(_bin_sizes(shape))[:-1]
    head_causes, joint, *histograms = np.split(tally.bins, ends)[:-1]
    entropy_histogram, gap_histogram = histograms or (
        np.zeros(NUM_ENTROPY_BINS, np.int64),
        np.zeros(NUM_GAP_BINS, np.int64),
    )
    by_flag = joint.reshape(*[2] * NUM_FLAGS, len(JOINT_CAUSES))
    total = by_flag.sum(axis=tuple(range(NUM_FLAGS)))
    return Counts(
        num_inits=np.array(num_inits, np.int64),
        collisions=total[:NUM_EXACT_CAUSES].sum() + total[JOINT_CAUSES.index("mixed")],
        joint_causes=total,
        regime_collisions=by_flag[..., 1, :].sum(),
        head_causes=head_causes.reshape(shape.layer.heads, len(CAUSES)),
        all_pairs_collided=np.asarray(tally.all_pairs_collided),
        class_collisions=np.asarray(tally.class_collisions),
        uniform_attention=by_flag[1].sum(),
        equal_outputs=by_flag[..., 1, :, :].sum(),
        matching_outputs=by_flag[:, 1].sum(),
        entropy_histogram=entropy_histogram,
        gap_histogram=gap_histogram,
        squared_shares=np.asarray(tally.squared_shares),
        deficit_sum=np.asarray(tally.deficit_sum),
        deficit_squares=np.asarray(tally.deficit_squares),
        log_gap_sum=np.asarray(tally.log_gap_sum),
        log_gap_squares=np.asarray(tally.log_gap_squares),
    )
