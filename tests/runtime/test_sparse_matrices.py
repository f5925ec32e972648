"""Sparse matrices of SciPy's whose indices were changed after they were made."""

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st

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


# --- arrays that do not fit each other ------------------------------------------------------------


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("change", [0.5, np.nan])
def test_an_index_that_is_no_whole_number_is_refused(form, change):
    matrix = make(form)
    if form == "coo":
        matrix.coords = (matrix.coords[0] + change, matrix.coords[1])
    elif form == "lil":
        matrix.rows[1] = [i + change for i in matrix.rows[1]]
    elif form == "dok":
        matrix._dict[(0.5, change)] = 1.0
    else:
        field = "offsets" if form == "dia" else "indices"
        setattr(matrix, field, getattr(matrix, field) + change)
    with pytest.raises(ValueError, match=r"sound sparse matrix, got (indices|offsets) of float64$"):
        checked_csr("features", matrix)


@pytest.mark.parametrize(
    ("form", "change", "message"),
    [
        ("dia", {"data": np.ones((1, 3))}, r"3 offsets for data of shape \(1, 3\)"),
        ("dia", {"data": np.ones((4, 3))}, r"3 offsets for data of shape \(4, 3\)"),
        ("dia", {"data": np.ones(3)}, r"3 offsets for data of shape \(3,\)"),
        ("dia", {"offsets": np.array([0, 1, 1])}, "an offset twice"),
        ("coo", {"data": np.ones(3)}, "4 indices for 3 numbers"),
        ("csr", {"data": np.ones(3)}, ".*"),
        ("csc", {"indices": np.zeros(3, int)}, ".*"),
        ("bsr", {"data": np.ones((1, 1, 1))}, ".*"),
        ("lil", {"rows": np.array([[1], [0, 2]], object)}, "lists of .* different lengths"),
        ("lil", {"data": np.array([[1.0], [1.0], [1.0]], object)}, "lists of .* different lengths"),
        ("lil", {"rows": np.array([None] * 3)}, "object of type 'NoneType' has no len.*"),
        ("dok", {"_dict": {(0, 3): 1.0}}, "indices from 3 to 3 for a size of 3"),
        ("dok", {"_dict": {(-1, 0): 1.0}}, "indices from -1 to -1 for a size of 3"),
        ("dok", {"_dict": {(1,): 1.0}}, "keys that are no pairs"),
    ],
)
def test_arrays_that_do_not_fit_each_other_are_refused(form, change, message):
    matrix = make(form)
    for name, value in change.items():
        setattr(matrix, name, value)
    with pytest.raises(ValueError, match=rf"^features: expected a sound .*, got {message}$"):
        checked_csr("features", matrix)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    st.lists(
        st.one_of(st.integers(-3, 3), st.integers(-(2**63), 2**63 - 1), st.just(2**63 - 1)),
        min_size=1,
        max_size=4,
    ),
    st.sampled_from(["coo", "csr", "csc", "lil"]),
    st.booleans(),
)
def test_a_sum_of_whole_numbers_is_right_or_refused(values, form, is_unsigned):
    dtype = np.uint64 if is_unsigned else np.int64
    values = [abs(value) * 2 if is_unsigned else value for value in values]
    values = [min(value, 2**64 - 1) for value in values]
    columns, starts = np.ones(len(values), int), np.array([0, len(values), len(values)])
    matrix = scipy.sparse.csr_array((np.array(values, dtype), columns, starts), shape=(2, 2))
    if form == "coo":
        matrix = matrix.tocoo()
    elif form == "csc":
        matrix = matrix.T
    elif form == "lil":
        matrix = scipy.sparse.lil_array((2, 2), dtype=dtype)
        matrix.rows[0], matrix.data[0] = [1] * len(values), values
    total = sum(values)
    if 0 <= total < 2**64 if is_unsigned else -(2**63) <= total < 2**63:
        found = checked_csr("adjacency", matrix)
        assert found.data.tolist() == ([total] if total else [])
    else:
        with pytest.raises(ValueError, match=r"got a sum of \S+, which 64 bits do not hold$"):
            checked_csr("adjacency", matrix)


@pytest.mark.parametrize("form", ["coo", "dok", "dia"])
def test_a_shape_that_claims_too_much_is_refused_before_any_memory_is_taken(form):
    matrix = scipy.sparse.coo_array((10**11, 3)).asformat(form)
    with pytest.raises(ValueError, match=r"^features: expected at most .* memory, got 745 GiB$"):
        checked_csr("features", matrix)
