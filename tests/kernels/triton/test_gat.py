"""GAT's own kernels against the edge list, which JAX differentiates; and for CUDA."""

import functools
import re
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_close, cuda_export

from gat_jax.kernels import gat_logits, layouts, tables
from gat_jax.kernels.triton import tiles

NUM_NODES, NUM_EDGES, CHANNELS, HEADS, CHUNK_SIZE = 9, 60, 3, 5, 8
HUBS = 2, 1  # rows of several chunks: among the receivers, and among the senders


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch):
    """Several tiles to a chunk, and to the chunks of a row."""
    monkeypatch.setattr(tiles, "TILE_EDGES", 2)


def draw_layouts():
    """The same edges with chunked rows, and as a list; node 8 has none."""
    rng = np.random.default_rng(0)
    ends = [rng.choice([*range(8), *(hub,) * 10], NUM_EDGES) for hub in HUBS]
    receivers, senders = np.sort(ends[0]).astype(np.int32), ends[1].astype(np.int32)
    make = functools.partial(tables.make_chunked_rows, num_nodes=NUM_NODES, chunk_size=CHUNK_SIZE)
    rows = make(receivers, senders), make(senders, receivers)
    sizes = NUM_NODES, NUM_NODES
    return [layouts.Layout(senders, receivers, *x, *sizes) for x in (rows, (None, None))]


FUSED, EDGE_LIST = draw_layouts()


class Options(NamedTuple):
    """What a case has beside the least: settings are a Python number each, or traced."""

    slope: float = 0.2
    temperature: float = 1.0
    is_traced: bool = False
    has_edges: bool = False
    has_multiplier: bool = False
    has_mask: bool = False
    shift: float = 0.0  # of the receivers' part: large ones leave rows of one sign


CASES = [
    Options(),
    Options(shift=4.0),
    Options(shift=-4.0, has_edges=True),
    Options(slope=0.0, has_mask=True),
    Options(slope=1.5, temperature=0.7, is_traced=True, has_multiplier=True),
    Options(slope=-0.5, is_traced=True, has_edges=True, has_mask=True, has_multiplier=True),
    Options(slope=-0.5, temperature=2.0, has_multiplier=True),
]


def draw(options: Options) -> dict[str, Any]:
    """Arguments of the sum, in float64."""
    rng = np.random.default_rng(1)
    node, edge = (NUM_NODES, HEADS), (NUM_EDGES, HEADS)
    return {
        "c": rng.normal(size=node) + options.shift,
        "n": rng.normal(size=node),
        "z": rng.normal(size=(NUM_NODES, CHANNELS, HEADS)),
        "edges": rng.normal(size=edge) if options.has_edges else None,
        "multiplier": rng.integers(3, size=edge) / 2 if options.has_multiplier else None,
        "slope": np.float64(options.slope),
        "temperature": np.float64(options.temperature),
    }


MASK = np.random.default_rng(2).uniform(size=(NUM_EDGES, HEADS)) < 0.7
COTANGENT = np.random.default_rng(3).normal(size=(NUM_NODES, CHANNELS, HEADS))


def attend(layout, arrays, options: Options):
    """GAT's sum of the arrays of `draw`."""
    settings = {"slope": options.slope, "temperature": options.temperature}
    if options.is_traced:
        settings = {name: arrays[name] for name in settings}
    return gat_logits.gat_sum(
        layout,
        *(arrays[name] for name in "cnz"),
        edge_scores_eh=arrays["edges"],
        multiplier_eh=arrays["multiplier"],
        mask_eh=jnp.asarray(MASK) if options.has_mask else None,
        **settings,
    )


@functools.partial(
    jax.jit,
    static_argnames=("options",),
    compiler_options={"xla_backend_optimization_level": 0},
)
def evaluate(layout, arrays, options: Options):
    """The sum, and the gradients of everything it is made of."""
    out, pull_back = jax.vjp(lambda x: attend(layout, x, options), arrays)
    return out, pull_back(jnp.asarray(COTANGENT, out.dtype))[0]


@pytest.mark.few(4)
@pytest.mark.parametrize("options", CASES)
def test_sums_and_gradients_are_those_of_the_edge_list(options, x64):
    arrays = draw(options)
    out, gradients = evaluate(FUSED, arrays, options)
    expected, wanted = evaluate(EDGE_LIST, arrays, options)
    assert_close(out, expected, 1e-12)
    for name, gradient in gradients.items():
        if gradient is not None:
            scale = max(float(np.abs(wanted[name]).max()), 1e-3)
            np.testing.assert_allclose(
                gradient, wanted[name], rtol=0, atol=1e-11 * scale, err_msg=name
            )


def as_float32(arrays):
    return {k: None if x is None else jnp.asarray(x, jnp.float32) for k, x in arrays.items()}


@pytest.mark.parametrize("slope", [0.2, -0.5])
@pytest.mark.parametrize("shift", [9.0, -9.0])
def test_no_gradient_reaches_receivers_whose_logits_have_one_sign(shift, slope):
    options = Options(shift=shift, slope=slope)
    arrays = as_float32(draw(options))
    _, gradients = evaluate(FUSED, arrays, options)
    np.testing.assert_array_equal(gradients["c"], 0.0)
    assert np.abs(gradients["n"]).max() > 0.1


def test_a_row_whose_largest_logit_is_zero_lies_on_the_negative_side(x64):
    arrays = draw(Options())
    arrays["n"] = np.round(arrays["n"])
    largest = np.full((NUM_NODES, HEADS), -np.inf)
    np.maximum.at(largest, FUSED.receivers, arrays["n"][FUSED.senders])
    arrays["c"] = -np.where(np.isfinite(largest), largest, 0.0)
    out, gradients = evaluate(FUSED, arrays, Options())
    expected, wanted = evaluate(EDGE_LIST, arrays, Options())
    assert_close(out, expected, 1e-12)
    np.testing.assert_array_equal(gradients["c"], 0.0)
    for name in "nz":
        assert_close(gradients[name], wanted[name], 1e-11)


def test_twins_in_a_regime_come_out_with_equal_bits():
    receivers = np.repeat(np.arange(4), 5).astype(np.int32)
    senders = np.tile(np.arange(4, 9), 4).astype(np.int32)
    make = functools.partial(tables.make_chunked_rows, num_nodes=NUM_NODES, chunk_size=CHUNK_SIZE)
    rows = make(receivers, senders), make(senders, receivers)
    layout = layouts.Layout(senders, receivers, *rows, NUM_NODES, NUM_NODES)
    options = Options(shift=9.0)
    arrays = as_float32(draw(options))
    out = jax.jit(attend, static_argnums=2)(layout, arrays, options)
    assert len(np.unique(np.asarray(arrays["c"][:4]))) == 4 * HEADS
    for twin in (1, 2, 3):
        np.testing.assert_array_equal(out[twin], out[0])


def test_a_step_for_cuda_is_one_kernel_each_way(monkeypatch):
    monkeypatch.undo()  # the tiles of users
    arrays = as_float32(draw(Options()))

    def step(layout, arrays):
        def loss(parts):
            return jnp.sum(attend(layout, arrays | parts, Options()) ** 2)

        return jax.grad(loss)({name: arrays[name] for name in "cnz"})

    text = cuda_export(step, FUSED, arrays)
    kernels = re.findall(r' name = "(\w+)_kernel"', text)
    assert kernels.count("softmax") == kernels.count("gradient") == 1
    assert "scatter" not in text


@pytest.mark.parametrize("name", ["c", "n", "z", "edges"])
def test_a_nan_is_no_masked_edge(name):
    options = Options(has_edges=True)
    arrays = as_float32(draw(options))
    arrays[name] = arrays[name].at[0].set(jnp.nan)
    results = [evaluate(layout, arrays, options) for layout in (FUSED, EDGE_LIST)]
    (out, gradients), (expected, wanted) = results
    np.testing.assert_array_equal(np.isnan(out), np.isnan(expected))
    assert np.isnan(out).any()
    for of in ("n", "z", "edges"):
        assert np.all(np.isnan(gradients[of]) >= np.isnan(wanted[of])), of
    assert np.isnan(gradients["n"]).any()
