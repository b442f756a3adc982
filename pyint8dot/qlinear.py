"""The quantised matrix products: check, multiply, epilogue.

Each operator checks its arguments, brings zero points and scales to one value a row of `a` and one a column of `b`, lets the engine
make the int32 product, and turns that into its result by `pyint8dot.epilogue`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pyint8dot.arguments import (
    Quantized,
    Values,
    bias_vector,
    check_out,
    output_dtype,
    per_column,
    per_row,
    product_scale,
    quantized,
    scalar,
    scales,
    zero_points,
)
from pyint8dot.engine import chains, gemm, kernels, native, settings, threads
from pyint8dot.engine.packing import PackedMatrix
from pyint8dot.engine.short import Requantization
from pyint8dot.epilogue import requantize

Right = npt.ArrayLike | PackedMatrix

# Named here, since the commonest calls are mostly look-ups.
_current, _NOTHING = settings.current, settings.NOTHING


def matmul_integer(
    a: npt.ArrayLike,
    b: Right,
    a_zero_point: npt.ArrayLike | None = None,
    b_zero_point: npt.ArrayLike | None = None,
    *,
    out: npt.NDArray[np.int32] | None = None,
    kernel: str | None = None,
    num_threads: int | None = None,
) -> npt.NDArray[np.int32]:
    """Multiply quantised matrices: ``(a - a_zero_point) @ (b - b_zero_point)`` in int32 (ONNX MatMulInteger).

    Parameters
    ----------
    a : array_like of int8 or uint8, shape (..., m, k) or (k,)
    b : array_like of int8 or uint8, shape (..., k, n) or (k,), or PackedMatrix
        Shapes combine as in `numpy.matmul`.
    a_zero_point : array_like of integers, optional
        A scalar, or one a row of `a`: shape ``(m,)`` or ``(..., m, 1)``. It must fit the type of `a`; default 0.
    b_zero_point : array_like of integers, optional
        A scalar, or one a column of `b`: shape ``(n,)`` or ``(..., 1, n)``. It must fit the type of `b`; default 0.
    out : ndarray of int32, optional
        Where to write; of exactly the shape of the result.
    kernel : str, optional
        Name of the kernel to run; by default the best this machine has.
    num_threads : int, optional
        How many threads to use.

    Returns
    -------
    ndarray of int32
        Exact; wraps modulo 2**32 where the sum does not fit.

    Raises
    ------
    TypeError
        If an argument has another type than those above.
    ValueError
        If shapes do not fit or a zero point is out of range.

    Examples
    --------
    >>> a = np.array([[11, 7, 3], [10, 6, 2]], np.uint8)
    >>> b = np.array([[1, 4], [2, 5], [3, 6]], np.uint8)
    >>> matmul_integer(a, b, 12)
    array([[-38, -83],
           [-44, -98]], dtype=int32)
    """
    plan = _plan(a, b)
    if out is not None:
        check_out(out, plan.shape, np.dtype(np.int32))
    za = per_row("a_zero_point", zero_points("a_zero_point", a_zero_point, plan.a.dtype), plan.rows)
    zb = per_column("b_zero_point", zero_points("b_zero_point", b_zero_point, plan.b.dtype), plan.batch, plan.n)
    acc = _product(plan, za, zb, None, kernel, num_threads).reshape(plan.shape)
    if out is None:
        return acc
    out[...] = acc
    return out


def qlinear_matmul(
    a: npt.ArrayLike,
    a_scale: npt.ArrayLike,
    a_zero_point: npt.ArrayLike | None,
    b: Right,
    b_scale: npt.ArrayLike,
    b_zero_point: npt.ArrayLike | None,
    y_scale: npt.ArrayLike,
    y_zero_point: npt.ArrayLike | None,
    *,
    bias: npt.ArrayLike | None = None,
    out: Quantized | None = None,
    kernel: str | None = None,
    num_threads: int | None = None,
) -> Quantized:
    """Multiply quantised matrices and quantise the product again (ONNX QLinearMatMul).

    ``y = saturate(rint(float32(acc) * (a_scale * b_scale / y_scale)) + y_zero_point)`` where `acc` is the int32 product of the operands
    without their zero points, plus `bias`. Ties go to even; each float step is rounded to float32.

    Parameters
    ----------
    a : array_like of int8 or uint8, shape (..., m, k) or (k,)
    a_scale, a_zero_point : array_like
        A scalar each, or one a row of `a`: shape ``(m,)`` or ``(..., m, 1)``.
    b : array_like of int8 or uint8, shape (..., k, n) or (k,), or PackedMatrix
    b_scale, b_zero_point : array_like
        A scalar each, or one a column of `b`: shape ``(n,)`` or ``(..., 1, n)``.
    y_scale, y_zero_point : array_like
        A scalar each. The type of a typed `y_zero_point`, int8 or uint8, is that of the result; otherwise it is that of `a`.
    bias : array_like of int32, shape (n,), optional
        Added to the product, so in units of ``a_scale * b_scale``.
    out : ndarray of int8 or uint8, optional
        Where to write; of exactly the shape and type of the result.
    kernel : str, optional
        Name of the kernel to run; by default the best this machine has.
    num_threads : int, optional
        How many threads to use.

    Returns
    -------
    ndarray of int8 or uint8
        Shape as in `numpy.matmul`.

    Raises
    ------
    TypeError
        If an argument has another type than those above.
    ValueError
        If shapes do not fit, a zero point is out of range, or the scales do not combine to a finite float32.

    Examples
    --------
    >>> a = np.array([[10, -3]], np.int8)
    >>> b = np.array([[4], [6]], np.int8)
    >>> qlinear_matmul(a, 0.5, 0, b, 0.25, 0, 0.5, np.int8(1))
    array([[7]], dtype=int8)
    """
    # The commonest call has a way of its own.
    if (
        type(b) is PackedMatrix
        and bias is None
        and out is None
        and kernel is None
        and num_threads is None
        and _current() is _NOTHING
    ):
        y = b.short.requantize(a, _prepare, b, a_scale, a_zero_point, b_scale, b_zero_point, y_scale, y_zero_point)
        if y is not None:
            return y
    plan = _plan(a, b)
    dtype = output_dtype(y_zero_point, plan.a.dtype)
    if out is not None:
        check_out(out, plan.shape, dtype)
    za = per_row("a_zero_point", zero_points("a_zero_point", a_zero_point, plan.a.dtype), plan.rows)
    zb = per_column("b_zero_point", zero_points("b_zero_point", b_zero_point, plan.b.dtype), plan.batch, plan.n)
    zy = scalar("y_zero_point", zero_points("y_zero_point", y_zero_point, dtype))
    sa = per_row("a_scale", scales("a_scale", a_scale), plan.rows)
    sb = per_column("b_scale", scales("b_scale", b_scale), plan.batch, plan.n)
    sy = scalar("y_scale", scales("y_scale", y_scale))
    factor = product_scale(plan.down(sa), plan.across(sb), sy, "a_scale * b_scale / y_scale")
    start = bias_vector("bias", bias, 1 if plan.n is None else plan.n, np.int32)
    y = _requantized(plan, za, zb, start, factor, int(zy), dtype, kernel, num_threads)
    if y is None:
        acc = _product(plan, za, zb, start, kernel, num_threads)
        y = requantize(acc, factor, int(zy), dtype)
    y = y.reshape(plan.shape)
    if out is None:
        return y
    out[...] = y
    return out


def _prepare(
    b: PackedMatrix,
    a_scale: npt.ArrayLike,
    a_zero_point: npt.ArrayLike | None,
    b_scale: npt.ArrayLike,
    b_zero_point: npt.ArrayLike | None,
    y_scale: npt.ArrayLike,
    y_zero_point: npt.ArrayLike | None,
) -> Requantization | None:
    """Check and combine scalar parameters of a product of int8 by int8; None where the long way is needed."""
    int8 = np.dtype(np.int8)
    dtype = output_dtype(y_zero_point, int8)
    za = int(scalar("a_zero_point", zero_points("a_zero_point", a_zero_point, int8)))
    zb = int(scalar("b_zero_point", zero_points("b_zero_point", b_zero_point, int8)))
    zy = int(scalar("y_zero_point", zero_points("y_zero_point", y_zero_point, dtype)))
    if zb:
        return None
    factor = product_scale(
        scales("a_scale", a_scale),
        scales("b_scale", b_scale),
        scales("y_scale", y_scale),
        "a_scale * b_scale / y_scale",
    )
    start = gemm.padded(b.column_sums * np.int32(-za)) if za else None
    return Requantization(factor.reshape(1), zy, dtype, start)


@dataclass(frozen=True)
class _Plan:
    """The operands as stacks of matrices, and the shapes that follow from them."""

    a: Quantized
    b: Quantized | PackedMatrix
    #: Shape of one value a row of the caller's `a`.
    rows: tuple[int, ...]
    #: Leading dimensions and columns of the caller's `b`; no columns where it is 1-D.
    batch: tuple[int, ...]
    n: int | None
    #: Shape of the product with every dimension of both, and the shape the caller sees.
    full: tuple[int, ...]
    shape: tuple[int, ...]

    def down(self, value: Values) -> Values:
        """Shape one value a row to broadcast against the product."""
        return value[..., None] if value.ndim else value

    def across(self, value: Values) -> Values:
        """Shape one value a column to broadcast against the product."""
        return value[..., None, :] if value.ndim else value


def _plan(a: npt.ArrayLike, b: Right, names: tuple[str, str] = ("a", "b")) -> _Plan:
    """Check types and shapes by the rules of numpy.matmul."""
    left = quantized(names[0], a)
    right = b if isinstance(b, PackedMatrix) else quantized(names[1], b)
    for name, operand in zip(names, (left, right), strict=True):
        if operand.ndim == 0:
            raise ValueError(f"{name} must have at least one dimension, got a 0-d array")
    k = left.shape[-1]
    inner = right.shape[-2] if right.ndim > 1 else right.shape[0]
    if inner != k:
        raise ValueError(
            f"{names[1]} must have {k} rows, as many as {names[0]} has columns, got shapes {left.shape} and {right.shape}"
        )
    matrices_a = left if left.ndim > 1 else left[None, :]
    matrices_b = right[:, None] if isinstance(right, np.ndarray) and right.ndim == 1 else right
    lead, stacked = matrices_a.shape[:-2], matrices_b.shape[:-2]
    if stacked:
        try:
            lead = np.broadcast_shapes(lead, stacked)
        except ValueError:
            raise ValueError(
                f"{names[0]} and {names[1]} must have leading dimensions that broadcast, got shapes {left.shape} and {right.shape}"
            ) from None
    m, n = matrices_a.shape[-2], matrices_b.shape[-1]
    shape = lead + (m,) * (left.ndim > 1) + (n,) * (right.ndim > 1)
    return _Plan(
        a=matrices_a,
        b=matrices_b,
        rows=left.shape[:-1],
        batch=matrices_b.shape[:-2],
        n=n if right.ndim > 1 else None,
        full=(*lead, m, n),
        shape=shape,
    )


def _requantized(
    plan: _Plan,
    za: Values,
    zb: Values,
    start: Values | None,
    factor: Values,
    zero_point: int,
    dtype: np.dtype[np.generic],
    kernel: str | None,
    num_threads: int | None,
) -> Quantized | None:
    """The product requantised block by block in the native library; None where it has no one way to do that."""
    chosen = kernels.select(kernel)
    count = threads.get_num_threads() if num_threads is None else threads.checked(num_threads)
    m, n = math.prod(plan.full[:-1]), plan.full[-1]
    if not chosen.native or plan.b.ndim != 2 or m == 0 or n == 0:
        return None
    scale: npt.NDArray[np.float32]
    if factor.size == 1:
        scale = factor.reshape(1)
    elif factor.shape == (1, n):
        scale = factor.reshape(n)
    elif factor.ndim > 1 and factor.shape[-1] == 1:
        scale = factor.reshape(m, 1)
    else:
        return None
    a = plan.a.reshape(m, plan.a.shape[-1])
    down = za.reshape(-1) if za.ndim else int(za)
    row_start, col_start, outers = gemm.starts(a, plan.b, down, zb if zb.ndim else int(zb), start)
    if outers:
        return None
    gemm.count(chosen, m, n, a.shape[1])
    at = gemm.Addresses(chosen, plan.b, row_start, col_start)
    y = np.empty((m, n), dtype)
    scale = np.ascontiguousarray(scale, np.float32)
    chains.requantized(native.bind(chosen), at.b, a, y, scale, zero_point, at.row_start, at.col_start, count)
    return y


def _product(
    plan: _Plan,
    za: Values,
    zb: Values,
    start: Values | None,
    kernel: str | None,
    num_threads: int | None,
) -> npt.NDArray[np.int32]:
    """The int32 product without zero points, plus `start` along the columns, in the shape `plan.full`."""
    chosen = kernels.select(kernel)
    count = threads.get_num_threads() if num_threads is None else threads.checked(num_threads)
    acc = np.empty(plan.full, np.int32)
    if isinstance(plan.b, PackedMatrix) or plan.b.ndim == 2:
        m = math.prod(plan.full[:-1])
        # One right operand for all: the stack of `a` is one tall matrix.
        gemm.product(
            chosen,
            plan.a.reshape(m, plan.a.shape[-1]),
            plan.b,
            acc.reshape(m, plan.b.shape[1]),
            a_zero_point=za.reshape(-1) if za.ndim else int(za),
            b_zero_point=zb if zb.ndim else int(zb),
            bias=start,
            num_threads=count,
        )
        return acc
    lead = plan.full[:-2]
    a = np.broadcast_to(plan.a, lead + plan.a.shape[-2:])
    b = np.broadcast_to(plan.b, lead + plan.b.shape[-2:])
    za = np.broadcast_to(za, a.shape[:-1])
    zb = np.broadcast_to(zb, lead + b.shape[-1:])
    for index in np.ndindex(lead):
        gemm.product(
            chosen,
            a[index],
            b[index],
            acc[index],
            a_zero_point=za[index],
            b_zero_point=zb[index],
            bias=start,
            num_threads=count,
        )
    return acc
