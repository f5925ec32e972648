"""Numbers of the edges, from what is at their ends: one loop over the edge list each.

As `slots`, nothing of the size [E, C, H] is stored; `loops` says how, and what local suffixes
mean. The two ends of an edge may be of two kinds, as nodes and features are in `sparse`.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from gat_jax.kernels.tables import Ids
from gat_jax.kernels.xla.loops import one_loop, rows_of, slope_at, sum_lanes, tile, widen

MAX_GROUPS = 16  # terms of a dot product that are spelled out in one loop


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
    rows, values = widen(rows), widen(values)
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
    return one_loop(lambda total, *rest: finish(sum_lanes(total, heads), *rest))(total, ids, arrays)


def _add_products(total, rows_ngl, values_ngl, ids):
    row_ids, value_ids = ids
    for g in range(values_ngl.shape[1]):
        term = rows_of(rows_ngl[:, g], row_ids) * rows_of(values_ngl[:, g], value_ids)
        total = term if total is None else total + term
    return total


_edge_dots = one_loop(_add_products)


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
    a_gl, rows, values = widen(a), widen(rows), widen(values)
    edges = None if edges is None else widen(edges)
    slopes_l = tile(slope[None], rows), jnp.full((1, rows.shape[-1]), above, slope.dtype)
    ids = jnp.asarray(row_ids), jnp.asarray(value_ids)
    total: Any = None
    for start in range(0, rows.shape[1], MAX_GROUPS):
        part = slice(start, start + MAX_GROUPS)
        of_edges = None if edges is None else edges[:, part]
        term = _edge_activations(
            a_gl[part], rows[:, part], values[:, part], of_edges, slopes_l, ids
        )
        total = term if total is None else total + term
    return sum_lanes(total, heads)


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
