"""Training runs whose symmetry is watched."""

from gat_jax.training.survival import (
    first_exit,
    occupancy,
    reentry,
)
from gat_jax.training.trainer import (
    OptimizerName,
    TrainConfig,
    TrainHistory,
    TrainSettings,
    TrainTask,
    make_task,
    train_run,
)

__all__ = [
    "OptimizerName",
    "TrainConfig",
    "TrainHistory",
    "TrainSettings",
    "TrainTask",
    "first_exit",
    "make_task",
    "occupancy",
    "reentry",
    "train_run",
]
