"""What all command lines share: one clear line and exit code 2 for bad input."""

import contextlib
import io
import sys
from collections.abc import Sequence
from typing import NoReturn, TypeVar

import tyro

Options = TypeVar("Options")


def parse(
    options: type[Options], argv: Sequence[str] | None, *, default: Options | None = None
) -> Options:
    """Read a command line into a dataclass; None reads the process's own.

    Args:
      options: the dataclass.
      argv: arguments.
      default: what holds of options that are not given; None: the dataclass's own defaults.

    Raises:
      SystemExit: code 0 after --help, code 2 after one line on stderr for anything unreadable.
    """
    captured = io.StringIO()
    try:
        with contextlib.redirect_stderr(captured):
            if default is None:
                return tyro.cli(options, args=argv)
            return tyro.cli(options, args=argv, default=default)
    except SystemExit as stop:
        if stop.code in (None, 0):
            raise
        fail(_first_sentences(captured.getvalue()))


def fail(message: object) -> NoReturn:
    """Print one line on stderr and exit with code 2."""
    print(f"error: {' '.join(str(message).split())}", file=sys.stderr)
    raise SystemExit(2)


def _first_sentences(box: str) -> str:
    """Return tyro's message without its box, help texts and pointer to --help, as one line.

    The box holds sections between rules: the message, help texts, the pointer. Its title stands in
    the frame, or, where the terminal knows no frames, in a section of its own before the others.
    """
    lines = [line.strip("│ ") for line in box.splitlines() if not line.startswith(("╭", "╰"))]
    sections: list[list[str]] = [[]]
    for line in lines:
        if line and not line.strip("─-"):
            sections.append([])
        elif line:
            sections[-1].append(line)
    message = sections[0 if "╭" in box else 1]
    if "Perhaps you meant:" in lines:
        option = lines[lines.index("Perhaps you meant:") + 1].split()[0]
        message = [*message, f"(perhaps you meant {option})"]
    return " ".join(message)
