"""The six sums: spelled alike by every backend, chosen in one place, equal to sums over edges."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_close, messy_graph

from gat_jax.kernels import contract, layouts
from gat_jax.kernels.edge_list import sums as edge_list_sums
from gat_jax.kernels.triton import sums as triton_sums
from gat_jax.kernels.xla import sums as xla_sums

BACKENDS = {"segment": edge_list_sums, "bucketed": xla_sums, "fused": triton_sums}
SIX = ("edge_reduce", "weighted_sum", "slope_sum", "edge_map", "edge_dots", "edge_activations")
GRAPH = messy_graph(1)
NUM_NODES, NUM_EDGES, CHANNELS, HEADS = 8, 16, 3, 2
IDS = {
    "by_receiver": (GRAPH.receivers, GRAPH.senders),
    "by_sender": (GRAPH.senders, GRAPH.receivers),
}


@pytest.mark.parametrize("name", SIX)
def test_every_backend_spells_a_sum_as_the_contract_does(name):
    wanted = inspect.signature(getattr(contract, name)).parameters
    assert list(wanted)[1] == "table"
    for backend in BACKENDS.values():
        found = inspect.signature(getattr(backend, name)).parameters
        assert list(found) == list(wanted)
        assert [x.kind for x in found.values()] == [x.kind for x in wanted.values()]
        assert [x.default for x in found.values()] == [x.default for x in wanted.values()]


@pytest.mark.parametrize("name", BACKENDS)
def test_one_place_chooses_the_backend(name, monkeypatch):
    table = layouts.make_layout(GRAPH, name).by_receiver
    for backend in BACKENDS.values():
        monkeypatch.setattr(backend, "edge_map", lambda *_, b=backend, **__: b)
    chosen = contract._sums(table).edge_map()
    assert chosen is BACKENDS[name]
    assert contract.is_edge_list(table) == (name == "segment")
    assert (contract.softmax_kernels(table) is not None) == (name == "fused")


def draw():
    rng = np.random.default_rng(2)
    shapes = {
        "w": (NUM_EDGES, HEADS),
        "rows": (NUM_NODES, CHANNELS, HEADS),
        "others": (NUM_NODES, CHANNELS, HEADS),
        "edges": (NUM_EDGES, CHANNELS, HEADS),
        "a": (CHANNELS, HEADS),
        "slope": (HEADS,),
    }
    return {
        name: jnp.asarray(rng.normal(size=shape), jnp.float32) for name, shape in shapes.items()
    }


def term(edges, rows, others):
    return edges[0] * (others[0] - rows[0]) + 1.0


def of_dot(dot, edges, rows, others):
    return edges[0] * (dot - rows[0]) + others[0]


def compute(table, w, rows, others, edges, a, slope):
    at = {"at_edges": [w], "at_rows": [rows[:, 0]], "at_others": [others[:, 0]]}
    ends = {"rows": rows, "others": others}
    return {
        "sum": contract.edge_reduce(term, table, **at),
        "max": contract.edge_reduce(term, table, **at, reduce="max"),
        "weighted_sum": contract.weighted_sum([w, w], table, others),
        "slope_sum": contract.slope_sum(w, table, **ends, edges=edges, slope=slope),
        "edge_map": contract.edge_map(term, table, **at),
        "edge_dots": contract.edge_dots(of_dot, table, **ends, **at),
        "edge_activations": contract.edge_activations(
            a, table, **ends, edges=edges, slope=slope, above=2.0
        ),
    }


def expected(row_ids, other_ids, w, rows, others, edges, a, slope):
    """In float64, edge by edge."""

    def add_up(terms):
        return np.stack([terms[row_ids == i].sum(axis=0) for i in range(NUM_NODES)])

    x = rows[row_ids] + others[other_ids] + edges
    terms = term([w], [rows[row_ids, 0]], [others[other_ids, 0]])
    dots = (rows[row_ids] * others[other_ids]).sum(axis=1)
    largest = [terms[row_ids == i].max(axis=0, initial=-np.inf) for i in range(NUM_NODES)]
    return {
        "sum": add_up(terms),
        "max": np.stack(largest),
        "weighted_sum": add_up((w * w)[:, None] * others[other_ids]),
        "slope_sum": add_up(w[:, None] * np.where(x >= 0, 1.0, slope)),
        "edge_map": terms,
        "edge_dots": of_dot(dots, [w], [rows[row_ids, 0]], [others[other_ids, 0]]),
        "edge_activations": (a * x * np.where(x >= 0, 2.0, slope)).sum(axis=1),
    }


@pytest.mark.parametrize("end", IDS)
@pytest.mark.parametrize("name", BACKENDS)
def test_every_backend_agrees_with_sums_edge_by_edge(name, end):
    table = getattr(layouts.make_layout(GRAPH, name), end)
    arrays = draw()
    options = {"xla_backend_optimization_level": 0}
    found = jax.jit(compute, compiler_options=options)(table, **arrays)
    wide = {key: np.asarray(x, np.float64) for key, x in arrays.items()}
    for what, value in expected(*IDS[end], **wide).items():
        is_finite = np.isfinite(value)
        np.testing.assert_array_equal(np.isfinite(found[what]), is_finite, err_msg=what)
        assert_close(np.where(is_finite, found[what], 0), np.where(is_finite, value, 0), 2e-6)
