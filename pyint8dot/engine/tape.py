"""What native code a thread runs, written down while somebody looks, so that it can be run again without Python.

Whoever calls native code on behalf of an operator tells `note` of each program, where there is a tape at all: `TAPES` is empty
otherwise, and looking at it is all that a call then costs.
"""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pyint8dot.engine.library import address

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from pyint8dot.engine.program import Program

__all__ = [
    "TAPES",
    "Answer",
    "At",
    "Call",
    "Part",
    "Tape",
    "asked",
    "bounds",
    "note",
    "place",
    "recording",
    "shared",
    "touch",
]


class At(int):
    """A word of a head that is an address."""

    __slots__ = ()


class Call(NamedTuple):
    """A program that was run: the words of its head, numbers or addresses, and the scratch it works in."""

    words: tuple[int, ...]
    program: Program
    scratch: int


class Answer(NamedTuple):
    """What somebody has found out about an array's values, to choose the way by it."""

    array: NDArray[Any]
    question: Callable[[NDArray[Any]], Any]
    answer: Any


class Part(NamedTuple):
    """A piece of a tape."""

    calls: list[Call]
    #: The arrays that programs wrote to.
    written: list[NDArray[Any]]
    #: What the arrays that they only read are parts of.
    read: list[NDArray[Any]]
    answers: list[Answer]
    #: Whether what was read is all still there, and all the work is here.
    sound: bool


class Tape:
    """The programs that one thread runs."""

    def __init__(self) -> None:
        self._calls: list[Call] = []
        self._written: list[NDArray[Any]] = []
        self._read: list[weakref.ref[NDArray[Any]]] = []
        self.answers: list[Answer] = []
        self.sound = True

    def add(self, call: Call) -> None:
        """Note a program."""
        self._calls.append(call)

    def touch(self, reads: Sequence[NDArray[Any] | None], writes: Sequence[NDArray[Any] | None]) -> None:
        """Note which arrays programs are about to read and to write.

        What was not written by a program before is held by nobody here: an array that is gone afterwards was made for the call
        alone, by something that is not on the tape.
        """
        for array in reads:
            if array is not None and not any(np.may_share_memory(array, other) for other in self._written):
                self._read.append(weakref.ref(_whole(array)))
        self._written += [array for array in writes if array is not None]

    def cut(self) -> Part:
        """Return what has been noted since the last cut."""
        found = [read() for read in self._read]
        alive = [array for array in found if array is not None]
        part = Part(self._calls, self._written, alive, self.answers, self.sound and len(alive) == len(found))
        self._calls, self._written, self._read, self.answers, self.sound = [], [], [], [], True
        return part


#: The tapes that are being written, by thread.
TAPES: dict[int, Tape] = {}

if hasattr(os, "register_at_fork"):
    # The child has none of the threads that were writing.
    os.register_at_fork(after_in_child=TAPES.clear)


@contextlib.contextmanager
def recording() -> Iterator[Tape]:
    """Write down the programs that this thread runs inside a ``with`` block."""
    me = threading.get_ident()
    before, made = TAPES.get(me), Tape()
    TAPES[me] = made
    try:
        yield made
    finally:
        TAPES.pop(me, None)
        if before is not None:
            TAPES[me] = before


def note(words: Sequence[int], program: Program, scratch: int) -> None:
    """Tell this thread's tape, if it has one, of a program that is about to run."""
    tape = TAPES.get(threading.get_ident())
    if tape is not None:
        tape.add(Call(tuple(words), program, scratch))


def touch(reads: Sequence[NDArray[Any] | None], writes: Sequence[NDArray[Any] | None]) -> None:
    """Tell it of the arrays that programs read and write."""
    tape = TAPES.get(threading.get_ident())
    if tape is not None:
        tape.touch(reads, writes)


def shared() -> None:
    """Tell it that there is work it does not have: other threads help, or what is packed now comes from an operand."""
    tape = TAPES.get(threading.get_ident())
    if tape is not None:
        tape.sound = False


def asked(question: Callable[[NDArray[Any]], Any], array: NDArray[Any]) -> Any:
    """Return what `question` says of an array; the tape holds for arrays of which it says the same."""
    answer = question(array)
    tape = TAPES.get(threading.get_ident())
    if tape is not None:
        tape.answers.append(Answer(array, question, answer))
    return answer


def place(array: NDArray[Any] | None) -> int:
    """Where an array lies, as a word; 0 where there is none."""
    return 0 if array is None else At(address(array))


def bounds(array: NDArray[Any]) -> tuple[int, int]:
    """The addresses of an array's first byte and of what follows its last."""
    low = high = address(array)
    for size, stride in zip(array.shape, array.strides, strict=True):
        if stride < 0:
            low += (size - 1) * stride
        else:
            high += (size - 1) * stride
    return low, high + array.itemsize


def _whole(array: NDArray[Any]) -> NDArray[Any]:
    """The array that owns the memory, as far as it is one."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array
