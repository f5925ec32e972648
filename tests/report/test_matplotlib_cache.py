"""Drawing works without a word where the home folder cannot be written, or is not there."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gat_jax import report
from gat_jax.report import matplotlib_cache

ROOT = Path(__file__).parents[2]
VARIABLES = ("HOME", "MPLCONFIGDIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME")


@pytest.fixture
def unset(monkeypatch):
    """None of the variables that lead to a folder."""
    for name in VARIABLES:
        monkeypatch.setenv(name, "")  # so that what the function sets is undone as well
        monkeypatch.delenv(name)


def test_a_folder_that_can_be_written_is_kept(unset, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    report.prepare_matplotlib()
    assert "MPLCONFIGDIR" not in os.environ
    monkeypatch.setenv("MPLCONFIGDIR", str(tmp_path / "not" / "there" / "yet"))
    report.prepare_matplotlib()
    assert os.environ["MPLCONFIGDIR"] == str(tmp_path / "not" / "there" / "yet")


@pytest.mark.parametrize("name", VARIABLES)
def test_a_folder_that_cannot_be_written_is_replaced(unset, tmp_path, monkeypatch, name):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "file").write_text("no folder can be made below a file")
    monkeypatch.setenv(name, str(tmp_path / "file" / "below"))
    report.prepare_matplotlib()
    folder = Path(os.environ["MPLCONFIGDIR"])
    assert folder.is_dir()
    assert os.access(folder, os.W_OK)


def test_a_user_without_a_home_gets_a_folder(unset, monkeypatch):
    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(matplotlib_cache.Path, "home", no_home)
    report.prepare_matplotlib()
    assert Path(os.environ["MPLCONFIGDIR"]).is_dir()


def test_other_systems_have_one_folder(unset, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(sys, "platform", "darwin")
    assert matplotlib_cache._usual_folders() == [tmp_path / ".matplotlib"]


DRAW = """
import os
from gat_jax.report import prepare_matplotlib
prepare_matplotlib()
from gat_jax.report import style
figure = style.new_figure("A title with $10^3$", 2.0, style.PALETTES["light"])
assert style.to_picture(figure).png.startswith(b"\\x89PNG")
print(os.environ["MPLCONFIGDIR"])
"""


@pytest.mark.slow
def test_a_figure_is_drawn_without_a_word_on_a_read_only_cache(tmp_path):
    """In a process of its own: matplotlib looks for its folder once, as it is imported."""
    (tmp_path / "file").touch()
    environment = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    environment |= {"MPLCONFIGDIR": str(tmp_path / "file" / "x"), "PYTHONPATH": str(ROOT)}
    argv = [sys.executable, "-c", DRAW]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert not Path(done.stdout.strip()).exists()  # removed as the process ended


LACKING = """
import json, pathlib
from matplotlib import font_manager, get_cachedir
path, = pathlib.Path(get_cachedir()).glob("fontlist-*.json")
fonts = json.loads(path.read_text())
fonts["ttflist"] = [font for font in fonts["ttflist"] if font["name"] == "DejaVu Sans"]
path.write_text(json.dumps(fonts))
"""


@pytest.mark.slow
def test_a_list_that_lacks_most_fonts_costs_no_line(tmp_path):
    """As it is left by a process whose environment is removed while it makes the list."""
    environment = os.environ | {"MPLCONFIGDIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    options = {"env": environment, "capture_output": True, "text": True, "check": True}
    subprocess.run([sys.executable, "-c", LACKING], **options)
    assert subprocess.run([sys.executable, "-c", DRAW], **options).stderr == ""
