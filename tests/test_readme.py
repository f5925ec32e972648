"""What the README says can be run, runs; it stays short, and shows its picture."""

import re

import pytest
from pages import PAGES, ROOT, blocks_of, links_of, run_blocks

README = PAGES["README.md"]


def test_the_example_runs_and_finds_the_twins(capsys):
    names = run_blocks("README.md")
    printed = capsys.readouterr().out
    assert names["outputs"].shape == (4, 8)
    # Nodes 2 and 3 are equal if and only if every head has one of the exact causes.
    assert "[0 1 2 2]" in printed
    assert re.search(r"\['(positive|negative)'\]", printed)


@pytest.mark.torch
def test_the_lines_for_a_model_of_pyg_give_an_answer(capsys, tmp_path, monkeypatch):
    import torch
    from torch_geometric.nn import GATConv

    monkeypatch.chdir(tmp_path)
    (lines,) = [block for block in blocks_of("python", README) if "from_pyg" in block]
    assert len([line for line in lines.splitlines() if line]) <= 5
    edge_index = torch.tensor([[0, 1, 0, 1, 2, 3], [2, 2, 3, 3, 0, 1]])
    names = {"model": GATConv(2, 4), "x": torch.rand(4, 2), "edge_index": edge_index}
    exec(lines, names | {"y": torch.tensor([0, 0, 0, 1])})
    assert " nodes " in capsys.readouterr().out.splitlines()[0]
    assert (tmp_path / "why.html").stat().st_size > 10_000


def test_the_first_two_shell_blocks_are_one_command_each():
    blocks = blocks_of("sh", README)
    assert len(blocks) >= 2
    assert all(block.count("\n") == 1 for block in blocks[:2])
    assert "scripts/reproduce.py" in blocks[0]
    assert "pytest" in blocks[1]


def test_it_is_short():
    assert README.count("\n") <= 120


def test_its_pictures_are_there():
    pictures = [link for link in links_of(README) if link.endswith(".png")]
    assert len(pictures) == 2
    assert all((ROOT / picture).stat().st_size > 10_000 for picture in pictures)


def test_it_says_of_every_claim_of_the_article_what_was_found():
    rows = re.findall(r"^\| (\d)\. [^|]* \| ([A-Z]\w+)", README, re.MULTILINE)
    assert [int(number) for number, _ in rows] == list(range(1, 9))
    assert {verdict for _, verdict in rows} <= {"Confirmed", "Refined", "Refuted"}
