"""Graphs as `jraph.GraphsTuple`, and who is a twin in them."""

from gat_jax.graphs.build import (
    add_self_loops,
    from_adjacency,
    from_edges,
    from_networkx,
    identity_features,
    in_neighbourhood,
    karate_club,
    les_miserables,
    pad,
    padding_masks,
    standardise,
    structural_features,
    tutorial_graph,
    validate,
)
from gat_jax.graphs.datasets import (
    NodeTask,
)
from gat_jax.graphs.twins import (
    TwinCounts,
    TwinPairs,
    count_twins,
    equal_rows,
    loss_floor,
    output_classes,
    twin_classes,
    twin_pairs,
)

__all__ = [
    "NodeTask",
    "TwinCounts",
    "TwinPairs",
    "add_self_loops",
    "count_twins",
    "equal_rows",
    "from_adjacency",
    "from_edges",
    "from_networkx",
    "identity_features",
    "in_neighbourhood",
    "karate_club",
    "les_miserables",
    "loss_floor",
    "output_classes",
    "pad",
    "padding_masks",
    "standardise",
    "structural_features",
    "tutorial_graph",
    "twin_classes",
    "twin_pairs",
    "validate",
]
