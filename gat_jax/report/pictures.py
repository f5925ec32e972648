"""Saving pictures and the page that shows them: whatever one dies of, the others are made."""

import contextlib
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from gat_jax.report.html import Picture

Both = tuple[Picture, Picture]  # of the light and the dark theme
Drawing = tuple[Sequence[str], Callable[[str], Both]]  # the names, and what draws one of them


def save_pictures(
    begin: Callable[[], Drawing],
    write_page: Callable[[Sequence[str], Mapping[str, Both], Path], None],
    out: Path,
) -> dict[str, Exception]:
    """Replace `figures/` and `report.html` in a folder.

    Args:
      begin: imports what draws, which may fail, and returns it.
      write_page: of the names that there should be, the pictures that there are, and the file.
      out: the folder.

    Returns:
      What is missing, by its name, and why.
    """
    missing: dict[str, Exception] = {}
    names: Sequence[str] = ()
    pictures: dict[str, Both] = {}

    @contextlib.contextmanager
    def attempt(name: str) -> Iterator[None]:
        """Whatever a part dies of, it must not take the others with it; it is told at the end."""
        try:
            yield
        except Exception as error:
            missing[name] = error

    with attempt("figures/"):
        shutil.rmtree(out / "figures", ignore_errors=True)
        names, draw = begin()
        (out / "figures").mkdir(exist_ok=True)
        for name in names:
            with attempt(f"figures/{name}.png"):
                pictures[name] = draw(name)
                (out / "figures" / f"{name}.png").write_bytes(pictures[name][0].png)
    with attempt("report.html"):
        write_page(names, pictures, out / "report.html")
    return missing
