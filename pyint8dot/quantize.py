"""Quantising and dequantising float arrays, with ONNX's names and semantics, and the per-row quantisation of `linear`.

All rounding is to the nearest, ties to even, and each step is one float operation, so the results are the same bits on every machine.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pyint8dot.arguments import (
    RANGES,
    Quantized,
    Values,
    along_axis,
    divisor,
    not_zero,
    of_a_list,
    output_dtype,
    plain,
    zero_points,
)
from pyint8dot.engine import elementwise, scaled_rows
from pyint8dot.engine.moves import contiguous

if TYPE_CHECKING:
    from collections.abc import Callable

FLOAT32 = np.dtype(np.float32)
#: Values with one scale from which on they are converted together.
LEAST_VALUES = 8

FLOATS = (np.dtype(np.float16), FLOAT32, np.dtype(np.float64))


def quantize_linear(
    x: npt.ArrayLike,
    y_scale: npt.ArrayLike,
    y_zero_point: npt.ArrayLike | None = None,
    *,
    axis: int = 1,
    block_size: int = 0,
    dtype: npt.DTypeLike | None = None,
    native: bool = True,
) -> Quantized:
    """Quantise to int8 or uint8: ``y = saturate(rint(x / y_scale) + y_zero_point)`` (ONNX QuantizeLinear).

    Parameters
    ----------
    x : array_like of float16, float32, float64 or int32
        Any shape.
    y_scale : array_like of float
        A scalar, one value along `axis`, or with `block_size` one per block; finite and not 0. Its type is the precision of the
        division.
    y_zero_point : array_like of int8 or uint8, optional
        A scalar or the shape of `y_scale`. Its type is the type of the result.
    axis : int
        The axis that a 1-D scale runs along. Not used with a scalar.
    block_size : int
        If not 0, the scale has the shape of `x` but one value for every `block_size` elements of `axis`.
    dtype : dtype, optional
        int8 or uint8; where `y_zero_point` has a type of its own it must be the same. Without either, uint8.
    native : bool
        Whether native code may be used, which gives the same bits.

    Returns
    -------
    ndarray of int8 or uint8
        Shape of `x`. Infinity saturates; NaN becomes the zero point.

    Raises
    ------
    TypeError
        If an argument has another type than those above.
    ValueError
        If shapes do not fit, a scale is 0 or not finite, `axis` is out of range or a zero point does not fit the type.

    Examples
    --------
    >>> quantize_linear(np.float32([-1, 0.25, 0.75, 300]), np.float32(0.5), np.uint8(10))
    array([  8,  10,  12, 255], dtype=uint8)
    """
    scale = divisor("y_scale", _floats("y_scale", y_scale))
    return quantize_by(x, scale, y_zero_point, axis=axis, block_size=block_size, dtype=dtype, native=native)


def quantize_by(
    x: npt.ArrayLike,
    y_scale: npt.ArrayLike,
    y_zero_point: npt.ArrayLike | None = None,
    *,
    axis: int = 1,
    block_size: int = 0,
    dtype: npt.DTypeLike | None = None,
    native: bool = True,
) -> Quantized:
    """`quantize_linear` by any scale, as a graph may compute one: what is divided by 0 is infinity or NaN."""
    values = plain("x", x)
    if values.dtype not in (*FLOATS, np.dtype(np.int32)):
        raise TypeError(f"x must be float16, float32, float64 or int32, got {values.dtype}")
    kind = _target_dtype(y_zero_point, dtype)
    low, high = RANGES[kind]
    scale = along_axis("y_scale", _floats("y_scale", y_scale), values.shape, axis, block_size)
    zero = along_axis("y_zero_point", zero_points("y_zero_point", y_zero_point, kind), values.shape, axis, block_size)
    if native and values.dtype == scale.dtype == FLOAT32 and not block_size:
        if scale.ndim == zero.ndim == 0:
            found = elementwise.quantize(values, scale, int(zero), kind)
        else:
            found = _along(scaled_rows.quantize, values, scale, zero, kind)
        if found is not None:
            return found
    with np.errstate(all="ignore"):  # a zero scale, infinity and NaN have the results documented above
        y: Values
        if scale.dtype == FLOATS[0]:
            # The quotient of two float16 is that of float32 rounded once more, which finds the same value; processors divide no others.
            y = (values.astype(scale.dtype).astype(FLOAT32) / scale.astype(FLOAT32)).astype(scale.dtype).astype(FLOAT32)
        else:
            y = np.asarray(values.astype(scale.dtype) / scale)
    np.rint(y, out=y)
    shift = zero.astype(y.dtype)
    y = np.asarray(np.clip(y, y.dtype.type(low) - shift, y.dtype.type(high) - shift))
    np.copyto(y, 0, where=np.isnan(y))
    return np.asarray(y + shift).astype(kind)


def dequantize_linear(
    x: npt.ArrayLike,
    x_scale: npt.ArrayLike,
    x_zero_point: npt.ArrayLike | None = None,
    *,
    axis: int = 1,
    block_size: int = 0,
    native: bool = True,
) -> Values:
    """Turn quantised values into floats: ``y = (x - x_zero_point) * x_scale`` (ONNX DequantizeLinear).

    Parameters
    ----------
    x : array_like of int8, uint8 or int32
        Any shape.
    x_scale : array_like of float
        A scalar that is not 0, one value along `axis`, or with `block_size` one per block.
    x_zero_point : array_like of integers, optional
        A scalar or the shape of `x_scale`; must fit the type of `x`.
    axis : int
        The axis that a 1-D scale runs along. Not used with a scalar.
    block_size : int
        If not 0, the scale has the shape of `x` but one value for every `block_size` elements of `axis`.
    native : bool
        Whether native code may be used, which gives the same bits.

    Returns
    -------
    ndarray
        Shape of `x`, type of `x_scale` (computed in float32 where that is narrower).

    Raises
    ------
    TypeError
        If an argument has another type than those above.
    ValueError
        If shapes do not fit, a scalar scale is 0, `axis` is out of range or a zero point does not fit the type.

    Examples
    --------
    >>> dequantize_linear(np.uint8([8, 10, 255]), np.float32(0.5), np.uint8(10))
    array([ -1. ,   0. , 122.5], dtype=float32)
    """
    factor = _floats("x_scale", x_scale)
    not_zero("x_scale", factor)
    return dequantize_by(x, factor, x_zero_point, axis=axis, block_size=block_size, native=native)


def dequantize_by(
    x: npt.ArrayLike,
    x_scale: npt.ArrayLike,
    x_zero_point: npt.ArrayLike | None = None,
    *,
    axis: int = 1,
    block_size: int = 0,
    native: bool = True,
) -> Values:
    """`dequantize_linear` by any scale, as a graph may compute one."""
    values = plain("x", x)
    if values.dtype not in (*RANGES, np.dtype(np.int32)):
        raise TypeError(f"x must be int8, uint8 or int32, got {values.dtype}")
    factor = _floats("x_scale", x_scale)
    zero = zero_points("x_zero_point", x_zero_point, values.dtype)
    zero = along_axis("x_zero_point", zero, values.shape, axis, block_size)
    factor = along_axis("x_scale", factor, values.shape, axis, block_size)
    if native and factor.dtype == FLOAT32 and values.dtype in RANGES and not block_size:
        if factor.ndim == zero.ndim == 0:
            found = elementwise.dequantize(values, factor, int(zero))
        else:
            found = _along(scaled_rows.dequantize, values, factor, zero, FLOAT32)
        if found is not None:
            return found
    # The difference needs one bit more than x.
    wide = values.astype(np.int64 if values.dtype == np.int32 else np.int32)
    work = np.promote_types(np.float32, factor.dtype)
    with np.errstate(all="ignore"):  # what overflows is infinity, and a scale may be anything
        y = np.asarray((wide - zero).astype(work) * factor.astype(work))
    return y.astype(factor.dtype, copy=False)


def dynamic_quantize_linear(
    x: npt.ArrayLike, *, native: bool = True
) -> tuple[npt.NDArray[np.uint8], np.float32, np.uint8]:
    """Quantise to uint8 with the scale and zero point that `x` itself asks for (ONNX DynamicQuantizeLinear).

    The range is that of `x` widened to hold 0; ``y_scale = (max - min) / 255`` and ``y_zero_point = rint(-min / y_scale)``.

    Parameters
    ----------
    x : array_like of float32
        Any shape; finite.
    native : bool
        Whether native code may be used, which gives the same bits.

    Returns
    -------
    y : ndarray of uint8
        Shape of `x`.
    y_scale : float32
        1 where `x` is empty, all zeros, or so small that the scale would be 0.
    y_zero_point : uint8

    Raises
    ------
    TypeError
        If `x` is not float32.
    ValueError
        If `x` holds NaN or infinity, or its range is wider than float32 can hold.

    Examples
    --------
    >>> y, scale, zero_point = dynamic_quantize_linear(np.float32([0, 2, -3, -2.5, 1.34, 0.5]))
    >>> y, int(zero_point)
    (array([153, 255,   0,  26, 221, 179], dtype=uint8), 153)
    """
    scale: Any  # indexed with (), a 0-d array is a scalar, which its type does not say
    zero_point: Any
    y, scale, zero_point = dynamic_quantize_arrays(x, native=native)
    return y, scale[()], zero_point[()]


def dynamic_quantize_arrays(x: npt.ArrayLike, *, native: bool = True) -> tuple[npt.NDArray[np.uint8], Values, Values]:
    """`dynamic_quantize_linear` with scale and zero point as 0-d arrays, which are what an operator of a graph gives."""
    values = float32("x", x)
    if native:
        found = elementwise.dynamic_quantize(values)
        if found is not None:
            return found
    high = values.max(initial=np.float32(0))
    low = values.min(initial=np.float32(0))
    with np.errstate(all="ignore"):
        scale = np.float32(np.float32(high - low) / np.float32(255))
    if not np.isfinite(scale):
        raise ValueError(f"x must be finite and its range within float32, got {low}..{high}")
    if scale == 0:
        scale = np.float32(1)
    zero_point = np.rint(np.clip(np.float32(-low / scale), np.float32(0), np.float32(255)))
    y: Values = np.asarray(values / scale)
    np.rint(y, out=y)
    y += zero_point
    np.clip(y, np.float32(0), np.float32(255), out=y)
    return y.astype(np.uint8), np.asarray(scale), np.asarray(zero_point, np.uint8)


def quantize_rows(x: npt.ArrayLike) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """Quantise each row symmetrically to int8, so that its largest magnitude becomes 127.

    ``absmax = max(abs(row))``, ``scale = absmax / 127`` and ``q = rint(row * (127 / absmax))``, each step in float32. There is no zero
    point, and -128 is never used.

    Parameters
    ----------
    x : array_like of float32, shape (..., k)
        Rows run along the last axis; finite.

    Returns
    -------
    q : ndarray of int8, shape (..., k)
    scale : ndarray of float32, shape (...)
        ``q * scale[..., None]`` approximates `x`. It is 0 for a row of zeros, which products take in an array of
        scales and not as a scalar: quantise a single row as a matrix of one. A row whose largest magnitude is too small for
        ``127 / absmax`` to be a float32 (below 3.8e-37) becomes a row of zeros.

    Raises
    ------
    TypeError
        If `x` is not float32.
    ValueError
        If `x` is 0-d, or holds NaN or infinity.

    Examples
    --------
    >>> q, scale = quantize_rows(np.float32([[1, -2, 0.5]]))
    >>> q, scale * 127
    (array([[  64, -127,   32]], dtype=int8), array([2.], dtype=float32))
    """
    values = float32("x", x)
    if values.ndim == 0:
        raise ValueError("x must have at least one dimension, got a 0-d array")
    if values.size:
        k = values.shape[-1]
        found = elementwise.quantize_rows(contiguous(values).reshape(-1, k))
        if found is not None:
            return found[0].reshape(values.shape), found[1].reshape(values.shape[:-1])
    return rows_by_numpy(values)


def rows_by_numpy(values: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """Do it in numpy, and say where a row is not finite."""
    absmax = np.maximum(values.max(axis=-1, initial=np.float32(0)), -values.min(axis=-1, initial=np.float32(0)))
    # Which zero a maximum of both is depends on the machine; abs makes it +0.0 everywhere.
    absmax = np.abs(absmax)
    if not np.isfinite(absmax).all():
        where = np.argwhere(~np.isfinite(absmax))[0]
        raise ValueError(
            f"x must be finite, got nan or infinity in row {where.tolist() if where.size != 1 else int(where[0])}"
        )
    with np.errstate(divide="ignore", over="ignore"):
        inverse = np.asarray(np.float32(127) / absmax)
    np.copyto(inverse, 0, where=np.isinf(inverse))
    y = values * inverse[..., None]
    # |x * inverse| exceeds 127 by two roundings at most, so there is nothing to clip.
    return np.rint(y, out=y).astype(np.int8), np.asarray(absmax / np.float32(127))


def float32(name: str, value: npt.ArrayLike) -> npt.NDArray[np.float32]:
    """`value` as a float32 array; TypeError for any other type."""
    array = plain(name, value)
    if array.dtype != FLOAT32:
        raise TypeError(f"{name} must be float32, got {array.dtype}{of_a_list(name, value, 'float32')}")
    return array


def _along(
    convert: Callable[..., Values | None], x: Values, scale: Values, zero: Values, dtype: np.dtype[Any]
) -> Values | None:
    """What `convert` makes of the values that share a scale, which varies along one axis; None where that is not worth it."""
    axis = int(np.argmax(scale.shape if scale.ndim else zero.shape))
    length = x.shape[axis] if x.ndim else 0
    # Floats are four times as many bytes to be brought back into order, in which time numpy has made them.
    turned = math.prod(x.shape[:axis]) > 1
    if not x.size or x.size // length < LEAST_VALUES or (turned and dtype == FLOAT32):
        return None
    order = (axis, *(i for i in range(x.ndim) if i != axis))
    moved = contiguous(x.transpose(order))
    scales = np.ascontiguousarray(np.broadcast_to(scale.reshape(-1), length))
    zeros = np.broadcast_to(zero.reshape(-1), length)
    y = convert(moved.reshape(length, -1), scales, zeros, dtype)
    return None if y is None else contiguous(y.reshape(moved.shape).transpose(np.argsort(order)))


def _floats(name: str, value: npt.ArrayLike) -> Values:
    """Scales in the type they have."""
    array = plain(name, value)
    if array.dtype.kind != "f":
        raise TypeError(f"{name} must be floats, got {array.dtype}")
    return array


def _target_dtype(zero_point: npt.ArrayLike | None, dtype: npt.DTypeLike | None) -> np.dtype[Any]:
    """The type quantize_linear produces, from its two arguments that can say so."""
    given = np.dtype(dtype) if dtype is not None else None
    if given is not None and given not in RANGES:
        raise TypeError(f"dtype must be int8 or uint8, got {given}")
    if isinstance(zero_point, (np.ndarray, np.generic)) and zero_point.dtype not in RANGES:
        raise TypeError(f"y_zero_point must be int8 or uint8, got {zero_point.dtype}")
    kind = output_dtype(zero_point, given or np.dtype(np.uint8))
    if given is not None and kind != given:
        raise TypeError(f"dtype must be the type of y_zero_point, {kind}, got {given}")
    return kind
