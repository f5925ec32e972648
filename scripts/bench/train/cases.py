"""What the benchmark of trainings runs on: Cora, the GAT paper's network, and its parameters.

The recipe and its numbers are the package's own: `gat_jax.training.GAT_PAPER_CORA`.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from gat_jax.graphs import TwinPairs, add_self_loops, datasets
from gat_jax.kernels import LayoutName
from gat_jax.layers import init_network, layer_configs
from gat_jax.training import GAT_PAPER_CORA, TrainTask, make_task

PYG = "PyG, one after the other"
GRAPH = "Cora"
CASE = f"{GRAPH}, training of many seeds"
CHECKED_STEPS = 3  # whose losses all systems have to agree on


class Trainer(NamedTuple):
    """One way to train."""

    run: Callable[[], Any]  # all seeds, all steps
    losses: Callable[[], np.ndarray]  # of the first steps of seed 0 without dropout
    compile_seconds: float | None = None


def load_task(data_dir: Path, layout: LayoutName = "auto") -> TrainTask:
    """Read Cora with self-loops, features normalised by row; no twins are watched.

    Raises:
      ValueError: names the file and what is wrong with it.
    """
    path = data_dir / "cora.npz"
    task = datasets.load_task(path)
    if task.splits is None:
        raise ValueError(f"{path}: expected splits, got none")
    is_trained = task.splits.train[0]
    x = task.graph.nodes / np.maximum(task.graph.nodes.sum(axis=1, keepdims=True), 1)
    graph = add_self_loops(task.graph._replace(nodes=x))
    assert task.labels is not None
    none = TwinPairs(*(np.zeros(0, dtype) for dtype in (np.int32, np.int32, bool)))
    return make_task(graph, task.labels, is_trained, none, layout=layout)


def configs_for(task: TrainTask):
    """Return the recipe's layers for the classes of a task."""
    return layer_configs(GAT_PAPER_CORA.configs(int(np.max(task.labels)) + 1))


def initial_parameters(task: TrainTask, num_seeds: int):
    """Draw every seed's parameters."""
    num_features = task.graph.nodes.shape[1]
    key = jax.random.key(0)
    return init_network(key, configs_for(task), num_features, batch_shape=(num_seeds,))
