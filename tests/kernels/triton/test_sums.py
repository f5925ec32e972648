"""The kernels over rows against NumPy over the edge list, interpreted; that they lower for CUDA."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_close, cuda_export

from gat_jax.kernels import tables
from gat_jax.kernels.triton import sums, tiles

# A row of one, of exactly one and of several chunks, and none; parallel edges.
DEGREES = (0, 3, 8, 21, 1, 17, 0)
NUM_NODES, NUM_EDGES = len(DEGREES), sum(DEGREES)
_rng = np.random.default_rng(0)
OWN = _rng.permutation(np.repeat(np.arange(NUM_NODES), DEGREES))
OTHERS = _rng.integers(NUM_NODES, size=NUM_EDGES)


def make_table(rows, others, num_rows: int, **options) -> tables.EdgeTable:
    index = tables.make_chunked_rows(rows, others, num_rows, **options)
    return tables.EdgeTable(rows, others, index, num_rows)


TABLE = make_table(OWN, OTHERS, NUM_NODES, chunk_size=8)
IS_ROW = np.array(DEGREES) > 0
SLOPES = (-0.5, 0.2, 0.0, 2.0, 1.0)


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch):
    """Several tiles to a chunk, and to the chunks of a row. For all tests: traces are kept."""
    monkeypatch.setattr(tiles, "TILE_EDGES", 2)


def draw(channels, heads, dtype):
    rng = np.random.default_rng(1)
    shapes = {
        "w": (NUM_EDGES, heads),
        "d": (NUM_EDGES, heads),
        "n": (NUM_NODES, channels, heads),
        "o": (NUM_NODES, channels, heads),
        "e": (NUM_EDGES, channels, heads),
        "a": (channels, heads),
    }
    arrays = {name: rng.normal(size=shape) for name, shape in shapes.items()}
    arrays["slope"] = np.resize(SLOPES, heads)
    return {name: jnp.asarray(array, dtype) for name, array in arrays.items()}


def term(edges, rows, others):
    return edges[0] * (others[0] - rows[0]) + 1.0


def compute(table, w, d, n, o, e, a, slope):
    at = {"at_edges": [w], "at_others": [o[:, 0]], "at_rows": [n[:, 0]]}
    ends = {"rows": n, "others": o}
    without, with_edges = {"edges": None, "slope": slope}, {"edges": e, "slope": slope}
    return {
        "sum": sums.edge_reduce(term, table, **at),
        "largest": sums.edge_reduce(term, table, **at, reduce="max"),
        # No 0 of a slot without an edge, or of a place without a partial result, is among these.
        "largest below 0": sums.edge_reduce(
            lambda edges, *_: -1.0 - abs(edges[0]), table, at_edges=[w], reduce="max"
        ),
        "sum at the node": sums.edge_reduce(lambda _, rows, __: rows[0], table, at_rows=[n[:, 0]]),
        "weighted_sum": sums.weighted_sum([w, d], table, o),
        "slope_sum": sums.slope_sum(w, table, **ends, **without),
        "slope_sum of edges": sums.slope_sum(w, table, **ends, **with_edges),
        "edge_map": sums.edge_map(term, table, **at),
        "edge_dots": sums.edge_dots(lambda dot, *_: dot, table, **ends),
        "function of edge_dots": sums.edge_dots(
            lambda dot, edges, rows, others: edges[0] * (dot - rows[0]) + others[0],
            table,
            **ends,
            **at,
        ),
        "edge_activations": sums.edge_activations(a, table, **ends, **without),
        "edge_activations of edges": sums.edge_activations(a, table, **ends, **with_edges),
        "edge_activations below": sums.edge_activations(a, table, **ends, **without, above=0.0),
    }


def expected(w, d, n, o, e, a, slope):
    def add_up(terms):
        return np.stack([terms[i == OWN].sum(0) for i in range(NUM_NODES)])

    inner, of_edges = n[OWN] + o[OTHERS], n[OWN] + o[OTHERS] + e

    def largest(terms):
        return np.stack([terms[i == OWN].max(0, initial=-np.inf) for i in range(NUM_NODES)])

    terms = term([w], [n[OWN, 0]], [o[OTHERS, 0]])
    dots = (n[OWN] * o[OTHERS]).sum(1)
    return {
        "sum": add_up(terms),
        "largest": largest(terms),
        "largest below 0": largest(-1.0 - np.abs(w)),
        "sum at the node": np.array(DEGREES)[:, None] * n[:, 0],
        "weighted_sum": add_up((w * d)[:, None] * o[OTHERS]),
        "slope_sum": add_up(w[:, None] * np.where(inner >= 0, 1.0, slope)),
        "slope_sum of edges": add_up(w[:, None] * np.where(of_edges >= 0, 1.0, slope)),
        "edge_map": terms,
        "edge_dots": dots,
        "function of edge_dots": w * (dots - n[OWN, 0]) + o[OTHERS, 0],
        "edge_activations": (a * np.where(inner >= 0, inner, slope * inner)).sum(1),
        "edge_activations of edges": (a * np.where(of_edges >= 0, of_edges, slope * of_edges)).sum(
            1
        ),
        "edge_activations below": (a * slope * np.minimum(inner, 0.0)).sum(1),
    }


# What is interpreted is a long program: compiling it without optimisation takes half the time.
compiled = jax.jit(compute, compiler_options={"xla_backend_optimization_level": 0})


def check(arrays, relative):
    actual = compiled(TABLE, **arrays)
    wanted = expected(**{name: np.asarray(x, np.float64) for name, x in arrays.items()})
    for name, value in wanted.items():
        found = np.asarray(actual[name])
        assert found.shape == value.shape, name
        np.testing.assert_array_equal(np.isinf(found), np.isinf(value), err_msg=name)
        assert_close(
            np.where(np.isinf(value), 0.0, found), np.where(np.isinf(value), 0.0, value), relative
        )
        if len(value) == NUM_NODES:
            np.testing.assert_array_equal(found[~IS_ROW], -np.inf if "largest" in name else 0.0)
    return actual


@pytest.mark.few(1)
@pytest.mark.parametrize(("channels", "heads", "width"), [(3, 5, 1024), (4, 6, 16)])
def test_kernels_agree_with_numpy(channels, heads, width, monkeypatch):
    monkeypatch.setattr(tiles, "MAX_TILE_WIDTH", width)
    assert tiles.shape_of(channels, heads).num_head_blocks == (1 if width == 1024 else 2)
    actual = check(draw(channels, heads, jnp.float32), 2e-6)
    assert {x.dtype for x in actual.values()} == {jnp.dtype(jnp.float32)}


@pytest.mark.slow
def test_kernels_agree_with_numpy_in_float64(x64):
    actual = check(draw(2, 1, jnp.float64), 1e-13)
    assert {x.dtype for x in actual.values()} == {jnp.dtype(jnp.float64)}


def test_sums_of_bfloat16_accumulate_in_float32():
    table = make_table(np.zeros(400, int), np.zeros(400, int), 1, chunk_size=64)
    ones = jnp.ones((400, 1), jnp.bfloat16)  # a sum in bfloat16 stalls at 256
    total = sums.edge_reduce(lambda edges, *_: edges[0], table, at_edges=[ones])
    assert total.dtype == jnp.bfloat16
    assert float(total[0, 0]) == 400.0


def test_kernels_lower_for_cuda(monkeypatch):
    monkeypatch.undo()  # the tiles of users
    text = cuda_export(compute, TABLE, **draw(5, 6, jnp.float32))
    names = re.findall(r' name = "(\w+)_kernel"', text)
    assert names.count("combine") == 7  # a sum each, or the largest
    assert set(names) == {"reduce", "combine", "weighted", "slope", "dots", "activations"}
    assert "stablehlo.while" not in text  # nothing is interpreted
    assert "scatter" not in text
