"""How good predictions are: accuracy, and the area under the ROC curve; both under jit and vmap."""

from collections.abc import Callable
from typing import Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

ScoreName = Literal["accuracy", "roc_auc"]
Mask = Bool[Array | np.ndarray, " nodes"]
Labels = Int[Array | np.ndarray, " nodes"]


def accuracy(logits: Float[Array, "nodes classes"], labels: Labels, mask: Mask) -> Float[Array, ""]:
    """Return the share of nodes whose largest logit is that of their class.

    Args:
      logits: [N, C]; of equal ones the first counts.
      labels: [N]; where the mask is False, anything.
      mask: [N], True = counted. Of no node at all the share is NaN.
    """
    is_right = (jnp.argmax(logits, axis=-1) == labels).astype(logits.dtype)
    return jnp.sum(jnp.where(mask, is_right, 0.0)) / jnp.sum(mask)


def roc_auc(logits: Float[Array, "nodes classes"], labels: Labels, mask: Mask) -> Float[Array, ""]:
    """Return the area under the ROC curve of two classes.

    It is the probability that a node of class 1 has a larger difference of its logits than one of
    class 0, where a tie counts half. Computed from ranks, which are exact in float32 below 2^24
    nodes; their sums are rounded.

    Args:
      logits: [N, 2].
      labels: [N], 0 or 1; where the mask is False, anything.
      mask: [N], True = counted. Without nodes of both classes the area is NaN.
    """
    # Nodes that do not count come last, where they move no rank of the others.
    scores = jnp.where(mask, logits[:, 1] - logits[:, 0], jnp.inf)
    ordered = jnp.sort(scores)
    below = jnp.searchsorted(ordered, scores, side="left").astype(logits.dtype)
    up_to = jnp.searchsorted(ordered, scores, side="right").astype(logits.dtype)
    is_positive = mask & (labels == 1)
    num_positive = jnp.sum(is_positive).astype(logits.dtype)
    num_negative = jnp.sum(mask & (labels == 0)).astype(logits.dtype)
    # Ranks less those that the positive nodes have among themselves, and means before products: the
    # numbers stay small.
    mean_rank = jnp.sum(jnp.where(is_positive, (below + up_to) / 2, 0.0)) / num_positive
    area = (mean_rank - num_positive / 2) / num_negative
    is_finite = jnp.all(jnp.isfinite(logits) | ~mask[:, None])
    return jnp.where(is_finite, area, jnp.nan)


SCORES: dict[ScoreName, Callable[..., Float[Array, ""]]] = {
    "accuracy": accuracy,
    "roc_auc": roc_auc,
}
