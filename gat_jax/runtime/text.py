"""Text from outside, such as paths and names, as it is printed; and numbers of bytes."""

import shlex


def visible(text: object) -> str:
    r"""Return a text as it is, with everything that a terminal would act upon as an escape.

    Line breaks, control characters (and with them the sequences that colour or delete), marks that
    turn the direction of writing, unusual spaces, and bytes of a path that are no text become
    escapes as Python writes them: `\n`, `\x1b`, `\u202e`. Everything else stays what it is.

    Args:
      text: such as a path; anything else is turned into text first.
    """
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii")
        for letter in str(text)
    )


def shell_words(words: list[str]) -> str:
    r"""Return the words of a command as a shell reads them, to be copied from a screen.

    Args:
      words: of the command. Where one holds what cannot be seen, it is quoted as `$'...'`, with
        escapes, which bash, zsh and most other shells know.
    """
    return " ".join(shlex.quote(x) if x.isprintable() else f"$'{_escaped(x)}'" for x in words)


def _escaped(word: str) -> str:
    special = word.replace("\\", "\\\\").replace("'", "\\'")
    return "".join(
        letter
        if letter.isprintable()
        else "".join(f"\\x{byte:02x}" for byte in letter.encode("utf-8", "surrogateescape"))
        for letter in special
    )


def size_text(num_bytes: int) -> str:
    """Return a number of bytes as people read it, such as "1.5 GiB"."""
    for power, unit in ((3, "GiB"), (2, "MiB"), (1, "KiB")):
        if num_bytes >= 1024**power:
            return f"{num_bytes / 1024**power:.1f} {unit}"
    return f"{num_bytes} bytes"
