"""From inputs to outputs: which rows are equal to rounding."""

import numpy as np

from gat_jax.diagnosis.stages import carry

TOGETHER, APART = np.zeros(3, np.int64), np.arange(3)


def test_rows_that_hardly_differ_are_equal_to_rounding():
    """Where all rows are alike, their spread is rounding itself: their size has to count."""
    rows = np.array([[100.0], [100.0], [100.0]], np.float32)
    rows[1:, 0] = np.nextafter(rows[1:, 0], np.float32(200))
    np.testing.assert_array_equal(carry([TOGETHER], rows), TOGETHER)
    np.testing.assert_array_equal(carry([APART], rows), [0, 1, 1])


def test_rows_that_differ_by_more_stay_apart():
    rows = np.array([[1.0], [1.0 + 1e-5], [2.0]], np.float32)
    np.testing.assert_array_equal(carry([TOGETHER], rows), APART)


def test_rows_without_numbers_are_equal():
    np.testing.assert_array_equal(carry([APART], np.zeros((3, 0), np.float32)), TOGETHER)
