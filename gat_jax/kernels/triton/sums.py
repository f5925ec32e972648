"""The six sums as kernels for NVIDIA GPUs, over rows without padding.

`contract` says what they return. They are written in Pallas (its Triton backend), and nothing of
the size [E, C, H] ever leaves the registers. One program takes one *chunk* of a row
(`tables.ChunkedRows`), a bounded number of edges, tile by tile. A row of one chunk is finished
there; of a longer row every chunk leaves a partial result, which a second kernel combines in their
order. So a hub is shared among many programs, there are no atomics, and every run gives the same
bits. Rows of equal degree are cut alike: twins come out equal to the last bit.

What is smaller than float32 is added up in float32.

What is done with a tile of numbers stands here, how it is loaded in `tiles`. Calls are Triton's
through and through, so that another kind of accelerator has a folder of its own with these six
functions. Outside of CUDA the kernels are interpreted, which is for tests alone. Local suffixes:
n nodes, e edges, b edges (or chunks) of a tile, c channels, h heads.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton
from jaxtyping import Array, Float

from gat_jax.kernels.tables import ChunkedRows, EdgeTable
from gat_jax.kernels.triton.tiles import Chunk, ChunkIds, Tile, TileShape, shape_of
from gat_jax.kernels.xla import sums as xla_sums

# --- calls ----------------------------------------------------------------------------------------


def over_rows(
    kernels: Sequence[Callable],
    rows: ChunkedRows,
    shape: TileShape,
    args: Sequence[Any],
    whole: Sequence[jax.ShapeDtypeStruct],
    dtype: jnp.dtype,
    *,
    combine_args: Sequence[Any] = (),
    at_edges: Sequence[jax.ShapeDtypeStruct] = (),
) -> Sequence[Array]:
    """Return what a kernel writes, with the rows of several chunks combined.

    Args:
      kernels: of (chunks, *args, whole, part), with what is written by edge after them where there
        is any; and of (whole, long, part, *combine_args, whole).
      rows: whose chunks they are.
      shape: of the tiles.
      args: inputs of the first kernel.
      whole: [N, ...] results of the rows.
      dtype: of the partial results, which are otherwise alike.
      combine_args: further inputs of the second kernel.
      at_edges: [E, ...] results by edge, returned after the others.
    """
    over_chunks, combine = kernels
    # Never an empty array, so that a graph without long rows needs no form of its own.
    num_parts = max(1, rows.num_parts)
    part = [jax.ShapeDtypeStruct((num_parts, *x.shape[1:]), dtype) for x in whole]
    args = _chunks_of(rows), *args
    out = [list(whole), part, *([list(at_edges)] if at_edges else [])]
    result, parts, *by_edge = _call(over_chunks, len(rows.owners), shape, args, out)
    if rows.num_parts > 0:
        inputs = (result, (rows.long, rows.long_starts), parts, *combine_args)
        [result] = _call(
            combine, len(rows.long), shape, inputs, [list(whole)], num_replaced=len(whole)
        )
    return [*result, *(x for arrays in by_edge for x in arrays)]


def _call(kernel: Callable, programs: int, shape: TileShape, args, out, *, num_replaced: int = 0):
    """Run a kernel on (programs, head blocks); compiled for CUDA, interpreted elsewhere.

    Which of the two is decided where the program is lowered, so that a program for CUDA can be
    exported from any machine. The first arrays of `args` may be replaced by those of `out`.
    """
    name = kernel.func.__name__ if isinstance(kernel, functools.partial) else kernel.__name__

    def run(interpret: bool) -> Callable:
        return pl.pallas_call(
            functools.partial(kernel, shape=shape),
            out_shape=out,
            grid=(programs, shape.num_head_blocks),
            input_output_aliases={i: i for i in range(num_replaced)},
            compiler_params=triton.CompilerParams(num_warps=shape.num_warps),
            interpret=interpret,
            name=name.strip("_"),
        )

    return jax.lax.platform_dependent(*args, cuda=run(False), default=run(True))


def _of_edges(kernel: Callable, table: EdgeTable, shape: TileShape, args, dtype) -> Array:
    """Return the numbers [E, H] that a kernel of (chunks, *args, out) writes."""
    out = jax.ShapeDtypeStruct((len(table.rows), shape.heads), dtype)
    chunks = table.index
    return _call(kernel, len(chunks.owners), shape, (_chunks_of(chunks), *args), out)


def _chunks_of(rows: ChunkedRows) -> ChunkIds:
    return ChunkIds(*(getattr(rows, name) for name in ChunkIds._fields))


def long_row(long):
    """Return the node of a combining program, and where its partial results start and stop."""
    number, (nodes, starts) = pl.program_id(0), long
    return nodes[number], starts[number], starts[number + 1]


def like(x: Array) -> jax.ShapeDtypeStruct:
    """Return the shape and dtype of an array."""
    return jax.ShapeDtypeStruct(x.shape, x.dtype)


def dtype_of(*arrays: Array | None) -> jnp.dtype:
    """Return the dtype to compute in: float32, or the widest of the arrays."""
    known = (x.dtype for x in arrays if x is not None)
    return functools.reduce(jnp.promote_types, known, jnp.dtype(jnp.float32))


# --- sums over the edges of a node ----------------------------------------------------------------


def edge_reduce(
    function: Callable,
    table: EdgeTable,
    *,
    at_edges: Sequence[Float[Array, "edges heads"]] = (),
    at_rows: Sequence[Float[Array, "rows heads"]] = (),
    at_others: Sequence[Float[Array, "others heads"]] = (),
    reduce: str = "sum",
) -> Float[Array, "rows heads"]:
    """Add up a function over the edges of every row, or take the largest; see `contract`."""
    refs = tuple(at_edges), tuple(at_rows), tuple(at_others)
    arrays = [x for xs in refs for x in xs]
    dtype = dtype_of(*arrays)
    heads = jnp.broadcast_shapes(*(x.shape[-1:] for x in arrays))
    refs = jax.tree.map(lambda x: jnp.broadcast_to(x, (*x.shape[:-1], *heads)), refs)
    out = jax.ShapeDtypeStruct((table.num_rows, *heads), jnp.result_type(*arrays))
    largest = reduce == "max"
    kernel = functools.partial(_reduce_kernel, function=function, largest=largest)
    combine = functools.partial(combine_kernel, largest=largest)
    [result] = over_rows([kernel, combine], table.index, shape_of(1, *heads), [refs], [out], dtype)
    return result


def _reduce_kernel(ids, refs, whole, part, *, shape: TileShape, function, largest: bool):
    tile = Tile(shape, pl.program_id(1))
    chunk = Chunk(ids, tile)
    edge_refs, row_refs, other_refs = refs
    own = tuple(chunk.own(ref)[None] for ref in row_refs)

    def body(edges_b, others_b, mask_b, total_h):
        at_edges = tuple(tile.load(ref, edges_b, mask_b) for ref in edge_refs)
        at_others = tuple(tile.load(ref, others_b, mask_b) for ref in other_refs)
        terms_bh = function(at_edges, own, at_others)
        return _absorb(total_h, jnp.where(mask_b[:, None], terms_bh, _start(largest)), largest)

    zeros_h = tile.zeros(part[0].dtype, is_value=False)
    total_h = chunk.loop(body, jnp.full_like(zeros_h, _start(largest)))
    chunk.store(whole, part, [total_h], [total_h])


def combine_kernel(whole_before, long, part, whole, *, shape: TileShape, largest: bool = False):
    """Combine the partial results of the rows of several chunks; of (..., whole) of `over_rows`."""
    del whole_before  # the same memory as `whole`
    tile = Tile(shape, pl.program_id(1))

    def body(places_b, mask_b, totals):
        terms = (tile.load(ref, places_b, mask_b, _start(largest)) for ref in part)
        return tuple(_absorb(*pair, largest) for pair in zip(totals, terms, strict=True))

    node, start, stop = long_row(long)
    zeros = [tile.zeros(ref.dtype, is_value=len(ref.shape) == 3) for ref in part]
    totals = tuple(jnp.full_like(x, _start(largest)) for x in zeros)
    for ref, total in zip(whole, tile.loop(start, stop, body, totals), strict=True):
        tile.store(ref, node, total, True)


def _start(largest: bool) -> float:
    return -jnp.inf if largest else 0.0


def _absorb(total, terms, largest: bool):
    """Add terms, or take the largest, along their first axis."""
    if largest:
        return jnp.maximum(total, jnp.max(terms, axis=0))
    return total + jnp.sum(terms, axis=0)


def weighted_sum(
    weights: Sequence[Float[Array, "edges heads"]],
    table: EdgeTable,
    values: Float[Array, "others channels heads"],
) -> Float[Array, "rows channels heads"]:
    """Add up weights times the value at the other end; see `contract`."""
    dtype = jnp.result_type(*weights, values)
    out = jax.ShapeDtypeStruct((table.num_rows, *values.shape[1:]), dtype)
    [result] = over_rows(
        [_weighted_kernel, combine_kernel],
        table.index,
        shape_of(*values.shape[1:]),
        [tuple(weights), values],
        [out],
        dtype_of(*weights, values),
    )
    return result


def _weighted_kernel(ids, weight_refs, values_ref, whole, part, *, shape: TileShape):
    tile = Tile(shape, pl.program_id(1))
    chunk = Chunk(ids, tile)

    def body(edges_b, others_b, mask_b, sum_ch):
        weights_bh = functools.reduce(
            jnp.multiply, [tile.load(ref, edges_b, mask_b) for ref in weight_refs]
        )
        values_bch = tile.load(values_ref, others_b, mask_b)
        return sum_ch + jnp.sum(weights_bh[:, None] * values_bch, axis=0)

    sum_ch = chunk.loop(body, tile.zeros(part[0].dtype))
    chunk.store(whole, part, [sum_ch], [sum_ch])


def slope_sum(
    weights: Float[Array, "edges heads"],
    table: EdgeTable,
    *,
    rows: Float[Array, "rows channels heads"],
    others: Float[Array, "others channels heads"],
    edges: Float[Array, "edges channels heads"] | None,
    slope: Float[Array, " heads"],
) -> Float[Array, "rows channels heads"]:
    """Add up weights times the LeakyReLU's slope; see `contract`."""
    [result] = over_rows(
        [_slope_kernel, combine_kernel],
        table.index,
        shape_of(*rows.shape[1:]),
        [weights, (rows, others, edges), slope[None]],
        [like(rows)],
        dtype_of(weights, rows, others, edges),
    )
    return result


def _slope_kernel(ids, weights_ref, refs, slope_ref, whole, part, *, shape: TileShape):
    tile = Tile(shape, pl.program_id(1))
    chunk = Chunk(ids, tile)
    sums_of, slope_h = _sums_at_edges(chunk, refs), only(tile, slope_ref)

    def body(edges_b, others_b, mask_b, sum_ch):
        x_bch = sums_of(edges_b, others_b, mask_b)
        slope_bch = jnp.where(x_bch >= 0, 1.0, slope_h[None, None])
        weights_bh = tile.load(weights_ref, edges_b, mask_b)
        return sum_ch + jnp.sum(weights_bh[:, None] * slope_bch, axis=0)

    sum_ch = chunk.loop(body, tile.zeros(part[0].dtype))
    chunk.store(whole, part, [sum_ch], [sum_ch])


def _sums_at_edges(chunk: Chunk, refs) -> Callable:
    """Return a function of a tile's edges to the sum of what is at both ends and at the edge."""
    own_ref, others_ref, edges_ref = refs
    own_bch = chunk.own(own_ref)[None]

    def sums_of(edges_b, others_b, mask_b):
        x_bch = own_bch + chunk.tile.load(others_ref, others_b, mask_b)
        if edges_ref is not None:
            x_bch += chunk.tile.load(edges_ref, edges_b, mask_b)
        return x_bch

    return sums_of


def only(tile: Tile, ref):
    """Return the only row of an array [1, ...]."""
    return tile.load(ref, jnp.int32(0), True)


# --- numbers by edge ------------------------------------------------------------------------------


# What is a function of numbers alone is one loop over the edges, which XLA fuses as well.
edge_map = xla_sums.edge_map


def edge_dots(
    function: Callable,
    table: EdgeTable,
    *,
    rows: Float[Array, "rows channels heads"],
    others: Float[Array, "others channels heads"],
    at_edges: Sequence[Float[Array, "edges heads"]] = (),
    at_rows: Sequence[Float[Array, "rows heads"]] = (),
    at_others: Sequence[Float[Array, "others heads"]] = (),
) -> Float[Array, "edges heads"]:
    """Return a function of the dot product of what is at both ends; see `contract`."""
    shape = shape_of(*rows.shape[1:])
    dots_eh = _of_edges(_dots_kernel, table, shape, [rows, others], dtype_of(rows, others))
    return edge_map(
        lambda edges, *ends: function(edges[0], edges[1:], *ends),
        table,
        at_edges=[dots_eh, *at_edges],
        at_rows=at_rows,
        at_others=at_others,
    )


def _dots_kernel(ids, own_ref, others_ref, out_ref, *, shape: TileShape):
    tile = Tile(shape, pl.program_id(1))
    chunk = Chunk(ids, tile)
    own_bch = chunk.own(own_ref)[None]

    def body(edges_b, others_b, mask_b, state):
        dots_bh = jnp.sum(own_bch * tile.load(others_ref, others_b, mask_b), axis=1)
        tile.store(out_ref, edges_b, dots_bh, mask_b)
        return state

    chunk.loop(body, jnp.int32(0))


def edge_activations(
    a: Float[Array, "channels heads"],
    table: EdgeTable,
    *,
    rows: Float[Array, "rows channels heads"],
    others: Float[Array, "others channels heads"],
    edges: Float[Array, "edges channels heads"] | None,
    slope: Float[Array, " heads"],
    above: float = 1.0,
) -> Float[Array, "edges heads"]:
    """Return the weighted sum of activations at every edge; see `contract`."""
    arrays = (x for x in (a, rows, others, edges) if x is not None)
    kernel = functools.partial(_activations_kernel, above=above)
    args = [(rows, others, edges), a[None], slope[None]]
    shape = shape_of(*rows.shape[1:])
    return _of_edges(kernel, table, shape, args, jnp.result_type(*arrays))


def _activations_kernel(ids, refs, a_ref, slope_ref, out_ref, *, shape: TileShape, above: float):
    tile = Tile(shape, pl.program_id(1))
    chunk = Chunk(ids, tile)
    sums_of = _sums_at_edges(chunk, refs)
    a_ch, slope_h = only(tile, a_ref), only(tile, slope_ref)

    def body(edges_b, others_b, mask_b, state):
        x_bch = sums_of(edges_b, others_b, mask_b)
        f_bch = x_bch * jnp.where(x_bch >= 0, above, slope_h[None, None])
        tile.store(out_ref, edges_b, jnp.sum(a_ch[None] * f_bch, axis=1), mask_b)
        return state

    chunk.loop(body, jnp.int32(0))
