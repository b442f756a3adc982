"""The fused ops of an accumulator and one operand: a scalar, one value per row, one per column."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from pyint8dot.fuse.operands import INT32, FusedOp, Int32Array, Slices, integer, vector


class BinOp(enum.Enum):
    """The binary ops, of the accumulator x and an operand v.

    The operand is the left side, as in tract: `Sub` is v - x, and `SubF`, flipped, is x - v.
    To subtract v from a product is `SubF`.

    Examples
    --------
    >>> from pyint8dot.fuse import apply
    >>> [apply(np.array([[10]], np.int32), [BinScalar(op, 3)]).item() for op in (BinOp.Sub, BinOp.SubF)]
    [-7, 7]
    """

    Min = "min(x, v)"
    Max = "max(x, v)"
    Add = "x + v"
    Mul = "x * v"
    Sub = "v - x"
    SubF = "x - v"


_UFUNCS: dict[BinOp, np.ufunc] = {
    BinOp.Min: np.minimum,
    BinOp.Max: np.maximum,
    BinOp.Add: np.add,
    BinOp.Mul: np.multiply,
    BinOp.Sub: np.subtract,
    BinOp.SubF: np.subtract,
}


def _binary(op: BinOp, acc: Int32Array, v: Int32Array | np.int32) -> None:
    first, second = (v, acc) if op is BinOp.Sub else (acc, v)
    _UFUNCS[op](first, second, out=acc)


def _check_bin_op(op: object) -> None:
    if not isinstance(op, BinOp):
        raise TypeError(f"op must be a BinOp, got {type(op).__name__}")


@dataclass(frozen=True, repr=False)
class BinScalar(FusedOp):
    """``x = op(x, v)`` with one int32 `v` for the whole matrix.

    Examples
    --------
    >>> from pyint8dot.fuse import apply
    >>> apply(np.array([[1, -2]], np.int32), [BinScalar(BinOp.Max, 0)])
    array([[1, 0]], dtype=int32)
    """

    op: BinOp
    v: int

    def __post_init__(self) -> None:
        _check_bin_op(self.op)
        object.__setattr__(self, "v", integer("v", self.v, INT32.min, INT32.max))

    def run(self, acc: Int32Array, _at: Slices) -> None:
        """Combine the block with the scalar."""
        _binary(self.op, acc, np.int32(self.v))


@dataclass(frozen=True, eq=False, repr=False)
class BinPerRow(FusedOp):
    """``x[i, j] = op(x[i, j], vec[i])`` with an int32 `vec`, one value per row.

    Examples
    --------
    >>> from pyint8dot.fuse import apply
    >>> apply(np.ones((2, 2), np.int32), [BinPerRow(BinOp.Mul, [5, 7])])
    array([[5, 5],
           [7, 7]], dtype=int32)
    """

    op: BinOp
    vec: Any

    axes: ClassVar = {"vec": "m"}

    def __post_init__(self) -> None:
        _check_bin_op(self.op)
        object.__setattr__(self, "vec", vector("vec", self.vec))

    def run(self, acc: Int32Array, at: Slices) -> None:
        """Combine each row with its value."""
        _binary(self.op, acc, self.vec[at[0], None])


@dataclass(frozen=True, eq=False, repr=False)
class BinPerCol(FusedOp):
    """``x[i, j] = op(x[i, j], vec[j])`` with an int32 `vec`, one value per column.

    Examples
    --------
    >>> from pyint8dot.fuse import apply
    >>> apply(np.ones((2, 2), np.int32), [BinPerCol(BinOp.SubF, [5, 7])])
    array([[-4, -6],
           [-4, -6]], dtype=int32)
    """

    op: BinOp
    vec: Any

    axes: ClassVar = {"vec": "n"}

    def __post_init__(self) -> None:
        _check_bin_op(self.op)
        object.__setattr__(self, "vec", vector("vec", self.vec))

    def run(self, acc: Int32Array, at: Slices) -> None:
        """Combine each column with its value."""
        _binary(self.op, acc, self.vec[at[1]])
