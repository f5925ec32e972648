"""Numbers as text, written in one way in figures, pages and tables. The text is plain."""

import math

import numpy as np
from jaxtyping import Float

Number = float | int  # checkers at run time say that an int is no float


def percent(share: Number, decimals: int = 0) -> str:
    """Write a share in percent; what is neither none nor all is never rounded to it.

    Args:
      share: between 0 and 1.
      decimals: digits after the point, of percent. 0 and 1 themselves are written without any.

    Returns:
      Such as "78.3%", "0%", "<0.1%" or ">99.9%".
    """
    smallest = 10.0 ** -(decimals + 2)
    if 0 < share < smallest / 2:
        return f"<{smallest:.{decimals}%}"
    if 1 - smallest / 2 < share < 1:
        return f">{1 - smallest:.{decimals}%}"
    return f"{share:.{decimals if 0 < share < 1 else 0}%}"


def percent_range(shares: Float[np.ndarray, "..."]) -> str:
    """Write the smallest and the largest of some shares, without the NaN among them.

    Returns:
      Such as "49% to 71%"; one number where both are written alike.
    """
    low, high = percent(float(np.nanmin(shares))), percent(float(np.nanmax(shares)))
    return low if low == high else f"{low} to {high}"


def count(amount: int, noun: str) -> str:
    """Write how many there are of something, such as "1 head" or "2,048 runs".

    Args:
      amount: how many.
      noun: in the singular; its plural ends in s.
    """
    return f"{amount:,} {noun}{'' if amount == 1 else 's'}"


def number(value: Number, low: Number | None = None, high: Number | None = None) -> str:
    """Write a number with the digits that mean something.

    Args:
      value: what is written.
      low: lower end of its interval, if it has one.
      high: upper end of its interval.

    Returns:
      Two digits of the interval's width, or five digits where there is no width; a whole number
      without a point; a very small one such as "4.1e-05"; "undefined" if it is not finite.
    """
    if not math.isfinite(value):
        return "undefined"
    if value == int(value):
        return f"{value:,.0f}"
    if low is not None and high is not None and math.isfinite(high - low) and high > low:
        return f"{value:,.{min(12, max(0, 1 - math.floor(math.log10(high - low))))}f}"
    return f"{value:.1e}" if abs(value) < 1e-3 else f"{value:.5g}"


def interval(low: Number | None, high: Number | None, num_samples: int) -> str:
    """Write a 95% interval.

    Args:
      low: lower end; None where nothing was measured.
      high: upper end; None where nothing was measured.
      num_samples: 1 for what is computed without sampling, and has no error of sampling.
    """
    if low is None or high is None:
        return "none"
    if low == high and num_samples == 1:
        return "exact: no sampling"
    return f"[{number(low, low, high)}, {number(high, low, high)}]"


def short(amount: Number) -> str:
    """Write a large number with three digits and k, M or G, such as "14.3M"."""
    for factor, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if amount >= factor:
            return f"{amount / factor:.3g}{unit}"
    return f"{amount:.3g}"
