"""Imports run down only. The table is the architecture: a folder's rooms stand on those named."""

import ast
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE, SCRIPTS = ROOT / "gat_jax", ROOT / "scripts"
MAX_LINES = 400

# folder: the folders of the package that it may import, besides itself
ALLOWED = {
    "runtime": set(),
    "graphs": {"runtime"},
    "kernels": {"runtime"},
    "layers": {"graphs", "kernels", "runtime"},
    "symmetry": {"graphs", "kernels", "layers", "runtime"},
    "sampling": {"graphs", "kernels", "layers", "runtime", "symmetry"},
    "training": {"graphs", "kernels", "layers", "report", "runtime", "symmetry"},
    "report": {"runtime"},
    "sweeps": {"graphs", "layers", "report", "runtime", "sampling", "symmetry"},
    "studies": {
        *("graphs", "kernels", "layers", "report", "runtime", "sampling", "symmetry", "training"),
    },
    "diagnosis": {
        *("graphs", "kernels", "layers", "report", "runtime", "sampling", "symmetry", "training"),
    },
    "commands": {
        *("diagnosis", "graphs", "report", "runtime", "sampling", "studies", "sweeps", "training"),
    },
}

# The others take a graph apart, but call nothing of jraph's: it can be replaced in these places.
MAY_CALL_JRAPH = {
    *("graphs/padding", "kernels/edge_list/sums", "symmetry/metrics"),
}

MODULES = {
    path.relative_to(PACKAGE).with_suffix("").as_posix(): ast.parse(path.read_text())
    for path in sorted(PACKAGE.rglob("*.py"))
}


def imported_names(tree: ast.Module) -> set[str]:
    """Dotted names of what a module imports, at any depth."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide the room they come from"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def imported_modules(tree: ast.Module) -> set[str]:
    """Names of the package's modules that a module imports."""
    names = imported_names(tree)
    return {name.removeprefix("gat_jax.") for name in names if name.startswith("gat_jax.")}


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


def module_of(name: str, modules: dict) -> str | None:
    """The path of the module that a dotted name is or lies in; None if there is none."""
    parts = name.split(".")
    while parts:
        for path in ("/".join(parts), "/".join([*parts, "__init__"])):
            if path in modules:
                return path
        parts.pop()
    return None


def edges() -> dict[str, set[str]]:
    """Which modules a module imports, by path."""
    found = {}
    for module, tree in MODULES.items():
        targets = {name: module_of(name, MODULES) for name in imported_modules(tree)}
        unknown = [name for name, target in targets.items() if target is None]
        assert not unknown, f"{module}: no modules of the package: {unknown}"
        found[module] = {target for target in targets.values() if target} - {module}
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


def assert_no_cycle(arrows: dict[str, set[str]]) -> None:
    done: set[str] = set()
    while len(done) < len(arrows):
        ready = {name for name in arrows if name not in done and arrows[name] <= done}
        assert ready, f"these import each other: {sorted(set(arrows) - done)}"
        done |= ready


def test_modules_have_no_cycle():
    # A face imports the modules of its folder, and they may not import it: no exception needed.
    assert_no_cycle(EDGES)


def test_scripts_have_no_cycle():
    scripts = {
        path.relative_to(SCRIPTS).with_suffix("").as_posix(): ast.parse(path.read_text())
        for path in SCRIPTS.rglob("*.py")
    }
    arrows = {}
    for module, tree in scripts.items():
        names = imported_names(tree)
        assert not [n for n in names if n.split(".")[0] in ("scripts", "tests")], module
        targets = {module_of(name, scripts) for name in names}
        arrows[module] = {target for target in targets if target} - {module}
    assert any(arrows.values())
    assert_no_cycle(arrows)


@pytest.mark.parametrize("path", sorted([*PACKAGE.rglob("*.py"), *SCRIPTS.rglob("*.py")]), ids=str)
def test_modules_are_short(path):
    num_lines = path.read_text().count("\n")
    assert num_lines <= MAX_LINES, f"{num_lines} lines: is it two things?"


@pytest.mark.parametrize("room", sorted(ALLOWED))
def test_no_module_has_the_name_of_a_function_that_its_face_exports(room):
    # The function would hide the module, or the other way round, by the order of imports.
    face = importlib.import_module(f"gat_jax.{room}")
    modules = {path.stem for path in (PACKAGE / room).iterdir()}
    exported = {name for name in getattr(face, "__all__", ()) if callable(getattr(face, name))}
    assert not modules & exported


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
