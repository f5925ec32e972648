"""Reductions over the initialisations of a batch: how often each bin occurs, and sums.

Bins are counted by a scatter on a CPU, where it is fastest. Accelerators add into few bins one
after the other, and TPUs hardly scatter at all: there every bin is a comparison and a sum, which
XLA fuses. Sums of real numbers are written as additions of arrays, so that their order does not
depend on the program around them.
"""

import functools
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

FAN_IN = 16  # terms of `add_up` that are added in one pass


class Bins(NamedTuple):
    """Numbers of bins, to be counted."""

    numbers: Int[Array, "*rows inits"]  # in [0, num_bins)
    num_bins: int


class FlaggedBins(NamedTuple):
    """Numbers of bins, and flags of what they stand for."""

    numbers: Int[Array, "*rows inits"]
    num_bins: int
    flags: Mapping[str, Bool[Array, "*rows inits"]]  # by name


def count(
    joint: FlaggedBins, others: Mapping[str, Bins], is_counted: Bool[Array, " inits"]
) -> dict[str, Int[Array, "..."]]:
    """Count every bin and every flag.

    Args:
      joint: counted as "joint_causes", and its flags by their names.
      others: counted by their names.
      is_counted: False for initialisations that do not count.

    Returns:
      int32: for each kind of bin how often every number occurs, for each flag how often it is set.
      The same numbers on every device.
    """
    arguments = joint, others, is_counted
    # Chosen by what a program is compiled for: one for an accelerator contains no scatter.
    return jax.lax.platform_dependent(
        cpu=functools.partial(_by_scatter, *arguments),
        default=functools.partial(_by_comparison, *arguments),
    )


def _by_comparison(joint: FlaggedBins, others: Mapping[str, Bins], is_counted: Array) -> dict:
    def count_flag(flag: Array) -> Array:
        return jnp.sum(jnp.where(is_counted, flag, False).astype(jnp.int32))

    def count_bins(numbers: Array, num_bins: int) -> Array:
        by_init = jnp.where(is_counted, numbers, -1).reshape(1, -1)
        is_in_bin = by_init == jnp.arange(num_bins, dtype=jnp.int32)[:, None]
        return jnp.sum(is_in_bin.astype(jnp.int32), axis=1)

    counts = {name: count_bins(*bins) for name, bins in others.items()}
    counts |= {name: count_flag(flag) for name, flag in joint.flags.items()}
    return counts | {"joint_causes": count_bins(joint.numbers, joint.num_bins)}


def _by_scatter(joint: FlaggedBins, others: Mapping[str, Bins], is_counted: Array) -> dict:
    """Count everything by scatters into one array, a part after the other.

    They cost by the element, so the flags of a pair make none of their own: they are carried in the
    number of its bin,

        bin = number + num_bins sum_k flag_k 2^k,    k the place of the flag

    and the counts are added up again by flag.
    """
    carried = joint.numbers
    for k, flag in enumerate(joint.flags.values()):
        carried += flag * (joint.num_bins << k)
    parts = [Bins(carried, joint.num_bins << len(joint.flags)), *others.values()]
    starts = np.cumsum([0, *[part.num_bins for part in parts]]).tolist()
    not_counted = starts[-1]  # one bin more, for what does not count
    index = [
        jnp.where(is_counted, start + part.numbers, not_counted).reshape(-1)
        for start, part in zip(starts, parts, strict=False)
    ]
    counts = jnp.zeros(not_counted + 1, jnp.int32)
    # To join them first is another loop over all of them, which LLVM does not vectorise at its
    # higher levels: it took two thirds of the tutorial graph's time there.
    for numbers in index:
        counts = counts.at[numbers].add(1, mode="promise_in_bounds")
    by_flag, *counted = jnp.split(counts[:not_counted], starts[1:-1])
    # One axis for each flag, the last one first, and then the number.
    by_flag = by_flag.reshape(*[2] * len(joint.flags), joint.num_bins)
    axes = tuple(range(len(joint.flags)))
    counts = dict(zip(others, counted, strict=True))
    for k, name in enumerate(reversed([*joint.flags])):
        counts[name] = jnp.sum(by_flag[(slice(None),) * k + (1,)])
    return counts | {"joint_causes": jnp.sum(by_flag, axis=axes)}


def add_up_inits(values: Float[Array, "*rows inits"]) -> Float[Array, ""]:
    """Return the sum of everything, in an order that depends on the shape alone; see `add_up`."""
    return add_up(add_up_rows(values), axis=0)


def add_up_rows(values: Float[Array, "*rows inits"]) -> Float[Array, " inits"]:
    """Return the sum over all axes but the last, in an order that depends on the shape alone."""
    return add_up(values.reshape(-1, values.shape[-1]), axis=0)


def add_up(values: Float[Array, "..."], axis: int) -> Float[Array, "..."]:
    """Return the sum over an axis, in an order that depends on its length alone.

    XLA reduces an array in an order of its choice, which differs between a batch by itself and one
    of many that are mapped over. Additions of whole arrays leave no choice; on a CPU they are also
    faster, for a reduction adds one number after the other.

    Args:
      values: [..., n, ...], n >= 1.
      axis: from the front.

    Numerics: terms are added in passes of `FAN_IN`, so the error grows with log n.
    """
    # The barriers keep XLA from adding a product in the same instruction, in some programs only.
    total = jax.lax.optimization_barrier(values)
    while total.shape[axis] > 1:
        length = total.shape[axis]
        num_parts = min(FAN_IN, length)
        size = -(-length // num_parts)
        padding = [(0, 0)] * total.ndim
        padding[axis] = 0, size * num_parts - length
        parts = jnp.split(jnp.pad(total, padding), num_parts, axis)
        total = jax.lax.optimization_barrier(functools.reduce(jnp.add, parts))
    return jnp.squeeze(total, axis)
