"""Arrays from outside: what is taken, what is refused, and in which words."""

import datetime
import fractions
import types

import jax
import jax.numpy as jnp
import jraph
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st

from gat_jax.runtime import arrays, devices

explore = settings(max_examples=200, deadline=None, derandomize=True)
pytestmark = pytest.mark.usefixtures("unchecked")
FLOAT32_MAX = float(np.finfo(np.float32).max)


def refuses(function, *arguments, match):
    with pytest.raises(ValueError, match=match) as error:
        function(*arguments)
    assert "\n" not in str(error.value)


# --- features -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "values",
    [
        [[1, 2], [3, 4]],
        ((1.0, 2.0), (3.0, 4.0)),
        np.array([[1, 2], [3, 4]], np.uint8),
        np.array([[1, 2], [3, 4]], ">f8"),
        np.array([[1, 2], [3, 4]], ">i4"),
        np.array([[1, 3], [2, 4]], np.float32).T,
        np.array([[1, 2], [3, 4]], np.float16),
        np.ma.masked_array([[1.0, 2.0], [3.0, 4.0]], mask=False),
        jnp.array([[1.0, 2.0], [3.0, 4.0]]),
        jnp.array([[1, 2], [3, 4]], jnp.bfloat16),
        pd.DataFrame({"a": [1, 3], "b": [2.0, 4.0]}),
    ],
    ids=lambda values: f"{type(values).__name__}",
)
def test_features_are_taken_from_whatever_has_numbers_in_rows(values):
    found = arrays.check_features("nodes", values)
    assert found.astype(np.float64).tolist() == [[1.0, 2.0], [3.0, 4.0]]
    assert found.dtype.isnative
    assert str(found.dtype) in arrays.FLOAT_DTYPES
    jnp.asarray(found)  # a type that JAX knows


@pytest.mark.torch
def test_features_are_taken_from_tensors_that_numpy_can_read():
    import torch

    tensor = torch.tensor([[1.0, 2.0]])
    np.testing.assert_array_equal(arrays.check_features("nodes", tensor), [[1.0, 2.0]])
    for bad in (tensor.requires_grad_(), torch.ones((1, 2), dtype=torch.bfloat16)):
        refuses(arrays.check_features, "nodes", bad, match="nodes: expected an array .* got Tensor")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.array([["a"]]), "nodes: expected numbers, got dtype <U1"),
        (np.array([[b"a"]]), "nodes: expected numbers, got dtype |S1"),
        (
            np.array([["2020-01-01"]], "datetime64[s]"),
            "nodes: expected numbers, got dtype datetime",
        ),
        (np.array([[3]], "timedelta64[s]"), "nodes: expected numbers, got dtype timedelta64"),
        (np.array([[1j]]), "nodes: expected real numbers, got dtype complex128"),
        (np.array([[1.0]], np.longdouble), "nodes: expected numbers, got dtype (float128|longd)"),
        (np.zeros((1, 1), [("a", int)]), r"nodes: expected numbers, got dtype \[\('a'"),
        (np.array([[None]]), "nodes: expected an array of numbers, got dtype object, such as None"),
        ([[2**70]], "nodes: expected an array of numbers, got dtype object, such as 11805"),
        ([[datetime.date(2020, 1, 1)]], "got dtype object, such as datetime.date"),
        ([[1.0], [1.0, 2.0]], "nodes: expected an array of numbers, got list "),
        ({"a": 1}, "nodes: expected an array of numbers, got dtype object, such as {'a': 1}"),
        (scipy.sparse.eye_array(2), r"got dia_array; its toarray\(\) gives one"),
        (scipy.sparse.csr_matrix(np.eye(2)), r"got csr_matrix; its toarray\(\) gives one"),
        (np.ma.masked_equal([[1.0, 2.0]], 2.0), "expected a number in every place, got masked"),
        (pd.DataFrame({"a": [1.0, None]}), r"nodes: expected finite numbers, got nan at \[1, 0\]"),
        (pd.DataFrame({"a": ["x"]}), "nodes: expected"),
        ([[1e300]], r"nodes: expected numbers that float32 holds, got 1e\+300 at \[0, 0\]"),
        ([[0.0], [-3.5e38]], r"numbers that float32 holds, got -3\.5e\+38 at \[1, 0\]"),
        ([[2**24 + 1]], r"whole numbers that float32 holds .*, got 16777217 at \[0, 0\]"),
        ([[-(2**63)], [-(2**63) + 1]], r"got -9223372036854775807 at \[1, 0\]"),
        (np.array([[2**64 - 1]], np.uint64), "whole numbers that float32 holds .*, got 18446744"),
        (jnp.array([[jnp.inf]], jnp.bfloat16), r"expected finite numbers, got inf at \[0, 0\]"),
        ([1.0], r"nodes: expected an array \[rows, columns\], got shape \(1,\)"),
        (3.0, r"nodes: expected an array \[rows, columns\], got shape \(\)"),
    ],
)
def test_features_that_layers_cannot_hold_are_refused(values, message):
    refuses(arrays.check_features, "nodes", values, match=message)


def test_features_of_float64_are_taken_where_float64_is_on(x64):
    del x64
    assert arrays.check_features("nodes", [[1e300]]).tolist() == [[1e300]]
    refuses(arrays.check_features, "nodes", [[np.inf]], match="expected finite numbers, got inf")


def test_a_traced_array_is_refused():
    traced = jax.jit(lambda x: arrays.check_features("nodes", x))
    refuses(traced, np.eye(2), match="nodes: expected an array outside of jit, got a traced one")


@explore
@given(
    st.integers(-(2**63), 2**64 - 1)
    | st.integers(2**23, 2**26)
    | st.integers(0, 63).map(lambda k: 1 << k)
)
def test_whole_numbers_are_taken_if_and_only_if_float32_has_them(number):
    column = np.array([[number]])
    is_exact = int(np.float32(number)) == number
    assert arrays.is_number_of_float32(number) == is_exact
    if is_exact:
        assert int(arrays.check_features("nodes", column)[0, 0]) == number
    else:
        refuses(arrays.check_features, "nodes", column, match=f"got {number} at")


@explore
@given(st.floats() | st.floats(3e38, 4e38))
def test_floats_are_taken_if_and_only_if_float32_is_finite(number):
    with np.errstate(over="ignore"):
        is_finite = bool(np.isfinite(np.float32(number)))
    assert arrays.is_number_of_float32(number) == is_finite
    if is_finite:
        assert arrays.check_values("x", [number]).tolist() == [number]
    else:
        refuses(arrays.check_values, "x", [number], match=r"^x: expected .* at \[0\]$")


@pytest.mark.parametrize(
    ("value", "is_taken"),
    [
        *((np.float64(1), True), (np.int8(1), True), (fractions.Fraction(1, 3), True), (0, True)),
        *((True, False), (np.True_, False), ("1", False), (None, False), (1 + 0j, False)),
        *((FLOAT32_MAX, True), (fractions.Fraction(10**400), False), (10**400, False)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_is_number_of_float32(value, is_taken):
    assert arrays.is_number_of_float32(value) == is_taken


# --- ids, labels ----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.int8, np.int64, np.uint8, np.uint64, ">i8"])
def test_ids_of_every_integer_dtype_are_taken(dtype):
    found = arrays.as_ids("senders", np.array([0, 2], dtype), 3)
    assert (found.tolist(), found.dtype) == ([0, 2], np.int32)


@pytest.mark.parametrize("ids", [[], np.zeros(0), np.zeros(0, "U1")])
def test_no_ids_are_ids(ids):
    assert arrays.as_ids("senders", ids, 3).dtype == np.int32


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([0, 3], r"senders: expected ids in \[0, 3\), got 3"),
        ([0, -1], r"senders: expected ids in \[0, 3\), got -1"),
        (np.array([2**64 - 1], np.uint64), r"expected ids in \[0, 3\), got 18446744073709551615"),
        ([0, 2**32], r"expected ids in \[0, 3\), got 4294967296"),
        ([0.0, 1.0], "senders: expected an integer dtype, got float64"),
        ([True], "senders: expected an integer dtype, got bool"),
        (np.array([1], "timedelta64[s]"), "senders: expected an integer dtype, got timedelta64"),
        (["0"], "senders: expected an integer dtype, got <U1"),
        (np.ma.masked_equal([0, 1], 1), "senders: expected a number in every place, got masked"),
        ([[0]], r"senders: expected a vector of node ids, got shape \(1, 1\)"),
        (None, "senders: expected an array of numbers, got dtype object, such as None"),
    ],
)
def test_ids_that_name_no_node_are_refused(ids, message):
    refuses(arrays.as_ids, "senders", ids, 3, match=message)


@pytest.mark.parametrize("dtype", [np.int8, np.uint64, np.float16, np.float64, np.bool_, ">f4"])
def test_whole_numbers_of_every_dtype_are_taken(dtype):
    found = arrays.check_whole_numbers("labels", np.array([0, 1], dtype))
    assert (found.tolist(), found.dtype) == ([0, 1], np.int64)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([0, 0.5], r"labels: expected whole numbers, got 0\.5 at \[1\]"),
        ([[0, np.nan]], r"labels: expected whole numbers, got nan at \[0, 1\]"),
        ([np.inf], r"labels: expected whole numbers, got inf at \[0\]"),
        (np.float64(0.5), r"labels: expected whole numbers, got 0\.5$"),
        ([1e19], r"labels: expected whole numbers of 63 bits, got 1e\+19"),
        (np.array([2**63], np.uint64), "labels: expected whole numbers of 63 bits, got 9223372"),
        (["a"], "labels: expected whole numbers, got dtype <U1"),
        ([1j], "labels: expected whole numbers, got dtype complex128"),
        (np.array([1], "datetime64[s]"), "labels: expected whole numbers, got dtype datetime64"),
    ],
)
def test_labels_that_are_no_whole_numbers_are_refused(values, message):
    refuses(arrays.check_whole_numbers, "labels", values, match=message)


# --- single numbers, and graphs -------------------------------------------------------------------


@pytest.mark.parametrize("value", [3, np.int8(3), np.uint64(3), np.array(3), jnp.int32(3)])
def test_check_count_takes_whole_numbers(value):
    count = arrays.check_count("size", value, 3)
    assert (count, type(count)) == (3, int)
    refuses(arrays.check_count, "size", value, 4, match=r"^size: expected at least 4, got 3$")


@pytest.mark.parametrize(
    "value", [True, np.True_, 3.0, np.float32(3), "3", b"3", None, [3], np.array([1, 2]), 3 + 0j]
)
def test_check_count_takes_nothing_else(value):
    refuses(arrays.check_count, "size", value, match=r"^size: expected a whole number, got ")


def test_check_graph_takes_whatever_has_the_fields():
    arrays.check_graph(jraph.GraphsTuple(*[None] * 7))
    arrays.check_graph(types.SimpleNamespace(**dict.fromkeys(arrays.GRAPH_FIELDS)))
    for field in arrays.GRAPH_FIELDS:
        others = types.SimpleNamespace(**dict.fromkeys(set(arrays.GRAPH_FIELDS) - {field}))
        message = rf"^graph: expected a jraph.GraphsTuple, got SimpleNamespace without {field}$"
        refuses(arrays.check_graph, others, match=message)


# --- memory ---------------------------------------------------------------------------------------


def test_what_fits_into_no_memory_is_refused_with_both_numbers(monkeypatch):
    monkeypatch.setattr(devices, "host_memory", lambda: 8 * 2**30)
    arrays.check_size("pairs", 2 * 2**30)
    refuses(
        arrays.check_size,
        *("pairs", 2 * 2**30 + 1),
        match=r"^pairs: expected at most 2 GiB, a quarter of the memory, got 2 GiB$",
    )


@pytest.mark.parametrize("value", ["x\ny" * 100, 10**5000, np.zeros((50, 50)), "[red]"], ids=type)
def test_an_object_is_shown_on_one_short_line(value):
    assert "\n" not in arrays.shown(value)
    assert len(arrays.shown(value)) < 200
