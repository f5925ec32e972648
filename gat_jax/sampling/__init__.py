"""Random initialisations of one setting, drawn, measured and counted."""

from gat_jax.sampling.sampler import (
    Cell,
    Counts,
    FeatureName,
    InitValues,
    MeasuredTile,
    PreparedCell,
    Tile,
    decode,
    measure_tiles,
    prepare_cell,
    sample,
    split_into_tiles,
)

__all__ = [
    "Cell",
    "Counts",
    "FeatureName",
    "InitValues",
    "MeasuredTile",
    "PreparedCell",
    "Tile",
    "decode",
    "measure_tiles",
    "prepare_cell",
    "sample",
    "split_into_tiles",
]
