"""Write the numbers of docs/performance.md and of the README, from the files in benchmarks/.

    python scripts/performance_tables.py          # writes the tables anew
    python scripts/performance_tables.py --check  # exit code 1 if a table is not current

A generated part of a page stands between two comments, `<!-- performance: NAME -->` and
`<!-- end -->`. What is between them is replaced; everything else on the page is left alone. A test
calls `current` for every page, so that no number can stand there that no benchmark has written.
"""

import json
import math
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PAGES = (ROOT / "README.md", ROOT / "docs" / "performance.md")

BOTH = "forward+backward"
OURS, EDGE_LIST, EAGER, COMPILED, JRAPH = (
    *("gat_jax", "gat_jax, segments", "PyG eager", "PyG compiled", "jraph.GAT"),
)
SYSTEMS = (OURS, EDGE_LIST, EAGER, COMPILED, JRAPH)
HEADINGS = {EDGE_LIST: "our edge list", JRAPH: "`jraph.GAT`"}
LARGE = "arxiv-like, GAT 8x16"
SOFTMAX = "arxiv-like, softmax and sum 8x16"
TRAINING = "Cora, training of many seeds"
# By how their names begin. "torch.func.vmap, batch" is eager.
SWEEP_SYSTEMS = {
    OURS: "gat_jax",
    "torch.func.vmap, compiled": "`torch.func.vmap`, compiled, at its best batch",
    "torch.func.vmap, batch": "the same, eager",
    "torch, rows": "torch, rows spelled out for this graph, compiled",
    "loop": "a loop over a torch layer",
}

NOT_MEASURED = "\N{EN DASH}"

Entry = Mapping[str, Any]


# --- reading ------------------------------------------------------------------------------------


def document(name: str) -> dict[str, Any]:
    """Return a file of `benchmarks/` as its benchmark wrote it."""
    return json.loads((ROOT / "benchmarks" / name).read_text(encoding="utf-8"))


def _entries(name: str, environment: str = "default") -> dict[tuple[str, str], Entry]:
    """Return the entries of a file by case and system; a sweep's have no environment."""
    return {
        (entry["case"], entry["system"]): entry
        for entry in document(name)["entries"]
        if entry.get("environment", "default") == environment
    }


def _cases(name: str, kind: str) -> list[str]:
    """Return the cases of a file whose names end with the kind of pass, without that ending."""
    ending = f", {kind}"
    cases = [entry["case"] for entry in document(name)["entries"]]
    return list(dict.fromkeys(x.removesuffix(ending) for x in cases if x.endswith(ending)))


# --- numbers as text ----------------------------------------------------------------------------


def digits(number: float, count: int = 3) -> str:
    """Return a positive number with so many digits that count, without an exponent."""
    rounded = float(f"{number:.{count}g}")
    decimals = max(0, count - 1 - math.floor(math.log10(rounded)))
    return f"{rounded:,.{decimals}f}"


def duration(seconds: float) -> str:
    """Return a time in seconds, or in milliseconds where it is short."""
    return f"{digits(seconds)} s" if seconds >= 0.1 else f"{digits(seconds * 1e3)} ms"


def rate(number: float) -> str:
    """Return a number with k or M."""
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{digits(number / size)} {unit}"
    return digits(number)


def _time_and_ratio(entry: Entry | None) -> str:
    if entry is None or entry["median_seconds"] is None:
        return NOT_MEASURED
    text = duration(entry["median_seconds"])
    return text if entry["system"] == OURS else f"{text} ({digits(entry['ratio_to_peer'], 2)})"


def _peak(entry: Entry | None) -> str:
    return (
        NOT_MEASURED if entry is None or entry["peak_mib"] is None else f"{entry['peak_mib']:,.0f}"
    )


def table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


# --- the generated parts ------------------------------------------------------------------------


def machine(name: str) -> str:
    """Say which device and which versions a file's numbers belong to."""
    found = document(name)
    known, options = found["machine"], found.get("options", {})
    device = known["device"]
    if device == "cpu":
        device = "a CPU"
    versions = [
        f"{key.removeprefix('version_')} {value}"
        for key, value in known.items()
        if key.startswith("version_") and not key.endswith(("gat_jax", "jaxlib", "numpy"))
    ]
    text = f"`benchmarks/{name}`: {device} with {known['cores']} cores; {', '.join(versions)}"
    if "platform" in known:
        text += f"; {known['platform']}"
    if "repeats" in options:
        text += f"; medians of {options['repeats']} rounds"
    notes = "".join(f" Its note: *{note}.*" for note in found.get("notes", []))
    return f"{text}.{notes}"


def layer_table(name: str, kind: str, cell: Callable[[Entry | None], str]) -> str:
    """Return one row a case and one column a system that was measured at all."""
    entries = _entries(name)
    cases = [x for x in _cases(name, kind) if x != SOFTMAX]
    measured = {
        system
        for case in cases
        for system in SYSTEMS
        if cell(entries.get((f"{case}, {kind}", system))) != NOT_MEASURED
    }
    systems = [system for system in SYSTEMS if system in measured]
    rows = [
        [case, *(cell(entries.get((f"{case}, {kind}", system))) for system in systems)]
        for case in cases
    ]
    return table(["case", *(HEADINGS.get(x, x) for x in systems)], rows)


def growth() -> str:
    """Return how the time per edge grows with the graph, forward and backward."""
    by_edges: dict[int, dict[str, float]] = {}
    for entry in document("layer.json")["growth"]:
        by_edges.setdefault(entry["edges"], {})[entry["system"]] = entry["ns_per_edge"]
    rows = [
        [
            f"{edges:,}",
            *(digits(found[x]) if x in found else NOT_MEASURED for x in (OURS, EDGE_LIST)),
        ]
        for edges, found in by_edges.items()
    ]
    return table(["edges", "gat_jax, ns an edge", "our edge list, ns an edge"], rows)


def training() -> str:
    """Return how many steps a second are trained, counted by seed."""
    rows = [
        [
            HEADINGS.get(system, system),
            digits(entry["throughput"]),
            "" if system == OURS else digits(entry["ratio_to_peer"], 2),
        ]
        for (case, system), entry in _entries("layer.json").items()
        if case == TRAINING
    ]
    return table(["system", "steps x seeds a second", "we are times as fast"], rows)


def huge_pages() -> str:
    """Return the first case in both environments."""
    rows = []
    for environment in document("layer_huge_pages.json")["environments"]:
        entries = _entries("layer_huge_pages.json", environment)
        cells = [_time_and_ratio(entries.get((f"{LARGE}, {BOTH}", x))) for x in SYSTEMS]
        rows.append([environment, *cells])
    return table(["environment", *(HEADINGS.get(x, x) for x in SYSTEMS)], rows)


def softmax_gpu() -> str:
    """Return the times of the softmax and its weighted sum alone, and what bounds them."""
    entries = _entries("layer_h200.json")
    rows = []
    for kind in ("forward", BOTH):
        for system in (OURS, EDGE_LIST):
            entry = entries[f"{SOFTMAX}, {kind}", system]
            same = "yes" if entry["is_same_in_every_run"] else "no"
            bound = digits(entry["times_bound"], 2)
            rows.append([kind, HEADINGS.get(system, system), _time_and_ratio(entry), bound, same])
    heading = ["pass", "system", "time", "times the time of copying the bytes", "same bits again"]
    return table(heading, rows)


def kernels() -> str:
    """Return what calls take on a GPU with and without their launches, and the longest kernels."""
    rows = []
    for entry in document("kernels_h200.json")["entries"]:
        longest = [f"{name.split(' ')[0][:22]} {digits(ms, 2)}" for name, ms, _ in entry["kernels"]]
        times = (digits(entry[x]) for x in ("milliseconds", "kernel_milliseconds"))
        rows.append([entry["case"], *times, f"{entry['launches']:.0f}", ", ".join(longest[:3])])
    return table(["case", "ms", "kernels alone", "launches", "the longest kernels, ms"], rows)


def sweep_table(name: str) -> str:
    """Return initialisations a second of the systems that measure the same."""
    entries = _entries(name)
    ending = ", everything measured"
    cases = list(dict.fromkeys(case for case, _ in entries if case.endswith(ending)))
    starts = [x for x in SWEEP_SYSTEMS if any(system.startswith(x) for _, system in entries)]
    rows = []
    for case in cases:
        row = [case.removesuffix(ending)]
        for start in starts:
            found = [e for (c, s), e in entries.items() if c == case and s.startswith(start)]
            text = rate(found[0]["throughput"]) if found else NOT_MEASURED
            if found and start != OURS:
                text += f" ({digits(found[0]['ratio_to_peer'], 2)})"
            row.append(text)
        rows.append(row)
    return table(["initialisations a second", *(SWEEP_SYSTEMS[x] for x in starts)], rows)


def collisions_table(name: str) -> str:
    """Return what counting collisions alone costs, beside the random numbers it needs."""
    rows = [
        [system.removeprefix("gat_jax, "), rate(entry["throughput"])]
        for (case, system), entry in _entries(name).items()
        if case.endswith("collisions only")
    ]
    return table(["what", "initialisations a second"], rows)


def whole_sweep_table(name: str) -> str:
    """Return the command from its start to its summary."""
    entries = {k: v for k, v in _entries(name).items() if k[0].startswith("sweep.py")}
    others = sorted({system for _, system in entries if system != OURS})
    rows = [
        [case.split(", ")[1], duration(entry["median_seconds"]), _peak(entry)]
        + [_time_and_ratio(entries.get((case, other))) for other in others]
        for (case, system), entry in entries.items()
        if system == OURS
    ]
    heading = ["size", "seconds from start to summary", "peak, MiB"]
    return table([*heading, *(f"`{x.removeprefix('gat_jax of ')}`" for x in others)], rows)


def main_job_table(name: str) -> str:
    """Return the main job with nothing compiled, and with what that run has compiled."""
    rows = [
        [system, duration(entry["median_seconds"]), digits(entry["ratio_to_peer"], 2)]
        for (_, system), entry in _entries(name).items()
    ]
    return table(["", "seconds from start to end", "the first run takes times as long"], rows)


def layer_headline() -> str:
    """Say in one sentence what a layer costs: for the README."""
    here, there = _entries("layer.json"), _entries("layer_h200.json")
    case = f"{LARGE}, {BOTH}"

    def seconds(entries: Mapping[tuple[str, str], Entry], system: str) -> str:
        return duration(entries[case, system]["median_seconds"])

    edges = here[case, OURS]["edges"] / 1e6
    return (
        f"A layer of 8 heads with all its gradients, on a graph of {digits(edges, 2)} million "
        f"edges,\ntakes {seconds(here, OURS)} on two CPU cores (PyG {seconds(here, EAGER)}, "
        f"compiled {seconds(here, COMPILED)})\nand {seconds(there, OURS)} on one NVIDIA H200 "
        f"(PyG {seconds(there, EAGER)}, compiled {seconds(there, COMPILED)})."
    )


def sweep_headline() -> str:
    """Say in one sentence how fast a sweep is: for the README."""
    entries = _entries("sweep.json")
    (whole,) = [
        entry
        for (case, system), entry in entries.items()
        if case.startswith("sweep.py") and "1e+09" in case and system == OURS
    ]
    ours = entries["tutorial graph, everything measured", OURS]
    return (
        f"Two CPU cores draw and measure {digits(ours['throughput'] / 1e6)} million random "
        f"initialisations of the tutorial graph\na second; a billion of them take "
        f"{digits(whole['median_seconds'], 2)} seconds and {_peak(whole)} MiB, start to summary."
    )


PARTS: dict[str, Callable[[], str]] = {
    "machine of layers": lambda: machine("layer.json"),
    "layers, forward and backward": lambda: layer_table("layer.json", BOTH, _time_and_ratio),
    "layers, forward": lambda: layer_table("layer.json", "forward", _time_and_ratio),
    "layers, memory": lambda: layer_table("layer.json", BOTH, _peak),
    "growth": growth,
    "training": training,
    "machine of huge pages": lambda: machine("layer_huge_pages.json"),
    "huge pages": huge_pages,
    "machine of the GPU": lambda: machine("layer_h200.json"),
    "GPU, forward and backward": lambda: layer_table("layer_h200.json", BOTH, _time_and_ratio),
    "GPU, forward": lambda: layer_table("layer_h200.json", "forward", _time_and_ratio),
    "GPU, memory": lambda: layer_table("layer_h200.json", BOTH, _peak),
    "GPU, softmax": softmax_gpu,
    "machine of kernels": lambda: machine("kernels_h200.json"),
    "kernels": kernels,
    "machine of sweeps": lambda: machine("sweep.json"),
    "sweeps": lambda: sweep_table("sweep.json"),
    "collisions": lambda: collisions_table("sweep.json"),
    "whole sweeps": lambda: whole_sweep_table("sweep.json"),
    "machine of sweeps on a GPU": lambda: machine("sweep_h200.json"),
    "GPU, sweeps": lambda: sweep_table("sweep_h200.json"),
    "GPU, collisions": lambda: collisions_table("sweep_h200.json"),
    "GPU, whole sweeps": lambda: whole_sweep_table("sweep_h200.json"),
    "machine of the main job": lambda: machine("reproduce.json"),
    "main job": lambda: main_job_table("reproduce.json"),
    "layer, one sentence": layer_headline,
    "sweep, one sentence": sweep_headline,
}


# --- pages --------------------------------------------------------------------------------------


def current(text: str) -> str:
    """Return the text of a page with every generated part as the files in benchmarks/ have it.

    Raises:
      ValueError: for a part that does not exist, or that is not closed.
    """
    opened, closed = (len(re.findall(x, text)) for x in (r"<!-- performance: ", r"<!-- end -->"))
    if opened != closed:
        raise ValueError(f"page: expected as many ends as beginnings, got {opened} and {closed}")

    def replace(match: re.Match[str]) -> str:
        name = match["name"]
        if name not in PARTS:
            raise ValueError(f"page: expected one of {', '.join(PARTS)}, got {name}")
        return f"<!-- performance: {name} -->\n{PARTS[name]()}\n<!-- end -->"

    pattern = r"<!-- performance: (?P<name>[^>]*) -->\n.*?<!-- end -->"
    return re.sub(pattern, replace, text, flags=re.DOTALL)


def main(argv: Sequence[str] | None = None) -> int:
    """Write the pages anew, or say which are not current; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments not in ([], ["--check"]):
        print(f"error: expected nothing or --check, got {' '.join(arguments)}", file=sys.stderr)
        return 2
    is_current = True
    for page in PAGES:
        old = page.read_text(encoding="utf-8")
        new = current(old)
        if arguments and new != old:
            print(f"{page.relative_to(ROOT)}: not what benchmarks/ says", file=sys.stderr)
            is_current = False
        elif new != old:
            page.write_text(new, encoding="utf-8")
    return 0 if is_current else 1


if __name__ == "__main__":
    sys.exit(main())
