"""What a sweep would do and how long it would take, cell by cell."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import jax

from gat_jax import sampling
from gat_jax.runtime import engine
from gat_jax.runtime.store import Blocks
from gat_jax.sweeps import grid, records
from gat_jax.sweeps.grid import Entry, Grid
from gat_jax.sweeps.runner import Machine


class CellPlan(NamedTuple):
    """What there is to do for one cell."""

    name: str
    num_blocks: int
    num_stored: int  # blocks that are there already
    block_size: int  # initialisations of a block, at most as many as the cell has
    chunk_size: int  # initialisations under way at once
    memory: int  # bytes
    seconds: float  # by one timed call of its program, without compiling
    program: engine.Program  # cells of one shape share it


def plan_sweep(cells: Grid, machine: Machine, path: Path) -> Iterator[CellPlan]:
    """Say of each cell what there is to do; nothing is written.

    Args:
      cells: of the sweep.
      machine: what it is computed on.
      path: of the store, which need not exist.

    Yields:
      A plan for each cell. The time is that of a call of its program, which is compiled for it.

    Raises:
      ValueError: if the store is of another schema or conflicts with the spec, or if the memory
        does not suffice.
    """
    blocks = None
    if (path / "blocks").is_dir():
        blocks = Blocks(path, schema=records.SCHEMA)
        grid.check_enlarges(blocks.header, cells.header)
    seconds: dict[engine.Program, float] = {}
    for entry in cells.entries:
        size, calls = machine.call_size(entry), machine.calls_under_way(entry)
        program = machine.program_of(entry)
        if program not in seconds:
            seconds[program] = _time_call(program, entry)
        stored = {} if blocks is None else records.read_blocks(blocks, entry)[0]
        missing = entry.num_inits - sum(int(counts.num_inits) for counts in stored.values())
        yield CellPlan(
            name=entry.key.rsplit("-", 1)[0],
            num_blocks=entry.num_blocks,
            num_stored=len(stored),
            block_size=min(entry.block_size, entry.num_inits),
            chunk_size=min(calls * size, -(-entry.num_inits // size) * size),
            memory=program.memory.running + calls * program.memory.results,
            seconds=seconds[program] * -(-missing // size),
            program=program,
        )


def _time_call(program: engine.Program, entry: Entry) -> float:
    """Return the seconds that one tile on each device takes."""
    shape = entry.prepared.shape
    (tile,) = sampling.split_into_tiles(0, shape.tile_size, shape)
    seconds = 0.0
    for _ in range(2):  # the first call also allocates
        start = time.perf_counter()
        jax.block_until_ready(program(entry.prepared.inputs, [tile] * len(program.devices)))
        seconds = time.perf_counter() - start
    return seconds
