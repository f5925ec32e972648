"""What the benchmarks share: the machine, memory peaks, and timing in turns."""

import ctypes
import gc
import importlib.util
import math
import os
import statistics
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

# Several processes share a GPU, and torch computes there too. To be set before JAX is imported.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import jax
import numpy as np

from gat_jax.runtime import store
from gat_jax.runtime.devices import num_cores

# How PyG can hold the edges, see `pyg.make_edges`: names for the results, known without torch.
BY_SENDER = "edges sorted by sender"
BY_RECEIVER = "edges sorted by receiver"
EDGE_INDEX = "EdgeIndex sorted by receiver"


def is_on_gpu() -> bool:
    """Whether JAX computes on a GPU; torch does then too."""
    return jax.default_backend() == "gpu"


def check_has_torch() -> None:
    """Check that what the peers need is installed, without importing it.

    Raises:
      ValueError: names what is missing, and how to install it.
    """
    for package in ("torch", "torch_geometric"):
        if importlib.util.find_spec(package) is None:
            raise ValueError(f"{package}: expected to be installed: pip install -e '.[bench]'")


def check_options(file: Path, **numbers: int) -> None:
    """Check what all benchmarks are asked for, before anything is run.

    Args:
      file: that will be written.
      numbers: that have to be 1 at least, by the names of their options.

    Raises:
      ValueError: names the option, or the folder that cannot be written.
    """
    for name, number in numbers.items():
        if number < 1:
            raise ValueError(f"{name}: expected at least 1, got {number}")
    store.check_writable(file.parent)


def reason(error: Exception) -> str:
    """Return what went wrong as one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:300]


# --- time ---------------------------------------------------------------------------------------


def interleave(
    runs: Mapping[str, Callable[[], object]], repeats: int, *, least_seconds: float = 0.1
) -> dict[str, list[float]]:
    """Time every run once in each round, so that a drift of the machine meets all of them.

    A turn begins with a call that is not timed. Right after others have had and freed gigabytes,
    every new page costs several times as much as it does from the second call on, and a program
    that is used calls the same function again and again.

    Args:
      runs: by name; a run returns once its work is done.
      repeats: number of rounds.
      least_seconds: brief runs are called so often that the timed calls take about as long.

    Returns:
      Seconds per call, by name and round.
    """
    calls = {}
    for name, run in runs.items():
        seconds = _seconds_of(run, 1)  # the first call may compile
        if seconds < least_seconds:
            seconds = _seconds_of(run, 1)
        calls[name] = max(1, math.ceil(least_seconds / seconds))
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            run()
            times[name].append(_seconds_of(run, calls[name]) / calls[name])
    return times


def _seconds_of(run: Callable[[], object], calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        run()
    return time.perf_counter() - start


def ratio(times: list[float], ours: list[float]) -> float:
    """Return the median over rounds of how many times as long as ours it took."""
    return statistics.median(a / b for a, b in zip(times, ours, strict=True))


def timing(seconds: list[float], ours: list[float], num_edges: int) -> dict[str, object]:
    """Return what an entry of the results says of a system's time, round by round and in all."""
    median = statistics.median(seconds)
    return {
        "median_seconds": median,
        "throughput": num_edges / median,
        "seconds": seconds,
        "ratio_to_peer": ratio(seconds, ours),
    }


def bandwidth(num_bytes: int = 2**28, repeats: int = 5) -> float:
    """Return the bytes per second, read and written, of copying an array.

    On a CPU on all cores, the best of several copies between arrays that exist already: no page is
    new. A write may first read its line, which is not counted.
    """
    if is_on_gpu():
        return _gpu_bandwidth(16 * num_bytes, repeats)  # or a launch would count for much of it
    cores = num_cores()
    source, target = (np.ones(num_bytes // 8) for _ in range(2))
    parts = list(zip(np.array_split(target, cores), np.array_split(source, cores), strict=True))
    best = math.inf
    with ThreadPoolExecutor(cores) as pool:  # NumPy copies without the interpreter's lock
        for _ in range(repeats):
            start = time.perf_counter()
            list(pool.map(lambda pair: np.copyto(*pair), parts))
            best = min(best, time.perf_counter() - start)
    return 2 * source.nbytes / best


def _gpu_bandwidth(num_bytes: int, repeats: int) -> float:
    source = jax.numpy.ones(num_bytes // 4, jax.numpy.float32)
    copy = jax.jit(lambda x: 1.5 * x)
    copy(source).block_until_ready()
    seconds = (_seconds_of(lambda: copy(source).block_until_ready(), 1) for _ in range(repeats))
    return 2 * source.nbytes / min(seconds)


# --- memory -------------------------------------------------------------------------------------


def peak_kib(pid: int) -> int:
    """Return the largest resident memory of a process so far; 0 once it has ended."""
    # The usage that the kernel reports of a child starts with the memory of its parent.
    return _status_kib(pid, "VmHWM")


def _status_kib(pid: int, field: str) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    lines = [line for line in status.splitlines() if line.startswith(field)]
    return int(lines[0].split()[1]) if lines else 0


def extra_peak_mib(run: Callable[[], object]) -> float:
    """Return by how much one call of a function raises this process's resident memory at most.

    The call before it compiles; what that left on the heap is given back, and the kernel's record
    of the peak starts anew.
    """
    run()
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the peak becomes what is resident now
    before = _status_kib(os.getpid(), "VmRSS")
    run()
    return (_status_kib(os.getpid(), "VmHWM") - before) / 1024
