"""Training runs whose symmetry is watched."""

from gat_jax.training.config import TrainConfig
from gat_jax.training.history import (
    GRADIENTS,
    LayerMeasures,
    TrainHistory,
    gradient_norms,
    measure_layer,
)
from gat_jax.training.optimizers import OPTIMIZERS, make_optimizer
from gat_jax.training.recipes import GAT_PAPER_CORA, RECIPES, Recipe
from gat_jax.training.scores import SCORES, ScoreName, accuracy, roc_auc
from gat_jax.training.settings import TrainSettings
from gat_jax.training.stopping import Stopping
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
from gat_jax.training.tasks import TrainTask, make_task
from gat_jax.training.trainer import Training, TrainState, train_run

__all__ = [
    "GAT_PAPER_CORA",
    "GRADIENTS",
    "OPTIMIZERS",
    "RECIPES",
    "SCORES",
    "FirstExit",
    "LayerMeasures",
    "Occupancy",
    "Recipe",
    "Reentry",
    "ScoreName",
    "Stopping",
    "Survival",
    "TrainConfig",
    "TrainHistory",
    "TrainSettings",
    "TrainState",
    "TrainTask",
    "Training",
    "accuracy",
    "first_exit",
    "gradient_norms",
    "kaplan_meier",
    "make_optimizer",
    "make_task",
    "measure_layer",
    "occupancy",
    "reentry",
    "roc_auc",
    "train_run",
]
