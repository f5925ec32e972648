"""Compiling what runs briefly, and what runs on every core at once."""

from collections.abc import Callable, Sequence
from typing import Any

import jax


def jit_briefly(function: Callable, *, static_argnames: Sequence[str] = ()) -> Any:
    """Return `jax.jit` of a program that takes longer to compile than to run.

    On a CPU LLVM optimises at level 1: a training then compiles in half the time and runs as
    fast, for XLA itself has already fused its loops. Other devices compile as ever.
    """
    options = {"xla_backend_optimization_level": 1} if jax.default_backend() == "cpu" else None
    return jax.jit(function, static_argnames=static_argnames, compiler_options=options)


def jit_tiles(function: Callable) -> Any:
    """Return `jax.jit` of a program of which every core runs a copy of its own.

    On a CPU one copy then keeps to one core: its loops are neither split nor run side by side,
    which would cost two copies on two cores 40% of their speed.
    """
    options = None
    if jax.default_backend() == "cpu":
        options = {
            "xla_backend_optimization_level": 1,
            "xla_cpu_enable_concurrency_optimized_scheduler": False,
            "xla_cpu_multi_thread_eigen": False,
        }
    return jax.jit(function, compiler_options=options)
