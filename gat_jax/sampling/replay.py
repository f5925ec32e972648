"""The parameters of one initialisation of a sweep, to look at what the sweep found."""

import dataclasses
import math

import jax.numpy as jnp
import jraph
import numpy as np
from jaxtyping import Array, Float, UInt32

from gat_jax.graphs import twins
from gat_jax.layers import LayerConfig, LayerParams, assemble, num_draws
from gat_jax.sampling.cells import Cell
from gat_jax.sampling.random_bits import Distribution, draw_bits, from_bits, to_features
from gat_jax.sampling.sampler import PreparedCell, all_features, key_data, prepare_cell
from gat_jax.sampling.twin_layout import make_twin_layout


def params_of(
    cell: Cell, graph: jraph.GraphsTuple, *, index: int, seed: int = 0
) -> tuple[LayerParams, Float[np.ndarray, "nodes features"]]:
    """Return the parameters and the node features of one initialisation of a sweep.

        cell = Cell("tutorial", LayerConfig(heads=2, initializer="tutorial"))
        params, features = params_of(cell, graph, seed=0, index=12345)
        graph = graph._replace(nodes=features)
        out, info = apply_layer(params, graph, config=cell.layer)
        causes = pair_causes(info, graph, twin_pairs(twin_classes(graph)))

    Args:
      cell: of the sweep; the name of its graph is part of what the numbers depend on.
      graph: the graph of that name, as the sweep had it, with its raw features.
      index: number of the initialisation, from 0 on.
      seed: of the sweep.

    Returns:
      The layer's ordinary parameters, all heads together, as `init_layer` returns them; and
      float32 features of all nodes as the cell has them: the graph's own, standardised, or drawn.
      The layer is to be applied with its config and, where that is not 0.2, the slope of the
      cell: `settings=LayerSettings(slope=cell.slope)`.

    A sweep draws features for the twins and their senders alone, for no other node has a part in
    what it measures. The others get features here that are drawn in the same way from a key of
    their own: the layer can be applied to the whole graph, and the twins' rows are the sweep's.

    Numerics: the random bits are those of the sweep. A sweep's program may keep a product in more
    digits than float32 has before it adds to it, so its parameters differ from these by rounding,
    and its verdict may where a logit is within rounding of 0.

    Raises:
      ValueError: if the graph has no non-trivial twins, if cell and graph do not fit, or if the
        index is negative.
    """
    if index < 0:
        raise ValueError(f"index: expected at least 0, got {index}")
    classes = twins.twin_classes(graph)
    prepared = prepare_cell(cell, graph, classes, seed=seed)
    features = all_features(cell, graph)
    distribution = prepared.shape.drawn_features
    if distribution is not None:
        # Batches of one: what other nodes get depends on no layout.
        others = key_data(seed, "features of other nodes of " + cell.identity)
        features = _features(others, index, distribution, features.shape, batch_size=1)
        ids = make_twin_layout(graph, classes)[1]
        features[ids] = _features(
            prepared.inputs.feature_key,
            index,
            distribution,
            (len(ids), features.shape[1]),
            batch_size=prepared.shape.batch_size,
        )
    return _params(prepared, index), features


def _numbers(
    key: UInt32[np.ndarray, "2"],
    index: int,
    distribution: Distribution,
    *,
    num: int,
    batch_size: int,
) -> Float[Array, " num"]:
    """Draw the batch of an initialisation, and return its own numbers."""
    batch, place = divmod(index, batch_size)
    bits = draw_bits(key, jnp.uint32(batch), num=num, size=batch_size)
    return from_bits(bits[:, place : place + 1], distribution)[:, 0]


def _features(
    key: UInt32[np.ndarray, "2"],
    index: int,
    distribution: Distribution,
    shape: tuple[int, ...],
    *,
    batch_size: int,
) -> Float[np.ndarray, "nodes features"]:
    """Draw features of some nodes."""
    numbers = _numbers(key, index, distribution, num=math.prod(shape), batch_size=batch_size)
    return np.array(to_features(numbers.reshape(shape), distribution))


def _params(prepared: PreparedCell, index: int) -> LayerParams:
    """Cut the parameters of every head as the sampler does, and put the heads together."""
    shape = prepared.shape
    scales = {name: jnp.asarray(scale) for name, scale in prepared.inputs.scales.items()}
    head = dataclasses.replace(shape.layer, heads=1)
    num = num_draws(scales, head, shape.num_features)
    numbers = _numbers(
        prepared.inputs.key,
        index,
        shape.distribution,
        num=num * shape.layer.heads,
        batch_size=shape.batch_size,
    )
    numbers = numbers.reshape(num, shape.layer.heads)
    params = assemble(numbers, scales, head, shape.num_features, axis=0)
    merged = {
        name: _merge_heads(name, leaf, shape.layer)
        for name, leaf in params._asdict().items()
        if leaf is not None
    }
    return params._replace(**merged)


def _merge_heads(name: str, leaf: Array, layer: LayerConfig) -> Array:
    """Turn a parameter [..., H] of layers of one head into that of a layer of H heads."""
    if name == "output_bias":  # never random
        return jnp.zeros(layer.num_outputs, leaf.dtype)
    if name == "residual_kernel":  # [F, C, H]
        if not layer.concat:  # one path for all heads: the sampler takes that of the first
            return leaf[..., 0]
        return jnp.moveaxis(leaf, -1, -2).reshape(len(leaf), math.prod(leaf.shape[1:]))
    return jnp.moveaxis(leaf, -1, -3)[..., 0, :]  # [..., 1, C, H] to [..., H, C]
