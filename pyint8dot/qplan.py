"""What the quantised matrix products share: checked parameters, plans made of them, and sums. Private to the package."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pyint8dot import shapes
from pyint8dot.arguments import (
    Values,
    bias_vector,
    factors,
    output_dtype,
    per_column,
    per_row,
    product_scale,
    scalar,
    scales,
    zero_points,
)
from pyint8dot.engine import settings
from pyint8dot.engine.operand import Operand, Store
from pyint8dot.engine.packing import PackedMatrix
from pyint8dot.engine.plan import ROW

if TYPE_CHECKING:
    from pyint8dot.engine.kernels import Kernel
    from pyint8dot.engine.plan import Plan
    from pyint8dot.epilogue import Requantization
    from pyint8dot.shapes import Operands

__all__ = ["Checked", "checked", "one_way", "planned", "sums"]

UINT8 = np.dtype(np.uint8)


class Checked(NamedTuple):
    """Parameters of a requantised product, checked and combined."""

    #: Zero points: 0-d, or one per row and one per column.
    za: Values
    zb: Values
    zy: int
    #: ``a_scale * b_scale / y_scale`` in a shape that broadcasts against the product.
    factor: Values
    bias: Values | None
    dtype: np.dtype[Any]


def checked(
    both: Operands,
    a_scale: npt.ArrayLike,
    a_zero_point: npt.ArrayLike | None,
    b_scale: npt.ArrayLike,
    b_zero_point: npt.ArrayLike | None,
    y_scale: npt.ArrayLike,
    y_zero_point: npt.ArrayLike | None,
    *,
    bias: npt.ArrayLike | None,
) -> Checked:
    """Check the parameters of qlinear_matmul against its operands."""
    dtype = output_dtype(y_zero_point, both.a.dtype)
    za = per_row("a_zero_point", zero_points("a_zero_point", a_zero_point, both.a.dtype), both.rows)
    zb = per_column("b_zero_point", zero_points("b_zero_point", b_zero_point, both.b.dtype), both.batch, both.n)
    zy = int(scalar("y_zero_point", zero_points("y_zero_point", y_zero_point, dtype)))
    sa = per_row("a_scale", factors("a_scale", a_scale), both.rows)
    sb = per_column("b_scale", factors("b_scale", b_scale), both.batch, both.n)
    sy = scalar("y_scale", scales("y_scale", y_scale))
    down = sa[..., None] if sa.ndim else sa
    across = sb[..., None, :] if sb.ndim else sb
    factor = product_scale(down, across, sy, ("a_scale", "b_scale", "y_scale"))
    start = bias_vector("bias", bias, 1 if both.n is None else both.n, np.int32)
    return Checked(za, zb, zy, factor, start, dtype)


def one_way(factor: Values, m: int, n: int) -> tuple[Values | None, Values | None]:
    """The factors as (one for all or one per column, None), or (None, one per row); neither where they vary along both."""
    if factor.size == 1:
        return factor.reshape(1), None
    if factor.shape == (1, n):
        return np.ascontiguousarray(factor.reshape(n)), None
    if factor.ndim > 1 and factor.shape[-1] == 1 and factor.size == m:
        return None, np.ascontiguousarray(factor.reshape(m))
    return None, None


def planned(
    kernel: Kernel, both: Operands, za: Values, zb: Values, bias: Values | None, epilogue: Requantization | None
) -> tuple[Plan, Values | None]:
    """A plan of checked parameters for one right operand, and the zero points of the rows that go along with each call."""
    b = both.b
    right = b.on(kernel) if isinstance(b, PackedMatrix) else Operand(Store(b, kernel.right), kernel)
    rows: Values | None = None
    if za.ndim:
        rows = np.ascontiguousarray(za.reshape(-1), np.int32) - np.int32(128 * (both.a.dtype == UINT8))
    each = np.ascontiguousarray(zb.reshape(-1), np.int32) if zb.ndim else int(zb)
    made = right.plan(both.a.dtype, int(za) if rows is None else ROW, each, bias=bias, epilogue=epilogue)
    return made, rows


def sums(
    kernel: Kernel, both: Operands, za: Values, zb: Values, bias: Values | None, count: int
) -> npt.NDArray[np.int32]:
    """The int32 product less the zero points, plus a bias along the columns, in the shape `both.full`."""
    acc = np.empty(both.full, np.int32)
    k, n = both.a.shape[-1], both.full[-1]
    settings.count(kernel.name, acc.size * k)
    if not both.batch:
        m = math.prod(both.full[:-1])
        made, rows = planned(kernel, both, za, zb, bias, None)
        made.into(both.a.reshape(m, k), acc.reshape(m, n), count, rows)
        return acc
    lead = both.full[:-2]
    assert isinstance(both.b, np.ndarray)  # noqa: S101 - a packed matrix has no stack
    a = np.broadcast_to(both.a, lead + both.a.shape[-2:])
    b = np.broadcast_to(both.b, lead + both.b.shape[-2:])
    za = np.broadcast_to(za, a.shape[:-1]) if za.ndim else za
    zb = np.broadcast_to(zb, (*lead, n)) if zb.ndim else zb
    for index in np.ndindex(lead):
        one = shapes.operands(a[index], b[index])
        made, rows = planned(kernel, one, za[index] if za.ndim else za, zb[index] if zb.ndim else zb, bias, None)
        made.into(a[index], acc[index], count, rows)
    return acc
