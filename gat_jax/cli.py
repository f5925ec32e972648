"""What all command lines share: one clear line and exit code 2 for bad input."""

import contextlib
import io
import sys
from collections.abc import Sequence
from typing import NoReturn, TypeVar

import tyro

Options = TypeVar("Options")


def parse(options: type[Options], argv: Sequence[str] | None) -> Options:
    """Read a command line into a dataclass; None reads the process's own.

    Raises:
      SystemExit: code 0 after --help, code 2 after one line on stderr for anything unreadable.
    """
    captured = io.StringIO()
    try:
        with contextlib.redirect_stderr(captured):
            return tyro.cli(options, args=argv)
    except SystemExit as stop:
        if stop.code in (None, 0):
            raise
        fail(_first_sentences(captured.getvalue()))


def fail(message: object) -> NoReturn:
    """Print one line on stderr and exit with code 2."""
    print(f"error: {' '.join(str(message).split())}", file=sys.stderr)
    raise SystemExit(2)


def _first_sentences(box: str) -> str:
    """Return what stands in tyro's box before the pointer to --help, as one line."""
    lines = [line.strip("│ ").strip() for line in box.splitlines()]
    lines = [line for line in lines if line and not line.startswith(("╭", "╰"))]
    kept = [line for line in lines if not line.startswith(("─", "For full helptext"))]
    return " ".join(kept[:3])
