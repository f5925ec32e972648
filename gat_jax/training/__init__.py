"""Training runs whose symmetry is watched."""

from gat_jax.training.history import (
    GRADIENTS,
    LayerMeasures,
    TrainHistory,
    gradient_norms,
    measure_layer,
)
from gat_jax.training.recipes import (
    GAT_PAPER_CORA,
    OPTIMIZERS,
    RECIPES,
    Recipe,
    TrainConfig,
    TrainSettings,
    make_optimizer,
)
from gat_jax.training.survival import (
    FirstExit,
    Occupancy,
    Reentry,
    Survival,
    first_exit,
    kaplan_meier,
    occupancy,
    reentry,
)
from gat_jax.training.trainer import (
    TrainTask,
    make_task,
    train_run,
)

__all__ = [
    "GAT_PAPER_CORA",
    "GRADIENTS",
    "OPTIMIZERS",
    "RECIPES",
    "FirstExit",
    "LayerMeasures",
    "Occupancy",
    "Recipe",
    "Reentry",
    "Survival",
    "TrainConfig",
    "TrainHistory",
    "TrainSettings",
    "TrainTask",
    "first_exit",
    "gradient_norms",
    "kaplan_meier",
    "make_optimizer",
    "make_task",
    "measure_layer",
    "occupancy",
    "reentry",
    "train_run",
]
