"""What compiled functions are given."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gat_jax.runtime.jax_arrays import check_array, to_jax

KINDS = {"booleans": "?", "whole numbers": "i", "real numbers": "f"}
TAKEN = {  # by dtype: the kinds that it is taken for
    "bool": ("booleans", "real numbers"),
    **dict.fromkeys(
        ("int8", "uint16", "int32", "uint32", "int64"), ("whole numbers", "real numbers")
    ),
    **dict.fromkeys(("float16", "float32", "float64", "bfloat16"), ("real numbers",)),
    **dict.fromkeys(("complex64", "U1", "O", "M8[s]", "longdouble", "V4"), ()),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", TAKEN)
def test_check_array_goes_by_the_dtype(dtype, kind):
    array = np.zeros(2, jnp.bfloat16 if dtype == "bfloat16" else dtype)
    if kind in TAKEN[dtype]:
        check_array("field", array, kind)
        jax.eval_shape(lambda x: check_array("field", x, kind), array)
    else:
        with pytest.raises(ValueError, match=f"^field: expected an array of {kind}, got [a-z<|]"):
            check_array("field", array, kind)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "value",
    [None, [1, 2], (1,), 3, 0.5, "text", {}, memoryview(bytes(2)), np.float32(1), object()],
    ids=lambda value: type(value).__name__,
)
def test_check_array_refuses_what_is_no_array(value, kind):
    message = f"^field: expected an array of {kind}, got {type(value).__name__}$"
    with pytest.raises(ValueError, match=message):
        check_array("field", value, kind)


def test_check_array_refuses_masks_foreign_byte_order_and_random_keys():
    for kind, letter in KINDS.items():
        with pytest.raises(ValueError, match="one with a mask"):
            check_array("field", np.ma.array([1, 2], mask=[True, False]).astype(letter), kind)
        with pytest.raises(ValueError, match=f"expected an array of {kind}, got key"):
            check_array("field", jax.random.key(0), kind)
    for dtype in (">i4", ">f4", ">f8"):
        with pytest.raises(ValueError, match=f"in this machine's byte order, got dtype {dtype}"):
            check_array("field", np.zeros(2, dtype), "real numbers")


@pytest.mark.parametrize("value", [2**40, -(2**40), 2**62, 2**24, 3])
def test_to_jax_keeps_whole_numbers_that_jax_would_cut(value):
    assert float(to_jax(np.array([value]))[0]) == value
