"""What kernels for GPUs draw, and the form in which they compute rows: one array [B] a quantity.

The random words are those of `random_bits.draw_bits`, the parameters those of
`initializers.assemble`, the formulas those of the unrolled form (`row_forms`), written so that
nothing but arithmetic on arrays of one entry for each initialisation is left.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from gat_jax.layers import LAYERS, SCHEMES, LayerConfig, LayerParams
from gat_jax.runtime.threefry import Words, threefry
from gat_jax.sampling.random_bits import Distribution, from_bits
from gat_jax.sampling.row_forms import Spelled, Unrolled


class DrawnWords:
    """The random words of some initialisations of a batch, a row of `draw_bits` at a time."""

    def __init__(self, key: Words, batch: Array, num: int, size: int, lanes: Array):
        """Take what `draw_bits` takes, and the numbers of the initialisations, int32 [B]."""
        self._half = -(-num // 2)
        self._key, self._batch, self._size, self._lanes = key, batch, size, lanes
        self._rows: dict[int, tuple[Any, Any]] = {}

    def number(self, row: int, distribution: Distribution) -> Float[Array, " batch"]:
        """Return the numbers of one row, which `from_bits` makes of its words."""
        is_second, row = divmod(row, self._half)
        if row not in self._rows:
            counter = (self._lanes + row * self._size).astype(jnp.uint32)
            batch = jnp.broadcast_to(self._batch, counter.shape)
            self._rows[row] = threefry(self._key, counter, batch)
        return from_bits(self._rows[row][is_second], distribution)


def spell_params(
    numbers: Sequence[Array],
    scales: Mapping[str, Any],
    config: LayerConfig,
    num_features: int,
) -> LayerParams:
    """Return the parameters that `initializers.assemble` would make of numbers [B], `Spelled`."""
    remaining, like, params = iter(numbers), numbers[0], {}
    for name, (dims, _) in LAYERS[config.layer].specs(config, num_features).items():
        entries = np.empty(dims, object)
        for index in np.ndindex(dims):
            if name in scales:
                entries[index] = scales[name] * next(remaining)
            else:
                is_one = name == "kernel" and index[0] == index[-1]
                is_one = is_one and SCHEMES[config.initializer].has_identity_kernel
                entries[index] = jnp.full_like(like, 1.0 if is_one else 0.0)
        params[name] = Spelled(entries, like.shape[-1])
    return LAYERS[config.layer].params(**params)


class OnChip(Unrolled):
    """The unrolled form, of operations that a kernel has."""

    def nearest(self, values: Array) -> Array:
        """Return the nearest whole numbers, halves to even ones, as `jnp.round`."""
        low = jnp.floor(values)
        excess = values - low
        is_odd = low - 2.0 * jnp.floor(low * 0.5) == 1.0
        return jnp.where((excess > 0.5) | ((excess == 0.5) & is_odd), low + 1.0, low)
