"""Runs a native product over A as it lies, with guard pages and canaries around everything."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from support import gemm, layouts, rows
from support.checked import Checker
from support.entry import Entry
from support.guard import Guarded, Rectangle, guarded_input, guarded_rows

from pyint8dot.engine.kernels import Kernel

# The kernels that read A as it lies, by name.
KERNELS: dict[str, Kernel] = {row.name: row for row in rows.FEW}

# Moves uint8 to int8, as the packers have it; the upper half of the argument does not count.
FLIP = 0x80808080
UPPER_HALF = -(2**32)

# What C holds before a product.
UNTOUCHED = np.int32(0x5A5A5A5A)

Int32 = npt.NDArray[np.int32]


class Call:
    """One call: A (m, k) of int8 or uint8 in rows of a guarded input, B (k, n) in columns of one, C among canaries.

    ``padding`` is how far rows of A and of C lie apart; ``upward`` hands both over from their last row, with negative row
    strides; with ``same`` all rows of A are its first one, so that each of them touches the guard page.
    """

    def __init__(
        self,
        stem: str,
        a: npt.NDArray[Any],
        b: npt.NDArray[np.int8],
        *,
        row_start: Int32 | None = None,
        col_start: Int32 | None = None,
        padding: int = 0,
        place: str = "end",
        upward: bool = False,
        same: bool = False,
    ) -> None:
        (m, k), n = a.shape, b.shape[1]
        self.row = KERNELS[stem]
        signed = (a ^ 0x80).view(np.int8) if a.dtype == np.uint8 else a
        self.want = gemm.expected(np.broadcast_to(signed[:1], a.shape) if same else signed, b, row_start, col_start)
        self.c = Rectangle(m, n, n + padding, place)
        self.upward = upward
        lying = a[:1] if same else a[::-1] if upward else a
        memory, lda = guarded_rows(lying, padding, place)
        self._kept: list[Guarded] = [memory]
        last = max(m - 1, 0) if upward else 0
        b_address = self._input(layouts.packed(layouts.transposed(b), self.row.right), place)
        if col_start is not None:
            # It may be read to the end of the last panel.
            col_start = np.concatenate([col_start, np.zeros(-n % self.row.nr, np.int32)])
        self._fields = [
            memory.address + (0 if same else last * lda),
            b_address,
            self.c.address + last * 4 * self.c.stride,
            4 * self.c.stride * (-1 if upward else 1),
            m,
            n,
            k,
            self._input(row_start, place),
            self._input(col_start, place),
            0 if same else -lda if upward else lda,
            (FLIP if a.dtype == np.uint8 else 0) + (UPPER_HALF if upward else 0),
        ]
        self._arguments = Guarded(8 * len(self._fields), place)
        self._arguments.data.view(np.int64)[:] = self._fields
        self.argument = self._arguments.address

    def _input(self, array: npt.NDArray[np.generic] | None, place: str) -> int:
        """The address of a guarded copy of ``array``, 0 for None."""
        if array is None:
            return 0
        self._kept.append(guarded_input(array, place))
        return self._kept[-1].address

    def _corner(self, rows: int, columns: int) -> list[int]:
        """The fields of a product that leaves the first rows out, and whole panels of columns or all of them."""
        assert columns % self.row.nr == 0 or columns == self._fields[5]
        a, b, c, ldc, m, n, k, row_start, col_start, *rest = self._fields
        lda = rest[0]
        b += columns * layouts.padded_k(k, self.row.right.kr)
        row_start += 4 * rows if row_start else 0
        col_start += 4 * columns if col_start else 0
        moved = [a + rows * lda, b, c + rows * ldc + 4 * columns]
        return [*moved, ldc, m - rows, n - columns, k, row_start, col_start, *rest]

    def check(self, checker: Checker, *, without_rows: int = 0, without_columns: int = 0) -> None:
        """Run it, or what is left of it without its first rows and columns, and fail on a wrong cell, or one that was
        written and is none of the product's, and on a spoilt register.
        """
        self._arguments.data.view(np.int64)[:] = self._corner(without_rows, without_columns)
        self.c.values[...] = UNTOUCHED
        problems = Entry(self.row.name).call(checker, self.argument) + self.c.damage()
        result = self.c.values[::-1] if self.upward else self.c.values
        want = np.full(self.want.shape, UNTOUCHED)
        want[without_rows:, without_columns:] = self.want[without_rows:, without_columns:]
        problems += gemm.wrong_cells(result, want)
        m, n, k = self._fields[4:7]
        assert not problems, "\n".join([f"{self.row.name}, m={m}, n={n}, k={k}", *problems])
