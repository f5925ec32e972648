from typing import NamedTuple

import jax
import pytest
from sweep_runs import signs_spec

from gat_jax import sampling
from gat_jax.sweeps import Machine, plan_sweep, prepare, run_sweep


def test_a_plan_says_what_is_stored_and_writes_nothing(tmp_path):
    machine = Machine(tuple(jax.local_devices()[:1]))
    path = tmp_path / "sweep.zarr"
    cells = prepare(signs_spec(slope=(0.2, 0.5)))
    plans = list(plan_sweep(cells, machine, path))
    assert [cell.name for cell in plans] == [
        f"tutorial.gat.h1.c2.tutorial.raw.s{slope}" for slope in (0.2, 0.5)
    ]
    assert [(cell.num_blocks, cell.num_stored) for cell in plans] == [(3, 0), (3, 0)]
    assert plans[0].program is plans[1].program
    assert all(cell.seconds > 0 and cell.memory > 0 for cell in plans)
    assert not path.exists()
    run_sweep(signs_spec(), path, machine=machine)
    before = {file: file.stat().st_mtime_ns for file in path.rglob("*")}
    plans = list(plan_sweep(cells, machine, path))
    assert [cell.num_stored for cell in plans] == [3, 0]
    assert plans[0].seconds == 0 < plans[1].seconds
    assert {file: file.stat().st_mtime_ns for file in path.rglob("*")} == before


def test_a_plan_refuses_what_the_sweep_would_refuse(tmp_path):
    run_sweep(signs_spec(num_inits=1000), tmp_path / "sweep.zarr")
    cells = prepare(signs_spec(num_inits=1000, seed=1))
    with pytest.raises(ValueError, match="seed 0 in the store, 1 asked for"):
        next(plan_sweep(cells, Machine(), tmp_path / "sweep.zarr"))
    with pytest.raises(ValueError, match="memory: expected at least"):
        next(plan_sweep(cells, Machine(memory=1000), tmp_path / "new.zarr"))


def test_chunks_are_whole_tiles_of_every_device():
    (prepared,) = prepare(signs_spec()).prepared.values()
    tile = prepared.shape.tile_size
    devices = jax.local_devices()[:1]
    for chunk, calls in ((1, 1), (tile, 1), (3 * tile - 1, 2), (10 * tile, 10)):
        machine = Machine(tuple(devices), chunk_size=chunk)
        assert machine.load_of(prepared, 10**9).calls_under_way == calls
    load = Machine(tuple(devices), chunk_size=10 * tile, tiles_at_once=2).load_of(prepared, 10**9)
    assert (load.tiles_at_once, load.call_size, load.calls_under_way) == (2, 2 * tile, 5)


class Accelerator(NamedTuple):
    """What a machine asks of a device before it compiles anything for it."""

    platform: str = "gpu"


@pytest.mark.parametrize(
    ("memory", "num_inits", "chunk", "expected"),
    [
        (2**34, 10**9, None, 128),  # as many as make a GPU fast
        (2**34, 10 * 131072, None, 16),  # no more than there are, in a power of two
        (2**34, 1, None, 1),
        (2**34, 10**9, 4 * 131072, 4),
        (2**27, 10**9, None, 8),
        (1, 10**9, None, 1),
    ],
)
def test_an_accelerator_computes_as_many_tiles_at_once_as_suit_it(
    memory, num_inits, chunk, expected
):
    (prepared,) = prepare(signs_spec()).prepared.values()
    assert prepared.shape.tile_size == 131072
    machine = Machine((Accelerator(),), chunk_size=chunk)
    assert machine._suitable_tiles(prepared, num_inits, memory) == expected
    two = Machine((Accelerator(), Accelerator()), chunk_size=chunk)
    assert two._suitable_tiles(prepared, num_inits, 2 * memory) <= expected


def test_tiles_at_once_are_halved_until_they_fit(monkeypatch):
    (prepared,) = prepare(signs_spec()).prepared.values()
    one = Machine(tuple(jax.local_devices()[:1]), tiles_at_once=1).load_of(prepared, 10**9)
    needed = one.program.memory.total
    machine = Machine(one.program.devices, memory=3 * needed, tiles_at_once=8)
    monkeypatch.setattr(sampling, "check_memory", lambda shape, memory: None)
    load = machine.load_of(prepared, 10**9)
    assert load.tiles_at_once in (1, 2)
    assert load.program.memory.total <= 3 * needed
