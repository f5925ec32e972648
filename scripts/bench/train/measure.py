"""Time the training of the GAT paper's network on Cora: many seeds at once, or one by one.

Ours is `gat_jax.training.train_run`; PyG's users' loop is `bench.train.pyg`.
"""

import functools
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

from bench import common
from bench.train.cases import (
    CASE,
    CHECKED_STEPS,
    GRAPH,
    PYG,
    Trainer,
    configs_for,
    initial_parameters,
    load_task,
)
from gat_jax.kernels import LayoutName
from gat_jax.training import GAT_PAPER_CORA, TrainConfig, TrainTask, train_run

MAX_ERROR = 1e-4  # relative, of the losses
LAYOUTS: dict[str, LayoutName] = {"gat_jax": "auto", "gat_jax, segments": "segment"}


def make_ours(task: TrainTask, num_seeds: int, num_steps: int) -> Trainer:
    """Compile the package's training, mapped over seeds; what is timed makes no records."""
    recipe = functools.partial(
        train_run, configs=configs_for(task), settings=GAT_PAPER_CORA.settings
    )
    config = TrainConfig(GAT_PAPER_CORA.config.optimizer, num_steps, record_every=num_steps)
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
