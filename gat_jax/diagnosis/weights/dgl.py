"""Weights of DGL's `GATConv` and `GATv2Conv`.

Both keep self-loops as the graph has them. DGL returns heads apart, so that nothing in a layer says
whether its model then concatenates or averages them: widths of the next layer do, or an option.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from gat_jax.diagnosis.models.observed import ImportedLayer
from gat_jax.diagnosis.weights.forms import Form, FormOptions, check_heads
from gat_jax.diagnosis.weights.shapes import merged, shaped, torch_kernel
from gat_jax.layers import GATParams, GATv2Params, LayerConfig, LayerSettings
from gat_jax.report.numbers import count
from gat_jax.runtime.jax_arrays import to_jax

Arrays = Mapping[str, np.ndarray]


def _read_gat(name: str, arrays: Arrays, options: FormOptions) -> ImportedLayer:
    heads, channels = shaped(name, arrays, "attn_l", 1, None, None).shape[1:]
    a_recv = shaped(name, arrays, "attn_r", 1, heads, channels)[0]
    has_one_set = "fc.weight" in arrays
    key = "fc.weight" if has_one_set else "fc_src.weight"
    kernel = torch_kernel(name, arrays, key, heads, channels)
    kernel_recv = None
    if not has_one_set:
        kernel_recv = torch_kernel(name, arrays, "fc_dst.weight", heads, channels)
    width = len(kernel) if kernel_recv is None else len(kernel_recv)
    concat, bias, residual = _merged_parts(name, arrays, options, heads, channels, width)
    return ImportedLayer(
        name,
        "DGL GATConv" if has_one_set else "DGL GATConv (two sets of nodes)",
        LayerConfig(
            layer="gat",
            heads=heads,
            channels=channels,
            concat=concat,
            use_bias=False,
            use_output_bias=bias is not None,
            use_residual=residual is not None,
            num_receiver_features=0 if kernel_recv is None else width,
            initializer="dgl",
        ),
        _params(
            GATParams,
            kernel=kernel,
            a_recv=a_recv,
            a_send=arrays["attn_l"][0],
            output_bias=bias,
            residual_kernel=residual,
            kernel_recv=kernel_recv,
        ),
        LayerSettings(slope=options.slope),
    )


def _read_gatv2(name: str, arrays: Arrays, options: FormOptions) -> ImportedLayer:
    heads, channels = shaped(name, arrays, "attn", 1, None, None).shape[1:]
    send = torch_kernel(name, arrays, "fc_src.weight", heads, channels)
    recv = torch_kernel(name, arrays, "fc_dst.weight", heads, channels)
    biases = [_bias(name, arrays, key, heads, channels) for key in ("fc_src.bias", "fc_dst.bias")]
    if (biases[0] is None) != (biases[1] is None):
        raise ValueError(f"{name}: expected fc_src.bias and fc_dst.bias, got one without the other")
    # A shared projection is stored under both names.
    keys = [("fc_src.weight", "fc_dst.weight"), ("fc_src.bias", "fc_dst.bias")]
    pairs = [(arrays[first], arrays[second]) for first, second in keys if first in arrays]
    is_shared = all(np.array_equal(first, second) for first, second in pairs)
    width = len(recv)
    concat, bias, residual = _merged_parts(name, arrays, options, heads, channels, width)
    return ImportedLayer(
        name,
        "DGL GATv2Conv",
        LayerConfig(
            layer="gatv2",
            heads=heads,
            channels=channels,
            concat=concat,
            use_bias=biases[0] is not None,
            use_output_bias=bias is not None,
            use_residual=residual is not None,
            share_weights=is_shared,
            num_receiver_features=0 if width == len(send) else width,
            initializer="dgl",
        ),
        _params(
            GATv2Params,
            kernel_send=send,
            a=arrays["attn"][0],
            kernel_recv=None if is_shared else recv,
            bias_send=biases[0],
            bias_recv=None if is_shared else biases[1],
            output_bias=bias,
            residual_kernel=residual,
        ),
        LayerSettings(slope=options.slope),
    )


def _params(params_type: type, **parts: np.ndarray | None) -> Any:
    return params_type(**{key: x if x is None else to_jax(x) for key, x in parts.items()})


def _bias(name: str, arrays: Arrays, key: str, heads: int, channels: int) -> np.ndarray | None:
    """Return a bias [H, C], None if the layer has none of this name."""
    if key not in arrays:
        return None
    return shaped(name, arrays, key, heads * channels).reshape(heads, channels)


def _merged_parts(
    name: str, arrays: Arrays, options: FormOptions, heads: int, channels: int, width: int
) -> tuple[bool, np.ndarray | None, np.ndarray | None]:
    """Return whether heads are concatenated, and bias and residual kernel of the merged heads.

    DGL adds both to each head. An identity in place of a residual kernel has no key.
    """
    check_heads(name, heads, options)
    concat = options.concat is not False
    found = [_bias(name, arrays, key, heads, channels) for key in ("bias", "res_fc.bias")]
    biases = [bias for bias in found if bias is not None]
    bias = merged(sum(biases[1:], biases[0]), concat=concat) if biases else None
    residual = None
    if "res_fc.weight" in arrays:
        residual = torch_kernel(name, arrays, "res_fc.weight", heads, channels)
        if len(residual) != width:
            raise ValueError(
                f"{name}.res_fc.weight: expected {count(width, 'input feature')}, got "
                f"{len(residual)}"
            )
    elif "res_fc.bias" in arrays:
        raise ValueError(f"{name}: expected res_fc.weight beside res_fc.bias, got none")
    elif options.residual and width == heads * channels:
        residual = np.eye(width, dtype=np.float32).reshape(width, heads, channels)
    return concat, bias, None if residual is None else merged(residual, concat=concat)


_RESIDUAL = {"bias", "res_fc.weight", "res_fc.bias"}

FORMS: tuple[Form, ...] = (
    Form(
        "DGL GATConv",
        frozenset({"fc.weight", "attn_l", "attn_r"}),
        frozenset(_RESIDUAL),
        _read_gat,
    ),
    Form(
        "DGL GATConv (two sets of nodes)",
        frozenset({"fc_src.weight", "fc_dst.weight", "attn_l", "attn_r"}),
        frozenset(_RESIDUAL),
        _read_gat,
    ),
    Form(
        "DGL GATv2Conv",
        frozenset({"fc_src.weight", "fc_dst.weight", "attn"}),
        frozenset({"fc_src.bias", "fc_dst.bias", *_RESIDUAL}),
        _read_gatv2,
    ),
)
