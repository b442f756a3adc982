"""Native code that takes the values of arrays one by one, called through programs that are written once per size or length of rows."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np

from pyint8dot.engine import builtin, library
from pyint8dot.engine.blocks import EXTENDED, Written, pack_extended
from pyint8dot.engine.library import address
from pyint8dot.engine.program import FIRST, LEFT, RESULT, ROWS, SECOND, STATUS, Program, run_entry

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["dynamic_quantize", "quantize_rows"]

#: Values that may be divided while the interpreter's lock is held: ten microseconds at most on the usual cores.
HELD_VALUES = 1 << 12

#: Sizes whose programs are kept.
MOST_PROGRAMS = 64

_FLOAT32, _UINT8 = np.dtype(np.float32), np.dtype(np.uint8)

# Named here, since the call for a small array is mostly look-ups.
_empty = np.empty


def dynamic_quantize(x: NDArray[np.float32]) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.uint8]] | None:
    """Quantise a C-contiguous array to uint8 with the scale and zero point that it asks for.

    Returns the codes and, as 0-d arrays, scale and zero point; None where there is no library or the scale is not finite.
    """
    prepared = _dynamic_quantize(x.size)
    if prepared is None:
        return None
    written, quick, records = prepared
    shape = x.shape
    y, scale, zero_point = _empty(shape, _UINT8), _empty((), _FLOAT32), _empty((), _UINT8)
    if quick is None:
        wrong = written.run(x, y, scale, zero_point) != 0
    else:
        # The builtin reads sizes and strides of two dimensions.
        left = x if len(shape) > 1 else x.reshape(1, -1)
        wrong = quick.run(records, left, y, scale, zero_point) is not quick.fine
    return None if wrong else (y, scale, zero_point)


@functools.lru_cache(MOST_PROGRAMS)
def _dynamic_quantize(n: int) -> tuple[Written, builtin.Builtin | None, bytes] | None:
    """The program for `n` values, the builtin where there are any, and the records for the builtin."""
    if library.status() is not None:
        return None
    program = Program()
    program.dynamic_quantize(x=LEFT, y=RESULT, m=1, k=n, scale=FIRST, zero_point=SECOND, status=STATUS)
    quick = builtin.quick()
    run = None if quick is None else quick.holding if n <= HELD_VALUES else quick.letting_go
    return Written(program, 0), run, program.records()


def quantize_rows(x: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]] | None:
    """Quantise each row of a C-contiguous array of two dimensions to int8.

    Returns the codes and the scales; None where there is no library or a value is not finite.
    """
    tail = _quantize_rows(x.shape[1])
    if tail is None:
        return None
    q, scale = _empty(x.shape, np.int8), _empty(len(x), _FLOAT32)
    head = pack_extended(address(x), address(q), len(x), 0, 0, 0, address(scale), 0)
    return None if run_entry()(head + tail) else (q, scale)


@functools.lru_cache(MOST_PROGRAMS)
def _quantize_rows(k: int) -> bytes | None:
    """The program for rows of `k` values, behind the words of its head."""
    if library.status() is not None:
        return None
    program = Program()
    program.quantize_rows(x=LEFT, q=RESULT, ld_x=4 * k, ld_q=k, m=ROWS, k=k, scale=FIRST, status=STATUS)
    return program.tail(EXTENDED)
