import jax
import numpy as np
import oracle
import pytest

from gat_jax import graphs, sampling, study_init, twins
from gat_jax.params import LayerConfig
from gat_jax.sampling import Cell
from gat_jax.symmetry import CAUSES

GRAPH, PAIRS = study_init.tutorial_twins()
CELL = Cell("tutorial", LayerConfig(initializer="tutorial"))


def test_tile_key_depends_on_seed_cell_and_index_alone():
    def data(*args):
        return tuple(jax.random.key_data(sampling.tile_key(*args)).tolist())

    other = Cell("tutorial", LayerConfig(initializer="tutorial", heads=2))
    keys = [data(CELL, 0, 0), data(CELL, 0, 1), data(CELL, 1, 0), data(other, 0, 0)]
    assert len(set(keys)) == 4
    assert data(Cell("tutorial", LayerConfig(initializer="tutorial")), 0, 0) == keys[0]
    # A stable hash: the numbers must be the same in every process and version.
    assert jax.random.key_data(sampling.named_key(0, "a")).tolist() == [3011824311, 2312571993]


def test_sample_counts_what_numpy_counts():
    """One tile, its parameters drawn again and counted with the oracle's criterion."""
    graph, pairs = sampling._cut_out(GRAPH, PAIRS)
    size = sampling.tile_size(CELL, graph)
    found = sampling.sample(CELL, GRAPH, PAIRS, num_inits=1, seed=5)
    _, key = jax.random.split(sampling.tile_key(CELL, 5, 0))
    params = sampling.init_layer(key, CELL.layer, 2, batch_shape=(size,))
    kernel, bias, recv, send = (
        np.asarray(x, np.float64)[:, ..., 0, :]
        for x in (params.kernel, params.bias, params.a_recv, params.a_send)
    )
    z = np.einsum("nf,rfc->rnc", oracle.FEATURES, kernel) + bias[:, None]
    c, n = (np.einsum("rnc,rc->rn", z, a) for a in (recv, send))
    collided, causes = oracle.gat_equal_by_signs(c[:, 2], c[:, 3], n[:, 1:], 0.2)
    assert found.num_inits == size
    assert abs(int(found.collisions) - collided.sum()) <= 1  # float32 signs at a logit of 0
    regime = causes["positive"] | causes["negative"]
    assert abs(int(found.regime_collisions) - regime.sum()) <= 1
    assert found.head_causes.sum() == size
    assert found.all_pairs_collided == found.collisions == found.head_collisions[0]
    assert found.squared_shares == found.collisions
    assert len(pairs.first) == 1


def test_sample_is_a_prefix_whatever_is_asked_for():
    size = sampling.tile_size(CELL, sampling._cut_out(GRAPH, PAIRS)[0])
    one = sampling.sample(CELL, GRAPH, PAIRS, num_inits=size, seed=0)
    same = sampling.sample(CELL, GRAPH, PAIRS, num_inits=7, seed=0)
    two = sampling.sample(CELL, GRAPH, PAIRS, num_inits=size + 1, seed=0)
    assert one.collisions == same.collisions
    assert two.num_inits == 2 * size
    assert 0 < two.collisions - one.collisions < size


def test_sample_counts_pairs_of_larger_graphs():
    graph = graphs.add_self_loops(graphs.les_miserables())
    pairs = twins.twin_pairs(twins.twin_classes(graph))
    cell = Cell("miserables", LayerConfig(heads=2, initializer="tutorial"))
    found = sampling.sample(cell, graph, pairs, num_inits=1, seed=0)
    trials = found.num_inits * len(pairs.first)
    assert found.head_causes.sum() == 2 * trials
    assert 0 < found.collisions < found.head_collisions.min() < trials
    assert found.squared_shares < found.collisions / len(pairs.first)


@pytest.mark.parametrize(
    ("features", "low", "high"),
    [("uniform01", 0.60, 0.68), ("normal", 0.24, 0.32), ("standardised", 0.35, 0.43)],
)
def test_features_are_drawn_or_scaled(features, low, high):
    cell = Cell("tutorial", CELL.layer, features)
    found = sampling.sample(cell, GRAPH, PAIRS, num_inits=1, seed=1)
    assert low < found.collisions / found.num_inits < high


def test_balanced_initialisation_is_uniform_attention():
    cell = Cell("tutorial", LayerConfig(initializer="balanced"))
    found = sampling.sample(cell, GRAPH, PAIRS, num_inits=1, seed=0)
    assert found.collisions == found.uniform_attention == found.equal_outputs == found.num_inits
    assert found.head_causes[0, CAUSES.index("equal_query")] == found.num_inits


def test_tile_size_bounds_memory():
    large = graphs.random_graph(0, num_nodes=3000, num_edges=20_000, num_features=500)
    cell = Cell("large", LayerConfig(heads=8, channels=8))
    size = sampling.tile_size(cell, large)
    assert size == 16 or size * 4 * 64 * (20_000 + 3000 + 500) <= 2**24
    assert sampling.tile_size(CELL, GRAPH) == 2**14


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_inits": 0}, "num_inits: expected at least 1, got 0"),
        ({"pairs": twins.TwinPairs(*(x[:0] for x in PAIRS))}, "pairs: expected at least one"),
    ],
)
def test_sample_refuses(options, message):
    arguments = {"pairs": PAIRS, "num_inits": 1, "seed": 0} | options
    with pytest.raises(ValueError, match=message):
        sampling.sample(CELL, GRAPH, **arguments)
