"""What `with` blocks have set for the products of this thread and asynchronous task.

All of it sits in one context variable, so that a product asks once, and nothing set costs next to nothing.
"""

from __future__ import annotations

import contextlib
import threading
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["NOTHING", "Settings", "Tally", "count", "current", "tally", "within"]


class Tally:
    """What products ran while it was open: calls and multiply-accumulates by kernel.

    Attributes
    ----------
    calls, macs : dict of str to int
        By name of kernel.
    """

    def __init__(self) -> None:
        self.calls: dict[str, int] = {}
        self.macs: dict[str, int] = {}
        self._lock = threading.Lock()

    def add(self, kernel: str, macs: int) -> None:
        """Count one product."""
        with self._lock:
            self.calls[kernel] = self.calls.get(kernel, 0) + 1
            self.macs[kernel] = self.macs.get(kernel, 0) + macs


class Settings(NamedTuple):
    """What is set; None where nothing is."""

    #: Name of a kernel that this machine runs.
    kernel: str | None = None
    num_threads: int | None = None
    tally: Tally | None = None


NOTHING = Settings()

_current: ContextVar[Settings] = ContextVar("pyint8dot", default=NOTHING)

#: The settings in force; `NOTHING` itself where no block is open.
current = _current.get

#: Threads of a product where no block says otherwise; `threads.set_num_threads` changes it.
default_threads = 1


@contextlib.contextmanager
def within(**changes: Any) -> Iterator[None]:
    """Change some of the settings inside a ``with`` block."""
    token = _current.set(_current.get()._replace(**changes))
    try:
        yield
    finally:
        _current.reset(token)


@contextlib.contextmanager
def tally() -> Iterator[Tally]:
    """Count the products of this thread and asynchronous task inside a ``with`` block.

    Examples
    --------
    >>> from pyint8dot import matmul
    >>> with tally() as counted:
    ...     c = matmul(np.ones((2, 3), np.int8), np.ones((3, 4), np.int8), kernel="portable")
    >>> counted.macs
    {'portable': 24}
    """
    opened = Tally()
    with within(tally=opened):
        yield opened


def count(kernel: str, macs: int) -> None:
    """Tell an open tally of a product."""
    opened = _current.get().tally
    if opened is not None:
        opened.add(kernel, macs)
