"""Native maxima and averages of windows over planes of pixels, called through programs that are written once per size."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pyint8dot.engine import library
from pyint8dot.engine.blocks import Written
from pyint8dot.engine.moves import contiguous
from pyint8dot.engine.program import LEFT, MAX_POOLS, RESULT, SCRATCH, Program

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["Axis", "average_pool", "max_pool"]

#: Sizes whose programs are kept.
MOST_PROGRAMS = 64

#: Working memory beyond a padded row; see the contract of the entries.
BEYOND = 96
BEYOND_SUMS = 32

#: Sums of so many differences of codes fit 16 bits.
MOST_PLACES = 128

CODES = (np.dtype(np.int8), np.dtype(np.uint8))


class Axis(NamedTuple):
    """The windows along one spatial axis."""

    size: int
    out: int
    taps: int
    stride: int
    dilation: int
    #: Padding before the first pixel.
    before: int


def max_pool(x: NDArray[Any], axes: Sequence[Axis]) -> NDArray[Any] | None:
    """Take the maxima of all windows of `x`, shape (batch, channels, *spatial), one axis for each spatial dimension.

    Returns None where it is not native: there is no library, the type or the number of axes is another, or a window holds
    no pixel. NaN is greater than all numbers; which zero is the greater is left open.
    """
    if len(axes) not in (1, 2) or x.dtype not in MAX_POOLS:
        return None
    y: NDArray[Any] = np.empty((*x.shape[:2], *(axis.out for axis in axes)), x.dtype)
    if y.size == 0:
        return y
    rows = axes[0] if len(axes) == 2 else Axis(1, 1, 1, 1, 1, 0)
    written = _written(x.dtype, math.prod(x.shape[:2]), rows, axes[-1])
    if written is None:
        return None
    written.run(contiguous(x), y)
    return y


@functools.lru_cache(MOST_PROGRAMS)
def _written(dtype: np.dtype[Any], planes: int, rows: Axis, columns: Axis) -> Written | None:
    if library.status() is not None or not (_all_hold_pixels(rows) and _all_hold_pixels(columns)):
        return None
    geometry, length = _geometry(dtype.itemsize, rows, columns)
    program = Program()
    program.max_pool(MAX_POOLS[dtype], x=LEFT, y=RESULT, planes=planes, geometry=geometry, line=SCRATCH)
    return Written(program, length + BEYOND)


def average_pool(
    x: NDArray[Any], axes: Sequence[Axis], factors: NDArray[np.float32], zeros: tuple[int, int], dtype: np.dtype[Any]
) -> NDArray[Any] | None:
    """Sum all windows of codes `x`, shape as for `max_pool`, less their zero point, and bring the sums to codes of `dtype`.

    `factors`, finite, has the shape of the windows' places; `zeros` are the zero points of `x` and of the result. Returns None where it is
    not native: as for `max_pool`, or there are windows of more than `MOST_PLACES` places.
    """
    if len(axes) not in (1, 2) or x.dtype not in CODES or math.prod(axis.taps for axis in axes) > MOST_PLACES:
        return None
    y: NDArray[Any] = np.empty((*x.shape[:2], *factors.shape), dtype)
    if y.size == 0:
        return y
    rows = axes[0] if len(axes) == 2 else Axis(1, 1, 1, 1, 1, 0)
    key = x.dtype, dtype, math.prod(x.shape[:2]), rows, axes[-1], zeros
    written = _averages(*key, factors.tobytes())
    if written is None:
        return None
    written.run(contiguous(x), y)
    return y


@functools.lru_cache(MOST_PROGRAMS)
def _averages(
    kind: np.dtype[Any], dtype: np.dtype[Any], planes: int, rows: Axis, columns: Axis, zeros: tuple[int, int], factors: bytes
) -> Written | None:  # fmt: skip
    if library.status() is not None or not (_all_hold_pixels(rows) and _all_hold_pixels(columns)):
        return None
    flips = [0x80 if each.kind == "u" else 0 for each in (kind, dtype)]
    x_zero, y_zero = (zero - flip for zero, flip in zip(zeros, flips, strict=True))
    table = np.zeros((rows.out, -(-columns.out // 8) * 8), np.float32)
    table[:, : columns.out] = np.frombuffer(factors, np.float32).reshape(rows.out, columns.out)
    # Most rows have the factors of their neighbours.
    table, which = np.unique(table, axis=0, return_inverse=True)
    geometry, length = _sums(rows, columns, x_zero, (table.strides[0] * which.reshape(-1)).tolist())
    program = Program()
    program.average_pool(
        x=LEFT, y=RESULT, planes=planes, geometry=geometry, factors=table, zero_point=y_zero, flip_x=flips[0], flip_y=flips[1],
        line=SCRATCH,
    )  # fmt: skip
    return Written(program, length + BEYOND_SUMS)


def _sums(rows: Axis, columns: Axis, zero: int, places: Sequence[int]) -> tuple[NDArray[np.int64], int]:
    """The words that `average_pool` reads, the factors of each row in their places, and the bytes of its line."""
    reach = (columns.out - 1) * columns.stride + (columns.taps - 1) * columns.dilation + 1
    length = 2 * max(reach, columns.before + columns.size)
    words = [columns.size, rows.out, columns.out, columns.taps, 2 * columns.dilation, columns.stride]
    words += [rows.dilation * columns.size, 2 * columns.before, length, rows.size * columns.size]
    for i in range(rows.out):
        seen = _seen(rows, i)
        words += [seen.start * columns.size, len(seen), -len(seen) * zero, places[i]]
    return np.array(words, np.int64), length


def _geometry(itemsize: int, rows: Axis, columns: Axis) -> tuple[NDArray[np.int64], int]:
    """The words that the entries read, and the bytes of a padded row."""
    width = columns.size * itemsize
    reach = (columns.out - 1) * columns.stride + (columns.taps - 1) * columns.dilation + 1
    length = max(reach * itemsize, columns.before * itemsize + width)
    tap, row = columns.dilation * itemsize, rows.dilation * width
    words = [width, rows.out, columns.out * itemsize, *_steps(columns.taps, tap), tap, columns.stride, row]
    words += [columns.before * itemsize, length, rows.size * width]
    for i in range(rows.out):
        seen = _seen(rows, i)
        words += [seen.start * width, *_steps(len(seen), row)]
    return np.array(words, np.int64), length


def _steps(count: int, step: int) -> tuple[int, int, int]:
    """From the first of so many to the second and to the third, or the last where there are fewer, and how many more there are."""
    return min(1, count - 1) * step, min(2, count - 1) * step, max(0, count - 3)


def _seen(axis: Axis, i: int) -> range:
    """The pixels in window `i`, without padding."""
    start = i * axis.stride - axis.before
    # Steps into the padding before the first pixel, and as many as end before the last.
    skipped = max(0, -(start // axis.dilation))
    return range(start + skipped * axis.dilation, min(axis.size, start + axis.taps * axis.dilation), axis.dilation)


def _all_hold_pixels(axis: Axis) -> bool:
    return all(len(_seen(axis, i)) for i in range(axis.out))
