"""Rows that are quantised, or brought back to floats, each by a scale and a zero point of its own; see `pyint8dot.engine.elementwise`."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numpy as np

from pyint8dot.engine import library
from pyint8dot.engine.elementwise import MOST_PROGRAMS, MOST_REPEATS, Ready, ready_for
from pyint8dot.engine.program import FIRST, LEFT, RESULT, Program

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["dequantize", "forget", "quantize"]

_UINT8 = np.dtype(np.uint8)


def quantize(
    x: NDArray[np.float32], scales: NDArray[np.float32], zeros: NDArray[np.int32], dtype: np.dtype[Any]
) -> NDArray[Any] | None:
    """Quantise each row of a C-contiguous array of two dimensions by a scale and a zero point of its own."""
    return _each(x, scales, zeros, dtype, dtype == _UINT8, quantising=True)


def dequantize(
    x: NDArray[Any], scales: NDArray[np.float32], zeros: NDArray[np.int32], dtype: np.dtype[Any]
) -> NDArray[np.float32] | None:
    """Bring each row of such an array of int8 or uint8 back to float32 likewise."""
    return _each(x, scales, zeros, dtype, x.dtype == _UINT8, quantising=False)


def _each(
    x: NDArray[Any], scales: NDArray[np.float32], zeros: NDArray[np.int32], dtype: np.dtype[Any], unsigned: bool, *,
    quantising: bool,
) -> NDArray[Any] | None:  # fmt: skip
    y = np.empty(x.shape, dtype)
    for start in range(0, len(x), MOST_REPEATS):
        part = slice(start, start + MOST_REPEATS)
        some = x[part]
        ready = _rows(len(some), x.shape[1], zeros[part].tobytes(), unsigned, quantising)
        if ready is None:
            return None
        ready.run(some, y[part], scales[part])
    return y


@functools.lru_cache(MOST_PROGRAMS)
def _rows(m: int, n: int, zeros: bytes, unsigned: bool, quantising: bool) -> Ready | None:
    if library.status() is not None:
        return None
    program = Program()
    convert = program.quantize_linear if quantising else program.dequantize_linear
    size_x, size_y = (4, 1) if quantising else (1, 4)
    for row, zero_point in enumerate(np.frombuffer(zeros, np.int32).tolist()):
        convert(
            x=LEFT.plus(row * n * size_x), y=RESULT.plus(row * n * size_y), n=n, scale=FIRST.plus(4 * row),
            zero_point=zero_point, unsigned=int(unsigned),
        )  # fmt: skip
    return ready_for(program, m * n)


def forget() -> None:
    """Drop all programs, which hold a way to call native code."""
    _rows.cache_clear()
