"""Many seeds at once: a chunk of runs that differ in their seed and split, mapped over by `vmap`.

A chunk is computed call by call, some records in each, so that it can be looked at, stopped and
continued in between. Every call is of the same compiled program, whose loop is told how many
records to make, so that numbers depend neither on where a chunk was continued nor on how many
records a call makes.
"""

import functools
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from gat_jax.graphs import NodeTask, TwinPairs, transforms, twin_samples, twins
from gat_jax.graphs.splits import Splits
from gat_jax.layers import NetworkConfig, NetworkParams, init_network, layer_configs
from gat_jax.runtime.programs import jit_briefly
from gat_jax.training import scores
from gat_jax.training.config import TrainConfig
from gat_jax.training.history import TrainHistory, join_records
from gat_jax.training.recipes import Recipe
from gat_jax.training.settings import TrainSettings
from gat_jax.training.tasks import TrainTask, make_task
from gat_jax.training.trainer import Training, TrainState, start_state

# Of the calls of a chunk so many are begun before the first is waited for: a device never waits.
CALLS_UNDER_WAY = 2
# What a call may work on: numbers of nodes, of edges and features, over all its runs and steps. A
# core of a CPU gets through some hundred million a second.
VALUES_OF_A_CALL = 10_000_000
VALUES_OF_AN_EMPTY_STEP = 10_000  # in whose time a step is started, however small its graph is
STEPS_OF_A_RECORD = 10  # in whose time one is made, with measures
MOST_RECORDS_OF_A_CALL = 64  # of which a device keeps a copy for every call


class Data(NamedTuple):
    """What runs of one setting are trained on: a task, and its splits in the place of its masks."""

    task: TrainTask
    train: Bool[Array | np.ndarray, "splits nodes"]
    validation: Bool[Array | np.ndarray, "splits nodes"]
    test: Bool[Array | np.ndarray, "splits nodes"]
    # Non-trivial twins of which another has another label; they cannot all be right while equal.
    is_contested: Bool[Array | np.ndarray, " nodes"]


class Outcome(NamedTuple):
    """What became of a run: what the kept state is like, and how long it took to find it."""

    train_score: Float[Array, " runs"]  # of `TrainConfig.score`
    validation_score: Float[Array, " runs"]
    test_score: Float[Array, " runs"]
    test_accuracy: Float[Array, " runs"]
    contested_accuracy: Float[Array, " runs"]  # of test nodes that are contested twins; NaN: none
    other_accuracy: Float[Array, " runs"]  # of the other test nodes
    # Its `entropy_histogram` of `measures.MEASURES`; NaN where a layer has fewer heads than another
    kept_entropy_histogram: Float[Array, "runs layers heads bins"]
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
    # Of each call that was begun, with axes (runs, records) and without a status. Their places are
    # taken one after the other, and those that no record was made for are the last ones.
    records: tuple[TrainHistory, ...]
    num_made: Int[Array | np.ndarray, ""]  # of the records; who reads it waits for the calls

    @property
    def num_begun(self) -> int:
        """How many records there is place for in the calls that were begun."""
        return sum(part.step.shape[1] for part in self.records)

    def history(self) -> TrainHistory:
        """Wait for the calls; return the records that were made, [runs, records, ...]."""
        joined = join_records(self.records)
        return jax.tree.map(lambda x: x[:, : int(self.num_made)], joined)


def prepare_data(task: NodeTask, recipe: Recipe) -> Data:
    """Lay out a task as a recipe wants it.

    Args:
      task: with labels, as `check_data` wants it. Without splits all labelled nodes are trained on,
        looked at and scored.
      recipe: how features are scaled, and whether self-loops are added.
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
        is_watched=True,
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
        progress = Progress(start(program, chunk), (), jnp.int32(0))
    num_records = program.config.num_steps // program.config.record_every
    most = records_of_a_call(program, chunk)
    ends = deque([_is_over(progress.state)])  # of where it goes on, and of the calls under way
    while progress.num_begun < num_records:
        progress, is_over = _call(progress, chunk, program, most)
        ends.append(is_over)
        if len(ends) >= CALLS_UNDER_WAY and bool(ends.popleft()):
            break
        yield progress
    last, outcome = _finish(progress.state, chunk, program=program)
    made = [progress.history()] if progress.records else []
    num_made = made[0].step.shape[1] if made else 0
    history = join_records((*made, *[last] * (num_records + 1 - num_made)))
    yield history._replace(status=np.asarray(last.status)), jax.tree.map(np.asarray, outcome)


def records_of_a_call(program: Program, chunk: Chunk) -> int:
    """Return how many records a call makes: it is to take about a tenth of a second on a CPU.

    It follows from the program and the shapes of the chunk. A call that makes one record after the
    other would cost more than small runs do.
    """
    graph, layers = chunk.data.task.graph, layer_configs(program.configs)
    num_nodes, num_features = graph.nodes.shape
    widths = sum(layer.heads * layer.channels for layer in layers)
    values = num_nodes * (num_features + widths)
    values += len(graph.senders) * sum(layer.heads for layer in layers)
    step = VALUES_OF_AN_EMPTY_STEP + len(chunk.splits) * values
    num_steps = program.config.record_every + STEPS_OF_A_RECORD
    return max(1, min(VALUES_OF_A_CALL // (num_steps * step), MOST_RECORDS_OF_A_CALL))


def _call(
    progress: Progress, chunk: Chunk, program: Program, most: int
) -> tuple[Progress, Bool[Array, ""]]:
    """Begin a call; return the progress after it, and whether all runs have stopped."""
    num_records = program.config.num_steps // program.config.record_every
    number = min(num_records - progress.num_begun, most)
    state, records, num_made, is_over = _advance(
        progress.state, chunk, np.int32(number), program=program, most=most
    )
    parts, num_made = (*progress.records, records), progress.num_made + num_made
    return Progress(state, parts, num_made), is_over


def shapes_of(program: Program, chunk: Chunk) -> Progress:
    """Return the progress after one call of all its records, as shapes alone."""
    options = {"program": program, "most": records_of_a_call(program, chunk)}
    state = _start.eval_shape(*_start_arguments(program, chunk))
    state, records, num_made, _ = _advance.eval_shape(state, chunk, np.int32(1), **options)
    return Progress(state, (records,), num_made)


def memory_of(program: Program, chunk: Chunk) -> int:
    """Compile the program that makes a chunk's steps; return the bytes that it takes in a call."""
    state = _start.eval_shape(*_start_arguments(program, chunk))
    options = {"program": program, "most": records_of_a_call(program, chunk)}
    found = _advance.lower(state, chunk, np.int32(1), **options).compile().memory_analysis()
    assert found is not None  # every backend of today knows
    sizes = found.temp_size_in_bytes, found.output_size_in_bytes, found.argument_size_in_bytes
    return sum(sizes)


def _training(program: Program, chunk: Chunk, key: Key[Array, ""], split: Any) -> Training:
    data = chunk.data
    task = data.task._replace(label_mask=data.train[split], validation_mask=data.validation[split])
    dropout = jax.random.fold_in(key, 1) if program.has_dropout else None
    return Training(task, program.configs, program.config, chunk.settings, dropout)


def start(program: Program, chunk: Chunk) -> TrainState:
    """Return the state of a chunk's runs before their first step, with an axis of runs."""
    return _start(*_start_arguments(program, chunk))


def _start_arguments(program: Program, chunk: Chunk) -> tuple[Any, TrainSettings, Program, int]:
    return chunk.keys, chunk.settings, program, chunk.data.task.graph.nodes.shape[1]


@functools.partial(jit_briefly, static_argnames=("program", "num_features"))
def _start(
    keys: Key[Array, " runs"], settings: TrainSettings, program: Program, num_features: int
) -> TrainState:
    """Compute `start`, without the graph: chunks with and without self-loops share the program."""

    def start_one(key: Key[Array, ""]) -> TrainState:
        params = init_network(jax.random.fold_in(key, 0), program.configs, num_features)
        return start_state(params, program.config, settings)

    return jax.vmap(start_one)(keys)


@functools.partial(jit_briefly, static_argnames=("program", "most"))
def _advance(
    state: TrainState,
    chunk: Chunk,
    number: Int[Array | np.ndarray, ""],
    *,
    program: Program,
    most: int,
) -> tuple[TrainState, TrainHistory, Int[Array, ""], Bool[Array, ""]]:
    """Make the steps of some records, until all runs have stopped.

    Args:
      state: with an axis of runs.
      chunk: what is trained.
      number: of records. It is traced: a loop of a known length is compiled in another way for
        every length, and its numbers could differ.
      program: static.
      most: records that a call can make; static.

    Returns:
      The state; the records, [runs, most, ...], the first ones of which were made; their number;
      and whether all runs have stopped.
    """

    def advance_one(state: TrainState, key: Key[Array, ""], split: Any):
        state, record = _training(program, chunk, key, split).advance(state, 1)
        return state, record._replace(status=None)

    advance = jax.vmap(advance_one)
    _, shapes = jax.eval_shape(advance, state, chunk.keys, chunk.splits)
    empty = jax.tree.map(lambda x: jnp.zeros((x.shape[0], most, *x.shape[2:]), x.dtype), shapes)

    def is_to_go_on(carried) -> Bool[Array, ""]:
        place, state, _ = carried
        return (place < number) & ~_is_over(state)

    def make_record(carried):
        place, state, records = carried
        state, record = advance(state, chunk.keys, chunk.splits)
        put = functools.partial(jax.lax.dynamic_update_slice_in_dim, start_index=place, axis=1)
        return place + 1, state, jax.tree.map(put, records, record)

    num_made, state, records = jax.lax.while_loop(
        is_to_go_on, make_record, (jnp.int32(0), state, empty)
    )
    return state, records, num_made, _is_over(state)


def _is_over(state: TrainState) -> Bool[Array, ""]:
    """Return whether all runs of a chunk have stopped."""
    return jnp.array(False) if state.watch is None else jnp.all(state.watch.has_stopped)


@functools.partial(jit_briefly, static_argnames=("program",))
def _finish(state: TrainState, chunk: Chunk, *, program: Program) -> tuple[TrainHistory, Outcome]:
    data, labels = chunk.data, chunk.data.task.labels

    def finish(state: TrainState, key: Key[Array, ""], split: Any):
        training = _training(program, chunk, key, split)
        state, last = training.finish(state)
        kept: NetworkParams = state.params if state.watch is None else state.watch.kept
        logits, measured = training.look(kept, ("entropy_histogram",))
        score: Any = scores.SCORES[program.config.score]
        test = jnp.asarray(data.test)[split]
        outcome = Outcome(
            train_score=score(logits, labels, jnp.asarray(data.train)[split]),
            validation_score=score(logits, labels, jnp.asarray(data.validation)[split]),
            test_score=score(logits, labels, test),
            test_accuracy=scores.accuracy(logits, labels, test),
            contested_accuracy=scores.accuracy(logits, labels, test & data.is_contested),
            other_accuracy=scores.accuracy(logits, labels, test & ~data.is_contested),
            kept_entropy_histogram=measured["entropy_histogram"],
            kept_step=state.step if state.watch is None else state.watch.kept_step,
            num_steps=state.step,
            status=last.status,
        )
        return last, outcome

    return jax.vmap(finish)(state, chunk.keys, chunk.splits)
