"""What is static about a run: its optimiser, its steps, its score and how it stops."""

import dataclasses
from typing import get_args

from gat_jax.layers.base import check_choice
from gat_jax.runtime.arrays import check_count
from gat_jax.training.measures import check_names
from gat_jax.training.optimizers import OPTIMIZERS
from gat_jax.training.scores import ScoreName
from gat_jax.training.stopping import Stopping


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """What is static about a run."""

    optimizer: str = "adam"  # one of `OPTIMIZERS`
    num_steps: int = 1000  # at most, where the run may stop before
    record_every: int = 1  # steps; divides num_steps, which records the start and the end alone
    score: ScoreName = "accuracy"  # of the nodes in the loss, of validation and of test
    stopping: Stopping | None = None  # None: all steps are made, and the last state is kept
    measures: tuple[str, ...] = ()  # of `measures.MEASURES`: recorded beside the others

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
        check_choice("score", self.score, get_args(ScoreName))
        if self.stopping is not None and not isinstance(self.stopping, Stopping):
            kind = type(self.stopping).__name__
            raise ValueError(f"stopping: expected a Stopping or none, got {kind}")
        if not isinstance(self.measures, tuple):
            raise ValueError(f"measures: expected a tuple of names, got {self.measures!r}")
        check_names(self.measures)
