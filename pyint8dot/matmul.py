"""matmul() and mmm(): the products a user calls. The only file that knows the order: check, choose, pack, multiply, epilogue."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from pyint8dot import fuse
from pyint8dot.arguments import check_out
from pyint8dot.engine import chains, gemm, kernels, native, settings, threads
from pyint8dot.engine.packing import PackedMatrix
from pyint8dot.fuse import BinOp, BinScalar
from pyint8dot.fuse.rounding import QScale, RoundingShiftRight, Scaler

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from pyint8dot.engine.kernels import Kernel

__all__ = ["matmul", "mmm"]

INT8 = np.dtype(np.int8)
UINT8 = np.dtype(np.uint8)
INT32 = np.dtype(np.int32)


# Named here, since the commonest call is mostly look-ups.
_current, _NOTHING = settings.current, settings.NOTHING


def matmul(
    a: ArrayLike,
    b: ArrayLike | PackedMatrix,
    *,
    out: NDArray[np.int32] | None = None,
    kernel: str | None = None,
    num_threads: int | None = None,
) -> NDArray[np.int32]:
    """Multiply int8 or uint8 matrices exactly, with an int32 result.

    Shapes follow `numpy.matmul`: one-dimensional operands lose their dimension in the result, leading dimensions are
    stacks of matrices and are broadcast.

    Parameters
    ----------
    a : array_like of int8 or uint8, shape (..., m, k) or (k,)
        Any strides.
    b : array_like of int8 or uint8, shape (..., k, n) or (k,), or PackedMatrix of shape (k, n)
        A matrix used more than once is best packed once, by `pack`.
    out : ndarray of int32, optional
        Where to write; of exactly the shape of the result, any strides. It may overlap the operands.
    kernel : str, optional
        Name of the kernel to run; by default the best this machine has (`kernel_info` tells which).
    num_threads : int, optional
        How many threads to use; by default `get_num_threads`. The result does not depend on it.

    Returns
    -------
    ndarray of int32
        `out`, or a new array. Sums are exact while they fit int32, which they do for every input up to k = 131071
        (int8 by int8), 65793 (uint8 by int8) or 33025 (uint8 by uint8); beyond that they wrap modulo 2**32, as numpy's.

    Raises
    ------
    TypeError
        If an operand is not int8 or uint8 (nothing is cast silently), or `out` is not an int32 array.
    ValueError
        If shapes do not fit, `out` has another shape or is read-only, or the kernel is unknown or cannot run here
        (`KernelError`).

    Examples
    --------
    >>> a = np.array([[-128, -128], [1, 2]], np.int8)
    >>> matmul(a, a.T)
    array([[32768,  -384],
           [ -384,     5]], dtype=int32)
    """
    # The commonest call, kept as short as its checks allow.
    if type(b) is PackedMatrix and out is None and kernel is None and num_threads is None and _current() is _NOTHING:
        c = b.short.multiply(a)
        if c is not None:
            return c
    chosen = kernels.select(kernel)
    count = threads.get_num_threads() if num_threads is None else threads.checked(num_threads)
    return _matmul(chosen, _array("a", a), b if isinstance(b, PackedMatrix) else _array("b", b), out, count)


def _array(name: str, value: Any) -> NDArray[Any]:
    """`value` as an array of int8 or uint8 with at least one dimension."""
    if isinstance(value, PackedMatrix):
        raise TypeError(f"{name} must be an array of int8 or uint8, got a PackedMatrix, which can only be b")
    array = np.asarray(value)
    if array.dtype not in (INT8, UINT8):
        raise TypeError(f"{name} must be int8 or uint8, got {array.dtype}")
    if array.ndim == 0:
        raise ValueError(f"{name} must have at least one dimension, got a 0-d array")
    return array


def _matmul(
    kernel: Kernel,
    a: NDArray[Any],
    b: NDArray[Any] | PackedMatrix,
    out: NDArray[np.int32] | None,
    count: int,
) -> NDArray[np.int32]:
    rows = a[None, :] if a.ndim == 1 else a
    columns = b if isinstance(b, PackedMatrix) else b[:, None] if b.ndim == 1 else b
    if rows.shape[-1] != columns.shape[-2]:
        raise ValueError(
            f"matmul: b must have as many rows as a has columns, got shapes {a.shape} and {b.shape}"
            f" ({columns.shape[-2]} is different from {rows.shape[-1]})"
        )
    lead, stacked = rows.shape[:-2], columns.shape[:-2]
    if stacked:
        try:
            lead = np.broadcast_shapes(lead, stacked)
        except ValueError:
            raise ValueError(
                f"matmul: a and b must have leading dimensions that broadcast, got shapes {a.shape} and {b.shape}"
            ) from None
    full = (*lead, rows.shape[-2], columns.shape[-1])
    shape = lead + full[-2:-1] * (a.ndim > 1) + full[-1:] * (b.ndim > 1)
    if out is not None:
        check_out(out, shape, INT32)

    # A result that overlaps an operand is made beside it and copied; so is one of another number of dimensions.
    direct = out is not None and shape == full and not overlaps(out, a, b)
    c = out if out is not None and direct else np.empty(full, INT32)
    if columns.ndim == 2 and (not lead or c.flags.c_contiguous):
        # One right operand for the whole stack: it is one tall matrix.
        height = math.prod(full[:-1])
        tall = rows.reshape(height, rows.shape[-1])
        gemm.product(kernel, tall, columns, c.reshape(height, full[-1]), num_threads=count)
    else:
        left = np.broadcast_to(rows, lead + rows.shape[-2:])
        stack = columns if isinstance(columns, PackedMatrix) else np.broadcast_to(columns, lead + columns.shape[-2:])
        for index in np.ndindex(lead):
            right = stack if isinstance(stack, PackedMatrix) else stack[index]
            gemm.product(kernel, left[index], right, c[index], num_threads=count)
    if out is None:
        # As numpy's, the product of two vectors is a scalar.
        result: NDArray[np.int32] = c.reshape(shape) if shape else c.reshape(())[()]
        return result
    if not direct:
        out[...] = c.reshape(shape)
    return out


def overlaps(out: NDArray[Any], *operands: NDArray[Any] | PackedMatrix) -> bool:
    """Whether `out` may share memory with an operand; a PackedMatrix has memory of its own."""
    return any(isinstance(operand, np.ndarray) and np.may_share_memory(out, operand) for operand in operands)


def mmm(
    a: ArrayLike,
    b: ArrayLike | PackedMatrix,
    ops: Sequence[fuse.FusedOp] = (),
    *,
    out: NDArray[np.int32] | NDArray[np.int8] | None = None,
    kernel: str | None = None,
    num_threads: int | None = None,
) -> NDArray[Any]:
    """Multiply two matrices and run fused ops on the product: tract's "matrix multiply machine".

    The int32 product is made, `ops` run on it in order, and it is stored; operands given per row and per column are
    indexed by the rows and columns of the whole product.

    Parameters
    ----------
    a : array_like of int8 or uint8, shape (m, k)
    b : array_like of int8 or uint8, shape (k, n), or PackedMatrix
    ops : sequence of FusedOp
        See `pyint8dot.fuse`.
    out : ndarray of int32 or int8, shape (m, n), optional
        Where to store, any strides; it may overlap the operands. int8 keeps the low byte: clamp with a Min and a Max
        before. A new int32 array by default.
    kernel : str, optional
        Name of the kernel to run; by default the best this machine has.
    num_threads : int, optional
        How many threads to use.

    Returns
    -------
    ndarray of int32 or int8, shape (m, n)

    Raises
    ------
    TypeError
        If an operand, `out` or an op has another type than those above.
    ValueError
        If shapes do not fit.

    Examples
    --------
    >>> a = np.array([[1, 2], [3, 4]], np.int8)
    >>> mmm(a, a, [fuse.BinScalar(fuse.BinOp.Add, 100), fuse.BinPerRow(fuse.BinOp.Mul, [1, -1])])
    array([[ 107,  110],
           [-115, -122]], dtype=int32)
    """
    left = _array("a", a)
    right = b if isinstance(b, PackedMatrix) else _array("b", b)
    for name, operand in (("a", left), ("b", right)):
        if operand.ndim != 2:
            raise ValueError(f"{name} must be two-dimensional, got {operand.ndim} dimension(s)")
    m, n = left.shape[0], right.shape[1]
    if out is not None:
        check_out(out, (m, n), INT8 if getattr(out, "dtype", None) == INT8 else INT32)
    ops = fuse.check(ops, m, n)
    chosen = kernels.select(kernel)
    count = threads.get_num_threads() if num_threads is None else threads.checked(num_threads)
    if out is not None and _requantized(chosen, left, right, ops, out, count):
        return out
    acc = _matmul(chosen, left, right, None, count)
    # Further products run on the kernel too: each becomes a matrix to be added.
    fuse.apply(acc, [_product_added(op, chosen, count) if isinstance(op, fuse.AddMatMul) else op for op in ops])
    if out is None:
        return acc
    np.copyto(out, acc, casting="unsafe")
    return out


def _product_added(op: fuse.AddMatMul, kernel: Kernel, count: int) -> fuse.AddUnicast:
    return fuse.AddUnicast(_matmul(kernel, op.a, op.b, None, count))


def _requantized(
    kernel: Kernel,
    a: NDArray[Any],
    b: NDArray[Any] | PackedMatrix,
    ops: Sequence[fuse.FusedOp],
    out: NDArray[Any],
    count: int,
) -> bool:
    """Run tract's chain to int8 block by block in the library, if it is that chain and the kernel is native."""
    fields = q_scale_fields(ops)
    m, n = out.shape
    if (
        fields is None
        or not kernel.native
        or out.dtype != INT8
        or a.shape[1] != b.shape[0]
        or m == 0
        or n == 0
        or out.strides[1] != 1
        or overlaps(out, a, b)
    ):
        return False
    gemm.count(kernel, m, n, a.shape[1])
    row_start, col_start, _ = gemm.starts(a, b, 0, 0, None)
    at = gemm.Addresses(kernel, b, row_start, col_start)
    chains.q_scaled(native.bind(kernel), at.b, a, out, fields, at.row_start, at.col_start, count)
    return True


def q_scale_fields(ops: Sequence[fuse.FusedOp]) -> tuple[int, int, int, int, int, int] | None:
    """Arguments of the entry ``q_scale`` for ops that `fuse.requantize_ops` makes; None for any others."""
    if len(ops) != 4:
        return None
    scale, *rest = ops
    if isinstance(scale, Scaler):
        scale = scale.as_op()
    if isinstance(scale, QScale):
        multiplier, shift = scale.multiplier, 31 + scale.shift
    elif isinstance(scale, RoundingShiftRight):
        multiplier, shift = 1, scale.shift
    else:
        return None
    scalars = [op for op in rest if isinstance(op, BinScalar)]
    if [op.op for op in scalars] != [BinOp.Add, BinOp.Max, BinOp.Min] or not 1 <= shift <= 62:
        return None
    zero_point, low, high = (op.v for op in scalars)
    return multiplier, shift, scale.policy.value, zero_point, low, high
