"""The article's claims, the numbers that decide them, and the report.

The module `figures` is not re-exported: it imports matplotlib, and only who draws needs that.
"""

from gat_jax.studies.claims import (
    CLAIMS,
    Claim,
    Measurement,
    Rule,
    judge,
)
from gat_jax.studies.page import write_page
from gat_jax.studies.study import (
    PreparedStudy,
    Study,
    StudyConfig,
    prepare_study,
    run_study,
)

__all__ = [
    "CLAIMS",
    "Claim",
    "Measurement",
    "PreparedStudy",
    "Rule",
    "Study",
    "StudyConfig",
    "judge",
    "prepare_study",
    "run_study",
    "write_page",
]
