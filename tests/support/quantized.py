"""Quantised numbers for tests: operands of the whole range, and a rounding that owes nothing to numpy's."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import numpy.typing as npt

KINDS = {"i8": np.int8, "u8": np.uint8}
RANGE = {np.dtype(np.int8): (-128, 127), np.dtype(np.uint8): (0, 255)}


def many(cases: int) -> int:
    """How many random cases to try: all of them, or a twentieth where the interpreter is emulated, some thirty times slower."""
    return max(10, cases // 20) if "QEMU_CPU" in os.environ else cases


def operand(rng: np.random.Generator, dtype: npt.DTypeLike, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """Values of the whole range, the extremes among them often."""
    low, high = RANGE[np.dtype(dtype)]
    values = rng.integers(low, high + 1, shape)
    return np.where(rng.random(shape) < 0.2, rng.choice([low, high], shape), values).astype(dtype)


def nearest_even(x: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Round by integer arithmetic: the nearest, ties to even."""
    x = np.asarray(x, np.float64)
    floor = np.floor(x)
    rest = x - floor
    low = floor.astype(np.int64)
    return low + ((rest > 0.5) | ((rest == 0.5) & (low % 2 == 1)))


def requantized(
    acc: npt.ArrayLike, scale: npt.ArrayLike, zero_point: int, dtype: npt.DTypeLike
) -> npt.NDArray[np.int64]:
    """The definition, a step at a time: float32 of the sum, float32 product, integer rounding, integer saturation."""
    product = np.asarray(acc, np.int32).astype(np.float32) * np.asarray(scale, np.float32)
    low, high = RANGE[np.dtype(dtype)]
    return np.clip(nearest_even(np.clip(product, -1e9, 1e9)) + int(zero_point), low, high)
