"""Sums over the edges of a node, and numbers by edge, on either kind of table.

    Table   `slots` and `edge_loops`: loops that XLA compiles
    Rows    `row_kernels`: kernels for NVIDIA GPUs

A row is a receiver and "other" a sender, unless the table says otherwise. Nothing of the size
[E, C, H] is stored.
"""

import functools
from collections.abc import Callable, Sequence

import jax.numpy as jnp
from jaxtyping import Array, Float

from gat_jax.kernels.layouts import Prepared
from gat_jax.kernels.tables import Rows, Table
from gat_jax.kernels.triton import sums as row_kernels
from gat_jax.kernels.xla import edge_loops, slots

EdgeArray = Float[Array, "edges heads"]
Features = Float[Array, "nodes channels heads"]
OtherFeatures = Float[Array, "others channels heads"]


def over_edges(
    function: Callable,
    table: Table | Rows,
    *,
    at_edges: Sequence[EdgeArray] = (),
    at_others: Sequence[Float[Array, "others heads"]] = (),
    at_nodes: Sequence[Float[Array, "nodes heads"]] = (),
    largest: bool = False,
) -> Float[Array, "nodes heads"]:
    """Add up a function over the edges of every node, or take the largest value.

    Args:
      function: elementwise, of the arrays below in their order.
      table: says which edges a node has.
      at_edges: [E, H] values of the edge.
      at_others: [M, H] values of the node at its other end.
      at_nodes: [N, H] values of the node itself.
      largest: instead of the sum.

    Returns:
      [N, H], 0 at nodes without edges; their largest value is minus infinity.
    """
    ends = {"at_edges": at_edges, "at_others": at_others, "at_nodes": at_nodes}
    if isinstance(table, Rows):
        return row_kernels.over_edges(function, table, **ends, largest=largest)
    return slots.over_edges(function, table, **ends, largest=largest)


def weighted_sum(
    weights: Sequence[EdgeArray], values: OtherFeatures, table: Table | Rows
) -> Features:
    """Add up the product of the weights times the value at the other end, for every node."""
    if isinstance(table, Rows):
        return row_kernels.weighted_sum(weights, values, table)
    return slots.weighted_sum(slots.in_slots(_product, weights, table), values, table)


def slope_sum(
    weights: EdgeArray,
    nodes: Features,
    others: Features,
    edges: Float[Array, "edges channels heads"] | None,
    slope: Float[Array, " heads"],
    table: Table | Rows,
) -> Features:
    """Add up weight times f'(x), x = nodes[own] + others[other] (+ edges[edge]) for every node.

    f is the LeakyReLU; the slope is one per head.
    """
    if isinstance(table, Rows):
        return row_kernels.slope_sum(weights, nodes, others, edges, slope, table)
    return slots.slope_sum(weights, nodes, others, edges, slope, table)


def edge_values(
    function: Callable,
    layout: Prepared,
    *,
    at_edges: Sequence[EdgeArray] = (),
    at_rows: Sequence[Float[Array, "nodes heads"]] = (),
    at_values: Sequence[Float[Array, "others heads"]] = (),
) -> EdgeArray:
    """Return an elementwise function of what is at every edge, its receiver and its sender.

    The function takes three tuples, one for each.
    """
    ends = {"at_edges": at_edges, "at_rows": at_rows, "at_values": at_values}
    return edge_loops.edge_values(function, layout.receivers, layout.senders, **ends)


def edge_dots(layout: Prepared, rows: Features, values: OtherFeatures) -> EdgeArray:
    """Return sum_c rows[receiver, c, h] values[sender, c, h] of every edge."""
    if isinstance(layout.by_receiver, Rows):
        return row_kernels.edge_dots(rows, values, layout.by_receiver)
    return edge_loops.edge_dots(rows, layout.receivers, values, layout.senders)


def edge_activations(
    layout: Prepared,
    a: Float[Array, "channels heads"],
    rows: Features,
    values: Features,
    edges: Float[Array, "edges channels heads"] | None,
    slope: Float[Array, " heads"],
    above: float = 1.0,
) -> EdgeArray:
    """Return sum_c a[c, h] f(x), x = rows[receiver] + values[sender] (+ edges[edge]).

    f(x) is `above` times x where x >= 0, and the slope times x elsewhere.
    """
    if isinstance(layout.by_receiver, Rows):
        of_rows = edges, slope, layout.by_receiver, above
        return row_kernels.edge_activations(a, rows, values, *of_rows)
    ends = rows, layout.receivers, values, layout.senders
    return edge_loops.edge_activations(a, *ends, edges, slope, above)


def _product(*factors):
    return functools.reduce(jnp.multiply, factors)
