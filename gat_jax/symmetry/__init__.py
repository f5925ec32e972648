"""When are twins equal, why, how likely, and how that is measured."""

from gat_jax.symmetry.criterion import (
    CAUSES,
    NUM_EXACT_CAUSES,
    RowSigns,
    equal_by_signs,
    exact_causes,
    is_within_rounding,
    primary_cause,
    primary_of,
    signs_of_rows,
)
from gat_jax.symmetry.metrics import (
    mean_of_defined,
    normalised_entropy,
    normalised_entropy_deficit,
    twin_gap,
)
from gat_jax.symmetry.nodes import (
    check_pairs_exist,
    equal_nodes,
    pair_causes,
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
    "RowSigns",
    "check_pairs_exist",
    "equal_by_signs",
    "equal_nodes",
    "exact_causes",
    "gaussian_collision_probability",
    "is_within_rounding",
    "mean_of_defined",
    "normalised_entropy",
    "normalised_entropy_deficit",
    "pair_causes",
    "primary_cause",
    "primary_of",
    "propagate_equality",
    "row_signs",
    "signs_of_rows",
    "twin_gap",
]
