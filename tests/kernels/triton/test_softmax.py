"""The kernels against a dense softmax in float64, interpreted; and that they lower for CUDA."""

import dataclasses
import functools
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from helpers import TRITON, assert_close, cuda_export

from gat_jax.kernels import attention, layouts, tables
from gat_jax.kernels.triton import tiles as triton_tiles

NUM_NODES, CHANNELS, HEADS, CHUNK_SIZE = 9, 3, 5, 8
DEGREES = (5, 5, 8, 18, 18, 6, 0, 0, 0)  # rows of one, of exactly one and of several chunks
TWINS = ((0, 1), (3, 4))  # with equal edges and logits
LOOP_ROW, MASKED_ROW, HIDDEN_SENDER = 2, 5, 7
NAMES = ("x", "z", "multiplier")


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch):
    """Several tiles to a chunk, and to the chunks of a row. For all tests: traces are kept."""
    monkeypatch.setattr(triton_tiles, "TILE_EDGES", 2)


def make_graph(seed=0):
    """(receivers, senders): hubs at both ends, a self-loop, duplicates, node 8 isolated."""
    rng = np.random.default_rng(seed)
    often = [*range(8), *(1,) * 6]  # a hub among the senders
    senders = [np.sort(rng.choice(often, degree)) for degree in DEGREES]
    senders[LOOP_ROW][:4] = 0, LOOP_ROW, LOOP_ROW, LOOP_ROW
    for first, second in TWINS:
        senders[second] = senders[first]
    return np.repeat(np.arange(NUM_NODES), DEGREES), np.concatenate(senders)


def layout_of(receivers, senders, num_nodes=NUM_NODES, chunk_size=CHUNK_SIZE):
    make = functools.partial(tables.make_chunked_rows, num_nodes=num_nodes, chunk_size=chunk_size)
    rows = make(receivers, senders), make(senders, receivers)
    ids = senders.astype(np.int32), receivers.astype(np.int32)
    return layouts.Layout(*ids, *rows, num_nodes, num_nodes)


IDS = RECEIVERS, SENDERS = make_graph()
NUM_EDGES = len(SENDERS)
LAYOUT = layout_of(*IDS)
ALL = np.ones((NUM_EDGES, HEADS), bool)
SOME = np.random.default_rng(1).uniform(size=ALL.shape) < 0.7
SOME[(RECEIVERS == MASKED_ROW) | (SENDERS == HIDDEN_SENDER)] = False


def of(node):
    return np.isin(RECEIVERS, node)


def draw(seed, *, channels=CHANNELS, heads=HEADS, scale=1.0):
    """x, z, multiplier and a cotangent of the outputs; twins have equal logits and cotangents."""
    rng = np.random.default_rng(seed)
    edge, node = (NUM_EDGES, heads), (NUM_NODES, channels, heads)
    x, z, g = scale * rng.normal(size=edge), rng.normal(size=node), rng.normal(size=node)
    for first, second in TWINS:
        x[of(second)] = x[of(first)]
        g[second] = g[first]
    arrays = x, z, rng.integers(3, size=edge) / 2, g
    return [jnp.asarray(a, jnp.float32) for a in arrays]


def evaluate(layout, arrays, mask, g):
    """The outputs, and the gradients of x, z (and the multiplier)."""
    out, pull_back = jax.vjp(lambda *a: softmax_sum(layout, a, mask), *arrays)
    return out, pull_back(g)


# What is interpreted is a long program: compiling it without optimisation takes half the time.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
value_and_gradients = jit(evaluate)


def softmax_sum(layout, arrays, mask=None):
    x, z, *multiplier = arrays
    return attention.softmax_sum(layout, x, z, *(multiplier or [None]), mask)


def dense(arrays, ids, mask):
    """The outputs, row by row, in the dtype of the arrays, complex included."""
    x, z = arrays["x"], arrays["z"]
    multiplier = arrays.get("multiplier", np.ones(x.shape))
    out = np.zeros(z.shape, np.result_type(x, z, multiplier))
    receivers, senders = ids
    for i, h in np.ndindex(len(z), x.shape[1]):
        edges = np.flatnonzero((receivers == i) & mask[:, h])
        if len(edges) > 0:
            p = np.exp(x[edges, h] - x[edges, h].real.max())
            out[i, :, h] = (p / p.sum() * multiplier[edges, h]) @ z[senders[edges], :, h]
    return out


def exact(arrays):
    return {n: np.asarray(a, np.float64) for n, a in zip(NAMES, arrays, strict=False)}


def check(found, arrays, g, mask, *, ids=IDS, relative=2e-6):
    """Compare outputs and gradients to the dense ones."""
    out, gradients = found
    assert_close(out, dense(exact(arrays), ids, mask), relative)
    weights = np.asarray(g, np.float64)
    expected = oracle.complex_step_gradient(
        lambda moved: np.sum(weights * dense(moved, ids, mask)), exact(arrays)
    )
    for name, gradient in zip(expected, gradients, strict=True):
        assert_close(gradient, expected[name], relative)


def test_softmax_sum_refuses_shapes_that_do_not_fit(unchecked):
    x, z, multiplier, _ = draw(0)
    for arrays, message in (
        ((x, z[:8]), r"z: expected shape \(9, 3, 5\), got \(8, 3, 5\)"),
        ((x[:-1], z), r"x: expected shape \(60, 5\), got \(59, 5\)"),
        ((x, z, multiplier[:, :2]), r"multiplier: expected shape \(60, 5\), got \(60, 2\)"),
    ):
        with pytest.raises(ValueError, match=message):
            softmax_sum(LAYOUT, arrays)


# --- tiles ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("channels", "heads", "num_masked"), [(3, 5, 17), (4, 6, 8), (4, 8, 0)])
def test_a_tile_leaves_out_what_the_array_does_not_have(channels, heads, num_masked, monkeypatch):
    # The interpreter does not write there; a GPU would write into the next row.
    monkeypatch.setattr(triton_tiles, "MAX_TILE_WIDTH", 16)
    array = jax.ShapeDtypeStruct((1, channels, heads), jnp.float32)
    shape = triton_tiles.shape_of(channels, heads)
    assert (shape.tile_c, shape.tile_h, shape.num_head_blocks) == (4, 4, 2)
    masks = []
    for block in range(2):
        index, mask = triton_tiles.Tile(shape, block)._at(array, jnp.int32(0), True)
        assert (mask is True) == (num_masked == 0)  # or numbers are loaded one by one
        mask = np.broadcast_to(mask, (4, 4))
        is_inside = (np.asarray(index[1]) < channels) & (np.asarray(index[2]) < heads)
        np.testing.assert_array_equal(mask, np.broadcast_to(is_inside, mask.shape))
        masks.append(mask)
    assert np.sum(~np.stack(masks)) == num_masked


# --- values and gradients -------------------------------------------------------------------------


def test_the_graph_has_rows_of_several_chunks_at_both_ends():
    rows = LAYOUT.receiver_index, LAYOUT.sender_index
    assert [x.num_parts for x in rows] == [6, 6]
    assert [len(x.long) for x in rows] == [2, 2]
    assert len(np.unique(np.stack(IDS), axis=1).T) < NUM_EDGES


@pytest.mark.few(2)
@pytest.mark.parametrize("scale", [1.0, 200.0])
@pytest.mark.parametrize("mask", [ALL, SOME], ids=["all", "some"])
def test_softmax_sum_agrees_with_a_dense_softmax(mask, scale):
    *arrays, g = draw(2, scale=scale)
    found = value_and_gradients(LAYOUT, arrays, mask, g)
    check(found, arrays, g, mask, relative=2e-6 * scale)
    is_empty = ~np.isin(np.arange(NUM_NODES), RECEIVERS[mask.any(axis=1)])
    assert np.sum(is_empty) == (3 if mask is ALL else 4)
    np.testing.assert_array_equal(found[0][is_empty], 0.0)


def test_softmax_sum_without_options_agrees_with_a_dense_softmax():
    *arrays, _, g = draw(3)
    check(value_and_gradients(LAYOUT, arrays, None, g), arrays, g, ALL)


def test_softmax_sum_ignores_the_numbers_of_masked_edges():
    *arrays, g = draw(4)
    expected = value_and_gradients(LAYOUT, arrays, SOME, g)
    x, z, multiplier = arrays
    spoilt = [jnp.where(SOME, a, jnp.nan) for a in (x, multiplier)]
    spoilt.insert(1, z.at[HIDDEN_SENDER].set(jnp.nan))
    found = value_and_gradients(LAYOUT, spoilt, SOME, g)
    chex.assert_trees_all_equal(found, expected)
    for gradient in (found[1][0], found[1][2]):
        np.testing.assert_array_equal(gradient[~SOME], 0.0)


def test_softmax_sum_gives_twins_equal_bits():
    *arrays, g = draw(5)
    x, z, multiplier = arrays
    for first, second in TWINS:
        multiplier = multiplier.at[of(second)].set(multiplier[of(first)])
    out, (dx, _, dm) = value_and_gradients(LAYOUT, [x, z, multiplier], ALL, g)
    for first, second in TWINS:
        np.testing.assert_array_equal(out[first], out[second])
        for gradient in (dx, dm):
            np.testing.assert_array_equal(gradient[of(first)], gradient[of(second)])


def test_softmax_sum_gives_equal_bits_in_every_run():
    # Hardly to be missed where kernels are interpreted; on a GPU atomics would be seen here.
    *arrays, g = draw(6)
    runs = [value_and_gradients(LAYOUT, arrays, SOME, g) for _ in range(2)]
    chex.assert_trees_all_equal(*runs)


@pytest.mark.slow
def test_softmax_sum_agrees_in_float64(x64):
    *arrays, g = (a.astype(jnp.float64) for a in draw(7))
    found = value_and_gradients(LAYOUT, arrays, SOME, g)
    chex.assert_trees_all_equal_dtypes(found, (g, tuple(arrays)))
    check(found, arrays, g, SOME, relative=1e-13)


@pytest.mark.slow
@pytest.mark.parametrize(("channels", "heads", "blocks"), [(1, 1, 1), (3, 7, 4)])
def test_softmax_sum_takes_any_width_in_blocks_of_heads(channels, heads, blocks, monkeypatch):
    # Shapes that no other test has: a trace is kept, with the width it was made for.
    monkeypatch.setattr(triton_tiles, "MAX_TILE_WIDTH", 8)
    *arrays, g = draw(8, channels=channels, heads=heads)
    assert triton_tiles.shape_of(channels, heads).num_head_blocks == blocks
    layout = layout_of(*IDS, chunk_size=CHUNK_SIZE if blocks > 1 else tables.CHUNK_SIZE)
    found = value_and_gradients(layout, arrays, None, g)
    check(found, arrays, g, np.ones((NUM_EDGES, heads), bool))


@pytest.mark.slow
def test_softmax_sum_accumulates_bfloat16_in_float32():
    ids = np.zeros(400, int), np.tile([0, 1], 200)
    z = jnp.array([[[0.6]], [[0.7]]], jnp.bfloat16)
    arrays = [jnp.zeros((400, 1), jnp.bfloat16), z, jnp.ones((400, 1), jnp.bfloat16)]
    g = jnp.array([[[1.3]], [[0.0]]], jnp.bfloat16)
    found = value_and_gradients(layout_of(*ids, num_nodes=2, chunk_size=64), arrays, None, g)
    chex.assert_trees_all_equal_dtypes(found, (g, tuple(arrays)))
    check(found, arrays, g, np.ones((400, 1), bool), ids=ids, relative=2.0**-8)
    # The logits' gradients are differences of dots, each rounded once, at the end.
    mean, dots = np.asarray(z, np.float64).mean(), np.asarray(z, np.float64)[ids[1], 0]
    expected = (dots - mean) * float(g[0, 0, 0]) / 400
    np.testing.assert_allclose(np.asarray(found[1][0], np.float64), expected, rtol=2.0**-8)


# --- transformations ------------------------------------------------------------------------------


def test_softmax_sum_twice_in_one_program():
    x, z, *_ = draw(9)

    @jit
    def twice(x, z):
        return softmax_sum(LAYOUT, (2.0 * x, softmax_sum(LAYOUT, (x, z))))

    once = {**exact((2.0 * x, z)), "z": dense(exact((x, z)), IDS, ALL)}
    assert_close(twice(x, z), dense(once, IDS, ALL), 2e-6)


@pytest.mark.slow
def test_softmax_sum_folds_a_mapped_axis_into_the_heads():
    (x, z, _, g), (other, *_) = draw(10), draw(11)
    lanes = jnp.stack([x, other])
    mapped = jax.vmap(lambda x: evaluate(LAYOUT, [x, z], None, g))
    single = [value_and_gradients(LAYOUT, [x, z], None, g) for x in lanes]
    expected = jax.tree.map(lambda *a: jnp.stack(a), *single)
    jax.tree.map(lambda a, b: assert_close(a, b, 1e-6), jit(mapped)(lanes), expected)
    # Chunks and blocks of heads: no kernel has an axis of lanes.
    grids = re.findall(r"grid=\(([^)]*)\)", str(jax.make_jaxpr(mapped)(lanes)))
    assert {len(grid.split(",")) for grid in grids} == {2}


def test_softmax_sum_maps_over_graphs():
    x, z, *_ = draw(12)
    ids = [make_graph(seed) for seed in (0, 1)]
    rows = (layout_of(*pair).receiver_index for pair in ids)
    stacked = jax.tree.map(lambda *a: np.stack(a), *rows)

    def of_rows(rows):
        return softmax_sum(dataclasses.replace(LAYOUT, receiver_index=rows), (x, z))

    out = jit(jax.vmap(of_rows))(stacked)
    for lane, pair in zip(out, ids, strict=True):
        assert_close(lane, dense(exact((x, z)), pair, ALL), 2e-6)


@pytest.mark.slow
def test_softmax_sum_has_gradients_with_mapped_graphs():
    x, z, _, g = draw(14)
    order = np.random.default_rng(3).permutation(NUM_NODES)
    ids = [IDS, (order[RECEIVERS], order[SENDERS])]  # alike in all sizes
    stacked = jax.tree.map(lambda *a: np.stack(a), *(layout_of(*pair) for pair in ids))
    mapped = jit(jax.vmap(lambda layout: evaluate(layout, [x, z], None, g)))
    for k, pair in enumerate(ids):
        found = jax.tree.map(lambda a, k=k: a[k], mapped(stacked))
        check(found, [x, z], g, ALL, ids=pair)


# --- CUDA -----------------------------------------------------------------------------------------


@pytest.mark.few(2)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize(("channels", "heads"), [(5, 6), (2048, 2)])
def test_softmax_sum_and_its_gradients_export_for_cuda(channels, heads, dtype, monkeypatch):
    monkeypatch.undo()  # the tiles of users
    *arrays, g = (a.astype(dtype) for a in draw(13, channels=channels, heads=heads))
    mask = jnp.ones((NUM_EDGES, heads), bool)
    text = cuda_export(evaluate, LAYOUT, arrays, mask, g)
    # Sum and gradients; of the multiplier's gradient, the largest logit, the total and the dots.
    names = ["softmax", "combine", "gradient", "combine"]
    names += ["reduce", "combine", "reduce", "combine", "dots"]
    assert re.findall(r' name = "(\w+)_kernel"', text) == names
    assert text.count(TRITON) == len(names)
    assert "stablehlo.while" not in text  # nothing is interpreted
    assert "scatter" not in text
