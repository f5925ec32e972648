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
        reason = reason_of(error)
        raise ValueError(f"{field}: expected a readable file, got {path} ({reason})") from None


def reason_of(error: Exception) -> str:
    """Return the first line of what reading a file failed for, without the file's name.

    Args:
      error: whatever a reader raised; the system's own are told by its words for them.
    """
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
