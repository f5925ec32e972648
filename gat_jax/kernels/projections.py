"""The products of a layer: from features to the heads' values, and from values to scores.

Values are channel-major, [N, C, H], as the sums of `contract` want them.
"""

import jax
import jax.numpy as jnp
import jraph
from jaxtyping import Array, Float

from gat_jax.kernels import sparse
from gat_jax.kernels.sparse import SparseFeatures
from gat_jax.runtime.jax_arrays import to_jax
from gat_jax.runtime.programs import platform

# Nodes from which scores are made by a product of matrices.
MIN_PRODUCT_NODES = 1024


def project(x, kernel, bias) -> Float[Array, "rows channels heads"]:
    """Return x W + b as [N, C, H], for a kernel [F, H, C] and a bias [H, C] or None.

    Never in TF32 or bfloat16, where rounding would change signs of scores.
    """
    dtype = jnp.promote_types(jnp.promote_types(x.dtype, kernel.dtype), jnp.float32)
    # The weights are reordered, not the rows.
    x, kernel = x.astype(dtype), kernel.swapaxes(1, 2).astype(dtype)
    if isinstance(x, SparseFeatures):
        z = sparse.project(x, kernel)
    else:
        # As matrices: the gradient of a product with [F, C, H] copies what is as large as z.
        flat = jnp.dot(x, kernel.reshape(len(kernel), -1), precision=jax.lax.Precision.HIGHEST)
        z = flat.reshape(len(x), *kernel.shape[1:])
    return z if bias is None else z + bias.T[None].astype(dtype)


def edge_scores(edge_kernel, a_edge, graph: jraph.GraphsTuple) -> Float[Array, "edges heads"]:
    """Return a_edge . e_ij W_edge; weights are multiplied first, so nothing has [E, H, C]."""
    dtype = jnp.promote_types(edge_kernel.dtype, jnp.float32)
    weights_dh = jnp.sum(edge_kernel.astype(dtype) * a_edge[None].astype(dtype), axis=-1)
    edges = edge_features(edge_kernel, graph)
    return project(edges, weights_dh[..., None], None)[:, 0]


def edge_features(edge_kernel, graph: jraph.GraphsTuple) -> Float[Array, "edges features"]:
    """Return the graph's edge features; ValueError if the kernel [D, H, C] does not fit them."""
    edges = graph.edges
    if edges is None or edges.ndim != 2 or edges.shape[1] != edge_kernel.shape[0]:
        shape = None if edges is None else edges.shape
        raise ValueError(f"edges: expected shape [E, {edge_kernel.shape[0]}], got {shape}")
    return to_jax(edges)


def node_scores(
    z_nch: Float[Array, "nodes channels heads"], *vectors_hc: Float[Array, "heads channels"]
) -> list[Float[Array, "nodes heads"]]:
    """Return <a_h, z_nh> [N, H] for each of some vectors a.

    Of many nodes all in one thin matrix product: adding up the products instead made the projection
    of 169,343 nodes to 8 heads of 16 channels take twice its time on two CPU cores, forward and
    backward. Of few nodes, which are what thousands of mapped runs have, as plain sums.
    """
    num_nodes, channels, heads = z_nch.shape
    vectors_ch = [a.T.astype(z_nch.dtype) for a in vectors_hc]
    if num_nodes < MIN_PRODUCT_NODES or platform() != "cpu":
        return [jnp.sum(z_nch * a[None], axis=1) for a in vectors_ch]
    a_chp = jnp.stack(vectors_ch, axis=-1)
    block_chpg = a_chp[..., None] * jnp.eye(heads, dtype=z_nch.dtype)[None, :, None]
    scores = jnp.dot(
        z_nch.reshape(num_nodes, -1),
        block_chpg.reshape(channels * heads, -1),
        precision=jax.lax.Precision.HIGHEST,
    )
    return jnp.split(scores, len(vectors_hc), axis=1)
