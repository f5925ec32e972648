"""The wiring of a sum to its gradient: every layer of it, by what breaks without it."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_close, messy_graph

from gat_jax.kernels import contract, layouts
from gat_jax.kernels.gradients import with_gradient

GRAPH = messy_graph(0)
NUM_NODES, NUM_EDGES, HEADS = 8, 16, 3
LAYOUTS = {name: layouts.make_layout(GRAPH, name) for name in ("segment", "bucketed", "fused")}
TABLES = ("bucketed", "fused")


def forward(layout, inputs, mask):
    """Add up the squares of what senders have, times a weight of the edge."""
    weights_eh, values_nh = inputs
    if mask is not None:
        weights_eh = jnp.where(mask, weights_eh, 0.0)
    total_nh = contract.edge_reduce(
        lambda edges, _, others: edges[0] * others[0] ** 2,
        layout.by_receiver,
        at_edges=[weights_eh],
        at_others=[values_nh],
    )
    return total_nh, weights_eh


def backward(layout, inputs, mask, weights_eh, g_nh):
    _, values_nh = inputs
    d_weights_eh = contract.edge_map(
        lambda _, rows, others: rows[0] * others[0] ** 2,
        layout.by_receiver,
        at_rows=[g_nh],
        at_others=[values_nh],
    )
    if mask is not None:
        d_weights_eh = jnp.where(mask, d_weights_eh, 0.0)
    d_values_nh = contract.edge_reduce(
        lambda edges, rows, others: 2 * edges[0] * rows[0] * others[0],
        layout.by_sender,
        at_edges=[weights_eh],
        at_rows=[values_nh],
        at_others=[g_nh],
    )
    return d_weights_eh, d_values_nh


squares = with_gradient(forward, backward)


def draw(seed, *batch):
    rng = np.random.default_rng(seed)
    shapes = (*batch, NUM_EDGES, HEADS), (*batch, NUM_NODES, HEADS)
    inputs = tuple(jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in shapes)
    return inputs, jnp.asarray(rng.random(shapes[0]) > 0.3)


def total(inputs, layout, mask=None):
    return jnp.sum(jnp.sin(squares(layout, inputs, mask)))


def with_everything(inputs, layout, mask):
    """Value and gradients."""
    return squares(layout, inputs, mask), jax.grad(total)(inputs, layout, mask)


def assert_trees_close(actual, expected):
    jax.tree.map(lambda a, b: assert_close(a, b, 1e-5), actual, expected)


@pytest.mark.few(2)
@pytest.mark.parametrize("is_masked", [False, True], ids=["all", "masked"])
@pytest.mark.parametrize("name", TABLES)
def test_values_and_gradients_are_those_of_the_edge_list(name, is_masked):
    inputs, mask = draw(0)
    mask = mask if is_masked else None
    expected = with_everything(inputs, LAYOUTS["segment"], mask)
    assert_trees_close(with_everything(inputs, LAYOUTS[name], mask), expected)


def test_the_gradient_on_tables_has_no_scatter():
    inputs, _ = draw(1)
    texts = {
        name: jax.jit(jax.grad(total)).lower(inputs, layout).as_text()
        for name, layout in LAYOUTS.items()
    }
    assert "scatter" in texts["segment"]
    assert "scatter" not in texts["bucketed"]


@pytest.mark.parametrize("name", TABLES)
def test_gradients_have_the_dtypes_of_what_they_are_of(name, x64):
    (weights, values), _ = draw(2)
    inputs = weights.astype(jnp.float64), values
    gradients = jax.grad(total)(inputs, LAYOUTS[name])
    assert [x.dtype for x in gradients] == [jnp.float64, jnp.float32]


def test_the_edge_list_has_forward_mode_and_second_derivatives(x64):
    inputs = jax.tree.map(lambda x: x.astype(jnp.float64), draw(3)[0])
    direction = jax.tree.map(jnp.ones_like, inputs)

    def along(step):
        return total(jax.tree.map(lambda x, d: x + step * d, inputs, direction), LAYOUTS["segment"])

    first, second = jax.jacfwd(along), jax.grad(jax.grad(along))
    step = 1e-5
    assert_close(first(0.0), (along(step) - along(-step)) / (2 * step), 1e-7)
    assert_close(second(0.0), (first(step) - first(-step)) / (2 * step), 1e-7)


@pytest.mark.parametrize("name", TABLES)
def test_second_derivatives_on_tables_are_refused_in_words(name):
    inputs, _ = draw(4)
    twice = jax.grad(lambda x: jnp.sum(jax.grad(total)(x, LAYOUTS[name])[1] ** 2))
    with pytest.raises(NotImplementedError, match="expected layout 'segment'"):
        jax.make_jaxpr(twice)(inputs)
    with pytest.raises(TypeError, match="forward-mode"):
        jax.make_jaxpr(jax.jacfwd(lambda x: total(x, LAYOUTS[name])))(inputs)


@pytest.mark.few(1)
@pytest.mark.parametrize("name", LAYOUTS)
def test_vmap_is_a_loop(name):
    inputs, mask = draw(5, 4)
    mapped = jax.vmap(with_everything, in_axes=(0, None, 0))(inputs, LAYOUTS[name], mask)
    for run in range(4):
        single = jax.tree.map(lambda x, run=run: x[run], (inputs, mask))
        expected = with_everything(single[0], LAYOUTS[name], single[1])
        assert_trees_close(jax.tree.map(lambda x, run=run: x[run], mapped), expected)


@pytest.mark.parametrize("name", TABLES)
def test_vmap_repeats_what_is_not_mapped_and_adds_up_its_gradient(name):
    (weights, values), _ = draw(6, 4)

    def of_shared(weights, layout):
        return jnp.sum(jax.vmap(lambda v: total((weights, v), layout))(values))

    found, expected = (
        jax.grad(of_shared)(weights[0], LAYOUTS[layout]) for layout in (name, "segment")
    )
    assert_close(found, expected, 1e-5)


@pytest.mark.parametrize("name", TABLES)
def test_nested_vmap_folds_both_axes(name):
    inputs, _ = draw(7, 2, 3)
    mapped = jax.vmap(jax.vmap(total, in_axes=(0, None)), in_axes=(0, None))
    jaxpr = str(jax.make_jaxpr(lambda x: mapped(x, LAYOUTS[name]))(inputs))
    # Runs stand beside the heads, and in no axis of their own.
    assert f"f32[{NUM_NODES},{2 * 3 * HEADS}]" in jaxpr
    assert_close(mapped(inputs, LAYOUTS[name]), mapped(inputs, LAYOUTS["segment"]), 1e-5)


@pytest.mark.parametrize("name", TABLES)
def test_a_mapped_layout_is_mapped(name):
    receivers = np.sort(np.arange(NUM_EDGES) % NUM_NODES)
    graphs = [
        GRAPH._replace(
            receivers=receivers, senders=np.random.default_rng(seed).permutation(receivers)
        )
        for seed in range(3)  # alike in all degrees, and so in all shapes
    ]
    many = [layouts.make_layout(graph, name) for graph in graphs]
    stacked = jax.tree.map(lambda *x: np.stack(x), *many)
    inputs, _ = draw(8)
    mapped = jax.vmap(with_everything, in_axes=(None, 0, None))(inputs, stacked, None)
    for run, layout in enumerate(many):
        found = jax.tree.map(lambda x, run=run: x[run], mapped)
        assert_trees_close(found, with_everything(inputs, layout, None))


@pytest.mark.parametrize("name", TABLES)
def test_outside_of_jit_a_second_call_compiles_nothing(name, caplog):
    inputs, mask = draw(9)
    with_everything(inputs, LAYOUTS[name], mask)
    with jax.log_compiles():
        with_everything(inputs, LAYOUTS[name], mask)
    assert not [r for r in caplog.records if "Finished XLA compilation" in r.getMessage()]


def test_one_trace_serves_all_numbers():
    once = jax.jit(chex.assert_max_traces(total, n=1))
    for seed in range(3):
        once(draw(seed)[0], LAYOUTS["bucketed"])
