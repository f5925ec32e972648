"""The notebooks run from start to end, and say what they promise."""

import functools
import os
import re
import tempfile
from pathlib import Path

import jupytext
import nbclient
import nbformat
import pytest

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.py"))
# A warning as Python prints it; what programs log ("WARNING ...") is not meant.
WARNING = re.compile(r"\b\w*Warning\b")

# A minute of compiling: CI runs it with the other slow tests.
pytestmark = pytest.mark.slow


@functools.cache
def executed(path: Path) -> nbformat.NotebookNode:
    """Run one notebook in an empty folder, going on after errors, with all warnings shown."""
    notebook = jupytext.read(path)
    with tempfile.TemporaryDirectory() as folder:
        client = nbclient.NotebookClient(
            notebook, timeout=300, allow_errors=True, resources={"metadata": {"path": folder}}
        )
        client.execute(env=os.environ | {"PYTHONWARNINGS": "default"})
        assert os.listdir(folder) == [], "a notebook leaves no files behind"
    return notebook


def code_cells(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def printed(cell: nbformat.NotebookNode, stream: str = "stdout") -> str:
    return "".join(x.text for x in cell.outputs if x.output_type == "stream" and x.name == stream)


def num_figures(cell: nbformat.NotebookNode) -> int:
    return sum("image/png" in output.get("data", {}) for output in cell.outputs)


def twins() -> list[nbformat.NotebookNode]:
    (path,) = (path for path in NOTEBOOKS if path.name == "twins.py")
    return code_cells(executed(path))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_notebook_opens_in_jupyter_as_a_valid_notebook(path):
    notebook = jupytext.read(path)
    nbformat.validate(notebook)
    assert notebook.metadata["kernelspec"]["name"] == "python3"
    assert notebook.metadata["jupytext"]["text_representation"]["format_name"] == "percent"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_notebook_runs_without_error_or_warning(path):
    cells = code_cells(executed(path))
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    for cell in cells:
        errors = [x for x in cell.outputs if x.output_type == "error"]
        assert not errors, "\n".join(errors[0].traceback)
        assert not WARNING.search(printed(cell, "stderr")), printed(cell, "stderr")


def test_twins_tells_its_story_in_ten_cells_with_text_before_each():
    (path,) = (path for path in NOTEBOOKS if path.name == "twins.py")
    kinds = [cell.cell_type for cell in executed(path).cells]
    assert kinds.count("code") == 10
    steps = [i for i, kind in enumerate(kinds) if kind == "code"]
    for number, i in enumerate(steps, start=1):
        assert executed(path).cells[i - 1].source.startswith(f"## {number}. ")


@pytest.mark.parametrize(
    ("number", "figures", "expected"),
    [
        (1, 1, ["twins: [(2, 3)]", "outputs of the twins equal to the last bit: True"]),
        (2, 0, ["causes: positive, uniform\n", "causes: positive\n", "causes: separated\n"]),
        (3, 1, ["head 0, causes: separated\n", "head 1, causes: separated\n"]),
        (4, 1, ["'positive'", "'negative'", "'equal_query'", "'uniform'", "'separated'"]),
        (5, 1, ["heads  equal", "  positive  ", "  negative  "]),
        (6, 1, ["exact value inside the interval: True"]),
        (7, 1, ["GCN                            1.000", "GATv2, 8 channels"]),
        (8, 1, ["loss floor while the twins are equal: 0.34657", "sgd:", "adam:"]),
        (9, 1, ["1 head: ", "4 heads: ", "equal again later"]),
        (10, 1, ["[14, 15, 18, 20, 22]", "classes=2, pairs=11", "structural features"]),
    ],
)
def test_twins_cell_prints_and_draws(number, figures, expected):
    cell = twins()[number - 1]
    for text in expected:
        assert text in printed(cell)
    assert num_figures(cell) == figures


def test_sweeps_selects_and_goes_on():
    (path,) = (path for path in NOTEBOOKS if path.name == "sweeps.py")
    _, select, plot, causes, gaps, more = code_cells(executed(path))
    assert re.search(r"GAT, 4 heads: 0\.37\d\d \[0\.37\d\d, 0\.37\d\d\]", printed(select))
    assert num_figures(plot) == num_figures(gaps) == 1
    assert "channelwise" in printed(causes)
    assert re.search(r"equal to the last bit: 0\.78", printed(gaps))
    rows = re.findall(r"^\d +(0\.\d+) +(0\.\d+)$", printed(more), re.MULTILINE)
    assert len(rows) == 4
    assert all(first == second for first, second in rows)


def test_twins_shows_entropy_escaping_while_twins_stay_equal():
    escapes = re.findall(r"step (\d+); twins still equal there: (\w+)", printed(twins()[7]))
    assert len(escapes) == 2
    for step, still_equal in escapes:
        assert int(step) < 100
        assert still_equal == "True"


def test_twins_counts_fall_with_heads_and_channels():
    rows = re.findall(r"^ +(\d) +(0\.\d+) ", printed(twins()[4]), re.MULTILINE)
    assert [heads for heads, _ in rows] == ["1", "2", "4", "8"]
    gatv2 = re.findall(r"^GATv2, \d channels? +(\d\.\d+)", printed(twins()[6]), re.MULTILINE)
    assert len(gatv2) == 4
    for shares in ([float(share) for _, share in rows], [float(share) for share in gatv2]):
        assert shares == sorted(shares, reverse=True)
        assert 0 < shares[-1] < shares[0] < 1
