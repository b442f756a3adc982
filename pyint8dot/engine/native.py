"""Runs products on the native library: programs of packing, multiplying and epilogue, block of rows by block of rows.

A program is a string of records, each the address of an entry and its arguments as 64-bit integers; the entry ``run``
(asm/run.S) calls them in turn. So whatever a block needs costs one ctypes call, and no array is built for its arguments.

A block is as many rows of A as fit half the second-level cache when packed, together with the int32 rows an epilogue
reads. The kernel walks B panel by panel over that block, so B comes from memory once a block and the block stays near.
"""

from __future__ import annotations

import functools
import itertools
import struct
import threading
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pyint8dot.engine import cpu, library, threads
from pyint8dot.engine.layouts import FLIP, PACKERS
from pyint8dot.engine.library import address

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from numpy.typing import NDArray

    from pyint8dot.engine.kernels import Kernel

__all__ = ["Bound", "bind", "multiply", "record", "run_blocks", "take"]

#: Bytes of scratch that a program finds on the stack; the first 8 are the status that ``run`` returns.
SCRATCH = 4096

#: What every program begins with, here unused: words that its arguments may refer to.
NO_HEAD = bytes(48)
END = bytes(8)

#: Multiply-accumulates below which another thread takes longer to wake than to help.
LEAST_WORK = 1 << 20

# Kinds of argument: an offset into the scratch, head word j itself, a pointer kept where head word j says.
IN_SCRATCH = 1
HEAD = 2
POINTER = 8

_PACK_MULTIPLY = struct.Struct("48x9q56x10q48x8x")
_RECORDS = tuple(struct.Struct(f"{1 + count}q{8 * (14 - count)}xq") for count in range(15))


def record(entry: int, *fields: int, kinds: tuple[int, ...] = ()) -> bytes:
    """One record of a program: the address of an entry, its arguments, and their kinds where they are not plain."""
    return _RECORDS[len(fields)].pack(entry, *fields, sum(kind << 4 * i for i, kind in enumerate(kinds)))


class Bound(NamedTuple):
    """A native kernel with what a call needs of it looked up."""

    run: Callable[[bytes], Any]
    entry: int
    pack: int
    kr: int


@functools.cache
def bind(kernel: Kernel) -> Bound:
    """Look up the entries of a native `kernel`; once a kernel."""
    native = library.load()
    return Bound(
        native.function("run"),
        native.addresses[kernel.name],
        native.addresses[PACKERS[kernel.kr, kernel.nr]],
        kernel.kr,
    )


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
            store = np.empty(size + 64, np.int8)
            self.room = room = (size, -(-address(store) // 64) * 64, (store, room))
        return room[1]


_workspace = _Workspace()
take = _workspace.take


@functools.cache
def _budget() -> int:
    """Bytes a block may take: half of the second-level cache, since B's panels and C pass through it too."""
    return cpu.caches()[1] // 2


def multiply(
    bound: Bound,
    b: int,
    a: NDArray[Any],
    c: NDArray[np.int32],
    row_start: int = 0,
    col_start: int = 0,
    count: int = 1,
) -> None:
    """Compute ``C = A' @ B + row_start + col_start``, A' being int8, or uint8 moved to int8.

    Parameters
    ----------
    bound : Bound
        The kernel.
    b : int
        Address of B, packed for the kernel.
    a : ndarray of int8 or uint8, shape (m, k)
        Any strides.
    c : ndarray of int32, shape (m, n)
        Overwritten; its columns are contiguous, its rows any stride apart. It shares no memory with the operands.
    row_start, col_start : int
        Addresses of int32 values per row and per column, the latter readable to a whole panel of 8; 0 for none.
    count : int
        How many threads to use.
    """
    run, entry, pack, kr = bound
    m, k = a.shape
    n = c.shape[1]
    if m == 0 or n == 0:
        return
    packed_k = packed_depth(k, kr)
    stride_m, stride_k = a.strides
    ldc = c.strides[0]
    flip = FLIP if a.dtype.char == "B" else 0
    a_at, c_at = address(a), address(c)

    def block(row: int, rows: int, column: int, columns: int) -> None:
        at = take(rows * packed_k)
        run(
            _PACK_MULTIPLY.pack(
                pack, a_at + row * stride_m, at, k, rows, stride_k, stride_m, 1, flip,
                entry, at, b + column * packed_k, c_at + row * ldc + 4 * column, ldc, rows, columns, packed_k,
                row_start and row_start + 4 * row, col_start and col_start + 4 * column,
            )
        )  # fmt: skip

    run_blocks(block, m, n, packed_k, count)


def packed_depth(k: int, kr: int) -> int:
    """Bytes of a packed row: `k` filled up to a whole K group."""
    return -(-k // kr) * kr


def run_blocks(block: Callable[[int, int, int, int], None], m: int, n: int, row_bytes: int, count: int) -> None:
    """Call ``block(row, rows, column, columns)`` over an (m, n) result, on `count` threads.

    Blocks have as many rows as their `row_bytes` each let stay in the cache. Threads share the rows in whole panels, or
    the columns where there are too few rows for that; too little work for so many is left to fewer.
    """
    most = max(8, _budget() // max(row_bytes, 1) // 8 * 8)
    if count == 1 and m <= most:
        block(0, m, 0, n)
        return
    count = min(count, max(1, m * n * row_bytes // LEAST_WORK))

    def span(row: int, end: int, column: int, columns: int) -> None:
        for start in range(row, end, most):
            block(start, min(most, end - start), column, columns)

    if count == 1:
        span(0, m, 0, n)
    elif m >= 8 * count or m >= n:
        edges = shares(m, count)
        threads.run([functools.partial(span, r, e, 0, n) for r, e in edges])
    else:
        edges = shares(n, count)
        threads.run([functools.partial(span, 0, m, c, e - c) for c, e in edges])


def shares(length: int, count: int) -> list[tuple[int, int]]:
    """Cut `length` into at most `count` ranges of whole panels of 8, as even as they come."""
    panels = -(-length // 8)
    count = min(count, panels)
    cuts = [8 * (panels * i // count) for i in range(count)] + [length]
    return list(itertools.pairwise(cuts))
