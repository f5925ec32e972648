"""What a store holds of a run: its history and outcome, as one row of numbers.

Which numbers are which stands in the attributes of the array of records, as a list of fields.
Whoever changes what a record holds changes `SCHEMA` too: stores of another number are refused.
"""

from collections.abc import Mapping

import numpy as np

from gat_jax.runtime import rows
from gat_jax.runtime.blocks import RECORD, Blocks, DamagedBlockError, Form
from gat_jax.runtime.rows import Field
from gat_jax.training.history import TrainHistory
from gat_jax.training.seeds import Outcome

SCHEMA = 105  # those below 100 are of sweeps
MEASURE = "measures."  # before the name of a measure


def arrays_of(history: TrainHistory, outcome: Outcome) -> dict[str, np.ndarray]:
    """Return history and outcome of the runs of a chunk by name.

    The history's validation score is called `validation_scores`: the outcome has one as well.
    """
    named = {name: x for name, x in history._asdict().items() if name not in ("measures", "status")}
    named["validation_scores"] = named.pop("validation_score")
    named |= {MEASURE + name: x for name, x in history.measures.items()}
    return {name: np.asarray(x) for name, x in (named | outcome._asdict()).items()}


def write_run(blocks: Blocks, key: str, run: int, arrays: Mapping[str, np.ndarray]) -> None:
    """Store a run of a setting, by its number."""
    fields = rows.fields_of((name, x.shape, x.dtype) for name, x in arrays.items())
    blocks.write(key, run, rows.to_row(arrays, fields), rows.describe(fields), {})


def read_run(blocks: Blocks, key: str, run: int) -> dict[str, np.ndarray]:
    """Return the arrays of a run that is there.

    Raises:
      DamagedBlockError: names the file that cannot be read.
    """
    fields = _fields(blocks, key)
    form = Form(fields[-1].stop, np.float64, rows.describe(fields))
    return rows.from_row(blocks.read(key, RECORD, run, form), fields)


def _fields(blocks: Blocks, key: str) -> list[Field]:
    found = blocks.attributes(key, RECORD).get("fields")
    if not found:
        raise DamagedBlockError(f"damaged metadata of {blocks.path / key}: no list of fields")
    try:
        return [Field(x["name"], tuple(x["shape"]), x["dtype"], x["start"]) for x in found]
    except (TypeError, KeyError) as error:
        raise DamagedBlockError(f"damaged metadata of {blocks.path / key}: {error}") from error
