"""Rows of many senders: the places of a support as an axis of an array.

Where places are spelled out, XLA fuses the softmax over them into each of its consumers, and
compiling takes memory and time that grow with the 2.6th power of the degree. Here a quantity of the
places is one array [W, K, B] of K receivers, and what is summed over places is reduced over an
axis, so that a program of 100,000 places is no larger than one of 100.

Receivers of similar degree are handled together, padded to the largest of them, and a few at a
time, so that memory is bounded by the longest row and not by all of them.

Numerics: a sum over places is one of blocks of 32, whose sums are summed in the same way. So its
rounding error is at most that of adding 32 numbers for each level (four for a million places), and
not that of adding as many numbers as there are places.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from gat_jax.layers import LayerConfig
from gat_jax.sampling.row_forms import Spelled
from gat_jax.sampling.twin_layout import TwinLayout

# Compiling a degree d whose places are spelled out takes c d^2.6 bytes, measured on a CPU with XLA
# of jaxlib 0.10.2 for K(2, m); GATv2 takes more with its channels.
GROWTH = 2.6
BYTES_GAT, BYTES_GCN, BYTES_GATV2, BYTES_SIGNS = 8.5e3, 5.0e3, 8.8e3, 1.6e3
# Degrees are spelled out, the smallest first, as long as all of them stay below this.
MAX_SPELLED_BYTES = 2**28
SUM_BLOCK = 32  # numbers that are added one after the other
MAX_BLOCK_SIZE = 2**24  # numbers of all quantities of the places that are computed at once


def spelled_bytes(degrees: Any, config: LayerConfig, *, only_signs: bool) -> Float[np.ndarray, "*"]:
    """Estimate the bytes that compiling takes for groups of receivers whose places are spelled out.

    Args:
      degrees: of the groups.
      config: of the layer.
      only_signs: whether attention weights are left out.
    """
    channels = float(config.channels)
    by_layer = {"gatv2": BYTES_GATV2 * channels**1.6, "gcn": BYTES_GCN * (1 + channels / 40)}
    factor = by_layer.get(config.layer, BYTES_GAT * (1 + channels / 40))
    if only_signs:
        factor = BYTES_SIGNS * (channels if config.layer == "gatv2" else 1.0)
    return factor * np.asarray(degrees, np.float64) ** GROWTH


def max_spelled_degree(layout: TwinLayout, config: LayerConfig, *, only_signs: bool) -> int:
    """Return the largest degree whose places a program spells out; 0 if there is none.

    Args:
      layout: of the twins.
      config: of the layer.
      only_signs: whether attention weights are left out.
    """
    degrees = np.unique(layout.degrees)
    total = np.cumsum(spelled_bytes(degrees, config, only_signs=only_signs))
    return int(np.max(degrees[total <= MAX_SPELLED_BYTES], initial=0))


class WideGroup(NamedTuple):
    """Receivers of similar degree: K of them, of L classes."""

    receivers: Int[np.ndarray, " receivers"]
    classes: Int[np.ndarray, " receivers"]  # rows of the arrays below
    senders: Int[np.ndarray, "classes width"]  # padded with the first sender
    gcn_weights: Float[np.ndarray, "classes width"]
    degrees: Int[np.ndarray, " classes"]


def wide_groups(layout: TwinLayout, max_degree: int) -> list[WideGroup]:
    """Return the receivers of more than that degree, in their order.

    Degrees between two powers of two are one group, so there are few of them however many degrees
    there are.

    Args:
      layout: of the twins.
      max_degree: of the receivers that are left out.
    """
    groups = []
    powers = np.ceil(np.log2(np.maximum(layout.degrees, 1))).astype(int)
    is_wide = layout.degrees > max_degree
    for power in np.unique(powers[is_wide]):
        members = np.flatnonzero(is_wide & (powers == power))
        numbers, classes = np.unique(layout.classes[members], return_inverse=True)
        starts, degrees = layout.starts[numbers], np.diff(layout.starts)[numbers]
        offsets = np.arange(degrees.max())
        places = starts[:, None] + np.where(offsets < degrees[:, None], offsets, 0)
        groups.append(
            WideGroup(
                layout.receivers[members],
                classes.reshape(-1).astype(np.int32),
                layout.senders[places],
                layout.gcn_weights[places].astype(np.float32),
                degrees.astype(np.int32),
            )
        )
    return groups


class AllPlaces:
    """Places of the supports of K receivers as the first axis: lists have one entry for all."""

    def __init__(self, is_place: Bool[Array, "width receivers 1"] | None, degree: Array):
        """Take which places are real, None if all of them, and how many there are, [1, K, 1]."""
        self.degree = degree
        self._is_place = is_place

    def channels(self, weights: Float[Array, "1 channels batch"] | Spelled) -> list[Array]:
        """Return [1, 1, B] for each channel."""
        return [weights[:, c][None] for c in range(weights.shape[1])]

    # Padding repeats a sender that is there, so it changes no extremum.

    def largest(self, values: Sequence[Array]) -> Array:
        """Return the largest over the first axis, [1, K, B]."""
        (value,) = values
        return jnp.max(value, axis=0, keepdims=True)

    def smallest(self, values: Sequence[Array]) -> Array:
        """Return the smallest over the first axis, [1, K, B]."""
        (value,) = values
        return jnp.min(value, axis=0, keepdims=True)

    def total(self, values: Sequence[Array]) -> Array:
        """Return the sum over the first axis, [1, K, B]."""
        (value,) = values
        return block_sum(value if self._is_place is None else jnp.where(self._is_place, value, 0.0))


def block_sum(values: Float[Array, "entries ..."]) -> Float[Array, "1 ..."]:
    """Return the sum over the first axis, in blocks; see the module on its error."""
    while len(values) > 1:
        num_blocks = -(-len(values) // SUM_BLOCK)
        padding = [(0, num_blocks * SUM_BLOCK - len(values))] + [(0, 0)] * (values.ndim - 1)
        blocks = jnp.pad(values, padding).reshape(num_blocks, SUM_BLOCK, *values.shape[1:])
        values = jnp.sum(blocks, axis=1)
    return values


def map_rows(
    function: Callable[[AllPlaces, Array, Array, Array], Any],
    group: WideGroup,
    *,
    batch: int,
    num_quantities: int,
) -> Any:
    """Apply a function to all receivers of a group, a few at a time.

    Args:
      function: of the places, receivers [k], senders [W, k] and weights [W, k, 1]; returns a pytree
        of arrays [k, B].
      group: of the receivers.
      batch: B.
      num_quantities: how many quantities of the places the function has, about.

    Returns:
      The pytree, of arrays [K, B].
    """
    num_rows, width = len(group.receivers), group.senders.shape[1]
    size = int(np.clip(MAX_BLOCK_SIZE // (width * batch * num_quantities), 1, num_rows))
    num_blocks = -(-num_rows // size)
    is_padded = bool(np.any(group.degrees < width))

    def block(rows: Array) -> Any:
        classes = jnp.asarray(group.classes)[rows]
        degree = jnp.asarray(group.degrees)[classes][None, :, None]
        is_place = None
        if is_padded:
            is_place = jnp.arange(width, dtype=jnp.int32)[:, None, None] < degree
        senders = jnp.asarray(group.senders)[classes].T
        weights = jnp.asarray(group.gcn_weights)[classes].T[..., None]
        places = AllPlaces(is_place, degree.astype(jnp.float32))
        return function(places, jnp.asarray(group.receivers)[rows], senders, weights)

    if num_blocks == 1:
        return block(jnp.arange(num_rows))
    # The last block begins earlier where it would not be full: its first rows are computed twice.
    rows = np.minimum(np.arange(num_blocks)[:, None] * size, num_rows - size) + np.arange(size)
    found = jax.lax.map(block, jnp.asarray(rows, jnp.int32))
    last = num_rows - (num_blocks - 1) * size

    def join(x: Array) -> Array:
        whole = x[:-1].reshape(-1, *x.shape[2:])
        return jnp.concatenate([whole, x[-1, size - last :]])

    return jax.tree.map(join, found)


def log_degree(degree: int | Array) -> float | Array:
    """Return the logarithm of a number of places."""
    return math.log(degree) if isinstance(degree, int) else jnp.log(degree)
