"""Readable output of the commands: with rich where it is installed, else in plain text."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

WIDTH = 110
"""Columns where the output is no terminal."""


def heading(text: str) -> None:
    """Print a heading with a line of space above.

    Parameters
    ----------
    text : str
        One line.
    """
    try:
        from rich.text import Text  # noqa: PLC0415 - an extra
    except ModuleNotFoundError:
        print(f"\n{text}\n{'-' * len(text)}")
        return
    _print(Text(f"\n{text}", style="bold"))


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print rows under their column names; columns of numbers are aligned to the right.

    Parameters
    ----------
    columns : sequence of str
        Names.
    rows : sequence of sequences
        As many cells a row as there are columns; floats are printed with four digits.
    """
    cells = [[_cell(value) for value in row] for row in rows]
    numeric = [bool(rows) and all(type(row[i]) in (int, float) for row in rows) for i in range(len(columns))]
    try:
        from rich.table import Table  # noqa: PLC0415 - an extra
        from rich.text import Text  # noqa: PLC0415 - an extra
    except ModuleNotFoundError:
        _plain(columns, cells, numeric)
        return
    made = Table(box=None, pad_edge=False, header_style="bold")
    for name, right in zip(columns, numeric, strict=True):
        made.add_column(name, justify="right" if right else "left", overflow="fold")
    for row in cells:
        made.add_row(*map(Text, row))
    _print(made)


def _print(made: Any) -> None:
    """Print what rich has made; rich itself would end the process with 1 where a pipe is closed."""
    from rich.console import Console  # noqa: PLC0415 - an extra

    console = Console(width=shutil.get_terminal_size((WIDTH, 24)).columns, file=sys.stdout)
    # What was printed before is not rich's to flush either.
    sys.stdout.flush()
    with console.capture() as text:
        console.print(made)
    print(text.get(), end="")


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _plain(columns: Sequence[str], cells: Sequence[Sequence[str]], numeric: Sequence[bool]) -> None:
    lines = [list(columns), *cells]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    for line in lines:
        padded = (
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, numeric, strict=True)
        )
        print("  ".join(padded).rstrip())
