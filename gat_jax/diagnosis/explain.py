"""Which layer made two nodes equal for good, and why, in words."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int

from gat_jax.diagnosis.analysis import Analysed, causes_of
from gat_jax.diagnosis.results import Merged
from gat_jax.diagnosis.rounding import follow_rounding
from gat_jax.graphs import equal_rows
from gat_jax.graphs.supports import group
from gat_jax.symmetry import CAUSES

# By the primary causes of all heads; the words end "N nodes come out equal, because ...".
REASONS = {
    "trivial": "they receive from one sender, or from senders that are all alike",
    "linear": "the slope is 1, so that the receiver's own term cancels",
    "equal_query": "their own scores are equal",
    "positive": "every attention logit is positive",
    "negative": "every attention logit is negative",
    "uniform": "attention is uniform, as all senders have one score",
    "channelwise": "no channel of its heads tells them apart, each for a reason of its own",
    "regimes": "every head is in a linear regime, some with positive and some with negative logits",
    "several": "no head tells them apart, each for a reason of its own",
    "no_query": "the layer has no attention: it treats receivers of the same senders alike",
    "zero": "they receive nothing but zeros",
    "counts": "they differ only in how many equal senders they have, which its weights cancel",
    "rounding": "their values, or those that they receive, agree to the precision of float32",
    "depth": "they differ only farther away than the layers reach",
    "between": "what lies between the layers makes their values equal",
}


def explain(
    features: Int[np.ndarray, " nodes"],
    final: Int[np.ndarray, " nodes"],
    colours: Int[np.ndarray, " nodes"],
    layers: Sequence[Analysed],
) -> Merged:
    """Find for every node that is equal to one of another colour which layer is to blame.

    Args:
      features: by equal features of the graph.
      final: by equal outputs of the model.
      colours: by what no message passing separates; finer than `final`.
      layers: in the order of their calls.

    Returns:
      The nodes, and the last layer whose inputs of the node and its partner differ while its
      outputs agree, if no layer after it has separated them. Of nodes that are equal from the
      features on, it is the first layer at which they receive different values; of nodes that
      rounding made equal, the layer after which it did.
    """
    nodes, partners = _partners(final, colours)
    blamed = np.full(len(nodes), -1)
    is_rounded = np.zeros(len(nodes), bool)
    is_always_equal = features[nodes] == features[partners]

    def differ(classes: Int[np.ndarray, " nodes"]) -> Bool[np.ndarray, " merged"]:
        return classes[nodes] != classes[partners]

    unrounded = follow_rounding(layers, final)
    for k, (layer, exact) in enumerate(zip(layers, unrounded, strict=True)):
        found = layer.diagnosis
        is_equal = ~differ(found.outputs)
        is_merged = is_equal & differ(found.inputs)
        blamed[~is_equal] = -1
        blamed[is_merged] = k
        is_rounded[is_merged] = differ(exact.candidates)[is_merged]
        is_always_equal &= is_equal & ~is_merged
        after = layers[k + 1].diagnosis.inputs if k + 1 < len(layers) else final
        is_rounded[~is_equal] = (~differ(after) & differ(exact.after))[~is_equal]
        blamed[~is_equal & is_rounded] = k
    for k, layer in enumerate(layers if is_always_equal.any() else ()):
        received = _received(layer)
        is_here = is_always_equal & (blamed < 0) & (received[nodes] != received[partners])
        blamed[is_here] = k
    reasons = np.where(is_always_equal, "depth", "between").astype(object)
    for k, layer in enumerate(layers):
        here = np.flatnonzero(blamed == k)
        if len(here):
            names = np.array(_reasons(layer, nodes[here], partners[here]))
            # Of nodes that were equal before, "equal scores" would be no reason.
            is_other = is_always_equal[here] & ~np.isin(names, ["trivial", "zero"])
            names = np.where(is_other, "counts", names)
            reasons[here] = np.where(is_rounded[here], "rounding", names)
    return Merged(nodes, partners, blamed, tuple(reasons.tolist()))


def _received(layer: Analysed) -> Int[np.ndarray, " nodes"]:
    """Return classes of nodes that receive equal values equally often, along edges of one kind."""
    observed = layer.seen.observed
    tokens = layer.diagnosis.inputs[np.asarray(observed.graph.senders)]
    for kinds in (observed.graph.edges, observed.edge_weight):
        if kinds is not None:
            kinds = np.asarray(kinds)
            of_edge = equal_rows(kinds[:, None] if kinds.ndim == 1 else kinds)
            tokens = equal_rows(np.stack([tokens, of_edge], axis=1))
    return group(observed.graph._replace(edges=None), tokens, 0).smallest


def _partners(
    final: Int[np.ndarray, " nodes"], colours: Int[np.ndarray, " nodes"]
) -> tuple[Int[np.ndarray, " merged"], Int[np.ndarray, " merged"]]:
    """Return the nodes whose class has several colours, and one of another colour for each.

    That is the class's first member, or, for those of its colour, the first of another one.
    """
    ids = np.arange(len(final))
    other = colours != colours[final]
    second = np.full(len(final), len(final))
    np.minimum.at(second, final[other], ids[other])
    is_merged = second[final] < len(final)
    nodes = ids[is_merged]
    return nodes, np.where(other, final, second[final])[nodes]


def _reasons(
    layer: Analysed, first: Int[np.ndarray, " pairs"], second: Int[np.ndarray, " pairs"]
) -> list[str]:
    """Name the reason of each pair that a layer makes equal."""
    equality = layer.equality
    is_alike = equality.is_alike[first] & equality.is_alike[second]
    is_zero = equality.candidates[first] != equality.candidates[second]
    if layer.diagnosis.kind == "gcn":
        names = ["trivial" if alike else "no_query" for alike in is_alike]
    else:
        causes = causes_of(layer.seen, first, second, is_alike)
        names = [reason_of_pair(row) for row in np.argmax(causes, axis=-1)]
    return ["zero" if zero else name for name, zero in zip(names, is_zero, strict=True)]


def reason_of_pair(primary: Int[np.ndarray, " heads"]) -> str:
    """Return the key of `REASONS` for the primary causes of a pair in all heads."""
    names = {CAUSES[k] for k in primary}
    if len(names) == 1 and names <= REASONS.keys():
        return names.pop()
    return "regimes" if names == {"positive", "negative"} else "several"
