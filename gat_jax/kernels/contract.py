"""The six sums that attention is made of, on any layout of the edges: where a backend is chosen.

    edge_reduce        a function of edge and ends, added up over a row, or its largest value
    weighted_sum       weights times the values at the other end, added up over a row
    slope_sum          weights times the LeakyReLU's slope, added up over a row
    edge_map           a function of edge and ends, by edge
    edge_dots          a function of the dot product of both ends, by edge
    edge_activations   GATv2's scores, by edge

A *table* (`tables.EdgeTable`) says which edges a row has: `layout.by_receiver` for sums over a
receiver's edges, whose senders are then the *others*; `layout.by_sender` the other way round. It is
the second argument everywhere. What belongs to an edge is in the order of the edge list. Values
are channel-major, [N, C, H], so that heads, which share nothing, come last everywhere.

A backend is a folder with a module `sums` of these six functions: `edge_list` (jraph's segments,
the reference), `xla` (loops over padded tables), `triton` (Pallas kernels). `attention`,
`gat_logits` and `gatv2_scores` are written in terms of these sums, once for all backends.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

from jaxtyping import Array, Float

from gat_jax.kernels.edge_list import sums as edge_list_sums
from gat_jax.kernels.tables import ChunkedRows, DegreeBuckets, EdgeTable
from gat_jax.kernels.triton import softmax as triton_softmax
from gat_jax.kernels.triton import sums as triton_sums
from gat_jax.kernels.xla import sums as xla_sums

EdgeArray = Float[Array, "edges heads"]
RowArray = Float[Array, "rows heads"]
OtherArray = Float[Array, "others heads"]
RowFeatures = Float[Array, "rows channels heads"]
OtherFeatures = Float[Array, "others channels heads"]
EdgeFeatures = Float[Array, "edges channels heads"]


class Backend(NamedTuple):
    """Modules that compute on one kind of index; a new backend has a line in `BACKENDS`."""

    sums: Any  # with the six functions of this module
    softmax: Any = None  # with a softmax and its sum in one kernel, as `triton.softmax` has them


# By the type of a table's index.
BACKENDS = {
    type(None): Backend(edge_list_sums),
    DegreeBuckets: Backend(xla_sums),
    ChunkedRows: Backend(triton_sums, triton_softmax),
}


def is_edge_list(table: EdgeTable) -> bool:
    """Whether sums are taken over the edge list itself, which JAX differentiates by itself."""
    return table.index is None


def softmax_kernels(table: EdgeTable) -> Any:
    """Return the module of a backend's own softmax with its sum, None where there is none."""
    return BACKENDS[type(table.index)].softmax


def _sums(table: EdgeTable) -> Any:
    return BACKENDS[type(table.index)].sums


def edge_reduce(
    function: Callable,
    table: EdgeTable,
    *,
    at_edges: Sequence[EdgeArray] = (),
    at_rows: Sequence[RowArray] = (),
    at_others: Sequence[OtherArray] = (),
    reduce: Literal["sum", "max"] = "sum",
) -> RowArray:
    """Add up a function over the edges of every row, or take its largest value.

    Args:
      function: elementwise, of three tuples: what is at the edge, at its row, at its other end.
      table: says which edges a row has.
      at_edges: [E, H] values of the edge.
      at_rows: [N, H] values of the node whose row it is.
      at_others: [M, H] values of the node at its other end.
      reduce: what is done with the values of a row.

    Returns:
      [N, H]; of a row without edges 0, and minus infinity as its largest value.
    """
    ends = {"at_edges": at_edges, "at_rows": at_rows, "at_others": at_others}
    return _sums(table).edge_reduce(function, table, **ends, reduce=reduce)


def weighted_sum(
    weights: Sequence[EdgeArray], table: EdgeTable, values: OtherFeatures
) -> RowFeatures:
    """Add up the product of the weights times the value at the other end, for every row.

    Args:
      weights: each [E, H].
      table: says which edges a row has.
      values: [M, C, H] of the nodes at the other end.

    Returns:
      [N, C, H], 0 at rows without edges.
    """
    return _sums(table).weighted_sum(weights, table, values)


def slope_sum(
    weights: EdgeArray,
    table: EdgeTable,
    *,
    rows: RowFeatures,
    others: OtherFeatures,
    edges: EdgeFeatures | None,
    slope: Float[Array, " heads"],
) -> RowFeatures:
    """Add up weight times f'(x), x = rows + others (+ edges), f the LeakyReLU, for every row.

    Args:
      weights: [E, H].
      table: says which edges a row has.
      rows: [N, C, H] of the node whose row it is.
      others: [M, C, H] of the node at the other end.
      edges: [E, C, H], or None for zeros.
      slope: [H] of the LeakyReLU.

    Returns:
      [N, C, H], 0 at rows without edges.
    """
    ends = {"rows": rows, "others": others, "edges": edges, "slope": slope}
    return _sums(table).slope_sum(weights, table, **ends)


def edge_map(
    function: Callable,
    table: EdgeTable,
    *,
    at_edges: Sequence[EdgeArray] = (),
    at_rows: Sequence[RowArray] = (),
    at_others: Sequence[OtherArray] = (),
) -> EdgeArray:
    """Return an elementwise function of what is at every edge and at its ends; see `edge_reduce`.

    Returns:
      [E, H].
    """
    ends = {"at_edges": at_edges, "at_rows": at_rows, "at_others": at_others}
    return _sums(table).edge_map(function, table, **ends)


def edge_dots(
    function: Callable,
    table: EdgeTable,
    *,
    rows: RowFeatures,
    others: OtherFeatures,
    at_edges: Sequence[EdgeArray] = (),
    at_rows: Sequence[RowArray] = (),
    at_others: Sequence[OtherArray] = (),
) -> EdgeArray:
    """Return a function of sum_c rows[c] others[c] of both ends of every edge.

    Args:
      function: elementwise, of the dot product and of the three tuples of `edge_reduce`.
      table: says what is at the ends.
      rows: [N, C, H].
      others: [M, C, H].
      at_edges: [E, H] values of the edge, for the function.
      at_rows: [N, H] likewise.
      at_others: [M, H] likewise.

    Returns:
      [E, H].
    """
    ends = {"at_edges": at_edges, "at_rows": at_rows, "at_others": at_others}
    return _sums(table).edge_dots(function, table, rows=rows, others=others, **ends)


def edge_activations(
    a: Float[Array, "channels heads"],
    table: EdgeTable,
    *,
    rows: RowFeatures,
    others: OtherFeatures,
    edges: EdgeFeatures | None,
    slope: Float[Array, " heads"],
    above: float = 1.0,
) -> EdgeArray:
    """Return sum_c a[c] f(x), x = rows + others (+ edges) of every edge.

    f(x) is `above` times x where x >= 0, and the slope times x elsewhere. Arguments as `slope_sum`.

    Returns:
      [E, H].
    """
    ends = {"rows": rows, "others": others, "edges": edges, "slope": slope}
    return _sums(table).edge_activations(a, table, **ends, above=above)
