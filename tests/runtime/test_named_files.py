"""Files that a user names: a pipe, a device and a folder are none to read."""

import os
from pathlib import Path

import pytest

from gat_jax.runtime import named_files


def test_check_regular_takes_files_and_links_to_them(tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    named_files.check_regular(tmp_path / "link")
    assert named_files.read_text("spec", tmp_path / "link") == "x"


@pytest.mark.parametrize(
    ("name", "message"),
    [("pipe", "no regular file"), ("folder", "a directory"), ("/dev/zero", "no regular file")],
)
def test_check_regular_opens_nothing_else(tmp_path, name, message):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / name)
    for path in (tmp_path / name, tmp_path / "link"):
        with pytest.raises(ValueError, match=f"^{message}$"):
            named_files.check_regular(path)


def test_read_text_says_in_one_line_what_is_wrong(tmp_path):
    (tmp_path / "latin").write_bytes(b"\xfc")
    (tmp_path / "large").write_bytes(b"x" * (named_files.MAX_TEXT + 1))
    for path in (tmp_path / "latin", tmp_path / "large", tmp_path / "none", Path("a\0b")):
        with pytest.raises(ValueError, match=r"^spec: expected a readable file, got ") as error:
            named_files.read_text("spec", path)
        assert "\n" not in str(error.value)
