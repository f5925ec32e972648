"""Grids of settings over random initialisations, in stores that go on."""

from gat_jax.sweeps.grid import (
    Entry,
    Grid,
    prepare,
)
from gat_jax.sweeps.machine import (
    ExecutorName,
    Machine,
)
from gat_jax.sweeps.plan import (
    CellPlan,
    plan_sweep,
)
from gat_jax.sweeps.runner import (
    Progress,
    SummaryError,
    is_complete,
    run_sweep,
)
from gat_jax.sweeps.spec import (
    AXES,
    SweepSpec,
    load_spec,
)
from gat_jax.sweeps.summary import (
    load_blocks,
    load_raw,
    summarise,
    to_table,
    write_csv,
)

__all__ = [
    "AXES",
    "CellPlan",
    "Entry",
    "ExecutorName",
    "Grid",
    "Machine",
    "Progress",
    "SummaryError",
    "SweepSpec",
    "is_complete",
    "load_blocks",
    "load_raw",
    "load_spec",
    "plan_sweep",
    "prepare",
    "run_sweep",
    "summarise",
    "to_table",
    "write_csv",
]
