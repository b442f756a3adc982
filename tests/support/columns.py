"""Runs what makes start values and factors of columns, with guard pages and canaries around everything."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from support.checked import Checker
from support.entry import Entry
from support.guard import Rectangle, guarded_input

Array = npt.NDArray[Any]


class Call:
    """One call that writes `want`; `fields` are its arguments in order, arrays by their address, and None where it writes."""

    def __init__(self, name: str, want: Array, fields: list[Any], place: str) -> None:
        self.entry, self.want = Entry(name), want
        self.result = Rectangle(1, len(want), place=place, dtype=want.dtype.type)
        self._kept = []
        words = []
        for field in fields:
            if isinstance(field, np.ndarray):
                self._kept.append(guarded_input(field, place))
                words.append(self._kept[-1].address)
            else:
                words.append(self.result.address if field is None else field)
        self._kept.append(guarded_input(np.array(words, np.int64), place))
        self.argument = self._kept[-1].address

    def check(self, checker: Checker) -> None:
        """Run it and fail on a value of other bits, one outside, a spoilt register."""
        problems = self.entry.call(checker, self.argument) + self.result.damage()
        assert not problems, "\n".join(problems)
        np.testing.assert_array_equal(self.result.values[0].view(np.uint32), self.want.view(np.uint32))


def start(base: Array | None, zero_point: Array, v: Array, *, place: str = "end") -> Call:
    """``base + zero_point * v``, for a zero point of int8 or of uint8 that holds 128 more."""
    unsigned = zero_point.dtype == np.uint8
    number = np.int32(int(zero_point[0]) - 128 * unsigned)
    want = (0 if base is None else base) + number * v
    return Call(
        "column_start", want, [None, 0 if base is None else base, len(v), zero_point, 0x80 * unsigned, v], place
    )


def scale(x: Array, factor: np.float32, *, place: str = "end") -> Call:
    """``x * factor`` in float32."""
    return Call("column_scale", x * factor, [x, None, len(x), np.float32([factor])], place)
