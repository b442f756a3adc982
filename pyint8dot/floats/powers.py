"""Powers of two, and what is made of them: `exp2`, `exp2_terms` and `softmax`; the head of the package has the method."""

from __future__ import annotations

import numpy as np

from pyint8dot.engine import elementwise
from pyint8dot.floats.work import BLOCK, ONE, FloatArray, blocks, finished, horner, length, prepared, scratch, sums_of

EXP2_E = tuple(
    np.float32(c) for c in (1.0, 0.3465728163719177, 0.06005684658885002, 0.006950828712433577, 0.000600624771323055)
)
"""Coefficients of E, lowest degree first: 2**(f/2) for |f| <= 1/2."""

EXP2_LOWEST = np.float32(-127.0)
"""Below it 2**y is taken as exactly 0."""

EXP2_MAGIC = np.float32(12582912.0 + 127.0)
"""1.5 * 2**23 + 127. Added to y it leaves n + 127, the biased exponent of 2**n, in the low bits of the float."""

LOG2_E = np.float32(1.4426950408889634)

# numpy's minimum and maximum are vectorised for two arrays but not for an array and a scalar.
_EXP2_LOWESTS = np.full(BLOCK, EXP2_LOWEST, dtype=np.float32)


def softmax(x: FloatArray, axis: int = -1, *, out: FloatArray | None = None, native: bool = True) -> FloatArray:
    """Exponentials along an axis, divided by their sum.

    Parameters
    ----------
    x : ndarray of float32
        Any shape. Minus infinity masks an element: its share is exactly 0.
    axis : int
        The axis that sums to 1.
    out : ndarray of float32, optional
        Where to write; the shape of `x`, and `x` itself is allowed.
    native : bool
        Whether native code may be used, which gives the same bits.

    Returns
    -------
    ndarray of float32
        `out`, or a new array. Relative error of an element below 1e-6 times the larger of 1 and its distance to the maximum / 4. A slice
        of minus infinity alone gives NaN.

    Raises
    ------
    TypeError
        If `x` or `out` is not float32.
    ValueError
        If `out` has another shape than `x` or is read-only, or `axis` is out of range (numpy.exceptions.AxisError).

    Examples
    --------
    >>> softmax(np.float32([0, 0, -np.inf]))
    array([0.5, 0.5, 0. ], dtype=float32)
    """
    result, work = prepared(x, out, copy=False)
    if x.ndim and axis in (-1, x.ndim - 1):
        _terms(x, work, LOG2_E, native=native, divided=True)
        return finished(result, work)
    moved = np.moveaxis(x, axis, -1)
    terms, sums = exp2_terms(moved, scale=LOG2_E, native=native)
    np.divide(terms, sums, out=np.moveaxis(result, axis, -1))
    return result


def exp2_terms(
    x: FloatArray, *, scale: np.float32 | None = None, out: FloatArray | None = None, native: bool = True
) -> tuple[FloatArray, FloatArray]:
    """Numerators and denominators of a softmax to the base 2 along the last axis: ``2**(scale * (x - max(x)))`` and its sums.

    Attention divides after the product with the values, which has fewer elements; and it folds log2(e) into the scores' own scale.

    Parameters
    ----------
    x : ndarray of float32
        Any shape with at least one axis.
    scale : float32, optional
        Multiplies the distance to the maximum; log2(e) makes it the softmax to the base e. None for 1.
    out : ndarray of float32, optional
        Where the numerators go; the shape of `x`, and `x` itself is allowed.
    native : bool
        Whether native code may be used, which gives the same bits.

    Returns
    -------
    terms : ndarray of float32
        The numerators, at most 1; relative error of ``2**y`` below 4e-7, and exactly 0 where y is below -127.
    sums : ndarray of float32
        Their sums, the last axis kept with length 1.

    Raises
    ------
    TypeError
        If `x` or `out` is not float32.
    ValueError
        If `x` has no axis, `out` has another shape than `x` or is read-only.

    Examples
    --------
    >>> exp2_terms(np.float32([3, 2, 1]))
    (array([1.  , 0.5 , 0.25], dtype=float32), array([1.75], dtype=float32))
    """
    result, terms = prepared(x, out, copy=False)
    length(x)
    sums = _terms(x, terms, ONE if scale is None else np.float32(scale), native=native)
    return finished(result, terms), sums


def _terms(x: FloatArray, terms: FloatArray, scale: np.float32, *, native: bool, divided: bool = False) -> FloatArray:
    """Write the numerators for `x` to a C-contiguous array of its shape, which may be `x`, and return their sums.

    With `divided` the shares are written in their place.
    """
    n, shape = x.shape[-1], (*x.shape[:-1], 1)
    if x.size == 0:
        return np.zeros(shape, np.float32)
    if native and x.flags.c_contiguous:
        if terms is not x and np.may_share_memory(terms, x):
            x = x.copy()  # the native loop would read rows that it has written already
        sums = elementwise.exp2_terms(x, terms, np.empty(shape, np.float32), scale, divided=divided)
        if sums is not None:
            return sums
    # A row of minus infinity alone is NaN, and what is far below the maximum runs over to minus infinity, without a warning.
    with np.errstate(invalid="ignore", over="ignore"):
        np.subtract(x, np.maximum.reduce(x, axis=-1, keepdims=True), out=terms)
        np.multiply(terms, scale, out=terms)
    exp2(terms)
    sums = sums_of(terms.reshape(-1, n), 8).reshape(shape)
    if divided:
        np.divide(terms, sums, out=terms)
    return sums


def exp2(y: FloatArray) -> FloatArray:
    """Replace the values of a C-contiguous array, at most 0, by their powers of two; return it.

    Parameters
    ----------
    y : ndarray of float32
        Any shape.

    Returns
    -------
    ndarray of float32
        `y`: relative error below 4e-7, and exactly 0 where the power was below -127.

    Examples
    --------
    >>> exp2(np.float32([0, -1, -200]))
    array([1. , 0.5, 0. ], dtype=float32)
    """
    flat = y.reshape(-1)
    shifted, power = scratch(flat.size, 2)
    for start, stop in blocks(flat.size):
        size = stop - start
        _exp2_block(flat[start:stop], shifted[:size], power[:size])
    return y


def _exp2_block(y: FloatArray, shifted: FloatArray, power: FloatArray) -> None:
    """Replace `y`, at most 0, by 2**y in place. The order of the operations is the definition."""
    np.maximum(y, _EXP2_LOWESTS[: y.size], out=y)
    np.add(y, EXP2_MAGIC, out=shifted)
    np.subtract(shifted, EXP2_MAGIC, out=power)
    np.subtract(y, power, out=y)
    horner(y, EXP2_E, power)
    np.square(power, out=power)
    bits = shifted.view(np.int32)
    np.left_shift(bits, 23, out=bits)
    np.multiply(power, shifted, out=y)
