"""`jraph.GAT` with softmax, sums and all their gradients free of scatters.

    net = jraph.GAT(query_fn, logit_fn, update_fn)
    net = drop_in.gat(query_fn, logit_fn, update_fn)  # the one line to change
    net = drop_in.gat(query_fn, logit_fn, update_fn, layout=layout)  # inside jit

A logit function may do anything to the features at both ends of all edges, so these are laid out
as it expects, [E, H, C], and take their memory. Where the logits are those of GAT or GATv2,
`layers.gat` and `layers.gatv2` need no such arrays.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import jraph
from jaxtyping import Array, Float

from gat_jax.kernels import Ids, Layout, Rows, SegmentLayout, Table, layouts, outputs
from gat_jax.kernels import attention as aggregation
from gat_jax.kernels import contract as sums


def gat(
    attention_query_fn: Callable,
    attention_logit_fn: Callable,
    node_update_fn: Callable | None = None,
    *,
    layout: Layout | None = None,
) -> Callable[[jraph.GraphsTuple], jraph.GraphsTuple]:
    """Return a function from graph to graph, as `jraph.GAT` does.

    Args:
      attention_query_fn: from node features to queries [N, H, C], which are also the values.
      attention_logit_fn: from senders' queries [E, H, C], receivers' queries [E, H, C] and edge
        features to logits [E, H, 1].
      node_update_fn: from [N, H, C] to new node features; by default LeakyReLU, then concatenation.
      layout: `layouts.make_layout(graph, "bucketed")`, or "fused" on a GPU of NVIDIA, as is made by
        default; needed where the graph is traced. Another graph has another one, and a program is
        compiled for one list of bucket sizes: under `jit` this suits one graph, or few, rather than
        a new one with every batch.

    Returns:
      The function; it agrees with jraph's to rounding where logits are finite. Edges may be in any
      order, and like jraph's it adds no self-loops. Of what jraph accepts by broadcasting it takes
      only the shapes above.

    Raises:
      ValueError: by the function, if queries or logits have another shape, the layout has no tables
        or is one of another graph, or the graph is traced and no layout is given.
    """

    def apply(graph: jraph.GraphsTuple) -> jraph.GraphsTuple:
        prepared = layouts.make_layout(graph, _default_name()) if layout is None else layout
        layouts.check_fits(prepared, graph)
        if isinstance(prepared, SegmentLayout) and len(graph.senders):
            raise ValueError("layout: expected a bucketed or fused one, got segment")
        queries_nhc = jnp.asarray(attention_query_fn(graph.nodes))
        if queries_nhc.ndim != 3:
            raise ValueError(f"queries: expected shape [N, H, C], got {queries_nhc.shape}")
        update = _default_update if node_update_fn is None else node_update_fn
        if isinstance(prepared, SegmentLayout):  # there are no edges
            return graph._replace(nodes=update(jnp.zeros_like(queries_nhc)))
        sent = _at_edges(prepared.by_sender, graph.senders, queries_nhc)
        received = _at_edges(prepared.by_receiver, graph.receivers, queries_nhc)
        logits = attention_logit_fn(sent, received, graph.edges)
        expected = (len(graph.senders), queries_nhc.shape[1], 1)
        if logits.shape != expected:
            raise ValueError(f"logits: expected shape {expected}, got {logits.shape}")
        values = queries_nhc.swapaxes(1, 2)
        return graph._replace(
            nodes=update(outputs.softmax_outputs(prepared, logits[..., 0], values))
        )

    return apply


def _default_name() -> layouts.LayoutName:
    """Return what "auto" chooses for a graph of any size, if that has tables."""
    name, _ = layouts.choose(layouts.MIN_BUCKETED_EDGES)
    return name


def _default_update(nodes_nhc):
    return outputs.side_by_side(jax.nn.leaky_relu(nodes_nhc))


@jax.custom_vjp
def _at_edges(
    table: Table | Rows, ids: Ids, nodes_nhc: Float[Array, "nodes heads channels"]
) -> Float[Array, "edges heads channels"]:
    """Return the node's row at every edge; its gradient is a sum over the node's edges."""
    return nodes_nhc[ids]


def _at_edges_backward(table: Table | Rows, g_ehc):
    flat = g_ehc.reshape(len(g_ehc), -1)
    return None, None, _sum_over_edges(table, flat).reshape(-1, *g_ehc.shape[1:])


@aggregation.fold_heads
def _sum_over_edges(table: Table | Rows, values):
    return sums.over_edges(lambda x: x, table, at_edges=[values])


_at_edges.defvjp(
    lambda table, ids, nodes: (_at_edges(table, ids, nodes), table), _at_edges_backward
)
