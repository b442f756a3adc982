"""mmm(): a product and tract's fused ops on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pyint8dot import fuse, shapes
from pyint8dot.arguments import check_out
from pyint8dot.engine import settings
from pyint8dot.engine.loose import loose_plan
from pyint8dot.engine.operand import Operand, Store, choice
from pyint8dot.engine.packing import PackedMatrix
from pyint8dot.engine.plan import overlaps
from pyint8dot.fuse import BinOp, BinScalar, QScale, RoundingShiftRight, Scaler
from pyint8dot.matmul import product

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from pyint8dot.engine.kernels import Kernel
    from pyint8dot.engine.plan import Output
    from pyint8dot.engine.program import Program

__all__ = ["mmm"]

INT8 = np.dtype(np.int8)
INT32 = np.dtype(np.int32)


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
    left, right = shapes.array("a", a), shapes.right("b", b)
    for name, operand in (("a", left), ("b", right)):
        if operand.ndim != 2:
            raise ValueError(f"{name} must be two-dimensional, got {operand.ndim} dimension(s)")
    m, n = left.shape[0], right.shape[1]
    result = None
    if out is not None:
        result = check_out(out, (m, n), INT8 if getattr(out, "dtype", None) == INT8 else INT32)
    ops = fuse.check(ops, m, n)
    both = shapes.operands(left, right)
    chosen, count = choice(kernel, num_threads)
    if out is not None and result is not None and _in_one_pass(chosen, left, right, ops, result, count):
        return out
    acc = product(chosen, both, None, count)
    # Further products run on the kernel too: each becomes a matrix to be added.
    fuse.apply(acc, [_product_added(op, chosen, count) if isinstance(op, fuse.AddMatMul) else op for op in ops])
    if out is None or result is None:
        return acc
    np.copyto(result, acc, casting="unsafe")
    return out


def _product_added(op: fuse.AddMatMul, kernel: Kernel, count: int) -> fuse.AddUnicast:
    both = shapes.operands(shapes.array("a", op.a), shapes.right("b", op.b))
    return fuse.AddUnicast(product(kernel, both, None, count))


class _FixedPoint:
    """tract's chain to int8, ``clamp(QScale(acc) + zero_point)``, as the epilogue of a plan."""

    dtype = INT8
    extras: tuple[str, ...] = ()
    spare = False

    def __init__(self, ops: Sequence[fuse.FusedOp], fields: tuple[int, int, int, int, int, int]) -> None:
        self._ops, self._fields = ops, fields

    def write(self, program: Program, out: Output) -> None:
        """Append the record to a program."""
        multiplier, shift, policy, zero_point, low, high = self._fields
        program.q_scale(
            acc=out.acc, y=out.y, ld_acc=out.ld_acc, ld_y=out.ld_y, m=out.m, n=out.columns, multiplier=multiplier,
            shift=shift, policy=policy, zero_point=zero_point, low=low, high=high,
        )  # fmt: skip

    def apply(self, acc: NDArray[Any], y: NDArray[Any], _row_scale: object, _extras: object) -> None:
        """Do the same in numpy."""
        np.copyto(y, fuse.apply(acc, self._ops), casting="unsafe")


#: Chains of the latest calls, by what they do; the same object each time, since plans are known by it.
_FIXED_POINTS: dict[tuple[int, int, int, int, int, int], _FixedPoint] = {}

MOST_FIXED_POINTS = 64


def _in_one_pass(
    kernel: Kernel,
    a: NDArray[Any],
    b: NDArray[Any] | PackedMatrix,
    ops: Sequence[fuse.FusedOp],
    out: NDArray[Any],
    count: int,
) -> bool:
    """Run tract's chain to int8 block by block as a plan's epilogue, where the ops are that chain."""
    fields = q_scale_fields(ops)
    if fields is None or out.dtype != INT8 or out.strides[1] != 1 or overlaps(out, a, b):
        return False
    m, k = a.shape
    settings.count(kernel.name, m * k * out.shape[1])
    epilogue = _FIXED_POINTS.get(fields)
    if epilogue is None:
        if len(_FIXED_POINTS) >= MOST_FIXED_POINTS:
            _FIXED_POINTS.clear()
        epilogue = _FIXED_POINTS[fields] = _FixedPoint(ops, fields)
    if isinstance(b, PackedMatrix):
        right = b.on(kernel)
    else:
        plan = loose_plan(kernel, a, b, count, epilogue=epilogue)
        if plan is not None and plan.pair(a, b, out):
            return True
        right = Operand(Store(b, kernel.right), kernel)
    key = a.dtype.char, epilogue
    made = right.plans.get(key) or right.keep(key, right.plan(a.dtype, epilogue=epilogue))
    made.into(a, out, count)
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
