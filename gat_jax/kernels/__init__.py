"""Sums over the edges of a node, and attention made of them, on any layout of the edges."""

from gat_jax.kernels.elementwise import Scalar, leaky_relu
from gat_jax.kernels.layouts import (
    Layout,
    LayoutName,
    check_traced_ends,
    choose,
    describe,
    layout_of_edges,
    make_layout,
    segment_layout,
)
from gat_jax.kernels.segments import segment_dots, segment_softmax_sum, segment_sum
from gat_jax.kernels.sparse import SparseFeatures, from_dense, from_scipy, is_worthwhile
from gat_jax.kernels.tables import Ids

__all__ = [
    "Ids",
    "Layout",
    "LayoutName",
    "Scalar",
    "SparseFeatures",
    "check_traced_ends",
    "choose",
    "describe",
    "from_dense",
    "from_scipy",
    "is_worthwhile",
    "layout_of_edges",
    "leaky_relu",
    "make_layout",
    "segment_dots",
    "segment_layout",
    "segment_softmax_sum",
    "segment_sum",
]
