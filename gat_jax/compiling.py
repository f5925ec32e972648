"""Compiling what runs briefly."""

from collections.abc import Callable, Sequence
from typing import Any

import jax


def jit_briefly(function: Callable, *, static_argnames: Sequence[str] = ()) -> Any:
    """Return `jax.jit` of a program that takes longer to compile than to run.

    On a CPU LLVM optimises at level 1: a tile of initialisations then compiles in half the time and
    runs as fast, for XLA itself has already fused its loops. Other devices compile as ever.
    """
    options = {"xla_backend_optimization_level": 1} if jax.default_backend() == "cpu" else None
    return jax.jit(function, static_argnames=static_argnames, compiler_options=options)
