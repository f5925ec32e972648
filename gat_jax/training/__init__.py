"""Training runs whose symmetry is watched."""

from gat_jax.training.config import TrainConfig
from gat_jax.training.history import (
    GRADIENTS,
    LayerMeasures,
    TrainHistory,
    gradient_norms,
    measure_layer,
)
from gat_jax.training.machine import ExecutorName, Machine
from gat_jax.training.measures import MEASURES, measure
from gat_jax.training.optimizers import OPTIMIZERS, make_optimizer
from gat_jax.training.recipes import GAT_PAPER_CORA, RECIPES, Recipe, load_recipe
from gat_jax.training.runner import State, run_training
from gat_jax.training.scores import SCORES, ScoreName, accuracy, roc_auc
from gat_jax.training.settings import TrainSettings
from gat_jax.training.spec import TrainSpec
from gat_jax.training.stopping import Stopping
from gat_jax.training.summary import in_short, write_history
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
from gat_jax.training.watched import Watched, watch

__all__ = [
    "GAT_PAPER_CORA",
    "GRADIENTS",
    "MEASURES",
    "OPTIMIZERS",
    "RECIPES",
    "SCORES",
    "ExecutorName",
    "FirstExit",
    "LayerMeasures",
    "Machine",
    "Occupancy",
    "Recipe",
    "Reentry",
    "ScoreName",
    "State",
    "Stopping",
    "Survival",
    "TrainConfig",
    "TrainHistory",
    "TrainSettings",
    "TrainSpec",
    "TrainState",
    "TrainTask",
    "Training",
    "Watched",
    "accuracy",
    "first_exit",
    "gradient_norms",
    "in_short",
    "kaplan_meier",
    "load_recipe",
    "make_optimizer",
    "make_task",
    "measure",
    "measure_layer",
    "occupancy",
    "reentry",
    "roc_auc",
    "run_training",
    "train_run",
    "watch",
    "write_history",
]
