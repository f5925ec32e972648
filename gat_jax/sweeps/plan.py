"""What a sweep would do and how long it would take, cell by cell."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from gat_jax import sampling
from gat_jax.runtime import engine
from gat_jax.runtime.blocks import Blocks
from gat_jax.sweeps import records
from gat_jax.sweeps.grid import Grid
from gat_jax.sweeps.header import check_enlarges, header_from
from gat_jax.sweeps.machine import Machine


class CellPlan(NamedTuple):
    """What there is to do for one cell."""

    name: str
    num_blocks: int
    num_stored: int  # blocks that are there already
    block_size: int  # initialisations of a block, at most as many as the cell has
    at_once: int  # initialisations that each device computes at once, in as many batches as suit it
    chunk_size: int  # initialisations under way at once
    memory: int  # bytes, while it is computed
    compiling: int  # bytes, at most, while its program is compiled
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
        blocks = Blocks(path, schema=records.SCHEMA, is_read_only=True)
        check_enlarges(header_from(blocks.header, path), cells.header)
    seconds: dict[engine.Program, float] = {}
    one, number = machine.of_one_process(), machine.num_processes
    for entry in cells.entries:
        prepared = cells.prepared[entry.key]
        load = one.load_of(prepared, entry.num_inits)
        program, size, calls = load.program, load.call_size, load.calls_under_way
        if program not in seconds:
            seconds[program] = load.seconds_of_call(prepared)
        stored = {} if blocks is None else records.read_blocks(blocks, entry)[0]
        missing = entry.num_inits - sum(int(counts.num_inits) for counts in stored.values())
        yield CellPlan(
            name=entry.name,
            num_blocks=entry.num_blocks,
            num_stored=len(stored),
            block_size=min(entry.block_size, entry.num_inits),
            at_once=load.tiles_at_once * prepared.shape.batch_size,
            chunk_size=min(number * calls * size, -(-entry.num_inits // size) * size),
            memory=number * (program.memory.running + calls * program.memory.results),
            compiling=number * sampling.compile_memory(prepared.shape),
            seconds=seconds[program] * -(-missing // (number * size)),
            program=program,
        )
