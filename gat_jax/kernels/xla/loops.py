"""What the loops of `sums` have in common, so that XLA makes one loop of each.

Features are kept *channel-major*, [N, C, H]: then the heads, which share nothing, are what a vector
instruction works on, and a dot product over channels is a sum of vectors. Where there are few
heads, neighbouring channels stand beside them as further *lanes*.

XLA fuses one output per loop, and only while a sum over slots or channels is spelled out; what it
can turn into a library call materialises the gathered values [E, C, H], at ten times the cost.
Hence loops in Python, and `programs.apart`, which keeps XLA from merging a loop with its
surroundings. A select between gathered values ends a loop too: what is masked is multiplied by 0 or
1 (`tests/kernels/xla/test_sums.py` holds the temporary memory to all this).

Local suffixes, here and in `sums`: k chunks, w slots of a chunk, n nodes, e edges,
c channels, h heads, g groups of channels, l lanes.
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from gat_jax.kernels.tables import Ids
from gat_jax.runtime.programs import apart

LANES = 8  # numbers that a loop should have side by side at least


def rows_of(values: Float[Array, " rows *rest"], index: Ids) -> Float[Array, "..."]:
    """Return values[index] for an index [K] known to be in range, which saves its correction."""
    numbers = jax.lax.GatherDimensionNumbers(
        offset_dims=tuple(range(1, values.ndim)), collapsed_slice_dims=(0,), start_index_map=(0,)
    )
    mode = jax.lax.GatherScatterMode.PROMISE_IN_BOUNDS
    index = jnp.asarray(index)[:, None]
    return jax.lax.gather(values, index, numbers, (1, *values.shape[1:]), mode=mode)


def repeat_by_head(is_held: Bool[Array, " rows"], heads: int) -> Bool[Array, "rows heads"]:
    """Repeat truth values for every head, in a loop of its own.

    On some CPUs with AVX-512, LLVM (of jaxlib 0.10) ends the process where it compiles a loop in
    which truth values are repeated eight times and combined.
    """

    @apart
    def loop(is_held):
        return jnp.broadcast_to(is_held[:, None], (len(is_held), heads))

    return loop(is_held)


# --- lanes ----------------------------------------------------------------------------------------


def _num_lanes(channels: int, heads: int) -> int:
    """Return how many neighbouring channels stand beside the heads."""
    lanes = 1
    while lanes * heads < LANES and channels % (2 * lanes) == 0:
        lanes *= 2
    return lanes


def widen(values: Float[Array, "*batch channels heads"]) -> Float[Array, "*batch groups lanes"]:
    """Put neighbouring channels beside the heads: [..., C, H] as [..., G, L]."""
    *batch, channels, heads = values.shape
    lanes = _num_lanes(channels, heads)
    return values.reshape(*batch, channels // lanes, lanes * heads)


def tile(weights: Float[Array, "*batch heads"], wide: Float[Array, "_ groups lanes"]):
    """Repeat what belongs to the heads for every lane of features that `widen` returned."""
    repeats = wide.shape[-1] // weights.shape[-1]
    return jnp.tile(weights, repeats) if repeats > 1 else weights


def sum_lanes(values_el: Float[Array, "edges lanes"], heads: int) -> Float[Array, "edges heads"]:
    """Add up the lanes of each head."""
    parts = jnp.split(values_el, values_el.shape[-1] // heads, axis=1)
    return functools.reduce(jnp.add, parts)  # spelled out: a reduction would be a loop of its own


def node_dots(
    first: Float[Array, "nodes channels heads"], second: Float[Array, "nodes channels heads"]
) -> Float[Array, "nodes heads"]:
    """Return sum_c first[n, c, h] second[n, c, h]."""

    @apart
    def loop(first_ngl, second_ngl):
        products = (first_ngl[:, g] * second_ngl[:, g] for g in range(first_ngl.shape[1]))
        return functools.reduce(jnp.add, products)

    return sum_lanes(loop(widen(first), widen(second)), first.shape[-1])
