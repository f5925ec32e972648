"""Tiles of numbers, as programs of a Pallas kernel for Triton load and store them.

One program takes one chunk of a row (`tables.ChunkedRows`), tile by tile: some edges, all channels,
one block of heads. `sums` and `softmax` say what it does with the numbers. Local suffixes: b edges
(or chunks) of a tile, c channels, h heads.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

from gat_jax.kernels.tables import IdsField

# Measured on an H200 with rows of 15 edges on average, most of them shorter.
TILE_EDGES = 4
MAX_TILE_WIDTH = 1024  # numbers of a tile's [c, h]; further heads go to other programs
WARP_SIZE = 512  # numbers of a tile for each warp of a program


def _wide(dtype) -> jnp.dtype:
    """Return the dtype to compute in."""
    return jnp.promote_types(dtype, jnp.float32)


@dataclasses.dataclass(frozen=True)
class TileShape:
    """Numbers of an array [*, C, H], and of a tile of it: powers of two, as Triton wants."""

    channels: int
    heads: int
    tile_b: int
    tile_c: int
    tile_h: int

    @property
    def num_head_blocks(self) -> int:
        """Programs that share the heads of a chunk."""
        return -(-self.heads // self.tile_h)

    @property
    def num_warps(self) -> int:
        """Of a program."""
        return min(8, max(1, self.tile_b * self.tile_c * self.tile_h // WARP_SIZE))


def shape_of(channels: int, heads: int) -> TileShape:
    """Choose the tiles of arrays [*, C, H]."""
    tile_c = pl.next_power_of_2(channels)
    tile_h = min(pl.next_power_of_2(heads), max(1, MAX_TILE_WIDTH // tile_c))
    return TileShape(channels, heads, TILE_EDGES, tile_c, tile_h)


class Tile:
    """Loads and stores, of given rows, all channels and one block of heads."""

    def __init__(self, shape: TileShape, head_block):
        self.shape = shape
        self.channels = jnp.arange(shape.tile_c, dtype=jnp.int32)
        self.heads = head_block * shape.tile_h + jnp.arange(shape.tile_h, dtype=jnp.int32)

    def load(self, ref, rows, mask, other: float = 0.0):
        """Return ref[rows] where the mask is true, in the dtype to compute in.

        Args:
          ref: [*, H] or [*, C, H].
          rows: one, or [b].
          mask: alike.
          other: elsewhere, and for channels and heads that are not the array's.
        """
        index, mask = self._at(ref, rows, mask)
        return triton.load(ref.at[index], mask=mask, other=other).astype(_wide(ref.dtype))

    def store(self, ref, rows, values, mask) -> None:
        """Write ref[rows] where the mask is true; arguments as of `load`."""
        index, mask = self._at(ref, rows, mask)
        triton.store(ref.at[index], values.astype(ref.dtype), mask=mask)

    def _at(self, ref, rows, mask):
        """Return index and mask of all numbers, the mask along channels and heads if it must be."""
        rank = rows.ndim + len(ref.shape) - 1

        def along(axis: int, x):
            return x.reshape(*(-1 if i == axis else 1 for i in range(rank)))

        if rows.ndim:
            rows, mask = along(0, rows), along(0, mask)
        index = [rows, along(rank - 1, self.heads)]
        # A mask known to be all true is none: neighbouring numbers can be loaded at once.
        if self.shape.heads % self.shape.tile_h > 0:
            mask = mask & (index[-1] < self.shape.heads)
        if len(ref.shape) == 3:
            index.insert(1, along(rank - 2, self.channels))
            if self.shape.channels < self.shape.tile_c:
                mask = mask & (index[1] < self.shape.channels)
        return tuple(index), mask

    def zeros(self, dtype, *, is_value: bool = True):
        """Return zeros [c, h], or [h]."""
        shape = (self.shape.tile_c, self.shape.tile_h)
        return jnp.zeros(shape if is_value else shape[1:], dtype)

    def loop(self, start, stop, body: Callable, state):
        """Return the state after state = body(slots [b], mask [b], state), tile by tile."""
        size = self.shape.tile_b

        def step(number, state):
            slots_b = start + number * size + jnp.arange(size, dtype=jnp.int32)
            return body(slots_b, slots_b < stop, state)

        return jax.lax.fori_loop(0, (stop - start + (size - 1)) // size, step, state)


class ChunkIds(NamedTuple):
    """Fields of `ChunkedRows` that say what a chunk is."""

    starts: IdsField
    owners: IdsField
    places: IdsField
    others: IdsField
    edges: IdsField


class Chunk:
    """A program's chunk of a row."""

    def __init__(self, ids: ChunkIds, tile: Tile):
        number = pl.program_id(0)
        self.ids, self.tile = ids, tile
        self.start, self.stop = ids.starts[number], ids.starts[number + 1]
        self.owner, self.place = ids.owners[number], ids.places[number]

    def own(self, ref):
        """Return what ref [N, ...] has of the row's node, in the dtype to compute in."""
        return self.tile.load(ref, self.owner, True)

    def loop(self, body: Callable, state):
        """Return the state after state = body(edges, others, mask, state), tile by tile.

        `body` gets [b] positions in the edge list, nodes at the other end, and whether there is an
        edge.
        """

        def step(slots_b, mask_b, state):
            end = self.ids.edges.shape[0]
            edges_b = triton.load(self.ids.edges.at[slots_b], mask=mask_b, other=end)
            others_b = triton.load(self.ids.others.at[slots_b], mask=mask_b, other=0)
            return body(edges_b, others_b, mask_b, state)

        return self.tile.loop(self.start, self.stop, step, state)

    def store(self, whole, part, result, partial_result) -> None:
        """Write the row's result if this is all of the row, else the chunk's partial result.

        Args:
          whole: refs [N, ...], indexed by the node.
          part: refs [P, ...], indexed by the place of the partial result.
          result: arrays for `whole`.
          partial_result: arrays for `part`.
        """
        is_whole = self.place < 0
        for ref, values in zip(whole, result, strict=True):
            self.tile.store(ref, self.owner, values, is_whole)
        for ref, values in zip(part, partial_result, strict=True):
            self.tile.store(ref, self.place, values, ~is_whole)
