"""Sums over segments against float64 and `jax.ops`: any order, two sets of nodes, every layout."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from helpers import assert_close

from gat_jax import segment_softmax_sum, segment_sum
from gat_jax.kernels import layout_of_edges, segment_dots

# A hub of two chunks, empty segments, parallel edges; senders are another set than receivers.
DEGREES = (40, 3, 0, 5, 1, 7, 4, 0)
NUM_NODES, NUM_SENDERS, NUM_EDGES, HEADS, CHANNELS = len(DEGREES), 6, sum(DEGREES), 2, 3
MASKED_ROW, INFINITE_ROW, EMPTY_ROW = 3, 5, 2
RNG = np.random.default_rng(0)
RECEIVERS = RNG.permutation(np.repeat(np.arange(NUM_NODES), DEGREES))
SENDERS = RNG.integers(NUM_SENDERS, size=NUM_EDGES)
MASK = (RNG.random((NUM_EDGES, HEADS)) > 0.2) & (RECEIVERS != MASKED_ROW)[:, None]
NAMES = ("segment", "bucketed", "fused")
LAYOUTS = {
    name: layout_of_edges(SENDERS, RECEIVERS, NUM_NODES, name, num_senders=NUM_SENDERS)
    for name in NAMES
}
SHAPES = {
    "x": (NUM_EDGES, HEADS),
    "d": (NUM_EDGES, HEADS),
    "v": (NUM_SENDERS, HEADS, CHANNELS),
    "u": (NUM_EDGES, HEADS, CHANNELS),
    "q": (NUM_NODES, HEADS, CHANNELS),
}


def draw(seed, *, scale=1.0):
    rng = np.random.default_rng(seed)
    arrays = {name: rng.normal(size=shape) for name, shape in SHAPES.items()}
    arrays["x"] = scale * np.sign(arrays["x"]) if scale > 1 else arrays["x"]
    return {name: jnp.asarray(array, jnp.float32) for name, array in arrays.items()}


# Weights of what is added up to one number, whose gradient is compared.
RESULTS = ("fused", "with edges", "of edges", "weighted", "dots")
WEIGHTS = np.random.default_rng(1).normal(size=(5, NUM_EDGES, HEADS, CHANNELS)).astype(np.float32)


def weigh(results):
    total = 0.0
    for weights, result in zip(WEIGHTS, (results[name] for name in RESULTS), strict=True):
        part = weights if result.ndim == 3 else weights[..., 0]
        total += (part[: len(result)] * result).sum()
    return total


def compute(layout, arrays, mask):
    x, d, v, u, q = (arrays[name] for name in SHAPES)
    infinite = jnp.asarray(RECEIVERS == INFINITE_ROW)[:, None]
    logits = jnp.where(infinite, -jnp.inf, x)
    return {
        "fused": segment_softmax_sum(logits, v, layout),
        "with edges": segment_softmax_sum(x, v, layout, edge_values=u, multiplier=d, mask=mask),
        "of edges": segment_sum(u, layout, mask=mask),
        "weighted": segment_sum(v, layout, weights=d),
        "dots": segment_dots(q, v, layout),
    }


def differentiate(layout, arrays, mask):
    def total(arrays):
        results = compute(layout, arrays, mask)
        return weigh(results), results

    return jax.grad(total, has_aux=True)(arrays)


# What is interpreted is a long program: compiling it without optimisation takes half the time.
evaluate = jax.jit(differentiate, compiler_options={"xla_backend_optimization_level": 0})


# --- the oracle -----------------------------------------------------------------------------------


def softmax_row(x):
    p = np.exp(x - x.real.max(axis=0))
    return p / p.sum(axis=0)


def expected(arrays, mask):
    """Segment by segment, head by head, in float64 or complex128."""
    x, d, v, u, q = (arrays[name] for name in SHAPES)
    shape = (NUM_NODES, HEADS, CHANNELS)
    kind = np.result_type(x, d, v, u, q)
    found = {name: np.zeros(shape, kind) for name in RESULTS[:4]}
    for i, h in np.ndindex(NUM_NODES, HEADS):
        edges = np.flatnonzero(i == RECEIVERS)
        real = edges[mask[edges, h]]
        sent = v[SENDERS[edges], h]
        found["weighted"][i, h] = (d[edges, h][:, None] * sent).sum(axis=0)
        found["of edges"][i, h] = u[real, h].sum(axis=0)
        if len(edges) and i != INFINITE_ROW:
            found["fused"][i, h] = softmax_row(x[edges, h]) @ sent
        if len(real):
            alpha = softmax_row(x[real, h]) * d[real, h]
            found["with edges"][i, h] = alpha @ (v[SENDERS[real], h] + u[real, h])
    found["dots"] = (q[RECEIVERS] * v[SENDERS]).sum(axis=-1)
    return found


# --- values and gradients -------------------------------------------------------------------------


@functools.cache
def exact(scale):
    """Results and gradients of the same numbers, one entry at a time."""
    arrays = {key: np.asarray(value, np.float64) for key, value in draw(2, scale=scale).items()}
    gradients = oracle.complex_step_gradient(lambda moved: weigh(expected(moved, MASK)), arrays)
    return gradients, expected(arrays, MASK)


@pytest.mark.parametrize("scale", [1.0, 200.0])
@pytest.mark.parametrize("name", NAMES)
def test_sums_and_gradients_agree_with_float64(name, scale):
    parts = zip(evaluate(LAYOUTS[name], draw(2, scale=scale), MASK), exact(scale), strict=True)
    for found, wanted in parts:
        for key, value in wanted.items():
            assert_close(found[key], value, 1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_segments_without_edges_give_zeros(name):
    gradients, found = evaluate(LAYOUTS[name], draw(3), MASK)
    chex.assert_tree_all_finite((gradients, found))
    for key in RESULTS[:4]:
        np.testing.assert_array_equal(found[key][EMPTY_ROW], 0.0)
    np.testing.assert_array_equal(found["fused"][INFINITE_ROW], 0.0)
    for key in ("with edges", "of edges"):
        np.testing.assert_array_equal(found[key][MASKED_ROW], 0.0)
    np.testing.assert_array_equal(gradients["u"][~MASK], 0.0)


@pytest.mark.parametrize("name", NAMES)
def test_a_second_run_gives_equal_bits(name):
    runs = [evaluate(LAYOUTS[name], draw(4), MASK) for _ in range(2)]
    if name != "segment" or jax.default_backend() == "cpu":  # elsewhere it scatters with atomics
        chex.assert_trees_all_equal(*runs)


def test_other_numbers_and_masks_trace_nothing_anew():
    traced = jax.jit(chex.assert_max_traces(compute, n=1))
    for seed, mask in ((5, MASK), (6, ~MASK)):
        traced(LAYOUTS["segment"], draw(seed), mask)


def test_sums_agree_with_those_of_jax():
    x, _, v, u, _ = draw(7).values()
    segments = functools.partial(jax.ops.segment_sum, num_segments=NUM_NODES)
    np.testing.assert_allclose(
        segment_sum(u, LAYOUTS["bucketed"]), segments(u, RECEIVERS), rtol=1e-5, atol=1e-5
    )
    peak = jax.ops.segment_max(x, RECEIVERS, num_segments=NUM_NODES)
    p = jnp.exp(x - peak[RECEIVERS])
    alpha = p / segments(p, RECEIVERS)[RECEIVERS]
    np.testing.assert_allclose(
        segment_softmax_sum(x, v, LAYOUTS["bucketed"]),
        segments(alpha[..., None] * v[SENDERS], RECEIVERS),
        rtol=1e-5,
        atol=1e-5,
    )


def test_values_of_edges_are_those_of_senders_with_one_edge_each():
    x, _, _, u, _ = draw(8).values()
    own = layout_of_edges(
        np.arange(NUM_EDGES), RECEIVERS, NUM_NODES, "bucketed", num_senders=NUM_EDGES
    )
    np.testing.assert_allclose(
        segment_softmax_sum(x, u, own),
        segment_softmax_sum(x, None, LAYOUTS["bucketed"], edge_values=u),
        rtol=1e-6,
        atol=1e-6,
    )


@pytest.mark.parametrize("shape", [(), (2,), (2, 1, 3)])
def test_values_of_edges_may_have_any_shape(shape):
    values = RNG.normal(size=(NUM_EDGES, *shape)).astype(np.float32)
    mask = RECEIVERS != MASKED_ROW
    found = segment_sum(values, LAYOUTS["bucketed"], mask=mask)
    rows = [values[(i == RECEIVERS) & mask].sum(axis=0) for i in range(NUM_NODES)]
    np.testing.assert_allclose(found, np.stack(rows), rtol=1e-5, atol=1e-6)


# --- transformations and dtypes -------------------------------------------------------------------


@pytest.mark.parametrize("name", ["bucketed", pytest.param("fused", marks=pytest.mark.slow)])
def test_vmap_folds_into_the_heads(name):
    runs = [draw(seed) for seed in (9, 10)]
    arrays = jax.tree.map(lambda *x: jnp.stack(x), *runs)
    arrays["v"] = runs[0]["v"]  # what is not mapped is repeated
    axes = ({key: None if key == "v" else 0 for key in SHAPES}, None)
    mapped = jax.vmap(functools.partial(compute, LAYOUTS[name]), in_axes=axes)
    found = jax.jit(mapped)(arrays, MASK)
    for k, run in enumerate(runs):
        _, alone = evaluate(LAYOUTS[name], {**run, "v": arrays["v"]}, MASK)
        for key in RESULTS:
            np.testing.assert_allclose(found[key][k], alone[key], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_scatter_on_the_edge_list_alone(name):
    program = str(jax.make_jaxpr(differentiate)(LAYOUTS[name], draw(11), MASK))
    assert ("scatter" in program) == (name == "segment")


@pytest.mark.parametrize("name", ["segment", "bucketed"])
def test_bfloat16_is_added_up_in_float32(name):
    count = 1000  # a sum in bfloat16 stalls at 256

    @jax.jit
    def sums(layout, ones):
        return (
            segment_sum(ones, layout),
            segment_sum(ones[:1], layout, weights=ones[..., 0]),
            count * segment_softmax_sum(ones[..., 0], ones[:1], layout),
        )

    layout = layout_of_edges(np.zeros(count, int), np.zeros(count, int), 1, name)
    for total in sums(layout, jnp.ones((count, 1, 1), jnp.bfloat16)):
        assert total.dtype == jnp.bfloat16
        assert float(total[0, 0, 0]) == count


# --- what is refused ------------------------------------------------------------------------------


def test_what_does_not_fit_is_refused_in_words(unchecked):
    layout = LAYOUTS["fused"]
    x, d, v, u, q = draw(12).values()
    refused = [
        (r"logits: expected shape \(60, \*\), got \(59, 2\)", lambda: softmax(x[:-1], v)),
        (r"values: expected shape \(6, 2, \*\), got \(8, 2, 3\)", lambda: softmax(x, q)),
        (
            r"edge_values: expected shape \(60, 2, 3\)",
            lambda: softmax(x, v, edge_values=u[..., :1]),
        ),
        (r"multiplier: expected shape \(60, 2\)", lambda: softmax(x, v, multiplier=d[:, :1])),
        (
            r"mask: expected the first axes of .*, got \(6,\)",
            lambda: softmax(x, v, mask=MASK[:6, 0]),
        ),
        ("mask: expected an array of booleans, got int", lambda: softmax(x, v, mask=1 * MASK)),
        ("values: expected those of senders, of edges or both", lambda: softmax(x, None)),
        ("logits: expected an array of floats, got int32", lambda: softmax(x.astype(int), v)),
        ("values: expected an array of real numbers, got list", lambda: softmax(x, [1.0])),
        (r"values: expected shape \(60, \.\.\.\), got \(6,", lambda: segment_sum(v, layout)),
        (r"weights: expected shape \(60, \*\)", lambda: segment_sum(v, layout, weights=u)),
        (r"keys: expected shape \(6, 2, 3\), got \(8", lambda: segment_dots(q, q, layout)),
        (
            "layout: expected one of make_layout or layout_of_edges, got str",
            lambda: segment_sum(u, ""),
        ),
    ]
    softmax = lambda x, v, **options: segment_softmax_sum(x, v, layout, **options)  # noqa: E731
    for message, call in refused:
        with pytest.raises(ValueError, match=f"^{message}"):
            call()
