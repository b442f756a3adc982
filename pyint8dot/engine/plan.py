"""Plans: products of which all is decided but the left operand.

A plan belongs to one right operand on one kernel, to one type of left operand, one set of zero points and one epilogue. It is
made once, by `pyint8dot.engine.operand`, and called with arrays. `NativePlan` has written its program before the first call;
`PortablePlan` does the same in numpy, and is the definition.

uint8 is int8 with another zero point: flipping the top bit takes 128 off every value, so ``u8 - z`` is ``s8 - (z - 128)`` and
one mechanism serves both. With za and zb the zero points after that move, and A', B' the moved operands::

    C[i, j] = A'B'[i, j]  -  za[i] * colsum(B')[j]  -  zb[j] * rowsum(A')[i]  +  k * za[i] * zb[j]        modulo 2**32

A term of the row alone or of the column alone is where the kernel's sums start and costs nothing; the others are added as outer
products. Sums of rows are products too: of A' with a column of ones.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from pyint8dot.engine import portable
from pyint8dot.engine.layouts import moved_to_int8

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyint8dot.engine.program import Argument, Program, Word

__all__ = ["Epilogue", "Left", "Output", "Plan", "PortablePlan", "Zeros", "column_terms", "overlaps"]

Array: TypeAlias = npt.NDArray[Any]
Int32: TypeAlias = npt.NDArray[np.int32]

INT32, FLOAT32 = np.dtype(np.int32), np.dtype(np.float32)


#: What an operand that is handed over at a call has one value for.
ROW: Final = "row"
COLUMN: Final = "column"
CALL: Final = "call"


class Zeros(NamedTuple):
    """Zero points of both operands' values as int8 (those of uint8 less 128), and what is added to every row."""

    #: ROW: one per row, int32, handed over at each call as the first extra operand and of the values as int8; CALL: one for all,
    #: of the operand's own type and without a dimension, handed over likewise or found by what quantises the operand.
    a: int | Literal["row", "call"] = 0
    b: int | Int32 = 0
    #: int32, shape (n,).
    bias: Int32 | None = None


class Output(NamedTuple):
    """Where an epilogue finds its sums and puts its results, as arguments of a program."""

    acc: Word
    ld_acc: int
    y: Word
    ld_y: int
    m: Word
    #: The columns it is about, of all.
    first: int
    columns: int
    #: The scales of float32 rows that were quantised on the way in, or the one scale of all of them.
    row_scale: Word | None
    #: Scratch for a row of float32, where the epilogue asks for it.
    spare: Word | None
    #: The extra operands of the call, already moved to this block.
    extras: Sequence[Word]


class Epilogue(Protocol):
    """What becomes of the int32 sums: native and in numpy, bit for bit the same."""

    #: Type of the result.
    dtype: np.dtype[Any]
    #: For each operand handed over at a call whether it has one value per "row", per "column" or for the whole "call".
    extras: tuple[str, ...]
    #: Whether it needs scratch for a row of float32.
    spare: bool

    def write(self, program: Program, out: Output) -> None:
        """Append its record to a program."""

    def apply(self, acc: Int32, y: Array, row_scale: Array | None, extras: Sequence[Array]) -> None:
        """Do the same in numpy: sums `acc`, shape (m, n), to `y`."""


class Left(Protocol):
    """How a left operand that is not int8 or uint8 becomes codes of one of these types, and scales."""

    #: Type of the operand.
    dtype: np.dtype[Any]
    #: Type of its codes.
    codes: np.dtype[Any]
    #: Whether it has one scale and one zero point for all of it, instead of a scale per row: it is then quantised in one piece.
    whole: bool

    def write(
        self, program: Program, *, x: Argument, ld_x: Argument, q: Argument, m: Argument, k: int, scale: Argument,
        zero_point: Argument, status: Argument,
    ) -> None:  # fmt: skip
        """Append its record to a program; the rows of `q` lie `k` bytes apart, and so do those of `x` where it is `whole`."""

    def apply(self, x: Array) -> tuple[Array, Array, Array | None] | None:
        """Do the same in numpy: codes, scales and zero point; None where the values cannot be quantised."""


class Plan(Protocol):
    """What every plan can do."""

    def offer(
        self, a: Array, out: Array | None, count: int, first: Array | None = None, second: Array | None = None
    ) -> Array | None:
        """Compute the product of the array `a` of the plan's type, any number of dimensions, on `count` threads.

        Returns the result, `out` where that is given, or None, with `out` as it was: where an extra operand is not as plain as this
        serves, or something is wrong.
        """

    def into(self, a: Array, y: Array, count: int, first: Array | None = None, second: Array | None = None) -> bool:
        """Compute the product of `a`, shape (m, k), to `y`, shape (m, n), whose rows are contiguous and shares no memory.

        Returns False where the values of `a` cannot be quantised.
        """


def column_terms(zeros: Zeros, k: int, column_sums: Int32 | None) -> tuple[Int32 | None, list[tuple[str, Int32]]]:
    """What the sums start from per column, and the outer products to add: (ROW, CALL or "sums", the factor per column).

    ROW is the zero point of each row, CALL the zero point of all, "sums" the sum of each row; int32 arithmetic wraps.
    """
    start = zeros.bias
    outers: list[tuple[str, Int32]] = []
    each = isinstance(zeros.b, np.ndarray)
    shift = np.asarray(zeros.b, np.int64) * k
    if not isinstance(zeros.a, int):
        assert column_sums is not None  # noqa: S101 - whoever has zero points that come with each call has made them
        outers.append((zeros.a, wrapped(shift - column_sums)))
    elif zeros.a:
        assert column_sums is not None  # noqa: S101 - likewise
        term = wrapped(zeros.a * (shift - column_sums))
        start = term if start is None else start + term
    if each:
        outers.append(("sums", wrapped(-np.asarray(zeros.b, np.int64))))
    return start, outers


class Extra(NamedTuple):
    """An operand that is handed over at a call beside the left one."""

    #: ROW, COLUMN or CALL.
    along: str
    dtype: np.dtype[Any]

    def shape(self, m: int, n: int) -> tuple[int, ...]:
        """Its shape where the product has shape (m, n)."""
        return {ROW: (m,), COLUMN: (n,)}.get(self.along, ())


def extra_operands(
    zeros: Zeros, epilogue: Epilogue | None, codes: np.dtype[Any], left: Left | None
) -> tuple[Extra, ...]:
    """The operands handed over at a call, of which a zero point comes first; `codes` is the type that the zero point has."""
    extras = [Extra(along, FLOAT32) for along in (() if epilogue is None else epilogue.extras)]
    if zeros.a == ROW:
        extras.insert(0, Extra(ROW, INT32))
    elif zeros.a == CALL and left is None:
        extras.insert(0, Extra(CALL, codes))
    return tuple(extras)


def wrapped(values: Array) -> Int32:
    """int64 values modulo 2**32 as contiguous int32."""
    return np.ascontiguousarray(values.astype(np.int32))


def overlaps(out: Array, *operands: object) -> bool:
    """Whether `out` may share memory with an operand."""
    return any(isinstance(operand, np.ndarray) and np.may_share_memory(out, operand) for operand in operands)


def two_dimensional(a: Array, k: int) -> Array | None:
    """`a` as a matrix of rows of `k`, or None where that takes a copy or its rows are not so long."""
    if a.ndim == 2:
        return a if a.shape[1] == k else None
    if a.ndim == 0 or a.shape[-1] != k or (a.ndim > 2 and not a.flags.c_contiguous):
        return None
    return a.reshape(math.prod(a.shape[:-1]), k)


class PortablePlan:
    """A plan in numpy: the definition, on any machine."""

    def __init__(
        self,
        b: npt.NDArray[np.int8],
        zeros: Zeros,
        column_sums: Int32 | None,
        epilogue: Epilogue | None,
        left: Left | None,
        dtype: np.dtype[Any],
    ) -> None:
        self._b, self._zeros, self._epilogue, self._left = b, zeros, epilogue, left
        self._start, self._outers = column_terms(zeros, b.shape[0], column_sums)
        self._dtype = INT32 if epilogue is None else epilogue.dtype
        self._extras = extra_operands(zeros, epilogue, dtype, left)

    def offer(
        self, a: Array, out: Array | None, count: int, first: Array | None = None, second: Array | None = None
    ) -> Array | None:
        """Serve as `Plan.offer`."""
        k, n = self._b.shape
        rows = two_dimensional(a, k)
        if rows is None:
            return None
        for wanted, extra in zip(self._extras, (first, second), strict=False):
            if type(extra) is not np.ndarray or extra.dtype != wanted.dtype:
                return None
            if extra.shape != wanted.shape(len(rows), n):
                return None
        shape = (*a.shape[:-1], n)
        if out is not None:
            served = type(out) is np.ndarray and out.dtype == self._dtype and out.shape == shape and out.flags.writeable
            if not served or not out.flags.c_contiguous or overlaps(out, a, first, second):
                return None
        y = np.empty(shape, self._dtype) if out is None else out
        return y if self.into(rows, y.reshape(len(rows), n), count, first, second) else None

    def into(self, a: Array, y: Array, count: int, first: Array | None = None, second: Array | None = None) -> bool:  # noqa: ARG002 - BLAS has its own threads
        """Serve as `Plan.into`."""
        extras = [extra for extra in (first, second) if extra is not None]
        scales: Array | None = None
        zero: Array | None = None
        if self._left is not None:
            quantised = self._left.apply(a)
            if quantised is None:
                return False
            a, scales, zero = quantised
        elif not isinstance(self._zeros.a, int):
            zero = extras.pop(0)
        rows = moved_to_int8(a)
        acc = y if self._epilogue is None else np.empty(y.shape, np.int32)
        portable.gemm(rows, self._b, acc)
        zero_point = self._zeros.b
        if isinstance(zero_point, int) and zero_point:
            acc -= wrapped(np.int64(zero_point) * self._sums(rows))[:, None]
        if self._start is not None:
            acc += self._start
        for kind, across in self._outers:
            if kind == "sums":
                acc += np.multiply.outer(self._sums(rows), across)
                continue
            assert zero is not None  # noqa: S101 - it has come with the call or with the codes
            if kind == ROW:
                acc += np.multiply.outer(zero, across)
            else:
                acc += np.multiply(moved_to_int8(zero.reshape(1)), across, dtype=np.int32)
        if self._epilogue is not None:
            self._epilogue.apply(acc, y, scales, extras)
        return True

    @staticmethod
    def _sums(rows: npt.NDArray[np.int8]) -> Int32:
        sums: Int32 = np.add.reduce(rows, axis=1, dtype=np.int32)
        return sums
