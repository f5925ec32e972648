"""How the edges of a graph lie in memory: chosen once per graph, on the host.

XLA runs a scatter on one thread of a CPU, and with atomics (in no fixed order) on a GPU. The
layouts here need none. A graph is turned into two *tables*, one by receivers and one by senders:
every row (a node) lists the nodes at the other ends of its edges in *slots*, padded to one of a few
widths. A sum over a node's edges is then a sum over the slots of a row.

    segment   no table: jraph's segment sums over the edge list. The reference.
    bucketed  rows grouped by degree into buckets of one width; a row of more slots than the widest
              bucket is cut into chunks, whose sums are added up by a table of their own.
    fused     bucketed, with softmax and sum in one kernel of Pallas (`fused`), for NVIDIA GPUs.

Rows of equal degree lie in the same bucket and as many chunks: twins are summed in the
same order, so that equal rows come out equal to the last bit.
"""

import dataclasses
import functools
import weakref
from typing import Any, Literal, get_args

import jax
import jax.core
import jraph
import numpy as np
from jaxtyping import Array, Int

LayoutName = Literal["auto", "segment", "bucketed", "fused"]

# Slots of a row that are spelled out in one loop; longer rows are cut into chunks of the last.
WIDTHS = (4, 8, 16)
# Edges that one program of a fused kernel adds up, one tile after the other.
CHUNK_SIZE = 256
# From so many edges on a CPU gains by tables. Measured with 8 heads of 8 channels, forward and
# backward: 64 mapped runs gain from 60 edges on, where milliseconds are at stake; a single run
# gains from 2,000 on, and loses a tenth of a millisecond below.
MIN_BUCKETED_EDGES = 50

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
class Table:
    """The edges by one of their ends; nodes without edges there have no row.

    A row of several chunks is a row of `longer` too, where it lists its chunks in the place of
    edges: "the node at the other end" is a chunk's index in the widest bucket.
    """

    buckets: tuple[Bucket, ...]  # by width
    places: IdsField  # [N] index of each node's row: buckets in a line, then `longer`; -1: no row
    longer: Any  # Table | None


@functools.partial(jax.tree_util.register_dataclass, data_fields=[], meta_fields=["num_edges"])
@dataclasses.dataclass(frozen=True)
class SegmentLayout:
    """The edge list as it is."""

    num_edges: int | None = None  # of the graph it was made for; None: for any graph


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["senders", "receivers", "by_receiver", "by_sender"],
    meta_fields=[],
)
@dataclasses.dataclass(frozen=True)
class BucketedLayout:
    """Two tables of the same edges."""

    senders: IdsField  # [E]
    receivers: IdsField  # [E]
    by_receiver: Table
    by_sender: Table


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["nodes", "others", "edges", "starts", "owners", "places", "long", "long_starts"],
    meta_fields=["num_nodes", "num_parts"],
)
@dataclasses.dataclass(frozen=True)
class Rows:
    """The edges by one of their ends, in slots: row after row, as the edge list orders them."""

    nodes: IdsField  # [E] row of every edge, in the order of the edge list
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
    data_fields=["tables", "by_receiver", "by_sender"],
    meta_fields=[],
)
@dataclasses.dataclass(frozen=True)
class FusedLayout:
    """What the kernels of `fused` read, and tables for what they leave to XLA."""

    tables: BucketedLayout
    by_receiver: Rows
    by_sender: Rows


Layout = SegmentLayout | BucketedLayout | FusedLayout


def make_layout(graph: jraph.GraphsTuple, name: LayoutName = "auto") -> Layout:
    """Prepare the edges of a graph; prepared once for arrays of ids that live on.

    Args:
      graph: one graph on the host, its edges sorted as `graphs.from_edges` does, which twins need
        to come out bit-equal. Only the ids are read, so the layout serves every graph with these
        edges, whatever its features. They are read once: do not change the arrays afterwards.
      name: "auto" chooses by the graph's size and the device, see `choose`.

    Returns:
      A pytree of arrays: pass it to compiled functions as an argument. A closed-over layout becomes
      constants of the program, which XLA tries to fold.

    Raises:
      ValueError: for an unknown name; if the graph is traced, or its ids no arrays or out of range.
    """
    if name not in get_args(LayoutName):
        names = ", ".join(get_args(LayoutName))
        raise ValueError(f"layout: expected one of {names}, got {name!r}")
    if name == "segment":
        return SegmentLayout(len(graph.senders))
    if any(isinstance(ids, jax.core.Tracer) for ids in (graph.senders, graph.receivers)):
        raise ValueError(
            "layout: expected a layout made before tracing (layouts.make_layout) where the graph "
            f"is traced, got {name!r}"
        )
    if not all(isinstance(ids, np.ndarray | jax.Array) for ids in (graph.senders, graph.receivers)):
        raise ValueError("senders, receivers: expected arrays, got other kinds of sequences")
    num_nodes = len(graph.nodes)
    if name == "auto":
        name, _ = choose(len(graph.senders))
    key = (id(graph.senders), id(graph.receivers), num_nodes, name)
    if key not in _CACHE:
        # Copies: a layout that held the arrays would keep them, and itself, for ever.
        senders, receivers = (np.array(x, np.int32) for x in (graph.senders, graph.receivers))
        _check_ids(senders, receivers, num_nodes)
        layout = _make(senders, receivers, num_nodes, name)
        # An id is another array's once the array is gone.
        for array in (graph.senders, graph.receivers):
            weakref.finalize(array, _CACHE.pop, key, None)
        _CACHE[key] = layout
    return _CACHE[key]


_CACHE: dict[tuple, Layout] = {}


def _check_ids(senders: np.ndarray, receivers: np.ndarray, num_nodes: int) -> None:
    """Refuse ids that a kernel would follow out of its arrays."""
    for field, ids in (("senders", senders), ("receivers", receivers)):
        if len(ids) and not (ids.min() >= 0 and ids.max() < num_nodes):
            bad = ids[(ids < 0) | (ids >= num_nodes)][0]
            raise ValueError(f"{field}: expected ids in [0, {num_nodes}), got {bad}")


def tables_of(layout: BucketedLayout | FusedLayout) -> BucketedLayout:
    """Return the tables of a layout that has some."""
    return layout.tables if isinstance(layout, FusedLayout) else layout


def check_fits(layout: Layout, graph: jraph.GraphsTuple) -> None:
    """Check that a layout was made for a graph of this size.

    Raises:
      ValueError: if not; ids are not compared.
    """
    found = expected = (len(graph.nodes), len(graph.senders))
    if not isinstance(layout, SegmentLayout):
        layout = tables_of(layout)
        found = len(layout.by_receiver.places), len(layout.senders)
    if found != expected:
        raise ValueError(
            "layout: expected one made for {} nodes and {} edges, got one for {} and {}".format(
                *expected, *found
            )
        )


def choose(num_edges: int, *, device: str | None = None) -> tuple[LayoutName, str]:
    """Return what "auto" stands for, and why.

    Degrees play no part: rows of any length are cut to the same chunks.

    Args:
      num_edges: of the graph.
      device: "cpu", "gpu" or "tpu"; by default what JAX computes on.
    """
    device = jax.default_backend() if device is None else device
    if num_edges == 0:
        return "segment", "there are no edges"
    if device == "cpu" and num_edges < MIN_BUCKETED_EDGES:
        reason = f"below {MIN_BUCKETED_EDGES:,} edges the scatters of a CPU cost little"
        return "segment", reason
    if device == "cpu":
        return "bucketed", "the scatters of a CPU run on one thread"
    return "bucketed", f"the scatters of a {device} add up in no fixed order"


def describe(layout: Layout, *, device: str | None = None) -> str:
    """Say what a layout consists of, and what "auto" would choose for its graph, and why.

    Args:
      layout: of `make_layout`.
      device: as `choose`.

    Returns:
      Lines of text.
    """
    if isinstance(layout, SegmentLayout):
        text = "segment: the edge list, with scatters"
        if layout.num_edges is None:
            return text
        name, reason = choose(layout.num_edges, device=device)
        return f"{text}\nauto chooses {name}: {reason}"
    kind = "fused" if isinstance(layout, FusedLayout) else "bucketed"
    layout = tables_of(layout)
    num_nodes, num_edges = len(layout.by_receiver.places), len(layout.senders)
    lines = [f"{kind}: {num_nodes:,} nodes, {num_edges:,} edges"]
    for name, table in (("receiver", layout.by_receiver), ("sender", layout.by_sender)):
        slots = sum(bucket.edges.size for bucket in table.buckets)
        lines.append(f"  by {name}, {slots / num_edges:.2f} slots an edge:")
        lines += [f"    {_describe_bucket(bucket)}" for bucket in table.buckets]
    name, reason = choose(num_edges, device=device)
    return "\n".join([*lines, f"auto chooses {name}: {reason}"])


def _describe_bucket(bucket: Bucket) -> str:
    num_chunks = np.unique(np.asarray(bucket.nodes), return_counts=True)[1]
    text = f"{len(num_chunks):,} rows of up to {bucket.edges.shape[1]} slots"
    if num_chunks.max() == 1:
        return text
    return f"{text} in {num_chunks.sum():,} chunks, at most {num_chunks.max():,} a row"


def _make(senders, receivers, num_nodes: int, name: str) -> Layout:
    if name == "segment" or len(senders) == 0:  # there is nothing to lay out
        return SegmentLayout(len(senders))
    tables = BucketedLayout(
        senders,
        receivers,
        by_receiver=make_table(receivers, senders, num_nodes),
        by_sender=make_table(senders, receivers, num_nodes),
    )
    if name == "bucketed":
        return tables
    return FusedLayout(
        tables,
        by_receiver=make_rows(receivers, senders, num_nodes),
        by_sender=make_rows(senders, receivers, num_nodes),
    )


def make_table(rows: np.ndarray, others: np.ndarray, num_rows: int) -> Table:
    """List edges by one of their ends.

    Args:
      rows: [E] the end to list by, in [0, num_rows).
      others: [E] the other end.
      num_rows: N.
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
        longer = make_table(rows, num_short + np.arange(len(rows)), len(long))
    return Table(tuple(buckets), places, longer)


def _make_bucket(nodes, width: int, starts, degree, order, others) -> Bucket:
    """List the nodes' rows; a node that comes again, right after itself, gets its next chunk."""
    is_first = np.append(True, nodes[1:] != nodes[:-1])
    number = np.arange(len(nodes)) - np.flatnonzero(is_first)[np.cumsum(is_first) - 1]
    first = (starts[nodes] + number * width)[:, None]
    sizes = np.minimum(degree[nodes] - number * width, width)
    slot = np.arange(width)
    edges = order[np.where(slot < sizes[:, None], first + slot, first)]
    return Bucket(nodes, sizes.astype(np.int32), others[edges].astype(np.int32), edges)


def make_rows(
    row_ids: np.ndarray, other_ids: np.ndarray, num_nodes: int, *, chunk_size: int = CHUNK_SIZE
) -> Rows:
    """List edges by one of their ends, on the host.

    Args:
      row_ids: [E] the end to list by, in any order, in [0, num_nodes).
      other_ids: [E] the other end.
      num_nodes: N.
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
    for ids in (row_ids, other_ids):
        # A kernel does not look: a wrong id would read another array's memory.
        if len(ids) and not (ids.min() >= 0 and ids.max() < num_nodes):
            raise ValueError(
                f"rows: expected ids in [0, {num_nodes}), got {ids.min()} to {ids.max()}"
            )
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
        "nodes": row_ids,
        "others": other_ids[order],
        "edges": order,
        "starts": starts,
        "owners": owners,
        "places": np.where(is_part, np.cumsum(is_part) - 1, -1),
        "long": np.flatnonzero(is_long),
        "long_starts": long_starts,
    }
    ids = {name: array.astype(np.int32) for name, array in arrays.items()}
    return Rows(**ids, num_nodes=num_nodes, num_parts=int(long_starts[-1]))
