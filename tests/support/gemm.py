"""Runs one native kernel on one product with everything watched: guard pages, canaries, registers, stack."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from support import layouts
from support.checked import Checker
from support.entry import Entry
from support.guard import Guarded, Rectangle, guarded_input
from support.shapes import Row

Int8 = npt.NDArray[np.int8]
Int32 = npt.NDArray[np.int32]

SIDES = ("left", "right")


def sides(row: Row) -> tuple[str, ...]:
    """The sides that a kernel may want complemented: either, or it does not matter which."""
    return SIDES if row.complement else SIDES[:1]


class Call:
    """One call of a kernel: A (m, k) and B (k, n) packed into guarded inputs, C a rectangle among canaries.

    Everything lies flush with a guard page at its end or at its start, as ``place`` says. ``padding`` is how many cells
    lie between two rows of C; ``upward`` hands C over from its last row, with a negative row stride. Where the kernel wants an
    operand complemented, it is that on the side ``complemented``, and ``want`` has the surplus.
    """

    def __init__(
        self,
        row: Row,
        a: Int8,
        b: Int8,
        *,
        row_start: Int32 | None = None,
        col_start: Int32 | None = None,
        padding: int = 0,
        place: str = "end",
        upward: bool = False,
        complemented: str = "left",
    ) -> None:
        (m, k), n = a.shape, b.shape[1]
        self.c = Rectangle(m, n, n + padding, place)
        self.upward = upward
        self._kept: list[Guarded] = []
        columns = None
        if col_start is not None:
            # The contract lets a kernel read this vector to the end of the last panel.
            columns = np.zeros(-(-n // row.nr) * row.nr, np.int32)
            columns[:n] = col_start
        left, right = (row.complement and complemented == side for side in SIDES)
        self.want = expected(a, b, row_start, col_start) + surplus(row, a, b, complemented)
        fields = [
            self._input(layouts.packed(a, row.left, complement=left), place),
            self._input(layouts.packed(layouts.transposed(b), row.right, complement=right), place),
            self.c.address + (4 * self.c.stride * (m - 1) if upward and m else 0),
            4 * self.c.stride * (-1 if upward else 1),
            m,
            n,
            layouts.padded_k(k, row.right.kr),
            self._input(row_start, place),
            self._input(columns, place),
        ]
        self.fields = np.array(fields, np.int64)
        self.argument = self._input(self.fields, place)

    def _input(self, array: npt.NDArray[np.generic] | None, place: str) -> int:
        """The address of a guarded copy of ``array``, 0 for None."""
        if array is None:
            return 0
        self._kept.append(guarded_input(array, place))
        return self._kept[-1].address

    @property
    def result(self) -> Int32:
        return self.c.values[::-1] if self.upward else self.c.values


def expected(a: Int8, b: Int8, row_start: Int32 | None = None, col_start: Int32 | None = None) -> Int32:
    """A @ B + starts in 64-bit integers, taken mod 2^32 at the end."""
    total = a.astype(np.int64) @ b.astype(np.int64)
    if row_start is not None:
        total += row_start[:, None]
    if col_start is not None:
        total += col_start
    return total.astype(np.int32)


def surplus(row: Row, a: Int8, b: Int8, complemented: str) -> Int32:
    """What a kernel adds to sums whose operand on that side is complemented: the other operand's sums over upper halves of K groups."""
    if not row.complement:
        return np.zeros((1, 1), np.int32)
    upper = layouts.upper(b.shape[0], row.right.kr)
    if complemented == "left":
        return b[upper].sum(axis=0, dtype=np.int32, keepdims=True)
    return a[:, upper].sum(axis=1, dtype=np.int32, keepdims=True)


def check(checker: Checker, row: Row, a: Int8, b: Int8, **options: Any) -> None:
    """Run the kernel ``row`` on A and B and fail on a wrong cell, a cell outside C, a spoilt register."""
    call = Call(row, a, b, **options)
    problems = Entry(row.name).call(checker, call.argument) + call.c.damage()
    problems += wrong_cells(call.result, call.want)
    assert not problems, "\n".join([f"{row.name}, {shape_of(a, b)}", *problems])


def shape_of(a: npt.NDArray[Any], b: Int8) -> str:
    """The sizes of a product in words."""
    (m, k), n = a.shape, b.shape[1]
    return f"m={m}, n={n}, k={k}"


def wrong_cells(result: Int32, want: Int32) -> list[str]:
    """How many cells of C are wrong, and which is the first; nothing where none is."""
    wrong = np.argwhere(result != want)
    if not wrong.size:
        return []
    i, j = map(int, wrong[0])
    cells = f"{len(wrong)} wrong cells of {want.size}, the first in row {i}, column {j}"
    return [f"{cells}: {result[i, j]} instead of {want[i, j]}"]
