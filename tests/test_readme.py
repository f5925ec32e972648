"""What the README says can be run, runs; what it names, exists."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_the_python_example_runs_and_finds_the_twins(capsys):
    (example,) = re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    exec(compile(example, "README.md", "exec"), {})
    printed = capsys.readouterr().out
    assert "pairs=1" in printed
    assert "(6, 4)" in printed
    assert re.search(r"\[0 1 2 [23]\]", printed)


def test_the_first_two_shell_blocks_are_one_command_each():
    blocks = re.findall(r"^```sh\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 2
    assert all(block.count("\n") == 1 for block in blocks[:2])
    assert "scripts/reproduce.py" in blocks[0]
    assert "pytest" in blocks[1]


def test_files_named_in_the_readme_exist():
    named = set(re.findall(r"`((?:[a-z_]+/)?[a-z_]+\.py)`", README))
    assert len(named) > 20
    for name in named:
        assert (ROOT / name).exists() or (ROOT / "gat_jax" / name).exists(), name
    for module in (ROOT / "gat_jax").glob("[a-z]*.py"):
        assert f"`{module.name}`" in README or module.name == "cli.py", module.name


def test_pictures_of_the_readme_exist():
    names = re.findall(r'<img src="([^"]+)"', README)
    assert len(names) == 1
    for name in names:
        assert (ROOT / name).stat().st_size > 10_000
