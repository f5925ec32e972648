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

from gat_jax.kernels import Scalar
from gat_jax.layers import LAYERS, LayerConfig, LayerParams
from gat_jax.sampling.row_forms import ByNode, Index, RowForm, weighted_sum
from gat_jax.sampling.twin_layout import TwinLayout
from gat_jax.symmetry import RowSigns, signs_of_rows

Values = Float[Array, "*#rows batch"]
Flags = Bool[Array, "*#rows batch"]


class RowFacts(NamedTuple):
    """Facts about rows: of one group, or those that an index picks; arrays [B] or [K, B].

    Lists of `signs` run over the D parts of a score: 1 for GAT and GCN, channels for GATv2; those
    of `outputs` and `residual` over channels. `outputs` and `residual` are empty and `deficit` is
    None where only signs are asked for.
    """

    signs: RowSigns  # lists of arrays
    outputs: list[Array]  # of each head
    deficit: Array | None  # 1 - normalised entropy
    residual: list[Array]  # what the residual path adds; empty without one


class TwinRows(NamedTuple):
    """The `RowFacts` of all twins."""

    leaves: list[ByNode]  # by receiver
    structure: Any  # jax's, which is no type to a type checker: makes `RowFacts` of the leaves
    deficit: ByNode | None  # one of the leaves once more: it is also counted by row


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
    formula = LAYERS[config.layer].rows
    scores = formula.scores(params, nodes, form)
    residual_of_nodes = []
    if params.residual_kernel is not None and not only_signs:
        residual_of_nodes = form.project(params.residual_kernel[:, None], None, nodes)
    parts = []
    for group in form.groups(layout):
        query = [form.pick(part, group.receivers) for part in scores.query]
        keys = [[form.pick(part, j) for j in group.senders] for part in scores.keys]
        outputs, deficit = [], None
        if not only_signs:
            z = [[form.pick(channel, j) for j in group.senders] for channel in scores.values]
            if formula.given_weights is None:
                assert formula.shifted is not None
                shifted = formula.shifted(params, form, query, keys, slope, is_monotone)
                outputs, deficit = _average(shifted, z)
            else:
                weights = formula.given_weights(config, group.gcn_weights)
                outputs = [weighted_sum(weights, channel) for channel in z]
                deficit = jnp.zeros_like(query[0])
        residual = [form.pick(channel, group.receivers) for channel in residual_of_nodes]
        signs = _signs(query, keys, scores.weights)
        parts.append(RowFacts(signs, outputs, deficit, residual))
    leaves, structures = zip(*map(jax.tree.flatten, parts), strict=True)
    joined = [form.join_groups(leaf) for leaf in zip(*leaves, strict=True)]
    deficits = [part.deficit for part in parts if part.deficit is not None]
    return TwinRows(joined, structures[0], form.join_groups(deficits) if deficits else None)


def pick_rows(form: RowForm, rows: TwinRows, index: Index) -> RowFacts:
    """Return the facts about the rows that an index says."""
    picked = [form.pick(leaf, index) for leaf in rows.leaves]
    return jax.tree.unflatten(rows.structure, picked)


# --- one row, as arithmetic on arrays -----------------------------------------------------------


def _signs(query: list[Values], keys: list[list[Values]], weights: list[Array]) -> RowSigns:
    """Reduce each part of a row to signs.

    Args:
      query: the receiver's part, by part of the score.
      keys: the senders' parts, by part and place of the support.
      weights: of the parts; one of weight 0 does not count. Empty: all of them do.
    """
    by_part = []
    for part, (recv, send) in enumerate(zip(query, keys, strict=True)):
        lowest, highest = (functools.reduce(pick, send) for pick in (jnp.minimum, jnp.maximum))
        is_dead = weights[part] == 0 if weights else False
        by_part.append(signs_of_rows(recv, lowest, highest, is_dead=is_dead))
    return RowSigns(*map(list, zip(*by_part, strict=True)))


def _average(shifted: list[Values], z: list[list[Values]]) -> tuple[list[Values], Values]:
    """Return the softmax average of each channel, and 1 - H / log d of the weights.

        log d - H = sum_j alpha_j s_j - log(1 + (1/d) sum_j (e^s_j - 1))

    `symmetry.metrics` has the same from the weights alone; from the logits it costs two sums.

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
