"""How the edges of a graph lie in memory: chosen once per graph, on the host.

XLA runs a scatter on one thread of a CPU, and with atomics (in no fixed order) on a GPU. The
layouts with tables (`tables`), one by receivers and one by senders, need none.

    segment   no table: jraph's segment sums over the edge list. The reference.
    bucketed  rows of slots, for loops that XLA compiles (`xla`).
    fused     rows without padding, for kernels of Pallas on NVIDIA GPUs (`triton`).

Twins are summed in the same order in each, so that equal rows come out equal to the last bit.
"""

import dataclasses
import functools
from typing import Any, Literal, get_args

import jax
import jax.core
import jax.numpy as jnp
import jraph
import numpy as np
from jax.experimental import checkify
from jaxtyping import Array

from gat_jax.kernels import ids
from gat_jax.kernels.elementwise import to_bfloat16
from gat_jax.kernels.tables import (
    Bucket,
    ChunkedRows,
    DegreeBuckets,
    EdgeTable,
    Ids,
    IdsField,
    make_chunked_rows,
    make_degree_buckets,
)
from gat_jax.runtime.arrays import check_count, check_graph
from gat_jax.runtime.devices import has_triton
from gat_jax.runtime.programs import platform

LayoutName = Literal["auto", "segment", "bucketed", "fused"]
ValuesName = Literal["bfloat16"]

# Edges from which tables pay on a CPU, measured with 8 heads of 8 channels, forward and backward.
# For 64 mapped runs that is 60 edges, and they gain milliseconds; a single run gains from 2,000
# edges on, and loses a tenth of a millisecond below.
MIN_BUCKETED_EDGES = 50

# How an index by one end of the edges is made, by the name of the layout.
MAKE_INDEX = {"bucketed": make_degree_buckets, "fused": make_chunked_rows}


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["senders", "receivers", "receiver_index", "sender_index"],
    meta_fields=["num_receivers", "num_senders", "values"],
)
@dataclasses.dataclass(frozen=True)
class Layout:
    """The edges of a graph, with an index by each of their ends; or without, as a list.

    Receivers and senders may be of two kinds, as nodes and features are in `sparse`.
    """

    senders: IdsField  # [E]
    receivers: IdsField  # [E]
    receiver_index: Any  # DegreeBuckets | ChunkedRows | None
    sender_index: Any  # of the same type
    num_receivers: int  # N
    num_senders: int  # M
    values: ValuesName | None = None  # what rows of features are rounded to as they are gathered

    def gathered(self, rows: Array) -> Array:
        """Return rows as sums gather them; the edge list has no use for fewer bytes."""
        if self.values is None:
            return rows
        rounded = to_bfloat16(rows)
        return rounded if self.receiver_index is None else rounded.astype(jnp.bfloat16)

    @property
    def by_receiver(self) -> EdgeTable:
        """What a sum over a receiver's edges is taken over."""
        return EdgeTable(self.receivers, self.senders, self.receiver_index, self.num_receivers)

    @property
    def by_sender(self) -> EdgeTable:
        """What a sum over a sender's edges is taken over."""
        return EdgeTable(self.senders, self.receivers, self.sender_index, self.num_senders)

    @property
    def num_edges(self) -> int:
        """E."""
        return len(self.senders)

    @property
    def name(self) -> LayoutName:
        """What `make_layout` calls it."""
        if self.receiver_index is None:
            return "segment"
        return "bucketed" if isinstance(self.receiver_index, DegreeBuckets) else "fused"


def segment_layout(graph: jraph.GraphsTuple) -> Layout:
    """Return the edges of a graph as they are; the graph may be traced.

    Raises:
      ValueError: for ids that are no two vectors of whole numbers of one length; or, where they are
        not traced, out of range.
    """
    num_senders, num_receivers = node_counts(graph)
    ids.check_ends(graph.senders, graph.receivers, num_senders, num_receivers)
    return Layout(graph.senders, graph.receivers, None, None, num_receivers, num_senders)


def make_layout(
    graph: jraph.GraphsTuple, name: LayoutName = "auto", *, values: ValuesName | None = None
) -> Layout:
    """Prepare the edges of a graph.

    Args:
      graph: one graph on the host, its edges sorted as `graphs.from_edges` does, which twins need
        to come out bit-equal. Only the ids are read, and copied, so the layout serves every graph
        with these edges, whatever its features.
      name: "auto" chooses by the graph's size and the device, see `choose`.
      values: "bfloat16" halves the bytes that a sum reads: the features that attention weighs, and
        what their gradients are made of, are rounded as they are gathered. Scores and all sums stay
        float32, and equal rows stay equal. None: nothing is rounded.

    Returns:
      A pytree of arrays: pass it to compiled functions as an argument. A closed-over layout becomes
      constants of the program, which XLA tries to fold.

    Raises:
      ValueError: for an unknown name; if the graph is traced, or its ids no arrays or out of range.
    """
    num_senders, num_receivers = node_counts(graph)
    return layout_of_edges(
        graph.senders, graph.receivers, num_receivers, name, num_senders=num_senders, values=values
    )


def layout_of_edges(
    senders: Any,
    receivers: Any,
    num_nodes: int,
    name: LayoutName = "auto",
    *,
    num_senders: int | None = None,
    values: ValuesName | None = None,
) -> Layout:
    """Prepare edges that are given by their ends alone, without a graph.

    Args:
      senders: [E] ids on the host, copied; in any order, which is that of all arrays by edge.
      receivers: [E] ids likewise, in [0, num_nodes). They are the segments of sums.
      num_nodes: N.
      name: as `make_layout`.
      num_senders: M, where senders are another set than receivers. Values that belong to the edges
        have senders `numpy.arange(E)`, of which there are E. None: they are the same N nodes.
      values: as `make_layout`, and so are what is returned and what is refused.
    """
    if name not in get_args(LayoutName):
        names = ", ".join(get_args(LayoutName))
        raise ValueError(f"layout: expected one of {names}, got {name!r}")
    if values not in (None, *get_args(ValuesName)):
        raise ValueError(f"values: expected bfloat16 or None, got {values!r}")
    num_nodes = check_count("num_nodes", num_nodes)
    num_senders = num_nodes if num_senders is None else check_count("num_senders", num_senders)
    if any(isinstance(x, jax.core.Tracer) for x in (senders, receivers)):
        raise ValueError(
            "layout: expected a layout made before tracing (layouts.make_layout) where the "
            f"graph is traced, got {name!r}"
        )
    ids.check_ends(senders, receivers, num_senders, num_nodes)
    # Copies: what a caller does to its arrays afterwards does not reach the layout.
    senders, receivers = (np.array(array, np.int32) for array in (senders, receivers))
    layout = layout_of_ids(senders, receivers, num_senders, num_nodes, name)
    return dataclasses.replace(layout, values=values)


def layout_of_ids(
    senders: np.ndarray,
    receivers: np.ndarray,
    num_senders: int,
    num_receivers: int,
    name: LayoutName = "auto",
) -> Layout:
    """Prepare edges between two kinds of nodes, whose ids [E] are known to be in range."""
    if name == "auto":
        name, _ = choose(len(senders))
    indices = None, None
    if name != "segment" and len(senders):  # a table of no edges has no rows to loop over
        make = MAKE_INDEX[name]
        indices = (
            make(receivers, senders, num_receivers, num_others=num_senders),
            make(senders, receivers, num_senders, num_others=num_receivers),
        )
    return Layout(senders, receivers, *indices, num_receivers, num_senders)


def sides_of(graph: jraph.GraphsTuple) -> tuple:
    """Return the features of the nodes; two of them, senders' and receivers', for two sets.

    Args:
      graph: its nodes are features [N, F], or a pair of them.

    Raises:
      ValueError: if they are neither, or the graph has not the fields of a `jraph.GraphsTuple`.
    """
    check_graph(graph)
    is_pair = isinstance(graph.nodes, tuple | list)
    sides = tuple(graph.nodes) if is_pair else (graph.nodes,)
    if (is_pair and len(sides) != 2) or not all(_is_features(nodes) for nodes in sides):
        kinds = ", ".join(type(nodes).__name__ for nodes in sides)
        raise ValueError(
            "nodes: expected an array of NumPy or JAX, SparseFeatures, or a pair of them, got "
            f"{type(graph.nodes).__name__ + f' of {kinds}' if is_pair else kinds}"
        )
    for nodes in sides:
        if nodes.ndim == 0:
            raise ValueError("nodes: expected a row for each node, got a single number")
    return sides


def one_set_of(graph: jraph.GraphsTuple, where: str) -> Any:
    """Return the features of the nodes of a graph that has one set of them.

    Args:
      graph: its nodes are features [N, F].
      where: ends the message, such as "in training".

    Raises:
      ValueError: if there are two sets, or as `sides_of`.
    """
    sides = sides_of(graph)
    if len(sides) == 2:
        raise ValueError(f"nodes: expected one set of nodes {where}, got two")
    return sides[0]


def _is_features(nodes: Any) -> bool:
    # SparseFeatures are of a module above this one, and known by their layout.
    is_sparse = isinstance(getattr(nodes, "layout", None), Layout)
    return isinstance(nodes, np.ndarray | jax.Array) or is_sparse


def node_counts(graph: jraph.GraphsTuple) -> tuple[int, int]:
    """Return how many nodes send and how many receive: two sets, or twice the same one.

    Raises:
      ValueError: as `sides_of`.
    """
    sides = sides_of(graph)
    return len(sides[0]), len(sides[-1])


def check_traced_ends(graph: jraph.GraphsTuple) -> None:
    """Check the ids of a graph while a compiled program runs, under `chex.chexify`.

        step = chex.chexify(jax.jit(step), async_check=False)  # step calls check_traced_ends(graph)

    Inside of `jit` nothing is known of an id when the program is made. Under `chex.chexify`, or
    `jax.experimental.checkify.checkify`, this check becomes part of the program, which raises a
    ValueError naming the field; without either of them JAX refuses to compile it.

    Args:
      graph: may be traced; its ids point to rows of `graph.nodes`.
    """
    numbers = node_counts(graph)
    ids.check_vectors(senders=graph.senders, receivers=graph.receivers)
    ends = ("senders", graph.senders), ("receivers", graph.receivers)
    for (field, ids_e), num_nodes in zip(ends, numbers, strict=True):
        ids_e = jnp.asarray(ids_e)
        is_wrong = (ids_e < 0) | (ids_e >= num_nodes)
        wrong = jnp.max(jnp.where(is_wrong, ids_e, jnp.iinfo(ids_e.dtype).min))
        text = f"{field}: expected ids in [0, {num_nodes}), got {{wrong}}"
        checkify.check(~jnp.any(is_wrong), text, wrong=wrong)


def check_layout(layout: Layout, graph: jraph.GraphsTuple) -> None:
    """Check that a layout was made for the edges of this graph.

    Raises:
      ValueError: if their numbers differ; or, where neither is traced, the edges themselves.
    """
    num_senders, num_receivers = node_counts(graph)
    ids.check_vectors(senders=graph.senders, receivers=graph.receivers)
    ends = {"senders": graph.senders, "receivers": graph.receivers}
    _compare(layout, num_receivers, ends, num_senders=num_senders)


def check_layout_of_receivers(layout: Layout, receivers: Ids, num_receivers: int) -> None:
    """Check that a layout was made for edges with these receivers [E], whoever sends.

    Raises:
      ValueError: as `check_layout`.
    """
    _compare(layout, num_receivers, {"receivers": receivers})


def _compare(
    layout: Layout, num_receivers: int, ends: dict[str, Ids], *, num_senders: int | None = None
) -> None:
    """Compare a layout with the ends of edges, by the names of its fields."""
    if not isinstance(layout, Layout):
        kind = type(layout).__name__
        raise ValueError(f"layout: expected one of make_layout, or None, got {kind}")
    num_edges = len(ends["receivers"])
    is_other = num_senders is not None and layout.num_senders != num_senders
    if is_other or (layout.num_receivers, layout.num_edges) != (num_receivers, num_edges):
        raise ValueError(
            f"layout: expected one made for {num_receivers} nodes and {num_edges} edges, got one "
            f"for {layout.num_receivers} and {layout.num_edges}"
        )
    for field, array in ends.items():
        if not ids.are_equal(getattr(layout, field), array):
            raise ValueError(
                f"layout: expected one made of this graph's edges, got one with other {field}"
            )


def choose(num_edges: int, *, device: str | None = None) -> tuple[LayoutName, str]:
    """Return the layout that "auto" stands for, and why.

    Degrees play no part: rows of any length are cut to the same chunks.

    Args:
      num_edges: of the graph.
      device: "cpu", "gpu" (of NVIDIA, from Ampere on), "rocm" (any other GPU) or "tpu"; by default
        what JAX computes on.
    """
    device = _default_device() if device is None else device
    if num_edges == 0:
        return "segment", "there are no edges"
    if device == "cpu" and num_edges < MIN_BUCKETED_EDGES:
        reason = f"below {MIN_BUCKETED_EDGES:,} edges the scatters of a CPU cost little"
        return "segment", reason
    return choose_tables(device)


def choose_tables(device: str | None = None) -> tuple[LayoutName, str]:
    """Return the best layout with tables on a device, and why; arguments as `choose`."""
    device = _default_device() if device is None else device
    if device == "cpu":
        return "bucketed", "the scatters of a CPU run on one thread"
    if device == "gpu":
        return "fused", "its kernels are faster than scatters, which add up in no fixed order"
    return "bucketed", f"the scatters of a {device} may add up in no fixed order"


def _default_device() -> str:
    device = platform()
    if device == "gpu" and not has_triton(jax.local_devices()[0]):
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
    name, reason = choose(layout.num_edges, device=device)
    choice = f"auto chooses {name}: {reason}"
    if layout.name == "segment":
        return f"segment: the edge list, with scatters\n{choice}"
    rows = "" if layout.values is None else f", rows gathered in {layout.values}"
    lines = [f"{layout.name}: {layout.num_receivers:,} nodes, {layout.num_edges:,} edges{rows}"]
    for end, index in (("receiver", layout.receiver_index), ("sender", layout.sender_index)):
        if isinstance(index, ChunkedRows):
            lines.append(f"  by {end}: {_describe_rows(index)}")
            continue
        slots = sum(bucket.edges.size for bucket in index.buckets)
        lines.append(f"  by {end}, {slots / max(layout.num_edges, 1):.2f} slots an edge:")
        lines += [f"    {_describe_bucket(bucket)}" for bucket in index.buckets]
    return "\n".join([*lines, choice])


def _describe_bucket(bucket: Bucket) -> str:
    num_chunks = np.unique(np.asarray(bucket.nodes), return_counts=True)[1]
    text = f"{_count(len(num_chunks), 'row')} of up to {bucket.edges.shape[1]} slots"
    if num_chunks.max() == 1:
        return text
    return f"{text} in {_count(int(num_chunks.sum()), 'chunk')}, at most {num_chunks.max():,} a row"


def _describe_rows(rows: ChunkedRows) -> str:
    num_chunks = np.bincount(np.asarray(rows.owners))
    text = f"{_count(len(num_chunks), 'row')} in {_count(len(rows.owners), 'chunk')}"
    return f"{text}, at most {num_chunks.max():,} a row"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" + ("s" if number != 1 else "")
