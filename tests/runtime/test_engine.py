"""The engine runs any function: here a small one, whose results NumPy can compute."""

import copy
import itertools
import subprocess
import sys
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gat_jax.runtime import engine
from gat_jax.runtime.devices import default_devices

DEVICES = default_devices()[:1]


class Run(NamedTuple):
    number: int
    factor: float


def power_sum(static, inputs, tile):
    """A tree of results, of every kind of leaf that the engine meets."""
    power = static["power"] if isinstance(static, dict) else static
    total = jnp.sum(inputs["x"] ** power) * tile.factor + tile.number
    return {"total": total, "row": inputs["x"] * tile.number, "is_even": tile.number % 2 == 0}


def work(power=2, size=3, function=power_sum):
    x = np.arange(size, dtype=np.float32)
    return engine.Work(function, power, {"x": x}, Run(np.int32(0), np.float32(0)))


def one_by_one(calls):
    """Each tile with its values."""
    for tiles, values in calls:
        for k, tile in enumerate(tiles):
            yield tile, jax.tree.map(lambda x, k=k: x[k], values)


def add_up(trees):
    """The sum of trees, each a call of its own."""
    return engine.add_up(jax.tree.map(lambda x: np.asarray(x)[None], tree) for tree in trees)


@pytest.mark.parametrize(("at_once", "calls_under_way"), [(1, 1), (1, 2), (2, 16), (8, 1)])
def test_run_tiles_yields_every_result_in_order(at_once, calls_under_way):
    tiles = [Run(number, 0.5 * number) for number in (4, 0, 7, 5, 1)]
    options = {"tiles_at_once": at_once, "calls_under_way": calls_under_way}
    results = list(one_by_one(engine.run_tiles(work(), tiles, devices=DEVICES, **options)))
    assert [tile for tile, _ in results] == tiles
    for (number, factor), values in results:
        assert values["total"] == 5 * factor + number
        np.testing.assert_array_equal(values["row"], np.arange(3) * number)
        assert values["is_even"] == (number % 2 == 0)
        assert isinstance(values["row"], np.ndarray)


def test_run_tiles_reads_tiles_as_they_are_needed():
    read = []

    def endless():
        for number in itertools.count():
            read.append(number)
            yield Run(number, 1.0)

    results = one_by_one(engine.run_tiles(work(), endless(), devices=DEVICES, calls_under_way=2))
    assert [next(results)[0].number for _ in range(3)] == [0, 1, 2]
    assert len(read) <= 5


def test_run_tiles_of_nothing_is_nothing():
    assert list(engine.run_tiles(work(), [], devices=DEVICES)) == []


def test_run_tiles_refuses_to_have_no_call_under_way():
    with pytest.raises(ValueError, match="calls_under_way: expected at least 1, got 0"):
        next(engine.run_tiles(work(), [Run(0, 1.0)], devices=DEVICES, calls_under_way=0))


SCRIPT = """
import jax
import numpy as np
from gat_jax.runtime import devices, engine

devices.use_cores(3)
assert len(devices.default_devices()) == 3

def noise(static, inputs, tile):
    key = jax.random.fold_in(jax.random.wrap_key_data(inputs), tile)
    return jax.random.normal(key, (4,)).sum(), tile

work = engine.Work(noise, None, np.array([1, 2], np.uint32), np.uint32(0))
found = []
for count in (1, 2, 3):
    results = engine.run_tiles(work, range(7), devices=devices.default_devices()[:count])
    totals, numbers = map(np.concatenate, zip(*(values for _, values in results)))
    assert numbers.tolist() == list(range(7))
    found.append(totals.tobytes())
assert found[0] == found[1] == found[2]
print("same bits")
"""


def test_devices_that_tiles_do_not_fill_change_no_bit():
    """Seven tiles on one, two and three devices: the last group is never full."""
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True)
    assert done.stdout == "same bits\n", done.stderr


def test_programs_are_shared_by_what_differs_in_numbers_alone():
    def program(**options):
        return engine.Program.of(work(**options), DEVICES)

    first = program()
    doubled = work()._replace(inputs={"x": np.float32([5, 6, 7])})
    assert engine.Program.of(doubled, DEVICES) is first
    others = [program(power=3), program(size=4), program(function=lambda s, i, t: t.number)]
    assert len({id(x) for x in (first, *others)}) == 4
    with jax.enable_x64(True):
        assert program() is not first
    assert program() is first


def test_a_program_is_traced_once():
    chex.clear_trace_counter()
    function = chex.assert_max_traces(power_sum, n=1)
    for number in range(3):
        list(engine.run_tiles(work(function=function), [Run(number, 1.0)], devices=DEVICES))


def test_the_cache_of_programs_is_bounded():
    info = engine._compile.cache_info()
    assert info.maxsize == engine.MAX_PROGRAMS < 1000


def test_calls_within_leaves_room_for_what_runs():
    program = copy.copy(engine.Program.of(work(), DEVICES))
    assert program.memory.results >= 4 * 3 + 4 + 1  # a row, a total and a flag
    program.memory = engine.Memory(running=1000, results=100)
    assert [program.calls_within(size) for size in (1100, 1299, 1300)] == [1, 2, 3]
    assert program.calls_within(2**40) == engine.MAX_CALLS_UNDER_WAY
    with pytest.raises(ValueError, match=r"memory: expected at least .* MiB for one tile"):
        program.calls_within(1099)


def test_add_up_is_wide_and_keeps_the_order():
    big = [np.int32(2**31 - 1)] * 3
    small = np.float32([1.0, 1e-9, -1.0])
    trees = [{"n": n, "x": (x, np.full(2, x))} for n, x in zip(big, small, strict=True)]
    total = add_up(trees)
    assert total["n"] == 3 * (2**31 - 1)
    assert total["n"].dtype == np.int64
    expected = (np.float64(small[0]) + np.float64(small[1])) + np.float64(small[2])
    assert total["x"][0] == expected != add_up(trees[::2])["x"][0]
    np.testing.assert_array_equal(total["x"][1], [expected, expected])
    assert add_up([np.array([True, False])] * 2).tolist() == [2, 0]
    # Of other orders the sum would differ: 1e16 swallows a 1 that comes after it.
    assert add_up(np.float64([1.0, 1e16, -1e16])) == 0.0
    assert add_up(np.float64([1e16, -1e16, 1.0])) == 1.0


def test_adding_up_calls_gives_the_sums_of_single_tiles():
    rng = np.random.default_rng(0)
    counts = rng.integers(0, 2**31, (40, 3), dtype=np.int32)
    sums = rng.normal(size=40).astype(np.float32) * np.float32(10.0) ** rng.integers(-9, 9, 40)
    whole = {"counts": counts, "sums": sums}
    expected = add_up(jax.tree.map(lambda x, k=k: x[k], whole) for k in range(40))
    assert expected["sums"] != np.sum(np.float64(sums))  # an order of NumPy's own
    for borders in ([0, 40], [0, 1, 40], [0, 17, 18, 39, 40]):
        calls = [
            jax.tree.map(lambda x, i=i, k=k: x[i:k], whole) for i, k in itertools.pairwise(borders)
        ]
        found = engine.add_up(calls)
        assert found["sums"] == expected["sums"]
        np.testing.assert_array_equal(found["counts"], expected["counts"])


def test_parts_added_up_together_have_the_sums_that_each_has_alone():
    rng = np.random.default_rng(0)
    whole = {
        "counts": rng.integers(0, 2**31, (12, 3), dtype=np.int32),
        "sums": rng.normal(size=12).astype(np.float32)
        * np.float32(10.0) ** rng.integers(-9, 9, 12),
        "none": None,
    }

    def part(first, stop):
        return jax.tree.map(lambda x: x[first:stop], whole)

    for number, borders in ((4, [0, 12]), (3, [0, 12]), (12, [0, 12]), (1, [0, 5, 6, 12])):
        calls = [part(first, stop) for first, stop in itertools.pairwise(borders)]
        found = engine.add_up_each(calls, number)
        length = 12 // number
        for place in range(number):
            expected = engine.add_up([part(place * length, (place + 1) * length)])
            assert found["sums"][place] == expected["sums"]
            np.testing.assert_array_equal(found["counts"][place], expected["counts"])
        assert found["counts"].dtype == np.int64
        assert found["sums"].dtype == np.float64


def test_add_up_refuses_nothing():
    with pytest.raises(ValueError, match="results: expected at least one to add, got none"):
        engine.add_up(iter([]))
