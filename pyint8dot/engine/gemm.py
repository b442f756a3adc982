"""The engine below every operator: the exact int32 product of two quantised matrices, zero points and start values included.

uint8 is int8 with another zero point: flipping the top bit takes 128 off every value, so ``u8 - z`` is ``s8 - (z - 128)``
and one mechanism serves both. With `za` and `zb` the zero points after that move, and A', B' the moved operands::

    C[i, j] = A'B'[i, j]  -  za[i] * colsum(B')[j]  -  zb[j] * (rowsum(A')[i] - k * za[i])        modulo 2**32

A term that depends on the row only, or on the column only, is where the kernel's sums start and costs nothing; the
others are added afterwards as outer products.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from pyint8dot.engine import layouts, native, portable, settings
from pyint8dot.engine.library import address
from pyint8dot.engine.packing import PackedMatrix, moved_to_int8
from pyint8dot.engine.settings import Tally

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyint8dot.engine.kernels import Kernel

__all__ = ["Addresses", "Tally", "product", "starts", "tally"]

Int32: TypeAlias = npt.NDArray[np.int32]
Quantized: TypeAlias = npt.NDArray[Any]

UINT8 = np.dtype(np.uint8)


@contextmanager
def tally() -> Iterator[Tally]:
    """Count the products of this thread and asynchronous task inside a ``with`` block.

    Examples
    --------
    >>> from pyint8dot import matmul
    >>> with tally() as counted:
    ...     c = matmul(np.ones((2, 3), np.int8), np.ones((3, 4), np.int8), kernel="portable")
    >>> counted.macs
    {'portable': 24}
    """
    opened = Tally()
    with settings.within(tally=opened):
        yield opened


def count(kernel: Kernel, m: int, n: int, k: int) -> None:
    """Tell an open tally of a product of this shape."""
    opened = settings.current().tally
    if opened is not None:
        opened.add(kernel.name, m * n * k)


def moved(zero_point: Any, dtype: np.dtype[Any]) -> Any:
    """Zero point of the values as int8: 128 less for uint8."""
    return zero_point - 128 if dtype == UINT8 else zero_point


def product(
    kernel: Kernel,
    a: Quantized,
    b: Quantized | PackedMatrix,
    c: Int32,
    *,
    a_zero_point: int | Int32 = 0,
    b_zero_point: int | Int32 = 0,
    bias: Int32 | None = None,
    num_threads: int = 1,
) -> None:
    """Write ``(a - a_zero_point) @ (b - b_zero_point) + bias`` to `c`, exactly, modulo 2**32.

    Parameters
    ----------
    kernel : Kernel
        What computes it.
    a : ndarray of int8 or uint8, shape (m, k)
        Any strides.
    b : ndarray of int8 or uint8, shape (k, n), or PackedMatrix
        Any strides.
    c : ndarray of int32, shape (m, n)
        Any strides; it must not share memory with the operands.
    a_zero_point : int or ndarray of int32, shape (m,)
    b_zero_point : int or ndarray of int32, shape (n,)
    bias : ndarray of int32, shape (n,), optional
    num_threads : int
        How many threads a native kernel uses.
    """
    m, k = a.shape
    n = b.shape[1]
    count(kernel, m, n, k)
    if m == 0 or n == 0:
        return
    row_start, col_start, outers = starts(a, b, a_zero_point, b_zero_point, bias)
    if kernel.native:
        target = c if c.strides[1] == 4 else np.empty((m, n), np.int32)
        _multiply(kernel, a, b, target, row_start, col_start, num_threads)
    else:
        target = c
        left = moved_to_int8(a)
        portable.gemm(left, _unpacked(kernel, b), target)
        if row_start is not None:
            target += row_start[:, None]
        if col_start is not None:
            target += col_start
    for down, across in outers:
        target += np.multiply.outer(down, across)
    if target is not c:
        c[...] = target


def starts(
    a: Quantized,
    b: Quantized | PackedMatrix,
    a_zero_point: int | Int32,
    b_zero_point: int | Int32,
    bias: Int32 | None,
) -> tuple[Int32 | None, Int32 | None, list[tuple[Int32, Int32]]]:
    """What the sums of a product start from, per row and per column, and the outer products to be added to it."""
    za = moved(a_zero_point, a.dtype)
    zb = moved(b_zero_point, b.dtype)
    row_start: Int32 | None = None
    col_start = bias
    outers: list[tuple[Int32, Int32]] = []
    if _present(za):
        sums = b.column_sums if isinstance(b, PackedMatrix) else _sums(b, 0)
        if np.ndim(za):
            outers.append((-za, sums))
        else:
            term = sums * np.int32(-za)
            col_start = term if col_start is None else col_start + term
    if _present(zb):
        # In 64 bits first: a row so long that this wraps must wrap without a warning.
        rows = (_sums(a, 1) - a.shape[1] * np.asarray(za, np.int64)).astype(np.int32)
        if np.ndim(zb):
            outers.append((rows, -zb))
        else:
            row_start = rows * np.int32(-zb)
    return row_start, col_start, outers


def _present(zero_point: int | Int32) -> bool:
    """Whether there is a zero point other than 0."""
    return bool(zero_point if isinstance(zero_point, int) else zero_point.any())


def _multiply(
    kernel: Kernel,
    a: Quantized,
    b: Quantized | PackedMatrix,
    c: Int32,
    row_start: Int32 | None,
    col_start: Int32 | None,
    num_threads: int,
) -> None:
    n = b.shape[1]
    if n < 8 <= a.shape[0] and isinstance(b, np.ndarray):
        # A panel of columns is always 8 wide, a panel of rows is not: so few columns are better off as rows.
        turned = np.empty((n, a.shape[0]), np.int32)
        _multiply(kernel, b.T, a.T, turned, col_start, row_start, num_threads)
        c[...] = turned.T
        return
    at = Addresses(kernel, b, row_start, col_start)
    native.multiply(native.bind(kernel), at.b, a, c, at.row_start, at.col_start, num_threads)


class Addresses:
    """Where a native call finds B, packed for `kernel`, and the start values; what lies there lives as long as this."""

    def __init__(
        self, kernel: Kernel, b: Quantized | PackedMatrix, row_start: Int32 | None, col_start: Int32 | None
    ) -> None:
        packed = b.for_kernel(kernel) if isinstance(b, PackedMatrix) else pack_columns(kernel, b)
        rows = None if row_start is None else np.ascontiguousarray(row_start, np.int32)
        columns = None if col_start is None else padded(col_start)
        self.keep = (packed, rows, columns)
        self.b = address(packed)
        self.row_start = 0 if rows is None else address(rows)
        self.col_start = 0 if columns is None else address(columns)


def padded(columns: Int32) -> Int32:
    """`columns` as contiguous int32 that may be read up to a whole panel."""
    n = len(columns)
    if n % 8 == 0:
        return np.ascontiguousarray(columns, np.int32)
    whole = np.zeros(-(-n // 8) * 8, np.int32)
    whole[:n] = columns
    return whole


def pack_columns(kernel: Kernel, b: Quantized) -> npt.NDArray[np.int8]:
    """`b`, shape (k, n), int8 or uint8, packed for `kernel` as its right operand."""
    layout = layouts.layout(kernel.layout)
    out = layouts.aligned(layout.size(*b.shape))
    layouts.pack_into(layout, b, out)
    return out


def _unpacked(kernel: Kernel, b: Quantized | PackedMatrix) -> npt.NDArray[np.int8]:
    if isinstance(b, PackedMatrix):
        return b.for_kernel(kernel).reshape(b.shape)
    return moved_to_int8(b)


def _sums(x: Quantized, axis: int) -> Int32:
    """Sums of `x` moved to int8 along `axis`."""
    sums: Int32 = np.add.reduce(x, axis=axis, dtype=np.int32)
    if x.dtype == UINT8:
        sums -= np.array(128 * x.shape[axis]).astype(np.int32)
    return sums
