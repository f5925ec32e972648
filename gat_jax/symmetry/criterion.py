"""When do two rows of equal supports get equal attention? Decided exactly, by signs, elementwise.

For GAT with slope != 1, two receivers with the same support of at least two senders have equal
attention rows if and only if all logits of both rows are >= 0 (`positive`), all are <= 0
(`negative`), the senders' scores are all equal (`uniform`), or the receivers' scores are equal
(`equal_query`). For GATv2 and generic `a`, the same holds channel by channel. GCN has no query.

Signs decide, not outputs: outputs of unequal rows can agree to rounding, those of equal rows
differ by it. There is no graph here: `nodes` calls these functions with arrays over a graph's
nodes, `sampling` with arrays over initialisations.
"""

import functools
import operator
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from gat_jax.kernels import Scalar

# A head has a set of causes; its primary cause is the first that holds in this order.
CAUSES = (
    "trivial",  # the support has at most one distinct sender
    "linear",  # slope = 1
    "equal_query",  # equal receiver scores
    "positive",  # every logit of both rows >= 0
    "negative",  # every logit of both rows <= 0
    "uniform",  # sender scores equal over the support, to 4 ulp of the largest
    "channelwise",  # GATv2 only: every channel for one of the reasons above, but not the same one
    "rounding",  # unequal by signs, outputs of the head equal to 4 ulp of the largest
    "separated",
    "undefined",  # a score or an output is not finite: nothing can be said
)
NUM_EXACT_CAUSES = CAUSES.index("rounding")  # the causes before are equality by signs
ULPS = 4  # two numbers are equal to rounding within this many ulp of the largest


class RowSigns(NamedTuple):
    """Facts about rows, one entry for each part of a score.

    A score has one part with GAT and GCN, and one part for each channel with GATv2. Fields are
    arrays whose last axis are the parts, or lists over the parts of arrays.
    """

    is_positive: Any  # every logit >= 0
    is_negative: Any  # every logit <= 0
    is_uniform: Any  # the senders' part does not vary
    query: Any  # the receiver's part of the logit
    is_finite: Any  # all of these parts are numbers; of others signs say nothing


def signs_of_rows(
    query: Float[Array, "..."],
    lowest: Float[Array, "..."],
    highest: Float[Array, "..."],
    *,
    is_dead: Bool[Array, "..."] | bool = False,
) -> RowSigns:
    """Reduce rows to what the criterion needs.

    Args:
      query: c, the receivers' part of the logits c + t.
      lowest: smallest t of each row; infinite in a row without edges, of which everything holds.
      highest: largest t.
      is_dead: True for a part that does not count, such as a channel of GATv2 with weight 0.

    Numerics: the sign of a floating-point sum c + t is the sign of the exact sum, so the verdict
    is exact for the scores given; and rounding is monotone, so the smallest of the rounded sums is
    the rounded smallest sum.
    """
    size = jnp.maximum(jnp.maximum(highest, -lowest), 0.0)
    is_uniform = highest - lowest <= ULPS * jnp.finfo(lowest.dtype).eps * size
    is_finite = jnp.isfinite(query) & (jnp.isfinite(highest - lowest) | (highest < lowest))
    return RowSigns(
        query + lowest >= 0, query + highest <= 0, is_uniform | is_dead, query, is_finite
    )


def exact_causes(
    first: RowSigns,
    second: RowSigns,
    *,
    slope: Scalar | Array,
    all_parts: Callable[[Any], Bool[Array, "..."]],
) -> dict[str, Bool[Array, "..."]]:
    """Return by name which causes of exact equality hold of pairs of rows, but for `trivial`.

    Args:
      first: one row of each pair.
      second: the other.
      slope: of the LeakyReLU.
      all_parts: whether something holds of all parts of a score; takes what a field of `RowSigns`
        is, and returns an array without parts.
    """
    both = functools.partial(jax.tree.map, operator.and_)
    by_part = {
        "equal_query": jax.tree.map(operator.eq, first.query, second.query),
        "positive": both(first.is_positive, second.is_positive),
        "negative": both(first.is_negative, second.is_negative),
        "uniform": both(first.is_uniform, second.is_uniform),
    }
    causes = {name: all_parts(part) for name, part in by_part.items()}
    causes["linear"] = jnp.broadcast_to(jnp.asarray(slope) == 1, causes["uniform"].shape)
    any_cause = jax.tree.map(lambda *x: functools.reduce(operator.or_, x), *by_part.values())
    is_one_cause = functools.reduce(operator.or_, causes.values())
    causes["channelwise"] = all_parts(any_cause) & ~is_one_cause
    return causes


def is_within_rounding(
    gap: Float[Array, "*shape"], size: Float[Array, "*shape"]
) -> Bool[Array, "*shape"]:
    """Whether a gap between numbers of this size is what rounding alone can make."""
    return gap <= ULPS * jnp.finfo(gap.dtype).eps * size


def primary_of(causes: Mapping[str, Bool[Array, "*shape"]]) -> Int[Array, "*shape"]:
    """Return the index into `CAUSES` of the first cause that holds; `separated` where none does."""
    shape = next(iter(causes.values())).shape
    primary = jnp.full(shape, CAUSES.index("separated"), jnp.int32)
    for name in reversed(CAUSES):
        if name in causes:
            primary = jnp.where(causes[name], CAUSES.index(name), primary)
    return primary


def equal_by_signs(causes: Bool[Array, "*shape causes"]) -> Bool[Array, "*shape"]:
    """Whether a pair is equal in a head: one of the exact causes holds."""
    return jnp.any(causes[..., :NUM_EXACT_CAUSES], axis=-1)


def primary_cause(causes: Bool[Array, "*shape causes"]) -> Int[Array, "*shape"]:
    """Index into `CAUSES` of the first cause that holds."""
    return jnp.argmax(causes, axis=-1)
