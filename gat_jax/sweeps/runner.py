"""Sweeps: a grid of cells, blocks of initialisations, and a labelled summary.

A spec names the values of every axis of the grid and how many initialisations each cell gets.
The initialisations of a cell are cut into blocks, computed by `engine` and kept by `store`; the
summary is the sum of a cell's blocks in their order, so it is the same whoever computed them and
in how many sittings.
"""

import contextlib
import csv
import dataclasses
import hashlib
import itertools
import json
import math
import platform
import subprocess
from collections.abc import Callable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import jax
import jraph
import numpy as np
import xarray as xr
from jax.experimental import multihost_utils
from jaxtyping import Float

from gat_jax import sampling
from gat_jax.graphs import TwinPairs, datasets, twins
from gat_jax.graphs import build as graphs
from gat_jax.layers import InitializerName, LayerConfig, LayerName
from gat_jax.runtime import engine, stats, store
from gat_jax.runtime.devices import Devices, default_devices
from gat_jax.runtime.store import Blocks
from gat_jax.sampling import Cell, Counts, FeatureName, InitValues, PreparedCell, Tile
from gat_jax.symmetry import CAUSES

BUILT_IN_GRAPHS = {
    "tutorial": graphs.tutorial_graph,
    "karate_club": graphs.karate_club,
    "les_miserables": graphs.les_miserables,
}
SELF_LOOPS = "+self_loops"  # after a graph's name: with a self-loop at every node
DEFAULT_BLOCK_SIZE, MAX_BLOCK_TILES = 2**20, 64


@dataclasses.dataclass(frozen=True)
class SweepSpec:
    """What is swept; every combination of the axes is a cell."""

    graph: tuple[str, ...] = ("tutorial",)
    """built-in graphs (tutorial, karate_club, les_miserables) or .npz files; with "+self_loops"
    after the name every node gets one"""
    layer: tuple[LayerName, ...] = ("gat",)
    """gcn exists with one head only"""
    heads: tuple[int, ...] = (1,)
    channels: tuple[int, ...] = (2,)
    """per head"""
    initializer: tuple[InitializerName, ...] = ("tutorial",)
    features: tuple[FeatureName, ...] = ("raw",)
    slope: tuple[float, ...] = (0.2,)
    """of the LeakyReLU"""
    gain: tuple[float, ...] = ()
    """of the initialiser; none: its own"""
    num_inits: int = 1_000_000
    """initialisations per cell"""
    seed: int = 0
    measure: Literal["all", "collisions"] = "all"
    """collisions: signs alone, no entropies, gaps and outputs"""
    keep: Literal["summary", "raw"] = "summary"
    """raw: values of every initialisation as well"""
    precision: float | None = None
    """stop a cell as soon as the 95 percent interval of its collision probability is this narrow"""
    block_size: int = DEFAULT_BLOCK_SIZE
    """initialisations per stored block, in whole tiles"""

    def __post_init__(self):
        """Refuse what no sweep can be made of."""
        for axis in AXES:
            values = getattr(self, axis)
            if not isinstance(values, tuple):
                raise ValueError(f"{axis}: expected a tuple of values, got {values!r}")
            if axis in ("slope", "gain"):  # 1 and 1.0 are one value
                values = tuple(map(float, values))
                object.__setattr__(self, axis, values)
            if not values and axis != "gain":
                raise ValueError(f"{axis}: expected at least one value, got none")
            if len(set(values)) < len(values):
                twice = next(value for value in values if values.count(value) > 1)
                raise ValueError(f"{axis}: expected different values, got {twice} twice")
        for field in ("num_inits", "block_size"):
            if getattr(self, field) < 1:
                raise ValueError(f"{field}: expected at least 1, got {getattr(self, field)}")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed: expected 0 to 4294967295, got {self.seed}")
        for field, choices in CHOICES.items():
            for value in np.ravel(getattr(self, field)):
                if value not in choices:
                    names = ", ".join(choices)
                    raise ValueError(f"{field}: expected one of {names}, got {value}")
        if self.precision is not None and not 0 < self.precision < 1:
            raise ValueError(f"precision: expected between 0 and 1, got {self.precision}")


# The axes of the grid, in the order of the summary's dimensions; `gain` is one where it is given.
AXES = ("graph", "layer", "heads", "channels", "initializer", "features", "slope", "gain")
CHOICES = {
    "layer": get_args(LayerName),
    "initializer": get_args(InitializerName),
    "features": get_args(FeatureName),
    "measure": ("all", "collisions"),
    "keep": ("summary", "raw"),
}


# What `keep="raw"` stores of every initialisation.
INIT_VALUES = dict.fromkeys(InitValues._fields, np.float32) | {"collided_pairs": np.int32}


class Entry(NamedTuple):
    """One cell of the grid, ready to be computed."""

    key: str  # its folder in the store
    labels: dict[str, Any]  # its value on every axis
    task: PreparedCell
    num_pairs: int
    num_classes: int
    block_size: int  # in whole tiles


class Progress(NamedTuple):
    """What is reported while a sweep runs."""

    done: int  # initialisations that are stored, or need not be computed
    total: int
    computed: int = 0  # of those, by this process in this run
    message: str | None = None  # something to tell, once


# --- the grid -----------------------------------------------------------------------------------


def axes(spec: SweepSpec) -> dict[str, tuple]:
    """Return the axes of the grid with their values."""
    return {axis: getattr(spec, axis) for axis in AXES if axis != "gain" or spec.gain}


def load_graph(name: str) -> jraph.GraphsTuple:
    """Return a graph by the name that a spec gives it.

    Raises:
      ValueError: if there is no such graph.
    """
    source = name.removesuffix(SELF_LOOPS)
    if source in BUILT_IN_GRAPHS:
        graph = BUILT_IN_GRAPHS[source]()
    elif source.endswith(".npz"):
        graph = datasets.load(Path(source)).graph
    else:
        names = ", ".join(BUILT_IN_GRAPHS)
        raise ValueError(f"graph: expected {names} or a .npz file, got {name}")
    return graphs.add_self_loops(graph) if name.endswith(SELF_LOOPS) else graph


def entries(spec: SweepSpec) -> list[Entry]:
    """Prepare every cell that exists, in the order of the grid.

    Raises:
      ValueError: if a graph cannot be used, or a cell cannot be sampled.
    """
    loaded = {}
    for name in spec.graph:
        graph = load_graph(name)
        pairs = twins.twin_pairs(twins.twin_classes(graph))
        if len(pairs.first) == 0:
            raise ValueError(f"graph: expected non-trivial twins, got none in {name}")
        loaded[name] = graph, pairs
    grid = axes(spec)
    found = []
    for values in itertools.product(*grid.values()):
        labels = dict(zip(grid, values, strict=True))
        if labels["layer"] == "gcn" and labels["heads"] != 1:
            continue
        found.append(_entry(spec, labels, *loaded[labels["graph"]]))
    if not found:
        raise ValueError("heads: expected 1 among them for gcn, got none: the grid has no cell")
    return found


def _entry(
    spec: SweepSpec, labels: dict[str, Any], graph: jraph.GraphsTuple, pairs: TwinPairs
) -> Entry:
    layer = LayerConfig(
        layer=labels["layer"],
        heads=labels["heads"],
        channels=labels["channels"],
        initializer=labels["initializer"],
    )
    cell = Cell(
        labels["graph"], layer, labels["features"], slope=labels["slope"], gain=labels.get("gain")
    )
    task = sampling.prepare_cell(
        cell,
        graph,
        pairs,
        seed=spec.seed,
        only_signs=spec.measure == "collisions",
        keep_values=spec.keep == "raw",
    )
    name = ".".join(
        f"{axis[0]}{value}" if isinstance(value, int | float) else Path(value).name
        for axis, value in labels.items()
    )
    digest = hashlib.sha256(json.dumps(labels, sort_keys=True).encode()).hexdigest()
    tiles = max(1, min(spec.block_size // task.shape.tile_size, MAX_BLOCK_TILES))
    return Entry(
        f"{name}-{digest[:8]}",
        labels,
        task,
        len(task.shape.layout.pairs),
        task.shape.layout.num_classes,
        tiles * task.shape.tile_size,
    )


def num_blocks(spec: SweepSpec, entry: Entry) -> int:
    """Return how many blocks the initialisations of a cell make."""
    return -(-spec.num_inits // entry.block_size)


def _inits_of(spec: SweepSpec, entry: Entry, block: int) -> int:
    return min(entry.block_size, spec.num_inits - block * entry.block_size)


# --- a spec and a store -------------------------------------------------------------------------


def header(spec: SweepSpec) -> dict[str, Any]:
    """Return what a store says of its blocks: the spec, and what bit-equality rests on."""
    digests = {}
    for name in spec.graph:
        graph = load_graph(name)
        parts = (graph.nodes, graph.senders, graph.receivers)
        joined = b"".join(np.ascontiguousarray(part).tobytes() for part in parts)
        digests[name] = hashlib.sha256(joined).hexdigest()
    return {
        "spec": json.loads(json.dumps(dataclasses.asdict(spec))),
        "graph_digests": digests,
        "device": _device(),
        "version_jax": metadata.version("jax"),
        "version_jaxlib": metadata.version("jaxlib"),
        "batches_per_tile": sampling.BATCHES_PER_TILE,
    }


def _device() -> str:
    """Return the kind of device; of a CPU its model, for vector units differ and round apart."""
    device = jax.local_devices()[0]
    if device.platform == "cpu" and Path("/proc/cpuinfo").is_file():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        models = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
        return models[0] if models else platform.processor()
    return device.device_kind


def check_enlarges(old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """Check that a store's blocks are a part of what is to be computed.

    Args:
      old: header of the store; empty for a new one.
      new: header of what is asked for.

    Raises:
      ValueError: shows the difference.
    """
    if not old:
        return
    differences = []
    for field in ("device", "version_jax", "version_jaxlib", "batches_per_tile"):
        if old.get(field) != new[field]:
            differences.append(f"{field} {old.get(field)} in the store, {new[field]} here")
    for name, digest in old["graph_digests"].items():
        if new["graph_digests"].get(name, digest) != digest:
            differences.append(f"graph {name} has changed since")
    before, now = old["spec"], new["spec"]
    for field in ("seed", "measure", "keep", "block_size"):
        if before[field] != now[field]:
            differences.append(f"{field} {before[field]} in the store, {now[field]} asked for")
    for axis in AXES:
        missing = [str(value) for value in before[axis] if value not in now[axis]]
        if missing:
            differences.append(f"{axis} without {', '.join(missing)}, which the store has")
    if now["gain"] and not before["gain"]:
        differences.append("gain given, but the store has the initialisers' own")
    if now["num_inits"] < before["num_inits"]:
        differences.append(f"num_inits {before['num_inits']} in the store, {now['num_inits']} now")
    if (now["precision"] or 0.0) > (before["precision"] or 0.0):
        differences.append(f"precision {before['precision']} in the store, {now['precision']} now")
    if differences:
        raise ValueError(
            f"out: expected a spec that enlarges the store's, got: {'; '.join(differences)}"
        )


@contextlib.contextmanager
def opened(spec: SweepSpec, path: Path) -> Iterator[Blocks]:
    """Open a store for a sweep, under its lock.

    Of the processes of one distributed sweep, the first one checks and locks the store, and lets
    the others in.

    Raises:
      ValueError: if the store cannot be written, is in use, or conflicts with the spec.
    """
    is_first, refusal = jax.process_index() == 0, None
    wanted = header(spec)
    with contextlib.ExitStack() as stack:
        try:
            if is_first:
                store.check_store(path)
                lock = stack.enter_context(store.locked(path))
                store.remove_scratch(path)
                blocks = Blocks(path)
                check_enlarges(blocks.header, wanted)
                blocks.set_header(wanted)
                store.share(lock)
        except Exception as error:  # the others wait for word, whatever it was
            refusal = error
        if jax.process_count() > 1:
            refusal = _agree(wanted, refusal)
        if refusal is not None:
            raise refusal
        if not is_first:
            stack.enter_context(store.locked(path, is_member=True))
        yield Blocks(path)


def _agree(wanted: Mapping[str, Any], refusal: Exception | None) -> Exception | None:
    """Compare with process 0 what is to be computed; return what stands against it."""
    text = json.dumps(wanted, sort_keys=True).encode()
    mine = np.frombuffer(hashlib.sha256(text).digest()[:4], np.int32)
    word = np.array([refusal is None, mine[0]], np.int32)
    is_open, theirs = np.asarray(multihost_utils.broadcast_one_to_all(word))
    if refusal is None and not is_open:
        return ValueError("out: expected process 0 to open the store, but it refused")
    if refusal is None and theirs != mine[0]:
        return ValueError(
            "distributed: expected the same spec, graphs, devices and versions as process 0"
        )
    return refusal


def provenance() -> dict[str, str]:
    """Return what the numbers were computed with."""
    names = ("gat_jax", "jax", "jaxlib", "numpy", "scipy")
    found = {f"version_{name}": metadata.version(name) for name in names}
    git = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    return found | {
        "version_python": platform.python_version(),
        "device": _device(),
        "commit": commit or "unknown",
    }


# --- records ------------------------------------------------------------------------------------


def to_record(counts: Counts) -> Float[np.ndarray, " length"]:
    """Flatten counts into float64, which holds whole numbers up to 2^53 exactly."""
    return np.concatenate([np.ravel(np.asarray(field, np.float64)) for field in counts])


def from_record(record: Float[np.ndarray, " length"], entry: Entry) -> Counts:
    """Undo `to_record`."""
    layouts = _record_fields(entry)
    ends = np.cumsum([math.prod(shape) for shape, _ in layouts])
    parts = np.split(record, ends[:-1])
    return Counts(
        *(
            part.reshape(shape).astype(dtype)
            for part, (shape, dtype) in zip(parts, layouts, strict=True)
        )
    )


def _record_fields(entry: Entry) -> list[tuple[tuple[int, ...], type]]:
    shapes = {
        "joint_causes": (len(sampling.JOINT_CAUSES),),
        "head_causes": (entry.task.cell.layer.heads, len(CAUSES)),
        "entropy_histogram": (sampling.NUM_ENTROPY_BINS,),
        "gap_histogram": (sampling.NUM_GAP_BINS,),
    }
    return [
        (shapes.get(name, ()), np.float64 if name in sampling.SUMS else np.int64)
        for name in Counts._fields
    ]


def _record_length(entry: Entry) -> int:
    return sum(math.prod(shape) for shape, _ in _record_fields(entry))


class Prefix:
    """The blocks of a cell that are there, from the first on without a gap, and their sum."""

    def __init__(self, spec: SweepSpec, entry: Entry):
        """Start with no block."""
        self._spec, self._entry = spec, entry
        self._waiting: dict[int, np.ndarray] = {}
        self._length = 0
        self.is_done = False
        self.total = np.zeros(_record_length(entry))

    def add(self, block: int, record: np.ndarray) -> None:
        """Take a block in, in any order."""
        self._waiting[block] = record
        while not self.is_done and self._length in self._waiting:
            self.total = self.total + self._waiting.pop(self._length)
            self._length += 1
            self.is_done = self._length == num_blocks(self._spec, self._entry)
            if self._spec.precision is not None and not self.is_done:
                low, high = collision_interval(self.counts, self._entry)
                self.is_done = high - low <= self._spec.precision

    def look_for_more(self, blocks: Blocks) -> None:
        """Take in what others have stored since, as far as the next gap."""
        while not self.is_done and self._length in blocks.present(self._entry.key):
            if self._length in self._waiting:
                self.add(self._length, self._waiting[self._length])
                continue
            length = _record_length(self._entry)
            try:
                self.add(self._length, blocks.read(self._entry.key, self._length, length))
            except ValueError:  # damaged: the process it belongs to computes it again
                return

    @property
    def counts(self) -> Counts:
        """Counts of all initialisations so far."""
        return from_record(self.total, self._entry)

    @property
    def num_inits(self) -> int:
        """Initialisations so far."""
        return int(self.counts.num_inits)


def collision_interval(counts: Counts, entry: Entry) -> tuple[float, float]:
    """Return the 95% interval of the collision probability."""
    return stats.mean_share_interval(
        counts.collisions, counts.squared_shares, counts.num_inits, entry.num_pairs
    )


def read_blocks(spec: SweepSpec, entry: Entry, blocks: Blocks) -> tuple[dict[int, Any], list[str]]:
    """Return the sound blocks of a cell, and messages on damaged ones."""
    records, messages = {}, []
    for block in blocks.present(entry.key):
        if block >= num_blocks(spec, entry):
            continue
        try:
            record = blocks.read(entry.key, block, _record_length(entry))
            if spec.keep == "raw":
                for name, dtype in INIT_VALUES.items():
                    blocks.read_values(entry.key, name, block, entry.block_size, dtype)
        except ValueError as error:
            messages.append(str(error))
            continue
        # The last block of a smaller sweep lacks initialisations of this one.
        if record[0] == _inits_of(spec, entry, block):
            records[block] = record
    return records, messages


# --- running ------------------------------------------------------------------------------------


def run_sweep(
    spec: SweepSpec,
    cells: list[Entry],
    blocks: Blocks,
    *,
    devices: Devices,
    calls_under_way: Callable[[Entry], int],
    should_stop: Callable[[], bool],
    on_progress: Callable[[Progress], None],
    process: tuple[int, int] = (0, 1),
) -> None:
    """Compute and store what is missing, cell by cell.

    Args:
      spec: what is swept.
      cells: its `entries`.
      blocks: of the store.
      devices: to compute on.
      calls_under_way: the chunk of a cell, as tiles of each device at once.
      should_stop: asked before each block; the blocks under way are finished and stored.
      on_progress: told of every stored block, and of damaged ones.
      process: index and number of processes; this one computes the missing blocks whose number
        leaves its index when divided by the number of processes.
    """
    index, num_processes = process
    total, before, computed = len(cells) * spec.num_inits, 0, 0
    for entry in cells:
        prefix = Prefix(spec, entry)
        records, messages = read_blocks(spec, entry, blocks)
        stored = sum(int(record[0]) for record in records.values())
        for message in messages:
            note = f"{message}. It is computed again."
            on_progress(Progress(before, total, computed, note))
        for block in sorted(records):
            prefix.add(block, records[block])
        on_progress(Progress(before + stored, total, computed))
        wanted = [
            block
            for block in range(num_blocks(spec, entry))
            if block not in records and block % num_processes == index
        ]

        def until_done(wanted=wanted, prefix=prefix, entry=entry) -> Iterator[int]:
            for block in wanted:
                if spec.precision is not None and num_processes > 1:
                    prefix.look_for_more(blocks)  # other processes decide with us when to stop
                if prefix.is_done or should_stop():
                    return
                yield block

        if wanted and not prefix.is_done and not should_stop():
            for block, counts, values in _run_blocks(
                spec,
                entry,
                until_done(),
                devices=devices,
                calls_under_way=calls_under_way(entry),
            ):
                record = to_record(counts)
                blocks.write(entry.key, block, record, values)
                prefix.add(block, record)
                stored += int(record[0])
                computed += int(record[0])
                on_progress(Progress(before + stored, total, computed))
        if should_stop():
            return
        before += spec.num_inits
        on_progress(Progress(before, total, computed))


def _run_blocks(
    spec: SweepSpec,
    entry: Entry,
    numbers: Iterator[int],
    *,
    devices: Devices,
    calls_under_way: int,
) -> Iterator[tuple[int, Counts, dict[str, np.ndarray]]]:
    """Compute blocks, keeping the devices busy across their borders."""
    shape, under_way = entry.task.shape, []

    def tiles() -> Iterator[Tile]:
        for block in numbers:
            first = block * entry.block_size
            stop = first + _inits_of(spec, entry, block)
            cut = list(sampling.split_into_tiles(first, stop, shape))
            under_way.append((block, len(cut)))
            yield from cut

    results = sampling.measure_tiles(
        entry.task, tiles(), devices=devices, calls_under_way=calls_under_way
    )
    for first_result in results:
        block, num_tiles = under_way.pop(0)
        group = [first_result, *itertools.islice(results, num_tiles - 1)]
        tally = engine.add_up(result.tally for result in group)
        kept = {}
        if spec.keep == "raw":
            for name in InitValues._fields:
                values = np.concatenate([getattr(result.values, name) for result in group])
                padded = np.zeros(entry.block_size, values.dtype)
                padded[: len(values)] = values
                kept[name] = padded
        counts = sampling.decode(tally, _inits_of(spec, entry, block), shape)
        if not all(np.isfinite(getattr(counts, name)) for name in sampling.SUMS):
            raise ValueError(
                f"{entry.key}: expected numbers that float32 holds, got an overflow; "
                "use smaller features or a smaller gain"
            )
        yield block, counts, kept


def run(spec: SweepSpec, path: Path, *, devices: Devices | None = None) -> xr.Dataset:
    """Run a sweep from Python, or go on with one; return its summary.

    Args:
      spec: what is swept.
      path: of the store.
      devices: to compute on; None: all of this process.

    Raises:
      ValueError: as `entries` and `opened`.
    """
    cells = entries(spec)
    with opened(spec, path) as blocks:
        run_sweep(
            spec,
            cells,
            blocks,
            devices=devices or default_devices(),
            calls_under_way=lambda entry: engine.MAX_CALLS_UNDER_WAY,
            should_stop=lambda: False,
            on_progress=lambda progress: None,
        )
        dataset = summarise(spec, cells, blocks)
        save_summary(dataset, path)
    return dataset


# --- the summary --------------------------------------------------------------------------------


def summarise(spec: SweepSpec, cells: list[Entry], blocks: Blocks) -> xr.Dataset:
    """Add up the stored blocks of every cell, as far as they go without a gap.

    Returns:
      A dataset whose dimensions are the axes of the grid, and `head`, `cause`, `joint_cause`,
      `entropy_bin`, `gap_bin` and `bound`. Cells that do not exist (gcn with several heads) or
      have no block yet have `num_inits` 0 and NaN for every number that is no count.
    """
    found = {}
    for entry in cells:
        prefix = Prefix(spec, entry)
        for block, record in read_blocks(spec, entry, blocks)[0].items():
            prefix.add(block, record)
        found[tuple(entry.labels.values())] = entry, prefix
    grid = axes(spec)
    summaries = [
        _summary(spec, *found[values]) if values in found else _summary(spec, None, None)
        for values in itertools.product(*grid.values())
    ]
    sizes = [len(values) for values in grid.values()]
    variables = {}
    for name, (dims, _) in summaries[0].items():
        stacked = np.stack([np.asarray(summary[name][1]) for summary in summaries])
        variables[name] = ((*grid, *dims), stacked.reshape(*sizes, *stacked.shape[1:]))
    low, high = sampling.GAP_RANGE
    edges = np.linspace(low, high, sampling.GAP_STEPS + 1)
    entropy_edges = np.linspace(0.0, 1.0, sampling.NUM_ENTROPY_BINS + 1)
    coords = {
        **{axis: list(values) for axis, values in grid.items()},
        "head": np.arange(max(spec.heads)),
        "cause": list(CAUSES),
        "joint_cause": list(sampling.JOINT_CAUSES),
        "bound": ["low", "high"],
        "entropy_low": ("entropy_bin", entropy_edges[:-1]),
        "entropy_high": ("entropy_bin", entropy_edges[1:]),
        # The first bin counts gaps of exactly 0.
        "log10_gap_low": ("gap_bin", np.concatenate([[-np.inf, -np.inf], edges])),
        "log10_gap_high": ("gap_bin", np.concatenate([[-np.inf], edges, [np.inf]])),
    }
    attributes = {"spec": json.dumps(dataclasses.asdict(spec)), "schema": store.SCHEMA}
    return xr.Dataset(variables, coords=coords, attrs=attributes | provenance())


def is_complete(dataset: xr.Dataset) -> bool:
    """Whether every cell that exists has all its blocks, or as many as its precision needs."""
    return bool((dataset["is_complete"] | (dataset["num_pairs"] == 0)).all())


def save_summary(dataset: xr.Dataset, path: Path) -> None:
    """Replace the summary of a store."""
    with store.one_at_a_time(path), store.staged(path) as folder:
        store.save(dataset, folder)


def _summary(spec: SweepSpec, entry: Entry | None, prefix: Prefix | None) -> dict[str, tuple]:
    """Return the variables of one cell as (dimensions, values)."""
    heads = max(spec.heads)
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
        all_interval = stats.binomial_interval(counts.all_pairs_collided, counts.num_inits)

    def count(name: str, size: tuple[int, ...] = ()) -> np.ndarray:
        return np.zeros(size, np.int64) if counts is None else getattr(counts, name)

    variables: dict[str, tuple] = {
        "num_inits": ((), count("num_inits")),
        "num_pairs": ((), num_pairs),
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
    if spec.measure == "collisions":
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


def load_raw(path: Path, **labels: Any) -> xr.Dataset:
    """Return kept values of every initialisation of one cell, with the dimension `init`.

    Args:
      path: of a store made with `keep="raw"`.
      labels: value on every axis that has more than one.

    Raises:
      ValueError: if the store has no such values or the labels do not name one cell.
    """
    blocks = Blocks(path)
    spec = spec_of(blocks)
    if spec.keep != "raw":
        raise ValueError(f"store: expected one made with keep = raw, got {spec.keep}")
    matching = [
        entry
        for entry in entries(spec)
        if all(entry.labels.get(axis) == value for axis, value in labels.items())
    ]
    if len(matching) != 1:
        raise ValueError(f"labels: expected to name one cell, got {len(matching)} by {labels}")
    (entry,) = matching
    present = sorted(read_blocks(spec, entry, blocks)[0])
    variables = {}
    for name, dtype in INIT_VALUES.items():
        parts = [
            blocks.read_values(entry.key, name, block, entry.block_size, dtype) for block in present
        ]
        kept = [part[: _inits_of(spec, entry, k)] for k, part in zip(present, parts, strict=True)]
        variables[name] = ("init", np.concatenate(kept))
    numbers = [
        np.arange(_inits_of(spec, entry, block)) + block * entry.block_size for block in present
    ]
    return xr.Dataset(variables, coords={"init": np.concatenate(numbers)})


def spec_of(blocks: Blocks) -> SweepSpec:
    """Return the spec that a store was last run with.

    Raises:
      ValueError: if it was never run.
    """
    stored = blocks.header.get("spec")
    if stored is None:
        raise ValueError("store: expected a sweep's store, got one without a spec")
    fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in stored.items()}
    return SweepSpec(**fields)


def to_table(dataset: xr.Dataset) -> list[dict[str, Any]]:
    """Return one row per cell that exists: its labels, and every variable that is one number."""
    grid = [axis for axis in AXES if axis in dataset.dims]
    scalars = [name for name in dataset.data_vars if dataset[name].dims == tuple(grid)]
    rows = []
    for index in np.ndindex(*(dataset.sizes[axis] for axis in grid)):
        cell = dataset.isel(dict(zip(grid, index, strict=True)))
        if not cell["num_pairs"]:
            continue
        row = {axis: cell[axis].item() for axis in grid}
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
    """Write one line per cell."""
    rows = to_table(dataset)
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
