import numpy as np
import pytest

from gat_jax.graphs import best_constant_ranking_accuracy
from gat_jax.studies.lookup import LookupConfig, train_lookup
from gat_jax.training import TrainConfig


def test_train_lookup_records_runs_and_tries_new_dictionaries():
    config = LookupConfig(
        num_keys=2, num_dictionaries=10, channels=6, train=TrainConfig("adam", 100, 50)
    )
    runs = train_lookup("gatv2", 2, config=config)
    np.testing.assert_array_equal(runs.step, [0, 50, 100])
    assert runs.accuracy.shape == (2, 3)
    assert runs.new_accuracy.shape == (2,)
    assert (runs.accuracy[:, -1] > runs.accuracy[:, 0]).all()
    # There are two dictionaries of two keys, and both were seen.
    np.testing.assert_allclose(runs.new_accuracy, runs.accuracy[:, -1], atol=0.2)


@pytest.mark.slow
def test_gatv2_solves_what_gat_cannot():
    ceiling = best_constant_ranking_accuracy(10)
    gat, gatv2 = (train_lookup(layer, 3) for layer in ("gat", "gatv2"))
    assert (gat.accuracy[:, -1] <= ceiling).all()
    assert (gat.new_accuracy <= ceiling).all()
    assert (gat.accuracy[:, -1] >= 1 / 10).all()
    assert np.median(gatv2.accuracy[:, -1]) == 1.0
    assert np.median(gatv2.new_accuracy) >= 0.99


def test_a_value_without_a_logit_is_refused():
    with pytest.raises(ValueError, match="channels: expected at least 10, one for each value"):
        LookupConfig(channels=9)
