"""Random initialisations of one cell, drawn, measured and counted, a tile at a time.

What comes back of a tile are counts, so memory does not grow with the number of initialisations.
On one kind of device and one version of JAX the same tile gives the same counts, bit for bit,
whichever process computes it and when.
"""

import dataclasses
import math
import operator
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jraph
import numpy as np
from jaxtyping import Array, Float, UInt32

from gat_jax import graphs
from gat_jax.graphs import TwinClasses, TwinPairs
from gat_jax.layers import SCHEMES, assemble, check_drawable, draw_scales, num_draws
from gat_jax.runtime import engine
from gat_jax.runtime.devices import Devices, default_devices, has_triton
from gat_jax.runtime.programs import apart
from gat_jax.sampling import fused_tile
from gat_jax.sampling.cells import BATCHES_PER_TILE, DRAWN_FEATURES, Cell, Shape, batch_size
from gat_jax.sampling.counts import (
    Counts,
    DeviceValues,
    InitValues,
    Tally,
    decode,
    empty_tally,
    keep_values,
    tally,
)
from gat_jax.sampling.memory import memory_limit, tiles_at_once
from gat_jax.sampling.pair_facts import PairFacts, measure_pairs
from gat_jax.sampling.random_bits import Distribution, draw_bits, from_bits, named_key, to_features
from gat_jax.sampling.twin_layout import make_twin_layout


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

    def work_on(self, devices: Devices) -> engine.Work:
        """Return what the engine runs on devices of one kind: a function over `Tile`s."""
        is_fused = has_triton(devices[0]) and fused_tile.is_fusable(self.shape)
        function = fused_tile.run_tile if is_fused else run_tile
        return engine.Work(function, self.shape, self.inputs, Tile(np.uint32(0), np.int32(0)))


class MeasuredTiles(NamedTuple):
    """What comes back of some tiles, K of them, T initialisations each."""

    num_inits: tuple[int, ...]  # how many were counted, by tile
    tally: Tally  # leaves [K, ...]
    values: DeviceValues | None  # [K, T], where they are kept

    def split(self, number: int) -> tuple["MeasuredTiles", "MeasuredTiles"]:
        """Return the first tiles, so many, and the others."""

        def part(tiles: slice) -> MeasuredTiles:
            arrays = jax.tree.map(operator.itemgetter(tiles), (self.tally, self.values))
            return MeasuredTiles(self.num_inits[tiles], *arrays)

        return part(slice(number)), part(slice(number, None))

    def kept(self) -> InitValues | None:
        """Return the values of all initialisations that were counted, one tile after the other."""
        if self.values is None:
            return None
        is_counted = np.arange(self.values[0].shape[-1]) < np.array(self.num_inits)[:, None]
        return self.values.of(is_counted)


def prepare_cell(
    cell: Cell,
    graph: jraph.GraphsTuple,
    members: TwinPairs | TwinClasses,
    *,
    seed: int,
    only_signs: bool = False,
    keep_values: bool = False,
) -> PreparedCell:
    """Prepare a cell.

    Args:
      cell: what is drawn.
      graph: with raw features, which `cell.features` may replace.
      members: the twins of the graph, as `twin_layout.make_twin_layout` takes them.
      seed: root of all random numbers.
      only_signs: count collisions and nothing that needs attention weights: no `rounding`, no
        entropies, gaps or outputs.
      keep_values: return values of every initialisation as well.

    Raises:
      ValueError: without pairs, or when cell and graph do not fit.
    """
    layout, ids = make_twin_layout(graph, members)
    nodes = all_features(cell, graph)
    num_features = nodes.shape[1]
    check_drawable(cell.layer, num_features)
    scheme = SCHEMES[cell.layer.initializer]
    scales = draw_scales(cell.layer, num_features, gain=cell.gain)
    shape = Shape(
        layer=cell.layer,
        layout=layout,
        num_features=num_features,
        distribution=scheme.distribution,
        has_identity_kernel=scheme.has_identity_kernel,
        drawn_features=DRAWN_FEATURES.get(cell.features),
        batch_size=batch_size(cell.layer, layout, num_draws(scales, cell.layer, num_features)),
        is_monotone=cell.slope >= 0,
        only_signs=only_signs,
        keep_values=keep_values,
    )
    inputs = Inputs(
        key=key_data(seed, cell.identity),
        feature_key=key_data(seed, "features of " + cell.identity),
        nodes=nodes[ids],
        scales={name: np.float32(scale) for name, scale in scales.items()},
        slope=np.float32(cell.slope),
    )
    return PreparedCell(cell, shape, inputs)


def all_features(cell: Cell, graph: jraph.GraphsTuple) -> Float[np.ndarray, "nodes features"]:
    """Return the features of all nodes as the cell has them; the raw ones where it draws them."""
    nodes = np.asarray(graph.nodes, np.float32)
    return graphs.standardise(nodes) if cell.features == "standardised" else nodes


def key_data(seed: int, name: str) -> UInt32[np.ndarray, "2"]:
    """Return the words of the key that belongs to a seed and a name."""
    return np.asarray(jax.random.key_data(named_key(seed, name)))


# --- on the device --------------------------------------------------------------------------------


def run_tile(shape: Shape, inputs: Inputs, tile: Tile) -> tuple[Tally, DeviceValues | None]:
    """Draw and measure one tile.

    Args:
      shape: of the cell; static.
      inputs: of the cell.
      tile: which initialisations.
    """
    size = shape.batch_size
    first_batch = jnp.asarray(tile.first_batch, jnp.uint32)

    # What is known of a batch is counted in many ways, and computed once.
    @apart
    def measure(inputs: Inputs, batch: Array) -> PairFacts:
        return _measure_batch(inputs, batch, shape)

    def step(total: Tally, k: Array) -> tuple[Tally, DeviceValues | None]:
        facts = measure(inputs, first_batch + k.astype(jnp.uint32))
        is_counted = jnp.arange(size) < tile.num_inits - k * size
        added = tally(facts, is_counted, shape)
        kept = keep_values(facts) if shape.keep_values else None
        return jax.tree.map(jnp.add, total, added), kept

    total, kept = jax.lax.scan(step, empty_tally(shape), jnp.arange(BATCHES_PER_TILE))
    return total, None if kept is None else DeviceValues(*(x.reshape(-1) for x in kept))


def _measure_batch(inputs: Inputs, batch: Array, shape: Shape) -> PairFacts:
    layer, size = shape.layer, shape.batch_size

    def draw(key, num: int, distribution: Distribution) -> Array:
        # For accelerators: else XLA may draw the numbers anew for each of their consumers.
        bits = draw_bits(key, batch, num=num, size=size)
        return from_bits(jax.lax.optimization_barrier(bits), distribution)

    # Every head of every initialisation is a layer of one head.
    head = dataclasses.replace(layer, heads=1)
    num = num_draws(inputs.scales, head, shape.num_features)
    numbers = draw(inputs.key, num * layer.heads, shape.distribution)
    numbers = numbers.reshape(num, layer.heads * size)
    params = assemble(numbers, inputs.scales, head, shape.num_features, axis=0)
    nodes = jnp.asarray(inputs.nodes)[..., None]
    if shape.drawn_features is not None:
        dims = shape.layout.num_nodes, shape.num_features
        nodes = draw(inputs.feature_key, math.prod(dims), shape.drawn_features)
        nodes = to_features(nodes.reshape(*dims, size), shape.drawn_features)
    return measure_pairs(
        params,
        nodes,
        shape.layout,
        layer,
        slope=inputs.slope,
        is_monotone=shape.is_monotone,
        only_signs=shape.only_signs,
    )


# --- on the host ----------------------------------------------------------------------------------


def split_into_tiles(first: int, stop: int, shape: Shape) -> Iterator[Tile]:
    """Cut the initialisations from `first`, a multiple of the tile size, to `stop` into tiles."""
    for start in range(first, stop, shape.tile_size):
        yield Tile(start // shape.batch_size, min(shape.tile_size, stop - start))


def measure_tiles(
    prepared: PreparedCell,
    tiles: Iterable[Tile],
    *,
    devices: Devices,
    tiles_at_once: int = 1,
    calls_under_way: int = engine.MAX_CALLS_UNDER_WAY,
) -> Iterator[MeasuredTiles]:
    """Compute tiles of a cell, and yield what they measured in the order given, by call.

    Args:
      prepared: the cell.
      tiles: of `split_into_tiles`, read as they are needed.
      devices: of one kind.
      tiles_at_once: as in `engine.run_tiles`; see `memory.tiles_at_once`.
      calls_under_way: as in `engine.run_tiles`.
    """
    results = engine.run_tiles(
        prepared.work_on(devices),
        tiles,
        devices=devices,
        tiles_at_once=tiles_at_once,
        calls_under_way=calls_under_way,
    )
    for group, (counted, values) in results:
        yield MeasuredTiles(tuple(int(tile.num_inits) for tile in group), counted, values)


def sample(
    cell: Cell,
    graph: jraph.GraphsTuple,
    members: TwinPairs | TwinClasses,
    *,
    num_inits: int,
    seed: int,
    only_signs: bool = False,
) -> Counts:
    """Draw initialisations of one cell and count what happens to its twins, on one device.

    Args:
      cell: what is drawn.
      graph: with raw features, which `cell.features` may replace.
      members: the twins of the graph, as `twin_layout.make_twin_layout` takes them.
      num_inits: at least 1.
      seed: root of all random numbers.
      only_signs: leave out what needs attention weights; see `prepare_cell`.

    Raises:
      ValueError: without pairs, or when less than one initialisation is asked for.
    """
    if num_inits < 1:
        raise ValueError(f"num_inits: expected at least 1, got {num_inits}")
    prepared = prepare_cell(cell, graph, members, seed=seed, only_signs=only_signs)
    tiles = list(split_into_tiles(0, num_inits, prepared.shape))
    devices = default_devices()[:1]
    most = tiles_at_once(devices[0].platform, memory_limit(None))
    results = measure_tiles(prepared, tiles, devices=devices, tiles_at_once=min(most, len(tiles)))
    return decode(engine.add_up(x.tally for x in results), num_inits)
