"""Random initialisations of one setting, drawn, measured and counted."""

from gat_jax.sampling.engine import (
    Devices,
    Program,
    Tile,
    sample,
)
from gat_jax.sampling.sampler import (
    Cell,
    Counts,
    FeatureName,
    InitValues,
    Task,
    decode,
    make_task,
)

__all__ = [
    "Cell",
    "Counts",
    "Devices",
    "FeatureName",
    "InitValues",
    "Program",
    "Task",
    "Tile",
    "decode",
    "make_task",
    "sample",
]
