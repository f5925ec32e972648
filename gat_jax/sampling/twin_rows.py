"""The layers once more, for many initialisations of twins: initialisations on the last axis.

`layers` is written for one initialisation and batched by `vmap`. Here every quantity of a node is
an array [..., L] of L = H T lanes, one for each head of each of T initialisations (head 0 of all
first), and a support is spelled out when the program is built: a row is arithmetic on lists of such
arrays, one entry for each slot of the support, without segments or edge arrays. Only twins' rows
are computed, and of them what is counted.

Two forms share this code. *Unrolled*: every node is an entry of a list, an index is an integer,
and XLA fuses the whole measurement into a few loops over initialisations; for small supports.
*Gathered*: nodes are the first axis of an array, an index is a vector of node ids, and all
receivers of one degree are handled together.
"""

import dataclasses
import functools
import math
import operator
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jraph
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from gat_jax.graphs import TwinPairs
from gat_jax.kernels import Scalar, leaky_relu
from gat_jax.layers import GATParams, GATv2Params, GCNParams, LayerConfig, LayerParams
from gat_jax.symmetry import CAUSES

# More operations than this in a program, and unrolling costs more in compiling than it saves.
MAX_UNROLLED = 800

Lanes = Float[Array, "*#rows lanes"]
Flags = Bool[Array, "*#rows lanes"]


@dataclasses.dataclass(frozen=True)
class TwinLayout:
    """Twins and their supports, as static data: what a program is built from."""

    num_nodes: int
    receivers: tuple[int, ...]  # every twin, by ascending degree
    supports: tuple[tuple[int, ...], ...]  # its senders, with multiplicity, in the graph's order
    gcn_weights: tuple[tuple[float, ...], ...]  # 1 / sqrt(d_i d_j), by slot
    pairs: tuple[tuple[int, int], ...]  # positions in `receivers`
    pair_classes: tuple[int, ...]  # number of each pair's class

    @property
    def num_classes(self) -> int:
        """Number of twin classes."""
        return max(self.pair_classes) + 1

    def is_unrolled(self, num_features: int, channels: int) -> bool:
        """Whether the program is small enough to spell out every node."""
        slots = sum(map(len, self.supports))
        projections = self.num_nodes * num_features * channels
        operations = projections + slots * (10 + 2 * channels) + len(self.pairs) * 20
        return operations <= MAX_UNROLLED


def twin_layout(graph: jraph.GraphsTuple, pairs: TwinPairs) -> tuple[TwinLayout, np.ndarray]:
    """Describe what the rows of the twins need; no other row is measured.

    Args:
      graph: one graph, without edge features.
      pairs: all pairs of non-trivial twins of that graph, at least one.

    Returns:
      The layout, and the ids of the nodes it speaks of: its node k is node ids[k] of the graph.

    Raises:
      ValueError: without pairs, with trivial ones, or with edge features.
    """
    if len(pairs.first) == 0:
        raise ValueError("pairs: expected at least one pair of non-trivial twins, got none")
    if np.any(pairs.is_trivial):
        raise ValueError("pairs: expected non-trivial twins, got trivial ones, equal by definition")
    if graph.edges is not None:
        raise ValueError("edges: expected no edge features when initialisations are sampled")
    senders, receivers = np.asarray(graph.senders), np.asarray(graph.receivers)
    degree = np.maximum(np.bincount(receivers, minlength=len(graph.nodes)), 1)
    starts = np.searchsorted(receivers, np.arange(len(graph.nodes) + 1))
    twins = np.union1d(pairs.first, pairs.second)
    twins = twins[np.argsort(degree[twins], kind="stable")]
    supports = [senders[starts[i] : starts[i + 1]] for i in twins]
    ids = np.union1d(twins, np.concatenate(supports))
    position = {int(node): k for k, node in enumerate(twins)}
    # Twins of one class share a support, and only they do.
    classes: dict[bytes, int] = {}
    for support in supports:
        classes.setdefault(support.tobytes(), len(classes))
    first = [position[int(i)] for i in pairs.first]
    layout = TwinLayout(
        num_nodes=len(ids),
        receivers=_as_ints(np.searchsorted(ids, twins)),
        supports=tuple(_as_ints(np.searchsorted(ids, s)) for s in supports),
        gcn_weights=tuple(
            tuple(map(float, 1.0 / np.sqrt(degree[i] * degree[s])))
            for i, s in zip(twins, supports, strict=True)
        ),
        pairs=tuple(zip(first, (position[int(k)] for k in pairs.second), strict=True)),
        pair_classes=tuple(classes[supports[k].tobytes()] for k in first),
    )
    return layout, ids


def _as_ints(values: np.ndarray) -> tuple[int, ...]:
    return tuple(map(int, values))


class Rows(NamedTuple):
    """Facts about twins' rows. Every entry can be indexed by receiver, giving [..., L].

    Lists run over the D parts of a score: 1 for GAT and GCN, channels for GATv2; `outputs` over
    channels. `outputs` is empty and `deficit` None where only signs are asked for.
    """

    is_positive: list[Any]  # every logit >= 0
    is_negative: list[Any]  # every logit <= 0
    is_uniform: list[Any]  # the senders' part does not vary, to 4 ulp of the largest
    query: list[Any]  # the receiver's part of the logit
    outputs: list[Any]  # of each head
    deficit: Any  # 1 - normalised entropy


class PairFacts(NamedTuple):
    """What holds of each pair: P pairs, R twins, H heads, T initialisations.

    Averaged heads (`concat=False`) have one gap and one match for all heads: there H is 1.
    """

    causes: Int[Array, "pairs heads inits"]  # primary cause, index into CAUSES
    in_regime: Bool[Array, "pairs heads inits"]  # all logits of both rows have one sign
    # The rest needs attention weights: None where only signs are asked for.
    gap: Float[Array, "pairs heads_or_1 inits"] | None  # of the merged outputs, largest by head
    is_matching: Bool[Array, "pairs heads_or_1 inits"] | None  # outputs equal to 4 decimals
    deficit: Float[Array, "receivers heads inits"] | None  # 1 - normalised entropy, by row


def measure_pairs(
    params: LayerParams,
    nodes: Float[Array, "nodes features inits"],
    layout: TwinLayout,
    config: LayerConfig,
    *,
    slope: Scalar,
    is_monotone: bool = True,
    only_signs: bool = False,
) -> PairFacts:
    """Apply a layer to the twins and look at every pair.

    Args:
      params: of one head, leaves [..., L]: all heads of all initialisations are lanes. The
        residual path of averaged heads is that of head 0.
      nodes: [N, F, T] or [N, F, 1] features of the layout's nodes.
      layout: of the twins.
      config: of the layer, with all its heads; biases after merging are left out.
      slope: of the LeakyReLU; may be traced.
      is_monotone: whether the slope is >= 0.
      only_signs: leave out what needs attention weights; a pair is equal by signs, or `separated`.
    """
    if nodes.shape[-1] > 1:
        nodes = jnp.tile(nodes, config.heads)
    is_unrolled = layout.is_unrolled(nodes.shape[1], config.channels)
    rows = _rows(
        params,
        nodes,
        layout,
        config,
        slope=slope,
        is_monotone=is_monotone,
        only_signs=only_signs,
        is_unrolled=is_unrolled,
    )
    residual = None if only_signs else _residual(params, nodes, layout, is_unrolled)
    facts = [
        _compare(rows, residual, i, k, config, slope=slope, only_signs=only_signs)
        for i, k in (layout.pairs if is_unrolled else [np.array(layout.pairs).T])
    ]
    combine = jnp.stack if is_unrolled else jnp.concatenate
    fields: list[Any] = [None if x[0] is None else combine(x) for x in zip(*facts, strict=True)]
    deficit = jnp.stack(rows.deficit) if isinstance(rows.deficit, list) else rows.deficit
    num_inits = fields[0].shape[-1] // config.heads
    by_head: list[Any] = [
        None if x is None else x.reshape(len(x), -1, num_inits) for x in (*fields, deficit)
    ]
    return PairFacts(*by_head)


def _residual(
    params: LayerParams, nodes: Array, layout: TwinLayout, is_unrolled: bool
) -> list[Any] | None:
    """Return the residual path of every twin, a list over channels; None where there is none."""
    if params.residual_kernel is None:
        return None
    projected = _project(params.residual_kernel[:, None], None, nodes, is_unrolled)
    if is_unrolled:
        return [[channel[i] for i in layout.receivers] for channel in projected]
    return [channel[np.array(layout.receivers)] for channel in projected]


# --- rows ---------------------------------------------------------------------------------------


class _Group(NamedTuple):
    """Receivers of one degree: an integer each (unrolled) or a vector of ids (gathered)."""

    receivers: Any
    slots: Sequence[Any]  # senders, one entry for each slot of the support
    gcn_weights: Sequence[Any]


def _groups(layout: TwinLayout, is_unrolled: bool) -> list[_Group]:
    if is_unrolled:
        parts = zip(layout.receivers, layout.supports, layout.gcn_weights, strict=True)
        return [_Group(*part) for part in parts]
    degrees = np.array([len(support) for support in layout.supports])
    groups = []
    for degree in np.unique(degrees):
        members = np.flatnonzero(degrees == degree)
        slots = np.array([layout.supports[k] for k in members]).T
        weights = np.array([layout.gcn_weights[k] for k in members], np.float32).T
        receivers = np.array([layout.receivers[k] for k in members])
        groups.append(_Group(receivers, list(slots), list(weights[..., None])))
    return groups


def _rows(
    params: LayerParams,
    nodes: Array,
    layout: TwinLayout,
    config: LayerConfig,
    *,
    slope: Scalar,
    is_monotone: bool,
    only_signs: bool,
    is_unrolled: bool,
) -> Rows:
    """Compute the rows of all twins, one receiver or one degree at a time."""
    weights: list[Any] = []  # GATv2's a, by channel
    dead: list[Any] = [False]
    match params:
        case GATParams():
            values = _project(params.kernel, params.bias, nodes, is_unrolled)
            recv = [_dot(values, params.a_recv, is_unrolled)]
            send = [_dot(values, params.a_send, is_unrolled)]
        case GATv2Params():
            values = _project(params.kernel_send, params.bias_send, nodes, is_unrolled)
            recv, send = values, values
            if params.kernel_recv is not None:
                recv = _project(params.kernel_recv, params.bias_recv, nodes, is_unrolled)
            weights = [params.a[:, c] for c in range(config.channels)]
            if is_unrolled:
                weights = [w[0] for w in weights]
            dead = [w == 0 for w in weights]  # such a channel does not count
        case GCNParams():
            values = _project(params.kernel, params.bias, nodes, is_unrolled)
            recv = send = [jax.tree.map(jnp.zeros_like, values[0])]
    parts = []
    for receivers, slots, gcn_weights in _groups(layout, is_unrolled):
        query = [_pick(part, receivers) for part in recv]
        t = [[_pick(part, j) for j in slots] for part in send]
        signs = _signs(query, t, dead)
        outputs, deficit = [], None
        if not only_signs:
            z = [[_pick(channel, j) for j in slots] for channel in values]
            match params:
                case GATParams():
                    shifted = _gat_shifted(query[0], t[0], slope, is_monotone)
                    outputs, deficit = _average(shifted, z)
                case GATv2Params():
                    outputs, deficit = _average(_gatv2_shifted(query, t, weights, slope), z)
                case GCNParams():
                    if config.gcn_normalization == "mean":
                        gcn_weights = [1.0 / len(slots)] * len(slots)
                    outputs = [_weighted_sum(gcn_weights, channel) for channel in z]
                    deficit = jnp.zeros_like(query[0])
        parts.append(Rows(*signs, query, outputs, deficit))
    if is_unrolled:
        return jax.tree.map(lambda *x: list(x), *parts)
    return jax.tree.map(lambda *x: jnp.concatenate(x), *parts)


def _project(kernel: Array, bias: Array | None, nodes: Array, is_unrolled: bool) -> list[Any]:
    """Return x W + b, a list over channels of [L] by node; kernel [F, 1, C, L], bias [1, C, L]."""
    num_features, _, channels, _ = kernel.shape
    weights = [[kernel[f, 0, c] for f in range(num_features)] for c in range(channels)]
    if is_unrolled:
        values = [
            [_weighted_sum(list(nodes[n]), weights[c]) for n in range(len(nodes))]
            for c in range(channels)
        ]
        if bias is None:
            return values
        return [[z + bias[0, c] for z in channel] for c, channel in enumerate(values)]
    if nodes.shape[-1] == 1:
        z_ncl = jnp.einsum(
            "nf,fcl->ncl", nodes[..., 0], kernel[:, 0], precision=jax.lax.Precision.HIGHEST
        )
        values = [z_ncl[:, c] for c in range(channels)]
    else:
        columns = [nodes[:, f] for f in range(num_features)]
        values = [_weighted_sum([w[None] for w in channel], columns) for channel in weights]
    return values if bias is None else [z + bias[:, c] for c, z in enumerate(values)]


def _pick(by_node: Any, index: Any) -> Array:
    """Return the entry of one node (unrolled), or the rows of a vector of nodes (gathered)."""
    if isinstance(index, int):
        return by_node[index]
    return by_node.at[index].get(mode="promise_in_bounds")


def _dot(values: list[Any], weights: Float[Array, "1 channels lanes"], is_unrolled: bool) -> Any:
    """Return sum_c w_c z_c by node."""
    if is_unrolled:
        channels = [weights[0, c] for c in range(len(values))]
        return [_weighted_sum(channels, node) for node in zip(*values, strict=True)]
    return _weighted_sum([weights[:, c] for c in range(len(values))], values)


def _weighted_sum(weights: Sequence[Any], values: Sequence[Any]) -> Array:
    products = [w * v for w, v in zip(weights, values, strict=True)]
    return functools.reduce(operator.add, products)


def _signs(
    query: list[Lanes], t: list[list[Lanes]], dead: list[Any]
) -> tuple[list[Flags], list[Flags], list[Flags]]:
    """Reduce each part of a row to signs; as `symmetry.row_signs`."""
    positive, negative, uniform = [], [], []
    for c, senders, is_dead in zip(query, t, dead, strict=True):
        low, high = functools.reduce(jnp.minimum, senders), functools.reduce(jnp.maximum, senders)
        # Rounding is monotone: the smallest of the rounded sums is the rounded smallest sum.
        positive.append(c + low >= 0)
        negative.append(c + high <= 0)
        size = jnp.maximum(jnp.maximum(high, -low), 0.0)
        uniform.append((high - low <= 4 * jnp.finfo(low.dtype).eps * size) | is_dead)
    return positive, negative, uniform


def _gat_shifted(c: Lanes, t: list[Lanes], slope: Scalar, is_monotone: bool) -> list[Lanes]:
    """Return the logits after the LeakyReLU, less their maximum; see `attention.gat_attention`."""
    if not is_monotone:
        return _less_maximum([leaky_relu(c + t_j, slope) for t_j in t])
    m = functools.reduce(jnp.maximum, t)
    # With slope 1 both pieces are one.
    is_one_piece = (c + m < 0) | (slope == 1)
    shifted = []
    for t_j in t:
        mixed = jnp.where(c + t_j >= 0, t_j - m, slope * (c + t_j) - (c + m))
        shifted.append(jnp.where(is_one_piece, slope * (t_j - m), mixed))
    return shifted


def _gatv2_shifted(
    query: list[Lanes], t: list[list[Lanes]], weights: list[Lanes], slope: Scalar
) -> list[Lanes]:
    scores = [
        _weighted_sum(
            weights, [leaky_relu(r + t_j, slope) for r, t_j in zip(query, sender, strict=True)]
        )
        for sender in zip(*t, strict=True)
    ]
    return _less_maximum(scores)


def _less_maximum(scores: list[Lanes]) -> list[Lanes]:
    highest = functools.reduce(jnp.maximum, scores)
    return [score - highest for score in scores]


def _average(shifted: list[Lanes], z: list[list[Lanes]]) -> tuple[list[Lanes], Lanes]:
    """Return the softmax average of each channel, and 1 - H / log d of the weights.

        log d - H = sum_j alpha_j s_j - log(1 + (1/d) sum_j (e^s_j - 1))

    Numerics: near uniform attention both terms are of the size of s, the difference of that of
    s^2; with expm1 and log1p its relative error is about eps / s, 2e-5 at a deficit of 1e-6.
    """
    excess = [jnp.expm1(s) for s in shifted]
    weights = [e + 1.0 for e in excess]
    total = functools.reduce(operator.add, weights)
    outputs = [_weighted_sum(weights, channel) / total for channel in z]
    degree = len(shifted)
    mean_shift = _weighted_sum(weights, shifted) / total
    mean_excess = functools.reduce(operator.add, excess) / degree
    return outputs, (mean_shift - jnp.log1p(mean_excess)) / math.log(degree)


# --- pairs --------------------------------------------------------------------------------------


def _compare(
    rows: Rows,
    residual: list[Any] | None,
    i: Any,
    k: Any,
    config: LayerConfig,
    *,
    slope: Scalar,
    only_signs: bool,
) -> tuple[Array | None, ...]:
    """Return the first fields of `PairFacts`, [L] for one pair, [P, L] for a vector of pairs."""
    by_part = {
        "equal_query": [part[i] == part[k] for part in rows.query],
        "positive": [part[i] & part[k] for part in rows.is_positive],
        "negative": [part[i] & part[k] for part in rows.is_negative],
        "uniform": [part[i] & part[k] for part in rows.is_uniform],
    }
    causes = {name: _all(parts) for name, parts in by_part.items()}
    causes["linear"] = jnp.broadcast_to(jnp.asarray(slope) == 1, causes["uniform"].shape)
    causes["channelwise"] = _all([_any(parts) for parts in zip(*by_part.values(), strict=True)])
    first, second = ([channel[n] for channel in rows.outputs] for n in (i, k))
    gap = None
    if not only_signs:
        gap = _largest([jnp.abs(a - b) for a, b in zip(first, second, strict=True)])
        size = _largest([jnp.abs(a) for a in [*first, *second]])
        causes["rounding"] = gap <= 4 * jnp.finfo(gap.dtype).eps * size
    primary = jnp.full(causes["uniform"].shape, CAUSES.index("separated"), jnp.int32)
    for name in reversed(CAUSES):
        if name in causes:
            primary = jnp.where(causes[name], CAUSES.index(name), primary)
    in_regime = causes["positive"] | causes["negative"]
    if only_signs:
        return primary, in_regime, None, None
    if residual is not None or not config.concat:
        first = _merge(first, None if residual is None else [x[i] for x in residual], config)
        second = _merge(second, None if residual is None else [x[k] for x in residual], config)
        gap = _largest([jnp.abs(a - b) for a, b in zip(first, second, strict=True)])
    is_matching = _all(
        [jnp.round(a * 1e4) == jnp.round(b * 1e4) for a, b in zip(first, second, strict=True)]
    )
    return primary, in_regime, gap, is_matching


def _merge(outputs: list[Lanes], residual: list[Lanes] | None, config: LayerConfig) -> list[Array]:
    """Average the heads if they are not concatenated, and add the residual path."""
    if not config.concat:

        def by_head(x: Lanes) -> Array:
            return x.reshape(*x.shape[:-1], config.heads, -1)

        outputs = [jnp.mean(by_head(x), axis=-2) for x in outputs]
        residual = None if residual is None else [by_head(x)[..., 0, :] for x in residual]
    if residual is None:
        return outputs
    return [a + b for a, b in zip(outputs, residual, strict=True)]


def _all(flags: Sequence[Flags]) -> Flags:
    return functools.reduce(operator.and_, flags)


def _any(flags: Sequence[Flags]) -> Flags:
    return functools.reduce(operator.or_, flags)


def _largest(values: Sequence[Lanes]) -> Lanes:
    return functools.reduce(jnp.maximum, values)
