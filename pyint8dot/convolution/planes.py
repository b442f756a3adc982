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
from pyint8dot.engine.program import LEFT, RESULT, Program

if TYPE_CHECKING:
    from pyint8dot.arguments import Quantized, Values
    from pyint8dot.convolution.geometry import Geometry
    from pyint8dot.engine.kernels import Kernel
    from pyint8dot.engine.layouts import Layout

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
        and channels % kernel.right.kr == 0
        and rows <= MOST_ROWS
        and len(place.size) <= 2  # noqa: PLR2004 - what the native loops go over: rows and pixels
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


def interleaved(image: Quantized, place: Geometry, fill: int, layout: Layout) -> Values:
    """Lay `image`, shape (channels, *spatial), out on the grids of `place`, each as many planes as there are K groups of channels.

    The result is int8, one-dimensional: uint8 is moved by subtracting 128, and `fill`, an int8 value, is what padding holds.
    """
    channels = len(image)
    # A last panel may look beyond the last pixel.
    size = len(place.phases) * (channels // layout.kr) * pitch(place, layout) + layout.r * layout.kr
    store: Values = np.empty(size, np.int8)
    image = image if image.flags.c_contiguous else np.ascontiguousarray(image)
    _copies(place, channels, image.dtype == np.uint8, fill, layout).run(image, store)
    return store


@functools.lru_cache(maxsize=256)
def _copies(place: Geometry, channels: int, flip: bool, fill: int, layout: Layout) -> Written:
    """The program that lays so many channels out."""
    width, group, plane = place.size[-1], layout.kr, pitch(place, layout)
    groups, native = channels // group, layout.native
    assert native is not None  # noqa: S101 - the layout of a native kernel
    assert native.interleaver is not None  # noqa: S101 - of one that reads planes
    program = Program()
    covered = all(
        part.start == 0 and part.stop == size
        for _, target in place.moves
        for part, size in zip(target[1:], place.grid, strict=True)
    )
    if not covered:
        program.copy_planes(
            x=np.full(1, fill, np.int8), y=RESULT, planes=1, rows=1, n=len(place.phases) * groups * plane, plane_x=0, plane_y=0,
            row_x=0, row_y=0, step=0, flip=0,
        )  # fmt: skip
    for number, (source, target) in enumerate(place.moves):
        # An image of one dimension is a single row.
        rows, columns = [slice(0, 1, 1), *source[1:]][-2:]
        first, start = [slice(0, 1), *target[1:]][-2:]
        program.interleave(
            native.interleaver, x=LEFT.plus(rows.start * width + columns.start),
            y=RESULT.plus(number * groups * plane + group * (first.start * place.grid[-1] + start.start)),
            groups=groups, rows=first.stop - first.start, n=start.stop - start.start, plane_x=math.prod(place.size),
            plane_y=plane, row_x=rows.step * width, row_y=group * place.grid[-1], step=columns.step, flip=0x80 if flip else 0,
        )  # fmt: skip
    return Written(program, 0)
