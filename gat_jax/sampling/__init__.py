"""Random initialisations of one setting, drawn, measured and counted."""

from gat_jax.sampling.cells import (
    BATCHES_PER_TILE,
    Cell,
    FeatureName,
)
from gat_jax.sampling.counts import (
    COUNT_FIELDS,
    GAP_RANGE,
    GAP_STEPS,
    JOINT_CAUSES,
    NUM_ENTROPY_BINS,
    NUM_GAP_BINS,
    SUMS,
    UNIFORM_DEFICIT,
    CountField,
    Counts,
    InitValues,
    decode,
    dim_sizes,
)
from gat_jax.sampling.memory import (
    check_memory,
    compile_memory,
    memory_limit,
    tiles_at_once,
)
from gat_jax.sampling.pair_sample import (
    num_compared_pairs,
)
from gat_jax.sampling.random_bits import (
    draw_bits,
    named_key,
)
from gat_jax.sampling.replay import (
    params_of,
)
from gat_jax.sampling.sampler import (
    MeasuredTiles,
    PreparedCell,
    Tile,
    measure_tiles,
    prepare_cell,
    sample,
    split_into_tiles,
)

__all__ = [
    "BATCHES_PER_TILE",
    "COUNT_FIELDS",
    "GAP_RANGE",
    "GAP_STEPS",
    "JOINT_CAUSES",
    "NUM_ENTROPY_BINS",
    "NUM_GAP_BINS",
    "SUMS",
    "UNIFORM_DEFICIT",
    "Cell",
    "CountField",
    "Counts",
    "FeatureName",
    "InitValues",
    "MeasuredTiles",
    "PreparedCell",
    "Tile",
    "check_memory",
    "compile_memory",
    "decode",
    "dim_sizes",
    "draw_bits",
    "measure_tiles",
    "memory_limit",
    "named_key",
    "num_compared_pairs",
    "params_of",
    "prepare_cell",
    "sample",
    "split_into_tiles",
    "tiles_at_once",
]
