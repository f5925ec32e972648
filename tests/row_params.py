"""Parameters of many initialisations, as the rows of a sweep take them and as layers do."""

import dataclasses

import jax
import numpy as np

from gat_jax.layers import initializers

NUM_INITS = 64
# Sixty-four initialisations run in no time: what takes time is optimising the programs.
QUICKLY = {"xla_backend_optimization_level": 0}


def draw_params(config, num_features, seed=0):
    """Return parameters with the batch on the last axis, and as a batch of ordinary ones."""
    head = dataclasses.replace(config, heads=1)
    scales = initializers.draw_scales(config, num_features)
    num = initializers.num_draws(scales, head, num_features)
    numbers = jax.random.uniform(
        jax.random.key(seed), (num, config.heads * NUM_INITS), minval=-1.7, maxval=1.7
    )
    params = initializers.assemble(numbers, scales, head, num_features, axis=0)

    def ordinary(name, leaf):
        if leaf is None:
            return None
        by_head = np.moveaxis(np.asarray(leaf).reshape(*leaf.shape[:-1], config.heads, -1), -1, 0)
        # [T, ..., H]: to [T, ..., H, C] in place of the single head.
        if name == "residual_kernel":
            if not config.concat:
                return by_head[..., 0]
            return np.moveaxis(by_head, -1, -2).reshape(NUM_INITS, num_features, -1)
        if name == "output_bias":
            return np.zeros((NUM_INITS, config.num_outputs), np.float32)  # never random
        return np.moveaxis(by_head, -1, -3)[..., 0, :]

    batch = type(params)(*(ordinary(n, x) for n, x in params._asdict().items()))
    return params, batch
