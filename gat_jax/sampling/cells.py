"""A cell: one setting whose initialisations are sampled, and what its random numbers depend on.

A *batch* is a fixed number T of initialisations whose random numbers are drawn in bulk; a *tile* is
a fixed number of batches, the work of one call of one program on one device. The numbers of
initialisation i depend on (seed, cell, i) alone: it is number i % T of batch i // T, where T
depends on the cell and not on the machine.

Programs are shared by all cells of one `Shape`: everything that is not a shape (key, features,
scales of the initialiser, slope) is an argument.
"""

import dataclasses
import json
import math
from typing import Any, Literal, get_args

import numpy as np

from gat_jax.layers import LayerConfig
from gat_jax.sampling.random_bits import Distribution
from gat_jax.sampling.twin_layout import TwinLayout

FeatureName = Literal["raw", "standardised", "uniform01", "normal"]

# Features that are drawn anew for every initialisation: U[0, 1] and N(0, 1).
DRAWN_FEATURES: dict[FeatureName, Distribution] = {"uniform01": "uniform", "normal": "normal"}
BATCHES_PER_TILE = 8
# Numbers of a batch: what the cache of one core holds.
NUMBERS_PER_BATCH = 2**19


@dataclasses.dataclass(frozen=True)
class Cell:
    """One setting whose initialisations are sampled."""

    graph: str  # name of the graph: part of the identity of the random numbers
    layer: LayerConfig
    features: FeatureName = "raw"  # uniform01 and normal are drawn anew for every initialisation
    slope: float = 0.2  # of the LeakyReLU
    gain: float | None = None  # replaces the initialiser's own

    def __post_init__(self):
        """Refuse what cannot be sampled."""
        if self.features not in get_args(FeatureName):
            names = ", ".join(get_args(FeatureName))
            raise ValueError(f"features: expected one of {names}, got {self.features!r}")
        if not math.isfinite(self.slope):
            raise ValueError(f"slope: expected a finite number, got {self.slope}")
        # Wider ones overflow float32 with ordinary features, and NaN compares as anything.
        if abs(self.slope) > 1e6:
            raise ValueError(f"slope: expected at most 1e6 in size, got {self.slope}")
        if self.gain is not None and not 1e-6 <= self.gain <= 1e6:
            raise ValueError(f"gain: expected between 1e-6 and 1e6, got {self.gain}")
        for field in ("num_edge_features", "num_receiver_features"):
            if value := getattr(self.layer, field):
                raise ValueError(
                    f"{field}: expected 0 where initialisations are sampled, got {value}"
                )

    @property
    def identity(self) -> str:
        """What its random numbers depend on: all but slope and gain, which only scale them."""
        settings = dataclasses.asdict(self)
        del settings["slope"], settings["gain"]
        # It came when sweeps were stored already, whose numbers are to stay; here it is always 0.
        del settings["layer"]["num_receiver_features"]
        return json.dumps(settings, sort_keys=True)


@dataclasses.dataclass(frozen=True)
class Shape:
    """What a program is compiled for: cells of equal shapes share one.

    The initialiser of `layer` is no part of it. It shapes a program through `distribution` and
    `has_identity_kernel` alone; its scales are arguments.
    """

    layer: LayerConfig = dataclasses.field(compare=False)  # compared as `structure`
    layout: TwinLayout
    num_features: int
    distribution: Distribution  # of the parameters' random numbers
    has_identity_kernel: bool
    drawn_features: Distribution | None
    batch_size: int  # T
    is_monotone: bool  # slope >= 0
    only_signs: bool
    keep_values: bool
    structure: tuple[tuple[str, Any], ...] = dataclasses.field(init=False)

    def __post_init__(self):
        """Note what of the layer shapes the program: everything but the initialiser."""
        fields = dataclasses.asdict(self.layer)
        del fields["initializer"]
        object.__setattr__(self, "structure", tuple(fields.items()))

    @property
    def tile_size(self) -> int:
        """Initialisations of a tile."""
        return BATCHES_PER_TILE * self.batch_size


def batch_size(layer: LayerConfig, layout: TwinLayout, num_numbers: int) -> int:
    """Return T, the initialisations drawn in bulk: a power of two, for the cache of one core.

    It is 1 where one initialisation alone has more numbers than that.

    Args:
      layer: with all its heads.
      layout: of the twins.
      num_numbers: random numbers of one initialisation.
    """
    outputs = layout.num_nodes * layer.heads * layer.channels
    total = num_numbers + outputs + layout.num_edges * layer.heads
    return int(2 ** np.clip(np.floor(np.log2(NUMBERS_PER_BATCH / total)), 0, 14))
