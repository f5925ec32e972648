import numpy as np
from bench import common


def test_interleave_takes_turns_and_repeats_brief_calls():
    calls = []
    runs = {name: lambda name=name: calls.append(name) for name in "ab"}
    times = common.interleave(runs, 3, least_seconds=0.0)
    assert "".join(calls)[-12:] == 3 * "aabb"  # of two calls in a turn the second is timed
    assert {name: len(x) for name, x in times.items()} == {"a": 3, "b": 3}
    assert common.ratio([2.0, 9.0, 4.0], [1.0, 1.0, 1.0]) == 4.0


def test_extra_peak_is_what_a_call_allocates():
    blocks = []
    peak = common.extra_peak_mib(lambda: blocks.append(np.ones(8 * 2**20)[0]))
    assert 60 < peak < 80  # 64 MiB, given back at once
