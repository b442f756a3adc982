"""Runs a gathering packer with guard pages around every row of the source, the table and the packed bytes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from support import layouts, rows
from support.checked import Checker
from support.entry import Entry
from support.guard import Guarded, guarded_input


class Call:
    """Packing the rows of ``x``, shape (k, columns); a few rows touch guard pages, the others lie in one buffer, last first."""

    def __init__(self, stem: str, x: npt.NDArray[np.int8], *, place: str = "end") -> None:
        k, columns = x.shape
        self.want = layouts.packed(layouts.transposed(x), rows.GATHERERS[stem])
        self.packed = Guarded(self.want.size, place)
        alone = {0, k // 2, k - 1} & set(range(k))
        self._kept = [guarded_input(x[row], place) for row in sorted(alone)]
        rest = [row for row in reversed(range(k)) if row not in alone]
        self._kept.append(guarded_input(np.ascontiguousarray(x[rest]).reshape(-1), place))
        at = dict(zip(sorted(alone), (buffer.address for buffer in self._kept), strict=False))
        at |= {row: self._kept[-1].address + i * columns for i, row in enumerate(rest)}
        base = at.get(0, 0)
        self._kept.append(guarded_input(np.array([at[row] - base for row in range(k)], np.int64), place))
        fields = [base, self.packed.address, k, columns, self._kept[-1].address]
        self._kept.append(guarded_input(np.array(fields, np.int64), place))
        self.argument = self._kept[-1].address


def check(checker: Checker, stem: str, x: npt.NDArray[np.int8], *, place: str = "end") -> None:
    """Pack ``x`` and fail on a wrong byte, a byte outside, a spoilt register."""
    call = Call(stem, x, place=place)
    problems = Entry(stem).call(checker, call.argument)
    problems += [f"overwrite {where} the packed bytes at {byte}" for where, byte in call.packed.damage()]
    wrong = np.flatnonzero(call.packed.data.view(np.int8) != call.want)
    if wrong.size:
        problems.append(f"{wrong.size} wrong bytes of {call.want.size}, the first at {wrong[0]}")
    assert not problems, "\n".join([f"{stem} of {x.shape}, {place}", *problems])
