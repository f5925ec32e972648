"""Grids of settings over random initialisations, in stores that go on."""

from gat_jax.sweeps.runner import (
    Entry,
    SweepSpec,
    run,
)

__all__ = [
    "Entry",
    "SweepSpec",
    "run",
]
