"""Checks of arguments: what is taken for an array, and zero points, scales, bias and `out` of the quantised operators."""

from __future__ import annotations

import math
import operator
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

#: Those of 8 bits by their letters, which are found sooner.
_BYTES = {dtype.char: limits for dtype, limits in RANGES.items()}

#: Types of a zero point that is looked at without making an array of it.
_SCALARS = frozenset((int, np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64))


#: Devices of DLPack whose memory this processor reads: its own, and its own as CUDA and ROCm lock it.
_READABLE = frozenset((1, 3, 11))


def an_int(name: str, value: Any) -> int:
    """`value` as an int, or a TypeError with its name."""
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an int, got {type(value).__name__}") from None


def plain(name: str, value: Any) -> Values:
    """`value` as an array of class ndarray: what numpy takes, and what other libraries hand over by DLPack, without a copy.

    Raises
    ------
    TypeError
        It is None, a masked array, lies in the memory of another device, or describes itself in a way that numpy does not take.
    ValueError
        It is a list of which numpy makes no array.
    """
    if type(value) is np.ndarray:
        return value
    if value is None:
        raise TypeError(f"{name} must be an array, got None")
    if masked(value):
        raise TypeError(
            f"{name} must not be a masked array, whose mask would be lost: numpy.ma.filled makes an array of it"
        )
    if hasattr(value, "__dlpack__") and hasattr(value, "__dlpack_device__") and not isinstance(value, np.ndarray):
        return _handed_over(name, value)
    try:
        array: Values = np.asarray(value)
    except (TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{name} must be an array, got what numpy makes none of: {error}") from error
    return array


def masked(value: object) -> bool:
    """Whether `value` is a masked array; numpy.ma is not imported to see that an ndarray is none."""
    return isinstance(value, np.ndarray) and type(value) is not np.ndarray and isinstance(value, np.ma.MaskedArray)


def _handed_over(name: str, value: Any) -> Values:
    """What an object of another library hands over by DLPack."""
    kind = type(value).__name__
    device = value.__dlpack_device__()
    if not isinstance(device, tuple) or len(device) != 2:
        raise TypeError(f"{name} must say which DLPack device it is on by two numbers, got {device!r} from a {kind}")
    if device[0] not in _READABLE:
        raise TypeError(
            f"{name} must be in the memory of the processor, got a {kind} on DLPack device {tuple(map(int, device))}"
        )
    try:
        array: Values = np.from_dlpack(value)
    except (BufferError, RuntimeError, TypeError, ValueError) as error:
        raise TypeError(
            f"{name} must be of a type that numpy has, got a {kind} that it does not take: {error}"
        ) from error
    return array


def quantized(name: str, value: npt.ArrayLike) -> Quantized:
    """`value` as an int8 or uint8 array; TypeError for anything else."""
    array = plain(name, value)
    # By their letters types are known sooner than by a dictionary, which takes the hash of all that a type is.
    if array.dtype.char not in "bB":
        raise TypeError(f"{name} must be int8 or uint8, got {array.dtype}{of_a_list(name, value, 'int8')}")
    return array


def of_a_list(name: str, value: object, kind: str) -> str:
    """What a message says more of a list: it has no type of its own, and that which numpy chooses is never the one wanted here."""
    return f"; np.array({name}, np.{kind}) makes a list {kind}" if isinstance(value, (list, tuple)) else ""


def zero_points(name: str, value: npt.ArrayLike | None, dtype: np.dtype[Any]) -> Values:
    """Zero points of values of type `dtype`, as int32 in the shape given (None is 0); each must fit `dtype`."""
    if value is None:
        return np.zeros((), np.int32)
    low, high = _BYTES.get(dtype.char) or _INTEGERS[dtype]
    if type(value) in _SCALARS:
        number = int(value)  # type: ignore[arg-type]  # one of those types
        if not low <= number <= high:  # even one that no type of numpy holds
            raise ValueError(f"{name} must be within {low}..{high}, the range of {dtype}, got {number}")
        return np.array(number, np.int32)
    array = plain(name, value)
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name} must be integers that fit {dtype}, got {array.dtype}")
    if array.dtype != dtype and array.size and (array.min() < low or array.max() > high):
        bad = array[(array < low) | (array > high)].flat[0]
        raise ValueError(f"{name} must be within {low}..{high}, the range of {dtype}, got {bad}")
    return array.astype(np.int32)


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
    if type(value) is np.float32:
        return np.array(value)
    array = plain(name, value)
    if array.dtype.kind != "f":
        raise TypeError(f"{name} must be floats, got {array.dtype}")
    if array.dtype.char == "f":
        return array.astype(np.float32)
    with np.errstate(over="ignore"):  # what does not fit float32 is reported where scales combine
        return array.astype(np.float32)


def factors(name: str, value: npt.ArrayLike) -> Values:
    """Scales that products are multiplied with, as float32 in the shape given, checked by `not_zero`."""
    array = scales(name, value)
    not_zero(name, array)
    return array


def not_zero(name: str, value: Values) -> None:
    """ValueError for a scale of 0 without a dimension: one for everything, with which nothing is left of any value.

    An array of scales may hold it, as that of a row, column or channel of zeros, whose greatest magnitude is 0.
    """
    if not value.ndim and not value:
        raise ValueError(
            f"{name} must not be 0 in {value.dtype}, got {value}; an array of scales may hold 0 for what is all zeros"
        )


def divisor(name: str, value: Values) -> Values:
    """Scales that something is divided by; ValueError where one is 0, NaN or infinite."""
    if not value.ndim and math.isfinite(value) and value:
        return value
    good = np.isfinite(value) & (value != 0)
    if not good.all():
        raise ValueError(f"{name} must be finite and not 0 in {value.dtype}, got {value[~good].flat[0]}")
    return value


def product_scale(a: Values, b: Values, y: Values, names: tuple[str, str, str]) -> Values:
    """``(a * b) / y`` in float32, each step rounded once: the factor from a product to its quantised value.

    A scale of 0 in `a` or `b` is one: that of values which are all 0 (`factors` refuses the others).
    """
    divisor(names[2], y)
    with np.errstate(all="ignore"):
        factor: Values = np.asarray(a * b / y)
    if np.isfinite(factor).all():
        return factor  # which it is for none that is infinite or NaN
    both = " * ".join(names[:2])
    for name, value in ((names[0], a), (names[1], b), (f"{both} / {names[2]}", factor)):
        if not np.isfinite(value).all():
            raise ValueError(f"{name} must be finite in float32, got {value[~np.isfinite(value)].flat[0]}")
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


def along_axis(name: str, value: Values, shape: tuple[int, ...], axis: int, block_size: int) -> Values:
    """Reshape a scale or zero point so that it broadcasts against an array of `shape`."""
    if value.size == 1 and not block_size:
        return value.reshape(())
    axis, block_size = an_int("axis", axis), an_int("block_size", block_size)
    if not -len(shape) <= axis < len(shape):
        raise ValueError(f"axis must be within -{len(shape)}..{len(shape) - 1} for x of shape {shape}, got {axis}")
    axis %= len(shape)
    length = shape[axis]
    if block_size:
        return _blocks(name, value, shape, axis, block_size)
    if value.shape != (length,):
        raise ValueError(
            f"{name} must be a scalar or have shape {(length,)}, one value along axis {axis} of x, got {value.shape}"
        )
    return value.reshape([length if i == axis else 1 for i in range(len(shape))])


def _blocks(name: str, value: Values, shape: tuple[int, ...], axis: int, block_size: int) -> Values:
    """Repeat one value per block to one value per element of `axis`."""
    if block_size < 0:
        raise ValueError(f"block_size must not be negative, got {block_size}")
    if value.ndim == 0:
        return value
    length = shape[axis]
    wanted = (*shape[:axis], -(-length // block_size), *shape[axis + 1 :])
    if value.shape != wanted:
        raise ValueError(
            f"{name} must have shape {wanted}, one value per block of {block_size} along axis {axis}, got {value.shape}"
        )
    # A block is no longer than the axis, whatever its size.
    return np.take(np.repeat(value, min(block_size, length), axis=axis), range(length), axis=axis)


def bias_vector(name: str, value: npt.ArrayLike | None, n: int, dtype: npt.DTypeLike) -> Values | None:
    """A bias of type `dtype` and shape ``(n,)``, or None."""
    if value is None:
        return None
    array = plain(name, value)
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


def check_out(out: Values, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Values:
    """Raise as numpy does unless `out` is a writeable array of `shape` and `dtype`; return it as one of class ndarray.

    That is what to write to: a subclass may say of its shape and strides what it likes.
    """
    if masked(out) or not isinstance(out, np.ndarray):
        raise TypeError(f"out must be an array of {dtype}, got {type(out).__name__}")
    array: Values = np.asarray(out)
    if array.dtype != dtype:
        raise TypeError(f"out must be {dtype}, got {array.dtype}")
    if array.shape != shape:
        raise ValueError(f"out must have shape {shape}, got {array.shape}")
    if not array.flags.writeable:
        raise ValueError("out is read-only")
    return array
