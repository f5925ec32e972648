"""Which parameters of a run are kept, and when it stops: by the validation nodes alone.

Every rule is a function of what is seen of the validation nodes after each step, so that it works
under `vmap`: a run that has stopped stays as it is while others go on.
"""

import dataclasses
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from gat_jax.layers.base import check_choice
from gat_jax.runtime.arrays import check_count

StoppingRule = Literal["loss_and_score", "score"]


@dataclasses.dataclass(frozen=True)
class Stopping:
    """How the validation nodes decide about a run; static.

    The rules:

    * `loss_and_score`, that of the GAT paper's code: a step counts as progress where the score is
      at least as high, or the loss at least as low, as ever before; its parameters are kept where
      both hold.
    * `score`: a step counts as progress, and its parameters are kept, where the score is higher
      than ever before.

    Scores are those of `TrainConfig.score`. Validation is without dropout, of every state after
    the first update, and its last entry is the state after the last update.
    """

    rule: StoppingRule = "loss_and_score"
    patience: int | None = None  # steps without progress after which a run stops; None: it goes on

    def __post_init__(self):
        """Refuse what is no rule."""
        check_choice("rule", self.rule, get_args(StoppingRule))
        if self.patience is not None:
            check_count("patience", self.patience, 1)


class Watch(NamedTuple):
    """What a run remembers of its validation nodes."""

    lowest_loss: Float[Array, ""]  # nats
    highest_score: Float[Array, ""]
    num_waited: Int[Array, ""]  # steps since the last progress
    kept_step: Int[Array, ""]  # updates before the state that is kept
    kept: Any  # its parameters
    has_stopped: Bool[Array, ""]


def start_watch(params: Any) -> Watch:
    """Return what is remembered before the first step; the start is what is kept."""
    dtype = jnp.result_type(float)
    return Watch(
        lowest_loss=jnp.array(jnp.inf, dtype),
        highest_score=jnp.array(-jnp.inf, dtype),
        num_waited=jnp.int32(0),
        kept_step=jnp.int32(0),
        kept=params,
        has_stopped=jnp.array(False),
    )


def look(
    watch: Watch,
    params: Any,
    step: Int[Array, ""],
    loss: Float[Array, ""],
    score: Float[Array, ""],
    stopping: Stopping,
) -> Watch:
    """Take in what the validation nodes say of a state.

    Args:
      watch: of the run. One that has stopped is returned as it is.
      params: of the state.
      step: updates before it; the state before the first update is not looked at.
      loss: of the validation nodes, in nats. NaN is no progress.
      score: of the validation nodes. NaN is no progress.
      stopping: the rule; static.
    """
    is_counted = (step > 0) & ~watch.has_stopped
    if stopping.rule == "loss_and_score":
        is_high, is_low = score >= watch.highest_score, loss <= watch.lowest_loss
        is_progress, is_kept = is_high | is_low, is_high & is_low
    else:
        is_progress = is_kept = score > watch.highest_score
    is_kept &= is_counted
    num_waited = jnp.where(is_progress, 0, watch.num_waited + 1)
    has_stopped = watch.has_stopped
    if stopping.patience is not None:
        has_stopped |= is_counted & (num_waited >= stopping.patience)
    lowest = jnp.fmin(watch.lowest_loss, loss)  # of NaN and a number the number
    highest = jnp.fmax(watch.highest_score, score)
    return Watch(
        lowest_loss=jnp.where(is_counted, lowest, watch.lowest_loss),
        highest_score=jnp.where(is_counted, highest, watch.highest_score),
        num_waited=jnp.where(is_counted, num_waited, watch.num_waited),
        kept_step=jnp.where(is_kept, step, watch.kept_step),
        kept=choose(is_kept, params, watch.kept),
        has_stopped=has_stopped,
    )


def choose(condition: Bool[Array, ""], one: Any, other: Any) -> Any:
    """Return one tree where a condition holds, and another of the same form elsewhere."""
    return jax.tree.map(lambda x, y: jnp.where(condition, x, y), one, other)
