"""The edges of a graph listed by one of their ends, on the host: sums without scatters.

A row is a node; it lists its edges, and the nodes at their other ends, in *slots*, as a neighbour
list (ELL format) does. A sum over a node's edges is then a sum over the slots of a row.

    DegreeBuckets  for loops that XLA compiles (`xla`): rows grouped by degree into buckets, padded
                   to one of a few widths; a row of more slots than the widest bucket is cut into
                   chunks, whose sums are added up by buckets of their own
    ChunkedRows    for programs of a kernel (`triton`): row after row without padding (CSR format),
                   cut into chunks

An `EdgeTable` is what a sum is taken over: the ends of the edges, and one of these, or None for the
edge list as it is. Edges of a row keep the order of the edge list, and rows of equal degree are cut
alike: twins are summed in the same order.
"""

import dataclasses
import functools
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Int

# Slots of a row that are spelled out in one loop; longer rows are cut into chunks of the last.
WIDTHS = (4, 8, 16, 32)
# Edges that one program of a kernel adds up, one tile after the other.
CHUNK_SIZE = 256

Ids = Int[Array | np.ndarray, "..."]
# A field of a pytree: ids, or what a transformation of JAX puts in their place.
IdsField = Any


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["nodes", "sizes", "others", "edges"],
    meta_fields=[],
)
@dataclasses.dataclass(frozen=True)
class Bucket:
    """Rows of one padded width W, or in the widest bucket also chunks of longer rows; K in all."""

    nodes: IdsField  # [K] the node whose row it is; chunks of longer rows come last
    sizes: IdsField  # [K] slots that hold an edge; they come first
    others: IdsField  # [K, W] node at the other end; padding repeats the first slot
    edges: IdsField  # [K, W] position in the graph's edge list; padding as above


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=["buckets", "places", "longer"], meta_fields=[]
)
@dataclasses.dataclass(frozen=True)
class DegreeBuckets:
    """The edges by one of their ends; nodes without edges there have no row.

    A row of several chunks is a row of `longer` too, where it lists its chunks in the place of
    edges: "the node at the other end" is a chunk's index in the widest bucket.
    """

    buckets: tuple[Bucket, ...]  # by width
    places: IdsField  # [N] index of each node's row: buckets in a line, then `longer`; -1: no row
    longer: Any  # DegreeBuckets | None

    @property
    def num_nodes(self) -> int:
        """N."""
        return len(self.places)


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["others", "edges", "starts", "owners", "places", "long", "long_starts"],
    meta_fields=["num_nodes", "num_parts"],
)
@dataclasses.dataclass(frozen=True)
class ChunkedRows:
    """The edges by one of their ends, in slots: row after row, as the edge list orders them."""

    others: IdsField  # [E] node at the other end, by slot
    edges: IdsField  # [E] position in the edge list, by slot
    starts: IdsField  # [K + 1] first slot of each of the K chunks; an empty row is one empty chunk
    owners: IdsField  # [K] node whose chunk it is
    places: IdsField  # [K] where its partial result goes; -1: it is the whole row
    long: IdsField  # [L] nodes of several chunks
    long_starts: IdsField  # [L + 1] their first partial results
    num_nodes: int  # N
    num_parts: int  # partial results


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["rows", "others", "index"],
    meta_fields=["num_rows"],
)
@dataclasses.dataclass(frozen=True)
class EdgeTable:
    """The edges seen from one of their ends, the row; made of a layout by `Layout.by_receiver`."""

    rows: IdsField  # [E] the node whose row the edge is in
    others: IdsField  # [E] the node at its other end
    index: Any  # DegreeBuckets | ChunkedRows | None: where a row finds its edges
    num_rows: int  # N


def make_degree_buckets(
    rows: np.ndarray, others: np.ndarray, num_rows: int, *, num_others: int | None = None
) -> DegreeBuckets:
    """List edges by one of their ends.

    Args:
      rows: [E] the end to list by, in [0, num_rows).
      others: [E] the other end.
      num_rows: N.
      num_others: how many there are at the other end, which buckets need not know.
    """
    order = np.argsort(rows, kind="stable").astype(np.int32)  # keeps the order within a row
    degree = np.bincount(rows, minlength=num_rows)
    starts = np.cumsum(degree) - degree
    width = np.array(WIDTHS)[np.minimum(np.searchsorted(WIDTHS, degree), len(WIDTHS) - 1)]
    is_long = degree > WIDTHS[-1]
    long = np.flatnonzero(is_long)
    num_chunks = -(-degree[long] // WIDTHS[-1])
    num_short = np.count_nonzero((width == WIDTHS[-1]) & ~is_long)
    places, num_placed, buckets = np.full(num_rows, -1, np.int32), 0, []
    for w in WIDTHS:
        nodes = np.flatnonzero((width == w) & (degree > 0) & ~is_long)
        places[nodes] = num_placed + np.arange(len(nodes))
        if w == WIDTHS[-1]:
            nodes = np.concatenate([nodes, np.repeat(long, num_chunks)])
        if len(nodes) > 0:
            buckets.append(_make_bucket(nodes.astype(np.int32), w, starts, degree, order, others))
            num_placed += len(nodes)
    longer = None
    if len(long) > 0:
        places[long] = num_placed + np.arange(len(long))
        rows = np.repeat(np.arange(len(long)), num_chunks)
        longer = make_degree_buckets(rows, num_short + np.arange(len(rows)), len(long))
    return DegreeBuckets(tuple(buckets), places, longer)


def _make_bucket(nodes, width: int, starts, degree, order, others) -> Bucket:
    """List the nodes' rows; a node that comes again, right after itself, gets its next chunk."""
    is_first = np.append(True, nodes[1:] != nodes[:-1])
    number = np.arange(len(nodes)) - np.flatnonzero(is_first)[np.cumsum(is_first) - 1]
    first = (starts[nodes] + number * width)[:, None]
    sizes = np.minimum(degree[nodes] - number * width, width)
    slot = np.arange(width)
    edges = order[np.where(slot < sizes[:, None], first + slot, first)]
    return Bucket(nodes, sizes.astype(np.int32), others[edges].astype(np.int32), edges)


def make_chunked_rows(
    row_ids: np.ndarray,
    other_ids: np.ndarray,
    num_nodes: int,
    *,
    num_others: int | None = None,
    chunk_size: int = CHUNK_SIZE,
) -> ChunkedRows:
    """List edges by one of their ends, on the host.

    Args:
      row_ids: [E] the end to list by, in any order, in [0, num_nodes).
      other_ids: [E] the other end, in [0, num_others).
      num_nodes: N.
      num_others: None: the other ends are of the same N nodes.
      chunk_size: largest number of edges of a chunk. Results are equal bits for equal sizes.

    Raises:
      ValueError: if the ids are not two vectors of one length or out of range, or the size is < 1.
    """
    row_ids, other_ids = np.asarray(row_ids), np.asarray(other_ids)
    if row_ids.ndim != 1 or row_ids.shape != other_ids.shape:
        raise ValueError(
            f"rows: expected two vectors of one length, got {row_ids.shape} and {other_ids.shape}"
        )
    if chunk_size < 1:
        raise ValueError(f"chunk_size: expected at least 1, got {chunk_size}")
    num_others = num_nodes if num_others is None else num_others
    for ids, number in ((row_ids, num_nodes), (other_ids, num_others)):
        # A kernel does not look: a wrong id would read another array's memory.
        if len(ids) and not (ids.min() >= 0 and ids.max() < number):
            raise ValueError(f"rows: expected ids in [0, {number}), got {ids.min()} to {ids.max()}")
    degree = np.bincount(row_ids, minlength=num_nodes)
    row_starts = np.cumsum(degree) - degree
    chunks = np.maximum(1, -(-degree // chunk_size))
    owners = np.repeat(np.arange(num_nodes), chunks)
    number = np.arange(len(owners)) - np.repeat(np.cumsum(chunks) - chunks, chunks)
    starts = np.append(row_starts[owners] + number * chunk_size, len(row_ids))
    is_long = chunks > 1
    is_part = is_long[owners]
    order = np.argsort(row_ids, kind="stable")  # keeps the order within a row
    long_starts = np.append(0, np.cumsum(chunks[is_long]))
    arrays = {
        "others": other_ids[order],
        "edges": order,
        "starts": starts,
        "owners": owners,
        "places": np.where(is_part, np.cumsum(is_part) - 1, -1),
        "long": np.flatnonzero(is_long),
        "long_starts": long_starts,
    }
    ids = {name: array.astype(np.int32) for name, array in arrays.items()}
    return ChunkedRows(**ids, num_nodes=num_nodes, num_parts=int(long_starts[-1]))
