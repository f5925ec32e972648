import dataclasses
import io
import json
import subprocess
import sys

import benchmark
import numpy as np
import pytest
from bench import common as bench_common
from bench import layer as benchmark_layer
from bench import (
    layer_cases,
    layer_measure,
    layer_reference,
    layer_report,
    layer_systems,
    layer_workers,
)
from bench.layer_cases import PASSES, Problem
from bench.layer_reference import WrongResultError
from bench.layer_systems import JRAPH, OURS, PYG_EAGER, SEGMENTS
from rich.console import Console

NUMBERS = ("median_seconds", "throughput", "ratio_to_peer", "max_relative_error")
SMALL_SETTINGS = {name: layer_measure.SETTINGS[name] for name in (OURS, SEGMENTS, JRAPH)}


def small_problem(layer="GAT 8x16", num_nodes=40, num_edges=300) -> Problem:
    edges = layer_cases.power_law_graph(0, num_nodes, num_edges)
    return layer_cases.make_problem(f"arxiv-like, {layer}", layer_cases.LAYERS[layer], edges)


def write_cora(folder, num_nodes=30):
    """A stand-in: a ring, two of six words in every row, three classes."""
    rng = np.random.default_rng(0)
    ring = np.arange(num_nodes)
    pairs = np.stack([ring, (ring + 1) % num_nodes])
    senders, receivers = np.concatenate([pairs, pairs[::-1]], axis=1).astype(np.int32)
    np.savez(
        folder / "cora.npz",
        num_nodes=np.int32(num_nodes),
        feat_indptr=np.arange(0, 2 * num_nodes + 1, 2, dtype=np.int32),
        feat_indices=(np.repeat(ring, 2) + np.tile([0, 3], num_nodes)).astype(np.int32) % 6,
        feat_data=rng.uniform(0.5, 1, 2 * num_nodes).astype(np.float32),
        feat_shape=np.array([num_nodes, 6], np.int32),
        labels=(ring % 3).astype(np.int32),
        labelled=np.ones(num_nodes, bool),
        train_idx=np.arange(9, dtype=np.int32),
        senders=senders,
        receivers=receivers,
    )


# --- graphs and problems ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "edges",
    [
        layer_cases.power_law_graph(0, 500, 6_000),
        layer_cases.hub_graph(0, 500, 6_000, [100, 450]),
    ],
)
def test_graphs_have_their_size_both_directions_and_loops(edges):
    senders, receivers, num_nodes = edges
    assert (num_nodes, len(senders)) == (500, 6_000)
    pairs = set(zip(senders.tolist(), receivers.tolist(), strict=True))
    assert len(pairs) == 6_000
    assert {(b, a) for a, b in pairs} == pairs
    assert {(i, i) for i in range(500)} <= pairs
    np.testing.assert_array_equal(np.lexsort((senders, receivers)), np.arange(6_000))


def test_hub_graph_has_its_hubs():
    _, receivers, num_nodes = layer_cases.hub_graph(0, 500, 6_000, [100, 450])
    degrees = np.sort(np.bincount(receivers, minlength=num_nodes))
    assert degrees[-1] >= 450
    assert degrees[-2] >= 100
    assert np.median(degrees) < 20


@pytest.mark.parametrize("layer", list(layer_cases.LAYERS))
def test_scores_of_problems_are_exact_in_float32_and_never_zero(layer):
    problem = small_problem(layer)

    def scores(dtype):
        params = {name: array.astype(dtype) for name, array in problem.params.items()}
        x = problem.x.astype(dtype)
        if "kernel" in params:
            z = np.einsum("nf,fhc->nhc", x, params["kernel"])
            c, n = ((z * params[a]).sum(axis=-1) for a in ("a_recv", "a_send"))
        else:
            c, n = (np.einsum("nf,fhc->nhc", x, params[f"kernel_{a}"]) for a in ("recv", "send"))
        return c[problem.receivers] + n[problem.senders]

    exact = scores(np.float64)
    np.testing.assert_array_equal(scores(np.float32), exact)
    assert np.abs(exact).min() > 0
    assert {True, False} == set(np.unique(exact > 0))


def test_problems_survive_the_way_to_another_process(tmp_path):
    problem = small_problem("GATv2 8x16")
    problem.save(tmp_path)
    loaded = Problem.load(tmp_path)
    assert loaded.layer == problem.layer
    for field in ("senders", "receivers", "x", "cotangent"):
        np.testing.assert_array_equal(getattr(loaded, field), getattr(problem, field))
    assert loaded.params.keys() == problem.params.keys()


@pytest.mark.parametrize(("layer", "words"), [("GAT 8x16", (137, 282)), ("GATv2 8x16", (129, 531))])
def test_bytes_to_move_grow_with_edges_by_what_an_edge_fetches(layer, words):
    few, many = small_problem(layer, 40, 300), small_problem(layer, 40, 400)
    for of, expected in zip(PASSES, words, strict=True):
        grown = layer_cases.bytes_to_move(many, of) - layer_cases.bytes_to_move(few, of)
        assert grown == 4 * expected * 100


# --- reference and check ------------------------------------------------------------------------


@pytest.mark.parametrize("layer", list(layer_cases.LAYERS))
def test_reference_gradients_are_differences_of_its_outputs(layer):
    problem = small_problem(layer, 12, 60)
    grads = layer_reference.expected(problem)["forward+backward"]
    rng = np.random.default_rng(1)

    def loss(changed):
        outputs = layer_reference.expected(changed)["forward"]["outputs"]
        return (outputs * problem.cotangent.astype(np.float64)).sum()

    for name, grad in grads.items():
        array = (problem.x if name == "x" else problem.params[name]).astype(np.float64)
        direction = rng.standard_normal(array.shape)
        losses = []
        for sign in (1, -1):  # far from the kink, where no score is
            moved = array + sign * 1e-6 * direction
            fields = {"x": moved} if name == "x" else {"params": problem.params | {name: moved}}
            losses.append(loss(dataclasses.replace(problem, **fields)))
        np.testing.assert_allclose((losses[0] - losses[1]) / 2e-6, (grad * direction).sum(), 1e-5)


def wrong_system(problem, name, setting):
    """Jraph's with a gradient that is off by a thousandth of its largest value."""
    system = layer_systems.make_jraph(problem)

    def read(of, result):
        found = system.read(of, result)
        if of == "forward+backward":
            found["a_send"] = found["a_send"] + 1e-3 * np.abs(found["a_send"]).max()
        return found

    return system._replace(read=read)


@pytest.mark.slow
def test_a_wrong_peer_is_named_and_not_timed():
    def make(problem, name, setting):
        choose = wrong_system if name == JRAPH else layer_measure.make_system
        return choose(problem, name, setting)

    entries = layer_measure.measure_case(small_problem(), SMALL_SETTINGS, 1, 1e10, make)
    wrong = [entry for entry in entries if entry["system"] == JRAPH]
    assert len(wrong) == 2
    for entry in wrong:
        assert "expected a relative error up to 0.0001, got 0.001 in a_send" in entry["failure"]
        assert all(entry[name] is None for name in (*NUMBERS, "peak_mib"))
    assert all(entry["median_seconds"] > 0 for entry in entries if entry["system"] != JRAPH)


def test_ours_being_wrong_ends_the_run():
    with pytest.raises(WrongResultError, match=r"gat_jax: expected .* in a_send"):
        layer_measure.measure_case(small_problem(), {OURS: ("",)}, 1, 1e10, wrong_system)


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ({}, "expected outputs of shape"),
        ({"outputs": np.ones((2, 2))}, "expected outputs of shape"),
        ({"outputs": np.array([1.0, np.nan])}, "got nan in outputs"),
        ({"outputs": np.array([1.0, 2.1])}, "got 0.05 in outputs"),
    ],
)
def test_check_refuses(found, message):
    with pytest.raises(WrongResultError, match=message):
        layer_reference.check("it", found, {"outputs": np.array([1.0, 2.0])})


# --- measuring ----------------------------------------------------------------------------------


@pytest.mark.torch
@pytest.mark.slow
def test_entries_are_complete_and_finite():
    layer = "GATv2 8x16"  # which jraph lacks
    settings = SMALL_SETTINGS | {PYG_EAGER: layer_measure.SETTINGS[PYG_EAGER]}
    entries = layer_measure.measure_case(small_problem(layer), settings, 2, 1e10)
    timed = [entry for entry in entries if "failure" not in entry]
    failed = {entry["system"] for entry in entries if "failure" in entry}
    assert failed == {JRAPH}
    assert len(entries) == 2 * len(settings)
    for entry in timed:
        assert all(np.isfinite(entry[name]) and entry[name] >= 0 for name in NUMBERS)
        assert len(entry["seconds"]) == 2
        assert entry["throughput"] == pytest.approx(300 / entry["median_seconds"])
        if entry["system"] == PYG_EAGER:
            assert set(entry["settings_tried"]) == set(layer_measure.SETTINGS[PYG_EAGER])
    ours = [entry for entry in timed if entry["system"] == OURS]
    assert [entry["pass"] for entry in ours] == list(PASSES)
    for entry in ours:
        assert entry["ratio_to_peer"] == 1
        for name in ("compile_seconds", "temporary_mib", "bound_seconds", "prepare_seconds"):
            assert np.isfinite(entry[name])


def test_a_pass_backward_includes_the_outputs():
    problem = small_problem()
    system = layer_systems.make_ours(problem, OURS)
    outputs = system.read("forward", system.run["forward"]())["outputs"]
    expected = np.sum(outputs.astype(np.float64) * problem.cotangent)
    np.testing.assert_allclose(system.run["forward+backward"]()[0], expected, rtol=1e-4)


def test_interleave_takes_turns_and_repeats_brief_calls():
    calls = []
    runs = {name: lambda name=name: calls.append(name) for name in "ab"}
    times = bench_common.interleave(runs, 3, least_seconds=0.0)
    assert "".join(calls)[-12:] == 3 * "aabb"  # of two calls in a turn the second is timed
    assert {name: len(x) for name, x in times.items()} == {"a": 3, "b": 3}
    assert bench_common.ratio([2.0, 9.0, 4.0], [1.0, 1.0, 1.0]) == 4.0


def test_extra_peak_is_what_a_call_allocates():
    blocks = []
    peak = bench_common.extra_peak_mib(lambda: blocks.append(np.ones(8 * 2**20)[0]))
    assert 60 < peak < 80  # 64 MiB, given back at once


@pytest.mark.slow
def test_main_writes_entries_a_figure_and_tables(tmp_path, monkeypatch, capsys):
    def call(worker, request, environment):
        request = json.loads(json.dumps(request))
        return json.loads(json.dumps(layer_workers.WORKERS[worker](**request)))

    settings = {OURS: ("",), layer_systems.DENSE_FEATURES: ("",), SEGMENTS: ("",)}
    monkeypatch.setattr(layer_workers, "call", call)
    monkeypatch.setattr(layer_measure, "SETTINGS", settings)
    write_cora(tmp_path)
    path = tmp_path / "layer.json"
    options = ["--small", "--repeats", "1", "--no-huge-pages", "--no-training", "--only", "8x8"]
    options += ["--data-dir", str(tmp_path), "--json", str(path)]
    assert benchmark.main(["layer", *options]) == 0
    document = json.loads(path.read_text())
    assert {entry["case"] for entry in document["entries"]} == {
        f"Cora, GAT 8x8, {of}" for of in PASSES
    }
    assert len(document["entries"]) == 2 * len(settings)
    for entry in document["entries"]:
        assert entry["environment"] == "default"
        assert all(np.isfinite(entry[name]) for name in (*NUMBERS, "peak_mib"))
    assert [row["edges"] for row in document["growth"]] == [1_000, 1_000, 10_000, 10_000]
    assert document["machine"]["version_jax"]
    assert path.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    out = capsys.readouterr().out
    assert "Targets" in out.split("Growth")[1]
    assert "not measured" in out


@pytest.mark.torch
@pytest.mark.slow
def test_a_small_run_measures_every_system_in_processes_of_their_own(tmp_path):
    write_cora(tmp_path)
    path = tmp_path / "layer.json"
    options = ["--small", "--repeats", "1", "--only", "Cora", "--data-dir", str(tmp_path)]
    command = [sys.executable, benchmark.__file__, "layer", *options, "--json", str(path)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    document = json.loads(path.read_text())
    tunables = {name: x["GLIBC_TUNABLES"] for name, x in document["environments"].items()}
    assert tunables == {"default": "", "huge pages": "glibc.malloc.hugetlb=1"}
    entries = [e for e in document["entries"] if e["case"] != layer_report.TRAINING]
    assert {e["system"] for e in entries} == set(layer_measure.SETTINGS)
    for entry in entries:
        if entry["system"] == layer_systems.PYG_COMPILED and "failure" in entry:
            continue  # where there is no compiler
        assert all(np.isfinite(entry[name]) for name in NUMBERS)
        assert (entry["peak_mib"] is not None) == (entry["environment"] == "default")
    trainings = [e for e in document["entries"] if e["case"] == layer_report.TRAINING]
    assert len(trainings) == 6
    assert all(np.isfinite(entry[name]) for entry in trainings for name in NUMBERS)


# --- targets ------------------------------------------------------------------------------------


def synthetic_document(ratio, peaks, prepare_seconds=0.5):
    """One case in two environments, in the second of which the peer failed."""
    case = layer_report.GAT
    entries = [
        {"system": OURS, "peak_mib": peaks[0], "ratio_to_peer": 1.0, "median_seconds": 1.0},
        {"system": PYG_EAGER, "peak_mib": peaks[1], "ratio_to_peer": ratio, "median_seconds": 9.0},
    ]
    entries[0] |= {"compile_seconds": 11.0, "prepare_seconds": prepare_seconds}
    entries[0] |= {"prepare_in_steps_saved": None, "temporary_mib": 1.0, "layout": "bucketed: so"}
    entries[0] |= {"bound_seconds": 0.1, "times_bound": 10.0}
    shared = {"case": case, "graph": "arxiv-like", "pass": "forward+backward"}
    shared |= {"max_relative_error": 1e-6, "environment": "default"}
    entries = [shared | entry for entry in entries]
    broken = {"environment": "huge pages", "ratio_to_peer": None, "median_seconds": None}
    entries.append(entries[1] | broken | {"peak_mib": None, "failure": "no memory"})
    growth = {"edges": 1_000, "nodes": 60, "median_seconds": 1.0, "ns_per_edge": 10.0}
    growth |= {"system": OURS, "environment": "default"}
    environments = {"default": {}, "huge pages": {}}
    document = {"entries": entries, "environments": environments, "growth": [growth], "notes": []}
    return document | {"machine": {"backend": "cpu"}}


def verdicts(document):
    rows = layer_report.judge(document)
    return {(r["case"], r["peer"], r["measure"]): r["is_met"] for r in rows}


def test_targets_are_met_or_not_by_what_was_measured():
    case = layer_report.GAT
    met = verdicts(synthetic_document(7.0, (100.0, 600.0)))
    assert met[case, PYG_EAGER, "ratio_to_peer"] == {"default": True, "huge pages": None}
    assert met[case, PYG_EAGER, "memory"] == {"default": True, "huge pages": None}
    assert met[case, OURS, "compile_seconds"]["default"] is False
    assert met[case, OURS, "prepare_seconds"]["default"] is True
    assert met[case, OURS, "prepare_in_steps_saved"] == {"default": False, "huge pages": None}
    missed = verdicts(synthetic_document(6.9, (100.0, 599.0), prepare_seconds=2.1))
    assert missed[case, PYG_EAGER, "ratio_to_peer"]["default"] is False
    assert missed[case, PYG_EAGER, "memory"]["default"] is False
    assert missed[case, OURS, "prepare_seconds"]["default"] is False
    assert missed[layer_report.TRAINING, layer_report.PYG_IN_TURN, "ratio_to_peer"] == {
        "default": None,
        "huge pages": None,
    }


def test_tables_and_figure_show_verdicts_and_failures():
    document = synthetic_document(6.9, (100.0, 600.0))
    document["targets"] = layer_report.judge(document)
    console = Console(width=140, record=True, file=io.StringIO())
    for table in layer_report.tables(document):
        console.print(table)
    text = console.export_text()
    assert "6.9 not met" in text
    assert "6 met" in text
    assert "not measured" in text
    assert "no memory" in text
    assert "never not met" in text
    assert text.index("Targets") > text.index("Growth")
    assert len(layer_report.draw(document).axes) == 2
    document["growth"] = []
    layer_report.draw(document)


def test_fastest_pyg_is_the_one_that_we_lead_least():
    document = synthetic_document(6.9, (1.0, 6.0))
    compiled = document["entries"][1] | {"system": layer_systems.PYG_COMPILED}
    document["entries"].append(compiled | {"ratio_to_peer": 3.5})
    assert layer_report.fastest_pyg(document, "default", layer_report.GAT) == 3.5
    assert layer_report.fastest_pyg(document, "huge pages", layer_report.GAT) is None


# --- bad input ----------------------------------------------------------------------------------


@pytest.mark.torch
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "benchmark: expected one of sweep, layer, got nothing"),
        (["layers"], "benchmark: expected one of sweep, layer, got layers"),
        (["layer", "--repeats", "0"], "repeats: expected at least 1, got 0"),
        (["layer", "--only", "Cora, GAT 9x9"], "only: expected part of one of arxiv-like"),
        (["layer", "--json", "layer.png"], "json: expected a file that ends in .json"),
        (["layer", "--json", "bad.npz/layer.json"], "out: expected a folder to write to"),
        (["layer", "--data-dir", "data"], "cora.npz: expected a graph as .npz"),
        (["layer", "--smal"], "--smal"),
    ],
)
def test_bad_input_is_one_line(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.npz").write_text("")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "cora.npz").write_text("no graph")
    with pytest.raises(SystemExit) as stop:
        benchmark.main(arguments)
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_torch_being_absent_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(benchmark_layer.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit) as stop:
        benchmark.main(["layer"])
    assert stop.value.code == 2
    assert "torch: expected to be installed" in capsys.readouterr().err
