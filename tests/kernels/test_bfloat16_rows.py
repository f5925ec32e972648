"""Rows that are gathered in bfloat16: what is rounded, what is not, and twins that stay equal."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from helpers import TRITON, assert_close, cuda_export

from gat_jax.kernels import attention, describe, gat_logits, layout_of_edges, segment_dots

# A hub of two chunks; nodes 1 and 2 are twins; the last one has no edges.
SUPPORTS = (
    [*range(7)] * 6,
    [0, 3, 3, 5, 6],
    [0, 3, 3, 5, 6],
    [1, 2],
    [4],
    [0, 2, 4, 6],
    [5, 1],
    [],
)
NUM_NODES, HEADS, CHANNELS = len(SUPPORTS), 2, 3
RECEIVERS = np.repeat(np.arange(NUM_NODES), [len(support) for support in SUPPORTS])
SENDERS = np.concatenate(SUPPORTS).astype(int)
NAMES = ("segment", "bucketed", "fused")
LAYOUTS = {
    name: layout_of_edges(SENDERS, RECEIVERS, NUM_NODES, name, values="bfloat16") for name in NAMES
}
ROUNDING = 2.0**-8  # of a number, at most


def draw():
    rng = np.random.default_rng(0)
    shapes = {
        "x": (len(SENDERS), HEADS),
        "z": (NUM_NODES, CHANNELS, HEADS),
        "n": (NUM_NODES, HEADS),
        "g": (NUM_NODES, CHANNELS, HEADS),
    }
    arrays = {name: rng.normal(size=shape) for name, shape in shapes.items()}
    # All logits of a row are positive, or all are negative.
    arrays["c"] = np.where(np.arange(NUM_NODES) < 4, 100.0, -100.0)[:, None] + arrays["n"]
    return {name: jnp.asarray(array, jnp.float32) for name, array in arrays.items()}


def compute(layout, arrays):
    x, z, g = (arrays[name] for name in ("x", "z", "g"))
    out, pull_back = jax.vjp(lambda x, z: attention.softmax_sum(layout, x, z), x, z)
    linear, linear_back = jax.vjp(lambda x, z: attention.linear_sum(layout, x, z), x, z)
    return {
        "softmax": (out, *pull_back(g)),
        "linear": (linear, *linear_back(g)),
        "gat": gat_logits.gat_sum(layout, arrays["c"], arrays["n"], z),
        "dots": segment_dots(g.swapaxes(1, 2), z.swapaxes(1, 2), layout),
        "ones": attention.linear_sum(layout, jnp.ones_like(x), 1001 * jnp.ones_like(z)),
    }


# What is interpreted is a long program: compiling it without optimisation takes half the time.
evaluate = jax.jit(compute, compiler_options={"xla_backend_optimization_level": 0})


def exact():
    return {name: np.asarray(array, np.float64) for name, array in draw().items()}


def rounded(array):
    return array.astype(jnp.bfloat16).astype(np.float64)


def softmax(x):
    alpha = np.exp(x)
    total = np.zeros((NUM_NODES, HEADS))
    np.add.at(total, RECEIVERS, alpha)
    return alpha / total[RECEIVERS]


def add_up(weights, rows, *, by, of):
    """Sum of weights times the rows at one end of the edges, over the other end."""
    out = np.zeros((NUM_NODES, CHANNELS, HEADS))
    np.add.at(out, by, weights[:, None] * rows[of])
    return out


@pytest.mark.parametrize("name", NAMES)
def test_rows_are_rounded_and_nothing_else(name):
    found, arrays = evaluate(LAYOUTS[name], draw()), exact()
    x, z, g = (arrays[key] for key in ("x", "z", "g"))
    seen_z, seen_g = rounded(z), g if name == "segment" else rounded(g)
    for key, weights in (("softmax", softmax(x)), ("linear", x)):
        # The kernel of the softmax has the dot products of the rows that it gathers.
        dotted = seen_g if (name, key) == ("fused", "softmax") else g
        dots = (dotted[RECEIVERS] * seen_z[SENDERS]).sum(axis=1)
        out, dx, dz = found[key]
        assert out.dtype == dx.dtype == dz.dtype == jnp.float32
        assert_close(out, add_up(weights, seen_z, by=RECEIVERS, of=SENDERS), 1e-6)
        assert_close(dz, add_up(weights, seen_g, by=SENDERS, of=RECEIVERS), 1e-6)
        mean = np.zeros((NUM_NODES, HEADS))
        np.add.at(mean, RECEIVERS, weights * dots)
        of_logits = weights * (dots - mean[RECEIVERS])
        assert_close(dx, of_logits if key == "softmax" else dots, 1e-6)
    assert_close(found["dots"], (g[RECEIVERS] * z[SENDERS]).sum(axis=1), 1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_the_error_is_that_of_one_rounding_of_each_row(name):
    found, arrays = evaluate(LAYOUTS[name], draw()), exact()
    x, z, g = (arrays[key] for key in ("x", "z", "g"))
    for key, weights in (("softmax", softmax(x)), ("linear", x)):
        out, _, dz = found[key]
        for value, rows, ends in (
            (out, z, {"by": RECEIVERS, "of": SENDERS}),
            (dz, g, {"by": SENDERS, "of": RECEIVERS}),
        ):
            error = np.abs(value - add_up(weights, rows, **ends))
            bound = add_up(np.abs(weights), np.abs(rows), **ends)
            assert np.all(error <= 1.01 * ROUNDING * bound)
            assert error.max() > 1e-5 or rows is g  # something was rounded
    np.testing.assert_array_equal(found["ones"][4], 1000.0)  # 1001 is not in bfloat16
    np.testing.assert_array_equal(found["ones"][0], 42_000.0)  # and so is not 42,000


@pytest.mark.parametrize("name", NAMES)
def test_twins_in_a_regime_stay_bit_equal(name):
    out, arrays = np.asarray(evaluate(LAYOUTS[name], draw())["gat"]), exact()
    np.testing.assert_array_equal(out[1], out[2])
    assert np.all(arrays["c"][1] != arrays["c"][2])
    assert not np.any(out[1] == out[3])
    logits = arrays["c"][RECEIVERS] + arrays["n"][SENDERS]
    alpha = softmax(oracle.leaky_relu(logits, 0.2))
    expected = add_up(alpha, rounded(arrays["z"]), by=RECEIVERS, of=SENDERS)
    assert_close(out, expected, 1e-6)


def test_the_option_is_named_and_refused_by_name(unchecked):
    for name in ("bucketed", "fused"):
        (first, *_) = describe(LAYOUTS[name]).splitlines()
        assert first.endswith(f" {len(SENDERS)} edges, rows gathered in bfloat16")
    plain = layout_of_edges(SENDERS, RECEIVERS, NUM_NODES, "bucketed")
    assert plain.values is None
    assert "bfloat16" not in describe(plain)
    with pytest.raises(ValueError, match=r"^values: expected bfloat16 or None, got 'float8'$"):
        layout_of_edges(SENDERS, RECEIVERS, NUM_NODES, values="float8")


def test_kernels_for_cuda_read_rows_of_half_the_bytes():
    text = cuda_export(compute, LAYOUTS["fused"], draw())
    assert f"tensor<{NUM_NODES}x{CHANNELS}x{HEADS}xbf16>" in text
    # Sum and gradient of a softmax; sum, dots and gradient of given weights; GAT; ones.
    assert len(re.findall(rf"{re.escape(TRITON)}\(.*xbf16>", text)) == 7
