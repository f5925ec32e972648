"""Imports of the benchmarks run down only, those within functions too."""

import ast
from pathlib import Path

import benchmark
import pytest

BENCH = Path(benchmark.__file__).parent / "bench"
MODULES = {
    ".".join(path.relative_to(BENCH.parent).with_suffix("").parts): ast.parse(path.read_text())
    for path in sorted(BENCH.rglob("*.py"))
}
# A folder, and those it may import from; `common` and `pyg` belong to none.
ALLOWED = {"layer": {"train"}, "sweep": set(), "train": set()}


def imports(tree: ast.Module) -> set[str]:
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            found |= {str(node.module), *(f"{node.module}.{x.name}" for x in node.names)}
    return found & MODULES.keys()


def test_modules_have_no_cycle():
    waiting = {name: imports(tree) for name, tree in MODULES.items()}
    while waiting:
        ready = {name for name, needed in waiting.items() if not needed & waiting.keys()}
        assert ready, f"these import each other: {sorted(waiting)}"
        waiting = {name: needed for name, needed in waiting.items() if name not in ready}


@pytest.mark.parametrize("folder", ALLOWED)
def test_folders_import_from_those_below(folder):
    for name, tree in MODULES.items():
        if name.split(".")[1] == folder:
            rooms = {found.split(".")[1] for found in imports(tree)} & ALLOWED.keys()
            assert rooms <= ALLOWED[folder] | {folder}, name


def test_modules_are_short():
    for path in BENCH.rglob("*.py"):
        assert path.read_text().count("\n") <= 350, path
