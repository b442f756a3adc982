"""Runs keep_above with guard pages and canaries around everything, and says what it has to give."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from support.checked import Checker
from support.entry import Entry
from support.guard import Rectangle, guarded_input, guarded_rows

from pyint8dot.engine import scan

Array = npt.NDArray[Any]


class Call:
    """One call on sums of shape (m, n), with what each row has kept before it."""

    def __init__(
        self,
        acc: Array,
        columns: Array,
        rows: Array,
        least: Array,
        counts: Array,
        room: int,
        *,
        position: int = 0,
        place: str = "end",
        padding: int = 0,
    ) -> None:
        m, n = acc.shape
        want = scan.Kept(rows, room, position)
        want.counts[:], want.least[:] = counts, least
        self.rooms = [
            Rectangle(1, m, place=place, dtype=np.int64),
            Rectangle(m, room, place=place, dtype=np.float32),
            Rectangle(m, room, place=place, dtype=np.int64),
            Rectangle(1, 1, place=place, dtype=np.int64),
            Rectangle(1, 1, place=place, dtype=np.int64),
        ]
        self.rooms[0].values[...] = counts
        self.rooms[3].values[...] = position
        self.rooms[4].values[...] = 0
        # What is there already stays: nothing but the places behind it is written.
        want.scores[...], want.columns[...] = self.rooms[1].values, self.rooms[2].values
        self.fits = scan.keep_above(acc, columns, want)
        self.want = [want.counts[None], want.scores, want.columns, want.state[:1, None], np.int64([[not self.fits]])]
        memory, stride = guarded_rows(acc, padding, place)
        inputs = [memory, *(guarded_input(each, place) for each in (columns, rows, least))]
        fields = [inputs[0].address, stride, m, n, *(each.address for each in inputs[1:])]
        fields += [*(each.address for each in self.rooms[:3]), room, *(each.address for each in self.rooms[3:])]
        self._kept = [*inputs, guarded_input(np.array(fields, np.int64), place)]
        self.argument = self._kept[-1].address

    def check(self, checker: Checker) -> None:
        """Run it and fail on a value of other bits, one outside, a spoilt register."""
        problems = Entry("keep_above").call(checker, self.argument)
        for each in self.rooms:
            problems += each.damage()
        assert not problems, "\n".join(problems)
        for each, want in zip(self.rooms, self.want, strict=True):
            kind = f"i{want.itemsize}"
            np.testing.assert_array_equal(np.ascontiguousarray(each.values).view(kind), want.view(kind))
