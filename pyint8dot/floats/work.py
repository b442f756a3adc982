"""What the float32 functions share: where they work, in which pieces, and sums and polynomials in a fixed order."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt

from pyint8dot.arguments import check_out

FloatArray = npt.NDArray[np.float32]

BLOCK = 32768
"""Elements that one pass of a ufunc covers: three buffers of this size stay in a second-level cache."""

ONE = np.float32(1.0)
HALF = np.float32(0.5)


def prepared(x: FloatArray, out: FloatArray | None, *, copy: bool = True) -> tuple[FloatArray, FloatArray]:
    """Check the arguments; return the result and a C-contiguous array to work in, holding a copy of `x` unless `copy` is False."""
    if x.dtype != np.float32:
        raise TypeError(f"x must be float32, got {x.dtype}")
    out = np.empty(x.shape, dtype=np.float32) if out is None else check_out(out, x.shape, x.dtype)
    work = out if out.flags.c_contiguous else np.empty(x.shape, dtype=np.float32)
    if copy and work is not x:
        np.copyto(work, x)
    return out, work


def finished(result: FloatArray, work: FloatArray) -> FloatArray:
    """Bring the work to where the caller wants it."""
    if work is not result:
        np.copyto(result, work)
    return result


def length(x: FloatArray) -> int:
    """Return the length of the last axis."""
    if x.ndim == 0:
        raise ValueError("x must have at least one dimension, got a 0-d array")
    return int(x.shape[-1])


def vector(name: str, value: FloatArray, n: int) -> FloatArray:
    """Return a float32 vector of `n` values as one that native code can read."""
    if value.dtype != np.float32:
        raise TypeError(f"{name} must be float32, got {value.dtype}")
    if value.shape != (n,):
        raise ValueError(f"{name} must have shape {(n,)}, got {value.shape}")
    return contiguous(value)


def contiguous(x: FloatArray) -> FloatArray:
    """Return an array that native code can read; a flag is looked at faster than numpy's function is called."""
    return x if x.flags.c_contiguous else np.ascontiguousarray(x)


def readable(x: FloatArray, work: FloatArray) -> FloatArray:
    """Return an array that a loop over rows can read while it writes to another: the same one, or one apart from it."""
    return x if x is work or not np.may_share_memory(x, work) else x.copy()


def scratch(size: int, count: int) -> list[FloatArray]:
    """Buffers for one block each."""
    return [np.empty(min(size, BLOCK), dtype=np.float32) for _ in range(count)]


def blocks(size: int) -> list[tuple[int, int]]:
    """Cut a flat array into ranges of at most BLOCK elements."""
    return list(pairwise([*range(0, size, BLOCK), size]))


def horner(x: FloatArray, coefficients: tuple[np.float32, ...], out: FloatArray) -> None:
    """Evaluate a polynomial, lowest coefficient first, multiply and add in turn."""
    *lower, second, highest = coefficients
    np.multiply(x, highest, out=out)
    np.add(out, second, out=out)
    for c in reversed(lower):
        np.multiply(out, x, out=out)
        np.add(out, c, out=out)


def sums_of(rows: FloatArray, lanes: int) -> FloatArray:
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
