"""Checks of the quantised operators' arguments: zero points, scales, bias and `out`."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Values: TypeAlias = npt.NDArray[Any]
Quantized: TypeAlias = npt.NDArray[Any]  # of int8 or uint8

#: The two quantised types, with the least and the greatest value of each.
RANGES: dict[np.dtype[Any], tuple[int, int]] = {
    np.dtype(np.int8): (-128, 127),
    np.dtype(np.uint8): (0, 255),
}


#: With int32, which may be dequantised as well.
_INTEGERS = {**RANGES, np.dtype(np.int32): (-(2**31), 2**31 - 1)}


def quantized(name: str, value: npt.ArrayLike) -> Quantized:
    """`value` as an int8 or uint8 array; TypeError for anything else."""
    array: Values = np.asarray(value)
    if array.dtype not in RANGES:
        raise TypeError(f"{name} must be int8 or uint8, got {array.dtype}")
    return array


def zero_points(name: str, value: npt.ArrayLike | None, dtype: np.dtype[Any]) -> Values:
    """Zero points of values of type `dtype`, as int32 in the shape given (None is 0); each must fit `dtype`."""
    if value is None:
        return np.zeros((), np.int32)
    array: Values = np.asarray(value)
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name} must be integers that fit {dtype}, got {array.dtype}")
    low, high = _INTEGERS[dtype]
    if array.dtype != dtype and array.size and (array.min() < low or array.max() > high):
        raise ValueError(f"{name} must be within {low}..{high}, the range of {dtype}, got {array.min()}..{array.max()}")
    return array.astype(np.int32)


#: Types of a zero point that is looked at without making an array of it.
_SCALARS = frozenset((int, np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64))


def small_zero(value: Any, dtype: np.dtype[Any]) -> int | None:
    """A single zero point that fits `dtype` as an int; None for anything else, which `zero_points` has the words for."""
    kind = type(value)
    if kind in _SCALARS:
        number = int(value)
    elif kind is np.ndarray and value.ndim == 0:
        number = value.item()
        if type(number) is not int:
            return None
    else:
        return None
    low, high = RANGES[dtype]
    return number if low <= number <= high else None


def scales(name: str, value: npt.ArrayLike) -> Values:
    """Scales as float32 in the shape given."""
    array: Values = np.asarray(value)
    if array.dtype.kind != "f":
        raise TypeError(f"{name} must be floats, got {array.dtype}")
    with np.errstate(over="ignore"):  # what does not fit float32 is reported where scales combine
        return array.astype(np.float32)


def product_scale(a: Values, b: Values, y: Values, names: str) -> Values:
    """``(a * b) / y`` in float32, each step rounded once: the factor from a product to its quantised value."""
    with np.errstate(all="ignore"):
        factor: Values = np.asarray(a * b / y)
    if not np.isfinite(factor).all():
        bad = factor[~np.isfinite(factor)].flat[0]
        raise ValueError(f"{names} must be finite in float32, got {bad}")
    return factor


def scalar(name: str, value: Values) -> Values:
    """`value` as a 0-d array; ValueError unless it holds one element."""
    if value.size != 1:
        raise ValueError(f"{name} must be a scalar, got shape {value.shape}")
    return value.reshape(())


def per_row(name: str, value: Values, rows: tuple[int, ...]) -> Values:
    """`value` as 0-d, or one per row: shape `rows`, the shape of the matrices without their last dimension.

    Accepted are a scalar, ``(m,)``, and whatever broadcasts to ``(*rows, 1)``.
    """
    if value.size == 1:
        return value.reshape(())
    if rows and value.shape == rows[-1:]:
        return np.broadcast_to(value, rows)
    if value.ndim >= 2 and value.shape[-1] == 1:
        try:
            return np.broadcast_to(value[..., 0], rows)
        except ValueError:
            pass  # reported below, with the shapes the caller knows
    wanted = f" or one per row, shape {rows[-1:]} or {(*rows, 1)}" if rows else ""
    raise ValueError(f"{name} must be a scalar{wanted}, got shape {value.shape}")


def per_column(name: str, value: Values, batch: tuple[int, ...], n: int | None) -> Values:
    """`value` as 0-d, or one per column: shape ``(*batch, n)``.

    Accepted are a scalar, ``(n,)``, and whatever broadcasts to ``(*batch, 1, n)``. `n` is None where the operand is a vector.
    """
    if value.size == 1:
        return value.reshape(())
    if n is not None and value.shape == (n,):
        return np.broadcast_to(value, (*batch, n))
    if n is not None and value.ndim >= 2 and value.shape[-2] == 1:
        try:
            return np.broadcast_to(value[..., 0, :], (*batch, n))
        except ValueError:
            pass  # reported below, with the shapes the caller knows
    wanted = f" or one per column, shape {(n,)} or {(*batch, 1, n)}" if n is not None else ""
    raise ValueError(f"{name} must be a scalar{wanted}, got shape {value.shape}")


def bias_vector(name: str, value: npt.ArrayLike | None, n: int, dtype: npt.DTypeLike) -> Values | None:
    """A bias of type `dtype` and shape ``(n,)``, or None."""
    if value is None:
        return None
    array: Values = np.asarray(value)
    if array.dtype != np.dtype(dtype):
        raise TypeError(f"{name} must be {np.dtype(dtype)}, got {array.dtype}")
    if array.shape != (n,):
        raise ValueError(f"{name} must have shape {(n,)}, got {array.shape}")
    return array


def output_dtype(zero_point: npt.ArrayLike | None, default: np.dtype[Any]) -> np.dtype[Any]:
    """The type of a quantised result: that of a typed int8 or uint8 zero point, else `default`."""
    if isinstance(zero_point, (np.ndarray, np.generic)) and zero_point.dtype in RANGES:
        return np.dtype(zero_point.dtype)
    return default


def check_out(out: Values, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Raise as numpy does unless `out` is a writeable array of `shape` and `dtype`."""
    if not isinstance(out, np.ndarray):
        raise TypeError(f"out must be an array of {dtype}, got {type(out).__name__}")
    if out.dtype != dtype:
        raise TypeError(f"out must be {dtype}, got {out.dtype}")
    if out.shape != shape:
        raise ValueError(f"out must have shape {shape}, got {out.shape}")
    if not out.flags.writeable:
        raise ValueError("out is read-only")
