"""A laboratory for attention symmetry in graph attention networks.

When are twins (nodes with the same neighbourhood) equal, how often, why, and does training
change it? The names below are what most users need; `docs/api.md` lists them. Each folder is a
module with more: ``from gat_jax import graphs, layers, symmetry``.
"""

import importlib
from typing import TYPE_CHECKING, Any

from gat_jax.graphs import (
    add_self_loops,
    count_twins,
    from_edges,
    from_networkx,
    identity_features,
    load_graph,
    loss_floor,
    twin_classes,
    twin_pairs,
)
from gat_jax.kernels import make_layout
from gat_jax.layers import (
    LayerConfig,
    LayerSettings,
    apply_network,
    gat,
    gatv2,
    gcn,
    init_layer,
    init_network,
)
from gat_jax.symmetry import (
    CAUSES,
    equal_nodes,
    normalised_entropy,
    pair_causes,
    primary_cause,
    twin_gap,
)

if TYPE_CHECKING:  # what `__getattr__` imports, for editors and type checkers
    from gat_jax.layers import flax_linen, flax_nnx
    from gat_jax.sampling import Cell, params_of, sample
    from gat_jax.sweeps import SweepSpec, run_sweep
    from gat_jax.training import TrainConfig, TrainSettings, make_task, train_run

__all__ = [
    "CAUSES",
    "Cell",
    "LayerConfig",
    "LayerSettings",
    "SweepSpec",
    "TrainConfig",
    "TrainSettings",
    "add_self_loops",
    "apply_network",
    "count_twins",
    "equal_nodes",
    "flax_linen",
    "flax_nnx",
    "from_edges",
    "from_networkx",
    "gat",
    "gatv2",
    "gcn",
    "identity_features",
    "init_layer",
    "init_network",
    "load_graph",
    "loss_floor",
    "make_layout",
    "make_task",
    "normalised_entropy",
    "pair_causes",
    "params_of",
    "primary_cause",
    "run_sweep",
    "sample",
    "train_run",
    "twin_classes",
    "twin_gap",
    "twin_pairs",
]

# Imported when first used, for they take as long as all the others together.
_LATER = {
    "flax_linen": "gat_jax.layers.flax_linen",
    "flax_nnx": "gat_jax.layers.flax_nnx",
    "Cell": "gat_jax.sampling",
    "params_of": "gat_jax.sampling",
    "sample": "gat_jax.sampling",
    "SweepSpec": "gat_jax.sweeps",
    "run_sweep": "gat_jax.sweeps",
    "TrainConfig": "gat_jax.training",
    "TrainSettings": "gat_jax.training",
    "make_task": "gat_jax.training",
    "train_run": "gat_jax.training",
}


def __getattr__(name: str) -> Any:
    """Import a name of `_LATER` as it is first used (PEP 562)."""
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(_LATER[name])
    return module if _LATER[name].endswith(f".{name}") else getattr(module, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER})
