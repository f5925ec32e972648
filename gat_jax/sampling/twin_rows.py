"""The layers once more, for the rows of twins in many initialisations at once.

`layers` is written for one initialisation and batched by `vmap`. Here initialisations are on the
last axis, the *batch* axis, of B = H T entries: one for each head of each of T initialisations
(head 0 of all first), so that every head is a layer of one head. A support is spelled out when the
program is built: a row is arithmetic on lists of arrays, one entry for each place of the support,
without segments or edge arrays. Only twins' rows are computed, and of them what is counted. That
is 2.6 times and more as fast as `vmap` of a layer.

How nodes lie in the program is the affair of `row_forms`.
"""

import functools
import math
import operator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from gat_jax.kernels import Scalar, leaky_relu
from gat_jax.layers import GATParams, GATv2Params, GCNParams, LayerConfig, LayerParams
from gat_jax.sampling.row_forms import ByNode, Group, Index, RowForm, weighted_sum
from gat_jax.sampling.twin_layout import TwinLayout

Values = Float[Array, "*#rows batch"]
Flags = Bool[Array, "*#rows batch"]


class RowFacts(NamedTuple):
    """Facts about rows: of one group, or those that an index picks; arrays [B] or [K, B].

    Lists run over the D parts of a score: 1 for GAT and GCN, channels for GATv2; those of
    `outputs` and `residual` over channels. `outputs` and `residual` are empty and `deficit` is
    None where only signs are asked for.
    """

    is_positive: list[Array]  # every logit >= 0
    is_negative: list[Array]  # every logit <= 0
    is_uniform: list[Array]  # the senders' part does not vary, to 4 ulp of the largest
    query: list[Array]  # the receiver's part of the logit
    outputs: list[Array]  # of each head
    deficit: Array | None  # 1 - normalised entropy
    residual: list[Array]  # what the residual path adds; empty without one


class TwinRows(NamedTuple):
    """The `RowFacts` of all twins."""

    leaves: list[ByNode]  # by receiver
    structure: Any  # jax's, which is no type to a type checker: makes `RowFacts` of the leaves
    deficit: ByNode | None  # one of the leaves once more: it is also counted by row


class _Scores(NamedTuple):
    """A layer's quantities of every node, from which rows are made."""

    values: list[ByNode]  # z, by channel: what attention averages
    query: list[ByNode]  # the receiver's part of a score, by part
    keys: list[ByNode]  # the sender's part of a score, by part
    weights: list[Array]  # GATv2's a, by channel; empty for the others
    residual: list[ByNode]  # by channel; empty without a residual path


def measure_rows(
    params: LayerParams,
    nodes: Float[Array, "nodes features batch_or_1"],
    layout: TwinLayout,
    config: LayerConfig,
    form: RowForm,
    *,
    slope: Scalar,
    is_monotone: bool,
    only_signs: bool,
) -> TwinRows:
    """Compute the rows of all twins; arguments as `pair_facts.measure_pairs`."""
    scores = _scores(params, nodes, form)
    if only_signs:
        scores = scores._replace(residual=[])
    parts = []
    for group in form.groups(layout):
        query = [form.pick(part, group.receivers) for part in scores.query]
        keys = [[form.pick(part, j) for j in group.senders] for part in scores.keys]
        outputs, deficit = [], None
        if not only_signs:
            z = [[form.pick(channel, j) for j in group.senders] for channel in scores.values]
            match params:
                case GATParams():
                    shifted = _gat_shifted(query[0], keys[0], slope, is_monotone)
                    outputs, deficit = _average(shifted, z)
                case GATv2Params():
                    shifted = _gatv2_shifted(query, keys, scores.weights, slope)
                    outputs, deficit = _average(shifted, z)
                case GCNParams():
                    weights = _gcn_weights(group, config)
                    outputs = [weighted_sum(weights, channel) for channel in z]
                    deficit = jnp.zeros_like(query[0])
        residual = [form.pick(channel, group.receivers) for channel in scores.residual]
        signs = _signs(query, keys, scores.weights)
        parts.append(RowFacts(*signs, query, outputs, deficit, residual))
    leaves, structures = zip(*map(jax.tree.flatten, parts), strict=True)
    joined = [form.join_groups(leaf) for leaf in zip(*leaves, strict=True)]
    deficits = [part.deficit for part in parts if part.deficit is not None]
    return TwinRows(joined, structures[0], form.join_groups(deficits) if deficits else None)


def pick_rows(form: RowForm, rows: TwinRows, index: Index) -> RowFacts:
    """Return the facts about the rows that an index says."""
    picked = [form.pick(leaf, index) for leaf in rows.leaves]
    return jax.tree.unflatten(rows.structure, picked)


def _scores(params: LayerParams, nodes: Array, form: RowForm) -> _Scores:
    """Compute what the layer needs of every node: one match for what differs between layers."""
    residual = []
    if params.residual_kernel is not None:
        residual = form.project(params.residual_kernel[:, None], None, nodes)
    match params:
        case GATParams():
            values = form.project(params.kernel, params.bias, nodes)
            query, keys = [form.dot(values, params.a_recv)], [form.dot(values, params.a_send)]
            return _Scores(values, query, keys, [], residual)
        case GATv2Params():
            values = form.project(params.kernel_send, params.bias_send, nodes)
            query = values
            if params.kernel_recv is not None:
                query = form.project(params.kernel_recv, params.bias_recv, nodes)
            return _Scores(values, query, values, form.channels(params.a), residual)
        case GCNParams():
            values = form.project(params.kernel, params.bias, nodes)
            zeros = [jax.tree.map(jnp.zeros_like, values[0])]
            return _Scores(values, zeros, zeros, [], residual)


def _gcn_weights(group: Group, config: LayerConfig) -> list:
    """Return the weight of every place of the support."""
    if config.gcn_normalization == "mean":
        return [1.0 / len(group.senders)] * len(group.senders)
    return group.gcn_weights


# --- one row, as arithmetic on arrays -----------------------------------------------------------


def _signs(
    query: list[Values], keys: list[list[Values]], weights: list[Array]
) -> tuple[list[Flags], list[Flags], list[Flags]]:
    """Reduce each part of a row to signs: positive, negative, uniform; as `symmetry.row_signs`.

    Args:
      query: the receiver's part, by part of the score.
      keys: the senders' parts, by part and place of the support.
      weights: GATv2's a; a channel of weight 0 does not count, and is uniform.
    """
    positive, negative, uniform = [], [], []
    for c, (recv, send) in enumerate(zip(query, keys, strict=True)):
        low, high = functools.reduce(jnp.minimum, send), functools.reduce(jnp.maximum, send)
        # Rounding is monotone: the smallest of the rounded sums is the rounded smallest sum.
        positive.append(recv + low >= 0)
        negative.append(recv + high <= 0)
        size = jnp.maximum(jnp.maximum(high, -low), 0.0)
        is_uniform = high - low <= 4 * jnp.finfo(low.dtype).eps * size
        uniform.append(is_uniform | (weights[c] == 0) if weights else is_uniform)
    return positive, negative, uniform


def _gat_shifted(
    query: Values, keys: list[Values], slope: Scalar, is_monotone: bool
) -> list[Values]:
    """Return the logits after the LeakyReLU, less their maximum; see `attention.gat_attention`."""
    if not is_monotone:
        return _less_maximum([leaky_relu(query + t_j, slope) for t_j in keys])
    m = functools.reduce(jnp.maximum, keys)
    # With slope 1 both pieces are one.
    is_one_piece = (query + m < 0) | (slope == 1)
    shifted = []
    for t_j in keys:
        mixed = jnp.where(query + t_j >= 0, t_j - m, slope * (query + t_j) - (query + m))
        shifted.append(jnp.where(is_one_piece, slope * (t_j - m), mixed))
    return shifted


def _gatv2_shifted(
    query: list[Values], keys: list[list[Values]], weights: list[Array], slope: Scalar
) -> list[Values]:
    """Return the scores sum_c a_c LeakyReLU(r_c + l_c), less their maximum."""
    scores = [
        weighted_sum(
            weights, [leaky_relu(r + t_j, slope) for r, t_j in zip(query, sender, strict=True)]
        )
        for sender in zip(*keys, strict=True)
    ]
    return _less_maximum(scores)


def _less_maximum(scores: list[Values]) -> list[Values]:
    highest = functools.reduce(jnp.maximum, scores)
    return [score - highest for score in scores]


def _average(shifted: list[Values], z: list[list[Values]]) -> tuple[list[Values], Values]:
    """Return the softmax average of each channel, and 1 - H / log d of the weights.

        log d - H = sum_j alpha_j s_j - log(1 + (1/d) sum_j (e^s_j - 1))

    Numerics: near uniform attention both terms are of the size of s, the difference of that of
    s^2; with expm1 and log1p its relative error is about eps / s, 2e-5 at a deficit of 1e-6.
    """
    excess = [jnp.expm1(s) for s in shifted]
    weights = [e + 1.0 for e in excess]
    total = functools.reduce(operator.add, weights)
    outputs = [weighted_sum(weights, channel) / total for channel in z]
    degree = len(shifted)
    mean_shift = weighted_sum(weights, shifted) / total
    mean_excess = functools.reduce(operator.add, excess) / degree
    return outputs, (mean_shift - jnp.log1p(mean_excess)) / math.log(degree)
