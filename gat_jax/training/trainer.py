"""A whole training run as one jittable function: map it over seeds, settings or both.

    run = functools.partial(train_run, task=task, configs=configs, config=TrainConfig("adam", 1000))
    params, history = jax.jit(jax.vmap(run))(init_network(key, configs, F, batch_shape=(R,)))

Of a history that a compiled program does not return, nothing is computed.
"""

from typing import Any, NamedTuple

import jax
import jax.core
import jax.numpy as jnp
import jraph
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int, Key

from gat_jax.graphs import TwinPairs, padding_masks
from gat_jax.kernels import (
    Layout,
    LayoutName,
    SparseFeatures,
    layouts,
    sparse,
)
from gat_jax.layers import (
    AttentionInfo,
    EdgeMask,
    LayerConfig,
    LayerParams,
    apply_network,
    check_configs,
    check_edge_mask,
    check_key,
)
from gat_jax.runtime.jax_arrays import check_array
from gat_jax.symmetry import check_pairs_exist
from gat_jax.training.history import GRADIENTS, TrainHistory, gradient_norms, measure_layer
from gat_jax.training.recipes import TrainConfig, TrainSettings, check_settings, make_optimizer

Params = tuple[LayerParams, ...]


class TrainTask(NamedTuple):
    """What is trained on: one graph, its labels, and the twins to watch."""

    graph: jraph.GraphsTuple
    labels: Int[Array | np.ndarray, " nodes"]  # class ids; where the mask is False, anything
    label_mask: Bool[Array | np.ndarray, " nodes"]  # True = in the loss; such a node has a class
    pairs: TwinPairs  # non-trivial ones: trivial twins are equal whatever happens
    layout: Layout | None = None  # of the graph's edges; None: the edge list
    edge_mask: EdgeMask | None = None  # True = real; None: all are


def make_task(
    graph: jraph.GraphsTuple,
    labels: Int[np.ndarray, " nodes"],
    label_mask: Bool[np.ndarray, " nodes"],
    pairs: TwinPairs,
    *,
    layout: LayoutName = "auto",
) -> TrainTask:
    """Return a task whose edges and features are laid out for speed.

    Args:
      graph: on the host; features with few non-zeros (`sparse.is_worthwhile`) become
        `sparse.SparseFeatures`. Of a padded graph only the real edges count.
      labels: [N] class ids; where the mask is False, anything, such as -1.
      label_mask: [N], True = in the loss: of real nodes that have a class.
      pairs: non-trivial twins to watch.
      layout: as `layouts.make_layout`.

    Raises:
      ValueError: as `layouts.make_layout`, or if labels, mask or pairs do not fit the graph.
    """
    prepared = layouts.make_layout(graph, layout)
    task = _checked(TrainTask(graph, labels, label_mask, pairs, prepared))
    if not isinstance(graph.nodes, SparseFeatures) and sparse.is_worthwhile(graph.nodes):
        task = task._replace(graph=graph._replace(nodes=sparse.from_dense(graph.nodes)))
    return task


def _checked(task: TrainTask, num_classes: int | None = None) -> TrainTask:
    """Check what is not traced of a task, and return it with its padding masked.

    A label out of range would be trained towards silently, and padding be counted.

    Raises:
      ValueError: if labels, mask or pairs do not fit the graph, or the mask holds a node without a
        class, a node of padding, or no node at all.
    """
    if not isinstance(task, TrainTask):
        raise ValueError(f"task: expected one of make_task, got {type(task).__name__}")
    layouts.one_set_of(task.graph, "in training")
    _check_labels(task, num_classes)
    graph = task.graph
    counts = graph.senders, graph.receivers, graph.n_node, graph.n_edge
    if any(isinstance(array, jax.core.Tracer) for array in counts):
        return task
    is_real_n, is_real_e = padding_masks(graph)
    if not isinstance(task.label_mask, jax.core.Tracer):
        padding = np.asarray(task.label_mask) & ~is_real_n
        if padding.any():
            raise ValueError(
                f"label_mask: expected real nodes alone, got padding at {_first(padding)}"
            )
    if is_real_e.all():
        return task
    mask = is_real_e if task.edge_mask is None else task.edge_mask & is_real_e
    return task._replace(edge_mask=mask)


def _check_labels(task: TrainTask, num_classes: int | None) -> None:
    """Check labels, their mask and the pairs of a task."""
    num_nodes = len(task.graph.nodes)
    labels, mask = task.labels, task.label_mask
    check_array("labels", labels, "whole numbers")
    check_array("label_mask", mask, "booleans")
    for field, array in (("labels", labels), ("label_mask", mask)):
        if array.shape != (num_nodes,):
            raise ValueError(f"{field}: expected shape {(num_nodes,)}, got {array.shape}")
    check_pairs_exist(task.pairs, num_nodes)
    check_edge_mask(task.edge_mask, len(task.graph.receivers))
    if isinstance(labels, jax.core.Tracer) or isinstance(mask, jax.core.Tracer):
        return
    labels, mask = np.asarray(labels), np.asarray(mask)
    if not mask.any():
        raise ValueError("label_mask: expected at least one node in the loss, got none")
    most = np.inf if num_classes is None else num_classes
    is_bad = mask & ((labels < 0) | (labels >= most))
    if is_bad.any():
        node = _first(is_bad)
        expected = "classes >= 0" if num_classes is None else f"classes in [0, {num_classes})"
        found = f"{labels[node]} at node {node}"
        raise ValueError(f"labels: expected {expected} where label_mask is True, got {found}")


def _first(is_there: np.ndarray) -> int:
    return int(np.argmax(is_there))


class _State(NamedTuple):
    params: Params
    optimizer: optax.OptState
    step: Int[Array, ""]
    status: Int[Array, ""]


class _Seen(NamedTuple):
    """What a forward pass gives: the loss is what is differentiated, the rest is only looked at."""

    loss: Float[Array, ""]
    logits: Float[Array, "nodes classes"]
    infos: tuple[AttentionInfo, ...]


def train_run(
    params: Params,
    key: Key[Array, ""] | None = None,
    *,
    task: TrainTask,
    configs: tuple[LayerConfig, ...],
    config: TrainConfig,
    settings: TrainSettings = TrainSettings(),
) -> tuple[Params, TrainHistory]:
    """Train one network by full-batch gradient descent on the mean softmax cross-entropy.

    Args:
      params: one entry per layer; all of them are trained.
      key: for dropout, which it switches on in the updates; None trains without.
      task: graph, labels, twins; all of it may be traced. Padding of a graph that is not traced is
        masked; that of a traced one has to be in `edge_mask`.
      configs: of the layers; static.
      config: optimiser and steps; static.
      settings: rates, momentum, weight decay; may be traced.

    Returns:
      Trained parameters and the history, T = num_steps / record_every + 1 records. A run that
      becomes non-finite goes on as NaN and says so in `status`, so that it spoils no other.

    Raises:
      ValueError: if the parts of the task do not fit each other or the network, or as
        `recipes.check_settings`; of traced values nothing is known.

    Without dropout a record costs what is measured and nothing else: it looks at the forward pass
    and the gradient of the update that follows. With dropout it costs a forward pass. Only the
    last record, which no update follows, has a pass of its own, backward too without dropout.
    """
    check_configs(configs)
    if not isinstance(config, TrainConfig):
        raise ValueError(f"config: expected a TrainConfig, got {type(config).__name__}")
    if key is not None:
        check_key(key)
    check_settings(settings)
    task = _checked(task, configs[-1].num_outputs)
    optimizer = make_optimizer(config.optimizer, settings)

    def loss_of(params: Params, key) -> tuple[Float[Array, ""], _Seen]:
        logits, infos = apply_network(
            params,
            task.graph,
            configs,
            settings=settings.layer,
            key=key,
            edge_mask=task.edge_mask,
            layout=task.layout,
        )
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, task.labels)
        loss = _masked_mean(losses, task.label_mask)
        return loss, _Seen(loss, logits, infos)

    gradient_of = jax.grad(loss_of, has_aux=True)

    def update(state: _State) -> tuple[_State, _Seen, Params]:
        step_key = None if key is None else jax.random.fold_in(key, state.step)
        grads, seen = gradient_of(state.params, step_key)
        tree: Any = state.params  # optax's type of trees knows no None
        directions, optimizer_state = optimizer.update(grads, state.optimizer, tree)
        after = _State(
            jax.tree.map(lambda p, u: p - settings.learning_rate * u, state.params, directions),
            optimizer_state,
            state.step + 1,
            _first_failure(state, seen.loss, grads),
        )
        return after, seen, grads

    def record_and_update(state: _State, _) -> tuple[_State, TrainHistory]:
        after, seen, grads = update(state)
        if key is not None:  # the update saw the network with dropout
            _, seen = loss_of(state.params, None)
        history = _record(state, seen, grads, task, settings)
        if config.record_every > 1:
            after = jax.lax.fori_loop(1, config.record_every, lambda _, s: update(s)[0], after)
        return after, history

    tree: Any = params
    start = _State(params, optimizer.init(tree), jnp.int32(0), jnp.int32(-1))
    num_intervals = config.num_steps // config.record_every
    end, history = jax.lax.scan(record_and_update, start, None, length=num_intervals)
    if key is None:
        grads, seen = gradient_of(end.params, None)
    else:
        grads, seen = None, loss_of(end.params, None)[1]
    last = _record(end, seen, grads, task, settings)
    history = jax.tree.map(lambda x, y: jnp.concatenate([x, y[None]]), history, last)
    return end.params, history._replace(status=last.status)


def _record(
    state: _State, seen: _Seen, grads: Params | None, task: TrainTask, settings: TrainSettings
) -> TrainHistory:
    """Return the entry of the history for one state; its fields have no axis of records yet."""
    is_right = (jnp.argmax(seen.logits, axis=-1) == task.labels).astype(seen.loss.dtype)
    options = {
        "slope": settings.layer.slope,
        "edge_mask": task.edge_mask,
        "layout": task.layout,
    }
    layers = [measure_layer(info, task.graph, task.pairs, **options) for info in seen.infos]
    norms = jnp.full((len(layers), len(GRADIENTS)), jnp.nan)
    if grads is not None:
        norms = jnp.stack([gradient_norms(of_layer) for of_layer in grads])
    return TrainHistory(
        state.step,
        seen.loss,
        _masked_mean(is_right, task.label_mask),
        *(jnp.stack(of_layers) for of_layers in zip(*layers, strict=True)),
        grad_norm=norms,
        status=_first_failure(state, seen.loss, grads),
    )


def _first_failure(state: _State, loss: Float[Array, ""], grads: Params | None) -> Int[Array, ""]:
    """Return the status after this step: its number if it is the first that is not finite."""
    is_finite = jnp.isfinite(loss)
    if grads is not None:
        is_finite &= jnp.isfinite(optax.tree.norm(grads))
    return jnp.where(~is_finite & (state.status < 0), state.step, state.status)


def _masked_mean(
    values: Float[Array, " nodes"], mask: Bool[Array | np.ndarray, " nodes"]
) -> Float[Array, ""]:
    return jnp.sum(jnp.where(mask, values, 0.0)) / jnp.sum(mask)
