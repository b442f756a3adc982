"""The fused multiply-add of float32, which numpy lacks: the definition of what native code does in one instruction."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
WideArray = npt.NDArray[np.float64]

#: The bits of a float64 beyond the precision of float32, and what they are half-way between two float32.
BEYOND, HALF_WAY = np.int64((1 << 29) - 1), np.int64(1 << 28)

#: Below it float32 is less precise.
SMALLEST_NORMAL = 2.0**-126


def add_product(total: WideArray, x: WideArray, y: WideArray, work: tuple[WideArray, npt.NDArray[np.int64]]) -> None:
    """Add ``x * y`` to `total` as one operation of float32, rounded once to nearest, ties to even.

    A product of two float32 is exact in float64, so the sum is rounded twice, to float64 and to float32. That is the sum rounded once
    except where the first rounding made a tie for the second: there it is rounded to odd instead, after Boldo and Melquiond,
    "Emulation of a FMA and correctly rounded sums" (2008).

    Parameters
    ----------
    total : ndarray of float64
        float32 values, replaced by the sums, float32 values again.
    x, y : ndarray of float64
        float32 values that broadcast to the shape of `total`.
    work : (ndarray of float64, ndarray of int64)
        Working memory, each of the shape of `total`.
    """
    product, bits = work
    np.multiply(x, y, out=product)
    np.add(total, product, out=product)
    np.bitwise_and(product.view(np.int64), BEYOND, out=bits)
    doubtful = bits == HALF_WAY
    doubtful |= np.abs(product, out=bits.view(np.float64)) < SMALLEST_NORMAL
    if doubtful.any():
        terms: list[Any] = [np.broadcast_to(each, total.shape)[doubtful] for each in (x, y, total)]
        product[doubtful] = _to_odd(terms[0] * terms[1], terms[2])
    total[...] = product.astype(np.float32)


def chain(start: FloatArray, x: FloatArray, y: FloatArray) -> FloatArray:
    """Add products to `start` one after the other, each rounded once.

    Parameters
    ----------
    start : ndarray of float32
        What the sums begin with.
    x, y : ndarray of float32
        Their products along the first axis are the terms; each broadcasts to the shape of `start`.

    Returns
    -------
    ndarray of float32

    Examples
    --------
    >>> chain(np.float32([1]), np.float32([[2], [3]]), np.float32([[10], [100]]))
    array([321.], dtype=float32)
    """
    total = start.astype(np.float64)
    work = np.empty_like(total), np.empty(total.shape, np.int64)
    for one, other in zip(x.astype(np.float64), y.astype(np.float64), strict=True):
        add_product(total, one, other, work)
    return total.astype(np.float32)


def _to_odd(x: WideArray, y: WideArray) -> WideArray:
    """``x + y`` rounded to float64, to the neighbour with an odd last bit where it is not exact."""
    total = x + y
    # What the rounding has lost, exactly, after Knuth.
    part = total - x
    lost = (x - (total - part)) + (y - part)
    even = total.view(np.int64) & 1 == 0
    outward = np.signbit(lost) == np.signbit(total)
    step = np.where((lost != 0) & np.isfinite(lost) & even, np.where(outward, 1, -1), 0)
    return (total.view(np.int64) + step).view(np.float64)
