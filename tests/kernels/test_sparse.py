"""Features by their non-zeros, against the same features as a matrix."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse
from helpers import assert_close, messy_graph, random_params

from gat_jax import layers
from gat_jax.kernels import make_layout, sparse
from gat_jax.layers import LayerConfig, LayerSettings
from gat_jax.runtime import devices


def draw_features(num_nodes=30, num_features=50, seed=0):
    """Mostly zeros; an empty row, an empty column, and a row and a column with many."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(num_nodes, num_features)) * (rng.random((num_nodes, num_features)) < 0.1)
    x[3], x[:, 5] = 0.0, 0.0
    x[4, :40], x[:25, 7] = 1.0, 2.0
    return x.astype(np.float32)


X = draw_features()


def test_features_round_trip():
    found = sparse.from_dense(X)
    assert (found.shape, len(found), found.ndim, found.dtype) == ((30, 50), 30, 2, np.float32)
    np.testing.assert_array_equal(np.asarray(found), X)
    assert len(found.values) == np.count_nonzero(X)
    from_coo = sparse.from_scipy(scipy.sparse.coo_array(X.astype(np.int64)))
    assert from_coo.dtype == np.float32
    np.testing.assert_array_equal(np.asarray(from_coo), X.astype(np.int64))


def test_from_scipy_adds_up_duplicates():
    twice = scipy.sparse.coo_array(([1.0, 2.0, 5.0], ([0, 0, 1], [1, 1, 0])), shape=(2, 2))
    np.testing.assert_array_equal(np.asarray(sparse.from_scipy(twice)), [[0, 3], [5, 0]])


def test_from_scipy_leaves_the_argument_alone():
    matrix = scipy.sparse.csr_array(([1.0, 0.0, 2.0], [0, 1, 0], [0, 2, 3]), shape=(2, 2))
    found = sparse.from_scipy(matrix)
    assert len(found.values) == 2
    np.testing.assert_array_equal(matrix.data, [1.0, 0.0, 2.0])
    np.testing.assert_array_equal(matrix.indptr, [0, 2, 3])


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (np.zeros((2, 3)), "expected at least one that is not zero, got none"),
        (np.ones(3), r"expected an array \[rows, columns\], got shape \(3,\)"),
        (np.array([[0.0, np.inf]]), "expected finite numbers, got inf"),
    ],
)
def test_from_dense_refuses(features, message):
    with pytest.raises(ValueError, match=message):
        sparse.from_dense(features)


def test_is_worthwhile_of_few_nonzeros():
    few = np.zeros((10, 100))
    assert not sparse.is_worthwhile(few)  # there is nothing to keep
    few[0, :49] = 1.0
    assert sparse.is_worthwhile(few)
    few[1, 0] = 1.0
    assert not sparse.is_worthwhile(few)


def test_project_and_its_gradients_agree_with_a_matrix_product(x64):
    rng = np.random.default_rng(1)
    kernel, weights = rng.normal(size=(50, 3, 2)), rng.normal(size=(30, 3, 2))
    features = sparse.from_dense(X.astype(np.float64))

    def loss(values, kernel, project):
        return jnp.sum(jnp.asarray(weights) * jnp.tanh(project(values, kernel)))

    def by_nonzeros(values, kernel):
        return sparse.project(jax.tree.unflatten(structure, [values, *rest]), kernel)

    def by_matrix(values, kernel):
        return jnp.einsum("nf,fhc->nhc", values, kernel)

    leaves, structure = jax.tree.flatten(features)
    values, rest = leaves[0], leaves[1:]
    assert values is features.values
    both = (0, 1)
    found = jax.jit(jax.value_and_grad(lambda v, k: loss(v, k, by_nonzeros), both))(values, kernel)
    wide = jnp.asarray(X, jnp.float64)
    expected = jax.value_and_grad(lambda v, k: loss(v, k, by_matrix), both)(wide, kernel)
    assert_close(found[0], expected[0], 1e-12)
    assert_close(found[1][1], expected[1][1], 1e-12)
    assert_close(found[1][0], np.asarray(expected[1][0])[X != 0], 1e-12)


def test_project_maps_over_kernels_and_values():
    rng = np.random.default_rng(2)
    kernels = jnp.asarray(rng.normal(size=(4, 50, 3)), jnp.float32)
    features = sparse.from_dense(X)
    mapped = jax.jit(jax.vmap(lambda k: sparse.project(features, k)))(kernels)
    assert_close(mapped, np.einsum("nf,rfc->rnc", X, kernels), 1e-6)
    scales = jnp.arange(1.0, 5.0)
    scaled = jax.vmap(lambda s: sparse.project(features.astype(jnp.float32), s * kernels[0]))(
        scales
    )
    assert_close(scaled, scales[:, None, None] * mapped[0][None], 1e-6)


@pytest.mark.few(2)
@pytest.mark.parametrize("layer", ["gat", "gatv2", "gcn"])
@pytest.mark.parametrize("layout", ["segment", "bucketed"])
def test_layers_take_sparse_features(layer, layout):
    config = LayerConfig(
        layer=layer, heads=1 if layer == "gcn" else 2, channels=3, use_residual=True
    )
    graph = messy_graph(0)._replace(nodes=X[:8])
    params = random_params(0, config, 50)
    expected = layers.apply_layer(params, graph)[0]
    found = layers.apply_layer(
        params, graph._replace(nodes=sparse.from_dense(X[:8])), layout=make_layout(graph, layout)
    )[0]
    assert_close(found, expected, 1e-5)


@pytest.mark.parametrize("form", ["coo", "csr", "dok"])
@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((2, 2**31), r"expected at most 2147483647 rows and columns, got shape \(2, 2147483648\)"),
        ((2, 2**31 - 1), "expected at most .* GiB, a quarter of the memory, got 96 GiB"),
    ],
)
def test_features_of_a_shape_that_no_table_holds_are_refused(form, shape, message, monkeypatch):
    monkeypatch.setattr(devices, "host_memory", lambda: 64 * 2**30)
    matrix = scipy.sparse.coo_array(([1.0], ([0], [1])), shape=shape).asformat(form)
    with pytest.raises(ValueError, match=f"^features: {message}$"):
        sparse.from_scipy(matrix)


def test_dropout_keeps_its_share_of_the_nonzeros():
    features = sparse.from_dense(np.eye(2000, dtype=np.float32))
    graph = messy_graph(0, num_nodes=2000, num_edges=50)._replace(nodes=features)
    config = LayerConfig(layer="gcn", channels=2000, use_bias=False)
    params = random_params(0, config, 2000)._replace(kernel=jnp.eye(2000)[:, None])
    settings = LayerSettings(feature_dropout=0.6)
    keys = jax.random.split(jax.random.key(0), 2)
    loops = graph._replace(senders=np.arange(50), receivers=np.arange(50))
    first, second = (
        np.diag(layers.gcn(params, loops, settings=settings, key=key)[0])[:50] for key in keys
    )
    np.testing.assert_allclose(first[first > 0], 2.5, rtol=1e-6)
    assert 8 <= np.count_nonzero(first) <= 32  # 20 expected, four standard deviations
    assert (first != second).any()


@pytest.mark.slow
def test_networks_train_on_sparse_features():
    configs = layers.gat_configs(2, heads=2, channels=3)
    graph = messy_graph(0)._replace(nodes=X[:8])
    params = layers.init_network(jax.random.key(0), configs, 50)

    def loss(params, graph, layout):
        return jnp.sum(layers.apply_network(params, graph, configs, layout=layout)[0] ** 2)

    expected = jax.jit(jax.grad(loss))(params, graph, make_layout(graph, "segment"))
    sparse_graph = graph._replace(nodes=sparse.from_dense(X[:8]))
    found = jax.grad(loss)(params, sparse_graph, make_layout(graph, "bucketed"))
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert_close(one, other, 2e-5)
