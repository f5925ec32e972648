"""How an observation of a layer of ours is checked."""

import numpy as np
from helpers import assert_close, fields, oracle_layer

from gat_jax.diagnosis.models.observed import ObservedLayer


def assert_as_the_oracle(call: ObservedLayer) -> None:
    """Compare what was recorded of a call with the oracle on the recorded inputs."""
    imported = call.layer
    expected = oracle_layer(
        type(imported.params),
        fields(imported.params),
        call.graph,
        config=imported.config,
        slope=float(imported.settings.slope),
    )
    assert_close(call.outputs, expected["nodes"], 1e-5)
    assert imported.settings[2:] == (0.0, 0.0)
    assert not imported.replaces_self_loops
    assert isinstance(call.graph.nodes, np.ndarray)
    assert isinstance(call.outputs, np.ndarray)
