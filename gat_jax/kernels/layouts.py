"""How the edges of a graph lie in memory: chosen once per graph, on the host.

XLA runs a scatter on one thread of a CPU, and with atomics (in no fixed order) on a GPU. The
layouts with tables (`tables`), one by receivers and one by senders, need none.

    segment   no table: jraph's segment sums over the edge list. The reference.
    bucketed  rows of slots, for loops that XLA compiles (`slots`, `edge_loops`).
    fused     rows without padding, for kernels of Pallas on NVIDIA GPUs (`row_kernels`, `fused`).

Twins are summed in the same order in each, so that equal rows come out equal to the last bit.
"""

import dataclasses
import functools
import weakref
from typing import Literal, get_args

import jax
import jax.core
import jraph
import numpy as np

from gat_jax.kernels.tables import Bucket, IdsField, Rows, Table, make_rows, make_table
from gat_jax.kernels.xla.loops import platform

LayoutName = Literal["auto", "segment", "bucketed", "fused"]

# Edges from which tables pay on a CPU, measured with 8 heads of 8 channels, forward and backward.
# For 64 mapped runs that is 60 edges, and they gain milliseconds; a single run gains from 2,000
# edges on, and loses a tenth of a millisecond below.
MIN_BUCKETED_EDGES = 50


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
    data_fields=["senders", "receivers", "by_receiver", "by_sender"],
    meta_fields=[],
)
@dataclasses.dataclass(frozen=True)
class FusedLayout:
    """Two lists of the same edges, as kernels read them."""

    senders: IdsField  # [E]
    receivers: IdsField  # [E]
    by_receiver: Rows
    by_sender: Rows


Prepared = BucketedLayout | FusedLayout  # has tables
Layout = SegmentLayout | Prepared


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
    ids = _ids_of(graph, name)
    num_nodes = _num_nodes(graph)
    if name == "auto":
        name, _ = choose(len(graph.senders))
    key = (*map(id, ids), num_nodes, name)
    if key not in _CACHE:
        for field, array in zip(("senders", "receivers"), ids, strict=True):
            _check_range(field, np.asarray(array), num_nodes)
        # Copies: a layout that held the arrays would keep them, and itself, for ever.
        senders, receivers = (np.array(array, np.int32) for array in ids)
        layout = _make(senders, receivers, num_nodes, name)
        # An id is another array's once the array is gone.
        for array in ids:
            weakref.finalize(array, _CACHE.pop, key, None)
        _CACHE[key] = layout
    return _CACHE[key]


_CACHE: dict[tuple, Layout] = {}


def _ids_of(graph: jraph.GraphsTuple, name: LayoutName):
    """Return senders and receivers, if tables can be made of them."""
    ids = graph.senders, graph.receivers
    for field, array in zip(("senders", "receivers"), ids, strict=True):
        if isinstance(array, jax.core.Tracer):
            raise ValueError(
                "layout: expected a layout made before tracing (layouts.make_layout) where the "
                f"graph is traced, got {name!r}"
            )
        if not isinstance(array, np.ndarray | jax.Array) or array.dtype.kind not in "iu":
            kind = getattr(array, "dtype", type(array).__name__)
            raise ValueError(f"{field}: expected an array of whole numbers, got {kind}")
    shapes = [array.shape for array in ids]
    if len(shapes[0]) != 1 or shapes[0] != shapes[1]:
        raise ValueError(
            "senders, receivers: expected two vectors of one length, got {} and {}".format(*shapes)
        )
    return ids


def _num_nodes(graph: jraph.GraphsTuple) -> int:
    if not hasattr(graph.nodes, "shape"):
        kind = type(graph.nodes).__name__
        raise ValueError(f"nodes: expected an array or SparseFeatures, got {kind}")
    return len(graph.nodes)


def _check_range(field: str, ids: np.ndarray, num_nodes: int) -> None:
    """Refuse ids that a kernel would follow out of its arrays."""
    if len(ids) and not (ids.min() >= 0 and ids.max() < num_nodes):
        bad = ids[(ids < 0) | (ids >= num_nodes)][0]
        raise ValueError(f"{field}: expected ids in [0, {num_nodes}), got {bad}")


def check_fits(layout: Layout, graph: jraph.GraphsTuple) -> None:
    """Check that a layout was made for a graph of this size.

    Raises:
      ValueError: if not; ids are not compared.
    """
    if not isinstance(layout, Layout):
        kind = type(layout).__name__
        raise ValueError(f"layout: expected a name or one of make_layout, got {kind}")
    found = expected = (_num_nodes(graph), len(graph.senders))
    if not isinstance(layout, SegmentLayout):
        found = layout.by_receiver.num_nodes, len(layout.senders)
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
      device: "cpu", "gpu" (of NVIDIA), "rocm" or "tpu"; by default what JAX computes on.
    """
    device = _default_device() if device is None else device
    if num_edges == 0:
        return "segment", "there are no edges"
    if device == "cpu" and num_edges < MIN_BUCKETED_EDGES:
        reason = f"below {MIN_BUCKETED_EDGES:,} edges the scatters of a CPU cost little"
        return "segment", reason
    if device == "cpu":
        return "bucketed", "the scatters of a CPU run on one thread"
    if device == "gpu":
        return "fused", "its kernels are faster than scatters, which add up in no fixed order"
    return "bucketed", f"the scatters of a {device} may add up in no fixed order"


def _default_device() -> str:
    device = platform()
    if device == "gpu" and "cuda" not in jax.local_devices()[0].client.platform_version.lower():
        return "rocm"
    return device


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
    num_nodes, num_edges = layout.by_receiver.num_nodes, len(layout.senders)
    lines = [f"{kind}: {num_nodes:,} nodes, {num_edges:,} edges"]
    for name, table in (("receiver", layout.by_receiver), ("sender", layout.by_sender)):
        if isinstance(table, Rows):
            lines.append(f"  by {name}: {_describe_rows(table)}")
            continue
        slots = sum(bucket.edges.size for bucket in table.buckets)
        lines.append(f"  by {name}, {slots / num_edges:.2f} slots an edge:")
        lines += [f"    {_describe_bucket(bucket)}" for bucket in table.buckets]
    name, reason = choose(num_edges, device=device)
    return "\n".join([*lines, f"auto chooses {name}: {reason}"])


def _describe_bucket(bucket: Bucket) -> str:
    num_chunks = np.unique(np.asarray(bucket.nodes), return_counts=True)[1]
    text = f"{_count(len(num_chunks), 'row')} of up to {bucket.edges.shape[1]} slots"
    if num_chunks.max() == 1:
        return text
    return f"{text} in {_count(int(num_chunks.sum()), 'chunk')}, at most {num_chunks.max():,} a row"


def _describe_rows(rows: Rows) -> str:
    num_chunks = np.bincount(np.asarray(rows.owners))
    text = f"{_count(len(num_chunks), 'row')} in {_count(len(rows.owners), 'chunk')}"
    return f"{text}, at most {num_chunks.max():,} a row"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" + ("s" if number != 1 else "")


def _make(senders, receivers, num_nodes: int, name: str) -> Layout:
    if name == "segment" or len(senders) == 0:  # there is nothing to lay out
        return SegmentLayout(len(senders))
    if name == "fused":
        rows = (make_rows(*ends, num_nodes) for ends in _both_ends(senders, receivers))
        return FusedLayout(senders, receivers, *rows)
    tables = (make_table(*ends, num_nodes) for ends in _both_ends(senders, receivers))
    return BucketedLayout(senders, receivers, *tables)


def _both_ends(senders, receivers):
    """Return the end to list by and the other one, by receiver and by sender."""
    return (receivers, senders), (senders, receivers)
