"""How programs are compiled for the device that they run on."""

import functools
import os
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.experimental.xla_metadata import set_xla_metadata

_FLAGS_OF_NO_BIT = (
    "--xla_force_host_platform_device_count",
    "--xla_dump",
    "--xla_gpu_cuda_data_dir",
    "--xla_gpu_per_fusion_autotune_cache_dir",
    "--xla_gpu_kernel_cache_file",
)


def platform() -> str:
    """Return what JAX computes on if nothing else is said: "cpu", "gpu" or "tpu"."""
    config: Any = jax.config  # its fields are made at run time
    device = config.jax_default_device
    return jax.default_backend() if device is None else getattr(device, "platform", device)


def flags_of_bits() -> str:
    """Return the flags of `XLA_FLAGS`, sorted, without those known to change no number.

    Those are the number of devices that a CPU is cut into, and folders and files. Of a flag that is
    given twice the last one counts, as it does for XLA. "none" stands for no flag.
    """
    flags = {flag.partition("=")[0]: flag for flag in os.environ.get("XLA_FLAGS", "").split()}
    return " ".join(flags[x] for x in sorted(flags) if not x.startswith(_FLAGS_OF_NO_BIT)) or "none"


def apart(function: Callable) -> Callable:
    """Compile a function of arrays apart from its surroundings, within the same program.

    XLA for CPUs fuses what is cheap into each of its consumers, over any
    `optimization_barrier`, and computes it once for each of them. What a function returns that
    may not be inlined is computed once and lies in memory. What JAX itself jits within it, such as
    `jnp.where`, is not inlined either; if it were, GATv2's outputs would take 15% longer on a large
    graph, and a sweep as long.

    Where it is traced for a CPU alone (`platform`): XLA for GPUs fuses nothing in a function that
    it may not inline. So a program that is exported for another platform is slower than one traced
    there.
    """
    inner = jax.jit(function)

    @functools.wraps(function)
    def call(*args):
        if platform() != "cpu":
            return function(*args)
        with set_xla_metadata(inlineable="false"):
            return inner(*args)

    return call


_BRIEF_OPTIONS: dict[str, Any] = {
    "xla_backend_optimization_level": 1,
    # A program is compiled as one piece: with pieces, two threads that compile at once on two
    # cores can wait for each other in XLA's own pool for ever.
    "xla_cpu_parallel_codegen_split_count": 1,
    # Loops that run side by side, and products that the library YNNPACK splits among threads of
    # its own, wait for each other where there are few cores: a step of blocks of width 512 took
    # a third longer on two, and no training took less.
    "xla_cpu_enable_concurrency_optimized_scheduler": False,
    "xla_cpu_experimental_ynn_fusion_type": "",
}


def jit_briefly(function: Callable, *, static_argnames: Sequence[str] = ()) -> Any:
    """Compile a program that takes longer to compile than to run.

    On a CPU (`platform`, which is asked at each call) LLVM optimises at level 1: a training then
    compiles in half the time and runs as fast, for XLA itself has already fused its loops. What
    `XLA_FLAGS` says of an option when this is called is kept. Other devices compile as ever.

    Returns:
      What is called as `jax.jit` of the function is, with its methods `lower` and `eval_shape`. On
      a CPU JAX refuses to trace it within another program, as it has options of the compiler.
    """
    given = os.environ.get("XLA_FLAGS", "")
    options = {name: value for name, value in _BRIEF_OPTIONS.items() if name not in given}
    briefly = jax.jit(function, static_argnames=static_argnames, compiler_options=options)
    as_ever = jax.jit(function, static_argnames=static_argnames)

    def chosen() -> Any:
        return briefly if platform() == "cpu" else as_ever

    @functools.wraps(function)
    def call(*args, **kwargs):
        return chosen()(*args, **kwargs)

    def lower(*args, **kwargs):
        return chosen().lower(*args, **kwargs)

    program: Any = call
    program.lower, program.eval_shape = lower, as_ever.eval_shape
    return program


def jit_tiles(function: Callable) -> Any:
    """Return `jax.jit` of a program of which every core runs a copy of its own.

    On a CPU one copy then keeps to one core: its loops are neither split nor run side by side,
    which would cost two copies on two cores 40% of their speed.
    """
    options = None
    if platform() == "cpu":
        options = {
            "xla_backend_optimization_level": 1,
            "xla_cpu_enable_concurrency_optimized_scheduler": False,
            "xla_cpu_multi_thread_eigen": False,
        }
    return jax.jit(function, compiler_options=options)
