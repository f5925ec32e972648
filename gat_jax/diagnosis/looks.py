"""A quick look at a model while it trains: how alike twins are in each layer, and why.

A diagnosis (`analysis`) asks the same of a model once, and more. A look is made again and again, so
that it counts nodes instead of listing pairs, and keeps what the edges alone decide.
"""

import collections
import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jraph
import numpy as np
from jaxtyping import Bool, Int

from gat_jax.diagnosis.analysis import Seen, causes_of
from gat_jax.diagnosis.equality import layer_equality
from gat_jax.diagnosis.explain import REASONS, reason_of_pair
from gat_jax.diagnosis.models.observed import ObservedLayer, ObservedModel
from gat_jax.diagnosis.programs import compiled
from gat_jax.diagnosis.stages import carry
from gat_jax.graphs import equal_rows, twin_classes
from gat_jax.graphs.supports import sizes_of
from gat_jax.layers import apply_layer
from gat_jax.symmetry import RowSigns, mean_of_defined, normalised_entropy, row_signs
from gat_jax.symmetry.representations import effective_rank


class LayerTwins(NamedTuple):
    """Who is a twin in the edges of a layer."""

    edges: tuple[np.ndarray | None, ...]  # senders, receivers, features, weights
    twin: Int[np.ndarray, " nodes"]  # smallest id with the same support
    is_trivial: Bool[np.ndarray, " nodes"]


class Equality(NamedTuple):
    """Who is equal after a layer, and what tells why."""

    seen: Seen
    twins: LayerTwins
    outputs: Int[np.ndarray, " nodes"]  # classes of equal outputs, by their smallest member


class LayerLook(NamedTuple):
    """What was seen of one layer."""

    name: str
    entropy: float  # mean over heads and receivers of the normalised entropy
    equal_share: float  # of the non-trivial twins; NaN without twins
    rank: float  # effective rank of the outputs
    equality: Equality | None  # None where nothing can be said
    note: str = ""


class EqualTwins(NamedTuple):
    """Which non-trivial twins come out equal in every layer."""

    nodes: Int[np.ndarray, " equal"]
    partners: Int[np.ndarray, " equal"]  # a twin of each that it is equal to
    num_twins: int  # non-trivial twins in the edges of all layers


def look_at(model: ObservedModel, before: Sequence[LayerLook] = ()) -> tuple[LayerLook, ...]:
    """Measure every layer of a model.

    Args:
      model: as it was observed.
      before: an earlier look at the same model, of which the twins are taken where edges are the
        same.

    Raises:
      ValueError: as `graphs.validate`, or if a layer's parameters do not fit its inputs.
    """
    looks = []
    stages = []
    if _is_finite(model.graph.nodes):
        stages.append(equal_rows(np.asarray(model.graph.nodes)))
    for place, observed in enumerate(model.layers):
        known = before[place].equality if place < len(before) else None
        looks.append(_look_at_layer(observed, stages, None if known is None else known.twins))
        if looks[-1].equality is not None:
            stages.append(looks[-1].equality.outputs)
    return tuple(looks)


def _look_at_layer(
    observed: ObservedLayer, stages: list[np.ndarray], kept: LayerTwins | None
) -> LayerLook:
    """Measure one layer."""
    layer, graph, weight = observed.layer, observed.graph, observed.edge_weight
    nothing = LayerLook(layer.name, np.nan, np.nan, np.nan, None)
    if isinstance(graph.nodes, tuple):
        return nothing._replace(note="two sets of nodes: not measured")
    if not _is_finite((graph.nodes, observed.outputs, layer.params)):
        return nothing._replace(note="numbers that are not finite: not measured")
    inputs = carry([x for x in stages if len(x) == len(graph.nodes)], np.asarray(graph.nodes))
    # Rows that are equal but for rounding become equal, so that the signs of equal rows are.
    graph = graph._replace(nodes=np.asarray(graph.nodes)[inputs])
    info, signs, entropy, rank = compiled(_measures)(
        layer.params, graph, weight, layer.settings, observed.outputs, config=layer.config
    )
    if not _is_finite(info):
        return nothing._replace(note="numbers that are not finite: not measured")
    seen = Seen(observed._replace(graph=graph), info, RowSigns(*map(np.asarray, signs)))
    outputs = layer_equality(seen.observed, info, inputs, seen.signs).outputs
    twins = _twins_of(graph, weight, kept)
    is_twin = _have_company(twins.twin) & ~twins.is_trivial
    is_equal = is_twin & _have_company(_both(twins.twin, outputs))
    share = is_equal.sum() / is_twin.sum() if is_twin.any() else np.nan
    equality = Equality(seen, twins, outputs)
    return LayerLook(layer.name, float(entropy), float(share), float(rank), equality)


def _measures(params, graph, edge_weight, settings, outputs, *, config):
    """Return what a layer saw, its mean entropy and the rank of its outputs: one program."""
    options = {"config": config, "settings": settings, "edge_weight": edge_weight}
    merged, info = apply_layer(params, graph, **options)
    entropy = normalised_entropy(info.attention, graph.receivers, len(graph.nodes))
    rank = effective_rank(merged if outputs is None else outputs)
    return info, row_signs(info, graph), mean_of_defined(entropy), rank


def _twins_of(
    graph: jraph.GraphsTuple, weight: np.ndarray | None, kept: LayerTwins | None
) -> LayerTwins:
    """Return the twins of a graph: those that were kept, if its edges are the same."""
    edges = graph.senders, graph.receivers, graph.edges, weight
    if kept is not None and len(kept.twin) == len(graph.nodes) and _are_same(kept.edges, edges):
        return kept
    bare = graph._replace(nodes=np.zeros((len(graph.nodes), 1), np.float32))
    classes = twin_classes(bare, edge_weight=weight)
    return LayerTwins(edges, classes.twin, classes.is_trivial)


def _are_same(first: tuple, second: tuple) -> bool:
    return all(
        (a is None and b is None) or (a is not None and b is not None and np.array_equal(a, b))
        for a, b in zip(first, second, strict=True)
    )


def _is_finite(tree: object) -> bool:
    return all(bool(np.isfinite(np.asarray(x)).all()) for x in jax.tree.leaves(tree))


def _both(
    first: Int[np.ndarray, " nodes"], second: Int[np.ndarray, " nodes"]
) -> Int[np.ndarray, " nodes"]:
    """Return the classes of what is equal in two ways."""
    return equal_rows(np.stack([first, second], axis=1))


def _have_company(classes: Int[np.ndarray, " nodes"]) -> Bool[np.ndarray, " nodes"]:
    """Whether the class of each node has another member."""
    return sizes_of(classes) >= 2


def equal_everywhere(looks: Sequence[LayerLook]) -> EqualTwins:
    """Find the non-trivial twins of all layers that come out equal in every one of them.

    Layers on other nodes than the first, such as after a pooling, and layers of which nothing can
    be said are left out.
    """
    seen = _comparable(looks)
    if not seen:
        nobody = np.zeros(0, np.int64)
        return EqualTwins(nobody, nobody, 0)
    twin = functools.reduce(_both, [layer.twins.twin for layer in seen])
    is_trivial = np.all([layer.twins.is_trivial for layer in seen], axis=0)
    is_twin = _have_company(twin) & ~is_trivial
    same = functools.reduce(_both, [layer.outputs for layer in seen], twin)
    nodes = np.flatnonzero(is_twin & _have_company(same))
    # Of every class the first member, and for the first itself the second.
    first = same[nodes]
    order = np.argsort(same, kind="stable")
    second = order[np.searchsorted(same[order], first) + 1]
    return EqualTwins(nodes, np.where(first == nodes, second, first), int(is_twin.sum()))


def _comparable(looks: Sequence[LayerLook]) -> list[Equality]:
    """Return what was measured of the layers that have as many nodes as the first of them."""
    seen = [look.equality for look in looks if look.equality is not None]
    return [layer for layer in seen if len(layer.outputs) == len(seen[0].outputs)]


def reason_of(looks: Sequence[LayerLook], equal: EqualTwins) -> tuple[str, bool]:
    """Return the commonest reason why twins come out equal, in words, and whether it is the only.

    Args:
      looks: at all layers.
      equal: of these looks; at least one pair.
    """
    counts: collections.Counter[str] = collections.Counter()
    for seen, twins, _ in _comparable(looks):
        if seen.observed.layer.config.layer == "gcn":
            counts["no_query"] += len(equal.nodes)
            continue
        is_trivial = twins.is_trivial[equal.nodes]
        causes = causes_of(seen, equal.nodes, equal.partners, is_trivial)
        counts.update(reason_of_pair(row) for row in np.argmax(causes, axis=-1))
    return REASONS[counts.most_common(1)[0][0]], len(counts) == 1
