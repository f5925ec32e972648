"""Many seeds at once: a chunk of runs that differ in their seed and split, mapped over by `vmap`.

A chunk is computed call by call, one record after the other, so that it can be looked at, stopped
and continued in between. Every call is of the same compiled program, wherever a chunk was
continued, so its numbers do not depend on that.
"""

import functools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from gat_jax.graphs import NodeTask, TwinPairs, transforms, twin_samples, twins
from gat_jax.graphs.splits import Splits
from gat_jax.layers import NetworkConfig, NetworkParams, init_network
from gat_jax.training import scores
from gat_jax.training.config import TrainConfig
from gat_jax.training.history import TrainHistory, join_records
from gat_jax.training.recipes import Recipe
from gat_jax.training.settings import TrainSettings
from gat_jax.training.tasks import TrainTask, make_task
from gat_jax.training.trainer import Training, TrainState

# Of the calls of a chunk so many are begun before the first is waited for: a device never waits.
CALLS_UNDER_WAY = 2


class Data(NamedTuple):
    """What runs of one setting are trained on: a task, and its splits in the place of its masks."""

    task: TrainTask
    train: Bool[Array | np.ndarray, "splits nodes"]
    validation: Bool[Array | np.ndarray, "splits nodes"]
    test: Bool[Array | np.ndarray, "splits nodes"]
    # Non-trivial twins of which another has another label; they cannot all be right while equal.
    is_contested: Bool[Array | np.ndarray, " nodes"]


class Outcome(NamedTuple):
    """What became of a run: scores of the state that is kept, and how long it took to find it."""

    train_score: Float[Array, " runs"]  # of `TrainConfig.score`
    validation_score: Float[Array, " runs"]
    test_score: Float[Array, " runs"]
    test_accuracy: Float[Array, " runs"]
    contested_accuracy: Float[Array, " runs"]  # of test nodes that are contested twins; NaN: none
    other_accuracy: Float[Array, " runs"]  # of the other test nodes
    kept_step: Int[Array, " runs"]
    num_steps: Int[Array, " runs"]  # that were made
    status: Int[Array, " runs"]  # first step that is not finite; -1 if none


class Program(NamedTuple):
    """What is static about a chunk."""

    configs: NetworkConfig
    config: TrainConfig
    has_dropout: bool


class Chunk(NamedTuple):
    """Runs that are computed together."""

    data: Data
    settings: TrainSettings
    keys: Key[Array, " runs"]
    splits: Int[Array | np.ndarray, " runs"]


class Progress(NamedTuple):
    """A chunk between two calls: all that is needed to go on with it."""

    state: TrainState  # with an axis of runs
    records: tuple[TrainHistory, ...]  # so far, with axes (runs, 1)


def prepare_data(task: NodeTask, recipe: Recipe, *, is_watched: bool) -> Data:
    """Lay out a task as a recipe wants it.

    Args:
      task: with labels, as `check_data` wants it. Without splits all labelled nodes are trained on,
        looked at and scored.
      recipe: how features are scaled, and whether self-loops are added.
      is_watched: whether measures are to be recorded.
    """
    assert task.labels is not None
    graph = task.graph
    scalings = {
        "normalised_rows": transforms.normalise_rows,
        "standardised": transforms.standardise,
    }
    if recipe.features in scalings:
        graph = graph._replace(nodes=scalings[recipe.features](graph.nodes))
    if recipe.self_loops:
        graph = transforms.add_self_loops(graph)
    everything = (task.labels >= 0)[None]
    splits = task.splits or Splits(everything, everything, everything)
    classes = twins.twin_classes(graph)
    prepared = make_task(
        graph,
        np.maximum(task.labels, 0),  # where there is none, no mask is True
        splits.train[0],
        _few_pairs(classes),
        validation_mask=splits.validation[0],
        is_watched=is_watched,
        classes=classes,
        layout=recipe.layout,
        keeps_dense=recipe.layout == "segment",
    )
    return Data(prepared, *splits, _contested(task.labels, classes))


def check_data(task: NodeTask, recipe: Recipe) -> None:
    """Check that a task can be trained by a recipe, before anything is computed.

    Raises:
      ValueError: if runs would have no validation nodes to stop by, the score does not fit the
        number of classes, or the graph has self-loops where some are to be added.
    """
    graph, labels = task.graph, task.labels
    assert labels is not None
    if recipe.score == "roc_auc" and int(labels.max()) != 1:
        raise ValueError(f"score: expected two classes for roc_auc, got {int(labels.max()) + 1}")
    if recipe.config.stopping is not None and task.splits is None:
        raise ValueError(
            "data: expected splits, as the recipe stops by validation nodes, got none in "
            f"{task.name}"
        )
    if recipe.self_loops and np.any(np.asarray(graph.senders) == np.asarray(graph.receivers)):
        raise ValueError(
            f"self_loops: expected a graph without them, got some in {task.name} already"
        )


def _few_pairs(classes: twins.TwinClasses) -> TwinPairs:
    """Return the pairs that every record compares: all of them, or a sample of large classes."""
    found = twin_samples.compare_pairs(classes, is_trivial=False)
    return TwinPairs(found.first, found.second, np.zeros(len(found.first), bool))


def _contested(labels: Int[np.ndarray, " nodes"], classes: twins.TwinClasses) -> np.ndarray:
    """Return which labelled non-trivial twins have a twin of another label."""
    is_known = (labels >= 0) & ~classes.is_trivial
    low = np.full(len(labels), np.iinfo(np.int64).max)
    high = np.full(len(labels), -1)
    np.minimum.at(low, classes.twin[is_known], labels[is_known])
    np.maximum.at(high, classes.twin[is_known], labels[is_known])
    return is_known & (low < high)[classes.twin]


def keys_of(seed: int, runs: Sequence[int]) -> Key[Array, " runs"]:
    """Return the keys of runs by their numbers; the same for every setting."""
    root = jax.random.key(seed)
    return jax.vmap(lambda number: jax.random.fold_in(root, number))(jnp.array(list(runs)))


def program_of(recipe: Recipe, num_classes: int) -> Program:
    """Return what is static about the chunks of a recipe."""
    layer = recipe.settings.layer
    return Program(
        recipe.configs(num_classes),
        recipe.train_config(num_classes),
        has_dropout=max(float(layer.feature_dropout), float(layer.attention_dropout)) > 0,
    )


# --- computing ------------------------------------------------------------------------------------


def compute(
    program: Program, chunk: Chunk, progress: Progress | None = None
) -> Iterator[Progress | tuple[TrainHistory, Outcome]]:
    """Train the runs of a chunk.

    Args:
      program: static.
      chunk: what is trained, on the devices.
      progress: of the same chunk, to go on with; None: begin.

    Yields:
      The progress after every call; at the end the history, [runs, records, ...], and the outcome.
      Runs end early together, once each of them has stopped; what is left of the history repeats
      the last state.
    """
    if progress is None:
        progress = Progress(_start(chunk, program=program), ())
    num_records = program.config.num_steps // program.config.record_every
    state, records = progress
    # Of the calls under way; the last one before a stop is among them, so that a chunk that goes on
    # ends where one without a stop does.
    ends: list[Array] = [_is_over(state)] if records else []
    while len(records) < num_records:
        state, record, is_over = _advance(state, chunk, program=program)
        records = (*records, record)
        ends.append(is_over)
        if len(ends) >= CALLS_UNDER_WAY and bool(ends.pop(0)):
            break
        yield Progress(state, records)
    last, outcome = _finish(state, chunk, program=program)
    records = (*records, *[last] * (num_records + 1 - len(records)))
    history = join_records(records)
    yield history._replace(status=np.asarray(last.status)), jax.tree.map(np.asarray, outcome)


def shapes_of(program: Program, chunk: Chunk) -> Progress:
    """Return the progress after one record, as shapes alone."""
    state = jax.eval_shape(functools.partial(_start, program=program), chunk)
    advance = functools.partial(_advance, program=program)
    state, record, _ = jax.eval_shape(advance, state, chunk)
    return Progress(state, (record,))


def memory_of(program: Program, chunk: Chunk) -> int:
    """Compile the program that makes a chunk's steps; return the bytes that it takes in a call."""
    state = jax.eval_shape(functools.partial(_start, program=program), chunk)
    found = _advance.lower(state, chunk, program=program).compile().memory_analysis()
    assert found is not None  # every backend of today knows
    sizes = found.temp_size_in_bytes, found.output_size_in_bytes, found.argument_size_in_bytes
    return sum(sizes)


def _training(program: Program, chunk: Chunk, key: Key[Array, ""], split: Any) -> Training:
    data = chunk.data
    task = data.task._replace(label_mask=data.train[split], validation_mask=data.validation[split])
    dropout = jax.random.fold_in(key, 1) if program.has_dropout else None
    return Training(task, program.configs, program.config, chunk.settings, dropout)


@functools.partial(jax.jit, static_argnames="program")
def _start(chunk: Chunk, *, program: Program) -> TrainState:
    num_features = chunk.data.task.graph.nodes.shape[1]

    def start(key: Key[Array, ""], split: Any) -> TrainState:
        params = init_network(jax.random.fold_in(key, 0), program.configs, num_features)
        return _training(program, chunk, key, split).start(params)

    return jax.vmap(start)(chunk.keys, chunk.splits)


@functools.partial(jax.jit, static_argnames="program")
def _advance(
    state: TrainState, chunk: Chunk, *, program: Program
) -> tuple[TrainState, TrainHistory, Bool[Array, ""]]:
    """Make the steps of one record; say whether all runs have stopped."""

    def advance(state: TrainState, key: Key[Array, ""], split: Any):
        return _training(program, chunk, key, split).advance(state, 1)

    state, record = jax.vmap(advance)(state, chunk.keys, chunk.splits)
    return state, record, _is_over(state)


def _is_over(state: TrainState) -> Bool[Array, ""]:
    """Return whether all runs of a chunk have stopped."""
    return jnp.array(False) if state.watch is None else jnp.all(state.watch.has_stopped)


@functools.partial(jax.jit, static_argnames="program")
def _finish(state: TrainState, chunk: Chunk, *, program: Program) -> tuple[TrainHistory, Outcome]:
    data, labels = chunk.data, chunk.data.task.labels

    def finish(state: TrainState, key: Key[Array, ""], split: Any):
        training = _training(program, chunk, key, split)
        state, last = training.finish(state)
        kept: NetworkParams = state.params if state.watch is None else state.watch.kept
        logits = training.logits_of(kept)
        score: Any = scores.SCORES[program.config.score]
        test = jnp.asarray(data.test)[split]
        outcome = Outcome(
            train_score=score(logits, labels, jnp.asarray(data.train)[split]),
            validation_score=score(logits, labels, jnp.asarray(data.validation)[split]),
            test_score=score(logits, labels, test),
            test_accuracy=scores.accuracy(logits, labels, test),
            contested_accuracy=scores.accuracy(logits, labels, test & data.is_contested),
            other_accuracy=scores.accuracy(logits, labels, test & ~data.is_contested),
            kept_step=state.step if state.watch is None else state.watch.kept_step,
            num_steps=state.step,
            status=last.status,
        )
        return last, outcome

    return jax.vmap(finish)(state, chunk.keys, chunk.splits)
