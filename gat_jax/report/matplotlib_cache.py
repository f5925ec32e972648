"""Matplotlib's list of fonts: a folder in which it may be kept, and nothing said of it."""

import atexit
import logging
import os
import shutil
import sys
import tempfile
from pathlib import Path

from gat_jax.runtime import stops


def prepare_matplotlib() -> None:
    """Give matplotlib a folder of its own if it cannot write to the usual one, and keep it quiet.

    Call it before the first import of matplotlib. In a container the home folder is often read-only
    or not there at all: matplotlib then prints a warning of several lines, and where the user has
    no home it does not even import. The folder is removed as the process ends.

    Its warnings about fonts are left out, unless the user has set a level of their logger: on a
    slow machine one says that the list is being made, and where the list lacks the fonts of
    formulas, as after an environment was removed meanwhile, there is one for each of forty fonts
    that the usual one replaces.
    """
    fonts = logging.getLogger("matplotlib.font_manager")
    if fonts.level == logging.NOTSET:
        fonts.setLevel(logging.ERROR)
    if all(_can_be_written(folder) for folder in _usual_folders()):
        return
    folder = tempfile.mkdtemp(prefix="gat-jax-matplotlib-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    stops.remove_at_end(Path(folder))
    os.environ["MPLCONFIGDIR"] = folder


def _usual_folders() -> list[Path | None]:
    """Return where matplotlib keeps its settings and its cache; None: it cannot say."""
    if os.environ.get("MPLCONFIGDIR"):
        return [Path(os.environ["MPLCONFIGDIR"])]
    try:
        home = Path.home()
    except RuntimeError:  # no HOME, and the user is in no list of users
        return [None]
    if not sys.platform.startswith(("linux", "freebsd")):
        return [home / ".matplotlib"]
    places = (("XDG_CONFIG_HOME", home / ".config"), ("XDG_CACHE_HOME", home / ".cache"))
    return [Path(os.environ.get(name) or usual) / "matplotlib" for name, usual in places]


def _can_be_written(folder: Path | None) -> bool:
    """Whether files can be made in a folder, or the folder itself can be made."""
    if folder is None:
        return False
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)
