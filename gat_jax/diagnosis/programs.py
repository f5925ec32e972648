"""Functions as compiled programs, which the steps of a diagnosis share.

A layer that is run to observe it is run again to diagnose it, and a layer as it is to judge it
freshly initialised is one of the remedies: each is compiled once for the shapes of its arguments.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any

from gat_jax.runtime import programs

STATIC = {"config", "configs", "num_features"}  # names of arguments that are no arrays


@functools.cache
def compiled(function: Callable) -> Any:
    """Return a function of a module as one program, compiled once for each kind of arguments."""
    static = sorted(STATIC & inspect.signature(function).parameters.keys())
    return programs.jit_briefly(function, static_argnames=static)
