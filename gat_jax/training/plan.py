"""A training before its first step: data and settings, of which nothing is refused later."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from gat_jax.graphs import NodeTask, load_task
from gat_jax.layers import layer_configs
from gat_jax.training import seeds
from gat_jax.training.spec import Setting, TrainSpec, digest_of


class Prepared(NamedTuple):
    """A training of which nothing is to be refused any more."""

    spec: TrainSpec
    task: NodeTask
    num_classes: int
    settings: list[Setting]
    keys: list[str]  # under which the settings are stored
    digest: str  # of the data

    def in_chunks_of(self, sizes: Sequence[int]) -> "Prepared":
        """Return this training with the number of seeds that each setting's chunks have."""
        keys = [
            setting.key(dataclasses.replace(self.spec, chunk_size=size), self.digest)
            for setting, size in zip(self.settings, sizes, strict=True)
        ]
        return self._replace(keys=keys)


def prepare(spec: TrainSpec) -> Prepared:
    """Read the data and put recipe and axes together.

    Raises:
      ValueError: if the data or the recipe cannot be read, or do not fit each other.
    """
    settings, task = spec.settings(), load_task(spec.data)
    if task.labels is None or not np.any(task.labels >= 0):
        raise ValueError(f"data: expected a graph with labels, got {spec.data} without any")
    num_classes = int(task.labels.max()) + 1
    digest = digest_of(task)
    for setting in settings:
        layer_configs(setting.recipe.configs(num_classes))
        seeds.check_data(task, setting.recipe)
    keys = [setting.key(spec, digest) for setting in settings]
    return Prepared(spec, task, num_classes, settings, keys, digest)
