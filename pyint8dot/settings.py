"""What `with` blocks have set for the products of this thread and asynchronous task.

All of it sits in one context variable, so that a product asks once, and nothing set costs next to nothing.
"""

from __future__ import annotations

import contextlib
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyint8dot.gemm import Tally
    from pyint8dot.kernels import Kernel

__all__ = ["NOTHING", "Settings", "current", "within"]


class Settings(NamedTuple):
    """What is set; None where nothing is."""

    kernel: Kernel | None = None
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
