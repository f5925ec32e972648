"""What is measured of a layer: attention entropy, and the gap between twins.

The entropy here is of attention weights, whatever they were made of. The rows of a sweep
(`sampling.twin_rows`) have it from the logits, whose exponentials they need anyhow.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from gat_jax.kernels import Layout, contract, ids, layouts
from gat_jax.kernels.attention import mask_by_head
from gat_jax.kernels.gradients import with_gradient, without_gradient
from gat_jax.layers import check_edge_mask
from gat_jax.runtime import arrays
from gat_jax.runtime.jax_arrays import check_array


def normalised_entropy_deficit(
    attention: Float[Array, "edges heads"],
    receivers: Int[Array | np.ndarray, " edges"],
    num_nodes: int,
    *,
    mask: Bool[Array | np.ndarray, " edges"] | None = None,
    layout: Layout | None = None,
) -> Float[Array, "nodes heads"]:
    """1 - H_i / log d_i: 0 for uniform attention, 1 for all attention on one edge.

        log d - H = (1/d) sum_j phi(d alpha_j),   phi(u) = u log u - u + 1 >= 0

    Args:
      attention: [E, H] before dropout, summing to 1 over each receiver.
      receivers: [E] ids in [0, num_nodes).
      num_nodes: static number of nodes.
      mask: [E], True = real.
      layout: of these edges; None stands for the edge list.

    Returns:
      [N, H] without unit; d_i counts the real edges into i. NaN where d_i < 2, for which the
      normalised entropy is undefined: leave such rows out of means. NaN too where an attention is
      NaN or negative, of which there is no entropy.

    Raises:
      ValueError: if attention, receivers, mask and layout do not fit each other, or the result does
        not fit into memory; for receivers out of range, unless they are traced.

    Numerics: the terms are of second order in the distance from uniform attention, so that a
    deficit of 1e-6 is still exact to some percent in float32, where 1 - H / log d is rounding
    noise. An attention of exactly 0 has value phi(0) = 1 and gradient 0, not NaN.
    """
    arrays.check_count("num_nodes", num_nodes, 0)
    ids.check_node_ids("receivers", receivers, num_nodes)
    check_array("attention", attention, "real numbers")
    if attention.ndim != 2 or len(attention) != len(receivers):
        raise ValueError(
            f"attention: expected shape [E, H] for {len(receivers)} edges, got {attention.shape}"
        )
    check_edge_mask(mask, len(receivers), field="mask")
    num_bytes = num_nodes * attention.shape[1] * attention.dtype.itemsize
    arrays.check_size(f"num_nodes: entropies of {num_nodes:,} nodes", num_bytes)
    if layout is None:  # senders play no part
        layout = Layout(receivers, receivers, None, None, num_nodes, num_nodes)
    else:
        layouts.check_layout_of_receivers(layout, receivers, num_nodes)
    return _deficit(layout, attention, mask_by_head(mask, attention.shape[1]))


def _deficit_forward(layout, attention_eh, mask_eh):
    by_receiver = layout.by_receiver
    real_eh = jnp.ones_like(attention_eh)
    if mask_eh is not None:
        real_eh = mask_eh.astype(attention_eh.dtype)
    degree_nh = contract.edge_reduce(lambda edges, *_: edges[0], by_receiver, at_edges=(real_eh,))
    edges = {"at_edges": (attention_eh, real_eh), "at_rows": (degree_nh,)}
    deficit_nh = contract.edge_reduce(_phi, by_receiver, **edges)
    is_defined_nh = degree_nh >= 2
    scale_nh = jnp.where(is_defined_nh, degree_nh, 2.0)
    deficit_nh = jnp.where(is_defined_nh, deficit_nh / (scale_nh * jnp.log(scale_nh)), jnp.nan)
    return deficit_nh, (real_eh, degree_nh)


def _deficit_backward(layout, attention_eh, mask_eh, saved, gradient_nh):
    del mask_eh
    real_eh, degree_nh = saved
    is_defined_nh = degree_nh >= 2
    weight_nh = jnp.where(is_defined_nh, gradient_nh, 0.0)
    weight_nh /= jnp.log(jnp.where(is_defined_nh, degree_nh, 2.0))

    def by_edge(edges, rows, _):  # phi'(u) = log u
        (attention, real), (degree, weight) = edges, rows
        u = attention * degree
        log = jnp.where(u > 0, jnp.log(jnp.where(u > 0, u, 1.0)), _at_zero(u, 0.0))
        return jnp.where(real > 0, weight * log, 0.0)

    edges = {"at_edges": (attention_eh, real_eh), "at_rows": (degree_nh, weight_nh)}
    return contract.edge_map(by_edge, layout.by_receiver, **edges)


_deficit = with_gradient(_deficit_forward, _deficit_backward)


def _phi(edges, rows, _):
    """phi(d alpha) of real edges, 0 of others: u log u - u + 1 with u = d alpha."""
    (attention, real), (degree,) = edges, rows
    u = attention * degree
    positive = jnp.where(u > 0, u, 1.0)
    # u - 1 is exact near u = 1, where log1p of it is needed, but rounds to -1 for tiny u.
    near = jnp.where(u > 0.5, u, 1.0)
    log = jnp.where(u > 0.5, jnp.log1p(near - 1.0), jnp.log(positive))
    phi = positive * log - (positive - 1.0)
    return jnp.where(real > 0, jnp.where(u > 0, phi, _at_zero(u, 1.0)), 0.0)


def _at_zero(u: Float[Array, "..."], value: float) -> Float[Array, "..."]:
    """Return a value where u is 0, and NaN where it is NaN or below 0."""
    return jnp.where(u == 0, value, jnp.nan)


def normalised_entropy(
    attention: Float[Array, "edges heads"],
    receivers: Int[Array | np.ndarray, " edges"],
    num_nodes: int,
    *,
    mask: Bool[Array | np.ndarray, " edges"] | None = None,
    layout: Layout | None = None,
) -> Float[Array, "nodes heads"]:
    """H_i / log d_i, in [0, 1]; as `normalised_entropy_deficit`. In nats: times log d_i."""
    return 1.0 - normalised_entropy_deficit(
        attention, receivers, num_nodes, mask=mask, layout=layout
    )


def favourite_senders(
    attention: Float[Array, "edges heads"],
    layout: Layout,
    *,
    mask: Bool[Array | np.ndarray, " edges"] | None = None,
) -> Float[Array, "nodes heads"]:
    """Return every receiver's favourite: the sender of the edge with the largest attention.

    Args:
      attention: [E, H], finite.
      layout: of these edges.
      mask: [E], True = real.

    Returns:
      [N, H] ids of senders as floats, exact up to 2^24; of edges with equal attention the one with
      the smallest id. Infinity where a receiver has no edge.
    """
    wide_eh = attention.astype(jnp.promote_types(attention.dtype, jnp.float32))
    ids_n = jnp.arange(layout.num_senders, dtype=wide_eh.dtype)
    ids_nh = jnp.broadcast_to(ids_n[:, None], (layout.num_senders, wide_eh.shape[1]))
    return _favourites(layout, [wide_eh, ids_nh], mask_by_head(mask, wide_eh.shape[1]))


@without_gradient
def _favourites(layout: Layout, inputs: list[Array], mask: Array | None) -> Array:
    """Return the favourites of every row [N, H]."""
    attention_eh, ids_nh = inputs
    if mask is not None:
        attention_eh = jnp.where(mask, attention_eh, -jnp.inf)
    by_receiver = layout.by_receiver
    ends = {"at_edges": (attention_eh,), "reduce": "max"}
    peak_nh = contract.edge_reduce(lambda edges, *_: edges[0], by_receiver, **ends)

    def minus_id(edges, rows, others):
        return jnp.where(edges[0] >= rows[0], -others[0], -jnp.inf)

    ends |= {"at_rows": (peak_nh,), "at_others": (ids_nh,)}
    found_nh = -contract.edge_reduce(minus_id, by_receiver, **ends)
    return jnp.where(jnp.isneginf(peak_nh), jnp.inf, found_nh)  # of masked edges alone


def mean_of_defined(values: Float[Array, "..."]) -> Float[Array, ""]:
    """Mean of the entries that are not NaN; NaN if there are none."""
    is_defined = ~jnp.isnan(values)
    return jnp.sum(jnp.where(is_defined, values, 0.0)) / jnp.sum(is_defined)


def twin_gap(
    values: Float[Array, "nodes ..."],
    first: Int[Array | np.ndarray, " pairs"],
    second: Int[Array | np.ndarray, " pairs"],
) -> Float[Array, "pairs ..."]:
    """Largest absolute difference between the rows of each pair, over the last axis.

    Args:
      values: [N, C] outputs, or [N, H, C] outputs per head.
      first: [P] node ids.
      second: [P] node ids.

    Returns:
      [P], or [P, H].

    Raises:
      ValueError: unless `first` and `second` are vectors of whole numbers of one length and, where
        they are not traced, of nodes that exist.
    """
    check_array("values", values, "real numbers")
    if values.ndim < 2:
        raise ValueError(f"values: expected shape [N, C] or [N, H, C], got {values.shape}")
    ids.check_pairs(len(values), first=first, second=second)
    return jnp.max(jnp.abs(values[first] - values[second]), axis=-1)
