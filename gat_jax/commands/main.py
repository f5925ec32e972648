"""The console command `gat-jax NAME ...`: finds the command, and imports no other."""

import importlib
import sys
from collections.abc import Sequence
from typing import NoReturn

from gat_jax.runtime import cli

# Modules of this folder, each with a function `main(argv) -> int`. They are imported by name when
# they are called: JAX, xarray and the like take seconds, and the help needs none of them.
COMMANDS = {
    "reproduce": "test the article's eight claims end to end; needs no network, no accelerator",
    "sweep": "count equal twins over layers, heads, initialisers and features; can go on later",
    "train": "train recipes from many seeds on real graphs, the symmetry watched; can go on later",
    "diagnose": "say which nodes of your trained model come out equal, why, and what would help",
    "playground": "write a page to play with: sliders, twins and gradient descent on a small graph",
}
HELP = (
    "usage: gat-jax COMMAND [options]\n\n"
    "A laboratory for attention symmetry in graph attention networks.\n\n"
    "commands:\n"
    + "".join(f"  {name:<13}{text}\n" for name, text in COMMANDS.items())
    + "\noptions:\n"
    "  --help       show this, or a command's options: gat-jax COMMAND --help\n"
    "  --version    show the version\n"
    "  --traceback  given to a command: show the full story of an error\n"
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that the first argument names.

    Args:
      argv: the name and the command's own arguments; None reads the process's.

    Returns:
      The command's exit code.

    Raises:
      SystemExit: code 2 after one line on stderr for bad input, code 0 after a command's --help.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    name = arguments[0] if arguments else "nothing"
    if name in ("-h", "--help"):
        print(HELP, end="")
        return 0
    if name == "--version":
        from gat_jax.runtime import devices

        print(f"gat-jax {devices.own_version()}")
        return 0
    if name not in COMMANDS:
        cli.fail(f"command: expected one of {', '.join(COMMANDS)} (or --help), got {name}")
    modules = []

    def load(_: list[str]) -> int:
        # JAX refuses some variables of the environment as it is imported.
        modules.append(importlib.import_module(f"gat_jax.commands.{name}"))
        return 0

    return cli.boundary(load, arguments) or modules[0].main(arguments[1:])


def console(*names: str) -> NoReturn:
    """Be the process `gat-jax`.

    Args:
      *names: words that stand before those of the command line, such as the name of a command.
    """
    cli.begin()
    cli.leave(main([*names, *sys.argv[1:]]))
