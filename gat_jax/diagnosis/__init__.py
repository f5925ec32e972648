"""Why do nodes come out equal? Other people's graphs, weights and models, and a remedy.

`gat_jax.diagnose` is this room's module `diagnose`: one call for each kind of model.
"""

from gat_jax.diagnosis.models.observed import ImportedLayer, ObservedLayer, ObservedModel
from gat_jax.diagnosis.results import Check, Findings, LayerDiagnosis, RemedyReport

__all__ = [
    "Check",
    "Findings",
    "ImportedLayer",
    "LayerDiagnosis",
    "ObservedLayer",
    "ObservedModel",
    "RemedyReport",
]
