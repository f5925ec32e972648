"""Node features that are mostly zeros, such as bags of words: projected on their non-zeros alone.

    z = X W:   z_i = sum over the non-zeros x_if of x_if W_f

is a sum over the "edges" between nodes and features, with the gradient of one: no scatter, and
neither X nor its gradient is ever dense (`attention.linear_sum`). Dropout on features draws numbers
for the non-zeros alone: the others stay 0 whatever it does.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse
from jaxtyping import Array, Float
from numpy.typing import ArrayLike

from gat_jax.kernels.attention import linear_sum
from gat_jax.kernels.layouts import Layout, choose_tables, layout_of_ids
from gat_jax.runtime.arrays import check_matrix, check_size, check_values
from gat_jax.runtime.sparse_matrices import checked_csr

# Below this share of non-zeros the projection goes by them: on Cora (0.013) that takes about a
# seventh of the time of the matrix product, and the time grows with the share.
MAX_DENSITY = 0.05
MAX_IDS = 2**31 - 1  # which int32 numbers
BYTES_OF_AN_ID = 48  # while tables are made, of every row and column, empty ones too


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["values", "layout"],
    meta_fields=["num_features"],
)
@dataclasses.dataclass(frozen=True)
class SparseFeatures:
    """Features [N, F] by their non-zeros; in place of an array as `graph.nodes`.

    Made by `from_dense` or `from_scipy`. Has a length, a shape and a dtype as an array has, and
    `numpy.asarray` makes one of it.
    """

    values: Any  # floats [E] of the E non-zeros, sorted by (node, feature)
    layout: Layout  # with tables; receivers are nodes, senders features
    num_features: int

    def __len__(self) -> int:
        """N."""
        return self.layout.num_receivers

    @property
    def shape(self) -> tuple[int, int]:
        """(N, F)."""
        return len(self), self.num_features

    @property
    def ndim(self) -> int:
        """2."""
        return 2

    @property
    def dtype(self) -> Any:
        """Of the non-zeros."""
        return self.values.dtype

    def astype(self, dtype) -> "SparseFeatures":
        """Return the same features in another dtype."""
        return dataclasses.replace(self, values=self.values.astype(dtype))

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        """Return the features [N, F], zeros included."""
        dense = np.zeros(self.shape, self.values.dtype if dtype is None else dtype)
        dense[np.asarray(self.layout.receivers), np.asarray(self.layout.senders)] = self.values
        return dense


def from_dense(features: ArrayLike) -> SparseFeatures:
    """Keep the non-zeros of features [N, F].

    Raises:
      ValueError: if they are no finite matrix, or all zeros.
    """
    features = check_matrix("features", features)
    return from_scipy(scipy.sparse.csr_array(features))


def from_scipy(features: Any) -> SparseFeatures:
    """Copy a SciPy sparse matrix or array [N, F]; whole numbers become float32.

    Raises:
      ValueError: if the matrix is not sound (see `checked_csr`), has so many rows and columns that
        their tables do not fit into memory, holds a number that cannot be held (see
        `arrays.check_values`), or nothing but zeros.
    """
    features = checked_csr("features", features)
    if features.nnz == 0:
        raise ValueError("features: expected at least one that is not zero, got none")
    if max(features.shape) > MAX_IDS:
        raise ValueError(
            f"features: expected at most {MAX_IDS} rows and columns, got shape {features.shape}"
        )
    check_size("features", BYTES_OF_AN_ID * sum(features.shape))
    values = check_values("features", features.data)
    values = values.astype(jax.dtypes.canonicalize_dtype(values.dtype))  # as jnp.asarray would
    num_nodes, num_features = features.shape
    columns = features.indices.astype(np.int32)
    rows = np.repeat(np.arange(num_nodes, dtype=np.int32), np.diff(features.indptr))
    # Tables on every device, also of few non-zeros: the edge list would add up by scatters.
    layout = layout_of_ids(columns, rows, num_features, num_nodes, choose_tables()[0])
    return SparseFeatures(values, layout, num_features)


def is_worthwhile(features: ArrayLike) -> bool:
    """Whether features [N, F] have so few non-zeros that `from_dense` makes layers faster."""
    features = np.asarray(features)
    num_nonzero = np.count_nonzero(features)
    return bool(0 < num_nonzero < MAX_DENSITY * features.size)


def project(
    features: SparseFeatures, kernel: Float[Array, " features *outputs"]
) -> Float[Array, " nodes *outputs"]:
    """Return the product of features [N, F] and a kernel [F, ...], accumulated in its dtype."""
    columns_fd1 = kernel.reshape(len(kernel), -1, 1)
    weights_e1 = jnp.asarray(features.values).astype(kernel.dtype)[:, None]
    product = linear_sum(features.layout, weights_e1, columns_fd1)
    return product.reshape(len(features), *kernel.shape[1:])
