"""Imports run down only. The table is the architecture: a folder's rooms stand on those named."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "gat_jax"

# folder: the folders of the package that it may import, besides itself
ALLOWED = {
    "runtime": set(),
    "graphs": {"runtime"},
    "kernels": {"runtime"},
    "layers": {"graphs", "kernels", "runtime"},
    "symmetry": {"graphs", "kernels", "layers", "runtime"},
    "sampling": {"graphs", "kernels", "layers", "runtime", "symmetry"},
    "training": {"graphs", "kernels", "layers", "runtime", "symmetry"},
    "report": {"runtime"},
    "sweeps": {"graphs", "layers", "report", "runtime", "sampling", "symmetry"},
    "studies": {
        *("graphs", "kernels", "layers", "report", "runtime", "sampling", "symmetry", "training"),
    },
    "commands": {"graphs", "report", "runtime", "sampling", "studies", "sweeps"},
}

# The others take a graph apart, but call nothing of jraph's: it can be replaced in these places.
MAY_CALL_JRAPH = {
    *("graphs/build", "kernels/edge_list/sums", "symmetry/metrics"),
}

MODULES = {
    path.relative_to(PACKAGE).with_suffix("").as_posix(): ast.parse(path.read_text())
    for path in sorted(PACKAGE.rglob("*.py"))
}


def imported_modules(tree: ast.Module) -> set[str]:
    """Names of the package's modules that a module imports, at any depth."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide the room they come from"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name.removeprefix("gat_jax.") for name in found if name.startswith("gat_jax.")}


def jraph_attributes(tree: ast.Module) -> set[str]:
    """What a module uses of jraph; "*" where an import hides it."""
    used = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            used |= {node.attr} if node.value.id == "jraph" else set()
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "jraph":
            used |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            used |= {"*" for a in node.names if a.name.startswith("jraph") and a.asname}
    return used


def edges() -> dict[str, set[str]]:
    """Which modules a module imports, by path."""
    found = {}
    for module, tree in MODULES.items():
        targets = set()
        for name in imported_modules(tree):
            parts = name.split(".")
            while parts and "/".join(parts) not in MODULES:
                if "/".join([*parts, "__init__"]) in MODULES:
                    parts = [*parts, "__init__"]
                    break
                parts.pop()
            assert parts, f"{module}: {name} is no module of the package"
            targets.add("/".join(parts))
        found[module] = targets - {module}
    return found


EDGES = edges()


def test_the_package_is_made_of_folders():
    names = {path.name for path in PACKAGE.iterdir() if path.name != "__pycache__"}
    assert names - set(ALLOWED) == {"__init__.py", "py.typed"}


@pytest.mark.parametrize("module", sorted(m for m in MODULES if m != "__init__"))
def test_imports_run_down_only(module):
    folder = module.split("/")[0]
    rooms = {target.split("/")[0] for target in EDGES[module]} - {folder}
    excess = rooms - ALLOWED[folder]
    assert not excess, f"{module} may not import from {sorted(excess)}; see ALLOWED"


def test_the_table_has_no_cycle():
    done: set[str] = set()
    while len(done) < len(ALLOWED):
        ready = {name for name in ALLOWED if name not in done and ALLOWED[name] <= done}
        assert ready, f"these import each other: {sorted(set(ALLOWED) - done)}"
        done |= ready


def test_modules_have_no_cycle():
    done: set[str] = set()
    # A face imports the modules of its folder, and they may not import it: no exception needed.
    while len(done) < len(EDGES):
        ready = {name for name in EDGES if name not in done and EDGES[name] <= done}
        assert ready, f"these import each other: {sorted(set(EDGES) - done)}"
        done |= ready


@pytest.mark.parametrize("module", sorted(set(MODULES) - MAY_CALL_JRAPH))
def test_jraph_is_called_in_few_places(module):
    assert jraph_attributes(MODULES[module]) <= {"GraphsTuple"}


def test_the_parsers_see_every_form_of_import():
    tree = ast.parse(
        "import gat_jax.a.x\nfrom gat_jax.b import c\n"
        "def f():\n    from gat_jax.d.e import y\n"
        "import jraph\nfrom jraph._src import models\njraph.segment_sum\n"
    )
    assert imported_modules(tree) == {"a.x", "b.c", "d.e.y"}
    assert jraph_attributes(tree) == {"models", "segment_sum"}
