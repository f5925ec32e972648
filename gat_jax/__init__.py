"""A laboratory for attention symmetry in graph attention networks.

When are twins (nodes with the same neighbourhood) equal, how often, why, and does training
change it? The names below are what most users need; `docs/api.md` lists them. Each folder is a
module with more: ``from gat_jax import graphs, layers, symmetry``.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # what `__getattr__` imports, for editors and type checkers
    from gat_jax.diagnosis import diagnose
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
    from gat_jax.kernels import make_layout, segment_softmax_sum, segment_sum
    from gat_jax.layers import (
        LayerConfig,
        LayerSettings,
        apply_network,
        flax_linen,
        flax_nnx,
        gat,
        gatv2,
        gcn,
        init_layer,
        init_network,
    )
    from gat_jax.sampling import Cell, params_of, sample
    from gat_jax.sweeps import SweepSpec, run_sweep
    from gat_jax.symmetry import (
        CAUSES,
        equal_nodes,
        normalised_entropy,
        pair_causes,
        primary_cause,
        twin_gap,
    )
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
    "diagnose",
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
    "segment_softmax_sum",
    "segment_sum",
    "train_run",
    "twin_classes",
    "twin_gap",
    "twin_pairs",
]

# Imported when first used: JAX takes a second, and what a command does before that, such as to say
# how Ctrl-C is handled, must not wait for it.
_LATER = {
    "CAUSES": "gat_jax.symmetry",
    "Cell": "gat_jax.sampling",
    "LayerConfig": "gat_jax.layers",
    "LayerSettings": "gat_jax.layers",
    "SweepSpec": "gat_jax.sweeps",
    "TrainConfig": "gat_jax.training",
    "TrainSettings": "gat_jax.training",
    "add_self_loops": "gat_jax.graphs",
    "apply_network": "gat_jax.layers",
    "count_twins": "gat_jax.graphs",
    "diagnose": "gat_jax.diagnosis.diagnose",
    "equal_nodes": "gat_jax.symmetry",
    "flax_linen": "gat_jax.layers.flax_linen",
    "flax_nnx": "gat_jax.layers.flax_nnx",
    "from_edges": "gat_jax.graphs",
    "from_networkx": "gat_jax.graphs",
    "gat": "gat_jax.layers",
    "gatv2": "gat_jax.layers",
    "gcn": "gat_jax.layers",
    "identity_features": "gat_jax.graphs",
    "init_layer": "gat_jax.layers",
    "init_network": "gat_jax.layers",
    "load_graph": "gat_jax.graphs",
    "loss_floor": "gat_jax.graphs",
    "make_layout": "gat_jax.kernels",
    "make_task": "gat_jax.training",
    "normalised_entropy": "gat_jax.symmetry",
    "pair_causes": "gat_jax.symmetry",
    "params_of": "gat_jax.sampling",
    "primary_cause": "gat_jax.symmetry",
    "run_sweep": "gat_jax.sweeps",
    "sample": "gat_jax.sampling",
    "segment_softmax_sum": "gat_jax.kernels",
    "segment_sum": "gat_jax.kernels",
    "train_run": "gat_jax.training",
    "twin_classes": "gat_jax.graphs",
    "twin_gap": "gat_jax.symmetry",
    "twin_pairs": "gat_jax.graphs",
}
# The rooms that the names above come from: `import gat_jax` gives their modules as well.
_ROOMS = frozenset(home.split(".")[1] for home in _LATER.values())


def __getattr__(name: str) -> Any:
    """Import a name of `_LATER`, or a room, as it is first used (PEP 562)."""
    if name in _ROOMS:
        return importlib.import_module(f"{__name__}.{name}")
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(_LATER[name])
    return module if _LATER[name].endswith(f".{name}") else getattr(module, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER})
