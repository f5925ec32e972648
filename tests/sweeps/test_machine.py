"""What a sweep is computed on: what is refused, how it is shared, who computes."""

import jax
import pytest
from sweep_runs import signs_spec

from gat_jax import sampling
from gat_jax.sweeps import Machine, machine, prepare

DEVICE = jax.local_devices()[0]


class Accelerator:
    """A device that is no CPU."""

    platform = "gpu"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"devices": ()}, "devices: expected at least 1, got none"),
        ({"chunk_size": 0}, "chunk_size: expected at least 1, got 0"),
        ({"tiles_at_once": 0}, "tiles_at_once: expected at least 1, got 0"),
        ({"executor": "dask"}, "executor: expected one of auto, thread, process, got 'dask'"),
        ({"scheduler": " "}, "scheduler: expected an address or local, got an empty text"),
        (
            {"scheduler": "local", "executor": "thread"},
            "executor: expected none beside a scheduler, got thread",
        ),
        (
            {"devices": (Accelerator(),), "executor": "process"},
            "executor: expected thread on a gpu, got process",
        ),
        (
            {"devices": (Accelerator(),), "scheduler": "local"},
            "scheduler: expected an address, its workers with one gpu each, got local",
        ),
    ],
)
def test_a_machine_that_computes_nothing_is_refused(unchecked, fields, message):
    with pytest.raises(ValueError, match=message):
        Machine(**fields)


@pytest.mark.parametrize(
    ("devices", "wish", "seconds", "expected"),
    [
        ((DEVICE, DEVICE), "auto", machine.WORTH_PROCESSES, "process"),
        ((DEVICE, DEVICE), "auto", machine.WORTH_PROCESSES - 0.1, "thread"),
        ((DEVICE,), "auto", 1e9, "thread"),
        ((Accelerator(), Accelerator()), "auto", 1e9, "thread"),
        ((DEVICE, DEVICE), "thread", 1e9, "thread"),
        ((DEVICE,), "process", 0.0, "process"),
    ],
)
def test_processes_are_chosen_where_they_are_worth_their_start(devices, wish, seconds, expected):
    chosen = Machine(devices, executor=wish).chosen(seconds)
    assert chosen.executor == expected
    assert chosen.num_processes == (len(devices) if expected == "process" else 1)
    assert Machine(devices, scheduler="there").chosen(seconds).executor == "auto"


def test_one_of_several_distributed_processes_starts_no_others(monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    assert Machine((DEVICE, DEVICE)).chosen(1e9).executor == "thread"


def test_processes_share_devices_chunk_and_memory():
    whole = Machine((DEVICE,) * 3, chunk_size=3000, memory=9000, executor="process")
    one = whole.of_one_process()
    assert (len(one.devices), one.chunk_size, one.memory_limit) == (1, 1000, 3000)
    assert whole.memory_limit == 9000
    assert Machine((DEVICE,) * 3, executor="process", chunk_size=1).of_one_process().chunk_size == 1
    one = Machine((DEVICE,) * 2, executor="process").of_one_process()
    assert (one.chunk_size, one.memory_limit) == (None, sampling.memory_limit(None) // 2)
    alone = Machine((DEVICE,) * 3, memory=9000, executor="thread")
    assert alone.of_one_process() == alone
    # The memory of an accelerator is its own.
    assert Machine((Accelerator(),), memory=9000, num_sharing=3).memory_limit == 9000


def test_chunks_are_whole_tiles_of_every_device():
    (prepared,) = prepare(signs_spec()).prepared.values()
    tile = prepared.shape.tile_size
    for chunk, calls in ((1, 1), (tile, 1), (3 * tile - 1, 2), (10 * tile, 10)):
        load = Machine((DEVICE,), chunk_size=chunk).load_of(prepared, 10**9)
        assert (load.tiles_at_once, load.call_size, load.calls_under_way) == (1, tile, calls)
    load = Machine((DEVICE,), chunk_size=10 * tile, tiles_at_once=2).load_of(prepared, 10**9)
    assert (load.tiles_at_once, load.call_size, load.calls_under_way) == (2, 2 * tile, 5)


@pytest.mark.parametrize(
    ("memory", "num_inits", "chunk", "expected"),
    [
        (2**34, 10**9, None, 512),  # as many as make a GPU fast
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
    one = Machine((Accelerator(),), chunk_size=chunk, memory=memory)
    assert one._suitable_tiles(prepared, num_inits) == expected


def test_accelerators_share_the_tiles_that_there_are():
    (prepared,) = prepare(signs_spec()).prepared.values()
    two = Machine((Accelerator(), Accelerator()), memory=2**35)
    tile_size = prepared.shape.tile_size
    found = [two._suitable_tiles(prepared, number * tile_size) for number in (1, 10, 10**6)]
    assert found == [1, 8, 512]


def test_tiles_at_once_are_halved_until_they_fit(monkeypatch):
    (prepared,) = prepare(signs_spec()).prepared.values()
    needed = Machine((DEVICE,), tiles_at_once=1).load_of(prepared, 10**9).program.memory.total
    monkeypatch.setattr(sampling, "check_memory", lambda shape, memory: None)
    load = Machine((DEVICE,), memory=3 * needed, tiles_at_once=8).load_of(prepared, 10**9)
    assert load.tiles_at_once in (1, 2)
    assert load.program.memory.total <= 3 * needed
