"""The forms in which systems hold the weights of one layer: which keys, and how they are read."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from gat_jax.diagnosis.models.observed import ImportedLayer


class FormOptions(NamedTuple):
    """What the arrays of a layer do not always show; None: as the system does it by default."""

    heads: int | None = None
    concat: bool | None = None
    slope: float = 0.2  # of the LeakyReLU
    # Whether a layer whose widths allow it adds its inputs to its outputs, as they are: an identity
    # has no keys.
    residual: bool = False


class Form(NamedTuple):
    """How one system, in one range of its versions, holds one kind of layer."""

    system: str  # such as "PyG GATConv (2.5 and later)"
    required: frozenset[str]  # keys of a layer, less the prefix that they share
    optional: frozenset[str]
    # Of the layer's name, its arrays by key (less the prefix) and the options.
    read: Callable[[str, Mapping[str, np.ndarray], FormOptions], ImportedLayer]


def check_heads(name: str, heads: int, options: FormOptions) -> None:
    """Refuse an option that differs from the number of heads that a layer's arrays show.

    Raises:
      ValueError: names both numbers.
    """
    if options.heads not in (None, heads):
        raise ValueError(f"heads: expected {heads}, as {name} has them, got {options.heads}")
