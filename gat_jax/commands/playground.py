"""Write a page to play with: attention on a small graph, with sliders and gradient descent.

    gat-jax playground --out playground.html

The page is one file. It needs no network and no server: open it in a browser.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from gat_jax.commands.printing import print_line
from gat_jax.diagnosis.pages.playground import write_playground
from gat_jax.graphs import load_task
from gat_jax.runtime import cli


@dataclasses.dataclass(frozen=True)
class Options:
    """Write a page to play with: attention on a small graph, with sliders and gradient descent."""

    out: Path = Path("playground.html")
    """file to write"""
    graph: str = "tutorial"
    """a built-in name, or the path of a graph with at most 12 nodes, of which some are twins"""


def main(argv: Sequence[str] | None = None) -> int:
    """Write the page.

    Args:
      argv: arguments; None reads the process's own.

    Returns:
      The exit code, as `cli.boundary` says.

    Raises:
      SystemExit: code 2 after one line on stderr for bad input, code 0 after --help.
    """
    return cli.boundary(_run, argv)


def _run(arguments: list[str]) -> int:
    cli.refuse_twice(arguments)
    options = cli.parse(Options, arguments, prog="gat-jax playground")
    task = load_task(options.graph)
    write_playground(options.out, task.graph, labels=task.labels)
    print_line(f"Written to {options.out}: open it in a browser")
    return 0


if __name__ == "__main__":
    cli.begin()
    cli.leave(main())
