"""Native code that takes the values of arrays one by one, called through programs that are written once per size or length of rows.

Each function returns None, or False, where there is no library. The definitions stand in `pyint8dot.quantize` and `pyint8dot.floats`.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pyint8dot.engine import builtin, library, tape
from pyint8dot.engine.blocks import EXTENDED, Written, pack_extended
from pyint8dot.engine.library import address
from pyint8dot.engine.moves import contiguous
from pyint8dot.engine.program import FIRST, LEFT, RESULT, ROWS, SECOND, STATUS, Program, run_entry

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "Combined",
    "dequantize",
    "deviations",
    "divide_rows",
    "dynamic_quantize",
    "exp2_terms",
    "forget",
    "hard_sigmoid",
    "lookup",
    "quantize",
    "quantize_rows",
]

#: Values that may be divided while the interpreter's lock is held: ten microseconds at most on the usual cores.
HELD_VALUES = 1 << 12

#: Sizes whose programs are kept.
MOST_PROGRAMS = 64

#: Records that one program has for rows that are repeated.
MOST_REPEATS = 256

_FLOAT32, _UINT8 = np.dtype(np.float32), np.dtype(np.uint8)

# Named here, since the call for a small array is mostly look-ups.
_empty = np.empty


class Ready(NamedTuple):
    """A program for arrays of one size, the builtin where there are any, and the records for the builtin."""

    written: Written
    quick: builtin.Builtin | None
    records: bytes

    def run(self, x: NDArray[Any], y: NDArray[Any], *others: NDArray[Any]) -> bool:
        """Run it on C-contiguous arrays, of which `x` may lie otherwise, and tell whether all went well."""
        if not x.flags.c_contiguous:
            x = contiguous(x)
        if self.quick is None or tape.TAPES:
            return self.written.run(x, y, *others) == 0
        # The builtin reads sizes and strides of two dimensions.
        left = x if x.ndim > 1 else x.reshape(1, -1)
        return self.quick.run(self.records, left, y, *others) is self.quick.fine


def ready_for(program: Program, n: int) -> Ready:
    """The program for `n` values, ready to run."""
    quick = builtin.quick()
    run = None if quick is None else quick.holding if n <= HELD_VALUES else quick.letting_go
    return Ready(Written(program, 0), run, program.records())


def dynamic_quantize(x: NDArray[np.float32]) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.uint8]] | None:
    """Quantise an array to uint8 with the scale and zero point that it asks for.

    Returns the codes and, as 0-d arrays, scale and zero point; None as well where the scale is not finite.
    """
    ready = _dynamic_quantize(x.size)
    if ready is None:
        return None
    y, scale, zero_point = _empty(x.shape, _UINT8), _empty((), _FLOAT32), _empty((), _UINT8)
    if tape.TAPES:
        tape.touch((), (scale, zero_point))
    return (y, scale, zero_point) if ready.run(x, y, scale, zero_point) else None


@functools.lru_cache(MOST_PROGRAMS)
def _dynamic_quantize(n: int) -> Ready | None:
    if library.status() is not None:
        return None
    program = Program()
    program.dynamic_quantize(x=LEFT, y=RESULT, m=1, k=n, scale=FIRST, zero_point=SECOND, status=STATUS)
    return ready_for(program, n)


def quantize(
    x: NDArray[np.float32], scale: NDArray[np.float32], zero_point: int, dtype: np.dtype[Any]
) -> NDArray[Any] | None:
    """Quantise an array to `dtype`, int8 or uint8, by one scale."""
    ready = _quantize(x.size, zero_point, dtype == _UINT8)
    if ready is None:
        return None
    y = _empty(x.shape, dtype)
    ready.run(x, y, scale)
    return y


@functools.lru_cache(MOST_PROGRAMS)
def _quantize(n: int, zero_point: int, unsigned: bool) -> Ready | None:
    if library.status() is not None:
        return None
    program = Program()
    program.quantize_linear(x=LEFT, y=RESULT, n=n, scale=FIRST, zero_point=zero_point, unsigned=int(unsigned))
    return ready_for(program, n)


def dequantize(x: NDArray[Any], scale: NDArray[np.float32], zero_point: int) -> NDArray[np.float32] | None:
    """Bring an array of int8 or uint8 back to float32 by one scale."""
    ready = _dequantize(x.size, zero_point, x.dtype == _UINT8)
    if ready is None:
        return None
    y = _empty(x.shape, _FLOAT32)
    ready.run(x, y, scale)
    return y


@functools.lru_cache(MOST_PROGRAMS)
def _dequantize(n: int, zero_point: int, unsigned: bool) -> Ready | None:
    if library.status() is not None:
        return None
    program = Program()
    program.dequantize_linear(x=LEFT, y=RESULT, n=n, scale=FIRST, zero_point=zero_point, unsigned=int(unsigned))
    return ready_for(program, n)


def exp2_terms(
    x: NDArray[np.float32],
    y: NDArray[np.float32],
    sums: NDArray[np.float32],
    scale: np.float32,
    *,
    divided: bool = False,
) -> NDArray[np.float32] | None:
    """Write to `y`, and `sums`, what `pyint8dot.floats.exp2_terms` defines; returns the sums. All are C-contiguous, and no row is empty.

    With `divided` each row of `y` is divided by its sum afterwards.
    """
    ready = _exp2_terms(sums.size, x.shape[-1], scale, divided)
    if ready is None:
        return None
    if tape.TAPES:
        tape.touch((), (sums,))
    ready.run(x, y, sums)
    return sums


@functools.lru_cache(MOST_PROGRAMS)
def _exp2_terms(m: int, n: int, scale: np.float32, divided: bool) -> Ready | None:
    if library.status() is not None:
        return None
    program = Program()
    factor = np.full(1, scale, np.float32)
    program.exp2_terms(x=LEFT, y=RESULT, ld_x=4 * n, ld_y=4 * n, m=m, n=n, scale=factor, sums=FIRST)
    if divided:
        program.divide_rows(x=RESULT, y=RESULT, m=m, n=n, divisor=FIRST, root=0)
    return ready_for(program, m * n)


def divide_rows(x: NDArray[np.float32], divisors: NDArray[np.float32], y: NDArray[np.float32], *, root: bool) -> bool:
    """Write to `y` what `pyint8dot.floats.divide_rows` defines, and tell whether there is a library to do it.

    All are C-contiguous, and no row is empty.
    """
    ready = _divide_rows(divisors.size, x.shape[-1], root)
    return ready is not None and ready.run(x, y, divisors)


@functools.lru_cache(MOST_PROGRAMS)
def _divide_rows(m: int, n: int, root: bool) -> Ready | None:
    if library.status() is not None:
        return None
    program = Program()
    program.divide_rows(x=LEFT, y=RESULT, m=m, n=n, divisor=FIRST, root=int(root))
    return ready_for(program, m * n)


def deviations(
    x: NDArray[np.float32], y: NDArray[np.float32], variance: NDArray[np.float32]
) -> NDArray[np.float32] | None:
    """Write to `y`, and `variance`, what `pyint8dot.floats.deviations` defines; returns the variance. All are C-contiguous, and no row is empty."""
    ready = _deviations(variance.size, x.shape[-1])
    if ready is None:
        return None
    if tape.TAPES:
        tape.touch((), (variance,))
    ready.run(x, y, variance)
    return variance


@functools.lru_cache(MOST_PROGRAMS)
def _deviations(m: int, n: int) -> Ready | None:
    if library.status() is not None:
        return None
    program = Program()
    program.deviations(x=LEFT, y=RESULT, m=m, n=n, variance=FIRST)
    return ready_for(program, m * n)


def lookup(x: NDArray[Any], table: NDArray[Any]) -> NDArray[Any] | None:
    """Take what a table of 256 bytes, of its own 8-bit type, has for the bits of each element of an 8-bit array."""
    ready = _lookup(x.size)
    if ready is None:
        return None
    y = _empty(x.shape, table.dtype)
    ready.run(x, y, table)
    return y


@functools.lru_cache(MOST_PROGRAMS)
def _lookup(n: int) -> Ready | None:
    if library.status() is not None:
        return None
    program = Program()
    program.lookup(x=LEFT, y=RESULT, n=n, table=FIRST)
    return ready_for(program, n)


def hard_sigmoid(x: NDArray[np.float32], alpha: float, beta: float, *, times: bool) -> NDArray[np.float32] | None:
    """Compute ``clip(x * alpha + beta, 0, 1)``, with `times` times `x`."""
    ready = _hard_sigmoid(x.size, alpha, beta, times)
    if ready is None:
        return None
    y = _empty(x.shape, _FLOAT32)
    ready.run(x, y)
    return y


@functools.lru_cache(MOST_PROGRAMS)
def _hard_sigmoid(n: int, alpha: float, beta: float, times: bool) -> Ready | None:
    if library.status() is not None:
        return None
    program = Program()
    program.hard_sigmoid(x=LEFT, y=RESULT, n=n, line=np.array([alpha, beta], np.float32), times=int(times))
    return ready_for(program, n)


class Combined:
    """Sums or products of two arrays' values, quantised; what is known of them before they come.

    The arrays are codes of 8 bits, the right one maybe float32.

    Parameters
    ----------
    types : tuple of dtype
        Of the arrays and of the result.
    scales : tuple of float32
        Of the arrays and of the result; that of a float32 array is not used.
    zeros : tuple of int
        Zero points likewise.
    product : bool
        Whether values are multiplied, instead of added.
    """

    def __init__(
        self, types: tuple[np.dtype[Any], ...], scales: tuple[Any, ...], zeros: tuple[int, ...], *, product: bool
    ) -> None:
        self._scales, self._zeros, self.dtype = np.array(scales, np.float32), zeros, types[2]
        self._unsigned = sum(bit for bit, kind in zip((1, 2, 4), types, strict=True) if kind == _UINT8)
        self._form = int(types[1] == _FLOAT32) + 2 * product
        self._ready: dict[Any, Ready] = {}

    def __call__(self, a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any] | None:
        """Combine two arrays, the second one repeated as numpy has it; None where the first would have to be, or there is no library."""
        shape, own = a.shape, b.shape
        times, each = 1, b.size
        if own != shape:
            found = _repeated(shape, own)
            if found is None:
                # What is repeated otherwise than row by row is written out.
                try:
                    b = np.broadcast_to(b, shape)
                except ValueError:
                    return None
                each = b.size
            else:
                times, each = found
        key = a.size, times, each
        ready = self._ready.get(key)
        if ready is None:
            ready = self._write(*key)
            if ready is None:
                return None
        y = _empty(shape, self.dtype)
        ready.run(a, y, contiguous(b))
        return y

    def _write(self, whole: int, times: int, each: int) -> Ready | None:
        if library.status() is not None:
            return None
        program = Program()
        rows = whole // (times * each) if times * each else 0
        program.combine(
            a=LEFT, b=FIRST, y=RESULT, ld_b=0, m=rows, n=each, scales=self._scales, a_zero=self._zeros[0],
            b_zero=self._zeros[1], y_zero=self._zeros[2], unsigned=self._unsigned, form=self._form,
        )  # fmt: skip
        if times > 1:
            program.repeat(times, a=rows * each, b=each * (4 if self._form & 1 else 1), y=rows * each)
        if len(self._ready) >= MOST_PROGRAMS:
            self._ready.clear()
        made = self._ready[whole, times, each] = ready_for(program, whole)
        return made


def _repeated(shape: tuple[int, ...], own: tuple[int, ...]) -> tuple[int, int] | None:
    """How an array of a shape of its own is repeated in another: so many rows, one after the other, of so many values.

    Each row is repeated for as many rows of the other array as there are, as a mask per batch is for all heads and queries. None where
    it is repeated otherwise, within a row, or does not fit.
    """
    missing = len(shape) - len(own)
    if missing < 0:
        return None
    own = (1,) * missing + own
    start = next((i for i, size in enumerate(own) if size != shape[i]), len(own))
    end = next((i for i in range(start, len(own)) if own[i] != 1), len(own))
    times = math.prod(own[:start])
    if end == len(own) or own[end:] != shape[end:] or times > MOST_REPEATS:
        return None
    return times, math.prod(own[end:])


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


def forget() -> None:
    """Drop all programs, which hold a way to call native code."""
    for programs in (
        _dynamic_quantize, _quantize, _dequantize, _exp2_terms, _divide_rows, _deviations, _hard_sigmoid, _lookup,
        _quantize_rows,
    ):  # fmt: skip
        programs.cache_clear()
