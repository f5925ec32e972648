"""Measure the cases of the benchmark of layers, in the process that asks for it."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bench import common
from bench.common import BY_RECEIVER, BY_SENDER, EDGE_INDEX
from bench.layer import cases, reference, systems
from bench.layer.cases import LAYERS, PASSES, Pass, Problem
from bench.layer.systems import (
    DENSE_FEATURES,
    JRAPH,
    LAYOUTS,
    OURS,
    PYG_COMPILED,
    PYG_EAGER,
    SEGMENTS,
    System,
)
from gat_jax.kernels import layouts

# Settings of each system to try; the fastest is measured.
SETTINGS: dict[str, tuple[str, ...]] = {
    OURS: ("",),
    DENSE_FEATURES: ("",),
    SEGMENTS: ("",),
    PYG_EAGER: (BY_SENDER, BY_RECEIVER, EDGE_INDEX),
    PYG_COMPILED: (BY_RECEIVER, EDGE_INDEX),
    JRAPH: (BY_RECEIVER,),
}


# --- one case -----------------------------------------------------------------------------------


class Chosen(NamedTuple):
    """A system at its fastest setting."""

    system: System
    setting: str
    tried: dict[str, Any]  # seconds forward and backward by setting, or why it failed
    errors: dict[Pass, float]


def make_system(problem: Problem, name: str, setting: str) -> System:
    """Make a system by its name."""
    if name in LAYOUTS:
        return systems.make_ours(problem, name)
    if name == JRAPH:
        return systems.make_jraph(problem)
    from bench.layer import pyg  # torch is an extra

    return pyg.make_pyg(problem, setting, is_compiled=name == PYG_COMPILED)


def measure_case(
    problem: Problem,
    settings: Mapping[str, Sequence[str]],
    repeats: int,
    bandwidth: float,
    make: Callable[[Problem, str, str], System] = make_system,
) -> list[dict[str, Any]]:
    """Check all systems against float64, then time those that are right, in turns.

    Args:
      problem: what all of them compute.
      settings: by name of the system; ours, the first, is what the others are compared with.
      repeats: rounds.
      bandwidth: bytes per second, for the bound.
      make: as `make_system`.

    Returns:
      One entry per pass and system; for a system that failed or is wrong one with the reason.

    Raises:
      WrongResultError: if one of ours is wrong.
    """
    expected = reference.expected(problem)
    chosen, failed = {}, {}
    for name in settings:
        if name == DENSE_FEATURES and problem.has_learned_x:
            continue
        found = _fastest(problem, name, settings[name], expected, make)
        (chosen if isinstance(found, Chosen) else failed)[name] = found
    del expected
    preparation = measure_preparation(problem)
    entries = []
    for of in PASSES:
        timed = _time_pass(problem, of, chosen, repeats)
        timed[0] |= _compare(problem, of, timed, preparation, bandwidth)
        entries += timed
        for name, tried in failed.items():
            failure = {"settings_tried": tried, "failure": "; ".join(dict.fromkeys(tried.values()))}
            entries.append(_entry(problem, of, name) | failure)
    return entries


def _time_pass(
    problem: Problem, of: Pass, chosen: Mapping[str, Chosen], repeats: int
) -> list[dict[str, Any]]:
    times = common.interleave({n: c.system.run[of] for n, c in chosen.items()}, repeats)
    entries = []
    for name, choice in chosen.items():
        entries.append(
            _entry(problem, of, name)
            | {
                "setting": choice.setting,
                "settings_tried": choice.tried,
                **common.timing(times[name], times[OURS], len(problem.senders)),
                "max_relative_error": choice.errors[of],
                "peak_mib": planned_peak_mib(choice.system.extras.get(of, {})),
                **choice.system.extras.get(of, {}),
            }
        )
    return entries


def _compare(
    problem: Problem, of: Pass, timed: list[dict[str, Any]], preparation, bandwidth: float
) -> dict[str, Any]:
    """Return what our entry, the first, has beyond the others': its bound and what it cost."""
    seconds = {entry["system"]: entry["median_seconds"] for entry in timed}
    bound = cases.bytes_to_move(problem, of) / bandwidth
    numbers = {"bound_seconds": bound, "times_bound": seconds[OURS] / bound, **preparation}
    if of == "forward+backward" and SEGMENTS in seconds:
        saved = seconds[SEGMENTS] - seconds[OURS]
        steps = preparation["prepare_seconds"] / saved if saved > 0 else None
        numbers["prepare_in_steps_saved"] = steps  # None: it never pays
    return numbers


def _entry(problem: Problem, of: Pass, name: str) -> dict[str, Any]:
    graph, layer = problem.name.split(", ")
    numbers = ("median_seconds", "throughput", "ratio_to_peer", "max_relative_error", "peak_mib")
    return {
        "case": f"{problem.name}, {of}",
        "system": name,
        **dict.fromkeys(numbers),
        "graph": graph,
        "layer": layer,
        "pass": of,
        "nodes": len(problem.x),
        "edges": len(problem.senders),
    }


def _fastest(
    problem: Problem, name: str, settings: Sequence[str], expected, make
) -> Chosen | dict[str, Any]:
    """Return the system at the setting that is fastest forward and backward, or why none works."""
    best, tried = None, {}
    for setting in settings:
        try:
            system = make(problem, name, setting)
            errors = check(system, name, expected)
        except Exception as error:
            if name in LAYOUTS:
                raise
            # Whatever a peer's compiler raises is its own failure, and goes into the results.
            tried[setting] = common.reason(error)
            continue
        if len(settings) == 1:
            return Chosen(system, setting, {}, errors)
        run = {"": system.run["forward+backward"]}
        tried[setting] = common.interleave(run, 1)[""][0]
        if best is None or tried[setting] < tried[best.setting]:
            best = Chosen(system, setting, tried, errors)
    return tried if best is None else best


def check(system: System, name: str, expected) -> dict[Pass, float]:
    """Compare a system's outputs and gradients with the reference; returns the errors.

    Raises:
      WrongResultError: if it computes something else.
    """
    return {
        of: reference.check(name, system.read(of, system.run[of]()), expected[of]) for of in PASSES
    }


def measure_preparation(problem: Problem) -> dict[str, Any]:
    """Time making our layout, both directions, and say which one it is and why."""
    name, why = layouts.choose(len(problem.senders))
    graph, seconds = systems.make_graph(problem), []
    layout = layouts.make_layout(graph, name)
    for _ in range(3):
        start = time.perf_counter()
        layout = layouts.make_layout(graph, name)
        seconds.append(time.perf_counter() - start)
    return {
        "layout": f"{name}: {why}",
        "layout_description": layouts.describe(layout),
        "prepare_seconds": statistics.median(seconds),
    }


# --- memory -------------------------------------------------------------------------------------


def measure_memory(folder: str, name: str, setting: str) -> dict[str, float]:
    """Return the peak of each pass of one system, in this process."""
    system = make_system(Problem.load(Path(folder)), name, setting)
    measure = common.extra_peak_mib
    if common.is_on_gpu():
        from bench import pyg

        measure = pyg.extra_peak_mib
    return {of: measure(system.run[of]) for of in PASSES}


def planned_peak_mib(numbers: Mapping[str, float]) -> float | None:
    """Return what a program of XLA takes on a GPU beyond its inputs, from its plan; else None."""
    if not common.is_on_gpu() or "temporary_mib" not in numbers:
        return None
    return numbers["temporary_mib"] + numbers["output_mib"]


# --- growth -------------------------------------------------------------------------------------


def measure_growth(repeats: int, *, is_small: bool) -> list[dict[str, Any]]:
    """Time GAT 8x16 forward and backward on power-law graphs of mean degree 15.

    Up to 1e6 edges segments are timed too, and both must agree; beyond they need too much memory.

    Raises:
      WrongResultError: if they do not.
    """
    sizes = (1_000, 10_000) if is_small else (10_000, 30_000, 100_000, 300_000, 1_000_000)
    sizes += () if is_small else (3_000_000, 10_000_000)
    of: Pass = "forward+backward"
    rows = []
    for num_edges in sizes:
        edges = cases.power_law_graph(0, num_edges // 15, num_edges)
        problem = cases.make_problem("growth", LAYERS["GAT 8x16"], edges)
        names = (OURS, SEGMENTS) if num_edges <= 1_000_000 else (OURS,)
        made = {name: systems.make_ours(problem, name) for name in names}
        results = [system.read(of, system.run[of]()) for system in made.values()]
        for result in results[1:]:
            reference.check(OURS, results[0], result)
        times = common.interleave({n: s.run[of] for n, s in made.items()}, repeats)
        rows += [
            {
                "edges": len(problem.senders),
                "nodes": len(problem.x),
                "system": name,
                "median_seconds": statistics.median(seconds),
                "ns_per_edge": 1e9 * statistics.median(seconds) / len(problem.senders),
            }
            for name, seconds in times.items()
        ]
    return rows
