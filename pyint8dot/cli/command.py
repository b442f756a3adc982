"""How a command that reads files ends: its reason on the standard error where something is wrong, never a traceback."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from pyint8dot.errors import Int8DotError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

__all__ = ["carried_out"]


def carried_out(body: Callable[[argparse.Namespace], None], arguments: argparse.Namespace) -> int:
    """Carry out a command; return its exit status.

    Parameters
    ----------
    body : callable
        What it does.
    arguments : argparse.Namespace

    Returns
    -------
    int
        0, or 2 where a file, a value, a missing extra or a lack of memory is in the way; the reason is then printed.
    """
    try:
        body(arguments)
    except BrokenPipeError:
        # Nobody reads on, which is nothing to be told.
        raise
    except (Int8DotError, ImportError, MemoryError, OSError, TypeError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0
