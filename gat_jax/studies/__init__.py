"""The article's claims, the numbers that decide them, and the report."""

from gat_jax.studies.claims import (
    CLAIMS,
    Claim,
    Measurement,
    Rule,
    judge,
)
from gat_jax.studies.figures import (
    PALETTES,
    Theme,
    new_figure,
    style_axes,
)
from gat_jax.studies.study import (
    StudyConfig,
    run_study,
)

__all__ = [
    "CLAIMS",
    "PALETTES",
    "Claim",
    "Measurement",
    "Rule",
    "StudyConfig",
    "Theme",
    "judge",
    "new_figure",
    "run_study",
    "style_axes",
]
