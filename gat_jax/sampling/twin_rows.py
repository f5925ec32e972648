"""The layers once more, for the rows of twins in many initialisations at once.

`layers` is written for one initialisation and batched by `vmap`. Here initialisations are on the
last axis, the *batch* axis, of B = H T entries: one for each head of each of T initialisations
(head 0 of all first), so that every head is a layer of one head. A support is spelled out when the
program is built: a row is arithmetic on lists of arrays, one entry for each place of the support,
without segments or edge arrays. (A support of many senders is one entry with an axis of places.)
Only twins' rows are computed, and of them what is counted. That is 2.6 times and more as fast as
`vmap` of a layer.

How nodes lie in the program is the affair of `row_forms`, and of `wide_rows` where supports are
large.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from gat_jax.kernels import Scalar
from gat_jax.layers import LAYERS, LayerConfig, LayerParams, RowScores
from gat_jax.sampling.row_forms import ByNode, EachPlace, Index, Places, RowForm, Spelled
from gat_jax.sampling.twin_layout import TwinLayout
from gat_jax.sampling.wide_rows import log_degree, map_rows, max_spelled_degree, wide_groups
from gat_jax.symmetry import RowSigns, signs_of_rows

Values = Float[Array, "*#rows batch"]
Flags = Bool[Array, "*#rows batch"]


class ProjectedNodes(NamedTuple):
    """What rows are made of."""

    scores: RowScores
    residual: list[ByNode]  # by channel; empty without a residual path, or where it is not needed


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


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=("leaves", "deficit"),
    meta_fields=("structure",),
)
@dataclasses.dataclass(frozen=True)
class TwinRows:
    """The `RowFacts` of all twins."""

    leaves: list[ByNode]  # by receiver
    structure: Any  # jax's, which is no type to a type checker: makes `RowFacts` of the leaves
    deficit: ByNode | None  # one of the leaves once more: it is also counted by row


def project_nodes(
    params: LayerParams,
    nodes: Float[Array, "nodes features batch_or_1"] | Spelled,
    config: LayerConfig,
    form: RowForm,
    *,
    only_signs: bool,
) -> ProjectedNodes:
    """Return what the rows of all twins are made of; arguments as `measure_rows`.

    It is by itself because a node belongs to many rows.
    """
    residual = []
    if params.residual_kernel is not None and not only_signs:
        residual = form.project(params.residual_kernel[:, None], None, nodes)
    return ProjectedNodes(LAYERS[config.layer].rows.scores(params, nodes, form), residual)


def measure_rows(
    params: LayerParams,
    nodes: ProjectedNodes,
    layout: TwinLayout,
    config: LayerConfig,
    form: RowForm,
    *,
    slope: Scalar,
    is_monotone: bool,
    only_signs: bool,
) -> TwinRows:
    """Compute the rows of all twins.

    Args:
      params: of one head, leaves [..., B], as `pair_facts.measure_pairs` takes them.
      nodes: of `project_nodes`, with the same options.
      layout: of the twins.
      config: of the layer.
      form: in which the nodes were projected.
      slope: of the LeakyReLU.
      is_monotone: whether it is >= 0.
      only_signs: leave out what needs attention weights.
    """
    formula = LAYERS[config.layer].rows
    scores, residual_of_nodes = nodes
    batch = jax.tree.leaves(params)[0].shape[-1]
    max_degree = max_spelled_degree(layout, config, only_signs=only_signs)
    if layout.is_by_class or max_degree < layout.degrees[-1]:
        # Pairs and classes are judged by the same numbers to the last bit: XLA may keep more digits
        # where it computes them anew for each. And of many places each would project its sender.
        scores, residual_of_nodes = jax.lax.optimization_barrier((scores, residual_of_nodes))

    def measure(places: Places, receivers: Any, senders: Sequence, weights: Sequence, parts: list):
        query = [form.pick(part, receivers) for part in scores.query]
        keys = [[form.pick(part, j) for j in senders] for part in scores.keys]
        outputs, deficit = [], None
        if not only_signs:
            z = [[form.pick(channel, j) for j in senders] for channel in scores.values]
            if formula.given_weights is None:
                assert formula.shifted is not None
                shifted = formula.shifted(params, places, query, keys, slope, is_monotone)
                outputs, deficit = _average(places, shifted, z)
            else:
                given = formula.given_weights(config, weights, places.degree)
                outputs = [_weighted(places, given, channel) for channel in z]
                deficit = jnp.zeros_like(query[0])
        residual = [form.pick(channel, receivers) for channel in residual_of_nodes]
        return RowFacts(_signs(places, query, keys, parts), outputs, deficit, residual)

    def measure_wide(places: Places, receivers: Array, senders: Array, weights: Array):
        parts = [part[None] for part in scores.weights]
        facts = measure(places, receivers[None], [senders], [weights], parts)
        return jax.tree.map(lambda x: x[0], facts)

    parts = [
        measure(
            EachPlace(form, len(group.senders)),
            group.receivers,
            group.senders,
            group.gcn_weights,
            scores.weights,
        )
        for group in form.groups(layout, max_degree)
    ]
    # Of a sender its parts and channels; of the softmax logits, exponentials and products.
    num_quantities = len(scores.keys) + len(scores.values) + 6
    parts += [
        map_rows(measure_wide, group, batch=batch, num_quantities=num_quantities)
        for group in wide_groups(layout, max_degree)
    ]
    leaves, structures = zip(*map(jax.tree.flatten, parts), strict=True)
    joined = [form.join_groups(leaf) for leaf in zip(*leaves, strict=True)]
    deficits = [part.deficit for part in parts if part.deficit is not None]
    return TwinRows(joined, structures[0], form.join_groups(deficits) if deficits else None)


def all_signs(rows: TwinRows) -> RowSigns:
    """Return the signs of all twins, where rows lie in arrays [R, B]."""
    return jax.tree.unflatten(rows.structure, rows.leaves).signs


def pick_rows(form: RowForm, rows: TwinRows, index: Index) -> RowFacts:
    """Return the facts about the rows that an index says."""
    picked = [form.pick(leaf, index) for leaf in rows.leaves]
    return jax.tree.unflatten(rows.structure, picked)


# --- one row, as arithmetic on arrays -----------------------------------------------------------


def _signs(
    places: Places, query: list[Values], keys: list[list[Values]], weights: list[Array]
) -> RowSigns:
    """Reduce each part of a row to signs.

    Args:
      places: of the support.
      query: the receiver's part, by part of the score.
      keys: the senders' parts, by part and place of the support.
      weights: of the parts; one of weight 0 does not count. Empty: all of them do.
    """
    by_part = []
    for part, (recv, send) in enumerate(zip(query, keys, strict=True)):
        is_dead = weights[part] == 0 if weights else False
        signs = signs_of_rows(recv, places.smallest(send), places.largest(send), is_dead=is_dead)
        by_part.append(signs)
    return RowSigns(*map(list, zip(*by_part, strict=True)))


def _average(
    places: Places, shifted: list[Values], z: list[list[Values]]
) -> tuple[list[Values], Values]:
    """Return the softmax average of each channel, and 1 - H / log d of the weights.

        log d - H = sum_j alpha_j s_j - log(1 + (1/d) sum_j (e^s_j - 1))

    `symmetry.metrics` has the same from the weights alone; from the logits it costs two sums.

    Numerics: near uniform attention both terms are of the size of s, the difference of that of
    s^2; with expm1 and log1p its relative error is about eps / s, 2e-5 at a deficit of 1e-6. Over
    many places it is that of the sums, which `wide_rows` bounds.
    """
    excess = [jnp.expm1(s) for s in shifted]
    weights = [e + 1.0 for e in excess]
    total = places.total(weights)
    outputs = [_weighted(places, weights, channel) / total for channel in z]
    mean_shift = _weighted(places, weights, shifted) / total
    mean_excess = places.total(excess) / places.degree
    return outputs, (mean_shift - jnp.log1p(mean_excess)) / log_degree(places.degree)


def _weighted(places: Places, weights: Sequence, values: list[Values]) -> Values:
    """Return sum_j w_j v_j over the places of a support; the weights are arrays or numbers."""
    return places.total([w * v for w, v in zip(weights, values, strict=True)])
