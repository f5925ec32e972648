"""Weights of the GAT layer of the UvA Deep Learning Tutorial 7, in PyTorch and in JAX.

Both keep the adjacency as it is given, self-loops included. The bias is one of the projection, so
that it enters logits and values.
"""

from collections.abc import Mapping

import numpy as np

from gat_jax.diagnosis.models.observed import ImportedLayer
from gat_jax.diagnosis.weights.forms import Form, FormOptions, check_heads
from gat_jax.diagnosis.weights.shapes import shaped
from gat_jax.layers import GATParams, LayerConfig, LayerSettings
from gat_jax.runtime.jax_arrays import to_jax


def _read(
    system: str, name: str, arrays: Mapping[str, np.ndarray], options: FormOptions
) -> ImportedLayer:
    heads, pair = shaped(name, arrays, "a", None, None).shape
    if pair % 2:
        raise ValueError(f"{name}.a: expected an even number of columns, got {pair}")
    check_heads(name, heads, options)
    channels = pair // 2
    if "projection.kernel" in arrays:
        kernel = shaped(name, arrays, "projection.kernel", None, heads * channels)
    else:
        kernel = shaped(name, arrays, "projection.weight", heads * channels, None).T
    bias = shaped(name, arrays, "projection.bias", heads * channels)
    return ImportedLayer(
        name,
        system,
        LayerConfig(
            layer="gat",
            heads=heads,
            channels=channels,
            concat=options.concat is not False,
            initializer="tutorial",
        ),
        GATParams(
            kernel=to_jax(np.ascontiguousarray(kernel).reshape(-1, heads, channels)),
            a_recv=to_jax(arrays["a"][:, :channels]),
            a_send=to_jax(arrays["a"][:, channels:]),
            bias=to_jax(bias.reshape(heads, channels)),
        ),
        LayerSettings(slope=options.slope),
    )


def _read_torch(name: str, arrays: Mapping[str, np.ndarray], options: FormOptions) -> ImportedLayer:
    return _read(TORCH, name, arrays, options)


def _read_jax(name: str, arrays: Mapping[str, np.ndarray], options: FormOptions) -> ImportedLayer:
    return _read(JAX, name, arrays, options)


TORCH, JAX = "UvA tutorial GAT (PyTorch)", "UvA tutorial GAT (JAX)"

FORMS: tuple[Form, ...] = (
    Form(TORCH, frozenset({"projection.weight", "projection.bias", "a"}), frozenset(), _read_torch),
    Form(JAX, frozenset({"projection.kernel", "projection.bias", "a"}), frozenset(), _read_jax),
)
