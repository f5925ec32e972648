"""The tutorial graph in training: from random initialisations, and from the article's parameters.

The task: labels (0, 0, 0, 1), so that the twins have different ones; one layer whose heads are
averaged, 2 channels = 2 classes; mean softmax cross-entropy; all parameters are trained.
"""

import functools
import itertools
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Bool, Float, Int

from gat_jax.graphs import datasets, twins
from gat_jax.layers import LayerConfig, LayerParams, init_network
from gat_jax.runtime.programs import jit_briefly
from gat_jax.sampling import named_key
from gat_jax.studies import claim_ids
from gat_jax.studies.claims import Measurement, deterministic, share
from gat_jax.studies.tutorial_init import article_params
from gat_jax.symmetry import CAUSES
from gat_jax.training import TrainConfig, TrainSettings, TrainTask, make_task, survival, train_run

LEARNING_RATES: dict[str, float] = {"sgd": 0.1, "adam": 0.005}
ARTICLE_LEARNING_RATE = 0.01
HEADS = (1, 4)
CLAIMED_STEPS = (0, 100, 1000)
# The attention has left its maximum when the twins' mean normalised entropy is below this.
ESCAPED_ENTROPY = 0.99


class Runs(NamedTuple):
    """What is kept of R runs with T records: per run, or reduced over the runs."""

    is_collided: Bool[Array | np.ndarray, "runs records"]
    lowest_collided_loss: Float[Array | np.ndarray, ""]  # nats; infinite if never collided
    twin_entropy: Float[Array | np.ndarray, " records"]  # mean, normalised, the twins' rows
    entropy_escaped: Float[Array | np.ndarray, " records"]  # share of the runs
    loss: Float[Array | np.ndarray, " records"]  # mean, nats
    cause_share: Float[Array | np.ndarray, "records causes"]  # mean
    num_failed: Int[Array | np.ndarray, ""]  # runs with a non-finite step


class ArticleStart(NamedTuple):
    """One run from the article's parameters, T records."""

    is_collided: Bool[Array | np.ndarray, " records"]
    twin_entropy: Float[Array | np.ndarray, " records"]
    loss: Float[Array | np.ndarray, " records"]
    status: Int[Array | np.ndarray, ""]


def task() -> TrainTask:
    """Return the tutorial's task; its one pair of twins has different labels."""
    tutorial = datasets.load_task("tutorial")
    assert tutorial.labels is not None
    pairs = twins.twin_pairs(twins.twin_classes(tutorial.graph))
    return make_task(tutorial.graph, tutorial.labels, np.ones(4, bool), pairs)


def layer_config(heads: int) -> LayerConfig:
    """Return the one layer that is trained."""
    return LayerConfig(heads=heads, channels=2, concat=False, initializer="tutorial")


def runs_jobs(*, num_runs: int, num_steps: int, seed: int) -> dict[str, Callable[[], Runs]]:
    """Return the trainings from random initialisations, by the middle of their ids."""
    return {
        claim_ids.run_name(optimizer, heads): functools.partial(
            train_runs,
            optimizer,
            heads,
            num_runs=num_runs,
            config=TrainConfig(optimizer, num_steps),
            seed=seed,
        )
        for heads in sorted(HEADS, reverse=True)
        for optimizer in LEARNING_RATES
    }


def train_runs(
    optimizer: str, heads: int, *, num_runs: int, config: TrainConfig, seed: int
) -> Runs:
    """Train many initialisations; both optimisers start from the same ones."""
    key = named_key(seed, f"training.h{heads}")
    layer = layer_config(heads)
    params = init_network(key, (layer,), 2, batch_shape=(num_runs,))
    settings = TrainSettings(learning_rate=LEARNING_RATES[optimizer])
    found = _train_runs(params, settings, layer=layer, config=config)
    return jax.tree.map(np.asarray, found)


@functools.partial(jit_briefly, static_argnames=("layer", "config"))
def _train_runs(
    params: tuple[LayerParams, ...],
    settings: TrainSettings,
    *,
    layer: LayerConfig,
    config: TrainConfig,
) -> Runs:
    """Train and reduce in one program: histories of all runs are never all in memory."""
    run = functools.partial(
        train_run, task=task(), configs=(layer,), config=config, settings=settings
    )
    _, history = jax.vmap(run)(params)
    # One layer, and one pair of twins: its share is 0 or 1.
    is_collided, twin_entropy = history.collided[:, :, 0] == 1, history.twin_entropy[:, :, 0]
    return Runs(
        is_collided,
        jnp.min(jnp.where(is_collided, history.loss, jnp.inf)),
        jnp.mean(twin_entropy, axis=0),
        jnp.mean(twin_entropy < ESCAPED_ENTROPY, axis=0),
        jnp.mean(history.loss, axis=0),
        jnp.mean(history.cause_share[:, :, 0], axis=0),
        jnp.sum(history.status >= 0),
    )


def article_jobs(*, num_steps: int) -> dict[str, Callable[[], ArticleStart]]:
    """Return the trainings from the article's parameters, by the middle of their ids."""
    return {
        optimizer: functools.partial(train_article_start, TrainConfig(optimizer, num_steps))
        for optimizer in LEARNING_RATES
    }


def train_article_start(config: TrainConfig) -> ArticleStart:
    """Train once from the article's own parameters, in float64.

    One run has no sample to average over: in float32 the steps at which its twins separate and
    meet again move by some ten.
    """
    run = functools.partial(train_run, configs=(layer_config(1),), config=config, task=task())
    with jax.enable_x64(True):
        params = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), article_params())
        settings = TrainSettings(learning_rate=ARTICLE_LEARNING_RATE)
        _, history = jit_briefly(run)((params,), settings=settings)
        start = ArticleStart(
            history.collided[:, 0] == 1, history.twin_entropy[:, 0], history.loss, history.status
        )
        return jax.tree.map(np.asarray, start)


# --- what follows from the runs -----------------------------------------------------------------


def measurements(
    runs: Mapping[str, Runs], starts: Mapping[str, ArticleStart]
) -> dict[str, Measurement]:
    """Turn runs by the middle of their id into measurements by id."""
    measured = {}
    for name, run in runs.items():
        num_runs, last_step = len(run.is_collided), run.is_collided.shape[1] - 1
        reentry = survival.reentry(np.asarray(run.is_collided))
        story = (
            f"Of {int(run.is_collided[:, 0].sum())} runs that start collided, {reentry.num_exited} "
            f"are seen separated within {last_step} steps and {reentry.num_reentered} of those "
            f"collide again; {run.num_failed} runs became non-finite."
        )
        for step in CLAIMED_STEPS:
            count = run.is_collided[:, step].sum()
            measured[claim_ids.of_runs(name, step)] = share(count, num_runs, story)
    floor = tutorial_loss_floor()
    lowest = min(float(run.lowest_collided_loss) for run in runs.values())
    num_runs = sum(len(run.is_collided) for run in runs.values())
    if np.isfinite(lowest):
        text = (
            "The lowest loss of any run at any step with its twins collided, less the floor: "
            f"{lowest - floor:+.5f}. Equal twins of different labels cannot both be fitted."
        )
        found = Measurement(lowest, lowest, lowest, num_runs, text, floor)
    else:
        text = "No run was collided at any step."
        found = Measurement(None, None, None, num_runs, text, floor)
    measured[claim_ids.LOSS_FLOOR] = found
    for name, start in starts.items():
        measured |= _article_measurements(name, start)
    return measured


def tutorial_loss_floor() -> float:
    """Return the lowest loss possible while the tutorial's twins are equal: (2 ln 2) / 4."""
    return twins.loss_floor(task().labels, twins.twin_classes(task().graph).smallest)


def _article_measurements(name: str, start: ArticleStart) -> dict[str, Measurement]:
    has_escaped = np.asarray(start.twin_entropy < ESCAPED_ENTROPY)
    num_records, num_collided = len(start.is_collided), int(start.is_collided.sum())
    step = int(np.argmax(has_escaped)) if has_escaped.any() else None
    text = "never."
    if step is not None:
        text = f"{step}; the twins are {'still' if start.is_collided[step] else 'no longer'} equal."
    text += f" In all it is below at {has_escaped.mean():.0%} of the steps."
    return {
        claim_ids.of_article_start(name, "entropy_escape_step"): Measurement(
            None if step is None else float(step),
            None if step is None else float(step),
            None if step is None else float(step),
            1,
            f"First step with normalised twin entropy below {ESCAPED_ENTROPY}: {text}",
        ),
        claim_ids.of_article_start(name, "collided_share"): deterministic(
            num_collided / num_records,
            f"Twins equal by signs after k updates for {num_collided} of the {num_records} values "
            f"of k from 0 to {num_records - 1}; first unequal: "
            + ("never." if start.is_collided.all() else f"{int(np.argmin(start.is_collided))}."),
        ),
    }


def dataset(runs: Mapping[str, Runs], starts: Mapping[str, ArticleStart]) -> xr.Dataset:
    """Label what the runs gave by optimiser, heads and step."""
    parts = []
    for optimizer, heads in itertools.product(LEARNING_RATES, HEADS):
        run = runs[claim_ids.run_name(optimizer, heads)]
        steps = np.arange(run.is_collided.shape[1])
        occupancy = survival.occupancy(np.asarray(run.is_collided))
        parts.append(
            xr.Dataset(
                {
                    "train_is_collided": (("run", "step"), run.is_collided),
                    "train_collided_share": ("step", occupancy.share),
                    "train_collided_interval": (
                        ("step", "bound"),
                        np.stack([occupancy.low, occupancy.high], axis=1),
                    ),
                    "train_twin_entropy": ("step", run.twin_entropy),
                    "train_entropy_escaped": ("step", run.entropy_escaped),
                    "train_loss": ("step", run.loss),
                    "train_cause_share": (("step", "cause"), run.cause_share),
                    **_survival_variables(np.asarray(run.is_collided), steps),
                },
                coords={"step": steps, "cause": list(CAUSES), "bound": ["low", "high"]},
            ).expand_dims(optimizer=[optimizer], heads=[heads])
        )
    article = {
        "article_is_collided": np.stack([starts[o].is_collided for o in sorted(LEARNING_RATES)]),
        "article_twin_entropy": np.stack([starts[o].twin_entropy for o in sorted(LEARNING_RATES)]),
        "article_loss": np.stack([starts[o].loss for o in sorted(LEARNING_RATES)]),
    }
    num_records = article["article_loss"].shape[1]
    starts_dataset = xr.Dataset(
        {name: (("optimizer", "article_step"), values) for name, values in article.items()},
        coords={"optimizer": sorted(LEARNING_RATES), "article_step": np.arange(num_records)},
    )
    return xr.merge([xr.combine_by_coords(parts), starts_dataset], join="exact")


def _survival_variables(is_collided: np.ndarray, steps: np.ndarray) -> dict:
    """Evaluate the survival curve of the equal state at every step; NaN if no run started in it."""
    curve = survival.kaplan_meier(survival.first_exit(is_collided, steps))
    if curve is None:
        nothing = np.full(len(steps), np.nan)
        values = (nothing, nothing, nothing)
    else:
        # A right-continuous step function: the value of the last step of the curve so far.
        index = np.searchsorted(curve.step, steps, side="right")
        values = (np.concatenate([[1.0], x])[index] for x in (curve.share, curve.low, curve.high))
    share_left, low, high = values
    return {
        "train_survival": ("step", share_left),
        "train_survival_interval": (("step", "bound"), np.stack([low, high], axis=1)),
    }
