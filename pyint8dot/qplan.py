"""What the quantised matrix products share: checked parameters, plans made of them, and sums. Private to the package."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

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
from pyint8dot.engine.loose import loose_plan
from pyint8dot.engine.operand import Operand, Store
from pyint8dot.engine.packing import PackedMatrix
from pyint8dot.engine.plan import CALL, COLUMN, ROW
from pyint8dot.epilogue import Requantization, requantize
from pyint8dot.known import key

if TYPE_CHECKING:
    from pyint8dot.engine.kernels import Kernel
    from pyint8dot.engine.plan import Plan
    from pyint8dot.shapes import Operands

__all__ = ["Checked", "checked", "handed", "one_way", "planned", "products", "remembered"]

UINT8 = np.dtype(np.uint8)

#: Checked parameters kept in one place: such that change from call to call must not fill the memory.
MOST_KEPT = 16


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


def remembered(
    kept: dict[Any, Checked], both: Operands, parameters: tuple[Any, ...], bias: npt.ArrayLike | None
) -> Checked:
    """`checked` of parameters and a bias, kept by their contents in `kept`.

    What has one value per row is checked each time: it tends to come with the rows.
    """
    known = None
    if all(getattr(each, "size", 1) == 1 for each in parameters[:2]):
        known = key((*parameters, bias))
    if known is None:
        return checked(both, *parameters, bias=bias)
    place = both.a.dtype.char, both.b.dtype.char, both.batch, both.n, known
    found = kept.get(place)
    if found is None:
        found = checked(both, *parameters, bias=bias)
        if len(kept) >= MOST_KEPT:
            kept.clear()
        kept[place] = found
    return found


def one_way(factor: Values, m: int, n: int) -> tuple[str, Values] | None:
    """What has a factor of its own, CALL, COLUMN or ROW, and the factors; None where they vary along both."""
    if factor.size == 1:
        return CALL, factor.reshape(())
    if factor.shape == (1, n):
        return COLUMN, np.ascontiguousarray(factor.reshape(n))
    if factor.shape[-1] == 1 and factor.size == m:
        return ROW, np.ascontiguousarray(factor.reshape(m))
    return None


@functools.lru_cache(512)
def handed(along: str, zero_point: int, dtype: np.dtype[Any]) -> Requantization:
    """What quantises by scales that are handed over; the same object each time, since plans are known by it."""
    return Requantization(None, zero_point, dtype, along)


def products(
    kernel: Kernel, both: Operands, za: Values, zb: Values, bias: Values | None, y: Values, count: int,
    factor: Values | None = None, zero_point: int = 0,
) -> None:  # fmt: skip
    """Write products less their zero points, plus a bias along the columns, to `y`, of shape `both.full`.

    With a factor, which broadcasts to that shape, they are quantised again.
    """
    k, n = both.a.shape[-1], both.full[-1]
    settings.count(kernel.name, y.size * k)
    if not both.batch:
        m = math.prod(both.full[:-1])
        if factor is not None and factor.ndim > 2:
            factor = np.broadcast_to(factor, both.full[:-1] + factor.shape[-1:]).reshape(m, factor.shape[-1])
        _product(kernel, both.a.reshape(m, k), both.b, za, zb, bias, y.reshape(m, n), count, factor, zero_point)
        return
    lead = both.full[:-2]
    assert isinstance(both.b, np.ndarray)  # noqa: S101 - a packed matrix has no stack
    a = np.broadcast_to(both.a, lead + both.a.shape[-2:])
    b = np.broadcast_to(both.b, lead + both.b.shape[-2:])
    za = np.broadcast_to(za, a.shape[:-1]) if za.ndim else za
    zb = np.broadcast_to(zb, (*lead, n)) if zb.ndim else zb
    varies = factor is not None and factor.ndim > 0
    if factor is not None and varies:
        factor = np.broadcast_to(factor, lead + factor.shape[-2:])
    for index in np.ndindex(lead):
        # Zero points per column are taken as they are found, so that a plan is made once for each that differs.
        _product(
            kernel, a[index], b[index], za[index] if za.ndim else za, zb[index] if zb.ndim else zb, bias, y[index], count,
            factor[index] if factor is not None and varies else factor, zero_point,
        )  # fmt: skip


def _product(
    kernel: Kernel, a: Values, b: Values | PackedMatrix, za: Values, zb: Values, bias: Values | None, y: Values, count: int,
    factor: Values | None, zero_point: int,
) -> None:  # fmt: skip
    """Do what `products` does for two matrices, with zero points for all, or one per row of `a` and per column of `b`."""
    m, n = y.shape
    extras: list[Values] = []
    a_zero: int | Literal["row"] = ROW if za.ndim else int(za)
    if za.ndim:
        extras.append(np.ascontiguousarray(za.reshape(-1), np.int32) - np.int32(128 * (a.dtype == UINT8)))
    b_zero = np.ascontiguousarray(zb.reshape(-1), np.int32) if zb.ndim else int(zb)
    epilogue: Requantization | None = None
    if factor is not None:
        found = one_way(factor, m, n)
        if found is None:
            acc = np.empty((m, n), np.int32)
            _product(kernel, a, b, za, zb, bias, acc, count, None, 0)
            requantize(acc, factor, zero_point, y.dtype, out=y)
            return
        epilogue = handed(found[0], zero_point, y.dtype)
        extras.append(found[1])
    if isinstance(b, PackedMatrix):
        right = b.on(kernel)
    else:
        plan = loose_plan(kernel, a, b, count, a_zero, b_zero, epilogue, bias=bias)
        if plan is not None and plan.pair(a, b, y, *extras):
            return
        right = Operand(Store(b, kernel.right), kernel)
    planned(right, a.dtype, a_zero, b_zero, bias, epilogue).into(a, y, count, *extras)


def planned(
    right: Operand, dtype: np.dtype[Any], a_zero: int | Literal["row"], b_zero: int | Values, bias: Values | None,
    epilogue: Requantization | None,
) -> Plan:  # fmt: skip
    """The plan of an operand for these zero points and bias, kept by their contents, and by the epilogue that it is."""
    place = dtype.char, a_zero, _contents(b_zero), _contents(bias), epilogue
    made = right.plans.get(place)
    if made is None:
        made = right.keep(place, right.plan(dtype, a_zero, b_zero, bias=bias, epilogue=epilogue))
    return made


def _contents(value: Any) -> Any:
    """What a dictionary knows a number or the values of an array by."""
    return value.tobytes() if isinstance(value, np.ndarray) else value
