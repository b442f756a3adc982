"""Runs a native product whose right operand lies in planes, with guard pages and canaries around everything."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from support import gemm, layouts, rows, shapes
from support.checked import Checker
from support.entry import Entry
from support.guard import Guarded, Rectangle, guarded_input

# What is read of B ends with a whole panel.
COLUMNS = 8


class Call:
    """One call: A (m, count * k) packed, B of `count` runs of depth k, each in guarded memory of its own, C among canaries.

    A run's memory is no larger than its planes reach, which are `plane` bytes apart, whatever that is: they may overlap as those of
    one image do, lie on top of each other or go backwards. Runs are told from the one in their middle, so that some lie before it.
    What is behind the last column is anything. ``padding`` is how many cells lie between two rows of C; ``upward`` hands C over from its
    last row, with a negative row stride.
    """

    def __init__(
        self,
        stem: str,
        rng: np.random.Generator,
        shape: shapes.Shape,
        count: int = 1,
        *,
        plane: int | None = None,
        values: str = "random",
        a_values: str = "",
        starts: bool = True,
        padding: int = 0,
        place: str = "end",
        upward: bool = False,
    ) -> None:
        self.stem, self.shape = stem, shape
        kernel = rows.PLANES[stem]
        m, n, k = shape
        group = kernel.right.kr
        columns = -(-n // COLUMNS) * COLUMNS
        groups = k // group
        plane = group * columns if plane is None else plane
        a = shapes.VALUES[a_values or values](rng, m, count * k)
        # Where byte q of column j of K group g lies in a run, from the lowest byte of all.
        first = max(0, -(groups - 1) * plane)
        g, q, j = np.ogrid[:groups, :group, :columns]
        at: npt.NDArray[np.int64] = (first + g * plane + group * j + q).reshape(k, columns)
        runs = [shapes.VALUES[values](rng, 1, int(at.max(initial=-1)) + 1)[0] for _ in range(count)]
        b = np.concatenate([run[at] for run in runs])[:, :n]
        # Over the whole range of int32, so that sums wrap.
        row_start = rng.integers(-(2**31), 2**31, m, dtype=np.int32) if starts else np.zeros(m, np.int32)
        self.want = gemm.expected(a, b, row_start)
        self.c = Rectangle(m, n, n + padding, place)
        self.upward = upward
        self._kept: list[Guarded] = []
        begins = [self._input(run, place) + first for run in runs]
        base = begins[count // 2]
        fields = [
            self._input(layouts.packed(a, kernel.left), place),
            base,
            self.c.address + (4 * self.c.stride * (m - 1) if upward and m else 0),
            4 * self.c.stride * (-1 if upward else 1),
            m,
            n,
            k,
            self._input(np.repeat(row_start, COLUMNS), place),
            plane,
            self._input(np.array(begins, np.int64) - base, place),
            count,
        ]
        self.argument = self._input(np.array(fields, np.int64), place)

    def _input(self, array: npt.NDArray[np.generic], place: str) -> int:
        """The address of a guarded copy of ``array``."""
        self._kept.append(guarded_input(array, place))
        return self._kept[-1].address

    def check(self, checker: Checker) -> None:
        """Run it and fail on a wrong cell, a cell outside C, a spoilt register."""
        problems = Entry(self.stem).call(checker, self.argument) + self.c.damage()
        problems += gemm.wrong_cells(self.c.values[::-1] if self.upward else self.c.values, self.want)
        assert not problems, "\n".join([f"{self.stem}, {self.shape}", *problems])
