"""Train the two-layer network of the GAT paper on Cora: many seeds at once, or one after the other.

Recipe: 8 heads of 8 channels, ELU, one output head; dropout 0.6 on features and attention; Adam,
learning rate 0.005, weight decay 5e-4 added to the gradient; features normalised by row; the mean
cross-entropy of the 140 labelled nodes.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jraph
import numpy as np
import optax

from bench import common as bench_common
from gat_jax import graphs
from gat_jax.graphs import datasets
from gat_jax.kernels import layouts, sparse
from gat_jax.layers import LayerConfig, LayerSettings, apply_network, init_network

PYG = "PyG, one after the other"
DROPOUT, LEARNING_RATE, WEIGHT_DECAY = 0.6, 0.005, 5e-4
CHECKED_STEPS, MAX_ERROR = 3, 1e-4


class Task(NamedTuple):
    """Cora with self-loops, ready to train on."""

    graph: jraph.GraphsTuple
    labels: np.ndarray  # [N]
    train_ids: np.ndarray


class Trainer(NamedTuple):
    """One way to train."""

    run: Callable[[], Any]  # all seeds, all steps
    losses: Callable[[], np.ndarray]  # of the first steps of seed 0 without dropout
    compile_seconds: float | None = None


def load_task(data_dir: Path) -> Task:
    """Read Cora.

    Raises:
      ValueError: names the file and what is wrong with it.
    """
    path = data_dir / "cora.npz"
    task = datasets.load_task(path)
    with np.load(path, allow_pickle=False) as data:
        if "train_idx" not in data:
            raise ValueError(f"{path}: expected train_idx, got {', '.join(data)}")
        train_ids = data["train_idx"]
    x = task.graph.nodes / np.maximum(task.graph.nodes.sum(axis=1, keepdims=True), 1)
    assert task.labels is not None
    return Task(graphs.add_self_loops(task.graph._replace(nodes=x)), task.labels, train_ids)


def configs_for(task: Task) -> tuple[LayerConfig, ...]:
    """Return the two layers."""
    options: dict[str, Any] = {"use_bias": False, "use_output_bias": True}
    num_classes = int(task.labels.max()) + 1
    hidden = LayerConfig(heads=8, channels=8, **options)
    return hidden, LayerConfig(heads=1, channels=num_classes, concat=False, **options)


# --- ours ---------------------------------------------------------------------------------------


def make_ours(task: Task, num_seeds: int, num_steps: int, layout_name: Any) -> Trainer:
    """Compile a scan over steps, mapped over seeds; the features are sparse."""
    configs = configs_for(task)
    layout = layouts.make_layout(task.graph, layout_name)
    graph = task.graph._replace(nodes=sparse.from_dense(task.graph.nodes))
    adam = optax.chain(optax.add_decayed_weights(WEIGHT_DECAY), optax.adam(LEARNING_RATE))
    settings = LayerSettings(feature_dropout=DROPOUT, attention_dropout=DROPOUT)

    def loss_of(params, rest, key):
        graph, layout, labels, train_ids = rest
        out, _ = apply_network(params, graph, configs, settings=settings, key=key, layout=layout)
        losses = optax.softmax_cross_entropy_with_integer_labels(out[train_ids], labels[train_ids])
        return jnp.mean(losses)

    def train(params, key, rest, steps: int):
        def step(state, k):
            params, optimizer = state
            step_key = None if key is None else jax.random.fold_in(key, k)
            loss, grads = jax.value_and_grad(loss_of)(params, rest, step_key)
            updates, optimizer = adam.update(grads, optimizer, params)
            return (optax.apply_updates(params, updates), optimizer), loss

        state, losses = jax.lax.scan(step, (params, adam.init(params)), jnp.arange(steps))
        return state[0], losses

    seeds = initial_parameters(task, num_seeds)
    keys = jax.random.split(jax.random.key(1), num_seeds)
    rest = jax.device_put((graph, layout, task.labels, task.train_ids))
    start = time.perf_counter()
    mapped = jax.vmap(lambda p, k, r: train(p, k, r, num_steps), in_axes=(0, 0, None))
    program = jax.jit(mapped).lower(seeds, keys, rest).compile()
    compile_seconds = time.perf_counter() - start

    def losses() -> np.ndarray:
        first = jax.tree.map(lambda a: a[0], seeds)
        return np.asarray(jax.jit(lambda p, r: train(p, None, r, CHECKED_STEPS)[1])(first, rest))

    return Trainer(
        lambda: jax.block_until_ready(program(seeds, keys, rest)), losses, compile_seconds
    )


def initial_parameters(task: Task, num_seeds: int):
    """Draw every seed's parameters."""
    num_features = task.graph.nodes.shape[1]
    key = jax.random.key(0)
    return init_network(key, configs_for(task), num_features, batch_shape=(num_seeds,))


# --- measure ------------------------------------------------------------------------------------


def measure(
    data_dir: Path, *, num_seeds: int, num_steps: int, repeats: int
) -> list[dict[str, Any]]:
    """Time training steps of all systems; the loss of the first ones is compared beforehand.

    Returns:
      Entries as the benchmark's, the throughput in steps times seeds per second.

    Raises:
      RuntimeError: if a system does not train the same network.
    """
    from bench import layer_training_peer as peer  # torch is an extra

    task = load_task(data_dir)
    first = jax.tree.map(lambda a: np.asarray(a[0]), initial_parameters(task, 1))
    expected = peer.losses(task, first, CHECKED_STEPS, dtype="float64")
    trainers = {
        "gat_jax": make_ours(task, num_seeds, num_steps, "auto"),
        "gat_jax, segments": make_ours(task, num_seeds, num_steps, "segment"),
    }
    trainers[PYG], setting, tried = peer.fastest(task, first, num_seeds, num_steps)
    errors = {}
    for name, trainer in trainers.items():
        errors[name] = float(np.max(np.abs(trainer.losses() / expected - 1)))
        if not errors[name] <= MAX_ERROR:
            raise RuntimeError(f"{name}: expected losses {expected}, got {trainer.losses()}")
    times = bench_common.interleave({name: x.run for name, x in trainers.items()}, repeats)
    settings = {"gat_jax": "auto", "gat_jax, segments": "sparse features"}
    return [
        {
            "system": name,
            "setting": settings.get(name, setting),
            "settings_tried": tried if name == PYG else None,
            "median_seconds": float(np.median(times[name])) / num_steps / num_seeds,
            "seconds": times[name],
            "throughput": num_steps * num_seeds / float(np.median(times[name])),
            "ratio_to_peer": bench_common.ratio(times[name], times["gat_jax"]),
            "max_relative_error": errors[name],
            "peak_mib": None,
            "compile_seconds": trainer.compile_seconds,
        }
        for name, trainer in trainers.items()
    ]
