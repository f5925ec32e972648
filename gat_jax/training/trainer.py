"""A whole training run as one jittable function: map it over seeds, settings or both.

    run = functools.partial(train_run, task=task, configs=configs, config=TrainConfig("adam", 1000))
    params, history = jax.jit(jax.vmap(run))(init_network(key, configs, F, batch_shape=(R,)))

Gradient descent sees equal twins in two ways that must not be confused: attention entropy can
leave its maximum while the twins stay equal. The history therefore tracks both.
"""

import dataclasses
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import jraph
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int, Key

from gat_jax.graphs import TwinPairs
from gat_jax.kernels import (
    Layout,
    LayoutName,
    Scalar,
    SparseFeatures,
    layouts,
    sparse,
)
from gat_jax.layers import (
    AttentionInfo,
    GATParams,
    GATv2Params,
    GCNParams,
    LayerConfig,
    LayerParams,
    LayerSettings,
    apply_network,
)
from gat_jax.symmetry import (
    CAUSES,
    equal_by_signs,
    mean_of_defined,
    normalised_entropy,
    pair_causes,
    primary_cause,
    twin_gap,
)

OptimizerName = Literal["sgd", "momentum", "adam"]


class TrainTask(NamedTuple):
    """What is trained on: one graph, its labels, and the twins to watch."""

    graph: jraph.GraphsTuple
    labels: Int[Array | np.ndarray, " nodes"]  # class ids; where the mask is False, anything
    label_mask: Bool[Array | np.ndarray, " nodes"]  # True = in the loss
    pairs: TwinPairs  # non-trivial ones: trivial twins are equal whatever happens
    layout: Layout | None = None  # of the graph's edges; None: the edge list


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
        `sparse.SparseFeatures`.
      labels: class ids; where the mask is False, anything.
      label_mask: True = in the loss.
      pairs: non-trivial twins to watch.
      layout: as `layouts.make_layout`.
    """
    prepared = layouts.make_layout(graph, layout)
    if not isinstance(graph.nodes, SparseFeatures) and sparse.is_worthwhile(graph.nodes):
        graph = graph._replace(nodes=sparse.from_dense(graph.nodes))
    return TrainTask(graph, labels, label_mask, pairs, prepared)


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """What is static about a run."""

    optimizer: OptimizerName = "adam"
    num_steps: int = 1000
    record_every: int = 1  # steps; divides num_steps

    def __post_init__(self):
        """Refuse what no run can be made of."""
        if self.optimizer not in ("sgd", "momentum", "adam"):
            raise ValueError(
                f"optimizer: expected one of sgd, momentum, adam, got {self.optimizer!r}"
            )
        if self.num_steps < 1 or self.record_every < 1 or self.num_steps % self.record_every:
            raise ValueError(
                "record_every: expected a divisor of num_steps, both at least 1, got "
                f"record_every={self.record_every}, num_steps={self.num_steps}"
            )


class TrainSettings(NamedTuple):
    """What may be traced, and so mapped over."""

    learning_rate: Scalar = 0.005
    momentum: Scalar = 0.9  # of the optimiser of that name
    layer: LayerSettings = LayerSettings()


class TrainHistory(NamedTuple):
    """One entry per recorded step k = 0, record_every, ...: the state after k updates.

    T records, L layers, K causes. All but the loss are measured without dropout, as is the loss.
    """

    step: Int[Array, " records"]
    loss: Float[Array, " records"]  # nats, mean over labelled nodes
    accuracy: Float[Array, " records"]
    entropy: Float[Array, "records layers"]  # normalised, mean over rows and heads
    twin_entropy: Float[Array, "records layers"]  # the same over the twins' rows
    twin_gap: Float[Array, "records layers"]  # largest over pairs, heads, channels
    collided: Float[Array, "records layers"]  # share of pairs equal by signs in all heads
    cause_share: Float[Array, "records layers causes"]  # of (pair, head), by primary cause
    grad_norm: Float[Array, "records layers 3"]  # of a_recv, a_send, W; NaN: no such parameter
    status: Int[Array, ""]  # first step whose loss or gradient is not finite; -1 if none


class _State(NamedTuple):
    params: tuple[LayerParams, ...]
    optimizer: optax.OptState
    step: Int[Array, ""]
    status: Int[Array, ""]


def train_run(
    params: tuple[LayerParams, ...],
    key: Key[Array, ""] | None = None,
    *,
    task: TrainTask,
    configs: tuple[LayerConfig, ...],
    config: TrainConfig,
    settings: TrainSettings = TrainSettings(),
) -> tuple[tuple[LayerParams, ...], TrainHistory]:
    """Train one network by full-batch gradient descent on the mean softmax cross-entropy.

    Args:
      params: one entry per layer; all of them are trained.
      key: for dropout, which it switches on in the updates; None trains without.
      task: graph, labels, twins; all of it may be traced.
      configs: of the layers; static.
      config: optimiser and steps; static.
      settings: rates; may be traced.

    Returns:
      Trained parameters and the history, T = num_steps / record_every + 1 records. A run that
      becomes non-finite goes on as NaN and says so in `status`, so that it spoils no other.
    """
    optimizer = _make_optimizer(config.optimizer, settings)

    def loss_fn(params, key):
        logits, infos = apply_network(
            params, task.graph, configs, settings=settings.layer, key=key, layout=task.layout
        )
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, task.labels)
        return _masked_mean(losses, task.label_mask), (logits, infos)

    def update(state: _State) -> _State:
        step_key = None if key is None else jax.random.fold_in(key, state.step)
        (loss, _), grads = jax.value_and_grad(loss_fn, has_aux=True)(state.params, step_key)
        is_finite = jnp.isfinite(loss) & jnp.isfinite(optax.tree.norm(grads))
        updates, optimizer_state = optimizer.update(grads, state.optimizer)
        return _State(
            jax.tree.map(lambda p, u: p - settings.learning_rate * u, state.params, updates),
            optimizer_state,
            state.step + 1,
            jnp.where(~is_finite & (state.status < 0), state.step, state.status),
        )

    def record(state: _State) -> TrainHistory:
        # Without dropout XLA finds this to be the first update's own computation.
        (loss, (logits, infos)), grads = jax.value_and_grad(loss_fn, has_aux=True)(
            state.params, None
        )
        is_right = (jnp.argmax(logits, axis=-1) == task.labels).astype(loss.dtype)
        layers = [
            _measure_layer(info, layer_grads, task, settings.layer.slope)
            for info, layer_grads in zip(infos, grads, strict=True)
        ]
        is_finite = jnp.isfinite(loss) & jnp.isfinite(optax.tree.norm(grads))
        return TrainHistory(
            state.step,
            loss,
            _masked_mean(is_right, task.label_mask),
            *(jnp.stack(x) for x in zip(*layers, strict=True)),
            status=jnp.where(~is_finite & (state.status < 0), state.step, state.status),
        )

    def record_and_update(state: _State, _):
        history = record(state)
        state = update(state)
        if config.record_every > 1:
            state = jax.lax.fori_loop(1, config.record_every, lambda _, s: update(s), state)
        return state, history

    tree: Any = params  # optax's type of trees knows no None
    start = _State(params, optimizer.init(tree), jnp.int32(0), jnp.int32(-1))
    num_intervals = config.num_steps // config.record_every
    end, history = jax.lax.scan(record_and_update, start, None, length=num_intervals)
    last = record(end)
    history = jax.tree.map(lambda x, y: jnp.concatenate([x, y[None]]), history, last)
    return end.params, history._replace(status=last.status)


def _make_optimizer(name: OptimizerName, settings: TrainSettings) -> optax.GradientTransformation:
    """Return the direction of descent; the learning rate is applied outside, so it can vary."""
    match name:
        case "sgd":
            return optax.identity()
        case "momentum":
            return optax.trace(decay=settings.momentum)  # pyright: ignore[reportArgumentType] (may be traced)
        case "adam":
            return optax.scale_by_adam()


def _measure_layer(info: AttentionInfo, grads: LayerParams, task: TrainTask, slope: Scalar):
    """Return the entries of `TrainHistory` that there is one of per layer, in its order."""
    receivers, pairs = task.graph.receivers, task.pairs
    num_nodes = info.head_outputs.shape[0]
    entropy_nh = normalised_entropy(info.attention, receivers, num_nodes)
    is_twin_n = jnp.zeros(num_nodes, bool).at[pairs.first].set(True).at[pairs.second].set(True)
    twin_entropy_nh = jnp.where(is_twin_n[:, None], entropy_nh, jnp.nan)
    gap_ph = twin_gap(info.head_outputs, pairs.first, pairs.second)
    causes_phk = pair_causes(info, task.graph, pairs, slope=slope, layout=task.layout)
    primary_phk = primary_cause(causes_phk)[..., None] == jnp.arange(len(CAUSES))[None, None]
    return (
        mean_of_defined(entropy_nh),
        mean_of_defined(twin_entropy_nh),
        jnp.max(gap_ph, initial=0.0),
        jnp.mean(jnp.all(equal_by_signs(causes_phk), axis=-1)),
        jnp.mean(primary_phk, axis=(0, 1)),
        _grad_norms(grads),
    )


def _grad_norms(grads: LayerParams) -> Float[Array, "3"]:
    """Norms of the gradients of a_recv, a_send and W; GATv2's one vector counts as a_send."""
    match grads:
        case GATParams():
            parts = (grads.a_recv, grads.a_send, grads.kernel)
        case GATv2Params():
            parts = (None, grads.a, (grads.kernel_send, grads.kernel_recv))
        case GCNParams():
            parts = (None, None, grads.kernel)
    return jnp.stack([jnp.float32(np.nan) if g is None else optax.tree.norm(g) for g in parts])


def _masked_mean(
    values: Float[Array, " nodes"], mask: Bool[Array | np.ndarray, " nodes"]
) -> Float[Array, ""]:
    return jnp.sum(jnp.where(mask, values, 0.0)) / jnp.sum(mask)
