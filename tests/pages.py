"""What the tests of the README and of the pages in docs/ share: how a page is read."""

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/*.md")))
}
SUFFIXES = "py|md|json|toml|cfg|cff|png|typed"


def blocks_of(language: str, text: str) -> list[str]:
    """Return the code blocks that are fenced with exactly this language."""
    return re.findall(rf"^```{re.escape(language)}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def run_blocks(name: str) -> dict[str, Any]:
    """Run the blocks of a page that are marked to be run, one after the other; return names."""
    names: dict[str, Any] = {}
    for block in blocks_of("python run", PAGES[name]):
        # Lines before it, so that an error names the line of the page.
        before = PAGES[name][: PAGES[name].index(block)].count("\n")
        exec(compile("\n" * before + block, name, "exec"), names)
    return names


def prose_of(text: str) -> str:
    """Return a page without its blocks of code."""
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def quoted_paths(text: str) -> set[str]:
    """Return the files and folders that a page quotes; names with `my_` are the reader's own."""
    quoted = re.findall(rf"`((?:[\w.-]+/)*[\w.-]+\.(?:{SUFFIXES})|(?:[\w.-]+/)+)`", prose_of(text))
    return {name for name in quoted if "my_" not in name}


def is_there(path: str) -> bool:
    """Whether a quoted path exists, seen from the top or, for a room, from the package.

    The bare name of a module may stand for it, where a page has said of which room it speaks.
    """
    tops = (ROOT, ROOT / "gat_jax")
    if any((top / path).exists() for top in tops):
        return True
    return "/" not in path and any(tops[1].rglob(path))


def links_of(text: str) -> set[str]:
    """Return the targets of links and pictures."""
    prose = re.sub(r"`[^`]*`", "", prose_of(text))
    return {*re.findall(r"\]\(([^)\s]+)\)", prose), *re.findall(r'<img src="([^"]+)"', prose)}


def anchors_of(text: str) -> set[str]:
    """Return the anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", prose_of(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
