"""Sums over the edges of a node by a table of slots, written so that XLA makes one loop of each.

Local suffixes: k chunks, w slots of a chunk, n nodes, e edges, c channels, h heads, g groups of
channels, l lanes. Features are kept *channel-major*, [N, C, H]: then the heads, which share
nothing, are what a vector instruction works on, and a dot product over channels is a sum of
vectors. Where there are few heads, neighbouring channels stand beside them as further lanes.

XLA fuses one output per loop, and only while a sum over slots or channels is spelled out; what it
can turn into a library call materialises the gathered values [E, C, H], at ten times the cost.
Hence the loops in Python below, and `one_loop`, which keeps XLA from merging a loop with its
surroundings. A select between gathered values ends a loop too: what is masked is multiplied by 0
or 1 (`tests/test_slots.py` holds the temporary memory to all this).

The two ends of an edge may be of two kinds, as nodes and features are in `sparse`.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental.xla_metadata import set_xla_metadata
from jaxtyping import Array, Float

from gat_jax.layouts import Bucket, Ids, Table

LANES = 8  # numbers that a loop should have side by side at least
MAX_GROUPS = 16  # terms of a dot product that are spelled out in one loop


def one_loop(function: Callable) -> Callable:
    """Compile a function of arrays apart from its surroundings, within the same program."""
    inner = jax.jit(function)

    @functools.wraps(function)
    def call(*args):
        with set_xla_metadata(inlineable="false"):
            return inner(*args)

    return call


def rows_of(values: Float[Array, " rows *rest"], index: Ids) -> Float[Array, "..."]:
    """Return values[index] for an index [K] known to be in range, which saves its correction."""
    numbers = jax.lax.GatherDimensionNumbers(
        offset_dims=tuple(range(1, values.ndim)), collapsed_slice_dims=(0,), start_index_map=(0,)
    )
    mode = jax.lax.GatherScatterMode.PROMISE_IN_BOUNDS
    index = jnp.asarray(index)[:, None]
    return jax.lax.gather(values, index, numbers, (1, *values.shape[1:]), mode=mode)


def step(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Return 1 where x >= 0, else 0."""
    return (x >= 0).astype(x.dtype)


def slope_at(x: Float[Array, "..."], below, above=1.0) -> Float[Array, "..."]:
    """Return the slope of the LeakyReLU at x: `above` where x >= 0, else `below`."""
    return below + (above - below) * step(x)


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
    """Add up a function over the edges of every node, or take the largest value.

    Args:
      function: elementwise, of the arrays below in their order.
      table: says which edges a node has.
      at_edges: [E, H] values of the edge.
      at_others: [N, H] values of the node at its other end.
      at_nodes: [N, H] values of the node itself.
      largest: instead of the sum.

    Returns:
      [N, H], 0 at nodes without edges; their largest value is minus infinity.
    """
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


def total(
    weights: Sequence[Float[Array, "_ _ heads"]], table: Table
) -> Float[Array, "nodes heads"]:
    """Add up what `in_slots` returned over the slots of every node."""
    return to_nodes([_total(x) for x in weights], table)


@one_loop
def _total(weights_kwh):
    result = weights_kwh[:, 0]
    for w in range(1, weights_kwh.shape[1]):
        result += weights_kwh[:, w]
    return result


def weighted_sum(
    weights: Sequence[Float[Array, "_ _ heads"]],
    values: Float[Array, "others channels heads"],
    table: Table,
    *,
    scale: Float[Array, "nodes heads"] | None = None,
) -> Float[Array, "nodes channels heads"]:
    """Add up weight times value of the other node over the edges of every node.

    Args:
      weights: as `in_slots` returns them.
      values: [M, C, H] of the nodes at the other end.
      table: says which edges a node has.
      scale: [N, H] by which a node's weights are multiplied.

    Returns:
      [N, C, H], 0 at nodes without edges.
    """
    wide = _widen(values)
    chunks = []
    for bucket, weights_kwh in zip(table.buckets, weights, strict=True):
        if scale is not None:
            weights_kwh *= rows_of(scale, bucket.nodes)[:, None]
        chunks.append(_weighted_sum(_tile(weights_kwh, wide), wide, jnp.asarray(bucket.others)))
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
    arrays = [_widen(x) for x in (nodes, others)]
    edges = None if edges is None else _widen(edges)
    slope_l = _tile(slope[None], arrays[0])[0]
    chunks = []
    for bucket in table.buckets:
        weights_kwl = _tile(_in_slots(lambda x: x, [weights], bucket), arrays[0])
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


# --- numbers of the edges -------------------------------------------------------------------------


def edge_values(
    function: Callable,
    row_ids: Ids,
    value_ids: Ids,
    *,
    at_edges: Sequence[Float[Array, "edges heads"]] = (),
    at_rows: Sequence[Float[Array, "nodes heads"]] = (),
    at_values: Sequence[Float[Array, "others heads"]] = (),
) -> Float[Array, "edges heads"]:
    """Return a function of what is at every edge and at its ends.

    Args:
      function: elementwise, of three tuples: the values of `at_edges`, of `at_rows` and of
        `at_values`.
      row_ids: [E] one end of the edges.
      value_ids: [E] the other.
      at_edges: [E, H].
      at_rows: [N, H], fetched by `row_ids`.
      at_values: [M, H], fetched by `value_ids`.
    """

    @one_loop
    def loop(ids, arrays):
        return function(*_fetch(ids, arrays))

    ids = jnp.asarray(row_ids), jnp.asarray(value_ids)
    return loop(ids, (tuple(at_edges), tuple(at_rows), tuple(at_values)))


def _fetch(ids, arrays):
    at_edges, *at_ends = arrays
    fetched = (tuple(rows_of(x, index) for x in xs) for xs, index in zip(at_ends, ids, strict=True))
    return at_edges, *fetched


def edge_dots(
    rows: Float[Array, "nodes channels heads"],
    row_ids: Ids,
    values: Float[Array, "others channels heads"],
    value_ids: Ids,
    *,
    function: Callable = lambda dot, *_: dot,
    at_edges: Sequence[Float[Array, "edges heads"]] = (),
    at_rows: Sequence[Float[Array, "nodes heads"]] = (),
    at_values: Sequence[Float[Array, "others heads"]] = (),
) -> Float[Array, "edges heads"]:
    """Return a function of sum_c rows[row_ids[e], c, h] values[value_ids[e], c, h].

    Args:
      rows: [N, C, H].
      row_ids: [E].
      values: [M, C, H].
      value_ids: [E].
      function: elementwise, of the dot product and of what `edge_values` passes.
      at_edges: as `edge_values`; likewise the others.
      at_rows: [N, H].
      at_values: [M, H].
    """
    heads = rows.shape[-1]
    rows, values = _widen(rows), _widen(values)
    ids = jnp.asarray(row_ids), jnp.asarray(value_ids)
    arrays = (tuple(at_edges), tuple(at_rows), tuple(at_values))

    def finish(dot, ids, arrays):
        return function(dot, *_fetch(ids, arrays))

    @one_loop
    def last_loop(total, rows_ngl, values_ngl, ids, arrays):
        return finish(_add_products(total, rows_ngl, values_ngl, ids), ids, arrays)

    starts = range(0, rows.shape[1], MAX_GROUPS)
    total: Any = None
    for start in starts:
        part = rows[:, start : start + MAX_GROUPS], values[:, start : start + MAX_GROUPS]
        if start == starts[-1] and values.shape[-1] == heads:
            return last_loop(total, *part, ids, arrays)
        total = _edge_dots(total, *part, ids)
    return one_loop(lambda total, *rest: finish(_sum_lanes(total, heads), *rest))(
        total, ids, arrays
    )


def _add_products(total, rows_ngl, values_ngl, ids):
    row_ids, value_ids = ids
    for g in range(values_ngl.shape[1]):
        term = rows_of(rows_ngl[:, g], row_ids) * rows_of(values_ngl[:, g], value_ids)
        total = term if total is None else total + term
    return total


_edge_dots = one_loop(_add_products)


def node_dots(
    first: Float[Array, "nodes channels heads"], second: Float[Array, "nodes channels heads"]
) -> Float[Array, "nodes heads"]:
    """Return sum_c first[n, c, h] second[n, c, h]."""

    @one_loop
    def loop(first_ngl, second_ngl):
        products = (first_ngl[:, g] * second_ngl[:, g] for g in range(first_ngl.shape[1]))
        return functools.reduce(jnp.add, products)

    return _sum_lanes(loop(_widen(first), _widen(second)), first.shape[-1])


def edge_activations(
    a: Float[Array, "channels heads"],
    rows: Float[Array, "nodes channels heads"],
    row_ids: Ids,
    values: Float[Array, "nodes channels heads"],
    value_ids: Ids,
    edges: Float[Array, "edges channels heads"] | None,
    slope: Float[Array, " heads"],
    above: float = 1.0,
) -> Float[Array, "edges heads"]:
    """Return sum_c a[c, h] f(x), x = rows[row_ids[e]] + values[value_ids[e]] (+ edges[e]).

    f(x) is `above` times x where x >= 0, and the slope times x elsewhere.
    """
    heads = rows.shape[-1]
    a_gl, rows, values = _widen(a), _widen(rows), _widen(values)
    edges = None if edges is None else _widen(edges)
    slopes_l = _tile(slope[None], rows), jnp.full((1, rows.shape[-1]), above, slope.dtype)
    ids = jnp.asarray(row_ids), jnp.asarray(value_ids)
    total: Any = None
    for start in range(0, rows.shape[1], MAX_GROUPS):
        part = slice(start, start + MAX_GROUPS)
        of_edges = None if edges is None else edges[:, part]
        term = _edge_activations(
            a_gl[part], rows[:, part], values[:, part], of_edges, slopes_l, ids
        )
        total = term if total is None else total + term
    return _sum_lanes(total, heads)


@one_loop
def _edge_activations(a_gl, rows_ngl, values_ngl, edges_egl, slopes_l, ids):
    row_ids, value_ids = ids
    total = None
    for g in range(values_ngl.shape[1]):
        x = rows_of(rows_ngl[:, g], row_ids) + rows_of(values_ngl[:, g], value_ids)
        if edges_egl is not None:
            x += edges_egl[:, g]
        term = a_gl[g][None] * x * slope_at(x, *slopes_l)
        total = term if total is None else total + term
    return total


# --- lanes ----------------------------------------------------------------------------------------


def _num_lanes(channels: int, heads: int) -> int:
    """Return how many neighbouring channels stand beside the heads."""
    lanes = 1
    while lanes * heads < LANES and channels % (2 * lanes) == 0:
        lanes *= 2
    return lanes


def _widen(values: Float[Array, "*batch channels heads"]) -> Float[Array, "*batch groups lanes"]:
    *batch, channels, heads = values.shape
    lanes = _num_lanes(channels, heads)
    return values.reshape(*batch, channels // lanes, lanes * heads)


def _tile(weights: Float[Array, "*batch heads"], wide: Float[Array, "_ groups lanes"]):
    repeats = wide.shape[-1] // weights.shape[-1]
    return jnp.tile(weights, repeats) if repeats > 1 else weights


def _sum_lanes(values_el: Float[Array, "edges lanes"], heads: int) -> Float[Array, "edges heads"]:
    parts = jnp.split(values_el, values_el.shape[-1] // heads, axis=1)
    return functools.reduce(jnp.add, parts)  # spelled out: a reduction would be a loop of its own
