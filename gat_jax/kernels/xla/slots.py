"""Sums over the edges of a node by a table of slots; `loops` says how, and what suffixes mean.

Nothing of the size [E, C, H] is stored. The two ends of an edge may be of two kinds, as nodes and
features are in `sparse`.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gat_jax.kernels.tables import Bucket, Table
from gat_jax.kernels.xla.loops import one_loop, rows_of, slope_at, tile, widen

# --- from chunks to nodes -------------------------------------------------------------------------


def to_nodes(
    chunks: Sequence[Float[Array, " _ *rest"]], table: Table, *, largest: bool = False
) -> Float[Array, " nodes *rest"]:
    """Combine the chunks of every row, in their order, and put the rows at their nodes.

    Args:
      chunks: [K, ...] of each bucket.
      table: whose buckets they are.
      largest: take the largest value instead of the sum.

    Returns:
      [N, ...], 0 at nodes without a row.
    """
    parts = [*chunks]
    if table.longer is not None:
        values = parts[-1]
        longer = [_combine(values, b, largest=largest) for b in table.longer.buckets]
        parts.append(to_nodes(longer, table.longer, largest=largest))
    places = jnp.asarray(table.places)
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

    @one_loop
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


# --- sums over the edges of a node ----------------------------------------------------------------


def over_edges(
    function: Callable,
    table: Table,
    *,
    at_edges: Sequence[Float[Array, "edges heads"]] = (),
    at_others: Sequence[Float[Array, "others heads"]] = (),
    at_nodes: Sequence[Float[Array, "nodes heads"]] = (),
    largest: bool = False,
) -> Float[Array, "nodes heads"]:
    """Add up a function over the edges of every node; as `sums.over_edges`."""
    combine = jnp.maximum if largest else jnp.add

    @one_loop
    def loop(bucket, at_edges, at_others, at_nodes):
        total = None
        for w in range(bucket.edges.shape[1]):
            edges, others = bucket.edges[:, w], bucket.others[:, w]
            term = function(
                *(rows_of(x, edges) for x in at_edges),
                *(rows_of(x, others) for x in at_others),
                *(rows_of(x, bucket.nodes) for x in at_nodes),
            )
            if not largest:  # padding repeats an edge of the row: it changes no maximum
                term *= (w < bucket.sizes).astype(term.dtype)[:, None]
            total = term if total is None else combine(total, term)
        return total

    arrays = (tuple(at_edges), tuple(at_others), tuple(at_nodes))
    chunks = [loop(jax.tree.map(jnp.asarray, b), *arrays) for b in table.buckets]
    result = to_nodes(chunks, table, largest=largest)
    if largest:
        has_edges = (jnp.asarray(table.places) >= 0)[:, None]
        result = jnp.where(has_edges, result, -jnp.inf)
    return result


def in_slots(
    function: Callable, at_edges: Sequence[Float[Array, "edges heads"]], table: Table
) -> list[Float[Array, "_ _ heads"]]:
    """Return an elementwise function of arrays [E, H] in the slots of each bucket; 0 in padding."""
    return [_in_slots(function, at_edges, bucket) for bucket in table.buckets]


def weighted_sum(
    weights: Sequence[Float[Array, "_ _ heads"]],
    values: Float[Array, "others channels heads"],
    table: Table,
) -> Float[Array, "nodes channels heads"]:
    """Add up weight times value of the other node over the edges of every node.

    Args:
      weights: as `in_slots` returns them.
      values: [M, C, H] of the nodes at the other end.
      table: says which edges a node has.

    Returns:
      [N, C, H], 0 at nodes without edges.
    """
    wide = widen(values)
    chunks = []
    for bucket, weights_kwh in zip(table.buckets, weights, strict=True):
        chunks.append(_weighted_sum(tile(weights_kwh, wide), wide, jnp.asarray(bucket.others)))
    return to_nodes(chunks, table).reshape(-1, *values.shape[1:])


@one_loop
def _weighted_sum(weights_kwl, values_ngl, others_kw):
    total = None
    for w in range(others_kw.shape[1]):
        term = weights_kwl[:, w, None] * rows_of(values_ngl, others_kw[:, w])
        total = term if total is None else total + term
    return total


def slope_sum(
    weights: Float[Array, "edges heads"],
    nodes: Float[Array, "nodes channels heads"],
    others: Float[Array, "nodes channels heads"],
    edges: Float[Array, "edges channels heads"] | None,
    slope: Float[Array, " heads"],
    table: Table,
) -> Float[Array, "nodes channels heads"]:
    """Add up weight times f'(x), x = nodes[own] + others[other] (+ edges[edge]), f the LeakyReLU.

    Args, Returns as `weighted_sum`; the slope is one per head.
    """
    arrays = [widen(x) for x in (nodes, others)]
    edges = None if edges is None else widen(edges)
    slope_l = tile(slope[None], arrays[0])[0]
    chunks = []
    for bucket in table.buckets:
        weights_kwl = tile(_in_slots(lambda x: x, [weights], bucket), arrays[0])
        ids = jax.tree.map(jnp.asarray, bucket)
        chunks.append(_slope_sum(weights_kwl, *arrays, edges, slope_l, ids))
    return to_nodes(chunks, table).reshape(-1, *nodes.shape[1:])


@one_loop
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


def _in_slots(
    function: Callable, at_edges: Sequence[Float[Array, "edges heads"]], bucket: Bucket
) -> Float[Array, "chunks slots heads"]:
    num_chunks, width = bucket.edges.shape
    edges = bucket.edges.reshape(-1)
    weights = function(*(rows_of(x, edges).reshape(num_chunks, width, -1) for x in at_edges))
    is_filled = jnp.arange(width)[None] < jnp.asarray(bucket.sizes)[:, None]
    return weights * is_filled.astype(weights.dtype)[..., None]
