"""The optimisers, by name: to add one, add one entry to `OPTIMIZERS`."""

from collections.abc import Callable

import optax

from gat_jax.training.settings import TrainSettings

# Each entry makes the direction of descent. The learning rate is applied outside of it, so that it
# can be traced; an optimiser reads from the settings what else it needs.
OPTIMIZERS: dict[str, Callable[[TrainSettings], optax.GradientTransformation]] = {
    "sgd": lambda settings: optax.identity(),
    "momentum": lambda settings: optax.trace(decay=settings.momentum),  # pyright: ignore[reportArgumentType] (may be traced)
    "adam": lambda settings: optax.scale_by_adam(),
}


def make_optimizer(name: str, settings: TrainSettings) -> optax.GradientTransformation:
    """Return the optimiser of this name: gradients go in, the direction of descent comes out.

        direction = optimiser(gradient + weight_decay * parameters)

    This is the L2 penalty of the GAT paper's code and of `torch.optim.Adam(weight_decay=...)`. It
    is not the decoupled decay of AdamW, which an adaptive optimiser does not rescale.

    Args:
      name: one of `OPTIMIZERS`.
      settings: momentum and weight decay may be traced. A decay of None adds nothing, not even
        zeros, which would round the programs of some runs differently.

    Returns:
      A transformation whose `update` needs the parameters as well. The caller multiplies the
      direction by the learning rate and subtracts it.
    """
    optimizer = OPTIMIZERS[name](settings)
    if settings.weight_decay is None:
        return optimizer
    return optax.chain(optax.add_decayed_weights(settings.weight_decay), optimizer)
