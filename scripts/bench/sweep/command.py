"""Time sampled initialisations against what users would pick instead; see `benchmark.py`."""

import dataclasses
import functools
import json
import math
import operator
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console

from bench import common
from bench.sweep import report, whole
from bench.sweep.at_once import Case, throughput_at_once, tiles_at_once
from gat_jax import sampling
from gat_jax.graphs import karate_club, les_miserables, random_graph, twins
from gat_jax.layers import LayerConfig
from gat_jax.runtime import cli
from gat_jax.runtime.devices import default_devices, provenance, use_cores
from gat_jax.runtime.engine import add_up
from gat_jax.runtime.programs import jit_tiles
from gat_jax.sampling import Cell, Counts
from gat_jax.studies import tutorial_init

FEWEST_CHECKED = 4000  # initialisations that a peer samples to be compared
TUTORIAL = "tutorial graph, everything measured"


@dataclasses.dataclass(frozen=True)
class Options:
    """Time the sweep against its peers."""

    json: Path = Path("benchmarks/sweep.json")
    """file to write: a list of cases, with versions and the machine beside it; a figure of the same
    name goes beside it as .png"""
    repeats: int = 7
    """rounds; every system runs once in each"""
    num_inits: tuple[int, ...] = (1_000_000_000,)
    """of long sweeps, from start to summary; none: they are left out"""
    against: Path | None = None
    """another checkout of this project, whose folder is named as its commit: its long sweeps are
    timed in turn with ours, in as many rounds"""


class Sampler(NamedTuple):
    """Something that samples initialisations."""

    name: str
    run: Callable[[], int]  # one round; returns the number of initialisations
    # Of as many initialisations as it takes: collision probability and mean normalised entropy.
    check: Callable[[], tuple[float, float]] | None
    batch: int = 0


def cases() -> list[Case]:
    """Return the cases in which everything is measured, the smallest graph first."""
    tutorial = tutorial_init.tutorial_twins()
    graphs = {
        "64 nodes": random_graph(0, num_nodes=64, num_edges=320, num_features=16, num_twins=32),
        "karate club": karate_club(),
        "Les Miserables": les_miserables(),
    }
    found = [Case(TUTORIAL, *tutorial, LayerConfig(initializer="tutorial"))]
    for name, graph in graphs.items():
        heads = 4 if name == "64 nodes" else 8
        layer = LayerConfig(heads=heads, channels=8, initializer="tutorial")
        pairs = twins.twin_pairs(twins.twin_classes(graph))
        found.append(Case(f"{name}, {heads} x 8, everything measured", graph, pairs, layer))
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns the exit code."""
    options = cli.parse(Options, argv)
    try:
        common.check_options(options.json, repeats=options.repeats)
        whole.check_against(options.against, options.num_inits)
    except ValueError as error:
        cli.fail(error)
    use_cores(None)
    document = {
        "machine": provenance("torch", "torch_geometric"),
        "entries": [],
        "at_once": [],
    }

    def keep(name: str, found: list[dict[str, Any]]) -> None:
        # What was measured is not lost to what fails later.
        document[name] += found
        options.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")

    tutorial, *larger = cases()
    keep("entries", compare(tutorial, options))
    keep("entries", compare_with_bound(tutorial, options))
    for number in (1_000_000, *options.num_inits) if options.num_inits else ():
        keep("entries", whole.compare_whole_sweeps(number, options.against, options.repeats))
    for case in larger:
        keep("entries", compare(case, options))
    keep("at_once", throughput_at_once(tutorial))
    figure = report.draw(document)
    figure.savefig(options.json.with_suffix(".png"), dpi=150)
    Console(width=140).print(report.table(document["entries"]))
    print(f"Written to {options.json} and {options.json.with_suffix('.png')}")
    return 0


# --- everything measured ------------------------------------------------------------------------


def compare(case: Case, options: Options) -> list[dict[str, Any]]:
    """Time our engine against torch layers: mapped, spelled out for a batch, and in a loop."""
    from bench.sweep import torch_peers

    of = case.graph, case.pairs, case.layer
    systems = [_engine_sampler(case)]
    batches = torch_peers.batches(case.layer)
    for is_compiled, name in ((True, "torch.func.vmap, compiled"), (False, "torch.func.vmap")):
        if is_compiled and case.layer.heads == 8:
            continue  # compiling takes minutes, and gains little where matrix products are calls
        systems.append(
            _fastest(
                Sampler(name, *torch_peers.vmapped(*of, batch, is_compiled), batch)
                for batch in (batches if case.layer.heads < 8 else batches[:1])
            )
        )
    if case.name == TUTORIAL:
        systems.append(
            _fastest(
                Sampler(
                    "torch, rows spelled out, compiled", *torch_peers.batched(*of, batch), batch
                )
                for batch in batches
            )
        )
        systems.append(Sampler("loop over a torch layer", *torch_peers.loop(*of)))
    errors = _check(systems)
    rates = _time(systems, options.repeats)
    return [
        _entry(case.name, system, rates[system.name], rates[systems[0].name], errors[system.name])
        for system in systems
    ]


def _engine_sampler(case: Case) -> Sampler:
    cell = Cell(case.name, case.layer)
    task = sampling.prepare_cell(cell, case.graph, case.pairs, seed=0)
    devices = default_devices()
    # About a second's work on two CPU cores; a GPU is filled four times.
    num_inits = 2**24 if case.name == TUTORIAL else 2**16
    if devices[0].platform != "cpu":
        num_inits = 4 * tiles_at_once(devices) * task.shape.tile_size

    def counts(seed: int) -> Counts:
        task = sampling.prepare_cell(cell, case.graph, case.pairs, seed=seed)
        tiles = sampling.split_into_tiles(0, num_inits, task.shape)
        at_once = tiles_at_once(devices)
        results = sampling.measure_tiles(task, tiles, devices=devices, tiles_at_once=at_once)
        return sampling.decode(add_up(x.tally for x in results), num_inits)

    def check() -> tuple[float, float]:
        found = counts(1)
        probability = found.collisions / (found.num_inits * len(case.pairs.first))
        return float(probability), 1.0 - float(found.deficit_sum / found.entropy_histogram.sum())

    def run() -> int:
        counts(0)
        return num_inits

    return Sampler("gat_jax", run, check)


def _fastest(candidates: Iterable[Sampler]) -> Sampler:
    """Return the peer at its best setting, by the best of three short rounds each."""
    best, best_rate = None, 0.0
    for candidate in candidates:
        candidate.run()
        for _ in range(3):
            start = time.perf_counter()
            rate = candidate.run() / (time.perf_counter() - start)
            if rate > best_rate:
                best, best_rate = candidate, rate
    assert best is not None
    return best


def _check(systems: list[Sampler]) -> dict[str, float]:
    """Compare collision probability and entropy; return the largest relative difference.

    Peers sample a few thousand initialisations, in which rare collisions are few.

    Raises:
      RuntimeError: if a system does not measure the same thing.
    """
    values = {system.name: system.check() for system in systems if system.check}
    reference = values[systems[0].name]
    errors = {}
    for name, found in values.items():
        errors[name] = max(abs(a - b) / b for a, b in zip(found, reference, strict=True))
        chance = 5.0 * math.sqrt(reference[0] / FEWEST_CHECKED)
        is_same = abs(found[0] - reference[0]) < chance
        if not is_same or abs(found[1] - reference[1]) > 0.05 * reference[1]:
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


def compare_with_bound(tutorial: Case, options: Options) -> list[dict[str, Any]]:
    """Time collisions alone against drawing the random numbers and nothing else."""
    case = "tutorial graph, collisions only"
    cell = Cell(tutorial.name, tutorial.layer)
    of = tutorial.graph, tutorial.pairs
    task = sampling.prepare_cell(cell, *of, seed=0, only_signs=True)
    whole = sampling.prepare_cell(cell, *of, seed=0)
    devices = default_devices()
    at_once = tiles_at_once(devices)
    num_inits = 2**25 if at_once == 1 else 16 * at_once * task.shape.tile_size

    def run(task) -> int:
        tiles = sampling.split_into_tiles(0, num_inits, task.shape)
        for _ in sampling.measure_tiles(task, tiles, devices=devices, tiles_at_once=at_once):
            pass
        return num_inits

    # As many words at once as the engine draws.
    size, num = task.shape.batch_size * at_once, 10
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
