"""A whole training run as one jittable function: map it over seeds, settings or both.

    run = functools.partial(train_run, task=task, configs=configs, config=TrainConfig("adam", 1000))
    params, history = jax.jit(jax.vmap(run))(init_network(key, configs, F, batch_shape=(R,)))

Of a history that a compiled program does not return, nothing is computed. A run that is too long
for one program is cut into parts by `Training`.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int, Key

from gat_jax.layers import (
    LayerTrace,
    NetworkConfig,
    NetworkParams,
    check_configs,
    check_key,
    layer_configs,
    layer_params,
    num_outputs_of,
    trace_network,
)
from gat_jax.training import scores, stopping
from gat_jax.training.config import TrainConfig
from gat_jax.training.history import (
    GRADIENTS,
    TrainHistory,
    gradient_norms,
    measure_layer,
    stack_measures,
)
from gat_jax.training.measures import measure
from gat_jax.training.optimizers import make_optimizer
from gat_jax.training.settings import TrainSettings, check_settings
from gat_jax.training.stopping import Watch
from gat_jax.training.tasks import TrainTask, check_task
from gat_jax.training.watched import Seen


class TrainState(NamedTuple):
    """A run between two steps."""

    params: NetworkParams
    optimizer: optax.OptState
    step: Int[Array, ""]  # updates so far
    status: Int[Array, ""]  # first step whose loss or gradient is not finite; -1 if none
    watch: Watch | None  # None: the run does not look at validation nodes


class _Seen(NamedTuple):
    """What a forward pass gives: the loss is what is differentiated, the rest is only looked at."""

    loss: Float[Array, ""]
    losses: Float[Array, " nodes"]
    logits: Float[Array, "nodes classes"]
    traces: tuple[LayerTrace, ...]


def start_state(params: NetworkParams, config: TrainConfig, settings: TrainSettings) -> TrainState:
    """Return the state before the first step, which does not depend on the task."""
    tree: Any = params  # optax's type of trees knows no None
    watch = None if config.stopping is None else stopping.start_watch(params)
    optimizer = make_optimizer(config.optimizer, settings).init(tree)
    return TrainState(params, optimizer, jnp.int32(0), jnp.int32(-1), watch)


class Training:
    """The parts of a run, each of which can be traced: the start, some steps, the end."""

    def __init__(
        self,
        task: TrainTask,
        configs: NetworkConfig,
        config: TrainConfig,
        settings: TrainSettings = TrainSettings(),
        key: Key[Array, ""] | None = None,
    ):
        """Take what the run is made of; arguments and errors as those of `train_run`."""
        check_configs(configs)
        if not isinstance(config, TrainConfig):
            raise ValueError(f"config: expected a TrainConfig, got {type(config).__name__}")
        if key is not None:
            check_key(key)
        check_settings(settings)
        self._task = check_task(task, num_outputs_of(configs))
        if config.stopping is not None and self._task.validation_mask is None:
            raise ValueError("validation_mask: expected one, by which the run can stop, got none")
        if config.measures and self._task.watched is None:
            raise ValueError("watched: expected what `make_task` sees with is_watched, got none")
        self._configs, self._config, self._settings = configs, config, settings
        self._key = key
        self._optimizer = make_optimizer(config.optimizer, settings)
        self._gradient_of = jax.grad(self._loss_of, has_aux=True)

    def start(self, params: NetworkParams) -> TrainState:
        """Return the state before the first step."""
        return start_state(params, self._config, self._settings)

    def advance(self, state: TrainState, num_records: int) -> tuple[TrainState, TrainHistory]:
        """Make `record_every` steps after each of so many records; the number is static."""
        return jax.lax.scan(self._record_and_update, state, None, length=num_records)

    def finish(self, state: TrainState) -> tuple[TrainState, TrainHistory]:
        """Look at the state after the last step; return it, and its record alone."""
        if self._key is None:
            grads, seen = self._gradient_of(state.params, None)
        else:
            grads, seen = None, self._loss_of(state.params, None)[1]
        state = self._looked_at(state, seen)
        last = self._record(state, seen, grads)
        return state, jax.tree.map(lambda x: x[None], last)._replace(status=last.status)

    def look(
        self, params: NetworkParams, names: Sequence[str] = ()
    ) -> tuple[Float[Array, "nodes classes"], dict[str, Array]]:
        """Return what a network gives without dropout, and measures of its layers by name."""
        seen = self._loss_of(params, None)[1]
        return seen.logits, self._measure(params, seen, names)

    def _loss_of(self, params: NetworkParams, key) -> tuple[Float[Array, ""], _Seen]:
        task = self._task
        logits, traces = trace_network(
            params,
            task.graph,
            self._configs,
            settings=self._settings.layer,
            key=key,
            edge_mask=task.edge_mask,
            node_mask=task.node_mask,
            layout=task.layout,
        )
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, task.labels)
        loss = _masked_mean(losses, task.label_mask)
        return loss, _Seen(loss, losses, logits, traces)

    def _update(self, state: TrainState) -> tuple[TrainState, TrainState, _Seen, NetworkParams]:
        """Make a step.

        Returns:
          The state before it, which has looked at the validation nodes; the state after it; what
          the gradient saw, and the gradient.
        """
        if self._config.stopping is not None:
            state = self._looked_at(state, self._loss_of(state.params, None)[1])
        key = None if self._key is None else jax.random.fold_in(self._key, state.step)
        grads, seen = self._gradient_of(state.params, key)
        tree: Any = state.params
        directions, optimizer = self._optimizer.update(grads, state.optimizer, tree)
        rate = self._settings.learning_rate
        after = TrainState(
            jax.tree.map(lambda p, u: p - rate * u, state.params, directions),
            optimizer,
            state.step + 1,
            _first_failure(state, seen.loss, grads),
            state.watch,
        )
        if state.watch is not None:
            after = stopping.choose(state.watch.has_stopped, state, after)
        return state, after, seen, grads

    def _looked_at(self, state: TrainState, seen: _Seen) -> TrainState:
        if state.watch is None or self._config.stopping is None:
            return state
        loss, score = self._of_validation(seen)
        rule = self._config.stopping
        watch = stopping.look(state.watch, state.params, state.step, loss, score, rule)
        return state._replace(watch=watch)

    def _of_validation(self, seen: _Seen) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """Return loss and score of the validation nodes; NaN where there are none."""
        task, mask = self._task, self._task.validation_mask
        if mask is None:
            nothing = jnp.full((), jnp.nan, seen.loss.dtype)
            return nothing, nothing
        score = scores.SCORES[self._config.score](seen.logits, task.labels, mask)
        return _masked_mean(seen.losses, mask), score

    def _record_and_update(self, state: TrainState, _) -> tuple[TrainState, TrainHistory]:
        if self._key is not None:
            return self._record_then_update(state)
        before, after, seen, grads = self._update(state)
        history = self._record(before, seen, grads)
        if self._config.record_every > 1:
            after = jax.lax.fori_loop(
                1, self._config.record_every, lambda _, s: self._update(s)[1], after
            )
        return after, history

    def _record_then_update(self, state: TrainState) -> tuple[TrainState, TrainHistory]:
        """Record a state by a pass of its own, and make steps, of which the program has one copy.

        The updates see the network with dropout.
        """
        seen = self._loss_of(state.params, None)[1]
        history = self._record(state, seen, None)

        def step(number: Int[Array, ""], carried):
            state, norms, status = carried
            _, after, _, grads = self._update(state)
            is_first = number == 0
            norms = jnp.where(is_first, _norms(grads), norms)
            return after, norms, jnp.where(is_first, after.status, status)

        start = state, jnp.zeros_like(history.grad_norm), state.status
        after, norms, status = jax.lax.fori_loop(0, self._config.record_every, step, start)
        return after, history._replace(grad_norm=norms, status=status)

    def _record(self, state: TrainState, seen: _Seen, grads: NetworkParams | None) -> TrainHistory:
        """Return the entry of the history for one state; its fields have no axis of records yet.

        Without a gradient its norms are NaN, and the status that of the loss alone.
        """
        task, settings = self._task, self._settings
        is_right = (jnp.argmax(seen.logits, axis=-1) == task.labels).astype(seen.loss.dtype)
        options = {
            "slope": settings.layer.slope,
            "edge_mask": task.edge_mask,
            "layout": task.layout,
        }
        layers = [
            measure_layer(trace.info, task.graph, task.pairs, **options) for trace in seen.traces
        ]
        nothing = jnp.full((len(layers), len(GRADIENTS)), jnp.nan)
        validation_loss, validation_score = self._of_validation(seen)
        return TrainHistory(
            state.step,
            seen.loss,
            _masked_mean(is_right, task.label_mask),
            *(jnp.stack(of_layers) for of_layers in zip(*layers, strict=True)),
            grad_norm=nothing if grads is None else _norms(grads),
            validation_loss=validation_loss,
            validation_score=validation_score,
            measures=self._measure(state.params, seen, self._config.measures),
            status=_first_failure(state, seen.loss, grads),
        )

    def _measure(
        self, params: NetworkParams, seen: _Seen, names: Sequence[str]
    ) -> dict[str, Array]:
        """Return measures of all layers by their names, as `measures.MEASURES` has them."""
        watched = self._task.watched
        if watched is None or not names:
            return {}
        # What both have is to be one array, so that the compiler sees what records and measures
        # share (entropies, signs of rows) and computes it once.
        task = {name: getattr(self._task, name) for name in ("graph", "layout", "edge_mask")}
        task = {name: value for name, value in task.items() if value is not None}
        watched = dataclasses.replace(watched, slope=self._settings.layer.slope, **task)
        layers, configs = layer_params(params), layer_configs(self._configs)
        # A layer reads the outputs of the one before through an activation alone.
        is_chain = isinstance(self._configs, tuple)
        measured = []
        for depth, (trace, config) in enumerate(zip(seen.traces, configs, strict=True)):
            known = (layers, depth) if is_chain else ((layers[depth],), 0)
            found = Seen(trace.info, trace.inputs, trace.outputs, *known, config)
            measured.append(measure(names, found, watched))
        return stack_measures(measured)


def train_run(
    params: NetworkParams,
    key: Key[Array, ""] | None = None,
    *,
    task: TrainTask,
    configs: NetworkConfig,
    config: TrainConfig,
    settings: TrainSettings = TrainSettings(),
) -> tuple[NetworkParams, TrainHistory]:
    """Train one network by full-batch gradient descent on the mean softmax cross-entropy.

    Args:
      params: one entry per layer; all of them are trained.
      key: for dropout, which it switches on in the updates; None trains without.
      task: graph, labels, twins; all of it may be traced. Padding of a graph that is not traced is
        masked; that of a traced one has to be in `edge_mask`.
      configs: of the layers; static.
      config: optimiser, steps, and how the run stops; static.
      settings: rates, momentum, weight decay; may be traced.

    Returns:
      The parameters that are kept (the last ones, or those that `config.stopping` chooses) and the
      history, T = num_steps / record_every + 1 records. A run that has stopped repeats its last
      state. One that becomes non-finite goes on as NaN and says so in `status`, so that it spoils
      no other.

    Raises:
      ValueError: if the parts of the task do not fit each other or the network, if the run can
        stop and there are no validation nodes, or as `settings.check_settings`; of traced values
        nothing is known.

    Without dropout a record costs what is measured and nothing else: it looks at the forward pass
    and the gradient of the update that follows. With dropout it costs a forward pass, and so does
    every step of a run that can stop. Only the last record, which no update follows, has a pass of
    its own, backward too without dropout.
    """
    training = Training(task, configs, config, settings, key)
    num_records = config.num_steps // config.record_every
    state, history = training.advance(training.start(params), num_records)
    state, last = training.finish(state)
    kept = state.params if state.watch is None else state.watch.kept
    return kept, joined(history, last)


def joined(*parts: TrainHistory) -> TrainHistory:
    """Return the history of a run from those of its parts, in their order."""
    history = jax.tree.map(lambda *x: jnp.concatenate(x), *(x._replace(status=None) for x in parts))
    return history._replace(status=parts[-1].status)


def _norms(grads: NetworkParams) -> Float[Array, "layers 3"]:
    return jnp.stack([gradient_norms(of_layer) for of_layer in layer_params(grads)])


def _first_failure(
    state: TrainState, loss: Float[Array, ""], grads: NetworkParams | None
) -> Int[Array, ""]:
    """Return the status after this step: its number if it is the first that is not finite."""
    is_finite = jnp.isfinite(loss)
    if grads is not None:
        is_finite &= jnp.isfinite(optax.tree.norm(grads))
    return jnp.where(~is_finite & (state.status < 0), state.step, state.status)


def _masked_mean(
    values: Float[Array, " nodes"], mask: Bool[Array | np.ndarray, " nodes"]
) -> Float[Array, ""]:
    return jnp.sum(jnp.where(mask, values, 0.0)) / jnp.sum(mask)
