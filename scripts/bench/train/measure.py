"""Train the network of the GAT paper on Cora: many seeds at once, or one after the other.

The recipe, the training and its numbers are the package's own: `gat_jax.training.GAT_PAPER_CORA`.
"""

import dataclasses
import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from bench import common
from gat_jax.graphs import TwinPairs, add_self_loops, datasets
from gat_jax.kernels import LayoutName
from gat_jax.layers import init_network
from gat_jax.training import GAT_PAPER_CORA, TrainConfig, TrainTask, make_task, train_run

PYG = "PyG, one after the other"
GRAPH = "Cora"
CASE = f"{GRAPH}, training of many seeds"
CHECKED_STEPS, MAX_ERROR = 3, 1e-4
LAYOUTS: dict[str, LayoutName] = {"gat_jax": "auto", "gat_jax, segments": "segment"}


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
    with np.load(path, allow_pickle=False) as data:
        if "train_idx" not in data:
            raise ValueError(f"{path}: expected train_idx, got {', '.join(data)}")
        is_trained = np.isin(np.arange(len(task.graph.nodes)), data["train_idx"])
    x = task.graph.nodes / np.maximum(task.graph.nodes.sum(axis=1, keepdims=True), 1)
    graph = add_self_loops(task.graph._replace(nodes=x))
    assert task.labels is not None
    none = TwinPairs(*(np.zeros(0, dtype) for dtype in (np.int32, np.int32, bool)))
    return make_task(graph, task.labels, is_trained, none, layout=layout)


def configs_for(task: TrainTask):
    """Return the recipe's layers for the classes of a task."""
    return GAT_PAPER_CORA.configs(int(np.max(task.labels)) + 1)


def initial_parameters(task: TrainTask, num_seeds: int):
    """Draw every seed's parameters."""
    num_features = task.graph.nodes.shape[1]
    key = jax.random.key(0)
    return init_network(key, configs_for(task), num_features, batch_shape=(num_seeds,))


def make_ours(task: TrainTask, num_seeds: int, num_steps: int) -> Trainer:
    """Compile the package's training, mapped over seeds; what is timed makes no records."""
    recipe = functools.partial(
        train_run, configs=configs_for(task), settings=GAT_PAPER_CORA.settings
    )
    config = dataclasses.replace(GAT_PAPER_CORA.config, num_steps=num_steps, record_every=num_steps)
    checked = TrainConfig(GAT_PAPER_CORA.config.optimizer, CHECKED_STEPS)

    def trained(params, key, task):
        return recipe(params, key, task=task, config=config)[0]

    def first_losses(params, task):
        return recipe(params, task=task, config=checked)[1].loss[:-1]

    seeds = initial_parameters(task, num_seeds)
    keys = jax.random.split(jax.random.key(1), num_seeds)
    task = jax.device_put(task)
    start = time.perf_counter()
    mapped = jax.vmap(trained, in_axes=(0, 0, None))
    program = jax.jit(mapped).lower(seeds, keys, task).compile()
    compile_seconds = time.perf_counter() - start

    def losses() -> np.ndarray:
        first = jax.tree.map(lambda a: a[0], seeds)
        return np.asarray(jax.jit(first_losses)(first, task))

    return Trainer(
        lambda: jax.block_until_ready(program(seeds, keys, task)), losses, compile_seconds
    )


def measure_training(
    data_dir: Path, *, num_seeds: int, num_steps: int, repeats: int
) -> list[dict[str, Any]]:
    """Time training steps of all systems; the loss of the first ones is compared beforehand.

    Returns:
      Entries as the benchmark's, the throughput in steps times seeds per second.

    Raises:
      RuntimeError: if a system does not train the same network.
    """
    from bench.train import pyg  # torch is an extra

    tasks = {name: load_task(data_dir, layout) for name, layout in LAYOUTS.items()}
    task = tasks["gat_jax"]
    first = jax.tree.map(lambda a: np.asarray(a[0]), initial_parameters(task, 1))
    expected = pyg.losses(task, first, CHECKED_STEPS, dtype="float64")
    trainers = {name: make_ours(task, num_seeds, num_steps) for name, task in tasks.items()}
    trainers[PYG], setting, tried = pyg.fastest(task, first, num_seeds, num_steps)
    errors = {}
    for name, trainer in trainers.items():
        errors[name] = float(np.max(np.abs(trainer.losses() / expected - 1)))
        if not errors[name] <= MAX_ERROR:
            raise RuntimeError(f"{name}: expected losses {expected}, got {trainer.losses()}")
    times = common.interleave({name: x.run for name, x in trainers.items()}, repeats)
    settings = {"gat_jax": "auto", "gat_jax, segments": "sparse features"}
    return [
        {
            "case": CASE,
            "graph": GRAPH,
            "pass": "training step",
            "system": name,
            "setting": settings.get(name, setting),
            "settings_tried": tried if name == PYG else None,
            "median_seconds": float(np.median(times[name])) / num_steps / num_seeds,
            "seconds": times[name],
            "throughput": num_steps * num_seeds / float(np.median(times[name])),
            "ratio_to_peer": common.ratio(times[name], times["gat_jax"]),
            "max_relative_error": errors[name],
            "peak_mib": None,
            "compile_seconds": trainer.compile_seconds,
        }
        for name, trainer in trainers.items()
    ]
