"""`jraph.GAT` with softmax, sums and all their gradients free of scatters.

    net = jraph.GAT(query_fn, logit_fn, update_fn)
    net = jraph_gat.gat(query_fn, logit_fn, update_fn)  # the one line to change
    net = jraph_gat.gat(query_fn, logit_fn, update_fn, layout=layout)  # inside jit

A logit function may do anything to the features at both ends of all edges, so these are laid out
as it expects, [E, H, C], and take their memory. Where the logits are those of GAT or GATv2,
`layers.gat` and `layers.gatv2` need no such arrays.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import jraph

from gat_jax.kernels import Layout, attention, contract, layouts
from gat_jax.kernels.gradients import with_gradient
from gat_jax.layers.frame import side_by_side


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
      layout: `make_layout(graph, "bucketed")`, or "fused" on a GPU of NVIDIA. None: it is made
        anew with every call, which for a graph of a million edges takes a tenth of a second; where
        the graph is traced it has to be given. Another graph has another one, and a program is
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
        num_nodes = len(layouts.one_set_of(graph, "as in jraph"))
        prepared = layout
        if prepared is None:
            name, _ = layouts.choose_tables()
            prepared = layouts.make_layout(graph, name)
        layouts.check_layout(prepared, graph)
        if prepared.name == "segment" and len(graph.senders):
            raise ValueError("layout: expected a bucketed or fused one, got segment")
        queries_nhc = jnp.asarray(attention_query_fn(graph.nodes))
        if queries_nhc.ndim != 3 or len(queries_nhc) != num_nodes:
            raise ValueError(
                f"queries: expected shape [N, H, C] with N = {num_nodes}, got {queries_nhc.shape}"
            )
        sent, received = (
            at_end(prepared, queries_nhc.reshape(len(queries_nhc), -1)).reshape(
                prepared.num_edges, *queries_nhc.shape[1:]
            )
            for at_end in (_at_senders, _at_receivers)
        )
        logits = attention_logit_fn(sent, received, graph.edges)
        expected = (len(graph.senders), queries_nhc.shape[1], 1)
        if logits.shape != expected:
            raise ValueError(f"logits: expected shape {expected}, got {logits.shape}")
        values_nch = queries_nhc.swapaxes(1, 2)
        out_nch = attention.softmax_sum(prepared, logits[..., 0], values_nch)
        update = _default_update if node_update_fn is None else node_update_fn
        return graph._replace(nodes=update(out_nch.swapaxes(1, 2)))

    return apply


def _default_update(nodes_nhc):
    return side_by_side(jax.nn.leaky_relu(nodes_nhc))


def _fetch_at(end: str) -> Callable:
    """Return a function from numbers of the nodes [N, K] to those at one end of the edges [E, K].

    Its gradient is a sum over the node's edges. All K numbers of a node are heads to the sums.
    """

    def table_of(layout: Layout):
        return layout.by_sender if end == "sender" else layout.by_receiver

    def forward(layout: Layout, nodes_nk, _):
        return nodes_nk[table_of(layout).rows], ()

    def backward(layout: Layout, nodes_nk, mask, saved, g_ek):
        return contract.edge_reduce(lambda edges, *_: edges[0], table_of(layout), at_edges=[g_ek])

    return with_gradient(forward, backward)


_at_senders = _fetch_at("sender")
_at_receivers = _fetch_at("receiver")
