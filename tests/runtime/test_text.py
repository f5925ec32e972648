"""Text from outside: what a terminal would act upon is seen, and everything else stays."""

import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gat_jax.runtime.text import shell_words, visible


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a/b c.npz", "a/b c.npz"),
        ("run[red].zarr", "run[red].zarr"),
        ("[/bold] [link=x]", "[/bold] [link=x]"),
        ("größe 图 .npz", "größe 图 .npz"),
        ("two  spaces", "two  spaces"),
        ("a\nb\tc\r", "a\\nb\\tc\\r"),
        ("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"),
        ("\x9b31m\x7f\x00", "\\x9b31m\\x7f\\x00"),
        ("a\u202egpj.npz", "a\\u202egpj.npz"),
        ("\u2066x\u2069\u200f\u200b", "\\u2066x\\u2069\\u200f\\u200b"),
        ("a\u2028b\xa0c", "a\\u2028b\\xa0c"),
        ("\udcff", "\\udcff"),
        (ValueError("of\nan error"), "of\\nan error"),
    ],
)
def test_visible_makes_escapes_of_what_cannot_be_seen(text, expected):
    assert visible(text) == expected


@given(st.text())
def test_visible_is_one_line_that_says_everything(text):
    shown = visible(text)
    assert shown.isprintable()
    assert len(shown.splitlines()) <= 1
    if text.isprintable():
        assert shown == text


@pytest.mark.parametrize(
    "words",
    [
        ["python", "scripts/sweep.py", "--out", "run [1].zarr"],
        ["a'b", 'c"d', "$HOME", "back\\slash", ""],
        ["new\nline", "\x1b[31m", "it's\n", "\\n\n"],
        ["\u202eé\n", "\xa0"],
    ],
)
def test_shell_words_are_read_as_they_were(words):
    line = shell_words(words)
    assert line.isprintable()
    done = subprocess.run(["bash", "-c", f"printf '%s\\0' {line}"], capture_output=True, check=True)
    assert done.stdout.decode().split("\0")[:-1] == words
