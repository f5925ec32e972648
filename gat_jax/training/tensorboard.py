"""The history of a training as event files of TensorBoard, a folder for each run.

    tensorboard.write_events(dataset, Path("events"))    # then: tensorboard --logdir events

The files are written by tensorboardX, which is an extra.
"""

import importlib.util
import itertools
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import xarray as xr

from gat_jax.runtime import store

# Dimensions whose entries have a curve each; of any others, such as bins, there are too many.
CURVES = ("layer", "head", "cause", "gradient", "quantile", "twins")
NUMBERED = ("layer", "head")  # whose entries have numbers in place of names
# What the names of our files begin and end with: a folder of this name may hold files of others.
PREFIX, SUFFIX = "events", ".gat_jax"


def check_installed() -> None:
    """Check that tensorboardX is there.

    Raises:
      ValueError: says how to install it.
    """
    if importlib.util.find_spec("tensorboardX") is None:
        raise ValueError(
            "tensorboard: expected the extra `tensorboard` (pip install 'gat_jax[tensorboard]'), "
            "got no tensorboardX"
        )


def write_events(dataset: xr.Dataset, folder: Path) -> None:
    """Write what is recorded of every run: `SETTING/seed_K` in the folder, one curve a quantity.

    Args:
      dataset: summary of a training, by `run_training`.
      folder: in which event files that this function wrote earlier are replaced, of the same runs,
        and nothing else.

    Curves are named as the variables are, with the entries of their dimensions:
    `entropy_mean/layer_1/head_2`. What is no number, as after a run has stopped, is left out; so is
    what has dimensions beside `CURVES`.

    Raises:
      ValueError: if tensorboardX is not installed.
      OSError: if the disk refuses a file; that run has its earlier file then.
    """
    check_installed()
    from tensorboardX.event_file_writer import EventsWriter  # the package is an extra

    # Protobuf makes these classes at their import, and nothing says so to a type checker.
    from tensorboardX.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue]
    from tensorboardX.proto.summary_pb2 import Summary  # pyright: ignore[reportAttributeAccessIssue]

    def write_run(run: xr.Dataset, prefix: Path) -> None:
        curves = dict(_curves(run))
        writer = EventsWriter(str(prefix), SUFFIX)
        for record, step in enumerate(run["step"].values):
            values = [
                Summary.Value(tag=tag, simple_value=curve[record])
                for tag, curve in curves.items()
                if np.isfinite(curve[record])
            ]
            if values:
                summary = Summary(value=values)
                writer.write_event(Event(wall_time=now, step=int(step), summary=summary))
        writer.close()

    now = time.time()
    folder.mkdir(parents=True, exist_ok=True)
    for place, name in enumerate(dataset["setting"].values):
        for seed in dataset["seed"].values:
            run = dataset.isel(setting=place).sel(seed=seed)
            if "num_steps" not in run or not np.isfinite(run["num_steps"]):  # is not there
                continue
            of_run = folder / str(name).replace("/", "_") / f"seed_{seed}"
            of_run.mkdir(parents=True, exist_ok=True)
            earlier = {path.name for path in of_run.glob(f"{PREFIX}.*{SUFFIX}")}
            with store.staged(of_run) as scratch:
                write_run(run, scratch / PREFIX)
                written = {path.name for path in scratch.iterdir()}
            for file in earlier - written:
                (of_run / file).unlink(missing_ok=True)


def _curves(run: xr.Dataset) -> Iterator[tuple[str, np.ndarray]]:
    """Yield what is recorded of a run as (name, values at every step)."""
    for name, variable in run.data_vars.items():
        dims = [dim for dim in variable.dims if dim != "step"]
        if "step" not in variable.dims or not set(dims) <= set(CURVES):
            continue
        values = variable.transpose("step", *dims).values
        for place in itertools.product(*(range(size) for size in values.shape[1:])):
            entries = [
                f"{dim}_{k + 1}" if dim in NUMBERED else str(run[dim].values[k])
                for dim, k in zip(dims, place, strict=True)
            ]
            yield "/".join([str(name), *entries]), values[:, *place]
