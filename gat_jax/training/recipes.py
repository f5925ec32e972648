"""How networks are trained: the optimisers, the numbers of a run, and recipes by name.

To add an optimiser, add one entry to `OPTIMIZERS`; to add a recipe, add one to `RECIPES`. What is
static about a run (`TrainConfig`) and what may be traced (`TrainSettings`) are kept apart, so that
runs with other rates share one compiled program, and rates can be mapped over.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import optax

from gat_jax.kernels import Scalar
from gat_jax.layers import LayerConfig, LayerSettings, check_number
from gat_jax.layers import check_settings as check_layer_settings
from gat_jax.runtime.arrays import check_count


class TrainSettings(NamedTuple):
    """The numbers of a run that may be traced, and so mapped over by `vmap`.

    Dropout rates are those of `layer`; they apply only where `train_run` is given a key.
    """

    learning_rate: Scalar = 0.005
    momentum: Scalar = 0.9  # used by the optimiser of that name alone
    weight_decay: Scalar | None = None  # L2: this times the parameters is added to the gradient
    layer: LayerSettings = LayerSettings()


# Each entry makes the direction of descent. The learning rate is applied outside of it, so that it
# can be traced; an optimiser reads from the settings what else it needs.
OPTIMIZERS: dict[str, Callable[[TrainSettings], optax.GradientTransformation]] = {
    "sgd": lambda settings: optax.identity(),
    "momentum": lambda settings: optax.trace(decay=settings.momentum),  # pyright: ignore[reportArgumentType] (may be traced)
    "adam": lambda settings: optax.scale_by_adam(),
}


def check_settings(settings: TrainSettings) -> None:
    """Check the numbers that are not traced.

    Raises:
      ValueError: for a learning rate or weight decay below 0, a momentum outside of [0, 1), or as
        `layers.check_settings`.
    """
    if not isinstance(settings, TrainSettings):
        raise ValueError(f"settings: expected TrainSettings, got {type(settings).__name__}")
    check_number("learning_rate", settings.learning_rate, " of at least 0", lambda x: x >= 0)
    check_number("momentum", settings.momentum, " in [0, 1)", lambda x: (x >= 0) & (x < 1))
    if settings.weight_decay is not None:
        check_number("weight_decay", settings.weight_decay, " of at least 0", lambda x: x >= 0)
    check_layer_settings(settings.layer, field="settings.layer")


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """What is static about a run."""

    optimizer: str = "adam"  # one of `OPTIMIZERS`
    num_steps: int = 1000
    record_every: int = 1  # steps; divides num_steps, which records the start and the end alone

    def __post_init__(self):
        """Refuse what no run can be made of."""
        if not isinstance(self.optimizer, str) or self.optimizer not in OPTIMIZERS:
            names = ", ".join(OPTIMIZERS)
            raise ValueError(f"optimizer: expected one of {names}, got {self.optimizer!r}")
        for field in ("num_steps", "record_every"):
            check_count(field, getattr(self, field), 1)
        if self.num_steps % self.record_every:
            raise ValueError(
                "record_every: expected a divisor of num_steps, got "
                f"record_every={self.record_every}, num_steps={self.num_steps}"
            )


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


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A network and how it is trained: everything but the graph and the seed."""

    hidden: tuple[LayerConfig, ...]  # layers before the last, from the input on
    output: LayerConfig  # the last layer; its channels are set to the number of classes
    config: TrainConfig
    settings: TrainSettings

    def configs(self, num_classes: int) -> tuple[LayerConfig, ...]:
        """Return the configuration of every layer for a task with so many classes."""
        return (*self.hidden, dataclasses.replace(self.output, channels=num_classes))


# The transductive experiments of the GAT paper (arXiv:1710.10903, section 3.3) and of its code: 8
# heads of 8 channels, then one head per class, dropout of 0.6 on features and attention, and L2 on
# all parameters. The paper's features are normalised by row before. It stops early, by the loss
# and accuracy of the validation nodes; this recipe makes a fixed number of steps. The paper's code
# also drops projected features, which these layers do not.
GAT_PAPER_CORA = Recipe(
    hidden=(LayerConfig(heads=8, channels=8, use_bias=False, use_output_bias=True),),
    output=LayerConfig(heads=1, concat=False, use_bias=False, use_output_bias=True),
    config=TrainConfig("adam", num_steps=1000, record_every=100),
    settings=TrainSettings(
        learning_rate=0.005,
        weight_decay=5e-4,
        layer=LayerSettings(feature_dropout=0.6, attention_dropout=0.6),
    ),
)

RECIPES = {"gat_paper_cora": GAT_PAPER_CORA}
