"""What is said of a real graph whose pairs of twins show no spread."""

import numpy as np
import pytest

from gat_jax.graphs import TwinCounts
from gat_jax.runtime.stats import binomial_interval
from gat_jax.sampling import Counts
from gat_jax.studies import real_graphs


def measured(collided_by_init, num_pairs):
    """The measurement of a graph of which so many pairs collided in each initialisation."""
    collided = np.array(collided_by_init)
    counts = Counts(*[np.array(0)] * len(Counts._fields))._replace(
        num_inits=np.array(len(collided)),
        collisions=collided.sum(),
        all_pairs_collided=np.sum(collided == num_pairs),
        squared_shares=np.sum((collided / num_pairs) ** 2),
    )
    twins = TwinCounts(**dict.fromkeys(TwinCounts._fields, 0) | {"pairs": num_pairs})
    row = real_graphs.GraphRow("g", "with", 5, 9, twins, None, None, dict.fromkeys((1, 8), counts))
    return real_graphs.measurements({"g": [row]})[0]["graph.g.with_loops.collision.gat.h1"]


@pytest.mark.parametrize("collided", [0, 7])
def test_a_share_without_spread_has_an_interval_that_is_no_point(collided):
    found = measured([collided] * 100, 7)
    low, high = binomial_interval(100 * (collided == 7), 100)
    assert (found.estimate, found.low, found.high) == (collided / 7, low, high)
    assert found.high - found.low > 0.01


def test_a_share_with_spread_has_the_interval_of_a_mean():
    collided = np.random.default_rng(0).integers(0, 8, size=100)
    found = measured(collided, 7)
    error = 1.96 * np.std(collided / 7) / 10
    np.testing.assert_allclose(
        [found.estimate, found.low, found.high],
        np.mean(collided / 7) + np.array([0.0, -error, error]),
    )
