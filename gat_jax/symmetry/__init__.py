"""When are twins equal, why, how likely, and how that is measured."""

from gat_jax.symmetry.metrics import (
    mean_of_defined,
    normalised_entropy,
    normalised_entropy_deficit,
    twin_gap,
)
from gat_jax.symmetry.nodes import (
    CAUSES,
    NUM_EXACT_CAUSES,
    equal_by_signs,
    equal_nodes,
    pair_causes,
    primary_cause,
    propagate_equality,
    row_signs,
)
from gat_jax.symmetry.probability import (
    Quadrature,
    gaussian_collision_probability,
)

__all__ = [
    "CAUSES",
    "NUM_EXACT_CAUSES",
    "Quadrature",
    "equal_by_signs",
    "equal_nodes",
    "gaussian_collision_probability",
    "mean_of_defined",
    "normalised_entropy",
    "normalised_entropy_deficit",
    "pair_causes",
    "primary_cause",
    "propagate_equality",
    "row_signs",
    "twin_gap",
]
