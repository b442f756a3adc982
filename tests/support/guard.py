"""Memory that tells on a kernel: guard pages around every buffer, canaries around C.

A buffer lies flush against an inaccessible page, at its end or at its start, so that one byte too far is a fault and not a
silent read. The output matrix lies the same way, and every other cell of its pages holds a canary: a write that no guard page
can see (between two rows, say) shows up as a cell with coordinates.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from typing import Any

import numpy as np
import numpy.typing as npt

PAGE = mmap.PAGESIZE
PROT_NONE, PROT_READ, PROT_WRITE = 0, 1, 2
CANARY = 0x99
# What an unwritten byte of C holds: not the canary, so that "never written" and "not C" look different.
UNWRITTEN = 0x5A

# Both placements of a buffer; tests go through all of them.
PLACEMENTS = ("end", "start")

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
_libc.mprotect.restype = ctypes.c_int


def _protect(address: int, nbytes: int, protection: int) -> None:
    if nbytes and _libc.mprotect(address, nbytes, protection) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"mprotect: {os.strerror(error)}")


class Guarded:
    """A buffer of ``nbytes`` bytes between two inaccessible pages.

    ``place`` says which end of the buffer touches its guard page: "end" finds reads past it, "start" finds reads before it.
    The memory is shared with forked children, so that what a child writes can be looked at by its parent.

    ``memory`` is everything accessible (whole pages, uint8), ``data`` the buffer itself, ``address`` where the buffer begins.
    """

    def __init__(self, nbytes: int, place: str = "end") -> None:
        assert place in PLACEMENTS
        self.pages = max(1, -(-nbytes // PAGE)) * PAGE
        self._map = mmap.mmap(-1, self.pages + 2 * PAGE)
        everything = np.frombuffer(self._map, dtype=np.uint8)
        self._start = int(everything.ctypes.data)
        self.memory = everything[PAGE : PAGE + self.pages]
        self.memory[:] = CANARY
        self.offset = self.pages - nbytes if place == "end" else 0
        self.data = self.memory[self.offset : self.offset + nbytes]
        self.address = self._start + PAGE + self.offset
        _protect(self._start, PAGE, PROT_NONE)
        _protect(self._start + PAGE + self.pages, PAGE, PROT_NONE)

    def damage(self) -> list[tuple[str, int]]:
        """Bytes of the buffer's own pages that are outside it and lost their canary: side and distance from its start."""
        end = self.offset + self.data.size
        outside = np.flatnonzero(self.memory != CANARY)
        outside = outside[(outside < self.offset) | (outside >= end)]
        return [("before" if byte < self.offset else "after", int(byte) - self.offset) for byte in outside[:1]]

    def read_only(self) -> None:
        """Make a write to the buffer a fault."""
        _protect(self._start + PAGE, self.pages, PROT_READ)


def guarded_rows(array: npt.NDArray[Any], padding: int, place: str = "end") -> tuple[Guarded, int]:
    """Copy a matrix into a read-only guarded buffer, ``padding`` elements between its rows; return the row stride in bytes too."""
    m, n = array.shape
    rows = np.zeros((m, n + padding), array.dtype)
    rows[:, :n] = array
    # The buffer ends with the last element of the last row.
    used = rows.reshape(-1)[: rows.size - padding if m else 0] if n else rows.reshape(-1)[:0]
    return guarded_input(used, place), (n + padding) * array.itemsize


def guarded_input(array: npt.NDArray[np.generic], place: str = "end") -> Guarded:
    """Copy ``array`` (C order) into a guarded buffer and make it read-only."""
    flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    buffer = Guarded(flat.size, place)
    buffer.data[:] = flat
    buffer.read_only()
    return buffer


class Rectangle:
    """A matrix of m x n in a sea of canaries, ``stride`` cells from row to row, flush with a guard page.

    The last row ends with its last cell, not with its padding, so that with ``place="end"`` the cell after C is a fault.
    """

    def __init__(
        self, m: int, n: int, stride: int | None = None, place: str = "end", dtype: npt.DTypeLike = np.int32
    ) -> None:
        self.m, self.n = m, n
        self.stride = n if stride is None else stride
        assert self.stride >= n
        self.dtype = np.dtype(dtype)
        # Cells are compared as integers: a canary read as a float could be anything.
        whole = np.dtype(f"i{self.dtype.itemsize}")
        size = whole.itemsize
        cells = (m - 1) * self.stride + n if m and n else 0
        self.buffer = Guarded(size * cells, place)
        self.address = self.buffer.address
        self.cells = self.buffer.memory.view(whole)
        self.canary = np.frombuffer(bytes([CANARY] * size), whole)[0]
        self.origin = self.buffer.offset // size
        span = self.cells[self.origin : self.origin + cells]
        inside = (
            np.lib.stride_tricks.as_strided(span, (m, n), (size * self.stride, size))
            if cells
            else np.empty((m, n), whole)
        )
        inside[...] = np.frombuffer(bytes([UNWRITTEN] * size), whole)[0]
        self.values = inside.view(self.dtype)
        self._mask = self.cells != self.canary
        assert np.count_nonzero(self._mask) == m * n

    def damage(self) -> list[str]:
        """Which cells outside C were written: one line a side, then a map; empty when none was."""
        hits = np.flatnonzero((self.cells != self.canary) & ~self._mask)
        if not hits.size:
            return []
        where = [self._locate(int(cell)) for cell in hits]
        lines: dict[str, str] = {}
        for side, row, column in where:
            lines.setdefault(
                side, f"overwrite {side} of C ({self.m} x {self.n}, stride {self.stride}): row {row}, column {column}"
            )
        return [*lines.values(), *self._map_around(*where[0][1:], {(row, column) for _, row, column in where})]

    def _locate(self, cell: int) -> tuple[str, int, int]:
        """The side of C that a cell lies on and its row and column, counted from C's first cell."""
        row, column = divmod(cell - self.origin, max(self.stride, 1))
        if row < 0:
            # The cell just before C belongs to its left side: that is what a writer would have aimed at.
            return (
                ("left", 0, column - self.stride) if row == -1 and self.stride - column <= 1 else ("above", row, column)
            )
        if row >= self.m or (row == self.m - 1 and column >= 2 * self.n):
            return "below", row, column
        if column - self.n < self.stride - column or row == self.m - 1:
            return "right", row, column
        return "left", row + 1, column - self.stride

    def _map_around(self, row: int, column: int, hits: set[tuple[int, int]]) -> list[str]:
        """A small picture: # is C, . an intact canary, X an overwritten one."""

        def sign(r: int, c: int) -> str:
            if (r, c) in hits:
                return "X"
            return "#" if 0 <= r < self.m and 0 <= c < self.n else "."

        rows = range(max(-2, row - 4), min(self.m + 2, row + 5))
        columns = range(max(-2, column - 16), min(max(self.n, self.stride) + 2, column + 17))
        return [f"row {r:4d}  " + "".join(sign(r, c) for c in columns) for r in rows]
