"""Numbers as text: no more digits than mean something, and nothing rounded to what it is not."""

import numpy as np
import pytest

from gat_jax import report


@pytest.mark.parametrize(
    ("share", "decimals", "text"),
    [
        *((0.0, 1, "0%"), (1.0, 1, "100%"), (0.781, 1, "78.1%"), (0.5, 0, "50%"), (1, 0, "100%")),
        *((1e-6, 1, "<0.1%"), (1 - 1e-6, 1, ">99.9%"), (0.004, 0, "<1%"), (0.9996, 0, ">99%")),
    ],
)
def test_percent_never_rounds_to_none_or_all(share, decimals, text):
    assert report.percent(share, decimals) == text


def test_percent_range_leaves_out_nan_and_says_equal_ends_once():
    assert report.percent_range(np.array([0.71, np.nan, 0.492])) == "49% to 71%"
    assert report.percent_range(np.array([0.501, 0.499])) == "50%"


@pytest.mark.parametrize(
    ("amount", "text"), [(0, "0 heads"), (1, "1 head"), (8, "8 heads"), (2048, "2,048 heads")]
)
def test_count_puts_the_noun_in_its_number(amount, text):
    assert report.count(amount, "head") == text


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ((0.78321, 0.7826, 0.7838), "0.7832"),  # width 0.0012: four digits after the point
        ((0.6, 0.6, 0.6), "0.6"),
        ((0.346573,), "0.34657"),
        ((20.0,), "20"),
        ((12345.0,), "12,345"),
        ((3,), "3"),
        ((4.123e-5,), "4.1e-05"),
        ((float("nan"),), "undefined"),
        ((float("inf"), 0.0, float("inf")), "undefined"),
        ((0.5, 0.0, float("inf")), "0.5"),
        ((0.1234567890123456, 0.12345678901234, 0.12345678901235), "0.123456789012"),
        ((150.4, 100.0, 200.0), "150"),
    ],
)
def test_number_has_the_digits_that_its_interval_allows(values, text):
    assert report.number(*values) == text


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ((0.7826, 0.7838, 100), "[0.7826, 0.7838]"),
        ((0.5, 0.5, 1), "exact: no sampling"),
        ((0.5, 0.5, 10), "[0.5, 0.5]"),
        ((None, None, 10), "none"),
        ((0.0, 0.00352, 1000), "[0, 0.0035]"),
    ],
)
def test_interval_says_what_there_is(values, text):
    assert report.interval(*values) == text


@pytest.mark.parametrize(
    ("amount", "text"),
    [(0, "0"), (999, "999"), (1000, "1k"), (14_340_000, "14.3M"), (1e9, "1G"), (2.5, "2.5")],
)
def test_short_has_three_digits_and_a_unit(amount, text):
    assert report.short(amount) == text
