"""One layer with its own inputs: who is equal, who could not help it, and why in each head."""

from collections.abc import Sequence
from typing import NamedTuple

import jraph
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from gat_jax.diagnosis.equality import LayerEquality, layer_equality
from gat_jax.diagnosis.fresh import fresh_chance
from gat_jax.diagnosis.heads import head_facts
from gat_jax.diagnosis.models.observed import ObservedLayer
from gat_jax.diagnosis.programs import compiled
from gat_jax.diagnosis.regimes import regime_rows
from gat_jax.diagnosis.results import LayerDiagnosis, Pairs
from gat_jax.diagnosis.stages import along_a_line, carry
from gat_jax.graphs import TwinClasses, twin_classes
from gat_jax.graphs.twin_samples import compare_pairs
from gat_jax.layers import AttentionInfo, apply_layer
from gat_jax.symmetry import CAUSES, RowSigns, normalised_entropy, row_signs
from gat_jax.symmetry.nodes import causes_of_rows
from gat_jax.symmetry.representations import distance_to_mean, effective_rank, output_norm

NEAR = 1e-5  # of the spread of a layer's outputs: as good as equal to what follows
MAX_NEAR_MISSES = 20  # that are named
# A layer's recorded outputs are reproduced by ours to this share of their spread, or, where they
# hardly differ, of the largest of them, as far as float32 has digits.
AGREEMENT, ROUNDING = 1e-3, 1e-5


class Seen(NamedTuple):
    """A layer and what it did, on the host but for `info`."""

    observed: ObservedLayer  # its inputs are those of the class's first member, to the last bit
    info: AttentionInfo
    signs: RowSigns


def see(observed: ObservedLayer, info: AttentionInfo) -> Seen:
    """Return a layer with the signs of its rows."""
    signs = compiled(row_signs)(info, observed.graph)
    return Seen(observed, info, RowSigns(*map(np.asarray, signs)))


class Analysed(NamedTuple):
    """A layer's diagnosis, and what later steps need of how it was made."""

    diagnosis: LayerDiagnosis
    seen: Seen
    values: Float[np.ndarray, "nodes outputs"]
    equality: LayerEquality


def analyse_layer(
    observed: ObservedLayer, stages: Sequence[Int[np.ndarray, " nodes"]], *, num_fresh: int
) -> Analysed:
    """Diagnose one layer.

    Args:
      observed: the layer and what it saw.
      stages: classes that were equal before, as `stages.carry` takes them.
      num_fresh: how many fresh initialisations are drawn for `LayerDiagnosis.fresh`; 0 for none.

    Raises:
      ValueError: if inputs, parameters or scores are not finite, or do not fit each other.
    """
    layer, graph = observed.layer, observed.graph
    inputs = carry(stages, np.asarray(graph.nodes))
    # Rows that are equal but for rounding become equal: signs of equal rows must be the same.
    graph = graph._replace(nodes=np.asarray(graph.nodes)[inputs])
    observed = observed._replace(graph=graph)
    weight = observed.edge_weight
    run = compiled(apply_layer)
    merged, info = run(
        layer.params, graph, config=layer.config, settings=layer.settings, edge_weight=weight
    )
    values = np.asarray(merged)
    seen = see(observed, info)
    equality = layer_equality(observed, info, inputs, seen.signs)
    twins = twin_classes(graph, edge_weight=weight)
    pairs, cause_counts = _pairs(seen, equality, twins.is_trivial, values)
    near = _near_misses(equality, values)
    entropy = np.asarray(compiled(_entropy)(info.attention, graph))
    rank, distance, norm = map(float, compiled(_measures)(values))
    found = LayerDiagnosis(
        name=layer.name,
        system=layer.system,
        kind=layer.config.layer,
        heads=layer.config.heads,
        num_edges=len(graph.senders),
        twins=twins.twin,
        is_trivial=twins.is_trivial,
        inputs=inputs,
        inseparable=equality.inseparable,
        candidates=equality.candidates,
        outputs=equality.outputs,
        pairs=pairs,
        cause_counts=cause_counts,
        head_facts=head_facts(info, graph, seen.signs, entropy),
        effective_rank=rank,
        distance_to_mean=distance / norm if norm > 0 else 0.0,
        near_misses=near[:MAX_NEAR_MISSES],
        num_near_misses=len(near),
        fresh=fresh_chance(observed, twins, num_inits=num_fresh),
        note=_agreement(observed, values),
        regimes=None
        if layer.config.layer == "gcn"
        else regime_rows(info, graph, equality.candidates, equality.is_alike, equality.outputs),
    )
    return Analysed(found, seen, values, equality)


def causes_of(
    seen: Seen,
    first: Int[np.ndarray, " pairs"],
    second: Int[np.ndarray, " pairs"],
    is_trivial: Bool[np.ndarray, " pairs"],
) -> Bool[np.ndarray, "pairs heads causes"]:
    """Return the sets of causes of pairs, which have to be candidates."""
    num = len(first)
    # Programs are compiled for numbers of pairs: powers of four, the rest filled with node 0 twice.
    size = 16
    while size < num:
        size *= 4
    first, second, is_trivial = (np.pad(x, (0, size - num)) for x in (first, second, is_trivial))
    outputs = np.asarray(seen.info.head_outputs)
    found = compiled(causes_of_rows)(
        *(RowSigns(*(x[ends] for x in seen.signs)) for ends in (first, second)),
        *(outputs[ends] for ends in (first, second)),
        is_trivial=is_trivial,
        slope=seen.observed.layer.settings.slope,
    )
    return np.asarray(found)[:num]


def _pairs(
    seen: Seen, equality: LayerEquality, is_trivial: np.ndarray, values: np.ndarray
) -> tuple[Pairs, dict[str, Int[np.ndarray, " heads"]]]:
    """List the pairs of candidates, of the classes that are small enough, and count all of them.

    Returns:
      The pairs; and the numbers of pairs of non-trivial candidates by the primary cause of each
      head, which are exact where all classes are small, and of large ones from the pairs that are
      compared.
    """
    classes = TwinClasses(equality.candidates, equality.is_alike, equality.candidates)
    parts = [compare_pairs(classes, is_trivial=kind) for kind in (False, True)]
    first, second, weight = (np.concatenate(x) for x in zip(*parts, strict=True))
    causes = causes_of(seen, first, second, is_trivial[first] & is_trivial[second])
    num = len(parts[0].first)
    counts = _cause_counts(causes[:num], weight[:num])
    order = np.lexsort((second, first))
    order = order[weight[order] == 1]
    first, second, causes = first[order], second[order], causes[order]
    is_equal = equality.outputs[first] == equality.outputs[second]
    return Pairs(first, second, is_equal, causes, _gaps(values, first, second)), counts


def _cause_counts(
    causes: Bool[np.ndarray, "pairs heads causes"], weight: Float[np.ndarray, " pairs"]
) -> dict[str, Int[np.ndarray, " heads"]]:
    """Add up the weights of pairs by the primary cause of each head."""
    primary = np.argmax(causes, axis=-1)  # the first that holds
    counts = {}
    for k, name in enumerate(CAUSES):
        weights = np.where(primary == k, weight[:, None], 0.0)
        by_head = np.rint(weights.sum(axis=0, dtype=np.float64)).astype(np.int64)
        if by_head.any():
            counts[name] = by_head
    return counts


def _gaps(
    values: Float[np.ndarray, "nodes outputs"], first: np.ndarray, second: np.ndarray
) -> Float[np.ndarray, " pairs"]:
    """Return the largest difference of each pair's outputs, in units of the spread of all."""
    spread = float(np.ptp(values)) if values.size else 0.0
    gap = np.max(np.abs(values[first] - values[second]), axis=1, initial=0.0)
    return gap / spread if spread > 0 else np.zeros(len(first))


def _near_misses(equality: LayerEquality, values: np.ndarray) -> tuple[tuple[int, int, float], ...]:
    """Find candidates that differ by less than 1e-5 of the spread, the closest first.

    One member of every class of equal outputs stands for all. Within a class of candidates they
    are sorted by their outputs, and neighbours are compared: of three close ones two pairs are
    found.
    """
    candidates, outputs = equality.candidates, equality.outputs
    nodes = np.flatnonzero(outputs == np.arange(len(outputs)))
    places = along_a_line(values)
    order = nodes[np.lexsort((places[nodes], candidates[nodes]))]
    first, second = order[:-1], order[1:]
    is_same = candidates[first] == candidates[second]
    first, second = first[is_same], second[is_same]
    gap = _gaps(values, first, second)
    close = np.flatnonzero(gap < NEAR)
    close = close[np.argsort(gap[close], kind="stable")]
    low, high = np.minimum(first, second), np.maximum(first, second)
    return tuple((int(low[k]), int(high[k]), float(gap[k])) for k in close)


def _entropy(
    attention: Float[Array, "edges heads"], graph: jraph.GraphsTuple
) -> Float[Array, "nodes heads"]:
    return normalised_entropy(attention, graph.receivers, len(graph.nodes))


def _measures(values: Float[Array, "nodes outputs"]) -> tuple[Array, Array, Array]:
    return effective_rank(values), distance_to_mean(values), output_norm(values)


def _agreement(observed: ObservedLayer, values: np.ndarray) -> str:
    """Say where our layer does not return what the model's own did."""
    if observed.outputs is None:
        return ""
    theirs = np.asarray(observed.outputs, np.float64)
    if theirs.shape != values.shape:
        return f"its outputs have shape {theirs.shape}, ours {values.shape}"
    spread = float(np.ptp(theirs)) if theirs.size else 0.0
    error = float(np.max(np.abs(theirs - values), initial=0.0))
    size = float(np.max(np.abs(theirs), initial=0.0))
    if error <= max(AGREEMENT * spread, ROUNDING * size, 1e-30):
        return ""
    return (
        f"its outputs differ from ours by up to {error:.2g}, of a spread of {spread:.2g}: what was "
        "read is not what the model computes"
    )


def check_graph_of(observed: ObservedLayer) -> jraph.GraphsTuple:
    """Return the graph of a layer with one set of nodes.

    Raises:
      ValueError: if senders and receivers are two sets.
    """
    if isinstance(observed.graph.nodes, tuple):
        raise ValueError(
            f"{observed.layer.name}: expected one set of nodes, got senders and receivers apart, "
            "of which there is no diagnosis yet"
        )
    return observed.graph
