"""The windows of a convolution as the columns of a matrix product.

A convolution is the product of the weights, shape (channels out, K), and the columns of the image, shape (K, pixels). K runs over the
offsets of the window and, innermost, over the channels.

The padded image is first laid out on a grid: one grid for each remainder of the offsets by the stride, so that a step of the output is a
step of one on its grid. Row p of the columns for the offset o is then a contiguous run of the grid, shifted by o: the matrix of columns
need not exist, and nothing is gathered pixel by pixel. With stride 1, no padding and int8 values the grid is the image itself.

The price is that the run goes on over the ends of the image's rows: the columns there (kernel width less one in each row) are computed
and thrown away. Where that is more than the copies cost, an image of two dimensions has a grid for each column of the window instead, as
wide as the output, and no column is thrown away.
"""

from __future__ import annotations

import functools
import itertools
import math
from typing import TYPE_CHECKING

import numpy as np

from pyint8dot.convolution.geometry import slack
from pyint8dot.engine import library
from pyint8dot.engine.blocks import Written
from pyint8dot.engine.layouts import aligned, pack_into
from pyint8dot.engine.program import LEFT, RESULT, Program

if TYPE_CHECKING:
    from pyint8dot.arguments import Quantized, Values
    from pyint8dot.convolution.geometry import Geometry
    from pyint8dot.engine.layouts import Layout

TOP_BIT = np.uint8(0x80)


#: So many grids are laid out one by one; more of them at once, unless they hold less than one pixel in so many of the padded image.
FEW_PHASES, SPARSE = 16, 4

#: A window of so many taps has its runs written together, as many as are this many bytes.
MANY_TAPS, WRITTEN = 32, 1 << 16

#: Grids that native code copies to; a program has a record for each.
MOST_COPIES = 64


def grids(image: Quantized, geo: Geometry, fill: int, beyond: int = 0, *, native: bool = True) -> Values:
    """Lay `image`, shape (channels, *spatial), out for `geo`: shape (phases, channels, pixels of a grid), C-ordered.

    The result is int8: uint8 is moved by subtracting 128, which flips the top bit, and `fill`, an int8 value, is what padding holds.
    Only where a single tap reads the image as it is, that is the result, and may be uint8.
    Where more than the usual bytes behind the last grid are read, `beyond` says how many, and the result is always a copy.
    `native` says whether native code may be used, which gives the same.
    """
    flip = image.dtype == np.uint8
    channels, pixels = image.shape[0], math.prod(geo.grid)
    if not beyond and geo.plain and image.flags.c_contiguous and (not flip or len(geo.shifts) == 1):
        return image.reshape(1, channels, pixels)
    total = len(geo.phases) * channels * pixels
    store = np.empty(total + max(slack(), beyond), np.int8)
    laid = store[:total].reshape(len(geo.phases), channels, *geo.grid)
    copies = _copies(geo, channels, flip, fill, store.size) if native and image.flags.c_contiguous else None
    if copies is not None:
        copies.run(image, store)
        return laid.reshape(len(geo.phases), channels, pixels)
    store.fill(fill)
    if not geo.apart and len(geo.phases) > FEW_PHASES and math.prod(geo.strides) <= SPARSE * len(geo.phases):
        _all_at_once(image, geo, fill, laid)
        return laid.reshape(len(geo.phases), channels, pixels)
    for grid, (source, target) in zip(laid, geo.moves, strict=True):
        if flip:
            np.bitwise_xor(image[source], TOP_BIT, out=grid[target].view(np.uint8))
        else:
            grid[target] = image[source]
    return laid.reshape(len(geo.phases), channels, pixels)


@functools.lru_cache(maxsize=256)
def _copies(geo: Geometry, channels: int, flip: bool, fill: int, size: int) -> Written | None:
    """The program that fills so many bytes and copies the pixels of so many channels to all grids; None where numpy has to."""
    if library.status() is not None or len(geo.size) > 2 or len(geo.phases) > MOST_COPIES:
        return None
    width, pitch = geo.size[-1], geo.grid[-1]
    program = Program()
    program.copy_planes(
        x=np.full(1, fill, np.int8), y=RESULT, planes=1, rows=1, n=size, plane_x=0, plane_y=0, row_x=0, row_y=0, step=0, flip=0
    )  # fmt: skip
    for number, (source, target) in enumerate(geo.moves):
        # An image of one dimension is a single row.
        rows, columns = [slice(0, 1, 1), *source[1:]][-2:]
        first, start = [slice(0, 1), *target[1:]][-2:]
        program.copy_planes(
            x=LEFT.plus(rows.start * width + columns.start),
            y=RESULT.plus(number * channels * math.prod(geo.grid) + first.start * pitch + start.start),
            planes=channels, rows=first.stop - first.start, n=start.stop - start.start, plane_x=math.prod(geo.size),
            plane_y=math.prod(geo.grid), row_x=rows.step * width, row_y=pitch, step=columns.step, flip=0x80 if flip else 0,
        )  # fmt: skip
    return Written(program, 0)


def _all_at_once(image: Quantized, geo: Geometry, fill: int, laid: Values) -> None:
    """Lay `image` out on all grids of `laid` by one copy: interleaved they are the padded image, which is made for this."""
    # One dimension becomes two: the pixels of a grid, and which grid.
    split = [n for size, step in zip(geo.grid, geo.strides, strict=True) for n in (size, step)]
    padded = np.full((len(image), *map(math.prod, zip(split[::2], split[1::2], strict=True))), fill, np.int8)
    source, target = [slice(None)], [slice(None)]
    for before, size, room in zip(geo.begin, image.shape[1:], padded.shape[1:], strict=True):
        count = max(0, min(size, room - before))
        source.append(slice(count))
        target.append(slice(before, before + count))
    if image.dtype == np.uint8:
        np.bitwise_xor(image[tuple(source)], TOP_BIT, out=padded[tuple(target)].view(np.uint8))
    else:
        padded[tuple(target)] = image[tuple(source)]
    rank = len(geo.grid)
    apart = padded.reshape(len(image), *split).transpose(*range(2, 2 * rank + 1, 2), 0, *range(1, 2 * rank, 2))
    laid[...] = apart[np.ix_(*geo.remainders)].reshape(laid.shape)


def columns(laid: Values, geo: Geometry, rows: slice, layout: Layout) -> Values:
    """The columns of some output rows of the grids `laid`, packed in `layout`: a (K, geo.columns(rows)) operand."""
    count = geo.columns(rows.stop - rows.start)
    first = rows.start * geo.pitch
    channels = laid.shape[1]
    if len(geo.shifts) == 1:
        view = laid[0, :, first : first + count]
        packed = aligned(layout.size(channels, count))
        pack_into(layout, view, packed)
        return packed
    writer = layout.writer(channels * len(geo.shifts), count)
    if len(geo.shifts) < MANY_TAPS:
        for grid, shift in geo.shifts:
            writer.write(laid[grid, :, first + shift : first + shift + count])
        return writer.finish()
    # The runs of a large window are written many at a time, out of a view that has the run from every place on.
    runs = np.lib.stride_tricks.sliding_window_view(laid, count, axis=2)
    places = np.array(geo.shifts)
    step = max(1, WRITTEN // max(1, channels * count))
    for start in range(0, len(places), step):
        grid, shift = places[start : start + step].T
        writer.write(runs[grid, :, first + shift].reshape(-1, count))
    return writer.finish()


def column_sums(laid: Values, geo: Geometry) -> Values:
    """Sums over K of all columns as int8 values: the channels first, then the window over what remains. int32."""
    planes = laid.sum(axis=1, dtype=np.int32)
    if laid.dtype == np.uint8:
        planes -= 128 * laid.shape[1]
    count = geo.columns(geo.out[0])
    total = np.zeros(count, np.int32)
    for grid, shift in geo.shifts:
        total += planes[grid, shift : shift + count]
    return total


def row_blocks(geo: Geometry, depth: int, budget: int, least: int) -> list[slice]:
    """Cut the output rows into blocks of about the same size, each within `budget` bytes at `depth` bytes a column.

    There are at least `least` blocks where there are as many rows.
    """
    rows = max(1, budget // max(1, depth * geo.pitch))
    count = min(max(-(-geo.out[0] // rows), least), geo.out[0])
    edges = [geo.out[0] * i // count for i in range(count + 1)]
    return [slice(start, stop) for start, stop in itertools.pairwise(edges)]
