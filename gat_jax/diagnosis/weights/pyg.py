"""PyTorch Geometric's GATConv, GATv2Conv and GCNConv, as all of its versions hold their weights.

Its edges run from `edge_index[0]` to `edge_index[1]`, as ours do. The values of all heads are one
axis there, head-major: row h * C + k of a weight is channel k of head h.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from gat_jax.diagnosis.models.observed import ImportedLayer
from gat_jax.diagnosis.weights.forms import Form, FormOptions, check_heads
from gat_jax.layers import (
    GATParams,
    GATv2Params,
    GCNParams,
    LayerConfig,
    LayerSettings,
)
from gat_jax.runtime.arrays import as_array, check_values
from gat_jax.runtime.jax_arrays import to_jax

Arrays = Mapping[str, np.ndarray]
Shape = tuple[int | str, ...]  # a name stands for any length of at least 1


# --- arrays ---------------------------------------------------------------------------------------


def _field(name: str, key: str) -> str:
    return f"{name}.{key}" if name else key


def _read(name: str, arrays: Arrays, key: str, shape: Shape) -> Float[np.ndarray, "..."]:
    """Return an array of finite numbers of at least 32 bits, if its shape is as expected."""
    field = _field(name, key)
    array = as_array(field, arrays[key])
    fits = len(array.shape) == len(shape) and all(
        size >= 1 if isinstance(wanted, str) else size == wanted
        for size, wanted in zip(array.shape, shape, strict=True)
    )
    if not fits:
        wanted = ", ".join(map(str, shape))
        raise ValueError(f"{field}: expected shape [{wanted}], got {list(array.shape)}")
    values = check_values(field, array)
    return values.astype(np.promote_types(values.dtype, np.float32))


def _kernel(name: str, arrays: Arrays, key: str, heads: int, channels: int) -> np.ndarray:
    """Return the transposed weight [H * C, F] of a linear map as a kernel [F, H, C]."""
    weight = _read(name, arrays, key, (heads * channels, "F"))
    return np.ascontiguousarray(weight.T).reshape(-1, heads, channels)


def _half(name: str, arrays: Arrays, key: str) -> Float[np.ndarray, "heads channels"]:
    return _read(name, arrays, key, (1, "H", "C"))[0]


def _merged(
    name: str, arrays: Arrays, half: np.ndarray, options: FormOptions
) -> tuple[bool, dict[str, np.ndarray]]:
    """Return whether heads are concatenated, with the parameters of the merged heads.

    Their bias and their residual path show it, where there are several heads; else the options say.
    """
    heads, channels = half.shape
    concat = options.concat
    for key in ("bias", "res.weight"):
        if key in arrays and heads > 1:
            shows = np.shape(arrays[key])[:1] != (channels,)
            if concat not in (None, shows):
                raise ValueError(
                    f"concat: expected {shows}, as {_field(name, key)} has shape "
                    f"{list(np.shape(arrays[key]))}, got {concat}"
                )
            concat = shows
    concat = True if concat is None else concat
    num_outputs = heads * channels if concat else channels
    parts = {}
    if "bias" in arrays:
        parts["output_bias"] = _read(name, arrays, "bias", (num_outputs,))
    if "res.weight" in arrays:
        weight = _read(name, arrays, "res.weight", (num_outputs, "F"))
        parts["residual_kernel"] = np.ascontiguousarray(weight.T)
    return concat, parts


def _imported(
    name: str,
    system: str,
    params_type: type,
    parts: Mapping[str, np.ndarray],
    options: FormOptions,
    **shape: Any,
) -> ImportedLayer:
    """Return a layer in our terms; its optional parts are those that its parameters have."""
    params = params_type(**{part: to_jax(array) for part, array in parts.items()})
    _, heads, channels = params[0].shape
    config = LayerConfig(
        heads=heads,
        channels=channels,
        use_output_bias="output_bias" in parts,
        use_residual="residual_kernel" in parts,
        num_edge_features=len(parts.get("edge_kernel", ())),
        initializer="pyg",
        **shape,
    )
    settings = LayerSettings(slope=options.slope)
    return ImportedLayer(name, system, config, params, settings, replaces_self_loops=True)


def _is_shared(arrays: Arrays, first: str, second: str) -> bool:
    """Return whether a second map is the first one: under both names, or kept under one of them."""
    keys = [(f"{first}.{part}", f"{second}.{part}") for part in ("weight", "bias")]
    return all(
        key in arrays and np.array_equal(arrays[key], arrays[other])
        for key, other in keys
        if other in arrays
    )


# --- GATConv --------------------------------------------------------------------------------------

RECENT_GAT = "PyG GATConv (2.5 and later)"
MIDDLE_GAT = "PyG GATConv (2.0 to 2.4, or two sets of nodes)"
EARLY_GAT = "PyG GATConv (1.6.3 to 1.7)"
OLD_GAT = "PyG GATConv (1.5 and earlier)"


def _read_gat(name: str, arrays: Arrays, options: FormOptions) -> ImportedLayer:
    return _gat(name, RECENT_GAT, arrays, options, ("lin", "lin"), ("att_src", "att_dst"))


def _read_middle_gat(name: str, arrays: Arrays, options: FormOptions) -> ImportedLayer:
    ends = ("lin_src", "lin_dst")
    return _gat(name, MIDDLE_GAT, arrays, options, ends, ("att_src", "att_dst"))


def _read_middle_gat_once(name: str, arrays: Arrays, options: FormOptions) -> ImportedLayer:
    # Of two names of one tensor safetensors keeps the first in the order of the alphabet.
    ends = ("lin_dst", "lin_dst")
    return _gat(name, MIDDLE_GAT, arrays, options, ends, ("att_src", "att_dst"))


def _read_early_gat(name: str, arrays: Arrays, options: FormOptions) -> ImportedLayer:
    return _gat(name, EARLY_GAT, arrays, options, ("lin_l", "lin_r"), ("att_l", "att_r"))


def _read_old_gat(name: str, arrays: Arrays, options: FormOptions) -> ImportedLayer:
    both = _read(name, arrays, "att", (1, "H", "2 C"))
    if both.shape[2] % 2:
        field, width = _field(name, "att"), both.shape[2]
        raise ValueError(f"{field}: expected an even number of columns, got {width}")
    channels = both.shape[2] // 2
    weight = _read(name, arrays, "weight", ("F", both.shape[1] * channels))
    renamed = {
        "lin.weight": weight.T,
        "att_dst": both[..., :channels],
        "att_src": both[..., channels:],
        **{key: arrays[key] for key in ("bias",) if key in arrays},
    }
    return _gat(name, OLD_GAT, renamed, options, ("lin", "lin"), ("att_src", "att_dst"))


def _gat(
    name: str,
    system: str,
    arrays: Arrays,
    options: FormOptions,
    ends: tuple[str, str],
    halves: tuple[str, str],
) -> ImportedLayer:
    """Read a GATConv, given how its parts for senders and for receivers are called."""
    a_send, a_recv = (_half(name, arrays, key) for key in halves)
    heads, channels = a_send.shape
    _read(name, arrays, halves[1], (1, heads, channels))
    check_heads(name, heads, options)
    concat, parts = _merged(name, arrays, a_send, options)
    parts |= {"a_recv": a_recv, "a_send": a_send}
    parts["kernel"] = _kernel(name, arrays, f"{ends[0]}.weight", heads, channels)
    shape = {"layer": "gat", "concat": concat, "use_bias": False}
    if not _is_shared(arrays, *ends):
        parts["kernel_recv"] = _kernel(name, arrays, f"{ends[1]}.weight", heads, channels)
        shape["num_receiver_features"] = len(parts["kernel_recv"])
    if ("lin_edge.weight" in arrays) != ("att_edge" in arrays):
        raise ValueError(f"{name}: expected lin_edge.weight and att_edge together, got one of them")
    if "att_edge" in arrays:
        parts["edge_kernel"] = _kernel(name, arrays, "lin_edge.weight", heads, channels)
        parts["a_edge"] = _read(name, arrays, "att_edge", (1, heads, channels))[0]
    return _imported(name, system, GATParams, parts, options, **shape)


# --- GATv2Conv and GCNConv ------------------------------------------------------------------------

GATV2 = "PyG GATv2Conv"
GCN = "PyG GCNConv (2.0 and later)"
OLD_GCN = "PyG GCNConv (1.7 and earlier)"


def _read_gatv2(name: str, arrays: Arrays, options: FormOptions) -> ImportedLayer:
    a = _half(name, arrays, "att")
    heads, channels = a.shape
    check_heads(name, heads, options)
    concat, parts = _merged(name, arrays, a, options)
    parts["a"] = a
    shares = _is_shared(arrays, "lin_l", "lin_r")
    use_bias = "lin_l.bias" in arrays
    for end, key in [("send", "lin_l")] if shares else [("send", "lin_l"), ("recv", "lin_r")]:
        if (f"{key}.bias" in arrays) != use_bias or f"{key}.weight" not in arrays:
            raise ValueError(f"{name}: expected lin_l and lin_r with the same parts, got others")
        parts[f"kernel_{end}"] = _kernel(name, arrays, f"{key}.weight", heads, channels)
        if use_bias:
            bias = _read(name, arrays, f"{key}.bias", (heads * channels,))
            parts[f"bias_{end}"] = bias.reshape(heads, channels)
    shape = {"layer": "gatv2", "concat": concat, "use_bias": use_bias, "share_weights": shares}
    if not shares and len(parts["kernel_recv"]) != len(parts["kernel_send"]):
        shape["num_receiver_features"] = len(parts["kernel_recv"])
    if "lin_edge.weight" in arrays:
        parts["edge_kernel"] = _kernel(name, arrays, "lin_edge.weight", heads, channels)
    return _imported(name, GATV2, GATv2Params, parts, options, **shape)


def _read_gcn(name: str, arrays: Arrays, options: FormOptions) -> ImportedLayer:
    weight = _read(name, arrays, "lin.weight", ("C", "F"))
    return _gcn(name, GCN, weight.T, arrays, options)


def _read_old_gcn(name: str, arrays: Arrays, options: FormOptions) -> ImportedLayer:
    return _gcn(name, OLD_GCN, _read(name, arrays, "weight", ("F", "C")), arrays, options)


def _gcn(
    name: str, system: str, weight: np.ndarray, arrays: Arrays, options: FormOptions
) -> ImportedLayer:
    """Read a GCNConv that normalises symmetrically, given its weight [F, C]."""
    check_heads(name, 1, options)
    parts = {"kernel": np.ascontiguousarray(weight)[:, None]}
    if "bias" in arrays:
        parts["output_bias"] = _read(name, arrays, "bias", (weight.shape[1],))
    shape = {"layer": "gcn", "use_bias": False, "gcn_normalization": "symmetric"}
    return _imported(name, system, GCNParams, parts, options, **shape)


# --- the forms ------------------------------------------------------------------------------------

_MERGED = ("bias", "res.weight")
_EDGES = ("lin_edge.weight", "att_edge")


def _form(system: str, required: tuple[str, ...], optional: tuple[str, ...], read) -> Form:
    return Form(system, frozenset(required), frozenset(optional), read)


# No two of them fit the same keys. The last one has the keys of a linear map as well.
FORMS: tuple[Form, ...] = (
    _form(RECENT_GAT, ("lin.weight", "att_src", "att_dst"), (*_MERGED, *_EDGES), _read_gat),
    _form(
        MIDDLE_GAT,
        ("lin_src.weight", "att_src", "att_dst"),
        ("lin_dst.weight", *_MERGED, *_EDGES),
        _read_middle_gat,
    ),
    _form(
        MIDDLE_GAT,
        ("lin_dst.weight", "att_src", "att_dst"),
        (*_MERGED, *_EDGES),
        _read_middle_gat_once,
    ),
    _form(EARLY_GAT, ("lin_l.weight", "att_l", "att_r"), ("lin_r.weight", "bias"), _read_early_gat),
    _form(OLD_GAT, ("weight", "att"), ("bias",), _read_old_gat),
    _form(
        GATV2,
        ("lin_l.weight", "att"),
        ("lin_l.bias", "lin_r.weight", "lin_r.bias", "lin_edge.weight", *_MERGED),
        _read_gatv2,
    ),
    _form(GCN, ("lin.weight",), ("bias",), _read_gcn),
    _form(OLD_GCN, ("weight",), ("bias",), _read_old_gcn),
)


# --- back to PyTorch Geometric --------------------------------------------------------------------


def to_pyg(layer: ImportedLayer) -> dict[str, np.ndarray]:
    """Return the state dict of a layer of PyTorch Geometric (2.5 and later) with these weights.

    `torch.from_numpy` makes tensors of the arrays, and `load_state_dict` takes them. How the layer
    is made is in `layer.config`: `bias=True` has GATv2Conv for three biases, of which those that
    this layer does not have are zeros.

    Args:
      layer: of any system.

    Raises:
      ValueError: if PyG has no layer that computes this one.
    """
    _check_exportable(layer)
    params = layer.params
    if isinstance(params, GCNParams):
        return {"lin.weight": _weight(params.kernel)} | _merged_state(params)
    if isinstance(params, GATv2Params):
        return _gatv2_state(params) | _merged_state(params)
    state = {"att_src": np.array(params.a_send)[None], "att_dst": np.array(params.a_recv)[None]}
    if params.kernel_recv is None:
        state["lin.weight"] = _weight(params.kernel)
    else:
        state["lin_src.weight"] = _weight(params.kernel)
        state["lin_dst.weight"] = _weight(params.kernel_recv)
    if params.edge_kernel is not None:
        state["lin_edge.weight"] = _weight(params.edge_kernel)
        state["att_edge"] = np.array(params.a_edge)[None]
    return state | _merged_state(params)


def _check_exportable(layer: ImportedLayer) -> None:
    """Refuse what PyG's layers cannot compute."""
    params, settings = layer.params, layer.settings
    if not isinstance(params, GATv2Params) and params.bias is not None:
        kind = type(params).__name__.removesuffix("Params")
        raise ValueError(f"bias: expected none, as PyG's {kind}Conv projects without, got one")
    if isinstance(params, GCNParams):
        if params.residual_kernel is not None:
            raise ValueError("residual_kernel: expected none, as PyG's GCNConv has none, got one")
        if (how := layer.config.gcn_normalization) != "symmetric":
            raise ValueError(f"gcn_normalization: expected symmetric, as in PyG, got {how}")
    if np.ndim(settings.slope) or np.any(np.asarray(settings.temperature) != 1.0):
        raise ValueError(
            "settings: expected one slope and a temperature of 1, as in PyG, got "
            f"slope={settings.slope}, temperature={settings.temperature}"
        )


def _weight(kernel: Any) -> Float[np.ndarray, "outputs features"]:
    """Return a kernel [F, H, C] as the weight [H * C, F] of a linear map."""
    array = np.asarray(kernel)
    return np.ascontiguousarray(array.reshape(len(array), -1).T)


def _merged_state(params: Any) -> dict[str, np.ndarray]:
    state = {}
    if params.output_bias is not None:
        state["bias"] = np.array(params.output_bias)
    if params.residual_kernel is not None:
        state["res.weight"] = np.ascontiguousarray(np.asarray(params.residual_kernel).T)
    return state


def _gatv2_state(params: GATv2Params) -> dict[str, np.ndarray]:
    """Return what GATv2Conv has, but for a bias and a residual path that the layer has itself."""
    received = params.kernel_send if params.kernel_recv is None else params.kernel_recv
    state = {
        "att": np.array(params.a)[None],
        "lin_l.weight": _weight(params.kernel_send),
        "lin_r.weight": _weight(received),
    }
    if params.edge_kernel is not None:
        state["lin_edge.weight"] = _weight(params.edge_kernel)
    sent = params.bias_send
    received = sent if params.kernel_recv is None else params.bias_recv
    if sent is None and params.output_bias is None:
        return state
    none = np.zeros(state["lin_l.weight"].shape[0], state["att"].dtype)
    state["lin_l.bias"] = none if sent is None else np.array(sent).reshape(-1)
    state["lin_r.bias"] = none if received is None else np.array(received).reshape(-1)
    return state
