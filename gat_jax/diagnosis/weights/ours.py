"""Weights of our own layers: their fields by name, from an `.npz` file or from Flax."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from gat_jax.diagnosis.models.observed import SYSTEMS, ImportedLayer
from gat_jax.diagnosis.weights.forms import Form, FormOptions, check_heads
from gat_jax.diagnosis.weights.shapes import shaped
from gat_jax.layers import LAYERS, LayerConfig, LayerName, LayerSettings, frame
from gat_jax.layers import config as layer_config
from gat_jax.runtime.jax_arrays import to_jax


def _read(
    kind: LayerName, name: str, arrays: Mapping[str, np.ndarray], options: FormOptions
) -> ImportedLayer:
    params = LAYERS[kind].params(**{key: to_jax(array) for key, array in arrays.items()})
    num_features, heads, channels = shaped(name, arrays, params._fields[0], None, None, None).shape
    for key in {"kernel_recv", "edge_kernel"} & set(arrays):
        shaped(name, arrays, key, None, heads, channels)
    check_heads(name, heads, options)
    # What is added to merged heads shows how they are merged.
    widths = [arrays[key].shape[-1:] for key in ("output_bias", "residual_kernel") if key in arrays]
    concat = (channels,) not in widths if heads > 1 and widths else True
    if options.concat is not None:
        concat = options.concat
    try:
        shape: dict[str, Any] = dataclasses.asdict(frame.shape_of(params))
        shape |= {"concat": concat, "share_weights": kind == "gatv2" and shape["share_weights"]}
        if kind == "gatv2" and shape["num_receiver_features"] == num_features:
            shape["num_receiver_features"] = 0  # it has two projections of one set of nodes
        config = LayerConfig(**shape, layer=kind)
        layer_config.check_params_of(config, params, num_features)
    except ValueError as error:
        raise ValueError(f"{name}.{error}") from error
    return ImportedLayer(name, SYSTEMS[kind], config, params, LayerSettings(slope=options.slope))


def _read_gat(name: str, arrays: Mapping[str, np.ndarray], options: FormOptions) -> ImportedLayer:
    return _read("gat", name, arrays, options)


def _read_gatv2(name: str, arrays: Mapping[str, np.ndarray], options: FormOptions) -> ImportedLayer:
    return _read("gatv2", name, arrays, options)


def _read_gcn(name: str, arrays: Mapping[str, np.ndarray], options: FormOptions) -> ImportedLayer:
    return _read("gcn", name, arrays, options)


def _form(kind: LayerName, read) -> Form:
    params = LAYERS[kind].params
    optional = frozenset(params._field_defaults)
    return Form(SYSTEMS[kind], frozenset(params._fields) - optional, optional, read)


FORMS: tuple[Form, ...] = (
    _form("gat", _read_gat),
    _form("gatv2", _read_gatv2),
    _form("gcn", _read_gcn),
)
