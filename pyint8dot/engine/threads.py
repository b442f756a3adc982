"""How many threads a product uses, and the pool they come from.

The native library is called without Python's global lock, so ordinary Python threads run its blocks at the same time.
Blocks write disjoint parts of the result and each computes what it would alone: the number of threads never shows in
the bits. There is no pool before a product first asks for a second thread, and a forked child makes its own.
"""

from __future__ import annotations

import contextlib
import operator
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from pyint8dot.engine import settings, tape

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

__all__ = ["get_num_threads", "num_threads", "set_num_threads"]

#: More threads than this are a mistake rather than a wish.
MOST = 1024


def checked(count: int, name: str = "num_threads") -> int:
    """Return `count` as an int from 1 to `MOST`, or raise an error that names the argument."""
    if isinstance(count, bool):
        raise TypeError(f"{name} must be an int, got bool")
    try:
        number = operator.index(count)
    except TypeError:
        raise TypeError(f"{name} must be an int, got {type(count).__name__}") from None
    if not 1 <= number <= MOST:
        raise ValueError(f"{name} must be from 1 to {MOST}, got {number}")
    return number


def from_environment(value: str | None) -> int:
    """Read ``OMP_NUM_THREADS``: its first number, or 1 where it says nothing usable."""
    first = (value or "").split(",")[0].strip()
    digits = first.lstrip("0") if first.isdecimal() and first.isascii() else ""
    # Python refuses to read thousands of digits, and an import must not fail over them.
    return min(int(digits[: len(str(MOST)) + 1]), MOST) if digits else 1


settings.default_threads = from_environment(os.environ.get("OMP_NUM_THREADS"))


def get_num_threads() -> int:
    """Tell how many threads a product uses here unless its ``num_threads=`` says otherwise.

    Returns
    -------
    int
        That of the innermost `num_threads` block, else that of `set_num_threads`.

    Examples
    --------
    >>> get_num_threads() >= 1
    True
    """
    return settings.current().num_threads or settings.default_threads


def set_num_threads(count: int) -> None:
    """Set how many threads products use in this process, where no `num_threads` block says otherwise.

    Parameters
    ----------
    count : int
        At least 1. The value at the start is ``OMP_NUM_THREADS``, or 1.

    Raises
    ------
    TypeError, ValueError
        If `count` is not an int, or not from 1 to 1024.

    Examples
    --------
    >>> set_num_threads(1)
    """
    settings.default_threads = checked(count, "count")


def num_threads(count: int) -> AbstractContextManager[None]:
    """Use `count` threads inside a ``with`` block, in this thread and asynchronous task only.

    Parameters
    ----------
    count : int
        From 1 to 1024.

    Returns
    -------
    context manager

    Raises
    ------
    TypeError, ValueError
        If `count` is not an int, or not from 1 to 1024.

    Examples
    --------
    >>> with num_threads(2):
    ...     get_num_threads()
    2
    """
    return settings.within(num_threads=checked(count, "count"))


class _Pool:
    """The process's pool: made at its first use, grown when more threads are asked for, forgotten in a forked child."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._executor: ThreadPoolExecutor | None = None
        self._size = 0

    def executor(self, size: int) -> ThreadPoolExecutor:
        with self._lock:
            if self._executor is None or self._size < size:
                # Callers still using the smaller pool finish there; its threads end when it is let go.
                self._executor = ThreadPoolExecutor(size, thread_name_prefix="pyint8dot")
                self._size = size
            return self._executor


_pool = _Pool()


def _forget() -> None:
    global _pool  # noqa: PLW0603 - the child's copy of the pool has no threads
    _pool = _Pool()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


class _Work:
    """Tasks that threads take one by one until none is left."""

    def __init__(self, tasks: Sequence[Callable[[], None]]) -> None:
        self._left = list(reversed(tasks))
        self._changed = threading.Condition(threading.Lock())
        #: Tasks that helpers are at.
        self._running = 0
        self.errors: list[BaseException] = []

    def take(self) -> Callable[[], None] | None:
        """The next task for the thread that waits for them all."""
        with self._changed:
            return self._left.pop() if self._left else None

    def help(self) -> None:
        """Do tasks in a thread of the pool."""
        while True:
            with self._changed:
                if not self._left:
                    return
                task = self._left.pop()
                self._running += 1
            try:
                task()
            except BaseException as error:  # noqa: BLE001 - the thread that waits raises it
                self.errors.append(error)
            finally:
                with self._changed:
                    self._running -= 1
                    self._changed.notify()

    def wait(self) -> None:
        """Drop the tasks that nobody has begun and wait for the others, whatever a signal handler raises meanwhile."""
        raised: BaseException | None = None
        while True:
            try:
                with self._changed:
                    self._left.clear()
                    self._changed.wait_for(lambda: not self._running)
                break
            except BaseException as error:  # noqa: BLE001 - raised below
                raised = error
        if raised is not None:
            raise raised


def run(tasks: Sequence[Callable[[], None]]) -> None:
    """Run every task, in this thread and in the pool, and wait for all of them."""
    if len(tasks) == 1:
        tasks[0]()
        return
    if tape.TAPES:
        tape.shared()
    work = _Work(tasks)
    try:
        # Where no thread can be started any more, this one does what is left.
        with contextlib.suppress(RuntimeError):
            executor = _pool.executor(len(tasks) - 1)
            for _ in tasks[1:]:
                executor.submit(work.help)
        while (task := work.take()) is not None:
            task()
    finally:
        # Nobody may return while a thread still writes: errors are raised after the last has ended.
        work.wait()
    if work.errors:
        raise work.errors[0]
