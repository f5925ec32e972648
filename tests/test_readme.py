"""What the README says can be run, runs; what it names, exists."""

import re
from pathlib import Path
from typing import Any

import jax

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def blocks_of(language: str, text: str = README) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def test_the_python_examples_run_and_find_the_twins(capsys):
    (example,) = blocks_of("python")
    names: dict[str, Any] = {}
    exec(compile(example, "README.md", "exec"), names)
    printed = capsys.readouterr().out
    assert "pairs=1" in printed
    assert "(6, 4)" in printed
    assert re.search(r"\[0 1 2 [23]\]", printed)
    # Those on large graphs go on with the same graph.
    section = README.split("## Large graphs")[1].split("## Sweeps")[0]
    with_layout, drop_in = blocks_of("py", section)
    exec(compile(with_layout, "README.md", "exec"), names)
    assert capsys.readouterr().out.startswith("bucketed: 4 nodes, 6 edges")
    assert jax.tree.structure(names["gradient"]) == jax.tree.structure(names["weights"])
    functions = {
        "query_fn": lambda nodes: nodes[:, None],
        "logit_fn": lambda sent, received, _: (sent * received).sum(-1, keepdims=True),
        "update_fn": lambda nodes: nodes[:, 0],
    }
    exec(f"{drop_in}\nassert net(graph).nodes.shape == (4, 4)", names | functions)


def test_the_first_two_shell_blocks_are_one_command_each():
    blocks = blocks_of("sh")
    assert len(blocks) >= 2
    assert all(block.count("\n") == 1 for block in blocks[:2])
    assert "scripts/reproduce.py" in blocks[0]
    assert "pytest" in blocks[1]


def test_files_and_rooms_named_in_the_readme_exist():
    for name in re.findall(r"`((?:[a-z_]+/)*[a-z_]+\.py)`", README):
        assert (ROOT / name).exists() or (ROOT / "gat_jax" / name).exists(), name
    for room in (path.parent for path in ROOT.glob("gat_jax/*/__init__.py")):
        assert f"`{room.name}/`" in README, room.name


def test_pictures_of_the_readme_exist():
    names = re.findall(r'<img src="([^"]+)"', README)
    assert len(names) == 1
    for name in names:
        assert (ROOT / name).stat().st_size > 10_000
