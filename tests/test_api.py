"""The face of the package: its names, what it imports, and the page that lists both."""

import ast
import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import gat_jax

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "api.md").read_text()
# What nobody should wait for who wants a layer: it is imported by the functions that need it.
HEAVY = {
    *("matplotlib", "xarray", "zarr", "networkx", "pandas", "optax", "tyro", "rich"),
    *("scipy.stats", "flax.nnx", "torch"),
}


def entries(heading: str) -> dict[str, str]:
    """The summaries by name, of the part of the page below a heading."""
    (part,) = re.findall(rf"^## {heading}$(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    found = re.findall(r"^- `([^`]+)`: (.+)$", part, re.MULTILINE)
    assert len(dict(found)) == len(found), "a name is listed twice"
    return dict(found)


def first_line(value: object) -> str:
    return (inspect.getdoc(value) or "").split("\n")[0]


def fresh_process(program: str) -> str:
    """What a program prints in a Python of its own, where nothing is imported yet."""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return done.stdout


def test_the_page_lists_every_name_and_no_other():
    assert sorted(entries("Names")) == sorted(gat_jax.__all__)


@pytest.mark.parametrize("name", sorted(entries("Names")))
def test_the_page_says_what_the_docstrings_say(name):
    value = getattr(gat_jax, name)
    listed = entries("Names")[name]
    if isinstance(value, tuple):  # a constant has no docstring of its own
        assert listed.endswith(f"{', '.join(value)}.")
    else:
        assert listed == first_line(value)


def test_the_page_lists_every_room_by_its_docstring():
    rooms = {path.parent.name for path in (ROOT / "gat_jax").glob("*/__init__.py")}
    expected = {room: first_line(importlib.import_module(f"gat_jax.{room}")) for room in rooms}
    assert entries("Rooms") == expected


def test_names_of_heavy_rooms_are_the_same_for_type_checkers():
    tree = ast.parse(inspect.getsource(gat_jax))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    typed = {
        alias.name: f"{node.module}.{alias.name}"
        for node in ast.walk(block)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert set(typed) == set(gat_jax._LATER)
    for name, path in typed.items():
        module, _, attribute = path.rpartition(".")
        importlib.import_module(gat_jax._LATER[name])
        assert getattr(gat_jax, name) is getattr(importlib.import_module(module), attribute)


def test_every_name_is_there_and_no_other():
    assert set(gat_jax.__all__) <= set(dir(gat_jax))
    assert list(gat_jax.__all__) == sorted(gat_jax.__all__)
    with pytest.raises(AttributeError, match="module 'gat_jax' has no attribute 'gats'"):
        gat_jax.gats  # noqa: B018 (that it raises is what is tested)
    with pytest.raises(ImportError, match="cannot import name 'gats'"):
        exec("from gat_jax import gats")


def test_import_waits_for_nothing_heavy():
    program = (
        "import sys, gat_jax\n"
        f"print(sorted({HEAVY!r} & set(sys.modules)))\n"
        "gat_jax.from_edges, gat_jax.gat, gat_jax.equal_nodes, gat_jax.make_layout\n"
        "graph = gat_jax.load_graph('tutorial')\n"
        "gat_jax.twin_pairs(gat_jax.twin_classes(graph))\n"
        f"print(sorted({HEAVY!r} & set(sys.modules)))\n"
    )
    assert fresh_process(program) == "[]\n[]\n"


def test_commands_do_not_wait_for_all_of_scipy():
    """Its statistics take a second to import; what commands need of them is in scipy.special."""
    names = ("diagnose", "reproduce", "sweep", "train")
    program = (
        f"import importlib, sys\nfor name in {names!r}:\n"
        "    importlib.import_module(f'gat_jax.commands.{name}')\n"
        "print('scipy.stats' in sys.modules)\n"
    )
    assert fresh_process(program) == "False\n"


def test_heavy_names_come_in_a_fresh_process():
    program = (
        "import sys, gat_jax\n"
        "gat_jax.flax_nnx.GAT, gat_jax.flax_linen.GAT\n"
        "from gat_jax import *\n"
        "print(run_sweep.__module__, train_run.__module__, 'xarray' in sys.modules)\n"
        "from gat_jax import graphs, sweeps\n"
        "print(graphs.__name__, sweeps.__name__)\n"
    )
    assert fresh_process(program).split("\n")[:2] == [
        f"{gat_jax.run_sweep.__module__} {gat_jax.train_run.__module__} True",
        "gat_jax.graphs gat_jax.sweeps",
    ]
