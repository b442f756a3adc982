"""Local response normalisation: the definition in numpy, and the native form of the usual case, which gives the same bits."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from pyint8dot.engine import library
from pyint8dot.engine.blocks import Written
from pyint8dot.engine.moves import contiguous
from pyint8dot.engine.program import FIRST, LEFT, RESULT, SCRATCH, SECOND, Program

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: The power that is taken by two square roots, which are far cheaper than a power.
ROOTS = 0.75

#: Pixels that native code takes at a time.
PIXELS = 16

#: Sizes whose programs are kept.
MOST_PROGRAMS = 64


def local_response_normalisation(
    x: NDArray[Any], size: int, alpha: float, beta: float, bias: float, *, native: bool = True
) -> NDArray[Any]:
    """Divide by a power of the mean square of neighbouring channels: ``x / (bias + alpha / size * sum of squares) ** beta``.

    The squares are added in the order of the channels, and every step is one operation of the type of `x`.

    Parameters
    ----------
    x : ndarray of float, shape (batch, channels, *spatial)
    size : int
        Channels that are added, from ``(size - 1) // 2`` before to ``size // 2`` behind; positive.
    alpha, beta, bias : float
        With `beta` 0.75 the power of ``t`` is ``sqrt(t) * sqrt(sqrt(t))``.
    native : bool
        Whether native code may be used, which gives the same bits.

    Returns
    -------
    ndarray
        Shape and type of `x`.

    Examples
    --------
    >>> local_response_normalisation(np.float32([[3, 4]]), 3, 3.0, 0.5, 0.0)
    array([[0.6, 0.8]], dtype=float32)
    """
    kind, channels = x.dtype.type, x.shape[1]
    # Channels beyond the first and the last add nothing.
    before, after = (min(reach, max(channels - 1, 0)) for reach in ((size - 1) // 2, size // 2))
    factor, start = _constants(x.dtype, alpha / size, bias)
    if native and beta == ROOTS and x.dtype == np.float32 and x.size:
        written = _written(x.shape[0], channels, math.prod(x.shape[2:]), before, after)
        if written is not None:
            y = np.empty(x.shape, np.float32)
            written.run(contiguous(x), y, factor, start)
            return y
    square = np.zeros((x.shape[0], channels + before + after, *x.shape[2:]), x.dtype)
    with np.errstate(all="ignore"):  # squares may overflow, and a sum may be 0
        np.square(x, out=square[:, before : before + channels])
        total: NDArray[Any] = square[:, :channels].copy()
        for i in range(1, before + after + 1):
            total += square[:, i : i + channels]
        total *= factor
        total += start
        if beta == ROOTS:
            root = np.sqrt(total)
            np.sqrt(root, out=total)
            total *= root
        else:
            np.power(total, kind(beta), out=total)
        np.divide(x, total, out=total)
    return total


@functools.lru_cache(MOST_PROGRAMS)
def _constants(dtype: np.dtype[Any], *values: float) -> list[NDArray[Any]]:
    """Numbers as arrays, which programs read where they lie."""
    return [np.asarray(value, dtype) for value in values]


@functools.lru_cache(MOST_PROGRAMS)
def _written(batch: int, channels: int, pixels: int, before: int, after: int) -> Written | None:
    """The program for images of one size; None where there is no library or too few pixels."""
    if library.status() is not None or pixels < PIXELS:
        return None
    program = Program()
    program.lrn(
        x=LEFT,
        y=RESULT,
        channels=channels,
        n=pixels,
        before=before,
        after=after,
        alpha=FIRST,
        bias=SECOND,
        squares=SCRATCH,
    )
    program.repeat(batch, x=4 * channels * pixels, y=4 * channels * pixels)
    return Written(program, 4 * PIXELS * channels)
