"""One layer on its own inputs: whether what it returned is what our own layer does."""

import jax
import numpy as np

from gat_jax import graphs
from gat_jax.diagnosis.analysis import analyse_layer
from gat_jax.diagnosis.models.from_weights import observe_weights
from gat_jax.diagnosis.models.observed import ImportedLayer
from gat_jax.layers import LayerConfig, init_layer


def note_of(error):
    """What is said of a layer whose outputs are all alike, but for an error of one of them."""
    graph = graphs.from_edges([0, 1, 2, 3], [1, 0, 3, 2], nodes=np.ones((4, 1), np.float32))
    config = LayerConfig(layer="gat", channels=1)
    layer = ImportedLayer("conv", "test", config, init_layer(jax.random.key(0), config, 1))
    [call] = observe_weights([layer], graph).layers
    theirs = np.array(call.outputs)
    theirs[0] *= 1 + error
    observed = call._replace(outputs=theirs)
    return analyse_layer(observed, [np.zeros(4, np.int64)], num_fresh=0).diagnosis.note


def test_rounding_is_no_other_computation():
    assert note_of(1e-6) == ""
    assert "its outputs differ from ours" in note_of(1e-3)
