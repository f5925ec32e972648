"""Running a training: what is missing of every setting is computed, chunk by chunk, and summed up.

Everything that can be refused is refused before the first step, and a run that is stored stays,
whatever comes after it. The same call again goes on where the last one stopped.
"""

import hashlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import xarray as xr

from gat_jax.runtime import locks, store
from gat_jax.runtime.blocks import Blocks, DamagedBlockError
from gat_jax.runtime.devices import device_name, provenance
from gat_jax.training import checkpoints, records, seeds
from gat_jax.training.plan import Prepared, prepare
from gat_jax.training.spec import Setting, TrainSpec
from gat_jax.training.summary import summarise

SECONDS = "seconds"  # in the header: wall time of the calls that ended by themselves
CHECKPOINT_SECONDS = 60.0  # between two checkpoints of a chunk


class State(NamedTuple):
    """What is reported while a training runs."""

    done: int | float  # runs that are stored, and parts of those under way
    total: int
    message: str | None = None  # something to tell, once


def run_training(
    spec: TrainSpec,
    path: Path | str,
    *,
    should_stop: Callable[[], bool] = lambda: False,
    on_progress: Callable[[State], None] = lambda state: None,
) -> xr.Dataset:
    """Train all settings of a spec, or go on with them; return the summary of what is stored.

    Args:
      spec: what is trained.
      path: of the store, a folder; `xarray.open_zarr` opens it afterwards.
      should_stop: asked after each call of a program; a chunk under way then leaves a checkpoint.
      on_progress: told of every call.

    Returns:
      The summary; see `summary.summarise` for its dimensions and variables.

    Raises:
      ValueError: if the spec cannot be used, or the store cannot be written, is in use, of another
        schema, or made with another device or version of JAX.
      OSError: if the disk refuses a run.
    """
    path, prepared = Path(path), prepare(spec)
    origin = provenance()
    store.check_store(path)
    with locks.locked(path):
        store.remove_scratch(path)
        blocks = Blocks(path, schema=records.SCHEMA)
        here = _checked_header(blocks)
        before = float(here[SECONDS])
        start = time.monotonic()
        for setting, key in zip(prepared.settings, prepared.keys, strict=True):
            if not should_stop():
                _train_setting(prepared, setting, key, blocks, path, should_stop, on_progress)
        seconds = before + time.monotonic() - start
        blocks.set_header({**here, SECONDS: seconds})
        dataset = summarise(prepared, blocks, origin, seconds=seconds)
        if int(dataset["num_runs"].sum()):
            store.save(dataset, path)
    return dataset


def _checked_header(blocks: Blocks) -> dict[str, Any]:
    """Return the header of a store, once it is sure that its runs were made as those to come.

    With another device or version of JAX their bits would differ.
    """
    here = {"device": device_name(), "version_jax": jax.__version__}
    for name, value in here.items():
        if (found := blocks.header.get(name, value)) != value:
            raise ValueError(f"out: expected a store of {name} {value}, got {found}")
    header = {SECONDS: 0.0, **blocks.header, **here}
    blocks.set_header(header)
    return header


def _train_setting(
    prepared: Prepared,
    setting: Setting,
    key: str,
    blocks: Blocks,
    path: Path,
    should_stop: Callable[[], bool],
    on_progress: Callable[[State], None],
) -> None:
    spec = prepared.spec
    total = spec.num_seeds * len(prepared.settings)
    before = prepared.keys.index(key) * spec.num_seeds

    def report(num_runs: int | float, message: str | None = None) -> None:
        on_progress(State(before + num_runs, total, message))

    present = set()
    for run in blocks.present(key):
        if run >= spec.num_seeds:
            continue
        try:
            records.read_run(blocks, key, run)
            present.add(run)
        except DamagedBlockError as error:
            report(len(present), f"{error}. It is computed again.")
    missing = [run for run in range(spec.num_seeds) if run not in present]
    report(spec.num_seeds - len(missing))
    if not missing:
        checkpoints.remove(path / "checkpoints", f"{key}-*")
        return
    recipe = setting.recipe
    data = jax.device_put(seeds.prepare_data(prepared.task, recipe, is_watched=bool(spec.measures)))
    layer = recipe.settings.layer
    program = seeds.Program(
        recipe.configs(prepared.num_classes),
        recipe.train_config(prepared.num_classes),
        has_dropout=max(float(layer.feature_dropout), float(layer.attention_dropout)) > 0,
    )
    num_records = program.config.num_steps // program.config.record_every
    num_done = spec.num_seeds - len(missing)
    for runs in _chunks(missing, spec.chunk_size):
        chunk = seeds.Chunk(
            data,
            recipe.settings,
            seeds.keys_of(spec.seed, runs),
            np.array([run % len(data.train) for run in runs], np.int32),
        )
        name = f"{key}-{_name_of(runs)}"
        for found in _computed(program, chunk, path / "checkpoints", name, should_stop):
            if isinstance(found, seeds.Progress):
                report(num_done + len(runs) * len(found.records) / (num_records + 1))
                continue
            arrays = records.arrays_of(*found)
            for place, run in enumerate(runs):
                records.write_run(blocks, key, run, {n: x[place] for n, x in arrays.items()})
            checkpoints.remove(path / "checkpoints", name)
            num_done += len(runs)
            report(num_done)
        if should_stop():
            return
    checkpoints.remove(path / "checkpoints", f"{key}-*")  # those of runs in other company too


def _name_of(runs: list[int]) -> str:
    """Return what tells a chunk from others of its setting: which runs it has, and no other."""
    return hashlib.sha256(str(runs).encode()).hexdigest()[:16]


def _chunks(missing: list[int], size: int) -> Iterator[list[int]]:
    """Yield the runs to compute together: those of a multiple of the size, and the next ones."""
    for number in sorted({run // size for run in missing}):
        yield [run for run in missing if run // size == number]


def _computed(
    program: seeds.Program,
    chunk: seeds.Chunk,
    folder: Path,
    name: str,
    should_stop: Callable[[], bool],
) -> Iterator[seeds.Progress | tuple]:
    """Compute a chunk as `seeds.compute`, from its checkpoint, and leave new ones."""
    progress = None
    if any(folder.glob(f"{name}.*")):
        progress = checkpoints.load(folder, name, seeds.shapes_of(program, chunk))
    saved = time.monotonic()
    for found in seeds.compute(program, chunk, progress):
        if isinstance(found, seeds.Progress):
            is_over = should_stop()
            if is_over or time.monotonic() - saved > CHECKPOINT_SECONDS:
                checkpoints.save(folder, name, found)
                saved = time.monotonic()
            yield found
            if is_over:
                return
        else:
            yield found
