"""What is sampled, and how fast by the number of initialisations that are computed at once."""

import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jraph

from gat_jax import sampling
from gat_jax.graphs import TwinPairs
from gat_jax.layers import LayerConfig
from gat_jax.runtime.devices import default_devices
from gat_jax.sampling import Cell


class Case(NamedTuple):
    """What is sampled."""

    name: str
    graph: jraph.GraphsTuple
    pairs: TwinPairs
    layer: LayerConfig


def tiles_at_once(devices) -> int:
    """Return how many tiles a sweep would give to each device at once."""
    memory = sampling.memory_limit(None) // len(devices)
    return sampling.tiles_at_once(devices[0].platform, memory)


def throughput_at_once(case: Case) -> list[dict[str, Any]]:
    """Return the throughput by number of initialisations that are computed at once."""
    from bench.sweep import torch_peers

    cell = Cell(case.name, case.layer)
    task = sampling.prepare_cell(cell, case.graph, case.pairs, seed=0)
    devices = default_devices()
    most = tiles_at_once(devices)
    found = []
    for at_once in sorted({1, 2, 4, 16, 64, 256, most} if most > 1 else {1, 2, 4, 8}):
        size = at_once * task.shape.tile_size * len(devices)

        def run(at_once=at_once, size=size) -> int:
            number = max(1, 2**24 // size) * size if most == 1 else 8 * size
            tiles = sampling.split_into_tiles(0, number, task.shape)
            for _ in sampling.measure_tiles(task, tiles, devices=devices, tiles_at_once=at_once):
                pass
            return number

        # Tiles are mapped over, a batch of each at a time.
        found.append(_at_once("gat_jax", size // sampling.BATCHES_PER_TILE, run))
    of = case.graph, case.pairs, case.layer
    for batch in torch_peers.batches(case.layer):
        found.append(_at_once("torch.func.vmap", batch, torch_peers.vmapped(*of, batch, False)[0]))
        name = "torch, rows spelled out, compiled"
        found.append(_at_once(name, batch, torch_peers.batched(*of, batch)[0]))
    return found


def _at_once(system: str, number: int, run: Callable[[], int]) -> dict[str, Any]:
    run()
    rates = []
    for _ in range(3):
        start = time.perf_counter()
        rates.append(run() / (time.perf_counter() - start))
    return {"system": system, "at_once": number, "throughput": statistics.median(rates)}
