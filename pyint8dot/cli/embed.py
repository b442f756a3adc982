"""``python -m pyint8dot embed FILE.txt -o FOLDER``: the lines of a text, embedded and kept for ``search``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pyint8dot.cli.command import carried_out
from pyint8dot.search import Index

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["main", "read_lines"]

#: The lines that were embedded, in the folder of their index: the id of a vector is the number of its line.
LINES = "lines.txt"

#: Lines embedded between two steps of the progress bar.
STEP = 256


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    found = argparse.ArgumentParser(
        prog="python -m pyint8dot embed",
        description="Embed the lines of a text by an int8 MiniLM and save an index of them, for the command search.",
        epilog="Needs the extra: pip install 'pyint8dot[models]'. Empty lines are left out.",
    )
    found.add_argument("text", metavar="FILE.txt", help="UTF-8; - is the standard input")
    found.add_argument(
        "-o", "--output", required=True, metavar="FOLDER", help="the index; lines are added to one that is there"
    )
    found.add_argument(
        "--keep", choices=["float32", "int8"], default="int8", help="what results are rescored from (int8)"
    )
    found.add_argument("--batch-size", type=int, default=32, metavar="N", help="lines computed at a time (32)")
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments after ``embed``; by default those of the process.

    Returns
    -------
    int
        0, or 2 where a file is wrong or an extra is missing; the reason is printed to the standard error.
    """
    return carried_out(_run, parser().parse_args(argv))


def _run(arguments: argparse.Namespace) -> None:
    from pyint8dot.models import MiniLM  # noqa: PLC0415 - an extra

    folder = Path(arguments.output)
    source = sys.stdin.buffer.read() if arguments.text == "-" else Path(arguments.text).read_bytes()
    try:
        # The mark that editors of Windows begin a file with is no part of its first line.
        lines = [line for line in source.decode("utf-8-sig").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise ValueError(f"{arguments.text} must be UTF-8: {error}") from None
    if not lines:
        raise ValueError(f"{arguments.text} has no lines")
    model = MiniLM.load()
    try:
        index = Index.open(folder)
    except FileNotFoundError:
        index, before = Index(dim=model.dimension, keep=arguments.keep), []
    else:
        before = read_lines(folder, len(index))
    for some in _steps(lines):
        index.add(model.encode(some, arguments.batch_size))
    # Lines come before vectors: wherever this ends, no vector is without its line.
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / f"{LINES}.new"
    draft.write_bytes("\n".join([*before, *lines, ""]).encode("utf-8"))
    draft.replace(folder / LINES)
    index.save(folder)
    print(f"{len(lines)} lines embedded, {len(index)} in {folder}")


def _steps(lines: list[str]) -> Iterator[list[str]]:
    """The lines in steps, with a bar on the standard error where that is a terminal."""
    from rich.console import Console  # noqa: PLC0415 - an extra
    from rich.progress import track  # noqa: PLC0415 - an extra

    console = Console(stderr=True)
    shown = track(range(0, len(lines), STEP), "Embedding", console=console, disable=not console.is_terminal)
    return (lines[start : start + STEP] for start in shown)


def read_lines(folder: Path, count: int) -> list[str]:
    """The lines of an index of `count` vectors.

    Parameters
    ----------
    folder : Path
    count : int

    Returns
    -------
    list of str

    Raises
    ------
    ValueError
        There are fewer.
    """
    lines = (folder / LINES).read_bytes().decode("utf-8").split("\n")[:-1]
    if len(lines) < count:
        raise ValueError(f"{folder / LINES} has {len(lines)} lines for {count} vectors")
    # There are more where their vectors were not written any more.
    return lines[:count]
