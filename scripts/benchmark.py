"""Time this package against what users would pick instead, in one run on one machine.

    python scripts/benchmark.py sweep --json benchmarks/sweep.json
    python scripts/benchmark.py layer --json benchmarks/layer.json
    python scripts/benchmark.py train --json benchmarks/train.json
    python scripts/benchmark.py kernels --json benchmarks/kernels.json  # on a GPU
    python scripts/benchmark.py reproduce --json benchmarks/reproduce.json

Everything is checked before it is timed; repeats of all systems are interleaved, and ratios are
medians of ratios within a round, for a shared machine drifts. Needs `pip install -e '.[bench]'`.
"""

import importlib
import sys
from collections.abc import Sequence

from gat_jax.runtime import cli

# Folders of `bench/`, imported when they are run.
BENCHMARKS = ("sweep", "layer", "train", "kernels", "reproduce")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark that is named first; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    name = arguments[0] if arguments else ""
    if name not in BENCHMARKS:
        cli.fail(f"benchmark: expected one of {', '.join(BENCHMARKS)}, got {name or 'nothing'}")

    def run(rest: list[str]) -> int:
        return importlib.import_module(f"bench.{name}.command").main(rest)

    return cli.boundary(run, arguments[1:])


if __name__ == "__main__":
    cli.begin()
    cli.leave(main())
