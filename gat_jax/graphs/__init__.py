"""Graphs as `jraph.GraphsTuple`, and who is a twin in them."""

from gat_jax.graphs.build import (
    from_edges,
    identity_features,
    validate,
)
from gat_jax.graphs.colours import refine_colours
from gat_jax.graphs.datasets import (
    GRAPH_NAMES,
    karate_club,
    les_miserables,
    load_directory,
    load_graph,
    load_task,
    random_graph,
    tutorial_graph,
)
from gat_jax.graphs.downloads import download
from gat_jax.graphs.files import NodeTask
from gat_jax.graphs.interop import (
    from_adjacency,
    from_edge_index,
    from_networkx,
    task_from_networkx,
    task_from_pyg,
)
from gat_jax.graphs.lookup import best_constant_ranking_accuracy, dictionary_lookup
from gat_jax.graphs.padding import pad, padding_masks
from gat_jax.graphs.planetoid import read_planetoid
from gat_jax.graphs.splits import Splits, check_splits, splits_from_ids
from gat_jax.graphs.tables import read_node_ids, read_tables
from gat_jax.graphs.transforms import (
    add_self_loops,
    normalise_rows,
    standardise,
    structural_features,
    symmetrise,
)
from gat_jax.graphs.twins import (
    OutputClasses,
    TwinClasses,
    TwinCounts,
    TwinPairs,
    count_twins,
    equal_rows,
    inseparable_classes,
    loss_floor,
    output_classes,
    twin_classes,
    twin_pairs,
)

__all__ = [
    "GRAPH_NAMES",
    "NodeTask",
    "OutputClasses",
    "Splits",
    "TwinClasses",
    "TwinCounts",
    "TwinPairs",
    "add_self_loops",
    "best_constant_ranking_accuracy",
    "check_splits",
    "count_twins",
    "dictionary_lookup",
    "download",
    "equal_rows",
    "from_adjacency",
    "from_edge_index",
    "from_edges",
    "from_networkx",
    "identity_features",
    "inseparable_classes",
    "karate_club",
    "les_miserables",
    "load_directory",
    "load_graph",
    "load_task",
    "loss_floor",
    "normalise_rows",
    "output_classes",
    "pad",
    "padding_masks",
    "random_graph",
    "read_node_ids",
    "read_planetoid",
    "read_tables",
    "refine_colours",
    "splits_from_ids",
    "standardise",
    "structural_features",
    "symmetrise",
    "task_from_networkx",
    "task_from_pyg",
    "tutorial_graph",
    "twin_classes",
    "twin_pairs",
    "validate",
]
