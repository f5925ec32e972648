"""Layers of live models: ours, on what was recorded, against what theirs returned."""

import numpy as np
from helpers import fields, oracle_layer

from gat_jax.layers import apply_layer


def recomputed(call):
    """What our layer returns on what was recorded."""
    layer = call.layer
    params = {key: np.asarray(x, np.float64) for key, x in fields(layer.params).items()}
    is_gat = layer.config.layer == "gat"
    if call.edge_weight is None and not (is_gat and "kernel_recv" in params):
        options = {"config": layer.config, "slope": float(layer.settings.slope)}
        return oracle_layer(type(layer.params), params, call.graph, **options)["nodes"]
    out, _ = apply_layer(
        layer.params,
        call.graph,
        config=layer.config,
        settings=layer.settings,
        edge_weight=call.edge_weight,
    )
    return out


def assert_reproduced(model, *names):
    """Check the names of the calls, and that our layers return what the model's returned."""
    assert [call.layer.name for call in model.layers] == list(names)
    for call in model.layers:
        np.testing.assert_allclose(recomputed(call), call.outputs, rtol=1e-5, atol=1e-5)
