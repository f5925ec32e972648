"""Where torch computes in the benchmarks, when it is done, and what memory it took."""

from collections.abc import Callable

import torch

from bench import common as bench_common

DEVICE = torch.device("cuda" if bench_common.is_on_gpu() else "cpu")


def wait() -> None:
    """Wait until a GPU has done what it was asked for."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def extra_peak_mib(run: Callable[[], object]) -> float:
    """Return by how much one call raises the GPU memory of all tensors at most; after another."""
    run()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run()
    return (torch.cuda.max_memory_allocated() - before) / 2**20
