"""The product on any machine, exact, at the speed of the float32 BLAS that numpy brings.

Why float32 is exact here: the product of two int8 values is at most 2**14 in magnitude, so any sum
of `CHUNK` = 1024 of them is at most 2**24, and float32 represents every integer up to 2**24.
Whatever the order in which BLAS adds and whether it fuses the multiplication, no partial sum is
ever rounded. The sums of the chunks are added in int32, which wraps modulo 2**32 as the native
kernels do.

Only int8 by int8 comes here: uint8 operands have been moved to int8 by subtracting 128, which the
callers make good with row and column sums. Multiplying uint8 values as they are would need shorter
chunks (products reach 255 * 255).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["CHUNK", "gemm"]

#: Longest K whose sums are exact in float32: 2**24 / 2**14.
CHUNK = 1024

# Rows and columns of a block: however large the operands, its float32 copies take 16 MiB at most.
BLOCK = 1024


def gemm(a: NDArray[np.int8], b: NDArray[np.int8], out: NDArray[np.int32]) -> None:
    """Write the product of `a` and `b` to `out`, exactly, modulo 2**32.

    Parameters
    ----------
    a : ndarray of int8, shape (..., m, k)
    b : ndarray of int8, shape (..., k, n)
        The leading dimensions are broadcast against those of `a`.
    out : ndarray of int32, shape (..., m, n)
        Overwritten. It must not share memory with `a` or `b`.

    Examples
    --------
    >>> c = np.empty((1, 1), np.int32)
    >>> gemm(np.full((1, 200000), -128, np.int8), np.full((200000, 1), -128, np.int8), c)
    >>> int(c[0, 0]) == (200000 * 128 * 128 + 2**31) % 2**32 - 2**31
    True
    """
    if out.size == 0:
        return
    if a.shape[-1] == 0:
        out[...] = 0
        return
    if out.ndim > 2:
        _batches(a, b, out)
        return
    for i in range(0, a.shape[0], BLOCK):
        for j in range(0, b.shape[1], BLOCK):
            _block(a[i : i + BLOCK], b[:, j : j + BLOCK], out[i : i + BLOCK, j : j + BLOCK])


def _block(a: NDArray[np.int8], b: NDArray[np.int8], out: NDArray[Any]) -> None:
    """Multiply operands whose float32 copies are small, chunk of K by chunk of K."""
    for start in range(0, a.shape[-1], CHUNK):
        chunk = slice(start, start + CHUNK)
        # Vector BLAS kernels raise floating-point flags in lanes they then discard, and numpy would warn of them.
        with np.errstate(all="ignore"):
            part = np.matmul(a[..., chunk].astype(np.float32), b[..., chunk, :].astype(np.float32))
        if start == 0:
            np.copyto(out, part, casting="unsafe")
        else:
            out += part.astype(np.int32)


def _batches(a: NDArray[np.int8], b: NDArray[np.int8], out: NDArray[np.int32]) -> None:
    """Multiply stacks of matrices: all at once while they are small, else one after another."""
    m, k, n = a.shape[-2], min(a.shape[-1], CHUNK), b.shape[-1]
    stack = out.shape[:-2]
    if math.prod(stack) * max(m * k, k * n, m * n) <= BLOCK * CHUNK:
        _block(a, b, out)
        return
    left = np.broadcast_to(a, stack + a.shape[-2:])
    right = np.broadcast_to(b, stack + b.shape[-2:])
    for index in np.ndindex(stack):
        gemm(left[index], right[index], out[index])
