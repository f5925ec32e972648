"""Sums over the edges of a node, and attention made of them, on any layout of the edges."""

from gat_jax.kernels.elementwise import Scalar, leaky_relu
from gat_jax.kernels.layouts import (
    Layout,
    LayoutName,
    check_traced_ends,
    choose,
    describe,
    make_layout,
    segment_layout,
)
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
    "leaky_relu",
    "make_layout",
    "segment_layout",
]
