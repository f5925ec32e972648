"""The six sums as loops that XLA compiles, over rows of slots and over the edge list.

`contract` says what they return, `loops` how they are written, and what local suffixes mean.
Nothing of the size [E, C, H] is stored. The two ends of an edge may be of two kinds, as nodes and
features are in `sparse`.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gat_jax.kernels.elementwise import slope_at
from gat_jax.kernels.tables import Bucket, DegreeBuckets, EdgeTable
from gat_jax.kernels.xla.loops import rows_of, sum_lanes, tile, widen
from gat_jax.runtime.programs import apart

MAX_GROUPS = 16  # terms of a dot product that are spelled out in one loop

# --- from chunks to nodes -------------------------------------------------------------------------


def to_nodes(
    chunks: Sequence[Float[Array, " _ *rest"]], index: DegreeBuckets, *, largest: bool = False
) -> Float[Array, " nodes *rest"]:
    """Combine the chunks of every row, in their order, and put the rows at their nodes.

    Args:
      chunks: [K, ...] of each bucket.
      index: whose buckets they are.
      largest: take the largest value instead of the sum.

    Returns:
      [N, ...], 0 at nodes without a row.
    """
    parts = [*chunks]
    if index.longer is not None:
        values = parts[-1]
        longer = [_combine(values, b, largest=largest) for b in index.longer.buckets]
        parts.append(to_nodes(longer, index.longer, largest=largest))
    places = jnp.asarray(index.places)
    result, start = jnp.zeros((), parts[0].dtype), 0
    for part in parts:
        # Outside of its part an index is clamped, to a row that is in the cache.
        value = rows_of(part, jnp.clip(places - start, 0, len(part) - 1))
        is_here = (places >= start).reshape(-1, *(1,) * (part.ndim - 1))
        result = jnp.where(is_here, value, result)
        start += len(part)
    return result


def _combine(values: Float[Array, " chunks *rest"], bucket: Bucket, *, largest: bool):
    combine = jnp.maximum if largest else jnp.add

    @apart
    def loop(values, others, sizes):
        total = rows_of(values, others[:, 0])
        for w in range(1, others.shape[1]):
            term = rows_of(values, others[:, w])
            if not largest:  # padding repeats a chunk of the row: it changes no maximum
                is_filled = (w < sizes).astype(term.dtype)
                term *= is_filled.reshape(-1, *(1,) * (term.ndim - 1))
            total = combine(total, term)
        return total

    return loop(values, jnp.asarray(bucket.others), jnp.asarray(bucket.sizes))


# --- sums over the edges of a row -----------------------------------------------------------------


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
    is_sum = reduce == "sum"
    combine = jnp.add if is_sum else jnp.maximum

    @apart
    def loop(bucket, at_edges, at_rows, at_others):
        total = None
        for w in range(bucket.edges.shape[1]):
            edges, others = bucket.edges[:, w], bucket.others[:, w]
            term = function(
                tuple(rows_of(x, edges) for x in at_edges),
                tuple(rows_of(x, bucket.nodes) for x in at_rows),
                tuple(rows_of(x, others) for x in at_others),
            )
            if is_sum:  # padding repeats an edge of the row: it changes no maximum
                term *= (w < bucket.sizes).astype(term.dtype)[:, None]
            total = term if total is None else combine(total, term)
        return total

    arrays = (tuple(at_edges), tuple(at_rows), tuple(at_others))
    chunks = [loop(jax.tree.map(jnp.asarray, b), *arrays) for b in table.index.buckets]
    result = to_nodes(chunks, table.index, largest=not is_sum)
    if not is_sum:
        has_edges = (jnp.asarray(table.index.places) >= 0)[:, None]
        result = jnp.where(has_edges, result, -jnp.inf)
    return result


def weighted_sum(
    weights: Sequence[Float[Array, "edges heads"]],
    table: EdgeTable,
    values: Float[Array, "others channels heads"],
) -> Float[Array, "rows channels heads"]:
    """Add up weights times the value at the other end; see `contract`."""
    wide = widen(values)
    chunks = []
    for bucket in table.index.buckets:
        weights_kwh = _in_slots(_product, weights, bucket)
        chunks.append(_weighted_sum(tile(weights_kwh, wide), wide, jnp.asarray(bucket.others)))
    return to_nodes(chunks, table.index).reshape(-1, *values.shape[1:])


@apart
def _weighted_sum(weights_kwl, values_ngl, others_kw):
    total = None
    for w in range(others_kw.shape[1]):
        term = weights_kwl[:, w, None] * rows_of(values_ngl, others_kw[:, w])
        total = term if total is None else total + term
    return total


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
    arrays = [widen(x) for x in (rows, others)]
    edges = None if edges is None else widen(edges)
    slope_l = tile(slope[None], arrays[0])[0]
    chunks = []
    for bucket in table.index.buckets:
        weights_kwl = tile(_in_slots(_product, [weights], bucket), arrays[0])
        ids = jax.tree.map(jnp.asarray, bucket)
        chunks.append(_slope_sum(weights_kwl, *arrays, edges, slope_l, ids))
    return to_nodes(chunks, table.index).reshape(-1, *rows.shape[1:])


@apart
def _slope_sum(weights_kwl, nodes_ngl, others_ngl, edges_egl, slope_l, bucket):
    own_kgl = rows_of(nodes_ngl, bucket.nodes)
    total = None
    for w in range(bucket.others.shape[1]):
        x = own_kgl + rows_of(others_ngl, bucket.others[:, w])
        if edges_egl is not None:
            x += rows_of(edges_egl, bucket.edges[:, w])
        term = weights_kwl[:, w, None] * slope_at(x, slope_l[None, None])
        total = term if total is None else total + term
    return total


def _product(*factors):
    return functools.reduce(jnp.multiply, factors)


def _in_slots(
    function: Callable, at_edges: Sequence[Float[Array, "edges heads"]], bucket: Bucket
) -> Float[Array, "chunks slots heads"]:
    num_chunks, width = bucket.edges.shape
    edges = bucket.edges.reshape(-1)
    weights = function(*(rows_of(x, edges).reshape(num_chunks, width, -1) for x in at_edges))
    is_filled = jnp.arange(width)[None] < jnp.asarray(bucket.sizes)[:, None]
    return weights * is_filled.astype(weights.dtype)[..., None]


# --- numbers by edge: one loop over the edge list each --------------------------------------------


def edge_map(
    function: Callable,
    table: EdgeTable,
    *,
    at_edges: Sequence[Float[Array, "edges heads"]] = (),
    at_rows: Sequence[Float[Array, "rows heads"]] = (),
    at_others: Sequence[Float[Array, "others heads"]] = (),
) -> Float[Array, "edges heads"]:
    """Return a function of what is at every edge and at its ends; see `contract`."""

    @apart
    def loop(ids, arrays):
        return function(*_fetch(ids, arrays))

    return loop(_ids_of(table), (tuple(at_edges), tuple(at_rows), tuple(at_others)))


def _ids_of(table: EdgeTable) -> tuple[Array, Array]:
    return jnp.asarray(table.rows), jnp.asarray(table.others)


def _fetch(ids, arrays):
    at_edges, *at_ends = arrays
    fetched = (tuple(rows_of(x, index) for x in xs) for xs, index in zip(at_ends, ids, strict=True))
    return at_edges, *fetched


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
    heads = rows.shape[-1]
    rows, others = widen(rows), widen(others)
    ids = _ids_of(table)
    arrays = (tuple(at_edges), tuple(at_rows), tuple(at_others))

    def finish(dot, ids, arrays):
        return function(dot, *_fetch(ids, arrays))

    @apart
    def last_loop(total, rows_ngl, others_ngl, ids, arrays):
        return finish(_add_products(total, rows_ngl, others_ngl, ids), ids, arrays)

    starts = range(0, rows.shape[1], MAX_GROUPS)
    total: Any = None
    for start in starts:
        part = rows[:, start : start + MAX_GROUPS], others[:, start : start + MAX_GROUPS]
        if start == starts[-1] and others.shape[-1] == heads:
            return last_loop(total, *part, ids, arrays)
        total = _edge_dots(total, *part, ids)
    return apart(lambda total, *rest: finish(sum_lanes(total, heads), *rest))(total, ids, arrays)


def _add_products(total, rows_ngl, others_ngl, ids):
    row_ids, other_ids = ids
    for g in range(others_ngl.shape[1]):
        term = rows_of(rows_ngl[:, g], row_ids) * rows_of(others_ngl[:, g], other_ids)
        total = term if total is None else total + term
    return total


_edge_dots = apart(_add_products)


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
    heads = rows.shape[-1]
    a_gl, rows, others = widen(a), widen(rows), widen(others)
    edges = None if edges is None else widen(edges)
    slopes_l = tile(slope[None], rows), jnp.full((1, rows.shape[-1]), above, slope.dtype)
    ids = _ids_of(table)
    total: Any = None
    for start in range(0, rows.shape[1], MAX_GROUPS):
        part = slice(start, start + MAX_GROUPS)
        of_edges = None if edges is None else edges[:, part]
        term = _edge_activations(
            a_gl[part], rows[:, part], others[:, part], of_edges, slopes_l, ids
        )
        total = term if total is None else total + term
    return sum_lanes(total, heads)


@apart
def _edge_activations(a_gl, rows_ngl, others_ngl, edges_egl, slopes_l, ids):
    row_ids, other_ids = ids
    total = None
    for g in range(others_ngl.shape[1]):
        x = rows_of(rows_ngl[:, g], row_ids) + rows_of(others_ngl[:, g], other_ids)
        if edges_egl is not None:
            x += edges_egl[:, g]
        term = a_gl[g][None] * x * slope_at(x, *slopes_l)
        total = term if total is None else total + term
    return total
