"""The fused ops: what may be done to an int32 product before it is stored.

The names and the results are tract's. The functions here are the definition, in numpy:
whatever does the same faster has to agree with them bit for bit. int32 arithmetic wraps.

`apply` works on one block of the matrix at a time. The operands of the ops belong to the
whole matrix and are read by global row and column. They are kept, not copied.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from pyint8dot.fuse.binary import BinOp, BinPerCol, BinPerRow, BinScalar
from pyint8dot.fuse.operands import (
    INT32,
    FusedOp,
    Int32Array,
    Slices,
    check_matrix,
    check_writeable,
    integer,
    vector,
)
from pyint8dot.fuse.rounding import QScale, RoundingPolicy, RoundingShiftRight, Scaler, ShiftLeft

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pyint8dot.engine.packing import PackedMatrix

__all__ = [
    "AddMatMul", "AddRowColProducts", "AddUnicast", "BinOp", "BinPerCol", "BinPerRow", "BinScalar",
    "Clear", "FusedOp", "LeakyRelu", "LoadTile", "QScale", "RoundingPolicy", "RoundingShiftRight",
    "Scaler", "ShiftLeft", "Store", "apply", "check", "product", "requantize_ops",
]  # fmt: skip


@dataclass(frozen=True, eq=False, repr=False)
class AddRowColProducts(FusedOp):
    """``x[i, j] += rows[i] * cols[j]``, both int32: what zero points need.

    The factors are taken whole and their product wraps at 32 bits, as in tract's generic, SVE
    and SME kernels. tract's NEON kernels narrow both factors to 16 bits first, which is the same
    for factors that fit int16.

    Examples
    --------
    >>> apply(np.zeros((2, 2), np.int32), [AddRowColProducts([1, 2], [3, 4])])
    array([[3, 4],
           [6, 8]], dtype=int32)
    """

    rows: Any
    cols: Any

    axes: ClassVar = {"rows": "m", "cols": "n"}

    def __post_init__(self) -> None:
        object.__setattr__(self, "rows", vector("rows", self.rows))
        object.__setattr__(self, "cols", vector("cols", self.cols))

    def run(self, acc: Int32Array, at: Slices) -> None:
        """Add the outer product."""
        acc += self.rows[at[0], None] * self.cols[at[1]]


@dataclass(frozen=True, eq=False, repr=False)
class AddUnicast(FusedOp):
    """``x += c`` for an int32 or int8 matrix `c` of the same shape, of any strides.

    Examples
    --------
    >>> c = np.arange(4, dtype=np.int8).reshape(2, 2)
    >>> apply(np.ones((2, 2), np.int32), [AddUnicast(c.T)])
    array([[1, 3],
           [2, 4]], dtype=int32)
    """

    c: npt.NDArray[Any]

    axes: ClassVar = {"c": "mn"}

    def __post_init__(self) -> None:
        check_matrix("c", self.c, (np.int32, np.int8))

    def run(self, acc: Int32Array, at: Slices) -> None:
        """Add `c`."""
        acc += self.c[at]


@dataclass(frozen=True, repr=False)
class LeakyRelu(FusedOp):
    """``x if x >= 0 else alpha * x`` with an int32 `alpha`.

    Examples
    --------
    >>> apply(np.array([[-2, 3]], np.int32), [LeakyRelu(5)])
    array([[-10,   3]], dtype=int32)
    """

    alpha: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "alpha", integer("alpha", self.alpha, INT32.min, INT32.max))

    def run(self, acc: Int32Array, _at: Slices) -> None:
        """Multiply what is negative."""
        np.multiply(acc, np.int32(self.alpha), out=acc, where=acc < 0)


@dataclass(frozen=True, eq=False, repr=False)
class Store(FusedOp):
    """Write x to `out`, an int32 or int8 matrix of the same shape, of any strides.

    int8 keeps the low byte: to saturate, put a Max and a Min before it.

    Examples
    --------
    >>> out = np.empty((1, 2), np.int8)
    >>> _ = apply(np.array([[300, -1]], np.int32), [Store(out)])
    >>> out
    array([[44, -1]], dtype=int8)
    """

    out: npt.NDArray[Any]

    axes: ClassVar = {"out": "mn"}

    def __post_init__(self) -> None:
        check_matrix("out", self.out, (np.int32, np.int8))
        check_writeable("out", self.out)

    def run(self, acc: Int32Array, at: Slices) -> None:
        """Write the block, or its low bytes."""
        self.out[at] = acc


@dataclass(frozen=True, repr=False)
class Clear(FusedOp):
    """``x = 0``."""

    def run(self, acc: Int32Array, _at: Slices) -> None:
        """Write zeros."""
        acc[...] = 0


@dataclass(frozen=True, eq=False, repr=False)
class LoadTile(FusedOp):
    """``x = tile``, an int32 matrix of the same shape, of any strides."""

    tile: Int32Array

    axes: ClassVar = {"tile": "mn"}

    def __post_init__(self) -> None:
        check_matrix("tile", self.tile, (np.int32,))

    def run(self, acc: Int32Array, at: Slices) -> None:
        """Read the block from `tile`."""
        acc[...] = self.tile[at]


@dataclass(frozen=True, eq=False, repr=False)
class AddMatMul(FusedOp):
    """``x += a @ b`` for int8 or uint8 matrices `a` (m, k) and `b` (k, n).

    `b` may be a PackedMatrix. Here the product is the plain definition, without the kernels.

    Examples
    --------
    >>> a = np.array([[1, 2]], np.int8)
    >>> apply(np.ones((1, 1), np.int32), [AddMatMul(a, a.T)])
    array([[6]], dtype=int32)
    """

    a: npt.NDArray[Any]
    b: npt.NDArray[Any] | PackedMatrix

    axes: ClassVar = {"a": "mk", "b": "kn"}

    def __post_init__(self) -> None:
        check_matrix("a", self.a, (np.int8, np.uint8))
        if not hasattr(self.b, "unpack"):
            check_matrix("b", self.b, (np.int8, np.uint8))
        if self.a.shape[1] != self.b.shape[0]:
            raise ValueError(f"a has {self.a.shape[1]} columns, but b has {self.b.shape[0]} rows")

    def run(self, acc: Int32Array, at: Slices) -> None:
        """Add the product's block."""
        b = self.b if isinstance(self.b, np.ndarray) else self.b.unpack()
        acc += product(self.a[at[0]], b[:, at[1]])


def product(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> Int32Array:
    """Return ``a @ b`` of int8 or uint8 matrices (m, k) and (k, n), kept to 32 bits."""
    # A sum of 2**37 products still fits the 53 bits of a double.
    exact = np.matmul(a, b, dtype=np.float64)
    wrapped: Int32Array = exact.astype(np.int64).astype(np.int32)
    return wrapped


def requantize_ops(scaler: Scaler, zero_point: int = 0, low: int = -128, high: int = 127) -> tuple[FusedOp, ...]:
    """Return the ops that bring a product to int8: scale, add the zero point, clamp.

    Examples
    --------
    >>> acc = np.array([[-1000, 5, 1000]], np.int32)
    >>> apply(acc, requantize_ops(Scaler(0.5, RoundingPolicy.Even), 3))
    array([[-128,    5,  127]], dtype=int32)
    """
    add = BinScalar(BinOp.Add, zero_point)
    return (scaler, add, BinScalar(BinOp.Max, low), BinScalar(BinOp.Min, high))


def check(ops: Iterable[FusedOp], m: int, n: int) -> tuple[FusedOp, ...]:
    """Return `ops` as a tuple, every operand checked to fit an m x n matrix.

    Raises
    ------
    TypeError
        If `ops` holds something that is not a fused op.
    ValueError
        If an operand's shape does not fit; the message names the op and the operand.
    """
    try:
        checked = tuple(ops)
    except TypeError:
        raise TypeError(f"ops must be a sequence of fused ops, got {type(ops).__name__}") from None
    for index, op in enumerate(checked):
        if not isinstance(op, FusedOp):
            raise TypeError(f"ops[{index}] must be a fused op, got {type(op).__name__}")
        try:
            op.check(m, n)
        except ValueError as error:
            raise ValueError(f"ops[{index}], {type(op).__name__}: {error}") from None
    return checked


def apply(
    acc: Int32Array,
    ops: Iterable[FusedOp],
    *,
    row0: int = 0,
    col0: int = 0,
    shape: tuple[int, int] | None = None,
) -> Int32Array:
    """Run `ops`, in order, on `acc` in place.

    Parameters
    ----------
    acc : int32 array (rows, cols)
        A matrix or one block of it, writeable, of any strides.
    ops : iterable of FusedOp
        What to do.
    row0, col0 : int
        Where the block lies in the whole matrix.
    shape : (int, int), optional
        Shape of the whole matrix, which the operands must fit. By default the matrix ends
        where `acc` ends.

    Returns
    -------
    int32 array
        `acc` itself.

    Raises
    ------
    TypeError
        If `acc` is not an int32 array or `ops` holds something that is not a fused op.
    ValueError
        If an operand does not fit or the block is not inside `shape`. Nothing has been
        written then.

    Examples
    --------
    >>> acc = np.array([[1, 2], [3, 4]], np.int32)
    >>> apply(acc, [BinPerRow(BinOp.Add, [10, 20]), ShiftLeft(1)])
    array([[22, 24],
           [46, 48]], dtype=int32)
    """
    check_matrix("acc", acc, (np.int32,))
    check_writeable("acc", acc)
    end = (row0 + acc.shape[0], col0 + acc.shape[1])
    m, n = end if shape is None else shape
    if row0 < 0 or col0 < 0 or end[0] > m or end[1] > n:
        raise ValueError(f"acc {acc.shape} at row {row0}, column {col0} is not inside {(m, n)}")
    checked = check(ops, m, n)
    at = (slice(row0, end[0]), slice(col0, end[1]))
    for op in checked:
        op.run(acc, at)
    return acc
