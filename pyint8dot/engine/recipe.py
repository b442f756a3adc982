"""What a plan's programs hold: packing, sums, product, outer products and epilogue of one block, and where each keeps its data."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pyint8dot.engine import blocks, program
from pyint8dot.engine.blocks import Written
from pyint8dot.engine.plan import CALL, INT32, ROW, Output, column_terms, extra_operands
from pyint8dot.engine.program import (
    FIRST,
    LEFT,
    LEFT_STRIDE_K,
    LEFT_STRIDE_M,
    RESULT,
    RIGHT,
    RIGHT_STRIDE_K,
    RIGHT_STRIDE_N,
    ROWS,
    SCRATCH,
    SECOND,
    STATUS,
    Program,
    Word,
)  # fmt: skip

if TYPE_CHECKING:
    import numpy.typing as npt

    from pyint8dot.engine.kernels import Kernel
    from pyint8dot.engine.layouts import Layout
    from pyint8dot.engine.plan import Epilogue, Int32, Left, Zeros
    from pyint8dot.engine.program import Argument

__all__ = ["Key", "Recipe", "Right"]

#: Parts of the scratch, each of which may take up to a line more for starting on one.
PARTS = 10

UINT8 = np.dtype(np.uint8)
INT8 = np.iinfo(np.int8)

#: What a row is multiplied by to be added to itself.
ONE = np.ones(1, np.int32)

#: What columns are filled up with.
ZERO = np.zeros(1, np.int8)


class Right(NamedTuple):
    """The right operand of a plan, shape (k, n)."""

    k: int
    n: int
    #: Packed for the kernel, or None where the operand comes with each call as an array.
    packed: npt.NDArray[np.int8] | None
    #: Of the values as int8; whoever has zero points has made them.
    column_sums: Int32 | None = None
    #: What the kernel adds to every sum of a column, if it does; see `Kernel.complement`.
    surplus: Int32 | None = None
    #: The type of an array that comes with each call.
    dtype: np.dtype[Any] | None = None


class Key(NamedTuple):
    """What a program depends on beside its recipe."""

    #: Rows that its scratch has room for.
    rows: int
    column: int
    columns: int
    #: Bytes from a row of the result to the next.
    ld: int


class _Room:
    """Shares out the scratch memory of a program, each part on a cache line."""

    packed: Word | None = None
    acc: Word | None = None
    scales: Word | None = None
    sums: Word | None = None
    right: Word | None = None
    #: What sums start from per column.
    start: Word | None = None
    #: What the zero points of the rows are multiplied by per column, where that is not known before.
    across: Word | None = None
    zero_point: Word | None = None
    #: For the epilogue.
    spare: Word | None = None

    def __init__(self) -> None:
        self.size = 0

    def take(self, size: int) -> Word:
        at = self.size
        self.size += -(-size // blocks.LINE) * blocks.LINE
        return SCRATCH.plus(at)


class Recipe:
    """How the programs of a plan are written.

    Parameters
    ----------
    kernel : Kernel
        A native one.
    right : Right
    dtype : dtype
        Type of the left operand.
    zeros : Zeros
    epilogue : Epilogue, optional
    left : Left, optional
    """

    def __init__(
        self,
        kernel: Kernel,
        right: Right,
        dtype: np.dtype[Any],
        zeros: Zeros,
        epilogue: Epilogue | None,
        left: Left | None,
    ) -> None:
        self.kernel, self.right, self.epilogue, self.left = kernel, right, epilogue, left
        #: The columns of the left operand, and its type.
        self.k, self.operand = right.k, dtype
        self._zeros = zeros
        self.dtype = INT32 if epilogue is None else epilogue.dtype
        #: The type of what is packed or multiplied as it lies.
        self._codes = dtype if left is None else left.codes
        self._left_layout = kernel.each_call(kernel.left)
        # Where B comes with each call the sums of its columns are made at each call too, and count as 0 here.
        column_sums = right.column_sums if right.packed is not None else np.zeros(right.n, np.int32)
        start, outers = column_terms(zeros, right.k, column_sums)
        self._outers = [(kind, across) for kind, across in outers if kind != CALL]
        #: What the zero point is multiplied by per column, where it is known only at the call.
        self._across = next((across for kind, across in outers if kind == CALL), None)
        if right.surplus is not None:
            start = -right.surplus if start is None else start - right.surplus
        self._start = None if start is None else whole(start, kernel.nr)
        self.extras = extra_operands(zeros, epilogue, self._codes, left)
        #: The words of the head that are array objects, where they are not addresses.
        self.objects = (
            LEFT, RESULT, *(FIRST, SECOND)[: len(self.extras)], *((RIGHT,) if right.packed is None else ())
        )  # fmt: skip
        self.fixed_bytes = self._room(0).size
        self.row_bytes = max(1, (self._room(blocks.LINE).size - self.fixed_bytes) // blocks.LINE)

    @property
    def reads_first(self) -> bool:
        """Whether the left operand is packed or quantised as a whole before anything is written."""
        return self.kernel.packs_left or self.left is not None

    def rows_within(self, scratch: int) -> int:
        """How many rows so much scratch has room for, at least; negative where there is not even room for none."""
        left_over = scratch - self.fixed_bytes - PARTS * blocks.LINE
        if left_over < 0:
            return -1
        rows = left_over // self.row_bytes
        # Where the last panel is filled up it takes as much as a whole one.
        return rows if self.kernel.left.split else rows - rows % self.kernel.left.r

    def _room(self, rows: int, columns: int | None = None) -> _Room:
        """The scratch of a block of so many rows and columns."""
        right = self.right
        wide = self.right.n if columns is None else columns
        room = _Room()
        if self.kernel.packs_left:
            room.packed = room.take(self.kernel.left.size(right.k, rows))
        elif self.left is not None:
            room.packed = room.take(rows * right.k)
        if self.epilogue is not None:
            # Quantised rows lie where their sums will: they are packed before those are made.
            quantised = right.k if self.left is not None and self.kernel.packs_left else 0
            room.acc = room.take(rows * max(4 * wide, quantised))
        if self.left is not None:
            room.scales = room.take(4 if self.left.whole else 4 * rows)
            room.zero_point = room.take(1)
        if not isinstance(self._zeros.b, int) or self._zeros.b:
            room.sums = room.take(4 * rows)
        if right.packed is None:
            room.right = room.take(self.kernel.right.size(right.k, right.n))
        if right.packed is None or self._across is not None:
            room.start = room.take(4 * self.kernel.right.whole(wide))
        if right.packed is None and self._zeros.a == ROW:
            room.across = room.take(4 * self.kernel.right.whole(wide))
        if self.epilogue is not None and self.epilogue.spare:
            room.spare = room.take(4 * wide)
        return room

    def write(self, key: Key) -> Written:
        """Write the program for `key`."""
        out = Program()
        return Written(out, self.append(out, key, LEFT))

    def append(self, out: Program, key: Key, a: Word) -> int:
        """Write the records for `key` of a left operand that begins at `a`, and return the scratch they need."""
        rows, column, columns, ld = key
        kernel, right, zeros = self.kernel, self.right, self._zeros
        depth = kernel.right.depth(right.k)
        room = self._room(rows, columns)
        self._pack_left(out, room, a)
        b: Argument = room.right
        start: Argument = None if self._start is None else self._start[column:]
        if right.packed is not None:
            b = right.packed[column * depth :]
        else:
            start = self._pack_right(out, room, depth)
        if self._across is not None:
            out.column_start(
                start=room.start, base=start, n=columns, zero_point=FIRST if self.left is None else room.zero_point,
                flip=0x80 if self._codes == UINT8 else 0, v=self._across[column:],
            )  # fmt: skip
            start = room.start
        # The sums of rows are a product as well, with a column that holds what they are multiplied by.
        row_start: Argument = None
        if room.sums is not None:
            factor, twice = halved(-zeros.b) if isinstance(zeros.b, int) else (1, False)
            values, surplus = constant_column(kernel, right.k, factor)
            self._multiply(out, room, b=values, c=room.sums, ldc=4, n=1, col_start=surplus)
            if twice:
                double(out, room.sums, ROWS)
            row_start = room.sums
        c, ldc = (RESULT, ld) if room.acc is None else (room.acc, 4 * columns)
        if not isinstance(zeros.b, int):
            row_start = None
        self._multiply(out, room, b=b, c=c, ldc=ldc, n=columns, row_start=row_start, col_start=start)
        for kind, across in self._outers:
            u, v = (FIRST, room.across) if kind == ROW else (room.sums, None)
            out.add_outer(c=c, ldc=ldc, m=ROWS, n=columns, u=u, v=across[column:] if v is None else v)
        if self.epilogue is not None:
            extras = (FIRST, SECOND)[len(self.extras) - len(self.epilogue.extras) :]
            self.epilogue.write(out, Output(c, ldc, RESULT, ld, ROWS, column, columns, room.scales, room.spare, extras))
        return room.size

    def _multiply(
        self, out: Program, room: _Room, *, b: Argument, c: Argument, ldc: int, n: int, row_start: Argument = None,
        col_start: Argument = None,
    ) -> None:  # fmt: skip
        """Write the record of a product with a block of the left operand."""
        kernel, k = self.kernel, self.right.k
        if kernel.packs_left:
            out.multiply(
                kernel.name, a=room.packed, b=b, c=c, ldc=ldc, m=ROWS, n=n, k=kernel.right.depth(k),
                row_start=row_start, col_start=col_start,
            )  # fmt: skip
            return
        a, lda = (LEFT, LEFT_STRIDE_M) if self.left is None else (room.packed, k)
        out.multiply_rows(
            kernel.name, a=a, b=b, c=c, ldc=ldc, m=ROWS, n=n, k=k, row_start=row_start, col_start=col_start, lda=lda,
            flip=program.FLIP if self._codes == UINT8 else 0,
        )  # fmt: skip

    def _pack_left(self, out: Program, room: _Room, a: Word) -> None:
        """Write the records that bring a block of the left operand into the kernel's layout."""
        kernel, k = self.kernel, self.right.k
        source: Argument = a
        stride_k: Argument = LEFT_STRIDE_K
        stride_m: Argument = LEFT_STRIDE_M
        if self.left is not None:
            # Where rows are packed they lie first where their sums will: those are made after the packing.
            source, stride_k, stride_m = room.acc if kernel.packs_left else room.packed, 1, k
            self.left.write(
                out, x=a, ld_x=LEFT_STRIDE_M, q=source, m=ROWS, k=k, scale=room.scales, zero_point=room.zero_point,
                status=STATUS,
            )  # fmt: skip
        if kernel.packs_left:
            layout = self._left_layout
            out.pack(
                layout.packer, source=source, packed=room.packed, k=k, mn=ROWS, stride_k=stride_k, stride_mn=stride_m,
                split=int(layout.split), flip=layout.flip(self._codes),
            )  # fmt: skip

    def _pack_right(self, out: Program, room: _Room, depth: int) -> Argument:
        """Write the records that pack B and make what the sums start from per column; return where that is."""
        kernel, right, zeros = self.kernel, self.right, self._zeros
        assert right.dtype is not None  # noqa: S101 - said of every operand that comes with each call
        if kernel.right.packer is not None:
            out.pack(
                kernel.right.packer, source=RIGHT, packed=room.right, k=right.k, mn=right.n, stride_k=RIGHT_STRIDE_K,
                stride_mn=RIGHT_STRIDE_N, split=0, flip=kernel.right.flip(right.dtype),
            )  # fmt: skip
        else:
            # Panels of one column are columns one after the other, each with zeros behind it.
            flip = 0x80 if right.dtype == UINT8 else 0
            out.copy_planes(
                x=RIGHT, y=room.right, planes=1, rows=right.n, n=right.k, plane_x=0, plane_y=0, row_x=RIGHT_STRIDE_N,
                row_y=depth, step=RIGHT_STRIDE_K, flip=flip,
            )  # fmt: skip
            assert room.right is not None  # noqa: S101 - there is room for every operand that comes with each call
            out.copy_planes(
                x=ZERO, y=room.right.plus(right.k), planes=1, rows=right.n, n=depth - right.k, plane_x=0, plane_y=0,
                row_x=0, row_y=depth, step=0, flip=0,
            )  # fmt: skip
        # Sums of columns are the product of a row that holds what they are multiplied by.
        if zeros.a == ROW:
            [base] = [across for kind, across in self._outers if kind == ROW]
            self._add_column_sums(out, room, room.across, whole(base, kernel.nr), -1, spare=0)
        return self._add_column_sums(out, room, room.start, self._start, -zeros.a if isinstance(zeros.a, int) else 0)

    def _add_column_sums(
        self, out: Program, room: _Room, target: Argument, start: Argument, value: int, spare: int = 1
    ) -> Argument:
        """Write the records that add so many times the sums of B's columns to `start`, per column; return where the result is."""
        kernel, right = self.kernel, self.right
        for row in constant_rows(kernel, right.k, value, spare):
            if kernel.packs_left:
                depth = kernel.right.depth(right.k)
                out.multiply(
                    kernel.name, a=row, b=room.right, c=target, ldc=0, m=1, n=right.n, k=depth, col_start=start
                )
            else:
                out.multiply_rows(
                    kernel.name, a=row, b=room.right, c=target, ldc=0, m=1, n=right.n, k=right.k, col_start=start,
                    lda=0, flip=0,
                )  # fmt: skip
            start = target
        return start


def whole(columns: Int32, nr: int) -> Int32:
    """`columns` as contiguous int32 that may be read up to a whole panel of `nr`."""
    n = len(columns)
    if n % nr == 0:
        return np.ascontiguousarray(columns, np.int32)
    padded = np.zeros(-(-n // nr) * nr, np.int32)
    padded[:n] = columns
    return padded


def halved(factor: int) -> tuple[int, bool]:
    """A number from -127 to 128 as an int8 value, and whether that is only half of it: 128 is no int8 value."""
    return (factor // 2, True) if factor > INT8.max else (factor, False)


def double(out: Program, sums: Word, count: Argument) -> None:
    """Write the record that doubles so many int32: as a row, they are added to themselves."""
    out.add_outer(c=sums, ldc=0, m=1, n=count, u=ONE, v=sums)


def digits(factor: int, count: int = 1) -> list[int]:
    """A number from -130 to 128 as a sum of int8 values, at least `count`, as near to each other as integers can be."""
    count = count if -128 * count <= factor <= 127 * count else 2
    return [factor * (i + 1) // count - factor * i // count for i in range(count)]


def wrapped_scalar(value: int) -> int:
    """An integer modulo 2**32 as int32 has it."""
    return (value + 2**31) % 2**32 - 2**31


@functools.lru_cache(maxsize=256)
def constant(layout: Layout, k: int, value: int, upper: int) -> npt.NDArray[np.int8]:
    """A single row or column of `k` values, packed: `upper` in the upper halves of K groups, `value` elsewhere."""
    values = np.full((k, 1), value, np.int8)
    values[layout.upper(k)] = upper
    return layout.pack(values, k_axis=0, mn_axis=1)


def constant_column(kernel: Kernel, k: int, value: int) -> tuple[npt.NDArray[np.int8], Int32 | None]:
    """A single column of `k` times `value`, packed, and what its product starts from, which takes off a surplus."""
    values = np.full((k, 1), value, np.int8)
    surplus = whole(-kernel.right.upper_sums(values), kernel.nr) if kernel.complement else None
    return constant(kernel.right, k, value, value), surplus


def surplus(kernel: Kernel, packed: npt.NDArray[np.int8], k: int, n: int) -> Int32:
    """What a kernel adds to every sum of a column of a packed matrix, shape (k, n): its own product of a row of zeros."""
    sums = np.empty(n, np.int32)
    out = Program()
    out.multiply(
        kernel.name, a=constant(kernel.each_call(kernel.left), k, 0, 0), b=packed, c=sums, ldc=0, m=1, n=n,
        k=kernel.right.depth(k),
    )  # fmt: skip
    out.run()
    return sums


def constant_rows(kernel: Kernel, k: int, value: int, spare: int = 1) -> list[npt.NDArray[np.int8]]:
    """Single rows, packed, whose products add up to `value` times the sums of columns, less `spare` times the surplus of these columns.

    Each product brings the surplus itself, the sum over the upper halves of K groups. So what the rows hold there adds up to one less
    for each product, and to `spare` less again for what is to be taken off.
    """
    layout = kernel.each_call(kernel.left)
    if not kernel.complement:
        return [constant(layout, k, each, each) for each in digits(value)] if value else []
    lower = digits(value)
    upper = digits(value - spare - len(lower), len(lower))
    if len(upper) > len(lower):
        lower, upper = digits(value, 2), digits(value - spare - 2, 2)
    return [constant(layout, k, *each) for each in zip(lower, upper, strict=True)]
