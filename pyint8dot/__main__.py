"""Command line: ``python -m pyint8dot COMMAND``. Each command is a module with a ``main(arguments) -> exit code``."""

from __future__ import annotations

import os
import sys
from importlib import import_module

from pyint8dot.errors import Int8DotError
from pyint8dot.version import __version__

COMMANDS = {
    "info": ("pyint8dot.cli.info", "the kernels, which of them run here and why, as JSON"),
    "check": (
        "pyint8dot.cli.check",
        "every kernel of this processor against numpy's 64-bit integers, on extremes, in seconds",
    ),
    "demo": ("pyint8dot.cli.demo", "sentences embedded by an int8 MiniLM, and the proof that all kernels agree"),
    "bench": (
        "pyint8dot.cli.bench",
        "speed of whole calls on this machine, beside numpy and the libraries that are installed",
    ),
    "run": ("pyint8dot.cli.run", "an ONNX model, with a table of time by operator and kernel"),
    "embed": ("pyint8dot.cli.embed", "the lines of a text, embedded and saved for the command search"),
    "search": ("pyint8dot.cli.search", "the lines nearest to a query"),
}
"""Name: module, and what it prints."""

NOBODY_READS = 141
"""Exit code where the reader of a pipe has gone, as shells have it of a program that the signal of that ends."""


def main(arguments: list[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    arguments : list of str, optional
        The command and its own arguments; by default those of the process.

    Returns
    -------
    int
        Exit code: 0 where all is well, 1 where something differs or is missing, 2 for a command there is not or one that cannot run.
    """
    given = sys.argv[1:] if arguments is None else arguments
    name, rest = (given[0], given[1:]) if given else ("--help", [])
    if name in ("-h", "--help", "help"):
        print(usage())
        return 0
    if name in ("-V", "--version"):
        print(f"pyint8dot {__version__}")
        return 0
    if name not in COMMANDS:
        print(f"pyint8dot: unknown command {name!r}; there are {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    module = import_module(COMMANDS[name][0])
    try:
        code: int = module.main(rest)
    except Int8DotError as error:
        # Such as a kernel that the environment asks for and this processor lacks.
        print(f"pyint8dot {name}: {error}", file=sys.stderr)
        return 2
    return code


def whole() -> int:
    """Run the command of the process, with no word of it where what it prints goes to a pipe that nobody reads any more."""
    try:
        try:
            return main()
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        # Python writes what is left when it ends, and would complain then.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return NOBODY_READS


def usage() -> str:
    """Text of ``--help``."""
    width = max(map(len, COMMANDS))
    return "\n".join(
        [
            "usage: python -m pyint8dot COMMAND [ARGUMENTS]",
            "       python -m pyint8dot --version",
            "",
            *(f"  {name:{width}}  {summary}" for name, (_, summary) in COMMANDS.items()),
        ]
    )


if __name__ == "__main__":
    sys.exit(whole())
