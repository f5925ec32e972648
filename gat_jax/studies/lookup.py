"""DictionaryLookup in training: GATv2 finds each query's own key, and GAT one key for all.

One attention layer, and a linear map of its outputs to the values' logits, as in the paper's code.
It is trained on some dictionaries and tried on others. What a GAT of one head can reach is
`graphs.best_constant_ranking_accuracy`, which has the proof: what follows the attention is linear.
"""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, Key

from gat_jax.graphs import NodeTask, dictionary_lookup
from gat_jax.kernels import Layout, layouts
from gat_jax.layers import LayerConfig, LayerName, LayerParams, apply_layer, init_layer
from gat_jax.layers.linear import LinearParams, init_linear, linear
from gat_jax.runtime.arrays import check_count

LAYERS: tuple[LayerName, ...] = ("gat", "gatv2")  # those that are compared


@dataclasses.dataclass(frozen=True)
class LookupConfig:
    """What is static about the study; so one head of GATv2 gets to 100% from most seeds.

    Without the linear map, where some of the layer's channels are the logits themselves, half of
    the seeds end in local minima.
    """

    num_keys: int = 10
    num_dictionaries: int = 200  # to train on; as many others are for the trial
    heads: int = 1  # the ceiling of GAT is that of one head
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
        check_count("num_steps", self.num_steps, 1)
        check_count("record_every", self.record_every, 1)
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
    new_accuracy: Float[np.ndarray, " runs"]  # at the end, on dictionaries of their own


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
    trained_on, new = (
        dictionary_lookup(config.num_keys, config.num_dictionaries, number)
        for number in (2 * check_count("seed", seed), 2 * seed + 1)
    )
    run = functools.partial(_run, trained_on=trained_on, new=new, layer=layer, config=config)
    params = init_lookup(jax.random.key(seed), layer, num_seeds, config)
    accuracy, new_accuracy = jax.jit(jax.vmap(run))(params)
    step = np.arange(0, config.num_steps + 1, config.record_every, dtype=np.int32)
    return LookupRuns(step, np.asarray(accuracy), np.asarray(new_accuracy))


def init_lookup(
    key: Key[Array, ""], layer: LayerName, num_seeds: int, config: LookupConfig
) -> LookupParams:
    """Draw the parameters of R networks.

    Args:
      key: one key for all of them.
      layer: kind of attention.
      num_seeds: R.
      config: sizes.
    """
    attention_key, output_key = jax.random.split(key)
    options = {"batch_shape": (num_seeds,)}
    attention, num_features = config.layer_config(layer), 2 * config.num_keys
    return LookupParams(
        init_layer(attention_key, attention, num_features, **options),
        init_linear(output_key, attention.num_outputs, config.num_keys, **options),
    )


def _run(
    params: LookupParams,
    *,
    trained_on: NodeTask,
    new: NodeTask,
    layer: LayerName,
    config: LookupConfig,
) -> tuple[Float[Array, " records"], Float[Array, ""]]:
    """Train one network; return its accuracy at every record, and at the end on a new task."""
    optimizer, attention = optax.adam(config.learning_rate), config.layer_config(layer)
    logits_of = functools.partial(_query_logits, config=attention)
    known, unknown = ((task, layouts.make_layout(task.graph, "auto")) for task in (trained_on, new))

    def loss_of(params: LookupParams) -> Float[Array, ""]:
        logits, labels = logits_of(params, *known)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return jnp.mean(losses)

    def step(carried, _):
        params, state = carried
        updates, state = optimizer.update(jax.grad(loss_of)(params), state, params)
        return (optax.apply_updates(params, updates), state), None

    def record(carried, _):
        carried, _ = jax.lax.scan(step, carried, length=config.record_every)
        return carried, _share_right(*logits_of(carried[0], *known))

    start = _share_right(*logits_of(params, *known))
    num_records = config.num_steps // config.record_every
    (params, _), shares = jax.lax.scan(record, (params, optimizer.init(params)), length=num_records)
    return jnp.append(start, shares), _share_right(*logits_of(params, *unknown))


def _query_logits(
    params: LookupParams, task: NodeTask, layout: Layout | None, *, config: LayerConfig
) -> tuple[Float[Array, "queries values"], Int[np.ndarray, " queries"]]:
    """Return what a network answers to the queries of a task, and what is right."""
    assert task.labels is not None
    queries = np.flatnonzero(task.labels >= 0)
    outputs, _ = apply_layer(params.attention, task.graph, config=config, layout=layout)
    return linear(params.output, outputs[queries]), task.labels[queries]


def _share_right(
    logits: Float[Array, "queries values"], labels: Int[np.ndarray, " queries"]
) -> Float[Array, ""]:
    return jnp.mean(jnp.argmax(logits, axis=-1) == labels)
