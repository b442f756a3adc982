"""Images whose channels are interleaved by K groups, for kernels that read the windows of a convolution where they lie.

A kernel multiplies panels: eight columns of one K group, a few bytes each. In an image of that many channels to a pixel, a *plane*, such
a panel is eight neighbouring pixels as they lie, and those that the next tap of the window looks at are the same ones further along. So
a product can read its columns from the planes, where packing them would write each pixel once for every tap (see ``asm/planes.h``).
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pyint8dot.engine import library
from pyint8dot.engine.blocks import LINE
from pyint8dot.engine.immutable import frozen
from pyint8dot.engine.program import SECOND as FILL

if TYPE_CHECKING:
    from pyint8dot.arguments import Values
    from pyint8dot.convolution.geometry import Geometry
    from pyint8dot.engine.kernels import Kernel
    from pyint8dot.engine.layouts import Layout
    from pyint8dot.engine.program import Program, Word

#: Rows of a product from which packed columns cost less than what reading planes adds to it, in instructions: a load more for every two K
#: groups, and a jump for every tap.
MOST_ROWS = 96

#: The channels of a run that kernels have a loop of its own for (RUN in their files).
LIKED = 32

#: Grids that native code interleaves to; a program has a record for each.
MOST_GRIDS = 64


def serve(kernel: Kernel, place: Geometry, channels: int, rows: int) -> bool:
    """Whether windows are read from planes by products with so many rows, of so many channels."""
    return (
        bool(kernel.planes)
        and len(place.shifts) > 1
        and channels > 0
        and channels % kernel.right.kr == 0
        and rows <= MOST_ROWS
        and len(place.size) <= 2
        and len(place.phases) <= MOST_GRIDS
        and library.status() is None
    )


class Strip(NamedTuple):
    """Grids for some output rows of an image, as planes: one for each K group of channels, for each grid.

    All strips of an image have planes of one size, that of the tallest.
    """

    place: Geometry
    layout: Layout
    #: Channels, and output rows of the tallest strip.
    channels: int
    height: int

    @property
    def groups(self) -> int:
        """Planes of a grid."""
        return self.channels // self.layout.kr

    @property
    def plane(self) -> int:
        """Bytes from a plane to the next: an odd number of cache lines, so that planes do not share a set of the cache."""
        rows = self.height + self.place.grid[0] - self.place.out[0]
        lines = -(-rows * self.place.pitch * self.layout.kr // LINE)
        return (lines | 1) * LINE

    @property
    def size(self) -> int:
        """Bytes of all grids; a last panel may look beyond the last pixel."""
        return len(self.place.phases) * self.groups * self.plane + self.layout.r * self.layout.kr

    def runs(self) -> tuple[Values, int]:
        """Where the runs of K groups begin that a window has, in bytes from its first plane, and the depth of one.

        A run is a tap, or an even share of one that is as long as the kernels like it.
        """
        length = LIKED // self.layout.kr if self.channels % LIKED == 0 else self.groups
        grid = self.groups * self.plane
        first = np.array([number * grid + shift * self.layout.kr for number, shift in self.place.shifts], np.int64)
        within = np.arange(0, self.groups, length) * self.plane
        return np.ascontiguousarray((first[:, None] + within).reshape(-1)), length * self.layout.kr

    def write(self, program: Program, rows: slice, *, source: Word, target: Word, flip: bool) -> None:
        """Write the records that lay out at `target` what some output rows look at of the image at `source`, C-ordered.

        What padding holds is the second word of the program (see `fill`). The result is int8: uint8 is moved by subtracting 128, where
        `flip` says so.
        """
        place, group, native = self.place, self.layout.kr, self.layout.native
        width, pitch = place.size[-1], place.grid[-1]
        assert native is not None  # noqa: S101 - the layout of a native kernel
        assert native.interleaver is not None  # noqa: S101 - of one that reads planes
        below = rows.stop + place.grid[0] - place.out[0]
        moves = [_part(source_at, onto, rows.start, below) for source_at, onto in place.moves]
        size = below - rows.start
        if any(
            part.columns < pitch or part.rows < size if len(place.size) > 1 else part.columns < size for part in moves
        ):
            size = self.size - self.layout.r * group
            program.copy_planes(
                x=FILL, y=target, planes=1, rows=1, n=size, plane_x=0, plane_y=0, row_x=0, row_y=0, step=0, flip=0
            )
        for number, part in enumerate(moves):
            program.interleave(
                native.interleaver, x=source.plus(part.row * width + part.column),
                y=target.plus(number * self.groups * self.plane + group * (part.onto_row * pitch + part.onto_column)),
                groups=self.groups, rows=part.rows, n=part.columns, plane_x=math.prod(place.size), plane_y=self.plane,
                row_x=part.row_step * width, row_y=group * pitch, step=part.step, flip=0x80 if flip else 0,
            )  # fmt: skip


class _Part(NamedTuple):
    """Which pixels of an image lie on a strip's grid, and where: the first, how many, and from one to the next."""

    row: int
    rows: int
    row_step: int
    onto_row: int
    column: int
    columns: int
    step: int
    onto_column: int


def _part(source: tuple[slice, ...], onto: tuple[slice, ...], top: int, below: int) -> _Part:
    """What a grid has of an image between two of its rows, of all that it has (see `Geometry.moves`)."""
    down, at = source[1], onto[1]
    first, last = max(at.start, top), min(at.stop, below)
    start, count = down.start + (first - at.start) * down.step, max(last - first, 0)
    if len(onto) == 2:
        # An image of one dimension is a single row, and a strip some of its pixels.
        return _Part(0, 1, 1, 0, start, count, down.step, first - top)
    along, to = source[2], onto[2]
    return _Part(start, count, down.step, first - top, along.start, to.stop - to.start, along.step, to.start)


@functools.lru_cache(maxsize=256)
def fill(value: int) -> Values:
    """What padding holds, an int8 value, where programs find it."""
    return frozen(np.full(1, value, np.int8))
