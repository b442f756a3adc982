"""Runs the native outer product, added to a block, with guard pages and canaries around everything."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from support.checked import Checker
from support.entry import Entry
from support.guard import Rectangle, guarded_input

Int32 = npt.NDArray[np.int32]


class Call:
    """One call on a block that holds ``c``; ``upward`` hands it over from its last row, with a negative row stride."""

    def __init__(
        self, c: Int32, u: Int32, v: Int32, *, place: str = "end", padding: int = 0, upward: bool = False
    ) -> None:
        m, n = c.shape
        self.want = c + u[:, None] * v
        self.block = Rectangle(m, n, n + padding, place)
        rows = self.block.values[::-1] if upward else self.block.values
        rows[...] = c
        self.result = rows
        first = self.block.address + (4 * self.block.stride * (m - 1) if upward and m else 0)
        self._kept = [guarded_input(u, place), guarded_input(v, place)]
        fields = [first, 4 * self.block.stride * (-1 if upward else 1), m, n, *(kept.address for kept in self._kept)]
        self._kept.append(guarded_input(np.array(fields, np.int64), place))
        self.argument = self._kept[-1].address


def check(checker: Checker, c: Int32, u: Int32, v: Int32, **options: Any) -> None:
    """Add the outer product of ``u`` and ``v`` to ``c`` and fail on a wrong cell, a cell outside, a spoilt register."""
    call = Call(c, u, v, **options)
    problems = Entry("add_outer").call(checker, call.argument) + call.block.damage()
    wrong = np.argwhere(call.result != call.want)
    if wrong.size:
        i, j = map(int, wrong[0])
        problems.append(f"{len(wrong)} wrong cells, the first C[{i}][{j}]: {call.result[i, j]}, not {call.want[i, j]}")
    assert not problems, "\n".join([f"add_outer {c.shape} {options}", *problems])
