"""What all layers share: shapes, settings, what they report; `frame` has what they all do."""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from jaxtyping import Array, Bool, Float, Key

from gat_jax.kernels import Scalar

NormalizationName = Literal["mean", "symmetric"]
EdgeMask = Bool[Array | np.ndarray, " edges"]
EdgeWeight = Float[Array | np.ndarray, " edges"]
DropoutKey = Key[Array, ""] | None
# Options of one kind of layer, and the kinds which have another use for neither of their values.
IGNORED_BY = {"share_weights": ("gat", "gcn"), "gcn_normalization": ("gat", "gatv2")}


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
    num_receiver_features: int = 0  # of two sets of nodes, if receivers' features are others
    gcn_normalization: NormalizationName = "mean"

    def __post_init__(self):
        """Refuse what no layer can be built from."""
        at_least = {"heads": 1, "channels": 1, "num_edge_features": 0, "num_receiver_features": 0}
        for field, least in at_least.items():
            value = getattr(self, field)
            if isinstance(value, bool) or not isinstance(value, int | np.integer):
                raise ValueError(f"{field}: expected a whole number, got {value!r}")
            if value < least:
                raise ValueError(f"{field}: expected at least {least}, got {value}")
        for field in ("concat", "use_bias", "use_output_bias", "use_residual", "share_weights"):
            if not isinstance(value := getattr(self, field), bool | np.bool_):
                raise ValueError(f"{field}: expected True or False, got {value!r}")
        check_choice("gcn_normalization", self.gcn_normalization, get_args(NormalizationName))

    @property
    def num_outputs(self) -> int:
        """Width of the merged heads."""
        return self.heads * self.channels if self.concat else self.channels


def check_choice(field: str, value: str, choices: tuple[str, ...]) -> None:
    """Refuse a name that is not among the choices with a ValueError."""
    if not isinstance(value, str) or value not in choices:
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


class LayerTrace(NamedTuple):
    """What an attention layer of a network was given, and what it made of it."""

    info: AttentionInfo
    # [N, F], before dropout; a first layer may be given `SparseFeatures` or two sets of nodes
    inputs: Any
    outputs: Float[Array, "nodes outputs"]  # merged heads, with residual path and output bias


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

    `sampling.row_forms` says what forms and places are: a form projects features and multiplies
    vectors, however nodes lie in a program. Parameters are those of one head, with a last axis of
    initialisations.
    """

    scores: Callable  # of (params, nodes, form), returns RowScores
    # Of (params, places, query, keys, slope, is_monotone): the parts of one row, keys by place of
    # the support too. Returns by place what the softmax is taken of, less the largest. A list by
    # place has an entry for each place or one for all, so what is reduced over places is reduced by
    # `places.largest`.
    shifted: Callable | None
    # In place of a softmax: of (config, 1 / sqrt(d_i d_j) by place of the support, its number of
    # places), returns weights by place.
    given_weights: Callable | None = None


def less_largest(places, scores: list[Array]) -> list[Array]:
    """Return scores by place of the support, less their largest.

    Args:
      places: of the support, as `sampling.row_forms` has them.
      scores: by place.
    """
    largest = places.largest(scores)
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
        width = config.num_receiver_features or num_features
        specs["residual_kernel"] = ParamSpec((width, config.num_outputs), "kernel")
    if config.use_output_bias:
        specs["output_bias"] = ParamSpec((config.num_outputs,), "zeros")
    return specs
