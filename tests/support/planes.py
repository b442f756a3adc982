"""Runs the native copies of planes with guard pages and canaries around everything, and says what they have to give."""

from __future__ import annotations

import numpy as np
from support.checked import Checker
from support.entry import Entry
from support.epilogue import same_bits
from support.guard import Rectangle, guarded_input


class Call:
    """One call on random bytes: `planes` of `rows` of `n`, every `step` th of a row, or the same one for 0."""

    def __init__(
        self,
        rng: np.random.Generator,
        planes: int,
        rows: int,
        n: int,
        step: int,
        flip: int,
        *,
        apart: int = 3,
        place: str = "end",
    ) -> None:
        # A row begins so many bytes behind the end of the one before it, and a plane as many rows.
        row_x, row_y = (n - 1) * step + 1 + apart, n + apart
        plane_x, plane_y = row_x * rows + apart, row_y * rows
        whole = planes and rows and n
        read = (planes - 1) * plane_x + (rows - 1) * row_x + (n - 1) * step + 1 if whole else 0
        x = rng.integers(-128, 128, read, dtype=np.int8)
        p, i, j = np.ogrid[:planes, :rows, :n]
        at = (p * plane_x + i * row_x + j * step).reshape(planes * rows, n)
        self.want = x[at] ^ np.uint8(flip).view(np.int8)
        self.y = Rectangle(planes * rows, n, row_y, place, np.int8)
        source = guarded_input(x, place)
        fields = [source.address, self.y.address, planes, rows, n, plane_x, plane_y, row_x, row_y, step, flip]
        self._kept = [source, guarded_input(np.array(fields, np.int64), place)]
        self.argument = self._kept[-1].address

    def check(self, checker: Checker) -> None:
        """Run it and fail on another byte, one outside, a spoilt register."""
        problems = Entry("copy_planes").call(checker, self.argument) + self.y.damage()
        problems += same_bits(self.y.values, self.want)
        assert not problems, "\n".join(problems)
