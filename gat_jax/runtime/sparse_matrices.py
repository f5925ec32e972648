"""SciPy's sparse matrices, looked at in NumPy before SciPy's compiled code follows their indices.

SciPy checks indices when a matrix is made of them, and never again: an index that was written into
one afterwards leads a conversion into memory that belongs to something else. Nor does it say a word
where a conversion rounds an index, leaves out what stands in arrays of other lengths, or adds up
whole numbers beyond what 64 bits hold.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse

from gat_jax.runtime.arrays import check_size


def checked_csr(field: str, matrix: Any) -> Any:
    """Return a copy of a sparse matrix of any format as a CSR array whose indices are sound.

    Entries that occur twice are added up, as SciPy means them, and zeros are left out.

    Args:
      field: what an error calls the matrix.
      matrix: a sparse matrix or array of SciPy's, of two dimensions.

    Raises:
      ValueError: if the result would not fit into memory, an index is no whole number or lies
        outside of the shape, arrays do not fit each other, or a sum does not fit into 64 bits.
    """
    if not scipy.sparse.issparse(matrix) or matrix.ndim != 2:
        got = f"shape {matrix.shape}" if hasattr(matrix, "shape") else type(matrix).__name__
        raise ValueError(f"{field}: expected a sparse matrix of SciPy's [rows, columns], got {got}")
    # A conversion counts the entries of every row, or of every column where they lie by columns.
    num_starts = matrix.shape[0] + (matrix.shape[1] if matrix.format in ("csc", "dia") else 0)
    check_size(field, 8 * (num_starts + 1))
    try:
        CHECKS[matrix.format](matrix)
        if matrix.dtype.kind in "iu" and matrix.dtype.itemsize < 8:
            matrix = matrix.astype(np.int64)  # a sum of small integers would wrap around
        csr: Any = scipy.sparse.csr_array(matrix, copy=True)
        csr.check_format(full_check=True)
        csr.sum_duplicates()
        if csr.dtype.kind in "iu":
            _check_sums(matrix, csr)
        csr.eliminate_zeros()
    # IndexError and the like: what a matrix raises whose arrays are of other kinds or lengths.
    except (ValueError, TypeError, IndexError, OverflowError, AttributeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{field}: expected a sound sparse matrix, got {reason}") from error
    return csr


def _check_compressed(matrix: Any) -> None:
    """Check rows (`csr`), columns (`csc`) or blocks (`bsr`) one after the other."""
    for name in ("indptr", "indices"):
        _check_whole(name, getattr(matrix, name))
    matrix.check_format(full_check=True)


def _check_coordinates(matrix: Any) -> None:
    for ids, size in zip(matrix.coords, matrix.shape, strict=True):
        if len(ids) != len(matrix.data):
            raise ValueError(f"{len(ids)} indices for {len(matrix.data)} numbers")
        _check_ids(ids, size)


def _check_diagonals(matrix: Any) -> None:
    _check_whole("offsets", matrix.offsets)
    if matrix.data.ndim != 2 or len(matrix.data) != len(matrix.offsets):
        raise ValueError(f"{len(matrix.offsets)} offsets for data of shape {matrix.data.shape}")
    if len(np.unique(matrix.offsets)) < len(matrix.offsets):
        raise ValueError("an offset twice")


def _check_keys(matrix: Any) -> None:
    keys = list(matrix.keys())
    ids = np.array(keys)
    if len(keys):
        if ids.shape != (len(keys), 2):
            raise ValueError("keys that are no pairs")
        for axis, size in enumerate(matrix.shape):
            _check_ids(ids[:, axis], size)


def _check_lists(matrix: Any) -> None:
    lengths = [len(row) for row in matrix.rows]
    if len(matrix.rows) != matrix.shape[0] or lengths != [len(row) for row in matrix.data]:
        raise ValueError("lists of indices and of numbers of different lengths")
    _check_ids(np.array([i for row in matrix.rows for i in row]), matrix.shape[1])


# By the name of the format.
CHECKS: dict[str, Callable[[Any], None]] = {
    **dict.fromkeys(("csr", "csc", "bsr"), _check_compressed),
    "coo": _check_coordinates,
    "dia": _check_diagonals,
    "dok": _check_keys,
    "lil": _check_lists,
}


def _check_whole(name: str, ids: np.ndarray) -> None:
    if ids.size and ids.dtype.kind not in "iu":
        raise ValueError(f"{name} of {ids.dtype}")


def _check_ids(ids: np.ndarray, size: int) -> None:
    _check_whole("indices", ids)
    if ids.size and not 0 <= ids.min() <= ids.max() < size:
        raise ValueError(f"indices from {ids.min()} to {ids.max()} for a size of {size}")


def _check_sums(matrix: Any, csr: Any) -> None:
    """Check that no sum of entries that occur twice has wrapped around.

    A sum that wraps is wrong by a multiple of 2^64, which float64 shows whatever it rounds.
    """
    stored = matrix.tocoo().data
    if stored.size == 0:
        return
    largest = max(abs(int(stored.min())), abs(int(stored.max())))
    if largest * stored.size < 2**63:
        return
    sums = scipy.sparse.csr_array(matrix.astype(np.float64))
    sums.sum_duplicates()
    is_wrong = np.abs(sums.data - csr.data.astype(np.float64)) > 2.0**62
    if is_wrong.any():
        raise ValueError(f"a sum of {sums.data[is_wrong][0]:.3g}, which 64 bits do not hold")
