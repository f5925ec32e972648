"""Files that a user names: what they are, before anything waits for them or takes memory."""

import stat
from pathlib import Path

MAX_TEXT = 2**20  # bytes; what a person writes is far shorter


def check_regular(path: Path) -> None:
    """Refuse a path that is no regular file; links to one are.

    To open a pipe would wait for somebody to write into it, and a device may have no end.

    Args:
      path: of the file.

    Raises:
      ValueError: says what it is instead.
      OSError: if there is nothing.
    """
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode):
        raise ValueError("a directory" if stat.S_ISDIR(mode) else "no regular file")


def read_text(field: str, path: Path) -> str:
    """Return the text of a small file that a user names.

    Args:
      field: what an error calls the file.
      path: of the file.

    Raises:
      ValueError: if it is no regular file of text in UTF-8, is not readable, or is larger than
        `MAX_TEXT`.
    """
    try:
        check_regular(path)
        size = path.stat().st_size
        if size > MAX_TEXT:
            raise ValueError(f"one of {size:,} bytes, more than {MAX_TEXT:,}")
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        reason = str(error)
        if isinstance(error, OSError) and error.strerror:
            reason = error.strerror.lower()  # without the name, which is there already
        raise ValueError(f"{field}: expected a readable file, got {path} ({reason})") from None
