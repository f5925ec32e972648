import numpy as np
import pytest
from bench.layer import measure, systems
from bench.layer.cases import PASSES
from bench.layer.reference import WrongResultError
from bench.layer.systems import JRAPH, OURS, PYG_EAGER, SEGMENTS
from bench_inputs import NUMBERS, small_problem

SMALL_SETTINGS = {name: measure.SETTINGS[name] for name in (OURS, SEGMENTS, JRAPH)}


def wrong_system(problem, name, setting):
    """Jraph's with a gradient that is off by a thousandth of its largest value."""
    system = systems.make_jraph(problem)

    def read(of, result):
        found = system.read(of, result)
        if of == "forward+backward":
            found["a_send"] = found["a_send"] + 1e-3 * np.abs(found["a_send"]).max()
        return found

    return system._replace(read=read)


@pytest.mark.slow
def test_a_wrong_peer_is_named_and_not_timed():
    def make(problem, name, setting):
        choose = wrong_system if name == JRAPH else measure.make_system
        return choose(problem, name, setting)

    settings = {name: SMALL_SETTINGS[name] for name in (OURS, JRAPH)}
    entries = measure.measure_case(small_problem(), settings, 1, 1e10, make)
    wrong = [entry for entry in entries if entry["system"] == JRAPH]
    assert len(wrong) == 2
    for entry in wrong:
        assert "expected a relative error up to 0.0001, got 0.001 in a_send" in entry["failure"]
        assert all(entry[name] is None for name in (*NUMBERS, "peak_mib"))
    assert all(entry["median_seconds"] > 0 for entry in entries if entry["system"] != JRAPH)


def test_ours_being_wrong_ends_the_run():
    with pytest.raises(WrongResultError, match=r"gat_jax: expected .* in a_send"):
        measure.measure_case(small_problem(), {OURS: ("",)}, 1, 1e10, wrong_system)


@pytest.mark.torch
@pytest.mark.slow
def test_entries_are_complete_and_finite():
    layer = "GATv2 8x16"  # which jraph lacks
    settings = SMALL_SETTINGS | {PYG_EAGER: measure.SETTINGS[PYG_EAGER]}
    entries = measure.measure_case(small_problem(layer), settings, 2, 1e10)
    timed = [entry for entry in entries if "failure" not in entry]
    failed = {entry["system"] for entry in entries if "failure" in entry}
    assert failed == {JRAPH}
    assert len(entries) == 2 * len(settings)
    for entry in timed:
        assert all(np.isfinite(entry[name]) and entry[name] >= 0 for name in NUMBERS)
        assert len(entry["seconds"]) == 2
        assert entry["throughput"] == pytest.approx(300 / entry["median_seconds"])
        if entry["system"] == PYG_EAGER:
            assert set(entry["settings_tried"]) == set(measure.SETTINGS[PYG_EAGER])
    ours = [entry for entry in timed if entry["system"] == OURS]
    assert [entry["pass"] for entry in ours] == list(PASSES)
    for entry in ours:
        assert entry["ratio_to_peer"] == 1
        for name in ("compile_seconds", "temporary_mib", "bound_seconds", "prepare_seconds"):
            assert np.isfinite(entry[name])


@pytest.mark.slow
def test_a_pass_backward_includes_the_outputs():
    problem = small_problem()
    system = systems.make_ours(problem, OURS)
    outputs = system.read("forward", system.run["forward"]())["outputs"]
    expected = np.sum(outputs.astype(np.float64) * problem.cotangent)
    np.testing.assert_allclose(system.run["forward+backward"]()[0], expected, rtol=1e-4)
