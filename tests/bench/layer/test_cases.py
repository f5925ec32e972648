import numpy as np
import pytest
from bench.layer import cases
from bench.layer.cases import PASSES, Problem
from bench_inputs import small_problem


@pytest.mark.parametrize(
    "edges",
    [
        cases.power_law_graph(0, 500, 6_000),
        cases.hub_graph(0, 500, 6_000, [100, 450]),
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
    _, receivers, num_nodes = cases.hub_graph(0, 500, 6_000, [100, 450])
    degrees = np.sort(np.bincount(receivers, minlength=num_nodes))
    assert degrees[-1] >= 450
    assert degrees[-2] >= 100
    assert np.median(degrees) < 20


@pytest.mark.parametrize("layer", list(cases.LAYERS))
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
        grown = cases.bytes_to_move(many, of) - cases.bytes_to_move(few, of)
        assert grown == 4 * expected * 100
