"""What commands print: nothing is read as markup, and nothing is cut."""

import os
import subprocess
import sys

import pytest
from rich.progress import BarColumn
from rich.table import Table

from gat_jax.commands import printing

LONG = "/a/very long path/" + "x" * 300 + "[red].npz"
TEXTS = ["run[red].zarr", "[/bold]", "a\nb", "\x1b[31mred", "\u202eabc", "é图", LONG, "two  spaces"]
SHOWN = {"a\nb": "a\\nb", "\x1b[31mred": "\\x1b[31mred", "\u202eabc": "\\u202eabc"}


@pytest.mark.parametrize("columns", ["20", "80", "x", None])
def test_tables_and_lines_print_texts_as_they_are(capsys, monkeypatch, columns):
    if columns is not None:
        monkeypatch.setenv("COLUMNS", columns)
    table = Table(title="A title")
    table.add_column("text", no_wrap=True)
    table.add_column("number", no_wrap=True)
    for text in TEXTS:
        table.add_row(printing.as_is(text), "0.123456")
    printing.print_table(table)
    printed = capsys.readouterr().out
    assert printed.count("0.123456") == len(TEXTS)
    for text in TEXTS:
        assert f"│ {SHOWN.get(text, text)} " in printed
        printing.print_line(text)
        assert capsys.readouterr().out == f"{SHOWN.get(text, text)}\n"


CLOSED = """
import sys
from rich.table import Table
from gat_jax.commands import printing
from gat_jax.runtime import cli

def run(arguments):
    table = Table("x")
    table.add_row("\\xe9")
    printing.print_table(table)
    printing.print_line("\\xfc")
    return 0

cli.begin()
cli.leave(cli.boundary(run, []))
"""


@pytest.mark.parametrize(
    ("shell", "code", "errors"),
    [
        (">&-", 0, ""),
        ("2>&-", 0, ""),
        (">&- 2>&- <&-", 0, ""),
        (
            "> /dev/full",
            1,
            "error: No space left on device\n",
        ),
        (
            "| true; exit ${PIPESTATUS[0]}",
            1,
            "error: stdout: expected somebody to read it to its end, got a closed pipe\n",
        ),
    ],
)
def test_a_stdout_that_is_closed_or_full_is_no_traceback(shell, code, errors):
    # The reader is to be gone before something is written.
    program = "import time; time.sleep(0.3)\n" + CLOSED
    done = subprocess.run(
        ["bash", "-c", f'"$0" -c "$1" {shell}', sys.executable, program],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (code, errors)


def test_an_alphabet_that_lacks_letters_gets_escapes():
    environment = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(
        [sys.executable, "-c", CLOSED],
        env=os.environ | environment,
        capture_output=True,
        check=True,
    )
    assert done.stdout.isascii()
    assert done.stdout.endswith(b"\\xfc\n")


def test_a_progress_bar_is_for_terminals_alone(capsys):
    with printing.progress_of("computing", BarColumn()) as progress:
        progress.update(progress.add_task("x", total=2), completed=1)
        progress.console.print(printing.as_is("a note [red]"), soft_wrap=True)
    assert capsys.readouterr().err == "a note [red]\n"
