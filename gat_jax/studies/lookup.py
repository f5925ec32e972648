"""DictionaryLookup in training: GATv2 finds each query's own key, and GAT one key for all.

One attention layer with a residual path, whose heads are averaged; its outputs are the logits of
the values. It is trained on some dictionaries and tried on others. What a GAT of one head can reach
is `graphs.best_constant_ranking_accuracy`, which has the proof.
"""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from gat_jax.graphs import NodeTask, TwinPairs, dictionary_lookup
from gat_jax.layers import LayerConfig, LayerName, LayerParams, apply_network, init_network
from gat_jax.runtime.arrays import check_count
from gat_jax.training import TrainConfig, TrainSettings, make_task, train_run

LAYERS: tuple[LayerName, ...] = ("gat", "gatv2")  # those that are compared
TRAIN = TrainConfig("adam", num_steps=500, record_every=50)


@dataclasses.dataclass(frozen=True)
class LookupConfig:
    """What is static about the study; so one head of GATv2 gets to 100% from about half the seeds.

    The others stay in local minima, where they learn by heart. Twice as many dictionaries, with
    twice the learning rate, left that share as it is.
    """

    num_keys: int = 10
    num_dictionaries: int = 100  # to train on; as many others are for the trial
    heads: int = 1  # the ceiling of GAT is that of one head
    channels: int = 48  # at least as many as keys: classes beyond them do not occur
    gain: float = 3.0  # of the initialiser: scores that differ from the start
    learning_rate: float = 0.01
    train: TrainConfig = TRAIN

    def __post_init__(self):
        """Refuse layers that have no logit for some value.

        Raises:
          ValueError: if there are fewer channels than keys.
        """
        check_count("num_keys", self.num_keys, 2)
        if check_count("channels", self.channels) < self.num_keys:
            raise ValueError(
                f"channels: expected at least {self.num_keys}, one for each value, got "
                f"{self.channels}"
            )

    def layer_config(self, layer: LayerName) -> LayerConfig:
        """Return the configuration of the network's one layer."""
        return LayerConfig(
            layer, heads=self.heads, channels=self.channels, concat=False, use_residual=True
        )


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
    configs = (config.layer_config(layer),)
    trained_on, new = (
        dictionary_lookup(config.num_keys, config.num_dictionaries, number)
        for number in (2 * check_count("seed", seed), 2 * seed + 1)
    )
    labels, label_mask = _labels(trained_on)
    nobody = np.zeros(0, np.int32)
    no_pairs = TwinPairs(nobody, nobody, np.zeros(0, bool))
    run = functools.partial(
        train_run,
        task=make_task(trained_on.graph, labels, label_mask, no_pairs),
        configs=configs,
        config=config.train,
        settings=TrainSettings(config.learning_rate),
    )
    params = init_network(
        jax.random.key(seed),
        configs,
        2 * config.num_keys,
        gain=config.gain,
        batch_shape=(num_seeds,),
    )
    trained, history = jax.jit(jax.vmap(run))(params)
    accuracy_of = jax.jit(jax.vmap(functools.partial(_accuracy, task=new, configs=configs)))
    return LookupRuns(
        np.asarray(history.step)[0],
        np.asarray(history.accuracy),
        np.asarray(accuracy_of(trained)),
    )


def _labels(task: NodeTask) -> tuple[Int[np.ndarray, " nodes"], np.ndarray]:
    """Return the labels of a task, and who has one: its queries."""
    labels = task.labels
    assert labels is not None
    return labels, labels >= 0


def _accuracy(
    params: tuple[LayerParams, ...], *, task: NodeTask, configs: tuple[LayerConfig, ...]
) -> Float[Array, ""]:
    """Return the share of the queries of a task that one network answers right."""
    labels, is_query = _labels(task)
    logits, _ = apply_network(params, task.graph, configs)
    is_right = jnp.argmax(logits, axis=-1) == labels
    return jnp.sum(is_right & is_query) / np.sum(is_query)
