"""`gelu`, `erf`, `tanh` and `relu`; the head of the package has the method."""

from __future__ import annotations

import numpy as np

from pyint8dot.floats.work import BLOCK, HALF, ONE, FloatArray, blocks, finished, horner, prepared, scratch

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

TANH_LIMIT = np.float32(7.933192729949951)
"""The quotient is 1 here, and at most 1 up to here, so that tanh is exactly 1 from here on."""

TANH_P = tuple(
    np.float32(c) for c in (1162959.875, 156425.28125, 4162.22021484375, 25.61208724975586, 0.017942022532224655)
)
TANH_Q = tuple(np.float32(c) for c in (1162959.875, 544078.5, 30460.505859375, 398.15618896484375, 1.0))
"""tanh(x) = x * P(x*x) / Q(x*x); coefficients lowest degree first."""

# numpy's minimum and maximum are vectorised for two arrays but not for an array and a scalar.
_GELU_LIMITS = np.full(BLOCK, GELU_LIMIT, dtype=np.float32)
# Longer than a block: nothing is kept between two operations, and each row costs numpy as much as some thousand elements.
_ZEROS = np.zeros(16384, dtype=np.float32)
_FEW = 2048


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
    result, work = prepared(x, out)
    flat = work.reshape(-1)
    magnitude, r, clamped = scratch(flat.size, 3)
    for start, stop in blocks(flat.size):
        size = stop - start
        _gelu_block(flat[start:stop], magnitude[:size], r[:size], clamped[:size])
    return finished(result, work)


def _gelu_block(x: FloatArray, magnitude: FloatArray, r: FloatArray, clamped: FloatArray) -> None:
    """Apply gelu to `x` in place. The order of the operations is the definition."""
    np.abs(x, out=magnitude)
    np.minimum(magnitude, _GELU_LIMITS[: x.size], out=clamped)
    horner(clamped, GELU_R, r)
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
    result, work = prepared(x, out)
    _odd(work.reshape(-1), ERF_LIMIT, ERF_P, ERF_Q)
    # The quotient exceeds 1 next to the limit.
    np.clip(work, -ONE, ONE, out=work)
    return finished(result, work)


def tanh(x: FloatArray, *, out: FloatArray | None = None) -> FloatArray:
    """Hyperbolic tangent.

    Parameters
    ----------
    x : ndarray of float32
        Any shape.
    out : ndarray of float32, optional
        Where to write; the shape of `x`, and `x` itself is allowed.

    Returns
    -------
    ndarray of float32
        `out`, or a new array. Relative error below 4e-7, exactly -1 and 1 beyond 7.94; NaN stays NaN.

    Raises
    ------
    TypeError
        If `x` or `out` is not float32.
    ValueError
        If `out` has another shape than `x` or is read-only.

    Examples
    --------
    >>> tanh(np.float32([-9, 0, 9]))
    array([-1.,  0.,  1.], dtype=float32)
    """
    result, work = prepared(x, out)
    _odd(work.reshape(-1), TANH_LIMIT, TANH_P, TANH_Q)
    return finished(result, work)


def _odd(
    flat: FloatArray, limit: np.float32, numerator: tuple[np.float32, ...], denominator: tuple[np.float32, ...]
) -> None:
    """Replace values by an odd rational function of them: polynomials of the square, lowest degree first, within a limit."""
    square, p, q = scratch(flat.size, 3)
    for start, stop in blocks(flat.size):
        size = stop - start
        z, above, below, y = square[:size], p[:size], q[:size], flat[start:stop]
        np.clip(y, -limit, limit, out=y)
        np.square(y, out=z)
        horner(z, numerator, above)
        horner(z, denominator, below)
        np.multiply(y, above, out=y)
        np.divide(y, below, out=y)


def relu(x: FloatArray, *, out: FloatArray | None = None) -> FloatArray:
    """Return the larger of x and 0, by the vectorised maximum of two arrays where that can be.

    Parameters
    ----------
    x : ndarray
        Any shape; of float32 and contiguous it is fast.
    out : ndarray, optional
        Where to write; the shape and type of `x`, and `x` itself is allowed.

    Returns
    -------
    ndarray
        `out`, or a new array. NaN stays NaN.

    Examples
    --------
    >>> relu(np.float32([-1, 0, 2]))
    array([0., 0., 2.], dtype=float32)
    """
    plain = x.dtype == np.float32 and x.flags.c_contiguous and (out is None or out.flags.c_contiguous)
    if not plain or x.size < _FEW:
        return np.asarray(np.maximum(x, x.dtype.type(0), out=out))
    y = np.empty_like(x) if out is None else out
    given, made, size = x.reshape(-1), y.reshape(-1), _ZEROS.size
    whole = x.size // size * size
    if whole:
        np.maximum(given[:whole].reshape(-1, size), _ZEROS, out=made[:whole].reshape(-1, size))
    np.maximum(given[whole:], _ZEROS[: x.size - whole], out=made[whole:])
    return y
