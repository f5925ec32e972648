"""A tile in one kernel, for GPUs: words, logits, softmax, signs and counts stay on the chip.

XLA makes some forty kernels of a batch (`sampler.run_tile`), which hand each other words, facts and
numbers of bins through the memory of the device. Where nodes are unrolled everything is arithmetic
on one number for each initialisation, so here a program of a Pallas kernel does all of it for some
*lanes*, initialisation by initialisation, and writes nothing but counts. The formulas are those of
`twin_rows` and `pair_facts`; the random words are the same.

Bins are counted in bytes: a word has the counts of four bins, so that counting a number of a bin
takes an addition for every fourth bin. Bytes are emptied into int32 before they can overflow.

Numerics: counts are those of XLA's programs but where a number lies within rounding of a border,
for a compiler may keep a product in more digits before it adds to it. Sums are added by lane and
then over lanes, always in the same order.
"""

import dataclasses
import functools
import math
import operator
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton
from jaxtyping import Array

from gat_jax.layers import num_draws
from gat_jax.runtime.threefry import Words
from gat_jax.sampling import counts
from gat_jax.sampling.binning import add_up
from gat_jax.sampling.cells import BATCHES_PER_TILE, Shape
from gat_jax.sampling.counts import Tally, empty_tally
from gat_jax.sampling.on_chip import DrawnWords, OnChip, spell_params
from gat_jax.sampling.pair_facts import compare_rows
from gat_jax.sampling.random_bits import to_features
from gat_jax.sampling.row_forms import Spelled
from gat_jax.sampling.twin_rows import measure_rows, pick_rows, project_nodes
from gat_jax.symmetry import CAUSES, NUM_EXACT_CAUSES

# Measured on an H200.
NUM_LANES = 128  # initialisations of a program that are computed at once, two a thread
NUM_WARPS = 2
BYTE = 255  # what a byte counts to
MAX_OPERATIONS = 2000  # of all heads, which are spelled out too: compiling takes seconds


def is_fusable(shape: Shape) -> bool:
    """Whether a tile of this shape can be computed in one kernel.

    It is unrolled, heads have nothing to do with each other but that a pair is equal in all of
    them, and no value of a single initialisation is asked for.
    """
    layer = shape.layer
    operations = shape.layout.num_operations(shape.num_features, layer.channels)
    return (
        shape.layout.is_unrolled(shape.num_features, layer.channels)
        and operations * layer.heads <= MAX_OPERATIONS
        and not shape.keep_values
        and not layer.use_residual
        and (layer.concat or layer.heads == 1)
        and shape.batch_size >= NUM_LANES
        and _most_at_once(shape) <= BYTE
    )


def run_tile(
    shape: Shape, inputs: Any, tile: Any, *, interpret: bool = False
) -> tuple[Tally, None]:
    """Draw and measure one tile: what `sampler.run_tile` does, without values of initialisations.

    Args:
      shape: of the cell, `is_fusable`; static.
      inputs: of the cell.
      tile: which initialisations.
      interpret: run the kernel without a GPU, for tests.

    Returns:
      The tally, and no values.
    """
    steps = min(shape.batch_size // NUM_LANES, 1 << int(math.log2(BYTE // _most_at_once(shape))))
    parts = shape.batch_size // (NUM_LANES * steps)
    plan = _Plan.of(shape)
    num_counts = sum(math.prod(dims) for dims in plan.counts.values())
    grid = (BATCHES_PER_TILE, parts)
    arguments = (
        inputs.key,
        inputs.feature_key,
        jnp.asarray(inputs.nodes, jnp.float32),
        jnp.stack([jnp.asarray(x, jnp.float32) for x in inputs.scales.values()]),
        jnp.asarray(inputs.slope, jnp.float32)[None],
        jnp.asarray(tile.first_batch, jnp.uint32)[None],
        jnp.asarray(tile.num_inits, jnp.int32)[None],
    )
    kernel = functools.partial(
        _kernel, shape=shape, scale_names=tuple(inputs.scales), steps=steps, plan=plan
    )
    found, sums = pl.pallas_call(
        kernel,
        out_shape=[
            jax.ShapeDtypeStruct((*grid, num_counts), jnp.int32),
            jax.ShapeDtypeStruct((*grid, len(plan.sums)), jnp.float32),
        ],
        grid=grid,
        compiler_params=triton.CompilerParams(num_warps=NUM_WARPS),
        interpret=interpret,
        name="sample_tile",
    )(*arguments)
    found = jnp.sum(found, axis=(0, 1))
    sums = add_up(sums.reshape(-1, len(plan.sums)), axis=0)
    ends = np.cumsum([math.prod(dims) for dims in plan.counts.values()])[:-1]
    named = {
        name: part.reshape(dims)
        for (name, dims), part in zip(plan.counts.items(), jnp.split(found, ends), strict=True)
    }
    named |= {name: sums[k] for k, name in enumerate(plan.sums)}
    return empty_tally(shape)._replace(**named), None


class _Plan(NamedTuple):
    """What the kernel counts and adds up, in this order."""

    counts: dict[str, tuple[int, ...]]  # fields of `Tally`, with their shapes
    sums: tuple[str, ...]

    @classmethod
    def of(cls, shape: Shape) -> "_Plan":
        sizes = counts.dim_sizes(shape.layer.heads)
        of_signs = ("head_causes", "joint_causes", "regime_collisions")
        of_signs += ("all_pairs_collided", "class_collisions")
        of_outputs = ("entropy_histogram", "gap_histogram")
        of_outputs += ("uniform_attention", "equal_outputs", "matching_outputs")
        names = of_signs if shape.only_signs else of_signs + of_outputs
        dims = {name: tuple(sizes[x] for x in counts.COUNT_FIELDS[name].dims) for name in names}
        sums = ("deficit_sum", "deficit_squares", "log_gap_sum", "log_gap_squares")
        return cls(dims, ("squared_shares", *(() if shape.only_signs else sums)))


def _most_at_once(shape: Shape) -> int:
    """Return by how much one initialisation may raise the count of one bin or flag."""
    layout = shape.layout
    return max(len(layout.pairs), len(layout.receivers) * shape.layer.heads)


# --- the kernel -----------------------------------------------------------------------------------


def _kernel(*refs, shape: Shape, scale_names: Sequence[str], steps: int, plan: _Plan):
    """Count some lanes of one batch, `steps` times."""
    key, feature_key, nodes, scales, slope, first_batch, num_inits, counts_ref, sums_ref = refs
    batch, part = pl.program_id(0), pl.program_id(1)
    size = shape.batch_size
    drawn = _Drawn(
        key=(key[0], key[1]),
        feature_key=(feature_key[0], feature_key[1]),
        nodes=nodes,
        scales={name: scales[k] for k, name in enumerate(scale_names)},
        slope=slope[0],
        batch=first_batch[0] + batch.astype(jnp.uint32),
    )

    def step(k, tallied: _Tallied) -> _Tallied:
        lanes = (part * steps + k) * NUM_LANES + jnp.arange(NUM_LANES, dtype=jnp.int32)
        is_counted = batch * size + lanes < num_inits[0]
        return _tally(tallied, _measure(shape, drawn, lanes), is_counted, shape)

    tallied = jax.lax.fori_loop(0, steps, step, _Tallied.nothing(plan))
    place = 0
    for name, dims in plan.counts.items():
        for number in tallied.numbers(name, math.prod(dims)):
            counts_ref[batch, part, place] = number
            place += 1
    for k, name in enumerate(plan.sums):
        sums_ref[batch, part, k] = jnp.sum(tallied.sums[name])


class _Drawn(NamedTuple):
    """What the lanes of a program are drawn from."""

    key: Words
    feature_key: Words
    nodes: Any  # reference [N, F]
    scales: dict[str, Array]
    slope: Array
    batch: Array


class _Facts(NamedTuple):
    """Lists over pairs of lists over heads; `deficit` over rows of lists over heads."""

    causes: list[list[Array]]
    in_regime: list[list[Array]]
    gap: list[list[Array]] | None
    is_matching: list[list[Array]] | None
    deficit: list[list[Array]] | None


def _measure(shape: Shape, drawn: _Drawn, lanes: Array) -> _Facts:
    """Draw initialisations, and measure them head by head."""
    layer, layout = shape.layer, shape.layout
    head = dataclasses.replace(layer, heads=1)
    num = num_draws(drawn.scales, head, shape.num_features)
    words = DrawnWords(drawn.key, drawn.batch, num * layer.heads, shape.batch_size, lanes)
    form, nodes = OnChip(), _nodes(shape, drawn, lanes)
    by_head = []
    for h in range(layer.heads):
        numbers = [words.number(n * layer.heads + h, shape.distribution) for n in range(num)]
        params = spell_params(numbers, drawn.scales, head, shape.num_features)
        rows = measure_rows(
            params,
            project_nodes(params, nodes, head, form, only_signs=shape.only_signs),
            layout,
            head,
            form,
            slope=drawn.slope,
            is_monotone=shape.is_monotone,
            only_signs=shape.only_signs,
        )
        pairs = [
            compare_rows(
                pick_rows(form, rows, i), pick_rows(form, rows, k), head, form, slope=drawn.slope
            )
            for i, k in form.pairs(layout)
        ]
        by_head.append((*zip(*pairs, strict=True), rows.deficit))
    causes, in_regime, gap, is_matching, deficit = (
        None if fields[0] is None or fields[0][0] is None else _by_first_axis(fields)
        for fields in zip(*by_head, strict=True)
    )
    assert causes is not None
    assert in_regime is not None
    return _Facts(causes, in_regime, gap, is_matching, deficit)


def _by_first_axis(by_head: Sequence[Sequence[Array]]) -> list[list[Array]]:
    """Turn lists over heads of lists over pairs (or rows) the other way round."""
    return [list(x) for x in zip(*by_head, strict=True)]


def _nodes(shape: Shape, drawn: _Drawn, lanes: Array) -> Spelled:
    """Return the features of all nodes, drawn or given."""
    dims = shape.layout.num_nodes, shape.num_features
    entries = np.empty(dims, object)
    distribution = shape.drawn_features
    if distribution is None:
        for n, f in np.ndindex(dims):
            entries[n, f] = jnp.broadcast_to(drawn.nodes[n, f], lanes.shape)
        return Spelled(entries, NUM_LANES)
    words = DrawnWords(drawn.feature_key, drawn.batch, math.prod(dims), shape.batch_size, lanes)
    for place, index in enumerate(np.ndindex(dims)):
        entries[index] = to_features(words.number(place, distribution), distribution)
    return Spelled(entries, NUM_LANES)


# --- counting on the chip -------------------------------------------------------------------------


class _Tallied(NamedTuple):
    """Counts and sums so far, by lane."""

    bytes: dict[str, tuple[Array, ...]]  # of each field the words, four bins in each
    sums: dict[str, Array]

    @classmethod
    def nothing(cls, plan: _Plan) -> "_Tallied":
        """Return the counts of nothing."""
        words = {
            name: tuple(jnp.zeros(NUM_LANES, jnp.int32) for _ in range(-(-math.prod(dims) // 4)))
            for name, dims in plan.counts.items()
        }
        return cls(words, {name: jnp.zeros(NUM_LANES, jnp.float32) for name in plan.sums})

    def numbers(self, name: str, number: int) -> list[Array]:
        """Return the counts of all lanes: of a field all its bins."""
        found = []
        mask = jnp.int32(0x00FF00FF)
        for word in self.bytes[name]:
            # Two sums of 16 bits in each: 128 lanes of at most 255.
            even = jnp.sum(word & mask)
            odd = jnp.sum(jax.lax.shift_right_logical(word, jnp.int32(8)) & mask)
            low = jnp.int32(0xFFFF)
            found += [even & low, odd & low]
            found += [jax.lax.shift_right_logical(x, jnp.int32(16)) for x in (even, odd)]
        return found[:number]


def _tally(tallied: _Tallied, facts: _Facts, is_counted: Array, shape: Shape) -> _Tallied:
    """Add what was measured, as `counts.tally` counts it."""
    words, sums = dict(tallied.bytes), dict(tallied.sums)

    def add_bin(name: str, number: Array, offset: int = 0) -> None:
        number = number + offset
        unit = jnp.int32(1) << ((number & 3) << 3)
        unit = jnp.where(is_counted, unit, 0)
        word = number >> 2
        words[name] = tuple(
            total + jnp.where(word == k, unit, 0) for k, total in enumerate(words[name])
        )

    def add_flag(name: str, flag: Array) -> None:
        [total] = words[name]
        words[name] = (total + (flag & is_counted).astype(jnp.int32),)

    def add(name: str, value: Array) -> None:
        sums[name] = sums[name] + jnp.where(is_counted, value, 0.0)

    collided = []
    for causes, in_regime in zip(facts.causes, facts.in_regime, strict=True):
        for h, cause in enumerate(causes):
            add_bin("head_causes", cause, h * len(CAUSES))
        lowest = functools.reduce(jnp.minimum, causes)
        highest = functools.reduce(jnp.maximum, causes)
        collided.append(highest < NUM_EXACT_CAUSES)
        add_bin("joint_causes", counts.joint_cause(lowest, highest))
        add_flag("regime_collisions", functools.reduce(operator.and_, in_regime))
    _tally_by_init(collided, shape, add_flag, add)
    if facts.gap is None or facts.is_matching is None or facts.deficit is None:
        return _Tallied(words, sums)
    for deficits in facts.deficit:
        for deficit in deficits:
            add_bin("entropy_histogram", counts.entropy_bin(deficit))
            add("deficit_sum", deficit)
            add("deficit_squares", deficit**2)
    uniform = [
        functools.reduce(operator.and_, [x < counts.UNIFORM_DEFICIT for x in deficits])
        for deficits in facts.deficit
    ]
    for (i, k), gaps, matching in zip(
        shape.layout.pairs, facts.gap, facts.is_matching, strict=True
    ):
        gap = functools.reduce(jnp.maximum, gaps)
        add_flag("equal_outputs", gap == 0)
        add_flag("matching_outputs", functools.reduce(operator.and_, matching))
        add_flag("uniform_attention", uniform[i] & uniform[k])
        log_gap = jnp.log10(gap)
        add_bin("gap_histogram", counts.gap_bin(gap, log_gap))
        counted = jnp.where(gap == 0, 0.0, log_gap)
        add("log_gap_sum", counted)
        add("log_gap_squares", counted**2)
    return _Tallied(words, sums)


def _tally_by_init(collided: list[Array], shape: Shape, add_flag, add) -> None:
    """Add whether all pairs are collided, which classes are, and the squared share."""
    add_flag("all_pairs_collided", functools.reduce(operator.and_, collided))
    for number in range(shape.layout.num_classes):
        members = np.flatnonzero(shape.layout.pair_classes == number)
        add_flag(
            "class_collisions", functools.reduce(operator.and_, [collided[i] for i in members])
        )
    share = functools.reduce(operator.add, [x.astype(jnp.float32) for x in collided])
    share = share / np.float32(len(collided))
    add("squared_shares", share**2)
