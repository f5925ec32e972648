"""Named arrays as one row of float64 numbers, so that they are one chunk of a store.

Which numbers are which is said by a list of fields, which is stored beside the rows.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float


class Field(NamedTuple):
    """One array of a row."""

    name: str
    shape: tuple[int, ...]
    dtype: str  # of the array; a row's float64 holds whole numbers up to 2^53 exactly
    start: int  # where its numbers begin in a row; they stand there in C order

    @property
    def stop(self) -> int:
        """Where its numbers end in a row."""
        return self.start + math.prod(self.shape)


def fields_of(arrays: Iterable[tuple[str, tuple[int, ...], Any]]) -> tuple[Field, ...]:
    """Return the fields of arrays given by name, shape and dtype, in the order they stand in."""
    fields, start = [], 0
    for name, shape, dtype in arrays:
        fields.append(Field(name, shape, np.dtype(dtype).name, start))
        start = fields[-1].stop
    return tuple(fields)


def to_row(arrays: Mapping[str, Any], fields: Sequence[Field]) -> Float[np.ndarray, " length"]:
    """Put arrays in a row, each at the place of its field."""
    row = np.zeros(fields[-1].stop)
    for field in fields:
        row[field.start : field.stop] = np.ravel(arrays[field.name])
    return row


def from_row(row: Float[np.ndarray, " length"], fields: Sequence[Field]) -> dict[str, np.ndarray]:
    """Undo `to_row`."""
    return {
        field.name: row[field.start : field.stop].reshape(field.shape).astype(field.dtype)
        for field in fields
    }


def describe(fields: Sequence[Field]) -> dict[str, Any]:
    """Return the attributes of an array of rows, for whoever reads it without this package."""
    return {"fields": [{**field._asdict(), "shape": list(field.shape)} for field in fields]}
