"""Sparse matrices of SciPy's whose indices were changed after they were made."""

import numpy as np
import pytest
import scipy.sparse

from gat_jax.runtime.sparse_matrices import checked_csr

DENSE = np.array([[0.0, 1.0, 0.0], [2.0, 0.0, 3.0], [0.0, 0.0, 4.0]])
FORMATS = ("bsr", "coo", "csc", "csr", "dia", "dok", "lil")


def make(form):
    return scipy.sparse.coo_array(DENSE).asformat(form)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("dtype", [np.bool_, np.int8, np.float32, np.float64, np.complex128])
def test_every_format_is_read(form, dtype):
    matrix = make(form).astype(dtype)
    found = checked_csr("features", matrix)
    assert found.format == "csr"
    np.testing.assert_array_equal(found.toarray(), DENSE.astype(dtype))
    found.data[:] = 0
    np.testing.assert_array_equal(matrix.toarray(), DENSE.astype(dtype))


def test_entries_that_repeat_are_added_up_and_zeros_left_out():
    twice = scipy.sparse.coo_array(([200, 100, 0], ([0, 0, 1], [1, 1, 0])), dtype=np.uint8)
    for form in ("coo", "csr"):
        found = checked_csr("features", twice.asformat(form) if form == "coo" else csr_of(twice))
        assert (found.nnz, found.data.tolist()) == (1, [300])


def csr_of(coo):
    """The same entries, row by row, without adding up."""
    return scipy.sparse.csr_array((coo.data, coo.col, [0, 2, 3]), shape=coo.shape)


def damaged(form, field, value):
    matrix = make(form)
    if form == "coo":
        matrix.coords[field][1] = value
    elif form == "lil":
        matrix.rows[1] = value
    else:
        getattr(matrix, field)[1] = value
    return matrix


@pytest.mark.parametrize(
    ("form", "field", "value"),
    [
        *((form, "indices", bad) for form in ("csr", "csc", "bsr") for bad in (3, 10**9, -1)),
        *((form, "indptr", bad) for form in ("csr", "csc", "bsr") for bad in (9, 10**9, -1)),
        *(("coo", axis, bad) for axis in (0, 1) for bad in (3, 10**9, -1)),
        *(("lil", "rows", bad) for bad in ([0, 3], [0, 10**9])),
    ],
)
def test_an_index_out_of_the_shape_is_refused_before_anything_follows_it(form, field, value):
    with pytest.raises(
        ValueError, match=r"^features: expected a sound sparse matrix, got "
    ) as error:
        checked_csr("features", damaged(form, field, value))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (DENSE, r"features: expected a sparse matrix of SciPy's .*, got shape \(3, 3\)"),
        ([1], "features: expected a sparse matrix of SciPy's .*, got list"),
        (scipy.sparse.coo_array(np.ones(3)), r".* got shape \(3,\)"),
    ],
)
def test_what_is_no_sparse_matrix_is_refused(matrix, message):
    with pytest.raises(ValueError, match=message):
        checked_csr("features", matrix)
