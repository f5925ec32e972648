"""The console command: it lists its commands, runs the one that is named, and starts fast."""

import importlib
import subprocess
import sys

import pytest

from gat_jax.commands import main as console
from gat_jax.runtime import devices


def test_help_lists_the_commands_with_one_line_each(capsys):
    assert console.main(["--help"]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert max(map(len, printed.out.splitlines())) <= 100
    for name, text in console.COMMANDS.items():
        (line,) = [line for line in printed.out.splitlines() if line.split()[:1] == [name]]
        assert line.endswith(text)


@pytest.mark.parametrize(("argv", "got"), [(["reprodce"], "reprodce"), ([], "nothing")])
def test_an_unknown_command_is_one_line_and_code_2(argv, got, capsys):
    with pytest.raises(SystemExit) as stop:
        console.main(argv)
    assert stop.value.code == 2
    names = ", ".join(console.COMMANDS)
    expected = f"error: command: expected one of {names} (or --help), got"
    assert capsys.readouterr().err == f"{expected} {got}\n"


def test_version_is_the_packages_own(capsys):
    assert console.main(["--version"]) == 0
    assert capsys.readouterr().out == f"gat-jax {devices.own_version()}\n"


@pytest.mark.parametrize("name", sorted(console.COMMANDS))
def test_a_command_gets_its_arguments_and_its_code_comes_back(name, monkeypatch):
    seen = []
    module = importlib.import_module(f"gat_jax.commands.{name}")
    monkeypatch.setattr(module, "main", lambda argv: seen.append(argv) or 7)
    assert console.main([name, "--seed", "3"]) == 7
    assert seen == [["--seed", "3"]]


HELP = """
import sys
from gat_jax.commands import main
code = main.main(["--help"])
assert code == 0
print(sorted({"xarray", "zarr", "matplotlib", "networkx", "torch"} & set(sys.modules)))
"""


def test_help_imports_nothing_heavy():
    argv = [sys.executable, "-c", HELP]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
