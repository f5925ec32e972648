"""Reads which kernels a GPU ran, and how long, from what `jax.profiler` writes."""

import collections
import gzip
import json
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax


class Kernel(NamedTuple):
    """All launches of one kernel in a call."""

    name: str
    milliseconds: float  # a call, all launches together
    launches: float  # a call


def kernels_of(run: Callable[[], object], calls: int) -> list[Kernel]:
    """Profile some calls of a function that waits for its results; return what ran, longest first.

    Raises:
      RuntimeError: if the profiler left no file.
    """
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            for _ in range(calls):
                run()
        files = list(Path(folder).rglob("*.trace.json.gz"))
        if not files:
            raise RuntimeError("profiler: expected a file *.trace.json.gz, got none")
        events = json.loads(gzip.decompress(files[0].read_bytes()))["traceEvents"]
    return read_events(events, calls)


def read_events(events: Iterable[Mapping[str, Any]], calls: int) -> list[Kernel]:
    """Add up the launches on the streams of GPUs, by the kernel's name.

    Args:
      events: in Chrome's trace format, microseconds.
      calls: that were traced.
    """
    events = list(events)
    named = [event for event in events if event.get("ph") == "M"]
    gpus = {e["pid"] for e in named if e["name"] == "process_name" and "GPU" in e["args"]["name"]}
    streams = {
        (e["pid"], e["tid"])
        for e in named
        if e["name"] == "thread_name" and e["pid"] in gpus and "Stream" in e["args"]["name"]
    }
    total: collections.Counter[str] = collections.Counter()
    number: collections.Counter[str] = collections.Counter()
    for event in events:
        if event.get("ph") == "X" and (event["pid"], event["tid"]) in streams:
            total[event["name"]] += event["dur"]
            number[event["name"]] += 1
    return [Kernel(k, total[k] / calls / 1000, number[k] / calls) for k, _ in total.most_common()]
