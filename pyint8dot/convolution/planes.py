"""Images whose channels are interleaved by K groups, for kernels that read the windows of a convolution where they lie.

A kernel multiplies panels: eight columns of one K group, a few bytes each. In an image of that many channels to a pixel, a *plane*, such
a panel is eight neighbouring pixels as they lie, and those that the next tap of the window looks at are the same ones further along. So
a product can read its columns from the planes, where packing them would write each pixel once for every tap (see ``asm/planes.h``).
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING

import numpy as np

from pyint8dot.engine import library
from pyint8dot.engine.blocks import LINE, Written
from pyint8dot.engine.immutable import frozen
from pyint8dot.engine.program import LEFT, RESULT, Program
from pyint8dot.engine.program import SECOND as FILL

if TYPE_CHECKING:
    from pyint8dot.arguments import Quantized, Values
    from pyint8dot.convolution.geometry import Geometry
    from pyint8dot.engine.kernels import Kernel
    from pyint8dot.engine.layouts import Layout
    from pyint8dot.engine.program import Word

#: Rows of a product from which packed columns cost less than what reading planes adds to it, in instructions: a load more for every two K
#: groups, and a jump for every tap.
MOST_ROWS = 96

#: The K groups of a run that kernels have a loop of its own for (RUN in their files).
LIKED = 8

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


def pitch(place: Geometry, layout: Layout) -> int:
    """Bytes from a plane to the next: an odd number of cache lines, so that pixels of all planes do not share a set of the cache."""
    lines = -(-math.prod(place.grid) * layout.kr // LINE)
    return (lines | 1) * LINE


def runs(place: Geometry, layout: Layout, planes: int, channels: int) -> tuple[Values, int]:
    """Where the runs of K groups begin that a window of so many channels has, in bytes from its first plane, and the depth of one.

    A grid has so many planes. A run is a tap, or an even share of one that is as long as the kernels like it.
    """
    length = LIKED if channels % (LIKED * layout.kr) == 0 else channels // layout.kr
    each = pitch(place, layout)
    first = np.array([grid * planes * each + shift * layout.kr for grid, shift in place.shifts], np.int64)
    within = np.arange(0, channels // layout.kr, length) * each
    return np.ascontiguousarray((first[:, None] + within).reshape(-1)), length * layout.kr


def size(place: Geometry, layout: Layout, channels: int) -> int:
    """Bytes of all grids of so many channels; a last panel may look beyond the last pixel."""
    return len(place.phases) * (channels // layout.kr) * pitch(place, layout) + layout.r * layout.kr


@functools.lru_cache(maxsize=256)
def fill(value: int) -> Values:
    """What padding holds, an int8 value, where programs find it."""
    return frozen(np.full(1, value, np.int8))


def write(program: Program, place: Geometry, layout: Layout, channels: int, *, flip: bool, target: Word) -> None:
    """Write the records that lay an image of so many channels out on the grids at `target`, each a plane for every K group of channels.

    The image is the left operand of the program, C-ordered; what padding holds is the second word (see `fill`). The result is int8:
    uint8 is moved by subtracting 128, where `flip` says so.
    """
    width, group, plane = place.size[-1], layout.kr, pitch(place, layout)
    groups, native = channels // group, layout.native
    assert native is not None  # noqa: S101 - the layout of a native kernel
    assert native.interleaver is not None  # noqa: S101 - of one that reads planes
    covered = all(
        part.start == 0 and part.stop == size
        for _, onto in place.moves
        for part, size in zip(onto[1:], place.grid, strict=True)
    )
    if not covered:
        program.copy_planes(
            x=FILL, y=target, planes=1, rows=1, n=len(place.phases) * groups * plane, plane_x=0, plane_y=0, row_x=0, row_y=0,
            step=0, flip=0,
        )  # fmt: skip
    for number, (source, onto) in enumerate(place.moves):
        # An image of one dimension is a single row.
        rows, columns = [slice(0, 1, 1), *source[1:]][-2:]
        first, start = [slice(0, 1), *onto[1:]][-2:]
        program.interleave(
            native.interleaver, x=LEFT.plus(rows.start * width + columns.start),
            y=target.plus(number * groups * plane + group * (first.start * place.grid[-1] + start.start)),
            groups=groups, rows=first.stop - first.start, n=start.stop - start.start, plane_x=math.prod(place.size),
            plane_y=plane, row_x=rows.step * width, row_y=group * place.grid[-1], step=columns.step, flip=0x80 if flip else 0,
        )  # fmt: skip


def interleaved(image: Quantized, place: Geometry, x_zero: int, layout: Layout) -> Values:
    """Lay `image`, shape (channels, *spatial), C-ordered, out for products that several threads make of it."""
    channels = len(image)
    laid: Values = np.empty(size(place, layout, channels), np.int8)
    _copies(place, channels, image.dtype == np.uint8, layout).run(image, laid, None, fill(x_zero))
    return laid


@functools.lru_cache(maxsize=256)
def _copies(place: Geometry, channels: int, flip: bool, layout: Layout) -> Written:
    """The program for that."""
    program = Program()
    write(program, place, layout, channels, flip=flip, target=RESULT)
    return Written(program, 0)
