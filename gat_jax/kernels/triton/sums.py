"""Sums over the edges of a node, and numbers by edge, as kernels for NVIDIA GPUs.

As `slots` and `edge_loops`, on `tables.Rows`, in Pallas (its Triton backend): nothing of the size
[E, C, H] ever leaves the registers. One program takes one *chunk* of a row, a bounded number of
edges, tile by tile. A row of one chunk is finished there; of a longer row every chunk leaves a
partial result, which a second kernel combines in their order. So a hub is shared among many
programs, there are no atomics, and every run gives the same bits. Rows of equal degree are cut
alike: twins come out equal to the last bit.

What is smaller than float32 is added up in float32.

What is done with a tile of numbers stands here, how it is loaded in `triton_tiles`: another kind of
accelerator needs another of the second. Outside of CUDA the kernels are interpreted, which is for
tests alone. Local suffixes: n nodes, e edges, b edges (or chunks) of a tile, c channels, h heads.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton
from jaxtyping import Array, Float

from gat_jax.kernels.tables import Rows
from gat_jax.kernels.triton.tiles import Chunk, ChunkIds, Tile, TileShape, shape_of

# --- calls ----------------------------------------------------------------------------------------


def over_rows(
    kernels: Sequence[Callable],
    rows: Rows,
    shape: TileShape,
    args: Sequence[Any],
    whole: Sequence[jax.ShapeDtypeStruct],
    dtype: jnp.dtype,
) -> Sequence[Array]:
    """Return what a kernel writes, with the rows of several chunks combined.

    Args:
      kernels: of (chunks, *args, whole, part), and of (whole, long, part, whole).
      rows: whose chunks they are.
      shape: of the tiles.
      args: inputs of the first kernel.
      whole: [N, ...] results of the rows.
      dtype: of the partial results, which are otherwise alike.
    """
    over_chunks, combine = kernels
    # Never an empty array, so that a graph without long rows needs no form of its own.
    num_parts = max(1, rows.num_parts)
    part = [jax.ShapeDtypeStruct((num_parts, *x.shape[1:]), dtype) for x in whole]
    args = _chunks_of(rows), *args
    result, parts = _call(over_chunks, len(rows.owners), shape, args, [list(whole), part])
    if rows.num_parts > 0:
        inputs = (result, (rows.long, rows.long_starts), parts)
        [result] = _call(
            combine, len(rows.long), shape, inputs, [list(whole)], num_replaced=len(whole)
        )
    return result


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


def _of_edges(kernel: Callable, rows: Rows, shape: TileShape, args, dtype) -> Array:
    """Return the numbers [E, H] that a kernel of (chunks, *args, out) writes."""
    out = jax.ShapeDtypeStruct((len(rows.edges), shape.heads), dtype)
    return _call(kernel, len(rows.owners), shape, (_chunks_of(rows), *args), out)


def _chunks_of(rows: Rows) -> ChunkIds:
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


def over_edges(
    function: Callable,
    rows: Rows,
    *,
    at_edges: Sequence[Float[Array, "edges heads"]] = (),
    at_others: Sequence[Float[Array, "others heads"]] = (),
    at_nodes: Sequence[Float[Array, "nodes heads"]] = (),
    largest: bool = False,
) -> Float[Array, "nodes heads"]:
    """Add up a function over the edges of every node; as `sums.over_edges`."""
    refs = tuple(at_edges), tuple(at_others), tuple(at_nodes)
    arrays = [x for xs in refs for x in xs]
    dtype = dtype_of(*arrays)
    heads = jnp.broadcast_shapes(*(x.shape[-1:] for x in arrays))
    refs = jax.tree.map(lambda x: jnp.broadcast_to(x, (*x.shape[:-1], *heads)), refs)
    out = jax.ShapeDtypeStruct((rows.num_nodes, *heads), jnp.result_type(*arrays))
    kernel = functools.partial(_reduce_kernel, function=function, largest=largest)
    combine = functools.partial(_combine_kernel, largest=largest)
    [result] = over_rows([kernel, combine], rows, shape_of(1, *heads), [refs], [out], dtype)
    return result


def _reduce_kernel(ids, refs, whole, part, *, shape: TileShape, function, largest: bool):
    tile = Tile(shape, pl.program_id(1))
    chunk = Chunk(ids, tile)
    edge_refs, other_refs, node_refs = refs
    own = [chunk.own(ref)[None] for ref in node_refs]

    def body(edges_b, others_b, mask_b, total_h):
        at_edges = (tile.load(ref, edges_b, mask_b) for ref in edge_refs)
        at_others = (tile.load(ref, others_b, mask_b) for ref in other_refs)
        terms_bh = function(*at_edges, *at_others, *own)
        return _absorb(total_h, jnp.where(mask_b[:, None], terms_bh, _start(largest)), largest)

    zeros_h = tile.zeros(part[0].dtype, is_value=False)
    total_h = chunk.loop(body, jnp.full_like(zeros_h, _start(largest)))
    chunk.store(whole, part, [total_h], [total_h])


def _combine_kernel(whole_before, long, part, whole, *, shape: TileShape, largest: bool = False):
    """Combine the partial results of the rows of several chunks."""
    del whole_before  # the same memory as `whole`
    tile = Tile(shape, pl.program_id(1))
    [part_ref], [whole_ref] = part, whole

    def body(places_b, mask_b, total):
        return _absorb(total, tile.load(part_ref, places_b, mask_b, _start(largest)), largest)

    node, start, stop = long_row(long)
    zeros = tile.zeros(part_ref.dtype, is_value=len(part_ref.shape) == 3)
    total = tile.loop(start, stop, body, jnp.full_like(zeros, _start(largest)))
    tile.store(whole_ref, node, total, True)


def _start(largest: bool) -> float:
    return -jnp.inf if largest else 0.0


def _absorb(total, terms, largest: bool):
    """Add terms, or take the largest, along their first axis."""
    if largest:
        return jnp.maximum(total, jnp.max(terms, axis=0))
    return total + jnp.sum(terms, axis=0)


def weighted_sum(
    weights: Sequence[Float[Array, "edges heads"]],
    values: Float[Array, "others channels heads"],
    rows: Rows,
) -> Float[Array, "nodes channels heads"]:
    """Add up the product of the weights times the value of the other node, for every node."""
    out = jax.ShapeDtypeStruct((rows.num_nodes, *values.shape[1:]), values.dtype)
    [result] = over_rows(
        [_weighted_kernel, _combine_kernel],
        rows,
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
    nodes: Float[Array, "nodes channels heads"],
    others: Float[Array, "nodes channels heads"],
    edges: Float[Array, "edges channels heads"] | None,
    slope: Float[Array, " heads"],
    rows: Rows,
) -> Float[Array, "nodes channels heads"]:
    """Add up weight times f'(x), x = nodes[own] + others[other] (+ edges[edge]); as `slots`."""
    [result] = over_rows(
        [_slope_kernel, _combine_kernel],
        rows,
        shape_of(*nodes.shape[1:]),
        [weights, (nodes, others, edges), slope[None]],
        [like(nodes)],
        dtype_of(weights, nodes, others, edges),
    )
    return result


def _slope_kernel(ids, weights_ref, refs, slope_ref, whole, part, *, shape: TileShape):
    tile = Tile(shape, pl.program_id(1))
    chunk = Chunk(ids, tile)
    sums_of, slope_h = _sums_at_edges(chunk, refs), _only(tile, slope_ref)

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


def _only(tile: Tile, ref):
    """Return the only row of an array [1, ...]."""
    return tile.load(ref, jnp.int32(0), True)


# --- numbers by edge ------------------------------------------------------------------------------


def edge_dots(
    nodes: Float[Array, "nodes channels heads"],
    others: Float[Array, "others channels heads"],
    rows: Rows,
) -> Float[Array, "edges heads"]:
    """Return sum_c nodes[own, c, h] others[other, c, h] of every edge."""
    shape = shape_of(*nodes.shape[1:])
    return _of_edges(_dots_kernel, rows, shape, [nodes, others], dtype_of(nodes, others))


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
    nodes: Float[Array, "nodes channels heads"],
    others: Float[Array, "nodes channels heads"],
    edges: Float[Array, "edges channels heads"] | None,
    slope: Float[Array, " heads"],
    rows: Rows,
    above: float = 1.0,
) -> Float[Array, "edges heads"]:
    """Return sum_c a[c, h] f(x), x as in `slope_sum`; f as in `edge_loops.edge_activations`."""
    arrays = (x for x in (a, nodes, others, edges) if x is not None)
    kernel = functools.partial(_activations_kernel, above=above)
    args = [(nodes, others, edges), a[None], slope[None]]
    shape = shape_of(*nodes.shape[1:])
    return _of_edges(kernel, rows, shape, args, jnp.result_type(*arrays))


def _activations_kernel(ids, refs, a_ref, slope_ref, out_ref, *, shape: TileShape, above: float):
    tile = Tile(shape, pl.program_id(1))
    chunk = Chunk(ids, tile)
    sums_of = _sums_at_edges(chunk, refs)
    a_ch, slope_h = _only(tile, a_ref), _only(tile, slope_ref)

    def body(edges_b, others_b, mask_b, state):
        x_bch = sums_of(edges_b, others_b, mask_b)
        f_bch = x_bch * jnp.where(x_bch >= 0, above, slope_h[None, None])
        tile.store(out_ref, edges_b, jnp.sum(a_ch[None] * f_bch, axis=1), mask_b)
        return state

    chunk.loop(body, jnp.int32(0))
