"""Time sampled initialisations against what users would pick instead; see `benchmark.py`."""

import dataclasses
import functools
import json
import operator
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jraph
import numpy as np
from rich.console import Console
from rich.table import Table

from bench import common
from gat_jax import sampling
from gat_jax.graphs import TwinPairs, random_graph, twins
from gat_jax.layers import LayerConfig
from gat_jax.runtime import cli, store
from gat_jax.runtime.devices import default_devices, jit_tiles, provenance, use_cores
from gat_jax.runtime.engine import add_up
from gat_jax.sampling import Cell, Counts
from gat_jax.studies import tutorial_init

SCRIPTS = Path(__file__).parents[2]


@dataclasses.dataclass(frozen=True)
class Options:
    """Time the sweep against its peers."""

    json: Path = Path("benchmarks/sweep.json")
    """file to write: a list of cases, with versions and the machine beside it"""
    repeats: int = 7
    """rounds; every system runs once in each"""
    num_inits: int = 1_000_000_000
    """of the one long sweep, from start to summary; 0 leaves it out"""


class Sampler(NamedTuple):
    """Something that samples initialisations."""

    name: str
    run: Callable[[], int]  # one round; returns the number of initialisations
    # Of as many initialisations as it takes: collision probability and mean normalised entropy.
    check: Callable[[], tuple[float, float]] | None
    batch: int = 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns the exit code."""
    options = cli.parse(Options, argv)
    try:
        if options.repeats < 1:
            raise ValueError(f"repeats: expected at least 1, got {options.repeats}")
        store.check_writable(options.json.parent)
    except ValueError as error:
        cli.fail(error)
    use_cores(None)
    entries = []
    tutorial = tutorial_init.tutorial_twins()
    entries += compare(
        "tutorial graph, everything measured",
        tutorial,
        LayerConfig(initializer="tutorial"),
        options,
    )
    of_64 = random_graph(0, num_nodes=64, num_edges=320, num_features=16, num_twins=32)
    pairs = twins.twin_pairs(twins.twin_classes(of_64))
    layer = LayerConfig(heads=4, channels=8, initializer="tutorial")
    entries += compare("64 nodes, everything measured", (of_64, pairs), layer, options)
    entries += compare_with_bound(tutorial, options)
    if options.num_inits:
        entries += time_whole_sweeps(options.num_inits)
    document = {"machine": provenance("torch", "torch_geometric"), "entries": entries}
    options.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    Console(width=140).print(_table(entries))
    print(f"Written to {options.json}")
    return 0


# --- everything measured ------------------------------------------------------------------------


def compare(
    case: str, twins_of: tuple[jraph.GraphsTuple, TwinPairs], layer: LayerConfig, options: Options
) -> list[dict[str, Any]]:
    """Time our engine, a vmapped torch layer at its best batch, and a loop over a torch layer."""
    from bench.sweep import torch_peers

    graph, pairs = twins_of
    systems = [_engine_sampler(case, graph, pairs, layer)]
    candidates = [
        Sampler(name, *torch_peers.vmapped(graph, pairs, layer, batch, is_compiled), batch)
        for is_compiled, name in ((True, "torch.func.vmap, compiled"), (False, "torch.func.vmap"))
        for batch in torch_peers.batches(layer)
    ]
    systems.append(_fastest(candidates))
    systems.append(Sampler("loop over a torch layer", *torch_peers.loop(graph, pairs, layer)))
    errors = _check(systems)
    rates = _time(systems, options.repeats)
    return [
        _entry(case, system, rates[system.name], rates[systems[0].name], errors[system.name])
        for system in systems
    ]


def _engine_sampler(case: str, graph, pairs, layer: LayerConfig) -> Sampler:
    cell = Cell(case, layer)
    task = sampling.prepare_cell(cell, graph, pairs, seed=0)
    devices = default_devices()
    # About a second's work on two CPU cores.
    num_inits = 2**24 if task.shape.layout.is_unrolled(task.shape.num_features, 2) else 2**16
    num_inits *= _times_as_much(devices)

    def counts(seed: int) -> Counts:
        task = sampling.prepare_cell(cell, graph, pairs, seed=seed)
        tiles = sampling.split_into_tiles(0, num_inits, task.shape)
        at_once = _tiles_at_once(devices)
        results = sampling.measure_tiles(task, tiles, devices=devices, tiles_at_once=at_once)
        return sampling.decode(add_up(x.tally for x in results), num_inits)

    def check() -> tuple[float, float]:
        found = counts(1)
        probability = found.collisions / (found.num_inits * len(pairs.first))
        return float(probability), 1.0 - float(found.deficit_sum / found.entropy_histogram.sum())

    def run() -> int:
        counts(0)
        return num_inits

    return Sampler("gat_jax", run, check)


def _tiles_at_once(devices) -> int:
    """Return how many tiles a sweep would give to each device at once."""
    memory = sampling.memory_limit(None) // len(devices)
    return sampling.tiles_at_once(devices[0].platform, memory)


def _times_as_much(devices) -> int:
    """Return how many times as much as a CPU an accelerator is given to do."""
    return 1 if devices[0].platform == "cpu" else 2 * _tiles_at_once(devices)


def _fastest(candidates: list[Sampler]) -> Sampler:
    """Return the peer at its best setting, by the best of three short rounds each."""
    best, best_rate = candidates[0], 0.0
    for candidate in candidates:
        candidate.run()
        for _ in range(3):
            start = time.perf_counter()
            rate = candidate.run() / (time.perf_counter() - start)
            if rate > best_rate:
                best, best_rate = candidate, rate
    return best


def _check(systems: list[Sampler]) -> dict[str, float]:
    """Compare collision probability and entropy; return the largest relative difference.

    Raises:
      RuntimeError: if a system does not measure the same thing.
    """
    values = {system.name: system.check() for system in systems if system.check}
    reference = values[systems[0].name]
    errors = {}
    for name, found in values.items():
        errors[name] = max(abs(a - b) / b for a, b in zip(found, reference, strict=True))
        if errors[name] > 0.1:
            raise RuntimeError(f"{name}: expected {reference}, got {found}")
    return errors


def _time(systems: list[Sampler], repeats: int) -> dict[str, list[float]]:
    """Return initialisations per second by round, all systems interleaved."""
    rates: dict[str, list[float]] = {system.name: [] for system in systems}
    for system in systems:
        system.run()
    for _ in range(repeats):
        for system in systems:
            start = time.perf_counter()
            num_inits = system.run()
            rates[system.name].append(num_inits / (time.perf_counter() - start))
    return rates


def _entry(
    case: str, system: Sampler, rates: list[float], ours: list[float], error: float | None
) -> dict[str, Any]:
    ratio = statistics.median(a / b for a, b in zip(ours, rates, strict=True))
    rate = statistics.median(rates)
    return {
        "case": case,
        "system": system.name + (f", batch {system.batch}" if system.batch else ""),
        "median_seconds": 1e6 / rate,  # for a million initialisations
        "throughput": rate,
        "ratio_to_peer": ratio,  # how many times as fast we are
        "max_relative_error": error,
        "peak_mib": None,
    }


# --- the bound ----------------------------------------------------------------------------------


def compare_with_bound(twins_of, options: Options) -> list[dict[str, Any]]:
    """Time collisions alone against drawing the random numbers and nothing else."""
    case = "tutorial graph, collisions only"
    cell = Cell("tutorial", LayerConfig(initializer="tutorial"))
    task = sampling.prepare_cell(cell, *twins_of, seed=0, only_signs=True)
    whole = sampling.prepare_cell(cell, *twins_of, seed=0)
    devices = default_devices()
    num_inits, at_once = 2**25 * _times_as_much(devices), _tiles_at_once(devices)

    def run(task) -> int:
        tiles = sampling.split_into_tiles(0, num_inits, task.shape)
        for _ in sampling.measure_tiles(task, tiles, devices=devices, tiles_at_once=at_once):
            pass
        return num_inits

    size, num = task.shape.batch_size, 10
    batches = num_inits // size // len(devices)

    def threefry(key, k):
        return sampling.draw_bits(key, k.astype(jnp.uint32), num=num, size=size)

    def jax_random(key, k):
        return jax.random.bits(jax.random.fold_in(jax.random.wrap_key_data(key), k), (num, size))

    systems = [
        Sampler("gat_jax, collisions only", lambda: run(task), None),
        Sampler("gat_jax, everything", lambda: run(whole), None),
        Sampler("random words alone", _draw_only(threefry, batches, devices, num_inits), None),
        Sampler("jax.random.bits alone", _draw_only(jax_random, batches, devices, num_inits), None),
    ]
    rates = _time(systems, options.repeats)
    return [_entry(case, x, rates[x.name], rates[systems[0].name], None) for x in systems]


def _draw_only(draw, batches: int, devices, num_inits: int) -> Callable[[], int]:
    """Return a function that draws on all devices, each word used once so that none is skipped."""
    mesh = jax.sharding.Mesh(np.array(devices), ("init",))
    spec = jax.sharding.PartitionSpec

    def on_one_device(key, start):
        def step(total, k):
            bits = jax.lax.optimization_barrier(draw(key, start[0] + k))
            return functools.reduce(operator.xor, list(bits), total), None

        shape = jax.eval_shape(draw, key, jnp.int32(0)).shape[1:]
        total = jnp.zeros(shape, jnp.uint32)
        return jax.lax.scan(step, total, jnp.arange(batches))[0][None]

    program = jit_tiles(
        jax.shard_map(
            on_one_device,
            mesh=mesh,
            in_specs=(spec(), spec("init")),
            out_specs=spec("init"),
            check_vma=False,
        )
    )
    key = np.array([1, 2], np.uint32)
    starts = np.arange(len(devices), dtype=np.int32) * batches

    def run() -> int:
        jax.block_until_ready(program(key, starts))
        return num_inits

    return run


# --- from start to summary ----------------------------------------------------------------------


def time_whole_sweeps(num_inits: int) -> list[dict[str, Any]]:
    """Time `scripts/sweep.py` as a process, for a million initialisations and for many."""
    entries = []
    for number in (1_000_000, num_inits):
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, SCRIPTS / "sweep.py", "--num-inits", str(number)]
            command += ["--out", str(Path(folder) / "sweep.zarr")]
            start, peak = time.perf_counter(), 0
            nowhere = subprocess.DEVNULL
            with subprocess.Popen(command, stdout=nowhere, stderr=nowhere) as process:
                while process.poll() is None:
                    peak = max(peak, common.peak_kib(process.pid))
                    time.sleep(0.05)
            seconds = time.perf_counter() - start
        if process.returncode:
            raise RuntimeError(f"sweep.py: expected exit code 0, got {process.returncode}")
        entries.append(
            {
                "case": f"sweep.py from start to summary, {number:.0e} initialisations",
                "system": "gat_jax",
                "median_seconds": seconds,
                "throughput": number / seconds,
                "ratio_to_peer": None,
                "max_relative_error": None,
                "peak_mib": peak / 1024,
            }
        )
    return entries


def _table(entries: list[dict[str, Any]]) -> Table:
    table = Table(title="Benchmark", title_justify="left")
    for name in ("case", "system", "inits/s", "we are faster by", "error", "peak MiB"):
        table.add_column(name, justify="left" if name in ("case", "system") else "right")
    for entry in entries:
        ratio, error, peak = (
            entry[name] for name in ("ratio_to_peer", "max_relative_error", "peak_mib")
        )
        table.add_row(
            entry["case"],
            entry["system"],
            f"{entry['throughput']:,.0f}",
            "" if ratio is None else f"{ratio:.3g}",
            "" if error is None else f"{error:.1e}",
            "" if peak is None else f"{peak:.0f}",
        )
    return table
