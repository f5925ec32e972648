"""Running a sweep: what is missing of every cell is computed, block by block, and summed up.

There is one way through a sweep, for Python and for the command alike (`run_sweep`): prepare the
cells, open the store under its lock, compute and store the missing blocks, and write the summary
from the blocks. Everything that can be refused is refused before the first block is computed, and
a block that is stored stays, whatever comes after it.
"""

import contextlib
import dataclasses
import hashlib
import itertools
import json
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import xarray as xr
from jax.experimental import multihost_utils

from gat_jax import sampling
from gat_jax.runtime import engine, locks, store
from gat_jax.runtime.blocks import Blocks
from gat_jax.runtime.devices import Devices, default_devices, provenance
from gat_jax.sampling import Counts, InitValues, PreparedCell, Tile, decode, measure_tiles
from gat_jax.sweeps import grid, records
from gat_jax.sweeps.grid import Entry, Grid
from gat_jax.sweeps.header import check_enlarges, header_from
from gat_jax.sweeps.spec import SweepSpec
from gat_jax.sweeps.summary import save_summary, summarise


class SummaryError(RuntimeError):
    """The blocks are stored, but what they add up to could not be computed or written."""


class Progress(NamedTuple):
    """What is reported while a sweep runs."""

    done: int  # initialisations that are stored, or need not be computed
    total: int
    computed: int = 0  # of those, by this process in this run
    message: str | None = None  # something to tell, once


class Load(NamedTuple):
    """How a machine computes a cell."""

    program: engine.Program  # which cells of one shape share
    tiles_at_once: int  # that each device computes in one call
    calls_under_way: int  # before the results of the first are fetched
    call_size: int  # initialisations of one call, on all devices


@dataclasses.dataclass(frozen=True)
class Machine:
    """What a sweep is computed on, and how much of it at once. It changes no result.

    Raises:
      ValueError: if nothing can be computed on it.
    """

    devices: Devices = dataclasses.field(default_factory=default_devices)
    """all of them of this process, and of one kind"""
    chunk_size: int | None = None
    """initialisations under way at once, in whole tiles of every device; None: by `memory`"""
    memory: int | None = None
    """bytes that it may take, to compile and to compute; None: a quarter of what there is, and as
    much as a `chunk_size` takes"""
    tiles_at_once: int | None = None
    """tiles that each device computes in one call; None: as many as suit its kind, the memory and
    the cell"""

    def __post_init__(self):
        """Refuse what nothing can be computed on."""
        if not self.devices:
            raise ValueError("devices: expected at least 1, got none")
        for field in ("chunk_size", "tiles_at_once"):
            value = getattr(self, field)
            if value is not None and value < 1:
                raise ValueError(f"{field}: expected at least 1, got {value}")

    def load_of(self, prepared: PreparedCell, num_inits: int) -> Load:
        """Return how the machine computes a cell, whose program is compiled for it.

        Args:
          prepared: the cell.
          num_inits: how many initialisations are to be computed.

        Raises:
          ValueError: if the memory does not suffice to compile it, or for one tile.
        """
        sampling.check_memory(prepared.shape, self.memory)
        memory = sampling.memory_limit(self.memory)
        most = self.tiles_at_once or self._suitable_tiles(prepared, num_inits, memory)
        while True:
            program = engine.Program.of(prepared.work, self.devices, most)
            is_bounded = self.chunk_size is None or self.memory is not None
            if most == 1 or not is_bounded or program.memory.total <= memory:
                break
            most //= 2
        calls = program.calls_within(memory) if is_bounded else engine.MAX_CALLS_UNDER_WAY
        size = prepared.shape.tile_size * program.tiles_per_call
        if self.chunk_size is not None:
            wanted = max(1, self.chunk_size // size)
            calls = min(wanted, calls) if self.memory is not None else wanted
        return Load(program, most, calls, size)

    def _suitable_tiles(self, prepared: PreparedCell, num_inits: int, memory: int) -> int:
        """Return a power of two: no more tiles than suit, than there are, or than a chunk holds."""
        shape, num_devices = prepared.shape, len(self.devices)
        most = sampling.tiles_at_once(self.devices[0].platform, memory // num_devices)
        tiles = -(-num_inits // shape.tile_size)
        if self.chunk_size is not None:
            tiles = min(tiles, self.chunk_size // shape.tile_size)
        for_each = max(1, -(-tiles // num_devices))
        return min(most, 2 ** math.ceil(math.log2(for_each)))


def run_sweep(
    spec: SweepSpec,
    path: Path | str,
    *,
    machine: Machine | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> xr.Dataset:
    """Run a sweep, or go on with one; return its summary, which the store holds as well.

    The same call again computes only what is missing: after an interruption, or for a spec that
    enlarges the one of the store. Where JAX runs as several processes, each of them calls this and
    computes a share; the last one writes the summary.

    Args:
      spec: what is swept.
      path: of the store, a folder; `xarray.open_zarr` opens it afterwards.
      machine: what to compute on; None: all devices of this process.
      should_stop: asked before each block; those under way are then finished and stored, and the
        summary says of each cell whether it is complete.
      on_progress: told of every stored block, and of damaged ones, which are computed again.

    Returns:
      The summary; see `summarise` for its dimensions and variables.

    Raises:
      ValueError: if a graph or a cell cannot be used, the numbers overflow float32, or the store
        cannot be written, is in use, of another schema, or conflicts with the spec.
      OSError: if the disk refuses a block. The blocks that are stored are kept.
      SummaryError: if the summary cannot be written; the same call writes it from the blocks.
    """
    path, machine = Path(path), machine or Machine()
    cells = grid.prepare(spec, memory=machine.memory)
    # Taken first: a long computation must not be lost to what is unknown afterwards.
    origin = provenance()
    with opened(cells, path) as blocks:
        _compute_all(cells, blocks, machine, should_stop, on_progress)
        try:
            dataset = summarise(cells, blocks, origin)
            # Of several processes the last one has all blocks; interrupted ones do not wait for it.
            if is_complete(dataset) or should_stop() or jax.process_count() == 1:
                save_summary(dataset, path)
        except Exception as error:  # whatever it is, it must not look as if the numbers were lost
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise SummaryError(
                f"summary: expected to write it to {path}, got {reason}; the same sweep "
                "again writes it from the blocks that are stored"
            ) from error
    return dataset


def is_complete(dataset: xr.Dataset) -> bool:
    """Whether every cell that exists has all its blocks, or as many as its precision needs."""
    return bool((dataset["is_complete"] | (dataset["num_pairs"] == 0)).all())


# --- the store ----------------------------------------------------------------------------------


@contextlib.contextmanager
def opened(cells: Grid, path: Path) -> Iterator[Blocks]:
    """Open a store for a sweep, under its lock.

    Of the processes of one distributed sweep, the first one checks and locks the store, and lets
    the others in.

    Args:
      cells: what is to be computed.
      path: of the store.

    Raises:
      ValueError: if the store cannot be written, is in use, or conflicts with the spec.
    """
    is_first, refusal = jax.process_index() == 0, None
    with contextlib.ExitStack() as stack:
        try:
            if is_first:
                store.check_store(path)
                lock = stack.enter_context(locks.locked(path))
                store.remove_scratch(path)
                blocks = Blocks(path, schema=records.SCHEMA)
                check_enlarges(header_from(blocks.header, path), cells.header)
                blocks.set_header(cells.header.to_json())
                locks.share(lock)
        except Exception as error:  # the others wait for word, whatever it was
            refusal = error
        if jax.process_count() > 1:
            refusal = _agree(cells.header.to_json(), refusal)
        if refusal is not None:
            raise refusal
        if not is_first:
            stack.enter_context(locks.locked(path, is_member=True))
        yield Blocks(path, schema=records.SCHEMA)


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


# --- computing ----------------------------------------------------------------------------------


def _compute_all(
    cells: Grid,
    blocks: Blocks,
    machine: Machine,
    should_stop: Callable[[], bool],
    on_progress: Callable[[Progress], None],
) -> None:
    """Compute and store what is missing, cell by cell; arguments as in `run_sweep`."""
    total, before, computed = len(cells.entries) * cells.spec.num_inits, 0, 0
    for entry in cells.entries:
        prefix = records.Prefix(entry)
        found, messages = records.read_blocks(blocks, entry)
        for message in messages:
            note = f"{message}. It is computed again."
            on_progress(Progress(before, total, computed, note))
        for block in sorted(found):
            prefix.add(block, found[block])
        stored = sum(int(counts.num_inits) for counts in found.values())
        on_progress(Progress(before + stored, total, computed))
        # A process computes the missing blocks whose number leaves its own when divided.
        wanted = [
            block
            for block in range(jax.process_index(), entry.num_blocks, jax.process_count())
            if block not in found
        ]
        numbers = _until_done(wanted, prefix, entry, blocks, should_stop)
        prepared = cells.prepared[entry.key]
        for block, counts, values in _run_blocks(entry, prepared, numbers, machine):
            records.write_block(blocks, entry, block, counts, values)
            prefix.add(block, counts)
            stored += int(counts.num_inits)
            computed += int(counts.num_inits)
            on_progress(Progress(before + stored, total, computed))
        if should_stop():
            return
        before += entry.num_inits
        on_progress(Progress(before, total, computed))


def _until_done(
    wanted: list[int],
    prefix: records.Prefix,
    entry: Entry,
    blocks: Blocks,
    should_stop: Callable[[], bool],
) -> Iterator[int]:
    """Yield the blocks to compute, until the precision is reached or the user stops the sweep."""
    for block in wanted:
        if entry.precision is not None and jax.process_count() > 1:
            prefix.look_for_more(blocks)  # other processes decide with us when to stop
        if prefix.is_done or should_stop():
            return
        yield block


def _run_blocks(
    entry: Entry, prepared: PreparedCell, numbers: Iterator[int], machine: Machine
) -> Iterator[tuple[int, Counts, dict[str, np.ndarray]]]:
    """Compute blocks of a cell, keeping the devices busy across their borders.

    Yields:
      The number of a block, its counts, and the kept values by name.

    Raises:
      ValueError: if numbers overflow float32.
    """
    first_number = next(numbers, None)
    if first_number is None:  # nothing to do, and so nothing to compile
        return
    load = machine.load_of(prepared, entry.num_inits)
    shape, under_way = prepared.shape, []

    def tiles() -> Iterator[Tile]:
        for block in itertools.chain([first_number], numbers):
            first = block * entry.block_size
            cut = list(sampling.split_into_tiles(first, first + entry.inits_of(block), shape))
            under_way.append((block, len(cut)))
            yield from cut

    results = measure_tiles(
        prepared,
        tiles(),
        devices=machine.devices,
        tiles_at_once=load.tiles_at_once,
        calls_under_way=load.calls_under_way,
    )
    for first_result in results:
        block, num_tiles = under_way.pop(0)
        group = [first_result, *itertools.islice(results, num_tiles - 1)]
        tally = engine.add_up(result.tally for result in group)
        counts = decode(tally, entry.inits_of(block))
        if not all(np.isfinite(getattr(counts, name)) for name in sampling.SUMS):
            raise ValueError(
                f"{entry.name}: expected numbers that float32 holds, got an overflow; "
                "use smaller features or a smaller gain"
            )
        kept = [result.values for result in group if result.values is not None]
        yield block, counts, _joined(kept, entry.block_size) if entry.is_kept else {}


def _joined(kept: list[InitValues], length: int) -> dict[str, np.ndarray]:
    """Return the kept values of the tiles of a block, by name, filled up with zeros."""
    joined = {}
    for name in InitValues._fields:
        values = np.concatenate([getattr(one, name) for one in kept])
        joined[name] = np.zeros(length, values.dtype)
        joined[name][: len(values)] = values
    return joined
