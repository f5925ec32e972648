"""Loops over slots and edges against NumPy over the edge list, and how much memory they take."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_close

from gat_jax.kernels import elementwise, tables
from gat_jax.kernels.xla import loops, sums

# Every width; up to 35 chunks of the widest, and so chunks of chunks; rows without edges.
DEGREES = (0, 3, 70, 4, 9, 5, 40, 8, 1, 16, 0, 2, 20, 17, 12, 1100, 0)
NUM_NODES, NUM_EDGES = len(DEGREES), sum(DEGREES)
_rng = np.random.default_rng(0)
ROWS = _rng.permutation(np.repeat(np.arange(NUM_NODES), DEGREES)).astype(np.int32)
OTHERS = _rng.integers(NUM_NODES, size=NUM_EDGES).astype(np.int32)  # with duplicates


def make_table(rows, others) -> tables.EdgeTable:
    index = tables.make_degree_buckets(rows, others, NUM_NODES)
    return tables.EdgeTable(rows, others, index, NUM_NODES)


TABLE = make_table(ROWS, OTHERS)
IS_ROW = np.array(DEGREES) > 0

HEADS, CHANNELS = (1, 2, 3, 8, 9), (1, 3, 8, 17, 40)
# Lanes of channels beside the heads or none, one group of channels or several.
FAST = {(1, 1), (1, 8), (1, 40), (3, 17), (8, 40)}
SHAPES = [
    pytest.param(heads, channels, marks=[] if (heads, channels) in FAST else [pytest.mark.slow])
    for heads in HEADS
    for channels in CHANNELS
]
SLOPES = (-0.5, 0.0, 0.2, 1.0, 2.0)


def draw(seed: int, dtype, **shapes) -> dict[str, jax.Array]:
    rng = np.random.default_rng(seed)
    return {name: jnp.asarray(rng.normal(size=shape), dtype) for name, shape in shapes.items()}


def f(x, slope):
    return np.where(x >= 0, x, slope * x)


def wide(*arrays):
    return [np.asarray(x, np.float64) for x in arrays]


def add_up(terms) -> np.ndarray:
    """[N, ...] sums of the terms [E, ...] over the edges of every row."""
    total = np.zeros((NUM_NODES, *terms.shape[1:]))
    for e in range(NUM_EDGES):
        total[ROWS[e]] += terms[e]
    return total


# --- values ---------------------------------------------------------------------------------------


def check_edge_reduce(all_heads, dtype, tolerance):
    def term(edges, rows, others):
        return edges[0] * (others[0] - rows[0]) + 1.0

    @jax.jit
    def both(w, o, s):
        at = {"at_edges": [w], "at_others": [o], "at_rows": [s]}
        return [sums.edge_reduce(term, TABLE, **at, reduce=x) for x in ("sum", "max")]

    for heads in all_heads:
        x = draw(heads, dtype, w=(NUM_EDGES, heads), o=(NUM_NODES, heads), s=(NUM_NODES, heads))
        total, largest = both(**x)
        assert total.dtype == largest.dtype == dtype
        w, o, s = wide(*x.values())
        terms = term([w], [s[ROWS]], [o[OTHERS]])
        assert_close(total, add_up(terms), tolerance)
        expected = np.stack([terms[i == ROWS].max(0) for i in np.flatnonzero(IS_ROW)])
        assert_close(np.asarray(largest)[IS_ROW], expected, tolerance)
        np.testing.assert_array_equal(np.asarray(total)[~IS_ROW], 0.0)
        np.testing.assert_array_equal(np.asarray(largest)[~IS_ROW], -np.inf)


def test_edge_reduce_agrees_with_loops():
    check_edge_reduce((1, 8), np.float32, 1e-6)


@pytest.mark.slow
def test_edge_reduce_agrees_with_loops_for_an_odd_number_of_heads():
    check_edge_reduce((3,), np.float32, 1e-6)


@pytest.mark.usefixtures("x64")
def test_edge_reduce_agrees_with_loops_in_float64():
    check_edge_reduce((2,), np.float64, 1e-14)


@pytest.mark.slow
def test_edge_reduce_of_what_only_some_ends_have():
    x = draw(0, np.float32, w=(NUM_EDGES, 2), o=(NUM_NODES, 2), s=(NUM_NODES, 2))
    for name, field, index in (
        ("w", "at_edges", slice(None)),
        ("o", "at_others", OTHERS),
        ("s", "at_rows", ROWS),
    ):
        total = sums.edge_reduce(lambda *ends: sum(ends, ())[0], TABLE, **{field: [x[name]]})
        assert_close(total, add_up(np.asarray(x[name], np.float64)[index]), 1e-6)


def test_edge_reduce_counts_no_padding():
    ones = jnp.ones((NUM_NODES, 1))
    degrees = sums.edge_reduce(lambda _, __, others: others[0], TABLE, at_others=[ones])
    np.testing.assert_array_equal(degrees[:, 0], DEGREES)


def test_edge_reduce_is_minus_infinity_where_all_values_are():
    values = jnp.where(ROWS == 2, -np.inf, -3.0)[:, None]
    largest = sums.edge_reduce(lambda edges, *_: edges[0], TABLE, at_edges=[values], reduce="max")
    expected = np.where(IS_ROW & (np.arange(NUM_NODES) != 2), -3.0, -np.inf)
    np.testing.assert_array_equal(largest[:, 0], expected)


def check_sums_of_channels(heads, channels, dtype, tolerance):
    nodes, edges = (NUM_NODES, channels, heads), (NUM_EDGES, channels, heads)
    shapes = {"w": (NUM_EDGES, heads), "d": (NUM_EDGES, heads), "n": nodes, "o": nodes, "e": edges}
    shapes["a"] = (channels, heads)
    x = draw(10 * heads + channels, dtype, **shapes)
    slope = np.resize(SLOPES, heads).astype(dtype)

    @jax.jit
    def compute(w, d, n, o, e, a, slope):
        ends = {"rows": n, "others": o}
        without, below = {"edges": None, "slope": slope}, {"above": 0.0}
        return {
            "weighted_sum": sums.weighted_sum([w, d], TABLE, o),
            "slope_sum": sums.slope_sum(w, TABLE, **ends, **without),
            "slope_sum of edges": sums.slope_sum(w, TABLE, **ends, edges=e, slope=slope),
            "node_dots": loops.node_dots(n, o),
            "edge_dots": sums.edge_dots(lambda dot, *_: dot, TABLE, **ends),
            "function of edge_dots": sums.edge_dots(
                lambda dot, edges, rows, others: edges[0] * (dot - rows[0]) + others[0],
                TABLE,
                **ends,
                at_edges=[w],
                at_rows=[n[:, 0]],
                at_others=[o[:, 0]],
            ),
            "edge_activations": sums.edge_activations(a, TABLE, **ends, **without),
            "edge_activations of edges": sums.edge_activations(
                a, TABLE, **ends, edges=e, slope=slope
            ),
            "edge_activations below": sums.edge_activations(a, TABLE, **ends, **without, **below),
        }

    actual = compute(**x, slope=slope)
    w, d, n, o, e, a = wide(*x.values())
    inner, of_edges = n[ROWS] + o[OTHERS], n[ROWS] + o[OTHERS] + e
    below = slope.astype(np.float64)
    expected = {
        "weighted_sum": add_up((w * d)[:, None] * o[OTHERS]),
        "slope_sum": add_up(w[:, None] * np.where(inner >= 0, 1.0, below)),
        "slope_sum of edges": add_up(w[:, None] * np.where(of_edges >= 0, 1.0, below)),
        "node_dots": (n * o).sum(1),
        "edge_dots": (n[ROWS] * o[OTHERS]).sum(1),
        "function of edge_dots": w * ((n[ROWS] * o[OTHERS]).sum(1) - n[ROWS, 0]) + o[OTHERS, 0],
        "edge_activations": (a * f(inner, below)).sum(1),
        "edge_activations of edges": (a * f(of_edges, below)).sum(1),
        "edge_activations below": (a * below * np.minimum(inner, 0.0)).sum(1),
    }
    for name, value in expected.items():
        assert actual[name].dtype == dtype, name
        assert_close(actual[name], value, tolerance)
    for name in ("weighted_sum", "slope_sum", "slope_sum of edges"):
        np.testing.assert_array_equal(np.asarray(actual[name])[~IS_ROW], 0.0)


@pytest.mark.few(1)
@pytest.mark.parametrize(("heads", "channels"), SHAPES)
def test_sums_of_channels_agree_with_loops(heads, channels):
    check_sums_of_channels(heads, channels, np.float32, 2e-6)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("heads", "channels"), [(1, 8), (2, 17)])
def test_sums_of_channels_agree_with_loops_in_float64(heads, channels):
    check_sums_of_channels(heads, channels, np.float64, 1e-13)


def test_sums_between_two_kinds_of_nodes():
    num_others = 30  # more than rows; the last are in no row
    others = np.random.default_rng(1).integers(num_others - 5, size=NUM_EDGES).astype(np.int32)
    table = make_table(ROWS, others)
    x = draw(2, np.float32, w=(NUM_EDGES, 2), n=(NUM_NODES, 3, 2), o=(num_others, 3, 2))
    w, n, o = wide(*x.values())
    total = sums.weighted_sum([x["w"]], table, x["o"])
    assert_close(total, add_up(w[:, None] * o[others]), 1e-6)
    dots = sums.edge_dots(lambda dot, *_: dot, table, rows=x["n"], others=x["o"])
    assert_close(dots, (n[ROWS] * o[others]).sum(1), 1e-6)
    total = sums.edge_reduce(lambda *ends: ends[2][0], table, at_others=[x["o"][:, 0]])
    assert_close(total, add_up(o[others, 0]), 1e-6)


def test_slopes_at_0_are_those_above():
    x = jnp.array([[-1.0], [-0.0], [0.0], [2.0]])
    np.testing.assert_array_equal(elementwise.step(x)[:, 0], [0.0, 1.0, 1.0, 1.0])
    np.testing.assert_array_equal(elementwise.slope_at(x, 0.5)[:, 0], [0.5, 1.0, 1.0, 1.0])
    np.testing.assert_array_equal(elementwise.slope_at(x, 3.0, 2.0)[:, 0], [3.0, 2.0, 2.0, 2.0])


@pytest.mark.few(2)
@pytest.mark.parametrize("shape", [(), (3,), (2, 3)], ids=str)
@pytest.mark.parametrize(("largest", "combine"), [(False, np.add), (True, np.maximum)])
def test_to_nodes_combines_chunks_and_puts_rows_in_their_places(shape, largest, combine):
    chunks = [
        draw(i, np.float32, x=(len(bucket.nodes), *shape))["x"]
        for i, bucket in enumerate(TABLE.index.buckets)
    ]
    expected = {}
    for values, bucket in zip(chunks, TABLE.index.buckets, strict=True):
        for value, node in zip(values, bucket.nodes.tolist(), strict=True):
            expected[node] = combine(expected[node], value) if node in expected else value
    actual = np.asarray(sums.to_nodes(chunks, TABLE.index, largest=largest))
    assert actual.shape == (NUM_NODES, *shape)
    assert set(expected) == set(np.flatnonzero(IS_ROW))
    for node, value in expected.items():
        np.testing.assert_allclose(actual[node], value, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(actual[~IS_ROW], 0.0)


def test_weighted_sum_does_not_depend_on_other_rows():
    x = draw(3, np.float32, w=(NUM_EDGES, 3), o=(NUM_NODES, 5, 3))
    compute = jax.jit(lambda w, o: sums.weighted_sum([w], TABLE, o))
    expected = compute(**x)
    actual = np.asarray(compute(jnp.where(ROWS[:, None] == 2, jnp.nan, x["w"]), x["o"]))
    is_calm = np.arange(NUM_NODES) != 2
    np.testing.assert_array_equal(actual[is_calm], np.asarray(expected)[is_calm])
    assert np.isnan(actual[2]).all()


# --- memory ---------------------------------------------------------------------------------------

LARGE_NODES, LARGE_EDGES, LARGE_HEADS, LARGE_CHANNELS = 12_500, 200_000, 8, 16
GATHERED_NH = 4 * LARGE_EDGES * LARGE_HEADS  # bytes of [N, H] at all edges
GATHERED_NCH = LARGE_CHANNELS * GATHERED_NH  # and of [N, C, H]


def large_arguments() -> dict:
    rng = np.random.default_rng(0)
    rows, others = rng.integers(LARGE_NODES, size=(2, LARGE_EDGES)).astype(np.int32)
    sizes = {"n": LARGE_NODES, "e": LARGE_EDGES, "c": LARGE_CHANNELS, "h": LARGE_HEADS}
    axes = {"w_eh": "eh", "t_eh": "eh", "o_nh": "nh", "s_nh": "nh", "r_nch": "nch", "l_nch": "nch"}
    axes |= {"e_ech": "ech", "a_ch": "ch", "slope_h": "h"}
    arrays = {
        name: jax.ShapeDtypeStruct(tuple(sizes[a] for a in letters), jnp.float32)
        for name, letters in axes.items()
    }
    index = tables.make_degree_buckets(rows, others, LARGE_NODES)
    return {**arrays, "table": tables.EdgeTable(rows, others, index, LARGE_NODES)}


LARGE = large_arguments()


def temporary_bytes(function) -> int:
    """Of the compiled function; its arguments are named as in LARGE. Nothing runs."""
    names = function.__code__.co_varnames[: function.__code__.co_argcount]
    compiled = jax.jit(function).lower(*(LARGE[name] for name in names)).compile()
    return compiled.memory_analysis().temp_size_in_bytes


@pytest.mark.parametrize("reduce", ["sum", "max"])
def test_edge_reduce_stores_nothing_by_edge(reduce):
    def compute(table, w_eh, o_nh, s_nh):
        def term(edges, rows, others):
            return edges[0] * elementwise.step(others[0] + rows[0])

        at = {"at_edges": [w_eh], "at_others": [o_nh], "at_rows": [s_nh]}
        return sums.edge_reduce(term, table, **at, reduce=reduce)

    assert temporary_bytes(compute) < 0.5 * GATHERED_NH


def test_weighted_sum_stores_no_gathered_values():
    def compute(table, w_eh, t_eh, l_nch):
        return sums.weighted_sum([w_eh, t_eh], table, l_nch)

    assert temporary_bytes(compute) < 0.4 * GATHERED_NCH


def test_slope_sum_stores_no_gathered_values():
    def compute(table, w_eh, r_nch, l_nch, slope_h):
        ends = {"rows": r_nch, "others": l_nch, "edges": None}
        return sums.slope_sum(w_eh, table, **ends, slope=slope_h)

    def compute_with_edges(table, w_eh, r_nch, l_nch, e_ech, slope_h):
        ends = {"rows": r_nch, "others": l_nch, "edges": e_ech}
        return sums.slope_sum(w_eh, table, **ends, slope=slope_h)

    assert temporary_bytes(compute) < 0.4 * GATHERED_NCH
    assert temporary_bytes(compute_with_edges) < 0.4 * GATHERED_NCH


def test_edge_dots_stores_no_gathered_values():
    def compute(table, r_nch, l_nch, w_eh, s_nh):
        return sums.edge_dots(
            lambda dot, edges, rows, _: edges[0] * (dot - rows[0]),
            table,
            rows=r_nch,
            others=l_nch,
            at_edges=[w_eh],
            at_rows=[s_nh],
        )

    assert temporary_bytes(compute) < 0.2 * GATHERED_NCH


def test_edge_activations_stores_no_gathered_values():
    def compute(table, a_ch, r_nch, l_nch, slope_h):
        ends = {"rows": r_nch, "others": l_nch, "edges": None}
        return sums.edge_activations(a_ch, table, **ends, slope=slope_h)

    def compute_with_edges(table, a_ch, r_nch, l_nch, e_ech, slope_h):
        ends = {"rows": r_nch, "others": l_nch, "edges": e_ech}
        return sums.edge_activations(a_ch, table, **ends, slope=slope_h)

    assert temporary_bytes(compute) < 0.2 * GATHERED_NCH
    assert temporary_bytes(compute_with_edges) < 0.2 * GATHERED_NCH
