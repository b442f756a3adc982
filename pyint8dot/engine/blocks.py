"""How a product is cut: blocks of rows that stay in the cache, shares for threads, and a thread's working memory.

A block is as many rows of the left operand as fit half the second-level cache when packed, together with the int32 rows that
an epilogue reads. The kernel walks the right operand panel by panel over that block, so that operand comes from memory once a
block and the block stays near. Where a kernel is so fast that the second-level cache could not keep up with it, the packed rows
of a block fit half the first-level cache.
"""

from __future__ import annotations

import functools
import itertools
import struct
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pyint8dot.engine import cpu, library, tape
from pyint8dot.engine.library import address
from pyint8dot.engine.program import FIRST, LEFT, RESULT, SECOND, run_entry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from pyint8dot.engine.kernels import Kernel
    from pyint8dot.engine.program import Program, Word

__all__ = ["LEAST_WORK", "Share", "Written", "block_rows", "budget", "cut", "shares", "take"]

#: Bytes of a cache line.
LINE = 64

#: Bytes a cycle that every core with a fast kernel gets from its second-level cache while it multiplies, and from beyond it.
NEAR, FAR = 8, 4

#: Multiply-accumulates of a block below which its call costs more than operands from the first-level cache save.
LEAST_BLOCK = 1 << 22

#: Multiply-accumulates below which another thread takes longer to wake than to help.
LEAST_WORK = 1 << 20


class _Workspace(threading.local):
    """A thread's scratch memory: reused by its next product, so a small product allocates nothing but its result."""

    #: Its bytes, its address, and what has to stay alive for it.
    room: tuple[int, int, Any] = (0, 0, None)

    def take(self, size: int) -> int:
        """Address of `size` bytes on a cache line, whose contents are good until the thread's next call of `take`."""
        room = self.room
        if size > room[0]:
            # A signal handler or a finalizer may take more before the caller has used what it took, so smaller rooms
            # stay. Each is half of the next at most.
            size = max(size + 4096, 2 * room[0])
            store = np.empty(size + LINE, np.int8)
            self.room = room = (size, -(-address(store) // LINE) * LINE, (store, room))
        return room[1]


_workspace = _Workspace()
take = _workspace.take


#: The words of a head that change where a program works in a thread's scratch and takes up to two operands beside the left one.
EXTENDED = 8
pack_extended = struct.Struct(f"{EXTENDED}q").pack


class Written:
    """A finished program and the scratch it needs.

    Parameters
    ----------
    program : Program
    scratch : int
        Bytes.
    """

    __slots__ = ("_program", "_run", "_tails", "scratch")

    def __init__(self, program: Program, scratch: int) -> None:
        self._program, self.scratch = program, scratch
        self._run = run_entry()
        self._tails: dict[Any, bytes] = {}

    def tail(self, given: int, objects: tuple[Word, ...]) -> bytes:
        """What follows the first `given` words of its head; see `Program.tail`."""
        key = given, bool(objects)
        found = self._tails.get(key)
        if found is None:
            found = self._tails[key] = self._program.tail(given, objects)
        return found

    def records(self) -> bytes:
        """The program without its head."""
        return self._program.records()

    def run(
        self,
        left: NDArray[Any],
        result: NDArray[Any],
        first: NDArray[Any] | None = None,
        second: NDArray[Any] | None = None,
    ) -> int:
        """Run it on arrays, for a program that asks for no sizes or strides, in this thread's scratch; return its status."""
        scratch = take(self.scratch)
        extras = (first, second)
        if tape.TAPES:
            tape.touch((left, first, second), (result,))
            self.note([tape.place(left), tape.place(result), 0, 0, 0, 0, *map(tape.place, extras)])
        if library.LAYOUT_KNOWN:
            key = EXTENDED, first is not None, second is not None
            tail = self._tails.get(key)
            if tail is None:
                words = [word for word, extra in zip((FIRST, SECOND), extras, strict=True) if extra is not None]
                tail = self._tails[key] = self._program.tail(EXTENDED, (LEFT, RESULT, *words))
            head = pack_extended(id(left), id(result), 0, 0, 0, scratch, id(first), id(second))
        else:
            tail = self.tail(EXTENDED, ())
            at = [0 if extra is None else address(extra) for extra in extras]
            head = pack_extended(address(left), address(result), 0, 0, 0, scratch, *at)
        return self._run(head + tail)

    def note(self, words: Sequence[int]) -> None:
        """Tell the tape of this thread that the program is about to run with this head."""
        tape.note(words, self._program, self.scratch)


@functools.cache
def budget() -> int:
    """Bytes a block may take: half of the second-level cache, since the right operand and the result pass through it too."""
    return cpu.caches()[1] // 2


def block_rows(kernel: Kernel, row_bytes: int, packed_bytes: int = 0, row_macs: int = 0) -> int:
    """Return how many rows make a block: whole tiles, at least one.

    Parameters
    ----------
    kernel : Kernel
    row_bytes : int
        Working memory of a row.
    packed_bytes : int
        What a packed row takes of it, if blocks may be smaller than half the second-level cache for the sake of a fast kernel.
    row_macs : int
        Multiply-accumulates of a row.
    """
    rows = budget() // max(row_bytes, 1)
    # A byte of the left operand serves the columns of a tile, a byte of the right one the rows of a block.
    if packed_bytes and kernel.rate > NEAR * kernel.nr:
        close = cpu.caches()[0] // 2 // packed_bytes
        if kernel.rate <= FAR * close and close * row_macs >= LEAST_BLOCK:
            rows = min(rows, close)
    return max(kernel.mr, rows // kernel.mr * kernel.mr)


class Share(NamedTuple):
    """A thread's part of a result: rows from `row` to `end`, and `columns` columns from `column` on."""

    row: int
    end: int
    column: int
    columns: int


def shares(m: int, n: int, macs: int, count: int, mr: int, nr: int) -> list[Share]:
    """Share an (m, n) result of so many multiply-accumulates among at most `count` threads.

    Threads get whole tiles of rows, or of columns where there are too few rows for that; too little work for so many is
    left to fewer.
    """
    count = min(count, max(1, macs // LEAST_WORK))
    if count == 1:
        return [Share(0, m, 0, n)]
    if m >= mr * count or m >= n:
        return [Share(row, end, 0, n) for row, end in cut(m, count, mr)]
    return [Share(0, m, column, end - column) for column, end in cut(n, count, nr)]


def cut(length: int, count: int, tile: int) -> list[tuple[int, int]]:
    """Cut `length` into at most `count` ranges of whole tiles, as even as they come."""
    tiles = -(-length // tile)
    count = min(count, tiles)
    edges = [tile * (tiles * i // count) for i in range(count)] + [length]
    return list(itertools.pairwise(edges))
