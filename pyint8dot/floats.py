"""The float32 functions between the integer products of a transformer: `gelu`, `softmax`, `layer_norm` and `erf`.

Every exponential here is built from float32 additions, multiplications, minima and maxima in a fixed order, each rounded once: no fused
multiply-add, no call into the C library. Sums along a row have a fixed order too, that of a loop over whole vector registers, and look at
that row alone. So every function gives the same bits on every machine, and the native forms of two of them, `exp2_terms` and `layer_norm`,
are checked against numpy exactly.

Method. With ``a = min(|x|, 6)``, ``R`` a polynomial of degree 5 and ``R(a)**32`` close to the normal tail ``Phi(-a)``,

    gelu(x) = x * Phi(x) = x / 2 + |x| * (1/2 - R(a)**32)

A high power of a short polynomial follows the steep tail, as in Abramowitz and Stegun 7.1.28 (which uses the power -16); here the power is
positive, so nothing is divided. ``2**y`` is ``2**n * E(y - n)**2`` with n the nearest integer and E of degree 4; the power of two comes from
the exponent bits. erf is an odd rational function. The coefficients are minimax fits by linear programming, rounded to float32; the bounds
below are the largest errors found over every float32 of the stated range.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt

from pyint8dot.arguments import check_out
from pyint8dot.engine import library, norm
from pyint8dot.engine.program import Program

FloatArray = npt.NDArray[np.float32]

BLOCK = 32768
"""Elements that one pass of a ufunc covers: three buffers of this size stay in a second-level cache."""

GELU_LIMIT = np.float32(6.0)
"""Beyond it gelu(x) is x or 0 exactly: there R(6)**32 is below half a unit in the last place of 1/2."""

GELU_R = tuple(
    np.float32(c)
    for c in (
        0.9785721898078918,
        -0.02440195344388485,
        -0.009417979046702385,
        -0.0008972014184109867,
        0.0002497469540685415,
        -1.3068627595202997e-05,
    )
)
"""Coefficients of R, lowest degree first."""

EXP2_E = tuple(
    np.float32(c) for c in (1.0, 0.3465728163719177, 0.06005684658885002, 0.006950828712433577, 0.000600624771323055)
)
"""Coefficients of E, lowest degree first: 2**(f/2) for |f| <= 1/2."""

EXP2_LOWEST = np.float32(-127.0)
"""Below it 2**y is taken as exactly 0."""

EXP2_MAGIC = np.float32(12582912.0 + 127.0)
"""1.5 * 2**23 + 127. Added to y it leaves n + 127, the biased exponent of 2**n, in the low bits of the float."""

LOG2_E = np.float32(1.4426950408889634)

ERF_LIMIT = np.float32(3.85)
"""The quotient exceeds 1 there, so that clipping makes erf exactly 1 from here on."""

ERF_P = tuple(
    np.float32(c)
    for c in (1.1283788681030273, 0.3252771198749542, 0.06912919133901596, 0.00905719306319952, 0.0003209623973816633)
)
ERF_Q = tuple(
    np.float32(c)
    for c in (
        1.0,
        0.6215929388999939,
        0.168510302901268,
        0.025753233581781387,
        0.0022830748930573463,
        1.8556871509645134e-05,
    )
)
"""erf(x) = x * P(x*x) / Q(x*x); coefficients lowest degree first."""

ONE = np.float32(1.0)
HALF = np.float32(0.5)

# numpy's minimum and maximum are vectorised for two arrays but not for an array and a scalar.
_GELU_LIMITS = np.full(BLOCK, GELU_LIMIT, dtype=np.float32)
_EXP2_LOWESTS = np.full(BLOCK, EXP2_LOWEST, dtype=np.float32)


def gelu(x: FloatArray, *, out: FloatArray | None = None) -> FloatArray:
    """Gaussian error linear unit, the exact form: ``x * Phi(x) = x / 2 * (1 + erf(x / sqrt(2)))``.

    Parameters
    ----------
    x : ndarray of float32
        Any shape.
    out : ndarray of float32, optional
        Where to write; the shape of `x`, and `x` itself is allowed.

    Returns
    -------
    ndarray of float32
        `out`, or a new array. Within 6e-7 of the true value; exactly x above 6 and exactly 0 below -6. NaN stays NaN,
        and minus infinity becomes it.

    Raises
    ------
    TypeError
        If `x` or `out` is not float32.
    ValueError
        If `out` has another shape than `x` or is read-only.

    Examples
    --------
    >>> gelu(np.float32([-10, 0, 10]))
    array([ 0.,  0., 10.], dtype=float32)
    """
    result, work = _prepare(x, out)
    flat = work.reshape(-1)
    magnitude, r, clamped = _scratch(flat.size, 3)
    for start, stop in _blocks(flat.size):
        size = stop - start
        _gelu_block(flat[start:stop], magnitude[:size], r[:size], clamped[:size])
    return _finish(result, work)


def _gelu_block(x: FloatArray, magnitude: FloatArray, r: FloatArray, clamped: FloatArray) -> None:
    """Apply gelu to `x` in place. The order of the operations is the definition."""
    np.abs(x, out=magnitude)
    np.minimum(magnitude, _GELU_LIMITS[: x.size], out=clamped)
    _horner(clamped, GELU_R, r)
    for _ in range(5):
        np.square(r, out=r)
    np.subtract(HALF, r, out=r)
    np.multiply(magnitude, r, out=magnitude)
    np.multiply(x, HALF, out=x)
    with np.errstate(invalid="ignore"):  # minus infinity is NaN, as 0 * infinity, without a warning
        np.add(x, magnitude, out=x)


def erf(x: FloatArray, *, out: FloatArray | None = None) -> FloatArray:
    """Error function.

    Parameters
    ----------
    x : ndarray of float32
        Any shape.
    out : ndarray of float32, optional
        Where to write; the shape of `x`, and `x` itself is allowed.

    Returns
    -------
    ndarray of float32
        `out`, or a new array. Relative error below 7e-7, never beyond -1 and 1; NaN stays NaN.

    Raises
    ------
    TypeError
        If `x` or `out` is not float32.
    ValueError
        If `out` has another shape than `x` or is read-only.

    Examples
    --------
    >>> erf(np.float32([-9, 0, 9]))
    array([-1.,  0.,  1.], dtype=float32)
    """
    result, work = _prepare(x, out)
    flat = work.reshape(-1)
    square, p, q = _scratch(flat.size, 3)
    for start, stop in _blocks(flat.size):
        size = stop - start
        z, above, below, y = square[:size], p[:size], q[:size], flat[start:stop]
        np.clip(y, -ERF_LIMIT, ERF_LIMIT, out=y)
        np.square(y, out=z)
        _horner(z, ERF_P, above)
        _horner(z, ERF_Q, below)
        np.multiply(y, above, out=y)
        np.divide(y, below, out=y)
        np.clip(y, -ONE, ONE, out=y)
    return _finish(result, work)


def softmax(x: FloatArray, axis: int = -1, *, out: FloatArray | None = None) -> FloatArray:
    """Exponentials along an axis, divided by their sum.

    Parameters
    ----------
    x : ndarray of float32
        Any shape. Minus infinity masks an element: its share is exactly 0.
    axis : int
        The axis that sums to 1.
    out : ndarray of float32, optional
        Where to write; the shape of `x`, and `x` itself is allowed.

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
    result, _ = _prepare(x, out, copy=False)
    moved = np.moveaxis(x, axis, -1)
    terms, sums = exp2_terms(moved, scale=LOG2_E)
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
    result, terms = _prepare(x, out, copy=False)
    n = _length(x)
    if x.size == 0:
        return result, np.zeros((*x.shape[:-1], 1), dtype=np.float32)
    factor = np.full(1, ONE if scale is None else scale, dtype=np.float32)
    if native and library.status() is None and x.flags.c_contiguous:
        if terms is not x and np.may_share_memory(terms, x):
            x = x.copy()  # the native loop would read rows that it has written already
        totals: FloatArray = np.empty((*x.shape[:-1], 1), dtype=np.float32)
        call = Program()
        call.exp2_terms(x=x, y=terms, ld_x=4 * n, ld_y=4 * n, m=totals.size, n=n, scale=factor, sums=totals)
        call.run()
        return _finish(result, terms), totals
    with np.errstate(invalid="ignore"):  # a row of minus infinity alone is NaN, without a warning
        np.subtract(x, np.maximum.reduce(x, axis=-1, keepdims=True), out=terms)
    np.multiply(terms, factor, out=terms)
    exp2(terms)
    return _finish(result, terms), _sums(terms.reshape(-1, n), 8).reshape(*x.shape[:-1], 1)


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
    shifted, power = _scratch(flat.size, 2)
    for start, stop in _blocks(flat.size):
        size = stop - start
        _exp2_block(flat[start:stop], shifted[:size], power[:size])
    return y


def _exp2_block(y: FloatArray, shifted: FloatArray, power: FloatArray) -> None:
    """Replace `y`, at most 0, by 2**y in place. The order of the operations is the definition."""
    np.maximum(y, _EXP2_LOWESTS[: y.size], out=y)
    np.add(y, EXP2_MAGIC, out=shifted)
    np.subtract(shifted, EXP2_MAGIC, out=power)
    np.subtract(y, power, out=y)
    _horner(y, EXP2_E, power)
    np.square(power, out=power)
    bits = shifted.view(np.int32)
    np.left_shift(bits, 23, out=bits)
    np.multiply(power, shifted, out=y)


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
    result, work = _prepare(x, out, copy=False)
    if out is not None:
        x = _readable(x, work)
        residual = None if residual is None else _readable(residual, work)
    _normalise(x, weight, bias, eps, residual, work, native=native)
    return _finish(result, work)


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
    result, work = _prepare(x, None, copy=False)
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
    n = _length(x)
    weight = _vector("weight", weight, n)
    bias = None if bias is None else _vector("bias", bias, n)
    factor = None if factor is None else _vector("factor", factor, n)
    if residual is not None:
        if residual.dtype != np.float32:
            raise TypeError(f"residual must be float32, got {residual.dtype}")
        if residual.shape != x.shape:
            raise ValueError(f"residual must have the shape of x {x.shape}, got {residual.shape}")
        residual = _contiguous(residual)
    if work.size == 0:
        return
    if native and norm.normalise(_contiguous(x), weight, bias, eps, work, residual, factor, scaled):
        return
    if residual is not None:
        np.add(x, residual, out=work)
    elif work is not x:
        np.copyto(work, x)
    rows = work.reshape(-1, n)
    np.subtract(rows, (_sums(rows, 16) / np.float32(n))[:, None], out=rows)
    variance = _sums(np.square(rows), 16) / np.float32(n)
    inverse = ONE / np.sqrt(variance + np.float32(eps))
    np.multiply(rows, inverse[:, None], out=rows)
    np.multiply(rows, weight, out=rows)
    if bias is not None:
        np.add(rows, bias, out=rows)
    if factor is not None:
        np.multiply(work, factor, out=scaled)


def _sums(rows: FloatArray, lanes: int) -> FloatArray:
    """Sum each row in the order of a loop over `lanes` columns at a time, registers of four added pair by pair at the end."""
    whole = rows.shape[1] // lanes * lanes
    sums: FloatArray = np.zeros((len(rows), lanes), dtype=np.float32)
    if whole:
        np.add.reduce(rows[:, :whole].reshape(len(rows), -1, lanes), axis=1, out=sums)
    while sums.shape[1] > 4:
        pairs = sums.reshape(len(rows), -1, 2, 4)
        sums = (pairs[:, :, 0] + pairs[:, :, 1]).reshape(len(rows), -1)
    total: FloatArray = (sums[:, 0] + sums[:, 1]) + (sums[:, 2] + sums[:, 3])
    rest: FloatArray = np.zeros(len(rows), dtype=np.float32)
    for column in range(whole, rows.shape[1]):
        rest += rows[:, column]
    return total + rest


def _length(x: FloatArray) -> int:
    """Return the length of the last axis."""
    if x.ndim == 0:
        raise ValueError("x must have at least one dimension, got a 0-d array")
    return int(x.shape[-1])


def _vector(name: str, value: FloatArray, n: int) -> FloatArray:
    """Return a float32 vector of `n` values as one that native code can read."""
    if value.dtype != np.float32:
        raise TypeError(f"{name} must be float32, got {value.dtype}")
    if value.shape != (n,):
        raise ValueError(f"{name} must have shape {(n,)}, got {value.shape}")
    return _contiguous(value)


def _contiguous(x: FloatArray) -> FloatArray:
    """Return an array that native code can read; a flag is looked at faster than numpy's function is called."""
    return x if x.flags.c_contiguous else np.ascontiguousarray(x)


def _readable(x: FloatArray, work: FloatArray) -> FloatArray:
    """Return an array that a loop over rows can read while it writes to another: the same one, or one apart from it."""
    return x if x is work or not np.may_share_memory(x, work) else x.copy()


def _horner(x: FloatArray, coefficients: tuple[np.float32, ...], out: FloatArray) -> None:
    """Evaluate a polynomial, lowest coefficient first, multiply and add in turn."""
    *lower, second, highest = coefficients
    np.multiply(x, highest, out=out)
    np.add(out, second, out=out)
    for c in reversed(lower):
        np.multiply(out, x, out=out)
        np.add(out, c, out=out)


def _scratch(size: int, count: int) -> list[FloatArray]:
    """Buffers for one block each."""
    return [np.empty(min(size, BLOCK), dtype=np.float32) for _ in range(count)]


def _blocks(size: int) -> list[tuple[int, int]]:
    """Cut a flat array into ranges of at most BLOCK elements."""
    return list(pairwise([*range(0, size, BLOCK), size]))


def _prepare(x: FloatArray, out: FloatArray | None, *, copy: bool = True) -> tuple[FloatArray, FloatArray]:
    """Check the arguments; return the result and a C-contiguous array to work in, holding a copy of `x` unless `copy` is False."""
    if x.dtype != np.float32:
        raise TypeError(f"x must be float32, got {x.dtype}")
    if out is None:
        out = np.empty(x.shape, dtype=np.float32)
    else:
        check_out(out, x.shape, x.dtype)
    work = out if out.flags.c_contiguous else np.empty(x.shape, dtype=np.float32)
    if copy and work is not x:
        np.copyto(work, x)
    return out, work


def _finish(result: FloatArray, work: FloatArray) -> FloatArray:
    """Bring the work to where the caller wants it."""
    if work is not result:
        np.copyto(result, work)
    return result
