"""The six sums over the edge list as it is, by jraph's segment sums: the reference.

As `contract` says. JAX differentiates them itself, in forward mode and twice too. What belongs to
an edge and a channel is an array [E, C, H] here.
"""

import functools
from collections.abc import Callable, Sequence

import jax.numpy as jnp
import jraph
from jaxtyping import Array, Float

from gat_jax.kernels.elementwise import slope_at
from gat_jax.kernels.tables import EdgeTable


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
    terms = edge_map(function, table, at_edges=at_edges, at_rows=at_rows, at_others=at_others)
    segment = jraph.segment_max if reduce == "max" else jraph.segment_sum
    return segment(terms, table.rows, table.num_rows)


def weighted_sum(
    weights: Sequence[Float[Array, "edges heads"]],
    table: EdgeTable,
    values: Float[Array, "others channels heads"],
) -> Float[Array, "rows channels heads"]:
    """Add up weights times the value at the other end; see `contract`."""
    weights_eh = functools.reduce(jnp.multiply, weights)
    terms_ech = weights_eh[:, None] * values[table.others]
    return jraph.segment_sum(terms_ech, table.rows, table.num_rows)


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
    slopes_ech = slope_at(_at_both_ends(table, rows, others, edges), slope[None, None])
    return jraph.segment_sum(weights[:, None] * slopes_ech, table.rows, table.num_rows)


def edge_map(
    function: Callable,
    table: EdgeTable,
    *,
    at_edges: Sequence[Float[Array, "edges heads"]] = (),
    at_rows: Sequence[Float[Array, "rows heads"]] = (),
    at_others: Sequence[Float[Array, "others heads"]] = (),
) -> Float[Array, "edges heads"]:
    """Return a function of what is at every edge and at its ends; see `contract`."""
    return function(
        tuple(at_edges),
        tuple(x[table.rows] for x in at_rows),
        tuple(x[table.others] for x in at_others),
    )


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
    dots_eh = jnp.sum(rows[table.rows] * others[table.others], axis=1)
    ends = {"at_rows": at_rows, "at_others": at_others}
    return edge_map(
        lambda edges, *rest: function(edges[0], edges[1:], *rest),
        table,
        at_edges=[dots_eh, *at_edges],
        **ends,
    )


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
    x_ech = _at_both_ends(table, rows, others, edges)
    return jnp.sum(a[None] * x_ech * slope_at(x_ech, slope[None, None], above), axis=1)


def _at_both_ends(table: EdgeTable, rows, others, edges) -> Float[Array, "edges channels heads"]:
    x_ech = rows[table.rows] + others[table.others]
    return x_ech if edges is None else x_ech + edges
