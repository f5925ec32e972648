"""The numbers of a run that may be traced, so that runs with other rates share one program."""

from typing import NamedTuple

from gat_jax.kernels import Scalar
from gat_jax.layers import LayerSettings, check_number
from gat_jax.layers import check_settings as check_layer_settings


class TrainSettings(NamedTuple):
    """The numbers of a run that may be traced, and so mapped over by `vmap`.

    Dropout rates are those of `layer`; they apply only where `train_run` is given a key.
    """

    learning_rate: Scalar = 0.005
    momentum: Scalar = 0.9  # used by the optimiser of that name alone
    weight_decay: Scalar | None = None  # L2: this times the parameters is added to the gradient
    layer: LayerSettings = LayerSettings()


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
