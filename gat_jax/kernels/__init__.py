"""Sums over the edges of a node, and attention made of them, on any layout of the edges."""

from gat_jax.kernels.edge_list.softmax import (
    EdgeIds,
    EdgeMask,
    Scalar,
    leaky_relu,
)
from gat_jax.kernels.layouts import (
    Layout,
    LayoutName,
    SegmentLayout,
    choose,
    describe,
    make_layout,
)
from gat_jax.kernels.sparse import (
    SparseFeatures,
    from_dense,
    from_scipy,
    is_worthwhile,
)
from gat_jax.kernels.tables import (
    Ids,
    Rows,
    Table,
)

__all__ = [
    "EdgeIds",
    "EdgeMask",
    "Ids",
    "Layout",
    "LayoutName",
    "Rows",
    "Scalar",
    "SegmentLayout",
    "SparseFeatures",
    "Table",
    "choose",
    "describe",
    "from_dense",
    "from_scipy",
    "is_worthwhile",
    "leaky_relu",
    "make_layout",
]
