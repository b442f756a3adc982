"""numpy.matmul's shape rules for the products of this package, once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pyint8dot.arguments import quantized
from pyint8dot.engine.packing import PackedMatrix

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["Operands", "array", "operands", "right"]


def array(name: str, value: npt.ArrayLike) -> npt.NDArray[Any]:
    """`value` as an int8 or uint8 array; TypeError for anything else, a packed matrix among it."""
    if isinstance(value, PackedMatrix):
        raise TypeError(f"{name} must be an array of int8 or uint8, got a PackedMatrix, which can only be b")
    return quantized(name, value)


def right(name: str, value: npt.ArrayLike | PackedMatrix) -> npt.NDArray[Any] | PackedMatrix:
    """`value` as an int8 or uint8 array, or the packed matrix it is."""
    return value if isinstance(value, PackedMatrix) else quantized(name, value)


class Operands(NamedTuple):
    """Two operands as stacks of matrices, and the shapes that follow from them."""

    #: Shape (..., m, k).
    a: npt.NDArray[Any]
    #: Shape (..., k, n).
    b: npt.NDArray[Any] | PackedMatrix
    #: Shape of the caller's `a` without its last dimension.
    rows: tuple[int, ...]
    #: Leading dimensions of the caller's `b`.
    batch: tuple[int, ...]
    #: Columns of the caller's `b`; None where it is a vector.
    n: int | None
    #: Shape of the product with every dimension of both, and the one the caller sees.
    full: tuple[int, ...]
    shape: tuple[int, ...]


def operands(a: npt.NDArray[Any], b: npt.NDArray[Any] | PackedMatrix, names: tuple[str, str] = ("a", "b")) -> Operands:
    """Combine two arrays by the rules of numpy.matmul.

    Raises
    ------
    ValueError
        An operand is 0-d, or the shapes do not fit; the message names both.
    """
    rank_a, rank_b = a.ndim, b.ndim
    if rank_a == 0 or rank_b == 0:
        name = names[0] if rank_a == 0 else names[1]
        raise ValueError(f"{name} must have at least one dimension, got a 0-d array")
    left = a if rank_a > 1 else a[None, :]
    right = b if rank_b > 1 else b[:, None]  # type: ignore[index]  # a PackedMatrix has two dimensions
    rows, columns = left.shape, right.shape
    m, k, n = rows[-2], rows[-1], columns[-1]
    if columns[-2] != k:
        raise ValueError(
            f"{names[1]} must have {k} rows, as many as {names[0]} has columns, got shapes {a.shape} and {b.shape}"
        )
    lead, stacked = rows[:-2], columns[:-2]
    if stacked and stacked != lead:
        try:
            lead = np.broadcast_shapes(lead, stacked)
        except ValueError:
            raise ValueError(
                f"{names[0]} and {names[1]} must have leading dimensions that broadcast, got shapes {a.shape} and {b.shape}"
            ) from None
    full = (*lead, m, n)
    shape = full
    if rank_a == 1:
        shape = (*lead, n)
    if rank_b == 1:
        shape = shape[:-1]
    return Operands(left, right, a.shape[:-1], stacked, n if rank_b > 1 else None, full, shape)
