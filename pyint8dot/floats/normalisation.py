"""Layer normalisation, of a sum as well."""

from __future__ import annotations

import numpy as np

from pyint8dot.engine import norm
from pyint8dot.floats.work import ONE, FloatArray, contiguous, finished, length, prepared, readable, sums_of, vector


def layer_norm(
    x: FloatArray,
    weight: FloatArray,
    bias: FloatArray | None,
    *,
    eps: float = 1e-12,
    residual: FloatArray | None = None,
    out: FloatArray | None = None,
    native: bool = True,
) -> FloatArray:
    """Layer normalisation over the last axis: ``(t - mean) / sqrt(variance + eps) * weight + bias`` with ``t = x + residual``.

    Parameters
    ----------
    x : ndarray of float32, shape (..., n)
        The rows.
    weight : ndarray of float32, shape (n,)
        Multiplies the normalised row.
    bias : ndarray of float32, shape (n,), optional
        Is added.
    eps : float
        Added to the variance, which is the mean of the squared deviations.
    residual : ndarray of float32, optional
        Is added to `x` first; the shape of `x`.
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
        If `x` has no axis, `weight` or `bias` has another shape than ``(n,)``, `residual` or `out` has another shape than `x`, or
        `out` is read-only.

    Examples
    --------
    >>> layer_norm(np.float32([[1, 3]]), np.float32([1, 1]), np.float32([0, 10]))
    array([[-1., 11.]], dtype=float32)
    """
    result, work = prepared(x, out, copy=False)
    if out is not None:
        x = readable(x, work)
        residual = None if residual is None else readable(residual, work)
    _normalise(x, weight, bias, eps, residual, work, native=native)
    return finished(result, work)


def layer_norm_and_scaled(
    x: FloatArray,
    weight: FloatArray,
    bias: FloatArray | None,
    factor: FloatArray,
    *,
    eps: float = 1e-12,
    residual: FloatArray | None = None,
    native: bool = True,
) -> tuple[FloatArray, FloatArray]:
    """Layer normalisation, and the same times a factor per column, which smoothed models quantise.

    Parameters
    ----------
    x, weight, bias, eps, residual, native
        As for `layer_norm`.
    factor : ndarray of float32, shape (n,)
        Multiplies the second result.

    Returns
    -------
    (ndarray of float32, ndarray of float32)
        What `layer_norm` gives, and that times `factor`.

    Raises
    ------
    TypeError, ValueError
        As for `layer_norm`; `factor` as `weight`.

    Examples
    --------
    >>> layer_norm_and_scaled(np.float32([[1, 3]]), np.float32([1, 1]), None, np.float32([2, 3]))
    (array([[-1.,  1.]], dtype=float32), array([[-2.,  3.]], dtype=float32))
    """
    result, work = prepared(x, None, copy=False)
    scaled = np.empty_like(work)
    _normalise(x, weight, bias, eps, residual, work, factor, scaled, native=native)
    return result, scaled


def _normalise(
    x: FloatArray,
    weight: FloatArray,
    bias: FloatArray | None,
    eps: float,
    residual: FloatArray | None,
    work: FloatArray,
    factor: FloatArray | None = None,
    scaled: FloatArray | None = None,
    *,
    native: bool,
) -> None:
    """Check the operands and write into `work`, which may be `x` or `residual` but no part of them, and into `scaled`."""
    n = length(x)
    weight = vector("weight", weight, n)
    bias = None if bias is None else vector("bias", bias, n)
    factor = None if factor is None else vector("factor", factor, n)
    if residual is not None:
        if residual.dtype != np.float32:
            raise TypeError(f"residual must be float32, got {residual.dtype}")
        if residual.shape != x.shape:
            raise ValueError(f"residual must have the shape of x {x.shape}, got {residual.shape}")
        residual = contiguous(residual)
    if work.size == 0:
        return
    if native and norm.normalise(contiguous(x), weight, bias, eps, work, residual, factor, scaled):
        return
    if residual is not None:
        np.add(x, residual, out=work)
    elif work is not x:
        np.copyto(work, x)
    rows = work.reshape(-1, n)
    np.subtract(rows, (sums_of(rows, 16) / np.float32(n))[:, None], out=rows)
    variance = sums_of(np.square(rows), 16) / np.float32(n)
    inverse = ONE / np.sqrt(variance + np.float32(eps))
    np.multiply(rows, inverse[:, None], out=rows)
    np.multiply(rows, weight, out=rows)
    if bias is not None:
        np.add(rows, bias, out=rows)
    if factor is not None:
        np.multiply(work, factor, out=scaled)
