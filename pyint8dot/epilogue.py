"""What happens to an int32 product before a user sees it: the definitions in numpy, and each with its native form for a plan.

The functions are the definition: the native epilogues give the same bits. Every step is one float32 operation, rounded once, in the order
written here, so nothing may be contracted into a fused multiply-add.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from pyint8dot import floats
from pyint8dot.arguments import RANGES, Quantized, Values
from pyint8dot.engine.plan import CALL, COLUMN, ROW

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyint8dot.engine.plan import Output
    from pyint8dot.engine.program import Argument, Program

Activation = Literal["relu", "gelu"] | None

ACTIVATIONS: tuple[Activation, ...] = (None, "relu", "gelu")


def requantize(
    acc: npt.NDArray[np.int32],
    scale: npt.ArrayLike,
    zero_point: int = 0,
    dtype: npt.DTypeLike = np.int8,
    *,
    out: Quantized | None = None,
) -> Quantized:
    """Scale, round and saturate an int32 product to int8 or uint8.

    ``y = clip(rint(float32(acc) * scale), lo - zero_point, hi - zero_point) + zero_point``, ties to even, with `lo` and `hi` the limits of
    `dtype`. On Arm that is ``scvtf``, ``fmul``, ``fcvtns``, a saturating add and a saturating narrowing.

    Parameters
    ----------
    acc : ndarray of int32
        The product, any shape.
    scale : array_like of float32
        Finite; a scalar or any shape that broadcasts to that of `acc`: ``(n,)`` per column, ``(m, 1)`` per row.
    zero_point : int
        Added after the rounding; within the range of `dtype`.
    dtype : dtype
        int8 or uint8.
    out : ndarray, optional
        Where to write, of `dtype` and the shape of `acc`.

    Returns
    -------
    ndarray of `dtype`
        Shape of `acc`.

    Raises
    ------
    TypeError
        If `dtype` is neither int8 nor uint8.
    ValueError
        If a scale is not finite or `zero_point` does not fit `dtype`.

    Examples
    --------
    >>> requantize(np.array([-300, 5, 7, 300], np.int32), np.float32(0.5))
    array([-128,    2,    4,  127], dtype=int8)
    """
    kind = np.dtype(dtype)
    if kind not in RANGES:
        raise TypeError(f"dtype must be int8 or uint8, got {kind}")
    low, high = RANGES[kind]
    if not low <= zero_point <= high:
        raise ValueError(f"zero_point must be within {low}..{high} for {kind}, got {zero_point}")
    factor = np.asarray(scale, np.float32)
    if not np.isfinite(factor).all():
        raise ValueError("scale must be finite, got nan or infinity")
    y: Values = acc.astype(np.float32)
    with np.errstate(over="ignore"):  # a product past float32's range saturates below
        y *= factor
    np.rint(y, out=y)
    np.maximum(y, np.float32(low - zero_point), out=y)
    np.minimum(y, np.float32(high - zero_point), out=y)
    y += np.float32(zero_point)
    if out is None:
        return y.astype(kind)
    np.copyto(out, y, casting="unsafe")
    return out


def dequantize(
    acc: npt.NDArray[np.int32],
    row_scale: npt.ArrayLike,
    col_scale: npt.ArrayLike,
    bias: npt.ArrayLike | None = None,
    act: Activation = None,
    *,
    out: npt.NDArray[np.float32] | None = None,
) -> npt.NDArray[np.float32]:
    """Turn an int32 product into float32: ``act((float32(acc) * col_scale) * row_scale + bias)``.

    Parameters
    ----------
    acc : ndarray of int32, shape (m, n)
        The product.
    row_scale : array_like of float32, shape () or (m,)
        One factor per row.
    col_scale : array_like of float32, shape () or (n,)
        One factor per column.
    bias : array_like of float32, shape (n,), optional
        Added after both factors, with a rounding of its own.
    act : {None, "relu", "gelu"}
        Applied last.
    out : ndarray of float32, shape (m, n), optional
        Where to write.

    Returns
    -------
    ndarray of float32, shape (m, n)

    Raises
    ------
    ValueError
        If `act` is unknown.

    Examples
    --------
    >>> dequantize(np.array([[10, -20]], np.int32), [0.5], [1.0, 0.25], [1.0, 0.0])
    array([[ 6. , -2.5]], dtype=float32)
    """
    if act not in ACTIVATIONS:
        raise ValueError(f'act must be None, "relu" or "gelu", got {act!r}')
    y = acc.astype(np.float32) if out is None else out
    if out is not None:
        np.copyto(out, acc, casting="same_kind")
    y *= np.asarray(col_scale, np.float32)
    rows = np.asarray(row_scale, np.float32)
    y *= rows[:, None] if rows.ndim else rows
    if bias is not None:
        y += np.asarray(bias, np.float32)
    return activate(y, act)


def activate(y: npt.NDArray[np.float32], act: Activation) -> npt.NDArray[np.float32]:
    """Apply the activation `act` to `y` in place and return it."""
    if act == "relu":
        # Not maximum(): -0.0 must become +0.0 on every machine.
        np.copyto(y, np.float32(0), where=y <= 0)
    elif act == "gelu":
        floats.gelu(y, out=y)
    return y


class Requantization:
    """`requantize` as the epilogue of a plan.

    Parameters
    ----------
    scale : ndarray of float32, shape (1,) or (n,), or None
        One for all or one per column, finite; None where they are handed over at the call.
    zero_point : int
    dtype : dtype
    along : {ROW, COLUMN, CALL}
        What has a scale of its own that is handed over.
    """

    spare = False

    def __init__(
        self, scale: npt.NDArray[np.float32] | None, zero_point: int, dtype: np.dtype[Any], along: str = ROW
    ) -> None:
        self.scale, self.zero_point, self.dtype, self.along = scale, zero_point, dtype, along
        self.extras: tuple[str, ...] = () if scale is not None else (along,)

    def write(self, program: Program, out: Output) -> None:
        """Append the record to a program."""
        scale: Argument
        if self.scale is None:
            scale, row_step, per_column = out.extras[0], 4 * (self.along == ROW), self.along == COLUMN
        else:
            row_step, per_column = 0, self.scale.size > 1
            scale = self.scale[out.first :] if per_column else self.scale
        program.requantize(
            acc=out.acc, y=out.y, ld_acc=out.ld_acc, ld_y=out.ld_y, m=out.m, n=out.columns, scale=scale,
            row_step=row_step, per_column=int(per_column), zero_point=self.zero_point,
            unsigned=int(self.dtype == np.uint8),
        )  # fmt: skip

    def apply(self, acc: Values, y: Values, row_scale: Values | None, extras: Sequence[Values]) -> None:  # noqa: ARG002 - the rows were int8
        """Do the same in numpy."""
        scale = self.scale
        if scale is None:
            scale = extras[0][:, None] if self.along == ROW else extras[0]
        requantize(acc, scale, self.zero_point, self.dtype, out=y)


class Dequantization:
    """`dequantize` as the epilogue of a plan; the scales per column and the bias are handed over at the call.

    Parameters
    ----------
    act : {None, "relu", "gelu"}
    biased : bool
        Whether there is a bias.
    """

    dtype, spare = np.dtype(np.float32), False

    def __init__(self, act: Activation, *, biased: bool) -> None:
        self.act, self.biased = act, biased
        self.extras: tuple[str, ...] = (COLUMN, COLUMN) if biased else (COLUMN,)

    def write(self, program: Program, out: Output) -> None:
        """Append the record to a program."""
        program.dequantize(
            acc=out.acc, y=out.y, ld_acc=out.ld_acc, ld_y=out.ld_y, m=out.m, n=out.columns, row_scale=out.row_scale,
            row_step=4, col_scale=out.extras[0], bias=out.extras[1] if self.biased else None,
            act=ACTIVATIONS.index(self.act),
        )  # fmt: skip

    def apply(self, acc: Values, y: Values, row_scale: Values | None, extras: Sequence[Values]) -> None:
        """Do the same in numpy."""
        assert row_scale is not None  # noqa: S101 - they come from what has quantised the rows
        dequantize(acc, row_scale, extras[0], extras[1] if self.biased else None, self.act, out=y)


class AddedDequantization:
    """`dequantize` without a bias as the epilogue of a plan that multiplies in parts: the results are added to those of the part before.

    Parameters
    ----------
    scale : ndarray of float32, shape (n,)
        One factor per column.
    first : bool
        Whether this is the first part, which has nothing to be added to.
    bias : ndarray of float32, shape (n,), optional
        Added when all of the rest is; for the last part.
    act : {None, "relu", "gelu"}
        Applied to that.
    """

    dtype, spare = np.dtype(np.float32), False
    extras: tuple[str, ...] = ()

    def __init__(
        self, scale: npt.NDArray[np.float32], *, first: bool, bias: npt.NDArray[np.float32] | None = None,
        act: Activation = None,
    ) -> None:  # fmt: skip
        self.scale, self.first, self.bias, self.act = scale, first, bias, act
        self._ones = None if bias is None else np.ones(len(bias), np.int32)

    def write(self, program: Program, out: Output) -> None:
        """Append the records to a program; what is there already is the bias."""
        act = ACTIVATIONS.index(self.act)
        program.dequantize(
            acc=out.acc, y=out.y, ld_acc=out.ld_acc, ld_y=out.ld_y, m=out.m, n=out.columns, row_scale=out.row_scale,
            row_step=4, col_scale=self.scale[out.first :], bias=None if self.first else out.y,
            act=act if self.bias is None else 0, ld_bias=out.ld_y,
        )  # fmt: skip
        if self.bias is not None:
            # Ones times the bias are the bias, to which the sums are added, each in its place.
            program.dequantize(
                acc=self._ones, y=out.y, ld_acc=0, ld_y=out.ld_y, m=out.m, n=out.columns, row_scale=_ONE, row_step=0,
                col_scale=self.bias[out.first :], bias=out.y, act=act, ld_bias=out.ld_y,
            )  # fmt: skip

    def apply(self, acc: Values, y: Values, row_scale: Values | None, extras: Sequence[Values]) -> None:  # noqa: ARG002 - there are none
        """Do the same in numpy."""
        assert row_scale is not None  # noqa: S101 - they come from what has quantised the rows
        if self.first:
            dequantize(acc, row_scale, self.scale, out=y)
        else:
            y += dequantize(acc, row_scale, self.scale)
        if self.bias is not None:
            y += self.bias
        activate(y, self.act)


class ScaledDequantization:
    """``act(float32(acc) * (unit * scale) + bias)`` as the epilogue of a plan, for a scale of the whole left operand.

    The scale is known only at the call: it is handed over, or found by what quantises the operand.

    Parameters
    ----------
    unit : ndarray of float32, shape (n,)
    bias : ndarray of float32, shape (n,), optional
    act : {None, "relu", "gelu"}
    handed : bool
        Whether the scale is handed over, as an array without a dimension.
    """

    dtype, spare = np.dtype(np.float32), True

    def __init__(
        self, unit: npt.NDArray[np.float32], bias: npt.NDArray[np.float32] | None, act: Activation, *, handed: bool
    ) -> None:
        self.unit, self.bias, self.act = unit, bias, act
        self.extras: tuple[str, ...] = (CALL,) if handed else ()

    def write(self, program: Program, out: Output) -> None:
        """Append the records to a program."""
        columns = slice(out.first, None)
        scale = out.extras[0] if self.extras else out.row_scale
        program.column_scale(x=self.unit[columns], y=out.spare, n=out.columns, scale=scale)
        program.dequantize(
            acc=out.acc, y=out.y, ld_acc=out.ld_acc, ld_y=out.ld_y, m=out.m, n=out.columns, row_scale=_ONE, row_step=0,
            col_scale=out.spare, bias=None if self.bias is None else self.bias[columns], act=ACTIVATIONS.index(self.act),
        )  # fmt: skip

    def apply(self, acc: Values, y: Values, row_scale: Values | None, extras: Sequence[Values]) -> None:
        """Do the same in numpy."""
        scale = extras[0] if self.extras else row_scale
        assert scale is not None  # noqa: S101 - it has come with the call or with the codes
        factors = self.unit * scale
        dequantize(acc, np.float32(1), factors, self.bias, self.act, out=y)


# A factor that changes no bit.
_ONE = np.ones(1, np.float32)
