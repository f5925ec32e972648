"""A small graph with splits and a recipe that stops, for tests of trainings with stores."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from helpers import write_graph

from gat_jax.graphs import random_graph
from gat_jax.runtime import blocks
from gat_jax.training import TrainSpec

NUM_NODES, NUM_SPLITS = 24, 2
# Its runs stop at different steps, long before the last one.
RECIPE = """
source = "a test"
features = "standardised"

[[layers]]
heads = 2
concat = false

[training]
optimizer = "adam"
num_steps = 40
record_every = 2

[training.stopping]
rule = "score"
patience = 6

[settings]
learning_rate = 0.02
feature_dropout = 0.3
attention_dropout = 0.3
"""


def write_splits(path: Path, **changes: Any) -> None:
    """Write a graph of three classes with two splits and four twins whose labels differ."""
    graph = random_graph(0, num_nodes=NUM_NODES, num_edges=80, num_features=5, num_twins=4)
    rng = np.random.default_rng(1)
    part = np.stack([rng.permutation(NUM_NODES) % 3 for _ in range(NUM_SPLITS)])
    num_features = graph.nodes.shape[1]
    names = ("train_masks", "val_masks", "test_masks")
    arrays = {
        "num_nodes": None,
        "senders": graph.senders,
        "receivers": graph.receivers,
        "feat_data": np.ravel(graph.nodes),
        "feat_indices": np.tile(np.arange(num_features), NUM_NODES),
        "feat_indptr": num_features * np.arange(NUM_NODES + 1),
        "feat_shape": np.array([NUM_NODES, num_features]),
        "labels": rng.permutation(NUM_NODES) % 3,
        "labelled": np.ones(NUM_NODES, bool),
        **{name: part == k for k, name in enumerate(names)},
    }
    write_graph(path, **(arrays | changes))


def write_inputs(folder: Path) -> dict[str, str]:
    """Write graph and recipe into a folder; return what a spec or a command calls them."""
    write_splits(folder / "small.npz")
    (folder / "small.toml").write_text(RECIPE)
    return {"data": str(folder / "small.npz"), "recipe": str(folder / "small.toml")}


def spec_of(inputs: dict[str, str], **fields: Any) -> TrainSpec:
    """The spec of few runs on these inputs, in chunks of two."""
    few = {"num_seeds": 4, "chunk_size": 2, "measures": ("entropy_mean", "twin_equal_share")}
    return TrainSpec(**(inputs | few | fields))


def stop_at(number: int) -> Callable[[], bool]:
    """A function that says no so many times, and then yes."""
    asked = []
    return lambda: asked.append(None) or len(asked) > number


def note_written(monkeypatch) -> list[tuple[str, int]]:
    """Note the key and the number of every run that is stored from now on."""
    written, write = [], blocks.Blocks.write

    def note(self, key, run, *rest) -> None:
        written.append((key, run))
        write(self, key, run, *rest)

    monkeypatch.setattr(blocks.Blocks, "write", note)
    return written


def stored(path: Path) -> dict[str, bytes]:
    """The bytes of all runs of a store, by where they lie."""
    files = sorted((path / "blocks").glob("*/record/c/*/0"))
    return {file.relative_to(path).as_posix(): file.read_bytes() for file in files}


def assert_same_numbers(one: xr.Dataset, two: xr.Dataset) -> None:
    """Compare two summaries to the last bit; how long they took is their own."""
    xr.testing.assert_identical(one.drop_attrs(), two.drop_attrs())


def read_csv(path: Path) -> list[dict[str, str]]:
    """The rows of a file, by the names of their columns."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
