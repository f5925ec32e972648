"""Compiling what runs briefly, and what runs on every core at once."""

import contextlib
import os
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


# --- what there is to compute on ----------------------------------------------------------------

Devices = tuple[Any, ...]  # of jax.Device, which is no type to a type checker
# Where the system does not say how much memory it has: less than any machine of today.
ASSUMED_MEMORY = 4 * 2**30


def default_devices() -> Devices:
    """Return the devices of this process."""
    return tuple(jax.local_devices())


def num_cores() -> int:
    """Return the number of CPU cores that this process may use.

    macOS and Windows do not say which cores a process may use: there it is all of the machine's.
    """
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def use_cores(num_devices: int | None) -> None:
    """Make one device of each CPU core, or as many as asked for, unless JAX is in use already."""
    with contextlib.suppress(RuntimeError):  # in use: its devices are as they are
        jax.config.update("jax_num_cpu_devices", num_devices or num_cores())


def total_memory() -> int:
    """Return the bytes of memory there are for the work: the accelerators', or the host's.

    Where the system does not tell (Windows), 4 GiB are assumed.
    """
    stats = jax.local_devices()[0].memory_stats()
    if stats and "bytes_limit" in stats:
        return stats["bytes_limit"] * jax.local_device_count()
    names = ("SC_PHYS_PAGES", "SC_PAGE_SIZE")
    if not hasattr(os, "sysconf") or not set(names) <= set(os.sysconf_names):
        return ASSUMED_MEMORY
    pages, page_size = map(os.sysconf, names)
    return pages * page_size if pages > 0 else ASSUMED_MEMORY
