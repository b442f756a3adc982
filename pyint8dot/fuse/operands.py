"""What a fused op is, and how its operands are checked."""

from __future__ import annotations

import enum
import operator
from abc import ABC, abstractmethod
from dataclasses import fields
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

Int32Array = npt.NDArray[np.int32]
Slices = tuple[slice, slice]

INT32 = np.iinfo(np.int32)


class FusedOp(ABC):
    """What every fused op can do: check its operands, and change a block."""

    axes: ClassVar[dict[str, str]] = {}
    """The operands that are arrays and their axes: m rows, n columns, k neither."""

    def check(self, m: int, n: int) -> None:
        """Raise ValueError unless the operands fit an m x n matrix."""
        for name, axes in self.axes.items():
            shape = getattr(self, name).shape
            known = {"m": m, "n": n}
            wanted = tuple(known.get(axis, length) for axis, length in zip(axes, shape, strict=True))
            if shape != wanted:
                raise ValueError(f"{name} has shape {shape}, a {m} x {n} matrix wants {wanted}")

    def __repr__(self) -> str:
        words = (f"{field.name}={_short(getattr(self, field.name))}" for field in fields(self))  # type: ignore[arg-type]  # each is a dataclass
        return f"{type(self).__name__}({', '.join(words)})"

    @abstractmethod
    def run(self, acc: Int32Array, at: Slices) -> None:
        """Change `acc`, the block at the rows and columns `at`, in place."""


def _short(value: object) -> str:
    """How an operand is shown: an array by its type and shape, of the rest what makes it again."""
    if isinstance(value, np.ndarray):
        return f"<{value.dtype} {value.shape}>"
    return str(value) if isinstance(value, enum.Enum) else repr(value)


def integer(name: str, value: Any, low: int, high: int) -> int:
    """Return `value` as an int from `low` to `high`, or raise an error with its name."""
    if isinstance(value, (bool, np.bool_)) or not hasattr(value, "__index__"):
        raise TypeError(f"{name} must be an integer, got {type(value).__name__}")
    number = operator.index(value)
    if not low <= number <= high:
        raise ValueError(f"{name} must be from {low} to {high}, got {number}")
    return number


def vector(name: str, values: npt.ArrayLike) -> Int32Array:
    """Return `values` as a 1-D int32 array; a list of int and narrower integers will do."""
    array = np.asarray(values)
    if array.ndim != 1:
        raise ValueError(f"{name} must have one dimension, got shape {array.shape}")
    if not isinstance(values, np.ndarray):
        # A list has no dtype of its own: its values decide.
        return np.array([integer(name, v, INT32.min, INT32.max) for v in array.tolist()], np.int32)
    if array.dtype.kind not in "iu" or not np.can_cast(array.dtype, np.int32):
        raise TypeError(f"{name} must be int32, got {array.dtype}")
    return array.astype(np.int32, copy=False)


def check_matrix(name: str, array: object, dtypes: tuple[type[np.generic], ...]) -> None:
    """Raise unless `array` is a 2-D array of one of `dtypes`."""
    wanted = " or ".join(dtype.__name__ for dtype in dtypes)
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{name} must be an array of {wanted}, got {type(array).__name__}")
    if array.dtype not in dtypes:
        raise TypeError(f"{name} must be {wanted}, got {array.dtype}")
    if array.ndim != 2:
        raise ValueError(f"{name} must have two dimensions, got shape {array.shape}")


def check_writeable(name: str, array: npt.NDArray[Any]) -> None:
    """Raise ValueError if `array` is read-only."""
    if not array.flags.writeable:
        raise ValueError(f"{name} is read-only")
