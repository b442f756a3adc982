"""The depthwise convolution of float32: the definition in numpy, and the native form for planes and lines, which gives the same bits."""

from __future__ import annotations

import functools
import itertools
from typing import TYPE_CHECKING, Any

import numpy as np

from pyint8dot.engine import library
from pyint8dot.engine.blocks import Written
from pyint8dot.engine.moves import contiguous
from pyint8dot.engine.pool import Axis
from pyint8dot.engine.program import FIRST as WEIGHTS
from pyint8dot.engine.program import LEFT, RESULT, SCRATCH, Program
from pyint8dot.engine.program import SECOND as BIAS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

#: Sizes whose programs are kept, and the most records of one.
MOST_PROGRAMS, MOST_RECORDS = 64, 1 << 13


def depthwise(
    x: NDArray[np.float32],
    w: NDArray[np.float32],
    bias: NDArray[np.float32] | None,
    axes: Sequence[Axis],
    *,
    native: bool = True,
) -> NDArray[np.float32]:
    """Convolve each channel with windows of its own.

    A result begins with its bias, or with 0, and each tap is added in turn, rounded as the product is before; the padding is zeros,
    which are multiplied as all else.

    Parameters
    ----------
    x : ndarray of float32, shape (batch, channels, *spatial)
    w : ndarray of float32, shape (channels * multiplier, 1, *kernel)
    bias : ndarray of float32, shape (channels * multiplier,), optional
    axes : sequence of Axis
        The windows along each spatial dimension; what they see beyond the image is padding.
    native : bool
        Whether native code may be used, which gives the same bits.

    Returns
    -------
    ndarray of float32, shape (batch, channels * multiplier, *outs)

    Raises
    ------
    ValueError
        If `bias` is not one number for each channel of the result.

    Examples
    --------
    >>> axis = Axis(size=3, out=3, taps=2, stride=1, dilation=1, before=1)
    >>> depthwise(np.float32([[[1, 2, 3]]]), np.float32([[[10, 1]]]), np.float32([0.5]), (axis,))
    array([[[ 1.5, 12.5, 23.5]]], dtype=float32)
    """
    if bias is not None and bias.shape != w.shape[:1]:
        raise ValueError(f"bias {bias.shape} does not fit weights {w.shape}")
    y: NDArray[np.float32] = np.empty((len(x), len(w), *(axis.out for axis in axes)), np.float32)
    if y.size == 0:
        return y
    group, outer = x.shape[1], len(w) // x.shape[1]
    written = _written(group, outer, tuple(axes), bias is not None) if native and len(axes) in (1, 2) else None
    if written is not None:
        constants = contiguous(w), None if bias is None else contiguous(bias)
        for image, result in zip(contiguous(x), y, strict=True):
            written.run(image, result, *constants)
        return y
    image = np.zeros((*x.shape[:2], 1, *map(_padded, axes)), np.float32)
    inside: tuple[Any, ...] = (..., *(slice(axis.before, axis.before + axis.size) for axis in axes))
    image[inside] = x[:, :, None]
    ones = [1] * len(axes)
    total, weights = y.reshape(len(x), group, outer, *y.shape[2:]), w.reshape(group, outer, -1, *ones)
    total[...] = 0 if bias is None else bias.reshape(group, outer, *ones)
    product = np.empty_like(total)
    with np.errstate(all="ignore"):  # what overflows is infinity, as in ONNX
        for number, tap in enumerate(np.ndindex(*w.shape[2:])):
            seen: tuple[Any, ...] = (..., *map(_taken, axes, tap))
            total += np.multiply(image[seen], weights[:, :, number], out=product)
    return y


def _taken(axis: Axis, tap: int) -> slice:
    """The pixels, with those of the padding, that a tap takes."""
    start = tap * axis.dilation
    return slice(start, start + (axis.out - 1) * axis.stride + 1, axis.stride)


def _padded(axis: Axis) -> int:
    """Pixels that windows see, with those of the padding, and all of the image."""
    return max(axis.before + axis.size, (axis.out - 1) * axis.stride + (axis.taps - 1) * axis.dilation + 1)


@functools.lru_cache(MOST_PROGRAMS)
def _written(group: int, outer: int, axes: tuple[Axis, ...], with_bias: bool) -> Written | None:
    """The program for one image; None where there is no library or too many channels.

    Each channel is brought into the same padded plane, whose zeros are written once.
    """
    if library.status() is not None or group * (1 + outer) > MOST_RECORDS:
        return None
    down, along = axes if len(axes) == 2 else (Axis(1, 1, 1, 1, 1, 0), *axes)
    pitch = 4 * _padded(along)
    # Of the last row as many pixels are there as a step has.
    room = _padded(down) * pitch + 4 * along.stride
    taps = down.taps * along.taps
    places = itertools.product(range(down.taps), range(along.taps))
    offsets = np.array([i * down.dilation * pitch + 4 * j * along.dilation for i, j in places], np.int64)
    none = np.zeros(1, np.float32)
    program = Program()
    program.copy_planes(
        x=none, y=SCRATCH, planes=1, rows=1, n=room, plane_x=0, plane_y=0, row_x=0, row_y=0, step=0, flip=0
    )
    for channel in range(group):
        program.copy_planes(
            x=LEFT.plus(4 * channel * down.size * along.size), y=SCRATCH.plus(down.before * pitch + 4 * along.before),
            planes=1, rows=down.size, n=4 * along.size, plane_x=0, plane_y=0, row_x=4 * along.size, row_y=pitch, step=1, flip=0,
        )  # fmt: skip
        for number in range(channel * outer, channel * outer + outer):
            program.depthwise_f32(
                x=SCRATCH, y=RESULT.plus(4 * number * down.out * along.out), ld_x=down.stride * pitch, ld_y=4 * along.out,
                m=down.out, n=along.out, step=along.stride, taps=taps, offsets=offsets, weights=WEIGHTS.plus(4 * taps * number),
                start=BIAS.plus(4 * number) if with_bias else none,
            )  # fmt: skip
    return Written(program, room)
