"""Runs the native copies of images with guard pages and canaries around everything, and says what they have to give."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from support import rows
from support.checked import Checker
from support.entry import Entry
from support.epilogue import same_bits
from support.guard import Rectangle, guarded_input


class Copy:
    """One call on random bytes: channels of `lines` of `n` pixels, every `step` th of a line, to groups of `group` channels a pixel.

    A line begins `apart` bytes behind the end of the one before it, a channel as many behind its last line. A step of 0 is the same byte
    for all of a line.
    """

    def __init__(
        self,
        stem: str,
        rng: np.random.Generator,
        sizes: tuple[int, int, int],
        step: int,
        flip: int,
        *,
        group: int = 1,
        apart: int = 3,
        place: str = "end",
    ) -> None:
        self.stem = stem
        groups, lines, n = sizes
        row_x, row_y = (n - 1) * step + 1 + apart, n * group + apart
        plane_x, plane_y = row_x * lines + apart, row_y * lines
        whole = groups and lines and n
        read = (groups * group - 1) * plane_x + (lines - 1) * row_x + (n - 1) * step + 1 if whole else 0
        x = rng.integers(-128, 128, read, dtype=np.int8)
        p, i, j, q = np.ogrid[:groups, :lines, :n, :group]
        at: npt.NDArray[np.int64] = (p * group + q) * plane_x + i * row_x + j * step
        self.want = x[at.reshape(groups * lines, n * group)] ^ np.uint8(flip).view(np.int8)
        self.y = Rectangle(groups * lines, n * group, row_y, place, np.int8)
        source = guarded_input(x, place)
        fields = [source.address, self.y.address, groups, lines, n, plane_x, plane_y, row_x, row_y, step, flip]
        self._kept = [source, guarded_input(np.array(fields, np.int64), place)]
        self.argument = self._kept[-1].address

    def check(self, checker: Checker) -> None:
        """Run it and fail on another byte, one outside, a spoilt register."""
        problems = Entry(self.stem).call(checker, self.argument) + self.y.damage()
        problems += same_bits(self.y.values, self.want)
        assert not problems, "\n".join(problems)


#: The entries by the channels that they put side by side.
GROUPS: dict[str, int] = {"copy_planes": 1, **{stem: layout.kr for stem, layout in rows.INTERLEAVERS.items()}}
