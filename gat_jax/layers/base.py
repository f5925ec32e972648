"""What all layers share: shapes, settings, what they report, checks, dropout, merging of heads."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import jraph
import numpy as np
from jaxtyping import Array, Bool, Float, Key

from gat_jax.kernels import Layout, Scalar, SparseFeatures, layouts, projections

NormalizationName = Literal["mean", "symmetric"]
EdgeMask = Bool[Array | np.ndarray, " edges"]
DropoutKey = Key[Array, ""] | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class LayerShape:
    """What is static about applying a layer, whatever its kind."""

    heads: int = 1
    channels: int = 2  # per head
    concat: bool = True  # concatenate the heads, or else average them
    use_bias: bool = True  # on the projection: enters logits and values
    use_output_bias: bool = False  # after merging the heads
    use_residual: bool = False  # adds x W_residual to the merged heads
    share_weights: bool = False  # GATv2: one projection for senders and receivers
    num_edge_features: int = 0
    gcn_normalization: NormalizationName = "mean"

    def __post_init__(self):
        """Refuse what no layer can be built from."""
        for field, least in (("heads", 1), ("channels", 1), ("num_edge_features", 0)):
            if getattr(self, field) < least:
                raise ValueError(f"{field}: expected at least {least}, got {getattr(self, field)}")
        check_choice("gcn_normalization", self.gcn_normalization, get_args(NormalizationName))

    @property
    def num_outputs(self) -> int:
        """Width of the merged heads."""
        return self.heads * self.channels if self.concat else self.channels


def check_choice(field: str, value: str, choices: tuple[str, ...]) -> None:
    """Refuse a name that is not among the choices with a ValueError."""
    if value not in choices:
        raise ValueError(f"{field}: expected one of {', '.join(choices)}, got {value!r}")


class LayerSettings(NamedTuple):
    """What may be traced, and so mapped over by `vmap`."""

    slope: Scalar = 0.2  # of the LeakyReLU
    temperature: Scalar = 1.0  # > 0, divides the scores before the softmax
    feature_dropout: Scalar = 0.0  # rates apply only where a key is given
    attention_dropout: Scalar = 0.0


class AttentionInfo(NamedTuple):
    """What a layer saw on the way; D below is (H,) for GAT and GCN, (H, C) for GATv2.

    A logit is the sum of a receiver's part, a sender's part and, where the layer reads edge
    features, the edge's own. GCN has no scores: they are zeros, so that its weights are those of a
    uniform attention. What is not used costs nothing under `jit`.
    """

    receiver_scores: Float[Array, "nodes heads"] | Float[Array, "nodes heads channels"]  # [N, *D]
    sender_scores: Float[Array, "nodes heads"] | Float[Array, "nodes heads channels"]  # [N, *D]
    # [E, *D], None without edge features
    edge_scores: Float[Array, "edges heads"] | Float[Array, "edges heads channels"] | None
    logits: Float[Array, "edges heads"]  # GAT: before the LeakyReLU; GATv2: the scores
    attention: Float[Array, "edges heads"]  # before dropout
    head_outputs: Float[Array, "nodes heads channels"]  # before merging, output bias, residual
    channel_weights: Float[Array, "heads channels"] | None  # GATv2's a; None otherwise


class ParamSpec(NamedTuple):
    """Shape of a parameter, and how an initialiser treats it."""

    shape: tuple[int, ...]
    # half: one of the two attention vectors that the article writes as one. zeros: starts there.
    role: Literal["kernel", "attention", "half", "bias", "zeros"]


class RowScores(NamedTuple):
    """A layer's quantities of every node, as the rows of a sweep are made of them.

    Lists run over channels, or over the D parts of a score: 1 for GAT and GCN, channels for GATv2.
    """

    values: list[Any]  # z, by channel: what attention averages
    query: list[Any]  # the receiver's part of a score, by part
    keys: list[Any]  # the sender's part of a score, by part
    weights: list[Array]  # of the parts, such as GATv2's a; empty where all parts count


class RowFormula(NamedTuple):
    """A kind of layer once more, elementwise: one row of one head, for millions of initialisations.

    `sampling.row_forms` says what a form is: it projects features and multiplies vectors, however
    nodes lie in a program. Parameters are those of one head, with a last axis of initialisations.
    """

    scores: Callable  # of (params, nodes, form), returns RowScores
    # Of (params, form, query, keys, slope, is_monotone): the parts of one row, keys by place of the
    # support too. Returns by place what the softmax is taken of, less the largest.
    shifted: Callable | None
    # In place of a softmax: of (config, the support's 1 / sqrt(d_i d_j)), returns weights by place.
    given_weights: Callable | None = None


def less_largest(scores: list[Array]) -> list[Array]:
    """Return scores by place of the support, less their largest."""
    largest = functools.reduce(jnp.maximum, scores)
    return [score - largest for score in scores]


class LayerKind(NamedTuple):
    """All that the package has to know of a kind of layer; `config.LAYERS` lists them."""

    params: type  # a NamedTuple
    apply: Callable  # of (params, graph, *, config, settings, key, edge_mask, layout)
    specs: Callable[[LayerShape, int], dict[str, ParamSpec]]  # by parameter, in the order drawn
    rows: RowFormula
    # False where the weights of a row do not add up to 1, so that merged senders do not average.
    is_average: Callable[[LayerShape], bool] = lambda config: True


def common_specs(config: LayerShape, num_features: int) -> dict[str, ParamSpec]:
    """Return what any layer may have beside its own: residual path and bias of the outputs."""
    specs = {}
    if config.use_residual:
        specs["residual_kernel"] = ParamSpec((num_features, config.num_outputs), "kernel")
    if config.use_output_bias:
        specs["output_bias"] = ParamSpec((config.num_outputs,), "zeros")
    return specs


# --- checks -------------------------------------------------------------------------------------


class Prepared(NamedTuple):
    """Checked inputs of a layer."""

    config: LayerShape
    x: Any  # features [N, F] in the dtype of accumulation, after dropout; or SparseFeatures
    dtype: Any  # of the outputs
    layout: Layout


def prepare(
    specs: Callable[[LayerShape, int], dict[str, ParamSpec]],
    params: Any,
    kernel: Float[Array, "features heads channels"],
    graph: jraph.GraphsTuple,
    *,
    config: LayerShape | None,
    settings: LayerSettings,
    key: DropoutKey,
    edge_mask: EdgeMask | None,
    layout: Layout | None,
) -> Prepared:
    """Check that everything fits, and drop features out.

    Args:
      specs: of the kind of layer.
      params: of the layer.
      kernel: that of them which projects senders.
      graph: as `gat` has it; likewise the others.
      config: None: as the parameters show, heads concatenated.
      settings: rates of dropout.
      key: None applies no dropout.
      edge_mask: [E].
      layout: None: the edge list.

    Raises:
      ValueError: when parameters, graph and layout do not fit.
    """
    if kernel.ndim != 3:
        raise ValueError(f"kernel: expected shape [F, H, C], got {kernel.shape}")
    known = shape_of(params, kernel) if config is None else config
    _check_params(params, specs(known, kernel.shape[0]), is_complete=config is not None)
    if edge_mask is not None and np.shape(edge_mask) != graph.receivers.shape:
        expected = graph.receivers.shape
        raise ValueError(f"edge_mask: expected shape {expected}, got {np.shape(edge_mask)}")
    x = graph.nodes if isinstance(graph.nodes, SparseFeatures) else jnp.asarray(graph.nodes)
    if x.ndim != 2 or x.shape[1] != kernel.shape[0]:
        raise ValueError(f"nodes: expected shape [N, {kernel.shape[0]}], got {x.shape}")
    if layout is None:
        layout = layouts.segment_layout(graph)
    layouts.check_fits(layout, graph)
    dtype = jnp.promote_types(x.dtype, kernel.dtype)
    x = x.astype(jnp.promote_types(dtype, jnp.float32))
    return Prepared(known, drop_features(key, settings.feature_dropout, x), dtype, layout)


def shape_of(params: Any, kernel: Float[Array, "features heads channels"]) -> LayerShape:
    """Return the shape that parameters show: heads are taken to be concatenated."""
    fields = params._asdict()
    edge_kernel = fields.get("edge_kernel")
    return LayerShape(
        heads=kernel.shape[1],
        channels=kernel.shape[2],
        use_bias=any(fields[name] is not None for name in fields if name.startswith("bias")),
        use_output_bias=fields["output_bias"] is not None,
        use_residual=fields["residual_kernel"] is not None,
        share_weights="kernel_recv" in fields and fields["kernel_recv"] is None,
        num_edge_features=0 if edge_kernel is None else edge_kernel.shape[0],
    )


def _check_params(params: Any, specs: Mapping[str, ParamSpec], *, is_complete: bool) -> None:
    """Compare parameters with a layer's shapes; `is_complete`: none of them may be missing."""
    for name, array in params._asdict().items():
        expected = specs[name].shape if name in specs else None
        if array is None and (expected is None or not is_complete):
            continue
        found = None if array is None else array.shape
        if found != expected:
            wanted = "none" if expected is None else f"shape {expected}"
            raise ValueError(f"{name}: expected {wanted}, got {found or 'none'}")


# --- dropout ------------------------------------------------------------------------------------


def drop_features(key: DropoutKey, rate: Scalar, x: Any) -> Any:
    """Return dropped-out features, of sparse ones the non-zeros; all without a key."""
    if _is_without_dropout(key, rate):
        return x
    if isinstance(x, SparseFeatures):
        return dataclasses.replace(x, values=_drop(key, 0, rate, jnp.asarray(x.values)))
    return _drop(key, 0, rate, x)


def dropout_multiplier(
    key: DropoutKey, rate: Scalar, like: Float[Array, "edges heads"]
) -> Float[Array, "edges heads"] | None:
    """Return what dropout multiplies attention by: 0, or 1 / (1 - rate); None without a key."""
    if _is_without_dropout(key, rate):
        return None
    return _drop(key, 1, rate, jnp.ones_like(like))


def _is_without_dropout(key: DropoutKey, rate: Scalar) -> bool:
    return key is None or (isinstance(rate, (int, float)) and rate == 0)


def _drop(key, stream: int, rate: Scalar, values: Array) -> Array:
    """Inverted dropout with the layer's numbered stream of randomness."""
    is_kept = jax.random.bernoulli(jax.random.fold_in(key, stream), 1.0 - rate, values.shape)
    return jnp.where(is_kept, values / (1.0 - rate), 0.0)


# --- outputs ------------------------------------------------------------------------------------


def side_by_side(
    outputs: Float[Array, "nodes heads channels"],
) -> Float[Array, "nodes outputs"]:
    """Return the heads' outputs one after the other."""
    num_nodes, heads, channels = outputs.shape  # a graph without nodes has no size to infer
    return outputs.reshape(num_nodes, heads * channels)


def merge(
    outputs: Float[Array, "nodes heads channels"], params: Any, inputs: Prepared
) -> Float[Array, "nodes outputs"]:
    """Merge the heads, add residual path and bias; in the dtype that the inputs ask for."""
    merged = side_by_side(outputs) if inputs.config.concat else jnp.mean(outputs, axis=1)
    if params.residual_kernel is not None:
        residual = params.residual_kernel[:, None, :]
        merged += projections.project(inputs.x, residual, None)[:, :, 0]
    if params.output_bias is not None:
        merged += params.output_bias[None]
    return merged.astype(inputs.dtype)
