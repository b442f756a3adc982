"""Steps of a normalisation that is written out, where something between them keeps them apart."""

from __future__ import annotations

import numpy as np

from pyint8dot.engine import elementwise
from pyint8dot.floats.work import FloatArray, contiguous, finished, length, prepared, readable, sums_of


def deviations(x: FloatArray, *, out: FloatArray | None = None, native: bool = True) -> tuple[FloatArray, FloatArray]:
    """Distances to the mean of the row, ``x - mean``, and the mean of their squares, along the last axis.

    Parameters
    ----------
    x : ndarray of float32, shape (..., n)
        The rows.
    out : ndarray of float32, optional
        Where the distances go; the shape of `x`, and `x` itself is allowed.
    native : bool
        Whether native code may be used, which gives the same bits.

    Returns
    -------
    distances : ndarray of float32
        `out`, or a new array.
    variance : ndarray of float32
        The last axis kept with length 1; NaN where it had none.

    Raises
    ------
    TypeError
        If `x` or `out` is not float32.
    ValueError
        If `x` has no axis, `out` has another shape than `x` or is read-only.

    Examples
    --------
    >>> deviations(np.float32([[1, 3]]))
    (array([[-1.,  1.]], dtype=float32), array([[1.]], dtype=float32))
    """
    result, work = prepared(x, out, copy=False)
    n, shape = length(x), (*x.shape[:-1], 1)
    if x.size == 0:
        return result, np.full(shape, np.nan, np.float32)
    source = contiguous(readable(x, work))
    variance = elementwise.deviations(source, work, np.empty(shape, np.float32)) if native else None
    if variance is None:
        rows, y = source.reshape(-1, n), work.reshape(-1, n)
        with np.errstate(all="ignore"):
            np.subtract(rows, (sums_of(rows, 16) / np.float32(n))[:, None], out=y)
            variance = (sums_of(np.square(y), 16) / np.float32(n)).reshape(shape)
    return finished(result, work), variance


def divide_rows(
    x: FloatArray, divisors: FloatArray, *, root: bool = False, out: FloatArray | None = None, native: bool = True
) -> FloatArray:
    """Each row along the last axis, divided by a number of its own, or by the square root of it.

    Parameters
    ----------
    x : ndarray of float32, shape (..., n)
        The rows.
    divisors : ndarray of float32, shape (..., 1)
        One for each row.
    root : bool
        Whether the square root of the number divides.
    out : ndarray of float32, optional
        Where to write; the shape of `x`, and `x` itself is allowed.
    native : bool
        Whether native code may be used, which gives the same bits.

    Returns
    -------
    ndarray of float32
        `out`, or a new array.

    Raises
    ------
    TypeError
        If an array is not float32.
    ValueError
        If `x` has no axis, `divisors` is not one number for each row, `out` has another shape than `x` or is read-only.

    Examples
    --------
    >>> divide_rows(np.float32([[1, 3], [6, 9]]), np.float32([[4], [9]]), root=True)
    array([[0.5, 1.5],
           [2. , 3. ]], dtype=float32)
    """
    result, work = prepared(x, out, copy=False)
    length(x)
    if divisors.dtype != np.float32:
        raise TypeError(f"divisors must be float32, got {divisors.dtype}")
    if divisors.shape != (*x.shape[:-1], 1):
        raise ValueError(f"divisors must have shape {(*x.shape[:-1], 1)}, got {divisors.shape}")
    if x.size == 0:
        return result
    source, by = contiguous(readable(x, work)), contiguous(readable(divisors, work))
    if not native or not elementwise.divide_rows(source, by, work, root=root):
        with np.errstate(all="ignore"):
            np.divide(source, np.sqrt(by) if root else by, out=work)
    return finished(result, work)
