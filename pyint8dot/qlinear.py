"""The quantised matrix products of ONNX: MatMulInteger and QLinearMatMul.

Each operator brings zero points and scales to one value for all, one per row of `a` or one per column of `b`, has a plan made of
what belongs to the weights, and calls it.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pyint8dot import shapes
from pyint8dot.arguments import (
    Quantized,
    Values,
    check_out,
    output_dtype,
    per_column,
    per_row,
    small_zero,
    zero_points,
)
from pyint8dot.engine import settings
from pyint8dot.engine.operand import choice
from pyint8dot.engine.packing import PackedMatrix
from pyint8dot.engine.plan import CALL, ROW
from pyint8dot.epilogue import Requantization
from pyint8dot.known import Known
from pyint8dot.matmul import product, stacks
from pyint8dot.qplan import Checked, checked, handed, one_way, planned, products, remembered

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pyint8dot.engine.kernels import Kernel
    from pyint8dot.engine.operand import Operand
    from pyint8dot.engine.plan import Plan
    from pyint8dot.shapes import Operands

__all__ = ["matmul_integer", "qlinear_matmul"]

Right = npt.ArrayLike | PackedMatrix

UINT8 = np.dtype(np.uint8)
INT32 = np.dtype(np.int32)

# Named here, since the commonest calls are mostly look-ups.
_array, _current, _NOTHING = np.ndarray, settings.current, settings.NOTHING


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
        A scalar, or one per row of `a`: shape ``(m,)`` or ``(..., m, 1)``. It must fit the type of `a`; default 0.
    b_zero_point : array_like of integers, optional
        A scalar, or one per column of `b`: shape ``(n,)`` or ``(..., 1, n)``. It must fit the type of `b`; default 0.
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
    if type(b) is PackedMatrix and type(a) is _array:
        if kernel is None and num_threads is None and _current() is _NOTHING:
            right, count = b.here or b.on_default(), settings.default_threads
        else:
            chosen, count = choice(kernel, num_threads)
            right = b.on(chosen)
        c = _integer(right, b, a, a_zero_point, b_zero_point, out, count)
        if c is not None:
            return c
    chosen, count = choice(kernel, num_threads)
    both = shapes.operands(shapes.array("a", a), shapes.right("b", b))
    if out is not None:
        check_out(out, both.shape, INT32)
    za = per_row("a_zero_point", zero_points("a_zero_point", a_zero_point, both.a.dtype), both.rows)
    zb = per_column("b_zero_point", zero_points("b_zero_point", b_zero_point, both.b.dtype), both.batch, both.n)
    if za.ndim == zb.ndim == 0:
        return product(chosen, both, out, count, int(za), int(zb))
    acc = np.empty(both.full, INT32)
    products(chosen, both, za, zb, None, acc, count)
    if out is None:
        return acc.reshape(both.shape)
    out[...] = acc.reshape(both.shape)
    return out


def _integer(
    right: Operand,
    b: PackedMatrix,
    a: Quantized,
    a_zero_point: Any,
    b_zero_point: Any,
    out: npt.NDArray[np.int32] | None,
    count: int,
) -> npt.NDArray[np.int32] | None:
    """MatMulInteger by a plan that the operand keeps; None where something is out of the ordinary or wrong."""
    kind = a.dtype
    if kind not in RANGE_TYPES or _current().tally is not None:
        return None
    handed: Values | None = None
    za: Any = 0
    if type(a_zero_point) is _array:
        # An array goes along with each call, since the next may hold something else: as it is, or one per row as int32 and of
        # the values as int8.
        if a_zero_point.dtype is not kind:
            return None
        shape = a_zero_point.shape
        if not shape:
            za, handed = CALL, a_zero_point
        elif a_zero_point.size == 1:
            za, handed = CALL, a_zero_point.reshape(())
        elif a.ndim == 2 and (shape == a.shape[:1] or shape == (len(a), 1)):
            za, handed = ROW, a_zero_point.reshape(-1).astype(INT32)
            if kind == UINT8:  # an array that was pickled has a type of its own
                handed -= 128
        else:
            return None
    elif a_zero_point is not None:
        za = small_zero(a_zero_point, kind)
        if za is None:
            return None
    zb: Any = 0
    key: Any = kind, za, 0
    if b_zero_point is not None:
        zb = small_zero(b_zero_point, b.dtype)
        if zb is not None:
            key = kind, za, zb
        elif type(b_zero_point) is not _array or b_zero_point.dtype is not b.dtype:
            return None
        elif b_zero_point.size == 1:
            zb = b_zero_point.item()
            key = kind, za, zb
        elif b_zero_point.shape == b.shape[1:] or b_zero_point.shape == (1, b.shape[1]):
            key = kind, za, b_zero_point.tobytes()
        else:
            return None
    plan: Plan | None = right.plans.get(key)
    if plan is None:
        each = b_zero_point.reshape(-1).astype(np.int32) if zb is None else zb
        plan = right.product(kind) if key == (kind, 0, 0) else right.plan(kind, za, each)
        right.keep(key, plan)
    return plan.offer(a, out, count, handed)


RANGE_TYPES = (np.dtype(np.int8), np.dtype(np.uint8))


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
        A scalar each, or one per row of `a`: shape ``(m,)`` or ``(..., m, 1)``.
    b : array_like of int8 or uint8, shape (..., k, n) or (k,), or PackedMatrix
    b_scale, b_zero_point : array_like
        A scalar each, or one per column of `b`: shape ``(n,)`` or ``(..., 1, n)``. In an array of scales, of rows as of columns, 0 is
        that of a row or column of zeros; a scalar must not be 0.
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
        If shapes do not fit, a zero point is out of range, `y_scale` or a scalar scale is 0, or the scales or what they combine to are
        not finite in float32.

    Examples
    --------
    >>> a = np.array([[10, -3]], np.int8)
    >>> b = np.array([[4], [6]], np.int8)
    >>> qlinear_matmul(a, 0.5, 0, b, 0.25, 0, 0.5, np.int8(1))
    array([[7]], dtype=int8)
    """
    known: Known | None = None
    if type(b) is PackedMatrix and type(a) is _array and bias is None:
        set_ = _current()
        if kernel is None and num_threads is None and set_ is _NOTHING:
            right, count = b.here or b.on_default(), settings.default_threads
        else:
            chosen, count = choice(kernel, num_threads)
            right = b.on(chosen)
        known = right.latest
        if known is not None and (a.dtype is not known.dtype or set_.tally is not None):
            known = None
        if known is not None:
            p0, p1, p2, p3, p4, p5 = known.parameters
            if (
                a_scale is p0 and a_zero_point is p1 and b_zero_point is p3 and y_scale is p4 and y_zero_point is p5
                and (b_scale is p2 or known.same_vector(b_scale))
            ) or known.same(a_scale, a_zero_point, b_scale, b_zero_point, y_scale, y_zero_point):  # fmt: skip
                if known.scale is not None and known.often():
                    known.settle(_constant(right, a.dtype, known.checked))
                done: Quantized | None = known.plan.offer(a, out, count, known.scale)
                if done is not None:
                    return done
            else:
                known = None
    chosen, count = choice(kernel, num_threads)
    both = shapes.operands(shapes.array("a", a), shapes.right("b", b))
    parameters = a_scale, a_zero_point, b_scale, b_zero_point, y_scale, y_zero_point
    if out is not None:
        check_out(out, both.shape, output_dtype(y_zero_point, both.a.dtype))
    found = remembered(b.on(chosen).checked if isinstance(b, PackedMatrix) else _CHECKED, both, parameters, bias)
    y = np.empty(both.full, found.dtype)
    if found.bias is not None or not _pairs(chosen, both, y, count, found):
        products(chosen, both, found.za, found.zb, found.bias, y, count, found.factor, found.zy)
    if known is None and isinstance(b, PackedMatrix):
        _know(b.on(chosen), both, parameters, found)
    y = y.reshape(both.shape)
    if out is None:
        return y
    out[...] = y
    return out


def _know(right: Operand, both: Operands, parameters: tuple[Any, ...], found: Checked) -> None:
    """Let the operand know a call's parameters, and the plan that served them, where there is no bias and no value per row."""
    m, n = math.prod(both.full[:-1]), both.full[-1]
    scales = one_way(found.factor, m, n)
    if found.bias is not None or found.za.ndim or scales is None or scales[0] == ROW:
        return
    zb = np.ascontiguousarray(found.zb.reshape(-1), np.int32) if found.zb.ndim else int(found.zb)
    plan = planned(right, both.a.dtype, int(found.za), zb, None, handed(scales[0], found.zy, found.dtype))
    right.latest = Known.of(parameters, both.a.dtype, plan, scales[1], found)


#: Checked parameters of products of arrays; see `remembered`.
_CHECKED: dict[Any, Checked] = {}


def _constant(right: Operand, dtype: np.dtype[Any], found: Checked) -> Plan:
    """The plan of a packed matrix for parameters without a value per row, which are part of it."""
    scale = np.ascontiguousarray(found.factor.reshape(-1))
    zb = np.ascontiguousarray(found.zb.reshape(-1), np.int32) if found.zb.ndim else int(found.zb)
    epilogue = Requantization(scale, found.zy, found.dtype)
    return right.plan(dtype, int(found.za), zb, bias=found.bias, epilogue=epilogue)


def _pairs(kernel: Kernel, both: Operands, y: Quantized, count: int, found: Checked) -> bool:
    """Compute the quantised products of two arrays, stacks of matrices or two of them, where one program serves all pairs.

    Returns whether that is so.
    """
    if isinstance(both.b, PackedMatrix) or not (found.factor.size == 1 and found.za.ndim == found.zb.ndim == 0):
        return False
    if not (both.batch or both.a.ndim == 2):
        return False
    epilogue = handed(CALL, found.zy, y.dtype)
    return stacks(kernel, both, y, count, int(found.za), int(found.zb), epilogue, found.factor.reshape(()))


@functools.lru_cache(512)
def _epilogue(scale: float, zero_point: int, dtype: np.dtype[Any]) -> Requantization:
    """What quantises by one scale; the same object each time, since programs are known by it."""
    return Requantization(np.array([scale], np.float32), zero_point, dtype)


def constant_plan(
    b: PackedMatrix, kernel: Kernel, dtype: np.dtype[Any], parameters: Sequence[Any], bias: npt.ArrayLike | None
) -> Plan | None:
    """The plan of a QLinearMatMul whose parameters never change, for left operands of type `dtype`.

    `parameters` are those of `qlinear_matmul` from `a_scale` on, `b` left out. None where one of them has a value per row.
    """
    both = shapes.operands(np.empty((1, b.shape[0]), dtype), b)
    if any(np.size(parameter) != 1 for parameter in (*parameters[:2], *parameters[4:]) if parameter is not None):
        return None
    return _constant(b.on(kernel), dtype, checked(both, *parameters, bias=bias))


def constant_pairs(
    kernel: Kernel,
    dtypes: tuple[np.dtype[Any], np.dtype[Any]],
    parameters: Sequence[Any],
    perm: Sequence[int] | None = None,
) -> Callable[[Quantized, Quantized, int], Quantized | None] | None:
    """What a QLinearMatMul of two arrays calls whose parameters never change, on some number of threads.

    `parameters` are those of `constant_plan`; `perm` is the order of axes that the result lies in, the last one in its place. None where
    a parameter has several values; the function returns None for arrays that want another way.
    """
    if any(np.size(parameter) != 1 for parameter in parameters if parameter is not None):
        return None
    a_type, b_type = dtypes
    found = checked(shapes.operands(np.empty((1, 1), a_type), np.empty((1, 1), b_type)), *parameters, bias=None)
    za, zb, scale = int(found.za.reshape(())), int(found.zb.reshape(())), float(found.factor.reshape(()))
    epilogue = _epilogue(scale, found.zy, found.dtype)

    def run(a: Quantized, b: Quantized, count: int) -> Quantized | None:
        both = shapes.operands(a, b)
        if a.dtype != a_type or b.dtype != b_type or not (both.batch or both.a.ndim == 2):
            return None
        if perm is None:
            y = np.empty(both.full, epilogue.dtype)
            return y.reshape(both.shape) if stacks(kernel, both, y, count, za, zb, epilogue) else None
        if len(both.shape) != len(perm) or both.full != both.shape:
            return None
        y = np.empty([both.shape[axis] for axis in perm], epilogue.dtype)
        return y if stacks(kernel, both, y.transpose(np.argsort(perm)), count, za, zb, epilogue) else None

    return run
