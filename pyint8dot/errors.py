"""The exceptions pyint8dot adds to numpy's, and the wording they share.

Wrong arguments raise what numpy raises: `TypeError` for a dtype, `ValueError` for a shape. The
classes here are for what numpy has no word for: the kernels and the native library.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Int8DotError", "KernelError", "LibraryError", "listing"]


class Int8DotError(Exception):
    """Root of the exceptions that only pyint8dot raises."""


class KernelError(Int8DotError, ValueError):
    """A kernel was asked for by a name that is unknown, or that this machine cannot run."""


class LibraryError(Int8DotError, OSError):
    """The native library is missing, cannot be loaded, or lacks an entry."""


def listing(names: Iterable[str]) -> str:
    """Join `names` for a message: ``"a, b and c"``, or ``"none"`` when there are none."""
    words = list(names)
    if not words:
        return "none"
    if len(words) == 1:
        return words[0]
    return f"{', '.join(words[:-1])} and {words[-1]}"
