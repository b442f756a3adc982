"""Arrays of every memory layout that numpy can hand over, and what their product is in 64-bit integers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def filled(rng: np.random.Generator, shape: tuple[int, ...], dtype: npt.DTypeLike, values: str = "random") -> Array:
    """An int8 or uint8 array of random values, or of nothing but the least or the greatest."""
    limits = np.iinfo(np.dtype(dtype))
    if values == "random":
        return rng.integers(limits.min, limits.max, shape, dtype=dtype, endpoint=True)
    return np.full(shape, {"lowest": limits.min, "highest": limits.max}[values], dtype)


def _within(x: Array, step: int) -> Array:
    """``x`` as a slice of a larger array, every ``step``-th element of each axis, backwards where it is negative."""
    wide = np.full([abs(step) * size + 3 for size in x.shape], 85, x.dtype)
    place = tuple(slice(1, 1 + abs(step) * size, abs(step)) for size in x.shape)
    if step > 0:
        wide[place] = x
        return wide[place]
    backwards = tuple(slice(None, None, -1) for _ in x.shape)
    wide[place] = x[backwards]
    return wide[place][backwards]


def _one_backwards(x: Array) -> Array:
    """Only the last axis runs backwards."""
    return np.ascontiguousarray(x[..., ::-1])[..., ::-1]


def _read_only(x: Array) -> Array:
    copy = x.copy()
    copy.setflags(write=False)
    return copy


def _broadcast(x: Array) -> Array:
    """The first element of the last axis, seen all along it (other values than ``x`` has)."""
    return np.broadcast_to(x[..., :1], x.shape)


def _broadcast_rows(x: Array) -> Array:
    """The first row, or matrix, seen all along the first axis."""
    return np.broadcast_to(x[:1], x.shape)


# Each takes an array and returns one of the same shape and type in another layout.
LAYOUTS: dict[str, Callable[[Array], Array]] = {
    "contiguous": np.ascontiguousarray,
    "fortran": np.asfortranarray,
    "swapped": lambda x: np.ascontiguousarray(x.swapaxes(0, -1)).swapaxes(0, -1),
    "window": lambda x: _within(x, 1),
    "sliced": lambda x: _within(x, 3),
    "backwards": lambda x: _within(x, -1),
    "sliced_backwards": lambda x: _within(x, -2),
    "one_backwards": _one_backwards,
    "read_only": _read_only,
    "broadcast": _broadcast,
    "broadcast_rows": _broadcast_rows,
}

# Those that can be written to without writing one element twice.
WRITABLE = ("contiguous", "fortran", "swapped", "window", "sliced", "backwards", "sliced_backwards", "one_backwards")


def wrapped(exact: Array) -> Array:
    """64-bit integers taken modulo 2^32, as int32."""
    return np.asarray(exact, np.int64).astype(np.int32)


def product(a: Array, b: Array) -> Array:
    """numpy's own product in 64-bit integers, modulo 2^32: what every kernel has to give."""
    return wrapped(np.matmul(a.astype(np.int64), b.astype(np.int64)))
