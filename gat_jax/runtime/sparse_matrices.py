"""SciPy's sparse matrices, looked at in NumPy before SciPy's compiled code follows their indices.

SciPy checks indices when a matrix is made of them, and never again: an index that was written into
one afterwards leads a conversion into memory that belongs to something else.
"""

from typing import Any

import numpy as np
import scipy.sparse


def checked_csr(field: str, matrix: Any) -> Any:
    """Return a copy of a sparse matrix of any format as a CSR array whose indices are sound.

    Entries that occur twice are added up, as SciPy means them, and zeros are left out.

    Args:
      field: what an error calls the matrix.
      matrix: a sparse matrix or array of SciPy's, of two dimensions.

    Raises:
      ValueError: if an index lies outside of the shape, or pointers do not fit.
    """
    if not scipy.sparse.issparse(matrix) or matrix.ndim != 2:
        got = f"shape {matrix.shape}" if hasattr(matrix, "shape") else type(matrix).__name__
        raise ValueError(f"{field}: expected a sparse matrix of SciPy's [rows, columns], got {got}")
    try:
        if matrix.format in ("csr", "csc", "bsr"):
            matrix.check_format(full_check=True)
        elif matrix.format == "coo":
            for ids, size in zip(matrix.coords, matrix.shape, strict=True):
                if len(ids) != len(matrix.data):
                    raise ValueError(f"{len(ids)} indices for {len(matrix.data)} numbers")
                if len(ids) and not 0 <= ids.min() <= ids.max() < size:
                    raise ValueError(
                        f"indices from {ids.min()} to {ids.max()} for a size of {size}"
                    )
        if matrix.dtype.kind in "iu" and matrix.dtype.itemsize < 8:
            matrix = matrix.astype(np.int64)  # a sum of small integers would wrap around
        csr: Any = scipy.sparse.csr_array(matrix, copy=True)
        csr.check_format(full_check=True)  # lists of lists, for one, are not looked at before
        csr.sum_duplicates()
        csr.eliminate_zeros()
    # IndexError and the like: what a matrix raises whose arrays are of other kinds or lengths.
    except (ValueError, TypeError, IndexError, OverflowError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{field}: expected a sound sparse matrix, got {reason}") from error
    return csr
