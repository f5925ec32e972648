"""How commands print: text from outside as it is, and tables that no window cuts.

Nothing is read as rich's markup, and what rich does with a text that is too wide, to leave out a
part of it, is done to no number and no path: a line that is too long is broken by the terminal.
"""

import io
import sys

from rich.console import Console, RenderableType
from rich.measure import Measurement
from rich.progress import Progress, ProgressColumn
from rich.table import Table
from rich.text import Text

from gat_jax.runtime.text import visible


def as_is(text: object, style: str = "") -> Text:
    """Return a text from outside to stand in a table; see `visible`."""
    return Text(visible(text), style=style)


def print_line(text: object) -> None:
    """Print one line on stdout; what would break it, or act upon a terminal, is made visible."""
    _write(f"{visible(text)}\n")


def print_table(table: Table) -> None:
    """Print a table on stdout, as wide as it has to be."""
    _write(_rendered(table))


def progress_of(*columns: ProgressColumn | str) -> Progress:
    """Return a progress bar on stderr, which shows nothing where that is no terminal."""
    is_terminal = sys.stderr is not None and sys.stderr.isatty()
    return Progress(*columns, console=Console(stderr=True), disable=not is_terminal)


def _rendered(table: RenderableType) -> str:
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="backslashreplace")
    is_terminal = sys.stdout is not None and sys.stdout.isatty()
    console = Console(file=file, force_terminal=is_terminal, width=10**6)
    console.width = Measurement.get(console, console.options, table).maximum
    console.print(table, highlight=False)
    file.seek(0)
    return file.read()


def _write(text: str) -> None:
    if sys.stdout is not None:  # it was closed when the process began
        sys.stdout.write(text)
        sys.stdout.flush()
