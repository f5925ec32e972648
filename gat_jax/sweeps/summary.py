"""The summary of a sweep: one labelled dataset, added up from the blocks of every cell."""

import csv
import dataclasses
import itertools
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from gat_jax import sampling
from gat_jax.runtime import locks, store
from gat_jax.runtime.blocks import Blocks
from gat_jax.runtime.stats import binomial_interval
from gat_jax.sampling import Counts
from gat_jax.sweeps import grid, records
from gat_jax.sweeps.grid import Entry, Grid
from gat_jax.sweeps.header import header_from
from gat_jax.sweeps.records import SCHEMA, Prefix, collision_interval
from gat_jax.sweeps.spec import AXES
from gat_jax.symmetry import CAUSES


def load_blocks(path: Path | str) -> tuple[Grid, Blocks]:
    """Open the store of a sweep to read it: its cells, as they were last asked for, and its blocks.

    Nothing but the store is needed, and nothing is written.

    Raises:
      ValueError: if it is no store of a sweep, of another schema, or damaged.
    """
    path = Path(path)
    if not (path / "blocks").is_dir():
        raise ValueError(f"store: expected a sweep's store, got {path}")
    blocks = Blocks(path, schema=SCHEMA, is_read_only=True)
    header = header_from(blocks.header, path)
    if header is None:
        raise ValueError(f"store: expected a sweep's store, got one without a spec, {path}")
    return grid.grid_of(header), blocks


def _say_nothing(message: str) -> None:
    pass


def summarise(
    cells: Grid,
    blocks: Blocks,
    provenance: Mapping[str, str],
    *,
    on_damage: Callable[[str], None] = _say_nothing,
) -> xr.Dataset:
    """Add up the stored blocks of every cell, as far as they go without a gap.

    Args:
      cells: of the sweep.
      blocks: of its store.
      provenance: what the numbers were computed with; it becomes attributes.
      on_damage: told of each block that is there and cannot be read; it counts as missing.

    Returns:
      A dataset whose dimensions are the axes of the grid, and `head`, `cause`, `joint_cause`,
      `entropy_bin`, `gap_bin` and `bound`. Cells that do not exist (gcn with several heads) or
      have no block yet have `num_inits` 0 and NaN for every number that is no count.
    """
    spec, found = cells.spec, {}
    for entry in cells.entries:
        prefix = Prefix(entry)
        sound, messages = records.read_blocks(blocks, entry)
        for message in messages:
            on_damage(message)
        for block, counts in sound.items():
            prefix.add(block, counts)
        found[tuple(entry.labels.values())] = entry, prefix
    summaries = [
        _summary(cells, *found.get(values, (None, None)))
        for values in itertools.product(*spec.axes.values())
    ]
    sizes = [len(values) for values in spec.axes.values()]
    variables = {}
    for name, (dims, _) in summaries[0].items():
        stacked = np.stack([np.asarray(summary[name][1]) for summary in summaries])
        variables[name] = ((*spec.axes, *dims), stacked.reshape(*sizes, *stacked.shape[1:]))
    attributes = {"spec": json.dumps(dataclasses.asdict(spec)), "schema": SCHEMA, **provenance}
    return xr.Dataset(variables, coords=_coords(cells), attrs=attributes)


def _coords(cells: Grid) -> dict[str, Any]:
    low, high = sampling.GAP_RANGE
    edges = np.linspace(low, high, sampling.GAP_STEPS + 1)
    entropy_edges = np.linspace(0.0, 1.0, sampling.NUM_ENTROPY_BINS + 1)
    return {
        **{axis: list(values) for axis, values in cells.spec.axes.items()},
        "head": np.arange(max(cells.spec.heads)),
        "cause": list(CAUSES),
        "joint_cause": list(sampling.JOINT_CAUSES),
        "bound": ["low", "high"],
        "entropy_low": ("entropy_bin", entropy_edges[:-1]),
        "entropy_high": ("entropy_bin", entropy_edges[1:]),
        # The first bin counts gaps of exactly 0.
        "log10_gap_low": ("gap_bin", np.concatenate([[-np.inf, -np.inf], edges])),
        "log10_gap_high": ("gap_bin", np.concatenate([[-np.inf], edges, [np.inf]])),
    }


def _summary(cells: Grid, entry: Entry | None, prefix: Prefix | None) -> dict[str, tuple]:
    """Return the variables of one cell, which may not exist, as (dimensions, values)."""
    heads = max(cells.spec.heads)
    by_head = np.zeros((heads, len(CAUSES)), np.int64)
    counts = None if prefix is None else prefix.counts
    if counts is not None:
        by_head[: len(counts.head_causes)] = counts.head_causes
    num_pairs = entry.num_pairs if entry is not None else 0
    nan = math.nan
    has_some = counts is not None and counts.num_inits > 0
    probability, interval, all_interval = nan, (nan, nan), (nan, nan)
    if has_some and entry is not None and counts is not None:
        probability = float(counts.collisions) / (float(counts.num_inits) * num_pairs)
        interval = collision_interval(counts, entry)
        all_interval = binomial_interval(counts.all_pairs_collided, counts.num_inits)

    def count(name: str, size: tuple[int, ...] = ()) -> np.ndarray:
        return np.zeros(size, np.int64) if counts is None else getattr(counts, name)

    variables: dict[str, tuple] = {
        "num_inits": ((), count("num_inits")),
        "num_pairs": ((), num_pairs),
        "num_compared_pairs": ((), entry.num_compared_pairs if entry is not None else 0),
        "num_classes": ((), entry.num_classes if entry is not None else 0),
        "is_complete": ((), prefix is not None and prefix.is_done),
        "collisions": ((), count("collisions")),
        "collision_probability": ((), probability),
        "interval": (("bound",), np.array(interval, np.float64)),
        "all_pairs_equal": ((), count("all_pairs_collided")),
        "all_pairs_equal_interval": (("bound",), np.array(all_interval, np.float64)),
        "class_collisions": ((), count("class_collisions")),
        "regime_collisions": ((), count("regime_collisions")),
        "pair_collisions_by_cause": (("cause",), by_head.sum(axis=0)),
        "head_collisions_by_cause": (("head", "cause"), by_head),
        "joint_collisions_by_cause": (
            ("joint_cause",),
            count("joint_causes", (len(sampling.JOINT_CAUSES),)),
        ),
    }
    if cells.spec.measure == "collisions":
        return variables
    moments = _moments(counts) if has_some and counts is not None else [nan] * 4
    return variables | {
        "uniform_attention": ((), count("uniform_attention")),
        "equal_outputs": ((), count("equal_outputs")),
        "matching_outputs": ((), count("matching_outputs")),
        "entropy_histogram": (
            ("entropy_bin",),
            count("entropy_histogram", (sampling.NUM_ENTROPY_BINS,)),
        ),
        "gap_histogram": (("gap_bin",), count("gap_histogram", (sampling.NUM_GAP_BINS,))),
        "entropy_mean": ((), moments[0]),
        "entropy_variance": ((), moments[1]),
        "log10_gap_mean": ((), moments[2]),
        "log10_gap_variance": ((), moments[3]),
    }


def _moments(counts: Counts) -> list[float]:
    """Return mean and variance of normalised entropy, and of log10 of the gaps above 0."""
    moments = []
    for total, squares, number in (
        (counts.deficit_sum, counts.deficit_squares, counts.entropy_histogram.sum()),
        (counts.log_gap_sum, counts.log_gap_squares, counts.gap_histogram[1:].sum()),
    ):
        mean = float(total / number) if number else math.nan
        moments += [mean, max(0.0, float(squares / number) - mean**2) if number else math.nan]
    return [1.0 - moments[0], *moments[1:]]


# --- reading and writing ------------------------------------------------------------------------


def save_summary(dataset: xr.Dataset, path: Path) -> None:
    """Replace the summary of a store, which this process has locked."""
    with locks.one_at_a_time(path):
        store.save(dataset, path)


def load_raw(path: Path | str, **labels: Any) -> xr.Dataset:
    """Return the kept values of every initialisation of one cell, with the dimension `init`.

    Args:
      path: of a store made with `keep="raw"`.
      labels: value on every axis that has more than one.

    Returns:
      The variables of `sampling.InitValues`, labelled by the numbers of the initialisations, of
      all blocks that are there.

    Raises:
      ValueError: if the store has no such values or the labels do not name one cell.
    """
    path = Path(path)
    cells, blocks = load_blocks(path)
    if cells.spec.keep != "raw":
        raise ValueError(f"store: expected one made with keep = raw, got {cells.spec.keep}")
    matching = [
        entry
        for entry in cells.entries
        if all(entry.labels.get(axis) == value for axis, value in labels.items())
    ]
    if len(matching) != 1:
        raise ValueError(f"labels: expected to name one cell, got {len(matching)} by {labels}")
    (entry,) = matching
    present = sorted(records.read_blocks(blocks, entry)[0])
    if not present:
        raise ValueError(f"store: expected finished blocks of {entry.key}, got none")
    parts = [records.read_values(blocks, entry, block) for block in present]
    sizes = [entry.inits_of(block) for block in present]
    variables = {
        name: ("init", np.concatenate([x[name][:n] for x, n in zip(parts, sizes, strict=True)]))
        for name in parts[0]
    }
    numbers = [np.arange(n) + k * entry.block_size for k, n in zip(present, sizes, strict=True)]
    return xr.Dataset(variables, coords={"init": np.concatenate(numbers)})


def to_table(dataset: xr.Dataset) -> list[dict[str, Any]]:
    """Return one row per cell that exists: its labels, and every variable that is one number."""
    axes = [axis for axis in AXES if axis in dataset.dims]
    scalars = [name for name in dataset.data_vars if dataset[name].dims == tuple(axes)]
    rows = []
    for index in np.ndindex(*(dataset.sizes[axis] for axis in axes)):
        cell = dataset.isel(dict(zip(axes, index, strict=True)))
        if not cell["num_pairs"]:
            continue
        row = {axis: cell[axis].item() for axis in axes}
        row |= {str(name): cell[name].item() for name in scalars}
        for name in ("interval", "all_pairs_equal_interval"):
            low, high = cell[name].values
            row |= {f"{name}_low": float(low), f"{name}_high": float(high)}
        for name in ("pair_collisions_by_cause", "joint_collisions_by_cause"):
            kind = cell[name].dims[0]
            values = zip(cell[kind].values, cell[name].values, strict=True)
            row |= {f"{name}.{label}": int(value) for label, value in values}
        rows.append(row)
    return rows


def write_csv(dataset: xr.Dataset, path: Path) -> None:
    """Write one line per cell, with the names of `to_table` in the first line."""
    rows = to_table(dataset)
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
