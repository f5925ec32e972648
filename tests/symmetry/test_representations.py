"""Representations by hand and at extremes; training/test_measures has them by the oracle."""

import jax
import jax.numpy as jnp
import numpy as np
import oracle_measures as om
import pytest
from helpers import messy_graph

from gat_jax.kernels import make_layout
from gat_jax.symmetry import representations as rep
from gat_jax.symmetry.groups import count_distinct_rows
from gat_jax.symmetry.metrics import favourite_senders

GRAPH = messy_graph(0)


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_the_effective_rank_by_hand(scale):
    """Orthonormal columns fill all directions; of one direction repeated there is one."""
    rows = scale * np.eye(6, 3, dtype=np.float32)
    np.testing.assert_allclose(rep.effective_rank(jnp.asarray(rows)), 3.0, rtol=1e-5)
    line = scale * np.outer(np.arange(1.0, 7.0), [1.0, -2.0, 0.5]).astype(np.float32)
    np.testing.assert_allclose(rep.effective_rank(jnp.asarray(line)), 1.0, rtol=1e-3)


def test_the_effective_rank_of_few_directions_among_many_columns_is_not_of_rounding():
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(300, 2)) @ rng.normal(size=(2, 256))).astype(np.float32)
    singular = np.linalg.svd(x.astype(float), compute_uv=False)[:2]
    p = singular / singular.sum()
    found = rep.effective_rank(jnp.asarray(x))
    np.testing.assert_allclose(found, np.exp(-np.sum(p * np.log(p))), rtol=1e-4)


@pytest.mark.parametrize("ratio", [1.0, 0.3, 0.01, 0.0])
def test_the_effective_rank_of_two_columns_is_that_of_their_singular_values(ratio):
    """Two have a formula of their own; turned by an angle, both columns fill both directions."""
    rng = np.random.default_rng(2)
    turn = np.array([[np.cos(0.4), -np.sin(0.4)], [np.sin(0.4), np.cos(0.4)]])
    basis = np.linalg.qr(rng.normal(size=(9, 2)))[0]
    x = (basis @ np.diag([1.0, ratio]) @ turn).astype(np.float32)
    p = np.array([1.0, ratio]) / (1 + ratio)
    expected = np.exp(-np.sum(p[p > 0] * np.log(p[p > 0])))
    for scale in (1e-30, 1.0, 1e30):
        found = rep.effective_rank(jnp.asarray(scale * x, jnp.float32))
        np.testing.assert_allclose(found, expected, rtol=1e-4)
    assert np.isnan(rep.effective_rank(jnp.zeros((4, 2))))
    assert np.isnan(rep.effective_rank(jnp.asarray(x).at[0, 0].set(jnp.inf)))


def test_the_effective_rank_of_nothing_is_undefined():
    assert np.isnan(rep.effective_rank(jnp.zeros((4, 3))))


@pytest.mark.parametrize("layout", ["segment", "bucketed", "fused"])
def test_the_energy_of_close_nodes_is_exact_in_float32(layout):
    """A difference of sums of squares would leave nothing of it."""
    rng = np.random.default_rng(1)
    x = 100 + np.float32(1e-3) * rng.normal(size=(8, 5)).astype(np.float32)
    energy = jax.jit(rep.dirichlet_energy)(jnp.asarray(x), make_layout(GRAPH, layout))
    expected = om.dirichlet_energy(x.astype(float), GRAPH.senders, GRAPH.receivers)
    np.testing.assert_allclose(energy, expected, rtol=1e-5)


def test_distance_and_energy_vanish_where_all_nodes_are_alike():
    x = jnp.full((8, 3), 2.5)
    assert rep.distance_to_mean(x) == 0.0
    assert rep.dirichlet_energy(x, make_layout(GRAPH, "bucketed")) == 0.0
    assert rep.distinct_rows(x).tolist() == [1.0, 1.0]
    np.testing.assert_allclose(rep.output_norm(x), 2.5 * np.sqrt(24), rtol=1e-6)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
def test_rows_are_distinct_to_the_last_bit_of_every_dtype(dtype):
    x = jnp.asarray([[1.0, 0.0], [1.0, -0.0], [1.0, 1.0], [1.0, 0.0], [2.0, 1.0]], dtype)
    assert count_distinct_rows(x) == 3
    step = jnp.finfo(dtype).eps
    assert count_distinct_rows(x.at[3, 0].add(step)) == 4
    assert count_distinct_rows(x.at[3, 0].add(step / 4)) == 3
    assert count_distinct_rows(x[:0]) == 0


def test_favourites_by_hand():
    """Receiver 2 is undecided between senders 1 and 3; 0 has no edge, and 3 a masked one."""
    senders, receivers = np.array([0, 1, 2, 3, 1]), np.array([1, 2, 2, 2, 3])
    graph = GRAPH._replace(senders=senders, receivers=receivers, nodes=GRAPH.nodes[:4])
    attention = jnp.array([[1.0, 1.0], [0.4, 0.2], [0.2, 0.5], [0.4, 0.3], [0.0, 0.0]])
    mask = np.array([True, True, True, True, False])
    for layout in ("segment", "bucketed", "fused"):
        found = favourite_senders(attention, make_layout(graph, layout), mask=mask)
        infinity = [np.inf, np.inf]
        np.testing.assert_array_equal(found, [infinity, [0, 0], [1, 2], infinity])
