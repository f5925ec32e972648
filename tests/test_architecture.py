"""Imports run one way. The table is the architecture: a new module gets one line in it."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "gat_jax"

# module: the modules of the package that it may import
ALLOWED = {
    "attention": set(),
    "params": set(),
    "graphs": set(),
    "metrics": set(),
    "probability": set(),
    "store": set(),
    "tables": set(),
    "layouts": {"loops", "tables"},
    "loops": {"tables"},
    "slots": {"loops", "tables"},
    "edge_loops": {"loops", "tables"},
    "triton_tiles": {"tables"},
    "row_kernels": {"tables", "triton_tiles"},
    "sums": {"slots", "edge_loops", "row_kernels", "layouts", "tables"},
    "aggregation": {"edge_loops", "loops", "sums", "layouts"},
    "gat_aggregation": {"aggregation", "loops", "sums", "layouts", "attention"},
    "gatv2_aggregation": {"aggregation", "loops", "sums", "layouts", "attention"},
    "fused": {"aggregation", "loops", "sums", "layouts", "row_kernels", "triton_tiles"},
    "sparse": {"tables", "layouts", "aggregation"},
    "drop_in": {"tables", "layouts", "outputs", "sums", "aggregation"},
    "initializers": {"params", "attention"},
    "projections": {"sparse"},
    "outputs": {
        *("attention", "layouts"),
        *("aggregation", "gat_aggregation", "gatv2_aggregation", "fused"),
    },
    "layers": {"params", "attention", "layouts", "outputs", "projections", "sparse"},
    "twins": {"graphs"},
    "symmetry": {"twins", "layers", "attention", "params", "metrics"},
    "models": {"layers", "layouts", "params", "initializers", "attention"},
    "datasets": {"graphs"},
    "cli": set(),
    "compiling": set(),
    "escape": {"metrics"},
    "training": {
        *("layers", "params", "initializers", "symmetry", "metrics", "twins", "attention"),
        *("models", "layouts", "sparse"),
    },
    "draws": set(),
    "lanes": {"attention", "params", "symmetry", "twins"},
    "sampling": {"draws", "graphs", "initializers", "lanes", "params", "symmetry", "twins"},
    "engine": {"compiling", "sampling", "twins"},
    "sweep": {
        *("datasets", "engine", "graphs", "metrics", "params", "sampling", "store", "symmetry"),
        "twins",
    },
    "specfile": {"sweep"},
    "sweep_figures": {"figures"},
    "claims": {"metrics"},
    "figures": {"metrics", "claims", "symmetry"},
    "report": {"claims", "figures"},
}
# The parts of the study stand on everything that computes, and study on its parts.
COMPUTES = set(ALLOWED) - {
    "figures",
    "report",
    "store",
    "cli",
    "sweep",
    "specfile",
    "sweep_figures",
}
ALLOWED |= {
    "study_init": COMPUTES,
    "study_graphs": COMPUTES,
    "study_training": COMPUTES | {"study_init"},
    "study": COMPUTES | {"study_init", "study_graphs", "study_training"},
}

# The others take a graph apart, but call nothing of jraph's: it can be replaced in these places.
MAY_CALL_JRAPH = {"graphs", "attention", "metrics", "symmetry"}

MODULES = {path.stem: ast.parse(path.read_text()) for path in sorted(PACKAGE.glob("*.py"))}
del MODULES["__init__"]


def imported_modules(tree: ast.Module) -> set[str]:
    """Names of the package's modules that a module imports, at any depth."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = "gat_jax" if node.level else ""
            base = ".".join(part for part in (base, node.module) if part)
            found |= {base} if base != "gat_jax" else {f"gat_jax.{a.name}" for a in node.names}
    return {name.split(".")[1] for name in found if name.startswith("gat_jax.")}


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


def test_every_module_is_in_the_table():
    unknown = set(MODULES) - set(ALLOWED)
    assert not unknown, f"add a line to ALLOWED in {Path(__file__).name} for: {sorted(unknown)}"


@pytest.mark.parametrize("module", sorted(set(MODULES) & set(ALLOWED)))
def test_imports_run_one_way(module):
    excess = imported_modules(MODULES[module]) - ALLOWED[module]
    assert not excess, f"{module} may not import {sorted(excess)}; see ALLOWED"


def test_the_table_has_no_cycle():
    done: set[str] = set()
    while len(done) < len(ALLOWED):
        ready = {name for name in ALLOWED if name not in done and ALLOWED[name] <= done}
        assert ready, f"these import each other: {sorted(set(ALLOWED) - done)}"
        done |= ready


@pytest.mark.parametrize("module", sorted(set(MODULES) - MAY_CALL_JRAPH))
def test_jraph_is_called_in_few_places(module):
    assert jraph_attributes(MODULES[module]) <= {"GraphsTuple"}


def test_the_parsers_see_every_form_of_import():
    tree = ast.parse(
        "import gat_jax.a\nfrom gat_jax import b\nfrom gat_jax.c import x\nfrom . import d\n"
        "def f():\n    from .e import y\n"
        "import jraph\nfrom jraph._src import models\njraph.segment_sum\n"
    )
    assert imported_modules(tree) == {"a", "b", "c", "d", "e"}
    assert jraph_attributes(tree) == {"models", "segment_sum"}
