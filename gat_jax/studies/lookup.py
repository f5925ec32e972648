"""DictionaryLookup in training: GATv2 finds each query's own key, and GAT one key for all.

One attention layer, and a linear map of its outputs to the values' logits. In the paper's code
(tech-srl/how_attentive_are_gats) embeddings of keys and values and a ReLU stand before the layer,
dropout after it, and the map has no bias; here the layer reads keys and values one-hot. It is
trained on some dictionaries and tried on others.

`graphs.best_constant_ranking_accuracy` says what one ranking of the keys reaches where a value is
read as the attention of its key. A linear map may read more than that, so for what is trained here
it is a mark to compare with and no bound.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jraph
import numpy as np
import optax
from jaxtyping import Array, Float, Int, Key

from gat_jax.graphs import NodeTask, dictionary_lookup
from gat_jax.kernels import Layout, layouts
from gat_jax.layers import (
    LayerConfig,
    LayerName,
    LayerParams,
    apply_layer,
    check_number,
    init_layer,
)
from gat_jax.layers.linear import LinearParams, init_linear, linear
from gat_jax.runtime.arrays import check_count

LAYERS: tuple[LayerName, ...] = ("gat", "gatv2")  # those that are compared


@dataclasses.dataclass(frozen=True)
class LookupConfig:
    """What is static about the study; so one head of GATv2 gets to 100% from most seeds.

    Where some of the layer's channels were the logits themselves, with a residual path in place of
    the linear map, it got there from half of them, whatever gain, learning rate and number of
    dictionaries were tried.
    """

    num_keys: int = 10
    num_dictionaries: int = 200  # to train on; as many others are for the trial
    heads: int = 1  # several heads of GAT rank the keys in several orders
    channels: int = 48
    learning_rate: float = 0.01  # of Adam
    num_steps: int = 500
    record_every: int = 50

    def __post_init__(self):
        """Refuse numbers that make no such study.

        Raises:
          ValueError: for a number out of its range, or a last record before the end.
        """
        check_count("num_keys", self.num_keys, 2)
        for field in ("num_dictionaries", "num_steps", "record_every"):
            check_count(field, getattr(self, field), 1)
        check_number("learning_rate", self.learning_rate, " of at least 0", lambda x: x >= 0)
        self.layer_config("gat")  # which refuses numbers of heads and channels
        if self.num_steps % self.record_every:
            raise ValueError(
                f"num_steps: expected a multiple of record_every {self.record_every}, got "
                f"{self.num_steps}"
            )

    def layer_config(self, layer: LayerName) -> LayerConfig:
        """Return the configuration of the network's attention layer."""
        return LayerConfig(layer, heads=self.heads, channels=self.channels)


class LookupParams(NamedTuple):
    """Parameters of the network."""

    attention: LayerParams
    output: LinearParams  # one logit for each value


class LookupRuns(NamedTuple):
    """Runs of one kind of layer from R seeds, T records."""

    step: Int[np.ndarray, " records"]
    accuracy: Float[np.ndarray, "runs records"]  # share of the queries trained on
    loss: Float[np.ndarray, "runs records"]  # their mean cross-entropy, nats
    new_accuracy: Float[np.ndarray, " runs"]  # at the end, on dictionaries of their own


class Asked(NamedTuple):
    """Dictionaries as a run reads them: Q queries among their nodes, and what is right."""

    graph: jraph.GraphsTuple
    layout: Layout
    queries: Int[Array | np.ndarray, " queries"]  # nodes
    labels: Int[Array | np.ndarray, " queries"]


def train_lookup(
    layer: LayerName, num_seeds: int, *, seed: int = 0, config: LookupConfig = LookupConfig()
) -> LookupRuns:
    """Train a layer on DictionaryLookup from several initialisations, all in one program.

    Args:
      layer: kind of attention.
      num_seeds: R.
      seed: of the dictionaries and of the initialisations.
      config: sizes and how it is trained.

    Raises:
      ValueError: for a kind or numbers that make no such study.
    """
    check_count("num_seeds", num_seeds, 1)
    asked, new = (
        _asked(dictionary_lookup(config.num_keys, config.num_dictionaries, number))
        for number in (2 * check_count("seed", seed), 2 * seed + 1)
    )
    params = init_lookup(jax.random.key(seed), layer, num_seeds, config)
    # A loop of its own: `training` knows no network with a map after its layers.
    run = jax.vmap(functools.partial(_run, layer=layer, config=config), in_axes=(0, None, None))
    accuracy, loss, new_accuracy = jax.tree.map(np.asarray, jax.jit(run)(params, asked, new))
    step = np.arange(0, config.num_steps + 1, config.record_every, dtype=np.int32)
    return LookupRuns(step, accuracy, loss, new_accuracy)


def init_lookup(
    key: Key[Array, ""], layer: LayerName, num_seeds: int, config: LookupConfig
) -> LookupParams:
    """Draw the parameters of R networks.

    Args:
      key: one key for all of them.
      layer: kind of attention.
      num_seeds: R.
      config: sizes.

    Returns:
      Parameters with an axis of networks.
    """
    attention_key, output_key = jax.random.split(key)
    attention, batch_shape = config.layer_config(layer), (num_seeds,)
    return LookupParams(
        init_layer(attention_key, attention, 2 * config.num_keys, batch_shape=batch_shape),
        init_linear(output_key, attention.num_outputs, config.num_keys, batch_shape=batch_shape),
    )


def _asked(task: NodeTask) -> Asked:
    assert task.labels is not None
    queries = np.flatnonzero(task.labels >= 0)
    return Asked(task.graph, layouts.make_layout(task.graph, "auto"), queries, task.labels[queries])


def _run(
    params: LookupParams, asked: Asked, new: Asked, *, layer: LayerName, config: LookupConfig
) -> tuple[Float[Array, " records"], Float[Array, " records"], Float[Array, ""]]:
    """Train one network.

    Returns:
      Its accuracy and loss at every record, and its accuracy on the new dictionaries at the end.
    """
    optimizer, attention = optax.adam(config.learning_rate), config.layer_config(layer)
    gradient_of = jax.grad(lambda params: _accuracy_and_loss(params, asked, attention)[1])

    # Any: optax's type of trees knows no None.
    def step(carried: Any, _) -> tuple[Any, None]:
        params, state = carried
        updates, state = optimizer.update(gradient_of(params), state, params)
        return (optax.apply_updates(params, updates), state), None

    def record(carried: Any, _) -> tuple[Any, Any]:
        carried, _ = jax.lax.scan(step, carried, length=config.record_every)
        return carried, _accuracy_and_loss(carried[0], asked, attention)

    first = _accuracy_and_loss(params, asked, attention)
    num_records = config.num_steps // config.record_every
    tree: Any = params
    start = tree, optimizer.init(tree)
    (trained, _), others = jax.lax.scan(record, start, length=num_records)
    accuracy, loss = jax.tree.map(jnp.append, first, others)
    return accuracy, loss, _accuracy_and_loss(trained, new, attention)[0]


def _accuracy_and_loss(
    params: LookupParams, asked: Asked, config: LayerConfig
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Return the share of queries that are answered right, and their mean cross-entropy."""
    outputs, _ = apply_layer(params.attention, asked.graph, config=config, layout=asked.layout)
    logits = linear(params.output, outputs[asked.queries])
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, asked.labels)
    return jnp.mean(jnp.argmax(logits, axis=-1) == asked.labels), jnp.mean(losses)
